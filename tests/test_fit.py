"""What fits: the search alone, with scripted workers, and with a real one whose memory is limited."""

import json

import pytest
from test_real import outcomes as real_outcomes
from test_real import run as real_run
from test_run import Bench, alive_workers, outcomes

from harness.errors import UserError, is_out_of_memory
from harness.fit import PROBES, next_size
from harness.spec import Block, Suite, Variant, Workload

FIT = ("--set", "memory_limit=1000", "--set", "fit=batch")


def search(most: int, start: int = 8) -> list[int]:
    fits: dict[int, bool] = {}
    while size := next_size(fits, start):
        assert size not in fits
        fits[size] = size <= most
    return [size for size, does_fit in fits.items() if does_fit]


@pytest.mark.parametrize("most", [1, 2, 7, 8, 9, 100, 1000, 12345])
@pytest.mark.parametrize("start", [1, 8, 300])
def test_the_search_ends_within_a_sixteenth(most, start):
    best = max(search(most, start))
    assert best <= most <= best + max(1, best // 16)


def test_nothing_fits_where_one_does_not():
    assert search(0) == []


def figures(run, metric="largest_batch"):
    found = run.samples().query(f"metric == '{metric}'")
    names = {case.id: case.variant.name for case in run.suite.cases}
    return {names[case]: value for case, value in zip(found.case, found.value, strict=True)}


def test_each_variant_has_its_size_and_no_probe_is_a_failed_case(tmp_path):
    script = {
        "a": {"fits": {"batch": 37}}, "b": {"fits": {"batch": 5}}, "none": {"fits": {"batch": 0}},
        "cut": {"fail": {"verb": "build", "how": "RuntimeError"}},
        "lacks": {"fail": {"verb": "build", "how": "Unavailable"}},
    }  # fmt: skip
    done, run = Bench(tmp_path, script).run(*FIT)
    assert outcomes(run) == {"a": "ok", "b": "ok", "none": "oom", "cut": "error", "lacks": "unavailable"}
    assert figures(run).keys() == {"a", "b"}
    assert 35 <= figures(run)["a"] <= 37
    assert figures(run)["b"] == 5
    assert done.returncode == 3
    assert "Fit · What is the largest that fits?" in done.stdout
    events = [json.loads(line) for line in (run.path / "events.jsonl").read_text().splitlines()]
    assert {event["memory_limit"] for event in events if event.get("verb") == "build"} == {1000}
    assert sum(event.get("error") == "OutOfMemoryError" for event in events) >= 6
    assert alive_workers(tmp_path) == []


def test_a_search_says_on_which_machine_it_was(tmp_path):
    _, run = Bench(tmp_path, {"a": {"fits": {"batch": 37}}}).run(*FIT)
    (case,) = run.suite.cases
    assert run.environment(case)["fingerprint"] == "scripted"


def test_how_long_a_search_takes_is_not_known_before_and_said_so(tmp_path):
    done = Bench(tmp_path, {"a": {}}).call("run", "own.py", "--dry-run", *FIT)
    assert "expected time: not known before the search: 6 probes a variant and one for each doubling" in done.stdout


@pytest.mark.parametrize(("most", "doublings"), [(9, 0), (15, 0), (16, 1), (100, 3), (1000, 6)])
def test_a_search_takes_so_many_probes_and_one_for_each_doubling(most, doublings):
    fits: dict[int, bool] = {}
    while size := next_size(fits, 8):
        fits[size] = size <= most
    assert abs(len(fits) - PROBES - doublings) <= 1


def test_a_compiler_that_runs_out_of_memory_is_out_of_memory():
    compiling = RuntimeError("MemoryError: std::bad_alloc")  # as Dynamo tells it
    wrapped = RuntimeError("backend failed")
    wrapped.__cause__ = MemoryError()
    assert is_out_of_memory(compiling)
    assert is_out_of_memory(wrapped)
    assert not is_out_of_memory(RuntimeError("shapes do not fit"))


def test_a_search_that_something_else_ends_says_so(tmp_path):
    bench = Bench(tmp_path, {"a": {"breaks": {"length": 100}}})
    done, run = bench.run("--set", "memory_limit=1000", "--set", "fit=length")
    assert done.returncode == 0
    assert outcomes(run) == {"a": "ok"}
    assert figures(run, "longest_sequence") == {"a": 64}
    (warning,) = run.outcomes[0]["warnings"]
    assert warning["code"] == "cut short"
    assert "at 128: RuntimeError" in warning["message"]


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [({"fit": "bach", "memory_limit": 9}, "batch"), ({"fit": "batch"}, "memory_limit"), ({"memory_limit": -1}, "-1")],
)
def test_a_mistake_is_a_sentence(fields, sentence):
    work = Workload(task="pretraining/causal_lm", model="gpt", size="tiny")
    with pytest.raises(UserError, match=sentence):
        Suite(name="own", question="?", blocks=[Block(workload=work, variants=[Variant(name="v1")])], **fields)


def test_memory_that_runs_out_in_a_real_worker_is_an_answer(tmp_path):
    small = ("--set", "threads=1", "--set", "layers=1", "--set", "batch=512", "--set", "memory_limit=700000000")
    (tmp_path / "own.py").write_text(
        "from dataclasses import replace\n"
        "from suites.definitions.fit import suite as whole\n"
        "def suite():\n"
        "    block = whole().blocks[0]\n"
        "    return replace(whole(), name='own', blocks=[replace(block, variants=block.variants[:1])])\n"
    )
    opened = real_run(tmp_path, "own.py", *small)
    assert [outcome["status"] for outcome in real_outcomes(opened).values()] == ["ok"]
    assert 16 < figures(opened)["v1"] < 512
