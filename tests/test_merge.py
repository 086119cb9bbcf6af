"""Shards: each measures its blocks, and together they are the unsharded run."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from made_run import compared

from harness import passport
from harness.errors import UserError
from harness.merge import merge
from harness.plan import plan
from harness.shard import parse
from harness.spec import Suite
from harness.store import Run, checksum, open_run

WORKER = Path(__file__).with_name("scripted_worker.py")
SUITE = '''
"""Three blocks, the last on one thread."""
from harness.spec import Block, Suite, Variant, Workload

def suite():
    def block(length, threads):
        work = Workload(task="pretraining/causal_lm", model="gpt", size="tiny", batch=2, length=length)
        return Block(workload=work, variants=[Variant(name=name, threads=threads) for name in ("slow", "fast")])
    blocks = [block(16, None), block(32, None), block(64, 1)]
    return Suite(name="three", question="does it join?", launches=2, rounds=2, timeout=20, seed=7, blocks=blocks)
'''
SCRIPT = {"slow": {"seconds": 0.04, "noise": 0.01}, "fast": {"seconds": 0.02, "noise": 0.01}}


class Sharded:
    """A folder with the suite, measured whole and in two shards."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "own.py").write_text(SUITE)
        (folder / "script.json").write_text(json.dumps(SCRIPT))
        self.whole = self.measured()
        self.first, self.second = self.measured("--shard", "1/2"), self.measured("--shard", "2/2")
        (self.second / "traces" / "a-case").mkdir()
        (self.second / "traces" / "a-case" / "trace.json").write_text("{}")

    def call(self, *arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, str(WORKER), "script.json", "--cli", *arguments],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(WORKER.parent.parent)},
            capture_output=True,
            text=True,
            timeout=60,
        )

    def measured(self, *arguments: str) -> Path:
        done = self.call("run", "own.py", "--quiet", *arguments)
        assert done.returncode == 0, done.stderr
        return self.folder / done.stdout.splitlines()[-1]

    def copies(self, folder: Path) -> list[Path]:
        """Return copies of the shards that a test may change."""
        return [shutil.copytree(path, folder / path.name) for path in (self.first, self.second)]


@pytest.fixture(scope="module")
def sharded(tmp_path_factory) -> Sharded:
    return Sharded(tmp_path_factory.mktemp("sharded"))


@pytest.fixture
def shards(sharded, tmp_path) -> list[Path]:
    return sharded.copies(tmp_path)


