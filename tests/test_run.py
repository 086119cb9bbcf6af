"""The whole pipeline with scripted workers: order, outcomes, rows on disk, interruption, resumption."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.conditions import Conditions
from harness.load import own_code
from harness.spec import Variant
from harness.store import COLUMNS, open_run, read_rows

WORKER = Path(__file__).with_name("scripted_worker.py")
ROOT = WORKER.parent.parent
SUITE = '''
"""A suite for scripted workers."""
from harness.spec import Block, Suite, Variant, Workload

def suite():
    work = Workload(task="pretraining/causal_lm", model="gpt", size="tiny", batch=2, length=16)
    names = {names}
    return Suite(name="scripted", question="does the engine work?", launches={launches}, rounds={rounds},
                 timeout={timeout}, blocks=[Block(workload=work, variants=[Variant(name=name) for name in names])])
'''


class Bench:
    """A folder with a scripted suite in it."""

    def __init__(self, folder: Path, script: dict, launches: int = 3, rounds: int = 4, timeout: float = 20) -> None:
        self.folder = folder
        (folder / "script.json").write_text(json.dumps(script))
        (folder / "own.py").write_text(
            SUITE.format(names=list(script), launches=launches, rounds=rounds, timeout=timeout)
        )

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, str(WORKER), "script.json", "--cli", *arguments]

    def settings(self) -> dict:
        return {"cwd": self.folder, "env": {**os.environ, "PYTHONPATH": str(ROOT)}, "text": True}

    def call(self, *arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run(self.command(*arguments), capture_output=True, timeout=60, **self.settings())

    def start(self, *arguments: str) -> subprocess.Popen:
        pipe = subprocess.PIPE
        return subprocess.Popen(self.command(*arguments), stdout=pipe, stderr=pipe, **self.settings())

    def run(self, *arguments: str):
        done = self.call("run", "own.py", *arguments)
        assert done.returncode in (0, 3), done.stderr
        return done, open_run(self.folder / done.stdout.strip().splitlines()[-1])

    def partial(self) -> Path:
        return next((self.folder / "runs").glob(".partial-*"))


def outcomes(run) -> dict[str, str]:
    names = {case.id: case.variant.name for case in run.suite.cases}
    return {names[outcome["case"]]: outcome["status"] for outcome in run.outcomes}


def alive_workers(folder: Path) -> list[str]:
    """Return the workers whose script lies in `folder`'s process table entries."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            here = os.readlink(entry / "cwd") == str(folder)
            if here and "--lifeline" in (entry / "cmdline").read_text():
                found.append(entry.name)
        except OSError:
            continue
    return found


