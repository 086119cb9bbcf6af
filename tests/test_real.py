"""End to end with real workers and real torch, at the smallest size."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from harness.store import open_run

ROOT = Path(__file__).resolve().parent.parent
FAULTY = Path(__file__).with_name("faulty.py")
# One thread: a second process on the machine would make two threads wait for each other at every operator.
SETTINGS = ("device=cpu", "threads=1", "layers=1", "batch=2", "length=32", "quality_steps=5")
SMALL = [word for setting in SETTINGS for word in ("--set", setting)]


def tandem(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return subprocess.run(
        [sys.executable, "-m", "harness.cli", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=400,
    )


def run(folder: Path, *arguments: str, code: int = 0):
    done = tandem(folder, "run", *arguments)
    assert done.returncode == code, done.stderr[-3000:]
    return open_run(folder / done.stdout.strip().splitlines()[-1])


def outcomes(opened) -> dict[str, dict]:
    names = {case.id: case.variant.name for case in opened.suite.cases}
    return {names[outcome["case"]]: outcome for outcome in opened.outcomes}


def metric(opened, variant: str, name: str):
    case = next(case.id for case in opened.suite.cases if case.variant.name == variant)
    rows = opened.samples()
    return rows[(rows.case == case) & (rows.metric == name)].value


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quick")
    return run(folder, "quick", *SMALL, "--launches", "2", "--rounds", "2")


def test_every_case_of_quick_is_measured_and_checked(quick):
    assert {outcome["status"] for outcome in quick.outcomes} == {"ok"}
    assert {outcome["facts"]["reference"] for outcome in quick.outcomes} == {"float64 formula"}
    rows = quick.samples()
    measured = set(rows.metric.unique())
    assert measured >= {
        "step_seconds", "cold_first_step_seconds", "warm_first_step_seconds", "data_seconds", "forward_seconds",
        "backward_seconds", "optimizer_seconds", "flop", "output_error", "gradient_error", "losses_error",
        "held_out_loss", "training_loss", "memory_peak_bytes", "memory_cold_peak_bytes", "memory_activations_bytes",
        "graphs", "graph_breaks", "recompiles", "cold_compile_seconds", "warm_compile_seconds", "tokens", "samples",
    }  # fmt: skip
    assert (rows[rows.metric == "output_error"].value < 1e-4).all()


def test_the_seconds_by_phase_cover_the_wall_time(quick):
    seconds = dict(quick.meta["seconds"])
    total = seconds.pop("total")
    assert 0.97 * total <= sum(seconds.values()) <= 1.001 * total


def test_all_variants_of_a_block_start_from_the_same_bits(quick):
    for block in quick.suite.blocks:
        cases = {case.id for case in block.cases}
        facts = [outcome["facts"] for outcome in quick.outcomes if outcome["case"] in cases]
        assert len({fact["weights_sha256"] for fact in facts}) == 1
        assert len({fact["batch_sha256"] for fact in facts}) == 1


def test_compiling_is_counted_and_cheaper_the_second_time(quick):
    assert (metric(quick, "+compile", "graphs") >= 1).all()
    assert (metric(quick, "v1", "graphs") == 0).all() or metric(quick, "v1", "graphs").empty
    cold, warm = (metric(quick, "+compile", f"{when}_compile_seconds") for when in ("cold", "warm"))
    assert warm.max() < cold.min()


def test_every_case_has_a_trace_and_its_kernel_is_the_one_asked_for(quick):
    for outcome in quick.outcomes:
        assert list((quick.path / "traces" / outcome["case"]).glob("*.pt.trace.json"))
        assert outcome["facts"]["operators"]
    actual = {name: outcome["facts"]["attention_actual"] for name, outcome in outcomes(quick).items()}
    assert actual["v1"] == "formula"
    assert actual["+sdpa"] == "sdpa_flash"


@pytest.mark.parametrize("format", ["terminal", "markdown", "html", "json", "csv"])
def test_a_real_run_is_reported_in_every_format(quick, format):
    done = tandem(quick.path.parent.parent, "report", "latest", "--format", format)
    assert done.returncode == 0, done.stderr
    assert "+sdpa" in done.stdout


def test_the_json_contract_holds(quick):
    report = json.loads(tandem(quick.path.parent.parent, "report", "latest", "--format", "json").stdout)
    assert report["format"] == 1
    assert report["run"].keys() >= {"id", "suite", "question", "status", "seconds"}
    for case in report["cases"]:
        assert case.keys() >= {"case", "block", "workload", "variant", "outcome", "reason", "metrics"}
        assert case["metrics"]["step_seconds"].keys() == {"center", "low", "high", "n", "unit"}
    keys = {"block", "baseline", "candidate", "metric", "ratio", "low", "high", "confidence", "verdict", "detectable"}
    assert all(comparison.keys() >= keys | {"launches", "warnings"} for comparison in report["comparisons"])


def test_each_failure_of_a_worker_is_its_own_outcome(tmp_path):
    names = re.findall(r"^def (\w+)", FAULTY.read_text(), re.MULTILINE)
    (tmp_path / "faulty.py").write_text(FAULTY.read_text())
    (tmp_path / "own.py").write_text(
        "from harness.spec import Block, Suite, Variant, Workload\n"
        "def suite():\n"
        '    work = Workload(task="pretraining/causal_lm", model="gpt", size="tiny", batch=2, length=16,\n'
        '                    settings={"layers": 1})\n'
        f'    faulty = [Variant(name=name, attention=f"faulty.py:{{name}}") for name in {names}]\n'
        '    block = Block(workload=work, variants=[Variant(name="v1"), *faulty])\n'
        '    return Suite(name="own", question="?", blocks=[block],\n'
        "                 launches=1, rounds=2, timeout=40, quality_steps=0)\n"
    )
    opened = run(tmp_path, "own.py", "--no-trace", code=3)
    found = {name: outcome["status"] for name, outcome in outcomes(opened).items()}
    assert found == {
        "v1": "ok", "prints": "ok", "takes_no_bf16": "ok", "raises": "error", "crashes": "error", "hangs": "timeout",
        "runs_out_of_memory": "oom", "gives_nan": "wrong", "is_wrong": "wrong", "refuses": "unavailable",
    }  # fmt: skip


def test_precisions_modes_and_optimizers_run_or_say_why_not(tmp_path):
    opened = run(
        tmp_path, "null", *SMALL, "--launches", "1", "--rounds", "1", "--no-trace",
        "--vary", "precision=fp32,tf32,bf16,fp16,bf16_pure", "--vary", "optimizer=loop,foreach,fused",
        "--set", "timeout=120",
    )  # fmt: skip
    for name, outcome in outcomes(opened).items():
        assert outcome["status"] == ("unavailable" if "tf32" in name else "ok"), (name, outcome["reason"])
        assert outcome["reason"] is None or "NVIDIA" in outcome["reason"]


OWN = """
from harness.spec import Block, Suite, Variant, Workload
def suite():
    work = Workload(task="pretraining/causal_lm", model="model.py", batch=2, length=16)
    block = Block(workload=work, variants=[Variant(name="v1", device="cpu", threads=1)])
    return Suite(name="own", question="?", blocks=[block], rounds=2, quality_steps=0)