def edit(path: Path, change: Callable[[dict], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def joined(shards: list[Path], runs: Path) -> Run:
    return open_run(merge(shards, runs, ["tandem", "merge"]))


def places(run: Run) -> list[str]:
    return [run.place(case) for case in run.suite.cases]


def asked(run: Run) -> list[tuple]:
    """Return the requests, but for those that ask what the machine is: once a run, so once a shard."""
    lines = map(json.loads, (run.path / "events.jsonl").read_text().splitlines())
    return [
        (line.get("to"), line["verb"], line.get("steps")) for line in lines if "to" in line and "describe" not in line
    ]


def quiet(cases: list[dict]) -> list[dict]:
    """Return outcomes without what they say of the machine's other work."""
    return [{**case, "warnings": [w for w in case["warnings"] if w["code"] != "busy machine"]} for case in cases]


def keys(run: Run) -> list[tuple]:
    """Return the rows without their values, but for the machine's other work, which the kernel may not have counted."""
    rows = run.samples()[["case", "launch", "round", "turn", "step", "metric"]].itertuples(index=False, name=None)
    return [row for row in rows if row[-1] not in ("steal_share", "others_share")]


def files(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): checksum(path) for path in folder.rglob("*") if path.is_file()}


def described(run: Run) -> set[str]:
    """Return the logs of the workers that described the machine: one a run, so one a shard."""
    return {path.name for path in (run.path / "logs").glob("*--environment.*")}


def test_merged_shards_equal_the_unsharded_run(sharded, tmp_path):
    whole, first, second = map(open_run, (sharded.whole, sharded.first, sharded.second))
    before = files(sharded.folder)
    merged = joined([sharded.second, sharded.first], tmp_path / "merged")
    assert files(sharded.folder) == before
    assert [path.name for path in (tmp_path / "merged").iterdir()] == [merged.id]
    assert merged.suite == whole.suite
    assert (merged.path / "plan.json").read_text() == (whole.path / "plan.json").read_text()
    assert quiet(merged.outcomes) == quiet(whole.outcomes)
    assert merged.environments == whole.environments
    assert asked(merged) == asked(whole)
    assert keys(merged) == keys(whole)
    samples, expected = merged.samples(), whole.samples()
    timed = "metric == 'step_seconds' and round > 0"
    assert samples.query(timed).value.tolist() == expected.query(timed).value.tolist()
    logs = [sorted({path.name for path in (run.path / "logs").glob("*")} - described(run)) for run in (merged, whole)]
    assert logs[0] == logs[1] != []
    assert (merged.path / "traces/a-case/trace.json").is_file()
    same = ("format", "status", "data", "sources", "metrics", "launches", "folders", "commit")
    assert {name: merged.meta[name] for name in same} == {name: whole.meta[name] for name in same}
    assert merged.meta.keys() - whole.meta.keys() == {"shards"}
    for phase, seconds in merged.meta["seconds"].items():
        assert seconds == pytest.approx(first.meta["seconds"][phase] + second.meta["seconds"][phase])
    assert [(shard["part"], shard["id"]) for shard in merged.meta["shards"]] == [("1/2", first.id), ("2/2", second.id)]
    assert merged.meta["shards"][0]["machines"] == ["scripted machine · torch 0.0"]


def test_a_merged_run_is_reported_and_compared_as_any_other(sharded):
    done = sharded.call("merge", sharded.first.name, str(sharded.second), "--runs", "runs")
    assert (done.returncode, done.stderr) == (0, "")
    path = done.stdout.splitlines()[-1]
    whole, merged = (
        json.loads(sharded.call("report", run, "--format", "json").stdout) for run in (sharded.whole, path)
    )
    for cases in (whole["cases"], merged["cases"]):
        assert len(cases) == 6
        for case in cases:
            case["metrics"] = {"step_seconds": case["metrics"]["step_seconds"]}  # the rest is wall time
    assert quiet(merged["cases"]) == quiet(whole["cases"])
    assert [item["verdict"] for item in merged["comparisons"]] == [item["verdict"] for item in whole["comparisons"]]
    assert [(item["ratio"], item["low"]) for item in merged["overall"]] == [
        (item["ratio"], item["low"]) for item in whole["overall"]
    ]
    assert "shard 1/2" in sharded.call("report", path).stdout
    assert json.loads(sharded.call("compare", str(sharded.whole), path, "--format", "json").stdout)["differences"] == []
    shutil.rmtree(sharded.folder / path)


def test_a_shard_takes_every_nth_block_and_its_turns_are_those_of_the_whole(sharded):
    whole = open_run(sharded.whole).suite
    parts = [parse(f"{number}/2").part(whole) for number in (1, 2)]
    assert [[block.workload.length for block in part.blocks] for part in parts] == [[16, 64], [32]]
    assert sorted(map(str, [*plan(parts[0]), *plan(parts[1])])) == sorted(map(str, plan(whole)))
    assert [open_run(path).suite for path in (sharded.first, sharded.second)] == parts
    assert Suite.from_json(open_run(sharded.second).meta["shard"]["whole"]) == whole


def test_machines_that_differ_keep_an_environment_each(sharded, shards, tmp_path):
    threads = "current threads=None"
    edit(shards[1] / "environments.json", lambda found: found["current"].update(fingerprint="other", line="other"))
    merged = joined(shards, tmp_path)
    marks = [f"{threads} (shard 1/2)", f"{threads} (shard 2/2)", "current threads=1"]
    assert places(merged) == [mark for mark in marks for _ in range(2)]
    assert sorted(merged.environments) == sorted(marks)
    assert [merged.environment(case)["fingerprint"] for case in merged.suite.cases][1:4] == ["scripted", *["other"] * 2]
    found = compared(merged, open_run(sharded.whole))
    assert found.comparisons == ()
    assert [item.field for item in found.differences] == [f"{marks[1]} and {threads}: fingerprint"]


def test_ceilings_go_with_the_environment_they_are_of(shards, tmp_path):
    for shard, place, peak in zip(shards, ("current threads=None", "current"), (1e11, 2e11), strict=True):
        known = {place: {"peaks": {"fp32": peak}, "bandwidths": [], "passport": "p"}}
        edit(shard / "run.json", lambda meta, known=known: meta.update(ceilings=known))
    merged = joined(shards, tmp_path / "alike")
    assert passport.of_run(merged.meta, "current threads=None").peak("fp32") == 2e11
    edit(shards[1] / "environments.json", lambda found: found["current"].update(fingerprint="other"))
    merged = joined(shards, tmp_path / "unlike")
    found = {place: passport.of_run(merged.meta, place).peak("fp32") for place in places(merged)}
    assert [*found.values()] == [1e11, 2e11, None]


def test_machines_of_one_kind_that_differ_in_speed_keep_an_environment_each(shards, tmp_path):
    edit(shards[1] / "environments.json", lambda found: found["current"]["calibration"].update(gemm=0.0012))
    assert places(joined(shards, tmp_path))[2] == "current threads=None (shard 2/2)"


def test_a_machine_that_nobody_could_describe_is_none_of_the_others(shards, tmp_path):
    edit(shards[1] / "environments.json", lambda found: found.clear())
    merged = joined(shards, tmp_path)
    found = [bool(merged.environment(case)) for case in merged.suite.cases]
    assert found == [True, True, False, False, True, True]
    assert places(merged)[2:4] == ["current threads=None (shard 2/2)"] * 2


def test_merging_says_that_the_machines_differ(sharded, shards):
    edit(shards[1] / "environments.json", lambda found: found["current"].update(fingerprint="other"))
    done = sharded.call("merge", *map(str, shards), "--runs", str(shards[0].parent / "merged"))
    assert done.returncode == 0
    assert (
        done.stderr
        == "tandem: the shards' machines, or their speeds, differ; compare no times of one block with another's\n"
    )


def test_a_case_that_never_began_is_merged_and_takes_no_part_in_what_must_be_equal(sharded, shards, tmp_path):
    def stopped(outcomes):
        outcomes[1] |= {"status": "interrupted", "reason": "the --budget was used up before it", "facts": {}}

    edit(shards[1] / "outcomes.json", stopped)
    merged = joined(shards, tmp_path)
    assert [outcome["status"] for outcome in merged.outcomes] == ["ok"] * 3 + ["interrupted"] + ["ok"] * 2
    assert compared(open_run(sharded.whole), merged).differences == ()


def meta(change: Callable[[dict], object]) -> Callable[[Path], None]:
    return lambda run: edit(run / "run.json", change)


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (meta(lambda run: run.update(status="interrupted")), "was interrupted; finish it with `tandem run --resume "),
        (meta(lambda run: run.update(status="running")), "is not finished; finish it with `tandem run --resume "),
        (lambda run: (run / "events.jsonl").write_text(""), "events.jsonl is truncated or was changed; copy the run"),
        (meta(lambda run: run.pop("shard")), "is no shard; give runs that were made with `tandem run --shard`"),
        (meta(lambda run: run["shard"]["whole"].update(launches=3)), "they differ in suite launches (3 and 2); give"),
        (meta(lambda run: run["shard"]["whole"].update(name="other")), "does not hold the blocks of shard 2/2"),
        (meta(lambda run: run["data"]["stdlib"].update(sha256="f")), "they differ in data stdlib: sha256 (f and "),
        (meta(lambda run: run.update(commit="c0ffee")), "they differ in commit (c0ffee and "),
        (meta(lambda run: run["shard"].update(trace=False)), "they differ in --no-trace (True and False)"),
        (meta(lambda run: run["metrics"].pop()), "they differ in metrics; give shards of one suite"),
    ],
)
def test_a_shard_that_does_not_fit_is_a_sentence_and_nothing_is_written(shards, tmp_path, damage, sentence):
    damage(shards[1])
    if sentence.startswith("they differ in suite"):  # a suite that really was other, not a damaged file
        edit(shards[1] / "run.json", lambda run: run["suite"].update(launches=3))
    before = files(tmp_path)
    with pytest.raises(UserError) as caught:
        merge(shards, tmp_path / "merged", [])
    assert sentence in str(caught.value)
    assert files(tmp_path) == before
    assert not (tmp_path / "merged").exists()