def wait_until(condition, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


def test_a_run_is_measured_stored_and_compared(tmp_path):
    bench = Bench(tmp_path, {"slow": {"seconds": 0.04, "noise": 0.002}, "fast": {"seconds": 0.02, "noise": 0.002}})
    done, run = bench.run()
    assert done.returncode == 0, done.stderr
    samples = run.samples()
    assert list(samples.columns) == list(COLUMNS)
    steps = samples[samples.metric == "step_seconds"]
    assert len(steps) == 2 * 3 * 4
    assert outcomes(run) == {"slow": "ok", "fast": "ok"}
    report = bench.call("report", "latest", "--format", "json")
    comparison = next(item for item in json.loads(report.stdout)["comparisons"] if item["metric"] == "step_seconds")
    assert comparison["verdict"] == "better"
    assert comparison["ratio"] == pytest.approx(0.5, rel=0.01)


def test_weights_that_are_not_trained_are_held_against_the_first_loss_alone(tmp_path):
    errors = {"errors": {"output_error": 1e-6, "losses_error": 0.1}}
    bench = Bench(tmp_path, {"a": errors}, launches=1)
    _, run = bench.run("--set", "optimizer=none")
    assert outcomes(run) == {"a": "ok"}
    assert "losses_error" not in set(run.samples().metric)
    _, run = bench.run()
    assert outcomes(run) == {"a": "wrong"}


def test_a_run_is_not_resumed_where_the_code_of_tandem_has_changed(tmp_path):
    bench = Bench(tmp_path, {"a": {}}, launches=1)
    _, run = bench.run()
    meta = json.loads((run.path / "run.json").read_text())
    assert meta["sources"]["tandem"] == own_code()
    (run.path / "run.json").write_text(json.dumps({**meta, "sources": {**meta["sources"], "tandem": "another"}}))
    done = bench.call("run", "--resume", run.id)
    assert done.returncode == 2
    assert "tandem has changed since run" in done.stderr


def test_the_workers_take_turns_as_planned(tmp_path):
    bench = Bench(tmp_path, {"a": {}, "b": {}, "c": {}}, launches=2)
    _, run = bench.run()
    planned = [turn["case"] for turn in json.loads((run.path / "plan.json").read_text())]
    asked = [json.loads(line) for line in (run.path / "events.jsonl").read_text().splitlines()]
    assert [event["to"] for event in asked if event.get("settle") == 1] == planned
    first = next(position for position, event in enumerate(asked) if event.get("verb") == "check")
    after_start = asked[first:]  # workers start and build side by side
    after_start = after_start[: next(at for at, event in enumerate(after_start) if event.get("verb") == "release")]
    working = [event.get("to") or event["from"] for event in after_start]
    assert working[::2] == working[1::2]  # a request is followed by its own reply: one worker at a time


@pytest.mark.parametrize(
    ("how", "verb", "status"),
    [
        ("Unavailable", "build", "unavailable"),
        ("RuntimeError", "build", "error"),
        ("RuntimeError", "observe", "error"),
        ("OutOfMemoryError", "check", "oom"),
        ("crash", "measure", "error"),
        ("exit", "measure", "error"),
        ("garbage", "quality", "error"),
        ("hang", "measure", "timeout"),
        ("crash", "trace", "error"),
    ],
)
def test_a_failing_case_has_its_outcome_and_the_others_go_on(tmp_path, how, verb, status):
    bench = Bench(tmp_path, {"a": {}, "bad": {"fail": {"how": how, "verb": verb}}, "c": {}}, launches=2, timeout=1.5)
    done, run = bench.run()
    assert outcomes(run) == {"a": "ok", "bad": status, "c": "ok"}
    assert done.returncode == (0 if status == "unavailable" else 3)
    steps = run.samples().query("metric == 'step_seconds'")
    assert (steps.groupby("case", observed=True).size().sort_values().iloc[-2:] == 2 * 4).all()
    assert alive_workers(tmp_path) == []


def test_where_lengths_vary_each_turn_holds_all_of_them_and_a_step_is_their_mean(tmp_path):
    _, run = Bench(tmp_path, {"a": {"seconds": 0.004}, "b": {"seconds": 0.001}}, launches=1).run("--set", "lengths=3")
    events = [json.loads(line) for line in (run.path / "events.jsonl").read_text().splitlines()]
    asked = [event["steps"] for event in events if event.get("verb") == "measure" and "steps" in event]
    assert asked
    assert all(steps % 3 == 0 for steps in asked)
    assert asked[-1] == 3 * 4  # 10 ms of the faster case, whose three lengths take 3 ms
    steps = run.samples().query("metric == 'step_seconds'").groupby("case", observed=True).value
    assert (steps.count() == 4 * 4).all()
    assert sorted(steps.mean()) == pytest.approx([0.001, 0.004])


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ({"loss": float("nan")}, "nan"),
        ({"errors": {"output_error": 0.5}}, "output_error"),
        ({"errors": {"gradient_error": "nan"}}, "gradient_error"),
        ({"facts": {"weights_sha256": "other"}}, "initial weights"),
        ({"facts": {"batch_sha256": "other"}}, "first batch"),
    ],
)
def test_wrong_results_are_not_benchmarked(tmp_path, line, reason):
    done, run = Bench(tmp_path, {"a": {}, "bad": line}, launches=1).run()
    assert outcomes(run) == {"a": "ok", "bad": "wrong"}
    assert reason in next(outcome["reason"] for outcome in run.outcomes if outcome["status"] == "wrong")
    assert done.returncode == 3


@pytest.mark.parametrize("own", [None, "FASTEST_FIRST"])
def test_workers_count_gpus_as_the_driver_does_unless_told_otherwise(own, tmp_path, monkeypatch):
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    if own:
        monkeypatch.setenv("CUDA_DEVICE_ORDER", own)
    environment = Conditions().environment(Variant(name="a"), tmp_path, "a")
    assert environment["CUDA_DEVICE_ORDER"] == (own or "PCI_BUS_ID")


def test_code_that_torch_gave_up_is_a_warning(tmp_path):
    _, run = Bench(
        tmp_path, {"a": {"observed": {"recompile_limits": 0}}, "b": {"observed": {"recompile_limits": 2}}}
    ).run()
    warned = {outcome["case"]: [warning["code"] for warning in outcome["warnings"]] for outcome in run.outcomes}
    assert ["recompile limit" in codes for codes in warned.values()] == [False, True]


