"""Several runs side by side: over the cases that they share, against the first, unlike machines named as such."""

import json
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pandas as pd
import pytest
from made_run import made_run, made_suite, sealed_run
from typer.testing import CliRunner

from harness import cli, names
from harness.errors import UserError
from harness.store import Run
from reports.document import Chart, Document, Table
from reports.formats import csv, terminal
from reports.formats import json as json_format
from reports.runs import document_of_runs

SUITE = made_suite((64, 128))
ELSEWHERE = {"fingerprint": "f1", "cpu": "Other", "line": "Other CPU"}


@pytest.fixture(scope="module")
def monday(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return made_run(tmp_path_factory.mktemp("monday"), SUITE, name="monday")


@pytest.fixture(scope="module")
def tuesday(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return made_run(tmp_path_factory.mktemp("tuesday"), SUITE, name="tuesday", slower=1.2, seed=1)


def elsewhere(run: Run, **changed: object) -> Run:
    return replace(run, environments={"current": {**run.environments["current"], **changed}})


def text(document: Document) -> str:
    return terminal.render(document, width=400, color=False)


def by_run(document: Document) -> list[Table | Chart]:
    items = document.sections[0].items
    return [item for item in items if isinstance(item, Table | Chart) and item.title.startswith("Step time by run")]


def test_each_run_is_compared_with_the_first(monday: Run, tuesday: Run, tmp_path: Path) -> None:
    wednesday = made_run(tmp_path, SUITE, name="wednesday", slower=0.5, seed=2)
    document = document_of_runs([monday, tuesday, wednesday])
    lines = text(document).splitlines()
    assert lines[1].startswith("run 2 against run 1: speed in 9 shared cases: 9 worse · from 0.8")
    assert lines[2].startswith("run 3 against run 1: speed in 9 shared cases: 9 better · from ")
    assert "two sessions: the runs were made at different times" in text(document)
    table, chart = by_run(document)[:2]
    assert isinstance(table, Table)
    assert table.columns[1:] == (
        "step time, run 1",
        *("step time, run 2", "speed, run 2"),
        *("step time, run 3", "speed, run 3"),
    )
    assert isinstance(chart, Chart)
    assert {mark.series for mark in chart.marks} == {"run 1", "run 2", "run 3"}


def test_unlike_machines_are_compared_as_machines(monday: Run, tuesday: Run) -> None:
    document = document_of_runs([monday, elsewhere(tuesday, **ELSEWHERE)])
    found = text(document)
    assert "run 2 against run 1: machines or builds compared, not code (cpu differ); speed in 9" in found
    assert "unlike places: the machine, the build or the machine's own speed differ" in found
    assert "run 2: Other CPU" in found
    codes = {caution.code for item in document.between[0].comparisons for caution in item.judgement.warnings}
    assert {"two sessions", "unlike places"} <= codes


def test_one_machine_that_was_slower_as_such_is_no_comparison_of_code(monday: Run, tuesday: Run) -> None:
    found = text(document_of_runs([monday, elsewhere(tuesday, calibration={"gemm": 0.02})]))
    assert "not comparable, the machine itself was not as fast in both (gemm)" in found


def test_unlike_work_is_not_compared(monday: Run, tuesday: Run) -> None:
    other = replace(tuesday, meta=tuesday.meta | {"data": {"stdlib": {"sha256": "b" * 64}}})
    document = document_of_runs([monday, other])
    found = text(document)
    assert "run 2 against run 1: not comparable, they did not do the same: data stdlib: sha256" in found
    assert "b" * 64 in found
    assert not document.between[0].comparisons
    assert not by_run(document)


def test_what_only_one_run_holds_is_listed(monday: Run, tmp_path: Path) -> None:
    longer = made_run(tmp_path / "longer", made_suite((64, 256)), name="longer")
    document = document_of_runs([monday, longer])
    found = text(document)
    assert "run 2 against run 1: speed in 5 shared cases" in found
    for name, run in (("run 1", monday), ("run 2", longer)):
        assert f"only in {name}: {', '.join(case.id for case in run.suite.blocks[1].cases)}" in found
    assert [item.title for item in by_run(document)] == ["Step time by run: gpt-tiny-b4-l64"] * 2
    other = made_run(tmp_path / "other", made_suite((32,)), name="other")
    assert "run 2 against run 1: not comparable, they share no case" in text(document_of_runs([monday, other]))


def test_a_case_that_failed_in_one_run_says_so_there(monday: Run, tuesday: Run) -> None:
    outcomes = [tuesday.outcomes[0] | {"status": "oom", "reason": "out of memory"}, *tuesday.outcomes[1:]]
    table = by_run(document_of_runs([monday, replace(tuesday, outcomes=outcomes)]))[0]
    assert isinstance(table, Table)
    assert str(table.rows[0][2]) == "Status(outcome='oom')"
    assert table.rows[0][3] is None


@pytest.mark.parametrize(
    "format", [item.name for item in names.listing("format") if item.name not in ("junit", "github")]
)
def test_every_format_shows_them(format: str, monday: Run, tuesday: Run) -> None:
    found = names.find("format", format).load()(document_of_runs([monday, tuesday]))
    assert "monday" in found
    assert "tuesday" in found


def test_programs_read_each_run_and_the_comparisons(monday: Run, tuesday: Run) -> None:
    document = document_of_runs([monday, tuesday])
    found = json.loads(json_format.render(document))
    assert [report["run"]["id"] for report in found["reports"]] == ["monday", "tuesday"]
    (between,) = found["between"]
    assert (between["base"], between["candidate"]) == ("monday", "tuesday")
    assert between["shared"] == [case.id for case in SUITE.cases]
    ratios = {item["case"]: item["ratio"] for item in between["comparisons"] if item["metric"] == "step_seconds"}
    rows = pd.read_csv(StringIO(csv.render(document)))
    rows = rows[(rows["metric"] == "step_seconds") & (rows["run"] == "tuesday")].set_index("case")
    assert rows["run_ratio"].to_dict() == pytest.approx(ratios)
    assert set(rows["first_run"]) == {"monday"}


def test_one_run_given_twice_is_one_sentence(monday: Run, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="run monday is given twice; name each run once"):
        document_of_runs([monday, monday])
    sealed_run(tmp_path / "one", SUITE)
    asked = CliRunner().invoke(cli.app, ["report", "latest", "one", "--runs", str(tmp_path)])
    assert isinstance(asked.exception, UserError)
