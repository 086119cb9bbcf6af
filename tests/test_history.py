"""History: a metric over runs says when it changed, by how much, and when that cannot be told."""

import json
import re
from dataclasses import replace
from types import SimpleNamespace

import pytest
from made_run import made_suite, sealed_run

from harness import names
from harness.errors import UserError
from harness.history import history
from harness.metrics import METRICS
from harness.spec import Block, Suite, Variant
from harness.stats import Judgement
from reports.formats import json as json_format
from reports.formats import terminal
from reports.formats._words import words
from reports.history import change, document_of

BLOCK = made_suite(lengths=(64,)).blocks[0]
SUITE = Suite(
    name="made",
    question="?",
    blocks=(Block(workload=BLOCK.workload, variants=(Variant(name="v1"), Variant(name="+sdpa", attention="sdpa"))),),
    launches=3,
    rounds=2,
    quality_steps=2,
)
CASE = SUITE.cases[0].id


def series(folder, levels, **made):
    """Write a sealed run for each level; names go against the order of time."""
    for number, level in enumerate(levels):
        name = f"run{len(levels) - number:02}"
        facts = {"started": f"2026-01-{number + 1:02}T00:00:00+00:00", "commit": f"c{number}", **made}
        sealed_run(folder / name, SUITE, slower=level, seed=number, noise=0.01, **facts)
    return folder


def text(folder, metric="step_seconds", case=CASE):
    return terminal.render(document_of(history(metric, case, folder)), width=250, color=False)


@pytest.fixture(scope="module")
def slower(tmp_path_factory):
    return series(tmp_path_factory.mktemp("slower"), [1.0] * 4 + [1.2] * 4 + [1.3] * 4)


def test_a_history_says_how_often_when_last_and_by_how_much(slower):
    found = history("step_seconds", CASE, slower)
    assert [point.run.id for point in found.points] == [f"run{number:02}" for number in range(12, 0, -1)]
    assert [shift.first.run.id for shift in found.series[0].shifts] == ["run08", "run04"]
    first, last = (shift.judgement for shift in found.series[0].shifts)
    assert first.low < 1.2 < first.high
    assert last.verdict == "worse"
    answer = text(slower)
    assert f"step_seconds of {CASE}: changed 2 times in 12 runs, the last at run run04 (commit c8): 1.0" in answer
    assert "✗ 1.20x" in answer or "✗ 1.19x" in answer or "✗ 1.21x" in answer


def test_programs_read_every_run_and_the_changes(slower):
    reports = json.loads(json_format.render(document_of(history("step_seconds", CASE, slower))))["reports"]
    assert [report["run"]["commit"] for report in reports] == [f"c{number}" for number in range(12)]
    assert all(list(report["cases"][0]["metrics"]) == ["step_seconds"] for report in reports)
    changed = {report["run"]["id"]: report["comparisons"] for report in reports if report["comparisons"]}
    assert changed.keys() == {"run08", "run04"}
    assert changed["run08"][0]["baseline"] == "run09"


SHOWS = [named.name for named in names.listing("format") if named.name not in ("junit", "github")]  # how cases ended


@pytest.mark.parametrize("format", SHOWS)
def test_every_format_shows_it(slower, format):
    rendered = names.find("format", format).load()(document_of(history("step_seconds", CASE, slower)))
    assert "run08" in rendered


def test_without_a_change_it_says_what_would_have_been_found(tmp_path):
    answer = text(series(tmp_path, [1.0] * 8))
    assert re.search(r"no change found in 8 runs \(a lasting change of [1-4]\.\d% halfway would be found", answer)


def test_from_three_runs_nothing_can_be_told(tmp_path):
    assert "nothing can be told from 3 runs, 4 or more are needed" in text(series(tmp_path, [1.0, 1.0, 2.0]))


@pytest.mark.parametrize(
    ("metric", "told"), [("loss_gap", "0.050 ±0.010 nats"), ("accuracy", "+5.0 pp (+4.0 to +6.0)")]
)
def test_a_difference_is_told_in_the_unit_of_what_differs(metric, told):
    found = Judgement(ratio=None, difference=0.05, low=0.04, high=0.06, verdict="better", detectable=0.01, launches=4)
    cell = change(SimpleNamespace(metric=METRICS[metric]), SimpleNamespace(judgement=found))
    assert words(cell) == told


def test_equal_counts_are_equal(tmp_path):
    assert "no change found in 3 runs (all values are equal)" in text(series(tmp_path, [1.0] * 3), "flop")


def test_another_machine_is_marked_and_not_mixed_in(tmp_path):
    series(tmp_path, [1.0] * 5)
    for number in range(5):
        sealed_run(
            tmp_path / f"other{number}", SUITE, slower=2.0, seed=number, fingerprint="f1", started=f"2027-{number}"
        )
    found = history("step_seconds", CASE, tmp_path)
    assert [len(one.points) for one in found.series] == [5, 5]
    answer = text(tmp_path)
    assert f"{CASE} in series 1: no change found in 5 runs" in answer
    assert f"{CASE} in series 2: no change found in 5 runs" in answer
    assert "series 2: Made CPU" in answer


def test_runs_that_did_other_work_are_no_change(tmp_path):
    series(tmp_path, [1.0] * 5)
    other = replace(SUITE, quality_steps=SUITE.quality_steps + 1)
    for number in range(5):
        sealed_run(tmp_path / f"other{number}", other, slower=2.0, seed=number, started=f"2027-{number}")
    found = history("step_seconds", CASE, tmp_path)
    assert [(len(one.points), one.shifts) for one in found.series] == [(5, ()), (5, ())]
    assert "changes are searched within each" in text(tmp_path)


@pytest.mark.parametrize("name", [CASE, CASE[:-3], "*--v1--*"])
def test_a_case_is_named_by_id_start_or_pattern(slower, name):
    assert history("step_seconds", name, slower).case == CASE


@pytest.mark.parametrize(
    ("metric", "case", "sentence"),
    [
        ("step_secs", CASE, "no metric 'step_secs'; did you mean 'step_seconds'"),
        ("step_seconds", CASE.replace("v1", "v2"), "did you mean"),
        ("step_seconds", "gpt", "'gpt' means 2 cases; say which: "),
        ("graph_breaks", CASE, f"no run measured graph_breaks of {CASE}; measured: "),
    ],
)
def test_bad_input_is_a_sentence(slower, metric, case, sentence):
    with pytest.raises(UserError) as caught:
        history(metric, case, slower)
    assert sentence in str(caught.value)


def test_no_runs_is_a_sentence(tmp_path):
    with pytest.raises(UserError, match="no sealed run in"):
        history("step_seconds", CASE, tmp_path)


def test_a_damaged_run_and_a_failed_case_are_named_not_dropped(tmp_path):
    series(tmp_path, [1.0] * 5)
    (tmp_path / "run02/samples.parquet").write_bytes(b"cut")
    outcomes = json.loads((tmp_path / "run03/outcomes.json").read_text())
    outcomes[0] |= {"status": "oom", "reason": "out of memory"}
    (tmp_path / "run03/outcomes.json").write_text(json.dumps(outcomes))
    answer = text(tmp_path)
    assert "run run02 is left out: " in answer
    assert "1 of 4 runs have no finite value" in answer
    assert "oom" in answer
    assert "nothing can be told from 3 runs" in answer