def test_a_device_of_which_the_profiler_sees_nothing_is_a_warning(tmp_path):
    seen = {"operators": [], "attention_actual": "formula", "kernels_per_step": 3.0}
    _, run = Bench(tmp_path, {"a": {"traced": seen}, "b": {"traced": {"kernels_per_step": 0.0}}}).run()
    warned = {outcome["case"]: [warning["code"] for warning in outcome["warnings"]] for outcome in run.outcomes}
    assert ["no kernels seen" in codes for codes in warned.values()] == [False, True]
    assert ["attention_actual" in outcome["facts"] for outcome in run.outcomes] == [True, False]
    assert [*run.samples().query("metric == 'kernels_per_step'").value] == [3.0]


def test_a_failing_baseline_leaves_the_others_measured(tmp_path):
    _, run = Bench(tmp_path, {"a": {"fail": {"how": "crash", "verb": "measure"}}, "b": {}}, launches=2).run()
    assert outcomes(run) == {"a": "error", "b": "ok"}


def test_a_case_that_fails_later_keeps_the_rows_it_has(tmp_path):
    script = {"a": {}, "bad": {"fail": {"how": "crash", "verb": "observe", "from_launch": 2}}}
    _, run = Bench(tmp_path, script, launches=3).run()
    assert outcomes(run) == {"a": "ok", "bad": "error"}
    assert (run.samples().query("metric == 'step_seconds'").groupby("case", observed=True).size() >= 4).all()


def interrupted(bench: Bench, how: signal.Signals) -> subprocess.Popen:
    process = bench.start("run", "own.py")
    wait_until(lambda: list(bench.folder.glob("runs/.partial-*/run.json")))
    wait_until(lambda: '"launches": {\n  "gpt' in (bench.partial() / "run.json").read_text())
    wait_until(lambda: alive_workers(bench.folder))
    process.send_signal(how)
    return process


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_is_sealed_and_can_be_resumed(tmp_path, how):
    bench = Bench(tmp_path, {"a": {"noise": 0.01}, "b": {"noise": 0.01}}, launches=4, rounds=6)
    process = interrupted(bench, how)
    stdout, stderr = process.communicate(timeout=20)
    assert process.returncode == 130
    path = tmp_path / stdout.strip().splitlines()[-1]
    before = open_run(path)
    assert before.meta["status"] == "interrupted"
    assert f"--resume {stdout.strip().splitlines()[-1]}" in stderr
    assert alive_workers(tmp_path) == []
    complete = before.meta["launches"]["gpt-tiny-b2-l16"]
    assert 1 <= len(complete) < 4
    kept = before.samples().query(f"metric == 'step_seconds' and launch in {complete}")
    done = bench.call("run", "--resume", path.name)
    assert done.returncode == 0, done.stderr
    after = open_run(tmp_path / done.stdout.strip().splitlines()[-1])
    assert after.meta["status"] == "complete"
    assert after.id == before.id
    again = after.samples().query(f"metric == 'step_seconds' and launch in {complete}")
    assert again.value.tolist() == kept.value.tolist()
    assert len(after.samples().query("metric == 'step_seconds'")) == 2 * 4 * 6


def test_a_killed_coordinator_leaves_no_worker_and_a_run_that_can_be_finished(tmp_path):
    bench = Bench(tmp_path, {"a": {}, "b": {}}, launches=4, rounds=6)
    interrupted(bench, signal.SIGKILL).communicate(timeout=20)
    wait_until(lambda: not alive_workers(tmp_path))
    rows = bench.partial() / "samples.jsonl"
    with rows.open("a") as file:
        file.write('["cut off in the mid')  # as a crash leaves it
    assert read_rows(rows)
    done = bench.call("run", "--resume", bench.partial().name.removeprefix(".partial-"))
    assert done.returncode == 0, done.stderr
    run = open_run(tmp_path / done.stdout.strip().splitlines()[-1])
    assert len(run.samples().query("metric == 'step_seconds'")) == 2 * 4 * 6
    assert not list(tmp_path.glob("runs/.*"))