def test_a_shard_of_another_division_does_not_fit(shards, tmp_path):
    def third(run):
        run["shard"]["part"] = "2/3"  # of three blocks, the same one as 2/2

    edit(shards[1] / "run.json", third)
    with pytest.raises(UserError, match=r"they differ in number of shards \(3 and 2\)"):
        merge(shards, tmp_path / "merged", [])


def test_each_shard_is_given_once(sharded):
    before = files(sharded.folder)
    for given, sentence in (
        ([sharded.first, sharded.second, sharded.first], "shard 1/2 is given twice: "),
        ([sharded.second], "of 2 shards these are missing: 1/2; give each, or measure it with --shard 1/2"),
        ([sharded.first, sharded.whole], "is no shard; give runs"),
    ):
        done = sharded.call("merge", *map(str, given))
        assert (done.returncode, done.stdout) == (2, "")
        assert sentence in done.stderr
        assert done.stderr.count("\n") == 1
    assert files(sharded.folder) == before


def test_a_merge_that_cannot_be_written_leaves_nothing(shards, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("harness.merge.write_json", full)
    with pytest.raises(OSError, match="No space"):
        merge(shards, tmp_path / "merged", [])
    assert list((tmp_path / "merged").iterdir()) == []


def test_an_interrupted_shard_goes_on_with_its_blocks_and_is_merged(sharded, shards, tmp_path):
    def cut(run):
        run["status"] = "interrupted"
        run["launches"][next(iter(run["launches"]))].remove(2)

    edit(shards[1] / "run.json", cut)
    done = sharded.call("run", "--resume", str(shards[1]), "--quiet")
    assert done.returncode == 0, done.stderr
    assert joined(shards, tmp_path / "merged").meta["launches"] == open_run(sharded.whole).meta["launches"]


@pytest.mark.parametrize("text", ["9/8", "0/2", "x", "2", "1/2/3", "-1/2", "1/0", ""])
def test_a_shard_that_is_none_is_a_sentence(text):
    with pytest.raises(UserError, match="is no shard; write for instance --shard 2/8"):
        parse(text)


def test_bad_shards_are_exit_code_2_and_nothing_is_written(sharded):
    before = files(sharded.folder)
    for arguments, sentence in (
        (["own.py", "--shard", "3/2"], "'3/2' is no shard"),
        (["own.py", "--shard", "1/4"], "suite 'three' cannot make 4 shards, for its blocks are 3; use --shard K/3"),
        (["--resume", str(sharded.first), "--shard", "1/2"], "--resume finishes a run as it was planned"),
    ):
        done = sharded.call("run", *arguments)
        assert done.returncode == 2
        assert sentence in done.stderr
        assert done.stderr.count("\n") == 1
    assert files(sharded.folder) == before
