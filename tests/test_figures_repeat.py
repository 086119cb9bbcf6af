"""The scripts behind the figures of docs/gating.md, with scripted workers: each prints what the launches show."""

import json
import runpy
import shutil
import signal
from pathlib import Path

import pytest
from test_gate import SIDES, Bench

from harness import conditions, faults, names
from harness.names import ROOT
from harness.worker import weights

STEP = {"seconds": 0.02, "noise": 0.002}


@pytest.fixture
def repeated(tmp_path, monkeypatch, capsys):
    """Run a script of docs/figures with workers that answer from `lines`; return what it printed, on one line."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(conditions, "WORKER", (str(ROOT / "tests/scripted_worker.py"), str(tmp_path / "script.json")))

    def run(script: str, lines: dict, *arguments: object) -> str:
        (tmp_path / "script.json").write_text(json.dumps(lines))
        code = runpy.run_path(str(ROOT / "docs/figures" / script))["main"](*arguments)
        return " ".join(f"{capsys.readouterr().out} returned {code}".split())

    return run


def test_power_gives_each_gate_fresh_launches(repeated, tmp_path):
    slow = {faults.slower(level): {**STEP, "seconds": 0.02 * (1 + level)} for level in (0.05, 0.10, 0.20)}
    lines = {"base": STEP, "control": STEP, "probe": {"seconds": 0.04}, **slow}
    said = repeated("power.py", lines, tmp_path / "bank", 5)
    assert (
        "+10%: measured +9.5% in the mean of 5 launches (log), caught in 0 of 0 gates" in said
    )  # none to confirm with
    again = repeated("power.py", lines, tmp_path / "bank", 5)
    found = "+10%: measured +9.5% in the mean of 10 launches (log), caught in 1 of 1 gates, 1 at the first look; 10.0"
    assert found in again


def test_counts_says_where_a_fault_was_seen_and_where_not(repeated, tmp_path):
    def observed(breaks: int = 0, recompiles: int = 0, memory: float = 1e8) -> dict:
        counts = {"graph_breaks": breaks, "recompiles": recompiles, "memory_allocated_peak_bytes": memory}
        return {**STEP, "observed": counts}

    lines = {
        **dict.fromkeys(("base", "control"), observed()),
        "probe": {"seconds": 0.04},
        "graph break": observed(breaks=2),
        "recompile": observed(recompiles=1),
        f"{faults.GROWTH:.0%} more memory": observed(memory=1.02e8),
    }
    said = repeated("counts.py", lines, tmp_path / "counts", 2)
    assert "compile default, control: graph_breaks higher in 0 of 2 launches, by 0 to 0, from 0" in said
    assert "compile default, graph break: graph_breaks higher in 2 of 2 launches, by 2 to 2, from 0" in said
    assert "compile default, recompile: recompiles higher in 2 of 2" in said
    assert "compile none, 2% more memory: memory_allocated_peak_bytes higher in 2 of 2 launches, by 2e+06" in said


def test_alarms_counts_verdicts_and_what_one_after_the_other_would_say(repeated, tmp_path):
    bench = Bench(tmp_path)
    runs = [bench.gate(*SIDES, code=0).strip().splitlines()[-1] for _ in range(2)]
    sides = json.loads((tmp_path / "script.json").read_text())
    said = repeated("alarms.py", sides, [str(tmp_path / Path(run)) for run in runs])
    assert "2 gates: {'pass': 2} " in said
    assert "step_seconds: {'pass after 5': 2}" in said
    assert "one after the other: 0 of 4 pairs are beyond 5%" in said


@pytest.mark.parametrize(
    ("task", "steps", "variant", "accuracy", "code"),
    [
        ("images", "900", "+sdpa", 0.975, 0),
        ("images", "900", "+sdpa", 0.96, 1),
        ("texts", "600", "+sdpa", 0.77, 0),
    ],
)
def test_quality_holds_the_mean_over_seeds_against_the_reference(
    task, steps, variant, accuracy, code, repeated, tmp_path, monkeypatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    scores = {"test": {steps: {"accuracy": accuracy, "held_out_loss": 0.1}}}
    said = repeated("quality.py", {variant: {**STEP, "scores": scores}}, tmp_path, [task])
    assert f"{task}: accuracy {accuracy:.1%} ({accuracy:.1%} to {accuracy:.1%}) over 5 seeds, asked" in said
    assert said.endswith(f"returned {code}")


def test_quality_that_could_not_be_scored_falls_short(repeated, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    broken = {**STEP, "fail": {"verb": "quality", "how": "RuntimeError"}}
    assert repeated("quality.py", {"+sdpa": broken}, tmp_path, ["images"]).endswith("returned 1")


def test_own_models_are_held_against_those_of_transformers(repeated, tmp_path, monkeypatch):
    pytest.importorskip("transformers", reason="needs the extra hf: transformers is not installed")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    said = repeated("own.py", {"transformers": STEP, "own": {**STEP, "seconds": 0.018}}, tmp_path)
    for mode in ("none", "default"):
        assert f"compile {mode}, whisper: 0.90" in said
        assert f"compile {mode}: median 0.90" in said
    assert said.count("of 6 families") == 2
    assert "not timed" not in said


def test_pretrained_starts_are_held_against_none_paired_by_seed(repeated, tmp_path, monkeypatch):
    pytest.importorskip("transformers", reason="needs the extra hf: transformers is not installed")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def scored(accuracy: float) -> dict:
        return {**STEP, "scores": {"test": {"300": {"accuracy": accuracy, "held_out_loss": 0.1}}}}

    lines = {"scratch": scored(0.95), "own weights": scored(0.97), "transformers' weights": scored(0.95)}
    said = repeated("starts.py", lines, tmp_path, 2)
    assert "scratch: accuracy 95.0% (95.0% to 95.0%), 5 seeds" in said
    assert "own weights less scratch: +2.0 points (+2.0 to +2.0), better" in said
    assert "transformers' weights less scratch: +0.0 points (+0.0 to +0.0), not shown to be better" in said
    assert said.endswith("returned 1")
    for start in ("own", "transformers"):  # the scripted worker has not read them
        model, drawn = weights.initial(
            names.find("model", "vit"), names.find("attention", "sdpa").load(), {"classes": 10}, str(tmp_path / start)
        )
        assert drawn == ["head.weight", "head.bias"]
        assert model.state_dict()["position"].std() > 0


@pytest.mark.alone
@pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc here")
def test_ceilings_are_those_of_other_programs():
    main = runpy.run_path(str(ROOT / "docs/figures/ceilings.py"))["main"]
    main.__globals__.update(SIDE=512, SIZE=2**26)
    found = main(5)
    assert {what: [*others] for what, others in found.items()} == {
        "float32 products": ["NumPy", "torch.utils.benchmark"],
        "float64 products": ["NumPy", "torch.utils.benchmark"],
        "triad": ["C"],
    }
    ratios = [ratio for others in found.values() for ratio in others.values()]
    assert all(1 / 3 < ratio < 3 for ratio in ratios), (
        found
    )  # the machine is not ours alone; docs/hardware.md has figures