def test_a_full_disk_stops_the_run_and_loses_nothing(tmp_path):
    bench = Bench(tmp_path, {"a": {}, "b": {}}, launches=3)
    full = (
        "import errno, sys; from harness.store import Recorder; rows = Recorder.rows; calls = []\n"
        "def fill(self, given):\n"
        "    calls.append(1)\n"
        "    if len(calls) > 60: raise OSError(errno.ENOSPC, 'No space left on device')\n"
        "    rows(self, given)\n"
        "Recorder.rows = fill\n"
        f"import runpy; sys.argv[:] = {bench.command('run', 'own.py')[1:]!r}\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    stopped = subprocess.run([sys.executable, "-c", full], capture_output=True, timeout=60, **bench.settings())
    assert stopped.returncode == 2, stopped.stderr
    run_id = bench.partial().name.removeprefix(".partial-")
    assert "No space left on device: the run stopped, what it had measured is kept" in stopped.stderr
    assert f"`tandem run --resume {run_id}`" in stopped.stderr
    assert alive_workers(tmp_path) == []
    done = bench.call("run", "--resume", run_id)
    assert done.returncode == 0, done.stderr
    assert len(open_run(tmp_path / "runs" / run_id).samples().query("metric == 'step_seconds'")) == 2 * 3 * 4


def test_a_disk_that_is_full_for_a_worker_stops_the_run_too(tmp_path):
    bench = Bench(tmp_path, {"a": {}, "b": {"fail": {"verb": "check", "how": "disk"}}}, launches=1)
    stopped = bench.call("run", "own.py")
    assert stopped.returncode == 2
    assert "No space left on device: the run stopped, what it had measured is kept" in stopped.stderr
    assert alive_workers(tmp_path) == []


def test_a_run_is_not_finished_on_another_machine(tmp_path):
    bench = Bench(tmp_path, {"a": {}, "b": {}}, launches=3, rounds=6)
    stdout, _ = interrupted(bench, signal.SIGINT).communicate(timeout=20)
    path = tmp_path / stdout.strip().splitlines()[-1]
    environments = path / "environments.json"
    environments.write_text(environments.read_text().replace('"fingerprint": "scripted"', '"fingerprint": "other"'))
    done = bench.call("run", "--resume", path.name)
    assert done.returncode == 2
    assert "is not the one this run began with" in done.stderr
    assert open_run(path).meta["status"] == "interrupted"  # and can still be read


def test_a_case_that_fails_in_a_launch_that_is_measured_again_keeps_its_facts(tmp_path):
    recorder_of = Bench(tmp_path, {"a": {}, "b": {}}, launches=3, rounds=6)
    stdout, _ = interrupted(recorder_of, signal.SIGINT).communicate(timeout=20)
    path = tmp_path / stdout.strip().splitlines()[-1]
    outcomes_file = path / "outcomes.json"
    entries = json.loads(outcomes_file.read_text())
    entries[1] |= {"status": "error", "reason": "in the launch that was cut short", "launch": 3}
    outcomes_file.write_text(json.dumps(entries))
    assert recorder_of.call("run", "--resume", path.name).returncode == 0
    again = open_run(path).outcomes[1]
    assert (again["status"], again["facts"]["reference"]) == ("ok", "float64 formula")


def test_a_complete_run_is_not_resumed(tmp_path):
    bench = Bench(tmp_path, {"a": {}}, launches=1)
    _, run = bench.run()
    done = bench.call("run", "--resume", run.id)
    assert done.returncode == 2
    assert "is complete" in done.stderr


def test_measuring_stops_when_it_is_precise_enough(tmp_path):
    bench = Bench(tmp_path, {"a": {"noise": 0.001}, "b": {"noise": 0.001}}, launches=9)
    _, run = bench.run()
    assert run.samples().launch.max() == 5


def test_a_budget_ends_the_launches_and_says_so(tmp_path):
    bench = Bench(tmp_path, {"a": {"noise": 0.3}, "b": {"noise": 0.3}}, launches=50)
    _, run = bench.run("--budget", "1s")
    assert run.samples().launch.max() < 50
    assert {warning["code"] for outcome in run.outcomes for warning in outcome["warnings"]} >= {"budget"}


def test_the_seconds_of_every_phase_are_kept(tmp_path):
    _, run = Bench(tmp_path, {"a": {}, "b": {}}, launches=2).run()
    seconds = run.meta["seconds"]
    assert {"startup", "build", "compile", "warmup", "timed", "observe", "quality", "trace", "total"} <= seconds.keys()


def test_a_dry_run_shows_cases_reasons_and_time_and_writes_nothing(tmp_path):
    bench = Bench(tmp_path, {"a": {}, "b": {"unavailable": "no such thing here"}})
    done = bench.call("run", "own.py", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "unavailable: no such thing here" in done.stdout
    assert "2 cases, 1 unavailable" in done.stdout
    assert "expected time: " in done.stdout
    assert "(a guess for a 2-core CPU)" in done.stdout
    assert not (tmp_path / "runs").exists()


def test_quiet_says_nothing_on_stderr(tmp_path):
    done, _ = Bench(tmp_path, {"a": {}, "b": {}}, launches=1).run("--quiet")
    assert done.stderr == ""


def test_each_case_names_the_environment_that_it_ran_in(tmp_path):
    bench = Bench(tmp_path, {"a": {}}, launches=1)
    _, run = bench.run("--vary", "threads=1,2")
    places = [run.place(case) for case in run.suite.cases]
    assert places == ["current threads=1", "current threads=2"]
    assert list(run.environments) == places