"""
MODEL = """
from suites.models import gpt
SIZES = {}
def build(attention, *, layers=1):
    return gpt.build(lambda *a, **k: FACTOR * attention(*a, **k), layers=layers)
"""


def test_a_gate_on_commits_checks_each_side_in_its_own_tree(tmp_path):
    def git(*arguments: str) -> None:
        identity = ("-c", "user.name=t", "-c", "user.email=t@example.org")
        subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True)

    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / ".gitignore").write_text("runs/\n")
    git("init", "-qb", "main")
    for factor in ("1.0", "2.0 / 2.0", "1.5"):
        (tmp_path / "model.py").write_text(MODEL.replace("FACTOR", factor))
        git("add", ".")
        git("commit", "-qm", factor)
    same = tandem(tmp_path, "gate", "own.py", "--base", "HEAD~2", "--candidate", "HEAD~1", "--budget", "1s", "--quiet")
    assert same.returncode == 0, same.stdout + same.stderr  # one launch: unsure, and nothing is wrong
    assert "outcome" in same.stdout
    assert "wrong" not in same.stdout
    other = tandem(tmp_path, "gate", "own.py", "--base", "HEAD~2", "--budget", "1s", "--quiet")
    assert other.returncode == 1, other.stdout + other.stderr
    statuses = [outcome["status"] for outcome in open_run(tmp_path / other.stdout.split()[-1]).outcomes]
    assert statuses == ["ok", "wrong", "ok"]  # base, candidate, control
