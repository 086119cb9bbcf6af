"""The gate with scripted workers: sides, verdicts, exit codes, what is left behind."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from made_run import made_run, made_suite
from test_run import WORKER, alive_workers, wait_until

from harness.figures import figures
from harness.names import ROOT
from harness.policy import Policy
from harness.stats import UNSETTLED
from harness.store import open_run
from harness.stored import stored
from harness.verdict import Verdict, ended

TODAY = date(2026, 1, 1)
SUITE = '''
"""A suite for scripted workers."""
from harness.spec import Block, Suite, Variant, Workload

def suite():
    work = Workload(task="pretraining/causal_lm", model="gpt", size="tiny", batch=2, length=16)
    variants = [Variant(name="v1"), Variant(name="fast", attention="sdpa")]
    blocks = [Block(workload=work, variants=variants)]
    return Suite(name="scripted", question="?", timeout=20, quality_steps=3, blocks=blocks)
'''
STEP = {"seconds": 0.04, "noise": 0.003}


class Bench:
    """A folder with a suite and a script for base, candidate and control."""

    def __init__(self, folder: Path, **candidate: object) -> None:
        self.folder = folder
        (folder / "own.py").write_text(SUITE)
        self.script(**candidate)

    def script(self, base: dict | None = None, **candidate: object) -> None:
        sides = {"base": base or STEP, "control": base or STEP, "candidate": {**STEP, **candidate}}
        (self.folder / "script.json").write_text(json.dumps(sides))

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, str(WORKER), "script.json", "--cli", *arguments]

    def start(self, *arguments: str) -> subprocess.Popen:
        return subprocess.Popen(
            self.command("gate", *arguments), cwd=self.folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def gate(self, *arguments: str, code: int) -> str:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=100)
        assert process.returncode == code, out + err
        return out if code != 2 else err

    def report(self, format: str) -> str:
        return subprocess.run(
            self.command("report", "latest", "--format", format), cwd=self.folder, capture_output=True, text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True,
        ).stdout  # fmt: skip

    def git(self, *arguments: str) -> str:
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        command = ["git", *identity, *arguments]
        return subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=True).stdout


SIDES = ("own.py", "--base", "v1", "--candidate", "fast", "--quiet")


def verdicts(bench: Bench) -> dict[str, str]:
    report = json.loads(bench.report("json"))
    return {item["metric"]: item["verdict"] for item in report["gate"]["verdicts"]}


def test_the_same_speed_passes_after_the_first_look(tmp_path):
    bench = Bench(tmp_path)
    out = bench.gate(*SIDES, code=0)
    assert "pass: fast against v1" in out
    assert verdicts(bench) == dict.fromkeys(("outcome", "step_seconds", "memory_peak_bytes", "held_out_loss"), "pass")
    run = open_run(tmp_path / out.strip().splitlines()[-1])
    assert run.samples().launch.max() == 5
    assert run.suite.blocks[0].baseline_case.variant.attention == "formula"


def test_a_slower_candidate_fails_once_fresh_launches_have_confirmed_it(tmp_path):
    bench = Bench(tmp_path, seconds=0.048)
    out = bench.gate(*SIDES, code=1)
    assert "fail: fast against v1" in out
    assert "and again in 5 fresh ones" in " ".join(out.split())
    assert open_run(tmp_path / out.strip().splitlines()[-1]).samples().launch.max() == 10
    assert "<failure message=" in bench.report("junit")
    assert bench.report("github").startswith("::error title=")
    assert "**fail: fast against v1" in bench.report("summary")


def test_a_loss_that_is_allowed_passes_with_its_reason(tmp_path):
    bench = Bench(tmp_path, seconds=0.048)
    allowance = 'case = "*"\nmetric = "step_seconds"\nreason = "the safer kernel"\nexpires = 2999-01-01\n'
    (tmp_path / "gate.toml").write_text(f"[[allow]]\n{allowance}")
    out = bench.gate(*SIDES, "--policy", "gate.toml", code=0)
    assert "the safer kernel" in " ".join(out.split())


def test_a_newly_failing_case_is_a_regression_once_a_fresh_launch_has_failed_too(tmp_path):
    bench = Bench(tmp_path, fail={"verb": "build", "how": "RuntimeError"})
    said = " ".join(bench.gate(*SIDES, code=1).split())
    assert ": outcome - candidate error: RuntimeError" in said
    assert "candidate failed once, error in launch 1: RuntimeError" in said


@pytest.mark.parametrize(("side", "launch"), [("candidate", 1), ("candidate", 3), ("control", 2)])
def test_a_case_that_fails_in_one_launch_only_cannot_be_told(tmp_path, side, launch):
    once = {"fail": {"verb": "measure", "how": "crash", "from_launch": launch, "to_launch": launch}}
    bench = Bench(tmp_path)
    (tmp_path / "script.json").write_text(
        json.dumps(dict.fromkeys(("base", "candidate", "control"), STEP) | {side: STEP | once})
    )
    said = " ".join(bench.gate(*SIDES, code=0).split())
    assert f"{side} failed once, error in launch {launch}" in said
    assert verdicts(bench)["outcome"] == "unsure"
    assert verdicts(bench)["step_seconds"] == "pass"  # of the launches that all three have


def test_a_case_that_failed_before_it_was_checked_is_checked_in_its_fresh_launch(tmp_path):
    once = {"verb": "build", "how": "crash", "to_launch": 1}
    bench = Bench(tmp_path, fail=once, errors={"output_error": 0.5})
    said = " ".join(bench.gate(*SIDES, code=1).split())
    assert "candidate wrong: output_error against float64 is 0.5" in said
    assert "candidate failed once, error in launch 1" in said


def test_a_failure_is_confirmed_even_if_its_fresh_launch_was_interrupted(tmp_path):
    bench = Bench(tmp_path, fail={"verb": "build", "how": "hang"})
    process = bench.start(*SIDES, "--set", "timeout=3")
    found = tmp_path.glob
    wait_until(lambda: any("failed once" in path.read_text() for path in found("runs/.partial-*/outcomes.json")))
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = bench.command("run", "--resume", out.strip().splitlines()[-1])
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "candidate failed once, timeout in launch 1" in " ".join(done.stdout.split())


@pytest.mark.parametrize(
    ("control", "verdict"),
    [
        ({}, "fail"),
        ({"status": "error"}, "error"),
        ({"warnings": [{"code": "failed once", "message": "oom in launch 1: out of memory", "launch": 1}]}, "unsure"),
    ],
)
def test_nothing_fails_where_the_base_has_not_held_either(control, verdict):
    ok = {"status": "ok", "reason": None, "launch": 1, "warnings": []}
    failing = {**ok, "status": "oom", "reason": "out of memory"}
    assert ended(Verdict(block="b", case="c", metric="outcome"), ok, failing, ok | control).verdict == verdict


def test_a_failure_that_no_launch_could_confirm_fails_nothing(tmp_path):
    bench = Bench(tmp_path, fail={"verb": "build", "how": "RuntimeError"})
    out = bench.gate(*SIDES, "--budget", "0.1s", code=3)  # nothing else could be compared
    assert "no fresh launch has confirmed it" in " ".join(out.split())


def test_numbers_that_are_wrong_are_wrong_at_once(tmp_path):
    out = Bench(tmp_path, errors={"output_error": 0.5}).gate(*SIDES, code=1)
    assert open_run(tmp_path / out.strip().splitlines()[-1]).samples().launch.max() == 1


def test_a_base_that_fails_too_is_an_error_and_a_mended_one_an_improvement(tmp_path):
    broken = {"fail": {"verb": "build", "how": "RuntimeError"}}
    bench = Bench(tmp_path, **broken)
    bench.script(base=broken, **broken)
    bench.gate(*SIDES, code=3)
    bench.script(base=broken)
    out = " ".join(bench.gate(*SIDES, code=3).split())
    assert "it works now" in out
    assert "no case could be compared" in out


@pytest.mark.parametrize("how", ["hang", "Unavailable"])
def test_a_base_that_cannot_be_measured_here_is_no_improvement(tmp_path, how):
    bench = Bench(tmp_path)
    bench.script(base={"fail": {"verb": "build", "how": how}})
    out = " ".join(bench.gate(*SIDES, "--set", "timeout=2", code=3).split())
    assert "improved" not in out


def test_a_control_that_fails_leaves_nothing_to_trust(tmp_path):
    bench = Bench(tmp_path)
    sides = {"base": STEP, "candidate": STEP, "control": {**STEP, "fail": {"verb": "measure", "how": "crash"}}}
    (tmp_path / "script.json").write_text(json.dumps(sides))
    assert "control error" in " ".join(bench.gate(*SIDES, code=3).split())


def test_a_case_that_never_settles_is_unsure(tmp_path):
    bench = Bench(tmp_path, seconds=0.08, noise=0.4)
    bench.gate(*SIDES, "--budget", "1s", code=0)
    assert verdicts(bench)["step_seconds"] == "unsure"


def test_what_cannot_be_told_fails_only_where_the_policy_says_so(tmp_path):
    bench = Bench(tmp_path, seconds=0.0415)
    bench.script(base={"seconds": 0.04, "noise": 0.5}, seconds=0.042, noise=0.5)
    bench.gate(*SIDES, "--budget", "4s", code=0)
    (tmp_path / "pyproject.toml").write_text('[tool.tandem.gate]\nunsure = "fail"\n')
    bench.gate(*SIDES, "--budget", "4s", code=4)


def test_a_changed_setting_is_a_side(tmp_path):
    bench = Bench(tmp_path)
    out = bench.gate("own.py", "--candidate-set", "optimizer=fused", "--quiet", code=0)
    run = open_run(tmp_path / out.strip().splitlines()[-1])
    assert [case.variant.optimizer for case in run.suite.cases] == ["loop", "fused", "loop"] * 2
    assert "all cases" in bench.report("markdown")


def test_one_launch_of_two_stored_runs_tells_nothing_unless_it_is_the_same(tmp_path):
    suite = made_suite(lengths=(64,), launches=1)
    first, slower = (figures(made_run(tmp_path / name, suite, slower=by)) for name, by in (("a", 1.0), ("b", 2.0)))
    for other, verdict in ((slower, "unsure"), (first, "pass")):
        ruling = stored(first, other, Policy(), TODAY)
        timed = [item for item in ruling.verdicts if item.metric == "step_seconds" and item.block != "all cases"]
        assert {item.verdict for item in timed} == {verdict}


def test_a_time_of_a_case_that_never_settled_is_unsure_alone_and_together(tmp_path):
    suite = made_suite(lengths=(64,))
    first, slower = (figures(made_run(tmp_path / name, suite, slower=by)) for name, by in (("a", 1.0), ("b", 2.0)))
    unsteady = suite.cases[1]
    warning = {"code": UNSETTLED, "message": "its step time never settled", "remedy": "close what else runs"}
    told = {**slower.outcomes[unsteady.id], "warnings": [warning]}
    ruling = stored(first, replace(slower, outcomes={**slower.outcomes, unsteady.id: told}), Policy(), TODAY)
    found = {item.case: item for item in ruling.verdicts if item.metric == "step_seconds"}
    assert found[suite.cases[0].id].verdict == "fail"
    assert (found[unsteady.id].verdict, found["all cases"].verdict) == ("unsure", "unsure")
    assert slower.run.id in found[unsteady.id].reason
    assert unsteady.id in found["all cases"].reason


def test_two_stored_runs_are_judged_or_refused(tmp_path):
    bench = Bench(tmp_path)
    first = bench.gate(*SIDES, code=0).strip().splitlines()[-1]
    second = bench.gate(*SIDES, code=0).strip().splitlines()[-1]
    assert "pass:" in bench.gate(first, second, code=0)
    bench.script(base={**STEP, "seconds": 0.06}, seconds=0.06)
    slower = bench.gate(*SIDES, code=0).strip().splitlines()[-1]
    assert "fail:" in bench.gate(first, slower, code=1)
    environments = tmp_path / slower / "environments.json"
    environments.write_text(environments.read_text().replace('"fingerprint": "scripted"', '"fingerprint": "other"'))
    assert "are not comparable: current: fingerprint" in bench.gate(first, slower, code=2)


@pytest.fixture
def repository(tmp_path):
    """A repository whose second commit is slower; each tree has its own script."""
    bench = Bench(tmp_path)
    bench.git("init", "-q", "-b", "main")
    (tmp_path / ".gitignore").write_text("runs/\n")
    bench.git("add", ".")
    bench.git("commit", "-qm", "fast")
    bench.script(base={**STEP, "seconds": 0.05}, seconds=0.05)
    bench.git("commit", "-qam", "slow")
    return bench


def test_two_commits_are_measured_each_in_its_own_tree_and_none_is_left_behind(repository):
    away = repository.folder.with_name(f"{repository.folder.name}-away")
    repository.git("worktree", "add", "-q", "-b", "own", str(away))
    away.rename(away.with_suffix(".unmounted"))  # a tree of the user's on a disk that is not there now
    out = repository.gate("own.py", "--base", "HEAD~1", "--set", "quality_steps=0", "--quiet", code=1)
    assert "fail: as it is against HEAD~1" in out
    assert [line.split()[0] for line in repository.git("worktree", "list").splitlines()][1:] == [str(away)]
    assert not list((repository.folder / "runs").glob(".work-*"))


def test_an_interrupted_gate_leaves_no_tree_and_no_worker_and_goes_on(repository):
    process = repository.start("own.py", "--base", "HEAD~1")
    events = repository.folder.glob
    wait_until(lambda: any('"settle"' in path.read_text() for path in events("runs/.partial-*/events.jsonl")))
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert len(repository.git("worktree", "list").splitlines()) == 1
    assert alive_workers(repository.folder) == []
    command = repository.command("run", "--resume", out.strip().splitlines()[-1])
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=repository.folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert "fail: as it is against HEAD~1" in done.stdout
    assert len(repository.git("worktree", "list").splitlines()) == 1


def test_a_working_tree_with_changes_is_no_side_beside_a_commit(repository):
    (repository.folder / "own.py").write_text(SUITE + "\n")
    said = repository.gate("own.py", "--base", "HEAD~1", code=2)
    assert "changes that no commit holds: own.py; commit or stash them" in said


def test_a_run_is_not_resumed_with_other_code(repository):
    process = repository.start("own.py", "--base", "HEAD~1")
    events = repository.folder.glob
    wait_until(lambda: any('"settle"' in path.read_text() for path in events("runs/.partial-*/events.jsonl")))
    process.send_signal(signal.SIGINT)
    path = process.communicate(timeout=30)[0].strip().splitlines()[-1]
    repository.git("commit", "-q", "--allow-empty", "-m", "later")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = repository.command("run", "--resume", path)
    done = subprocess.run(command, cwd=repository.folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 2
    assert "check that one out" in done.stderr


def test_a_commit_without_the_suite_is_named(repository):
    repository.git("mv", "own.py", "other.py")
    repository.git("commit", "-qam", "moved")
    assert "has no other.py" in repository.gate("other.py", "--base", "HEAD~1", code=2)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["own.py"], "has a variant that the two sides run differently"),
        (["own.py", "--base", "v1", "--set", "launches=9"], "the gate finds out how many launches it takes"),
        (["own.py", "--base", "vl"], "no variant, interpreter label or git reference 'vl'; did you mean 'v1'?"),
        (["own.py", "--base-set", "batch=4"], "'batch' is no field of a variant"),
        (["own.py", "--base", "v1", "--candidate", "fast", "--policy", "none.toml"], "no policy 'none.toml'"),
        (["a", "b"], "no run 'a'"),
        (["a", "b", "--base", "x"], "two stored runs are judged as they are"),
    ],
)
def test_a_mistake_is_a_sentence(tmp_path, arguments, sentence):
    assert sentence in Bench(tmp_path).gate(*arguments, code=2)
    assert not (tmp_path / "runs").exists()
