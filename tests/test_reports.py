import json
import math
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from made_run import HOSTILE, LINE, hostile, made_gate, made_machine, made_run, made_suite
from rich.cells import cell_len

from harness import names
from harness.compare import BreakEven
from harness.policy import Allowance, Policy
from harness.spec import Variant
from harness.stats import Caution, Estimate, estimate, judge
from harness.store import COLUMNS, Run
from reports.document import Change, Chart, Document, Quantity, Table
from reports.formats import _vega, _words, csv, html, markdown, terminal
from reports.formats import json as json_format
from reports.formats._squarified import Rectangle, squarified
from reports.report import BRIEF, BRIEF_GATE, comparison_of, document_of
from reports.runs import document_of_runs
from reports.views.attention import is_as_asked
from reports.views.operators import family

FORMATS = [named.name for named in names.listing("format")]
READ = [name for name in FORMATS if name not in ("junit", "github")]  # not only how cases ended, for a CI job
SILENT = ("families", "kernels", "learning", "distance")  # of runs like these; they have tests of their own


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return made_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def document(run: Run) -> Document:
    return document_of(run)


def render(name: str, document: Document) -> str:
    return str(names.find("format", name).load()(document))


def rounded(text: str) -> str:
    """Return the text with long fractions cut: their last digits differ between processors."""
    return re.sub(r"\d+\.\d{4,}(e[-+]?\d+)?", lambda found: f"{float(found[0]):.6g}", text)


def without_drawings(page: str) -> str:
    """Return the page without what vl-convert makes: the script, its digest and the drawings."""
    page = re.sub(r"<script>.*?</script>", "<script>CUT</script>", page, flags=re.DOTALL)
    page = re.sub(r"'sha256-[^']*'", "'sha256-CUT'", page)
    return re.sub(r"<svg.*?</svg>", "<svg>CUT</svg>", page, flags=re.DOTALL)


def tables(document: Document) -> list[Table]:
    return [item for section in document.sections for item in section.items if isinstance(item, Table)]


def charts(document: Document) -> list[Chart]:
    return [item for section in document.sections for item in section.items if isinstance(item, Chart)]


# What each format makes of a made run, whole.


def test_terminal(document: Document, golden: Callable[[str, str], None]) -> None:
    golden("report.txt", terminal.render(document, width=120, color=False))


def test_terminal_of_80_columns(document: Document, golden: Callable[[str, str], None]) -> None:
    golden("report-80.txt", terminal.render(document, width=80, color=False))


def test_markdown(document: Document, golden: Callable[[str, str], None]) -> None:
    golden("report.md", markdown.render(document))


def test_html(document: Document, golden: Callable[[str, str], None]) -> None:
    golden("report.html", rounded(without_drawings(html.render(document))))


def test_json(document: Document, golden: Callable[[str, str], None]) -> None:
    golden("report.json", rounded(json_format.render(document)))


def test_csv(document: Document, golden: Callable[[str, str], None]) -> None:
    golden("report.csv", rounded(csv.render(document)))


def test_run_against_run(run: Run, tmp_path: Path, golden: Callable[[str, str], None]) -> None:
    slower = made_run(tmp_path, run.suite, slower=1.3, seed=1, name="slower-run")
    golden("runs.txt", terminal.render(comparison_of(run, slower), width=120, color=False))


# What holds for every view and format.


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Run:
    ends = date(2027, 1, 31)
    allowed = (Allowance(case="*l128*", metric="memory_*", reason="the larger <cache>", expires=ends),)
    return made_gate(tmp_path_factory.mktemp("gate"), Policy(allowed=allowed))


@pytest.fixture(scope="module")
def special(tmp_path_factory: pytest.TempPathFactory) -> Run:
    block = made_suite((64,)).blocks[0]
    loaded = replace(block, variants=(replace(block.variants[0], loader="map", workers=2),))
    suite = replace(made_suite((64,)), blocks=(loaded,), fit="batch", memory_limit=2**30)
    return made_run(tmp_path_factory.mktemp("special"), suite)


@pytest.mark.parametrize("name", ["junit", "github", "summary", "terminal"])
def test_a_gate(name: str, gate: Run, golden: Callable[[str, str], None]) -> None:
    document = document_of(gate, BRIEF_GATE)
    is_terminal = name == "terminal"
    golden(
        f"gate-{name}.txt",
        terminal.render(document, width=120, color=False) if is_terminal else render(name, document),
    )


def test_a_gates_verdicts_are_in_its_json(gate: Run) -> None:
    found = json.loads(json_format.render(document_of(gate)))["gate"]
    assert (found["verdict"], found["code"]) == ("fail", 1)
    assert {"case", "metric", "verdict", "reason", "ratio", "low", "high", "margin", "noise_floor", "detectable",
            "launches", "allowed"} <= found["verdicts"][0].keys()  # fmt: skip


@pytest.mark.parametrize("name", [named.name for named in names.listing("view") if named.name not in SILENT])
def test_every_view_says_where_it_stands_and_what_it_answers(
    name: str, run: Run, gate: Run, special: Run, tmp_path: Path
) -> None:
    named = names.find("view", name)
    assert isinstance(named.literal("ORDER", None), int)
    machine = made_machine(tmp_path) if name in ("hardware", "shares") else run
    shown = {"gate": gate, "loading": special, "fit": special}.get(name, machine)
    (section,) = document_of(shown, [name]).sections
    assert section.question.endswith("?")


@pytest.mark.parametrize("name", READ)
def test_every_format_shows_a_run_without_any_figures(name: str, tmp_path: Path) -> None:
    pd.DataFrame([], columns=list(COLUMNS)).astype({"case": str, "metric": str, "value": float}).to_parquet(
        tmp_path / "samples.parquet"
    )
    empty = Run(
        path=tmp_path,
        id="empty",
        meta={"status": "interrupted", "seconds": {}},
        suite=made_suite(),
        environments={},
        outcomes=[],
    )
    assert "interrupted" in render(name, document_of(empty))


@pytest.mark.parametrize("name", READ)
def test_every_format_shows_what_is_not_a_number(name: str, run: Run, tmp_path: Path) -> None:
    rows = run.samples().astype({"case": str, "metric": str})
    rows.loc[rows["metric"] == "training_loss", "value"] = math.nan
    rows.loc[rows["metric"].isin(["gradient_error", "held_out_loss"]), "value"] = math.inf
    rows.loc[rows["metric"] == "memory_peak_bytes", "value"] = 0.0
    rows.to_parquet(tmp_path / "samples.parquet")
    assert re.search("inf|not a number", render(name, document_of(replace(run, path=tmp_path))))


@pytest.mark.parametrize("name", READ)
def test_every_format_shows_several_runs(name: str, run: Run, tmp_path: Path) -> None:
    other = made_run(tmp_path, made_suite(lengths=(32,), name="other"), name="other-run")
    found = render(name, document_of_runs([run, other]))
    assert "made-run" in found
    assert "other-run" in found


@pytest.mark.parametrize("name", READ)
def test_every_format_says_what_makes_two_runs_not_comparable(name: str, run: Run) -> None:
    other = replace(run, id="other", meta=run.meta | {"data": {"stdlib": {"sha256": "b" * 64}}})
    found = render(name, comparison_of(run, other))
    assert name == "csv" or "data stdlib: sha256" in found
    assert name == "csv" or "b" * 64 in found
    assert name not in ("json", "csv") or "better" not in found


@pytest.mark.parametrize("name", FORMATS)
def test_the_same_run_gives_the_same_report(name: str, run: Run) -> None:
    first, second = (without_drawings(render(name, document_of(run))) for _ in range(2))
    assert first == second


# The answer, and what may not be said.


def test_the_first_line_is_the_answer(document: Document) -> None:
    lines = terminal.render(document, width=120, color=False).splitlines()
    assert re.fullmatch(r"Over all workloads: \+fused is 1\.\d\dx \(1\.\d\d–1\.\d\d\) as fast as v1", lines[1])


def test_no_difference_is_given_that_is_not_established(tmp_path: Path) -> None:
    noisy = made_run(tmp_path, made_suite(lengths=(64,), launches=3), noise=0.5, seed=2)
    document = document_of(noisy, ["comparison"])
    found = terminal.render(document, width=200, color=False)
    assert "some cannot be told from it yet" in found
    assert not re.search(r"\d+x ", found.replace(_words.RATIOS, ""))
    assert "unsure (" in found


def test_figures_stand_above_the_hardware_they_were_measured_on(document: Document) -> None:
    with_figures = [
        table for table in tables(document)
        if table.title != "Wall time by phase"
        and any(isinstance(cell, Quantity | Change) for row in table.rows for cell in row)
    ]  # fmt: skip
    assert with_figures
    assert {table.hardware for table in with_figures} == {(LINE,)}


def test_no_case_is_dropped(document: Document, run: Run) -> None:
    found = [table for table in tables(document) if table.title in {block.name for block in run.suite.blocks}]
    names_shown = [row[0] for table in found[:2] for row in table.rows]
    assert names_shown == [case.variant.name for case in run.suite.cases]
    outcomes = next(section for section in document.sections if section.title == "Outcomes")
    assert "bf16 needs a CPU with AVX512" in str(outcomes.items)


def test_what_a_variant_cannot_do_anywhere_is_one_row(tmp_path: Path) -> None:
    run = made_run(tmp_path, made_suite(lengths=(8, 16, 32, 64, 128)), fails=False)
    last = {block.cases[-1].id for block in run.suite.blocks}
    ended = {"status": "unavailable", "reason": "no bf16 here"}
    lacking = [outcome | ended if outcome["case"] in last else outcome for outcome in run.outcomes]
    (table,) = tables(document_of(replace(run, outcomes=lacking), ["outcomes"]))
    assert [(row[0], row[1], row[3]) for row in table.rows] == [("5 of 5 workloads", "+bf16", "no bf16 here")]


def test_speed_memory_and_loss_stand_in_one_row(document: Document) -> None:
    first = tables(document)[0]
    for wanted in ("speed against v1", "step time", "peak memory", "error against float64", "held-out loss"):
        assert wanted in first.columns


def test_the_brief_views_are_views_and_hold_the_answer(run: Run) -> None:
    titles = [section.title for section in document_of(run, BRIEF).sections]
    assert titles == ["Comparison", "Outcomes", "Warnings", "Run"]


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        (None, ""),
        (7, "7"),
        (Quantity(estimate=Estimate(center=0.01234, low=0.0121, high=0.01258, n=5), unit="s"), "12.34 ±0.24 ms"),
        (Quantity(estimate=estimate([2.5]), unit="s"), "2.500 s"),
        (Quantity(estimate=estimate([3 * 2**30] * 5), unit="B"), "3 GiB"),
        (Quantity(estimate=estimate([2.1e-7]), unit="1"), "2.1e-07"),
        (Quantity(estimate=estimate([math.nan, 1.0]), unit="nats"), "not a number nats"),
        (Quantity(estimate=estimate([0.0] * 5), unit="1"), "0"),
        (Change(judgement=judge([-0.51, -0.5, -0.49], 0.03, "lower"), is_speed=True), "1.65x (1.61–1.69)"),
        (Change(judgement=judge([-0.51, -0.5, -0.49], 0.03, "lower")), "0.61x (0.59–0.62)"),
        (Change(judgement=judge([0.0, 0.0], 0.03, "lower")), "same"),
        (Change(judgement=judge([-0.05, 0.0, 0.05], 0.03, "lower")), "unsure (0.88–1.13), about 11 more launches"),
        (Change(judgement=judge([-0.5], 0.03, "lower")), "unsure, one launch"),
        (BreakEven(steps=math.inf, low=math.inf, high=math.inf), "never"),
        (BreakEven(steps=math.nan, low=math.nan, high=math.nan), "cannot tell"),
        (BreakEven(steps=math.nan, low=1234.0, high=math.inf), "cannot tell; not before 1,200 steps"),
        (BreakEven(steps=1234.0, low=1111.0, high=1387.0), "1,200 steps (1,100–1,400)"),
        (BreakEven(steps=0.0, low=0.0, high=0.0), "at once"),
    ],
)  # fmt: skip
def test_values_are_scaled_and_rounded_to_what_they_support(cell: Any, words: str) -> None:
    assert _words.words(cell) == words


def test_a_case_that_never_settled_says_so() -> None:
    unsettled = Caution(code="no steady state", message="it never settled", remedy="close what else runs")
    found = judge([-0.5, -0.5], 0.03, "lower", [unsettled])
    assert _words.words(Change(judgement=found)) == "unsure, no steady state"


@pytest.mark.parametrize("width", [40, 80, 100, 160])
def test_a_terminal_report_fits_its_width(document: Document, width: int) -> None:
    lines = terminal.render(replace(document, sections=document.sections[:3]), width=width, color=False).splitlines()
    assert max(map(cell_len, lines)) <= width


def test_verdicts_are_readable_without_colours_and_coloured_where_there_are_some(document: Document) -> None:
    plain, coloured = (terminal.render(document, width=120, color=color) for color in (False, True))
    assert "\x1b" not in plain
    assert "✓ 1." in plain
    assert "\x1b[1;32m✓ 1." in coloured


@pytest.mark.parametrize(
    ("asked", "compiled", "actual", "is_so"),
    [
        ("formula", "none", "formula", True),
        ("sdpa", "none", "sdpa_flash", True),
        ("sdpa", "none", "formula", False),
        ("sdpa_math", "default", "formula", True),
        ("sdpa_flash", "none", "sdpa_math", False),
        ("sdpa_flash", "default", "formula", False),
        ("formula", "none", "sdpa_flash", False),
        ("own.py:attention", "none", "sdpa_flash", True),
    ],
)
def test_a_kernel_that_was_not_asked_for_is_shown_as_such(asked: str, compiled: str, actual: str, is_so: bool) -> None:
    assert is_as_asked(Variant(name="v", attention=asked, compile=compiled), actual) == is_so


# What programs read.


def test_json_keeps_its_contract(document: Document, run: Run) -> None:
    found = json.loads(json_format.render(document))
    assert found["format"] == 1
    assert {"id", "suite", "question", "status", "seconds"} <= found["run"].keys()
    assert [case["case"] for case in found["cases"]] == [case.id for case in run.suite.cases]
    keys = {"case", "block", "workload", "variant", "outcome", "reason", "metrics"}
    assert all(keys <= case.keys() for case in found["cases"])
    assert found["cases"][0]["metrics"]["step_seconds"].keys() == {"center", "low", "high", "n", "unit"}
    keys = {"block", "baseline", "candidate", "metric", "ratio", "low", "high", "confidence", "verdict", "detectable",
            "launches", "warnings"}  # fmt: skip
    assert all(keys <= comparison.keys() for comparison in found["comparisons"])
    assert found["cases"][0]["metrics"]["held_out_loss"]["low"] is None


def test_csv_is_read_back_by_pandas(document: Document, run: Run) -> None:
    found = pd.read_csv(StringIO(csv.render(document)))
    steps = found[found["metric"] == "step_seconds"].set_index("case")
    result = document.results[0]
    for comparison in result.comparisons:
        if comparison.metric == "step_seconds":
            assert steps.loc[comparison.case, "ratio"] == pytest.approx(comparison.judgement.ratio)
    assert set(found["case"]) == {case.id for case in run.suite.cases}
    assert found.loc[found["outcome"] == "unavailable", "reason"].tolist() == ["bf16 needs a CPU with AVX512"]


# Strings from outside.


class Elements(HTMLParser):
    """Collects what a browser would see: elements, attributes, and text outside scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.links: list[str] = []
        self.open = ""
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append(tag)
        self.open = tag
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action")]
        assert not [name for name, _ in attrs if name.startswith("on")]

    def handle_endtag(self, tag: str) -> None:
        self.open = ""

    def handle_data(self, data: str) -> None:
        self.text += data if self.open not in ("script", "style") else ""


@pytest.fixture(scope="module")
def hostile_document(tmp_path_factory: pytest.TempPathFactory) -> Document:
    return document_of(hostile(made_run(tmp_path_factory.mktemp("hostile"))))


def test_a_page_shows_hostile_strings_as_text(hostile_document: Document) -> None:
    page = html.render(hostile_document)
    elements = Elements(page)
    assert elements.found.count("script") == len(charts(hostile_document)) + 1
    assert elements.found.count("style") == 1
    assert "<script>alert(1)</script>" in elements.text
    assert "{{ 7 * 7 }}" in elements.text
    assert "\x1b" not in page


def test_a_page_loads_nothing(document: Document) -> None:
    page = html.render(document)
    elements = Elements(page)
    assert all(link.startswith("#") for link in elements.links)
    assert not {"link", "img", "iframe", "object", "base"} & set(elements.found)
    assert "default-src 'none'" in page
    assert "unsafe-eval" not in page


def test_every_picture_has_words(document: Document) -> None:
    page = html.render(document)
    kinds = {chart.kind for chart in charts(document)}
    assert kinds == {"intervals", "waterfall", "lines", "curves", "stacked", "treemap"}
    assert page.count('role="img" aria-label="') == len(charts(document))


def test_a_terminal_is_not_steered_by_hostile_strings(hostile_document: Document) -> None:
    assert "\x1b" not in terminal.render(hostile_document, width=200, color=False)


def test_markdown_shows_hostile_strings_as_text(hostile_document: Document) -> None:
    text = markdown.render(hostile_document).replace(r"\<", "")
    assert "<script" not in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert rows
    assert not [row for row in rows if re.search(r"(?<!\\)[`*\[]", row)]


def test_markdown_sets_no_name_in_bold() -> None:
    assert markdown.escape("__init__, step_seconds, _x") == r"\_\_init\_\_, step_seconds, \_x"


def test_json_and_csv_keep_hostile_strings_whole(hostile_document: Document) -> None:
    assert json.loads(json_format.render(hostile_document))["run"]["id"] == HOSTILE
    assert set(pd.read_csv(StringIO(csv.render(hostile_document)))["run"]) == {HOSTILE}


# A large run.

LARGE = """
import json, sys, time
from pathlib import Path
from harness.spec import Suite
from harness.store import Run
from reports.report import document_of
from harness import names

folder = Path(sys.argv[1])
suite, rest = (json.loads((folder / name).read_text()) for name in ("suite.json", "rest.json"))
run = Run(path=folder, suite=Suite.from_json(suite), **rest)
started = time.perf_counter()
text = names.find("format", sys.argv[2]).load()(document_of(run))
seconds = time.perf_counter() - started
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
print(json.dumps({"seconds": seconds, "bytes": int(status["VmHWM"].split()[0]) * 1024}))  # ru_maxrss has the parent's
"""


@pytest.fixture(scope="module")
def large_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a run of a million rows."""
    folder = tmp_path_factory.mktemp("large")
    suite = made_suite(lengths=(32, 64, 128, 256), launches=8)
    run = made_run(folder, suite)
    rows = run.samples()
    steps = rows[rows["metric"] == "step_seconds"]
    repeated = pd.concat([steps] * (1_000_000 // len(steps) + 1), ignore_index=True)
    repeated["step"] = range(len(repeated))
    repeated["round"] = repeated["round"] + 6 * (repeated["step"] % 50)
    pd.concat([rows[rows["metric"] != "step_seconds"], repeated]).to_parquet(folder / "samples.parquet")
    (folder / "suite.json").write_text(json.dumps(suite.to_json()))
    rest: dict[str, Any] = {"id": run.id, "meta": run.meta, "environments": run.environments, "outcomes": run.outcomes}
    (folder / "rest.json").write_text(json.dumps(rest))
    return folder


@pytest.mark.parametrize("name", ["terminal", "html"])
def test_a_million_rows_are_reported_in_seconds_and_a_gigabyte(name: str, large_run: Path) -> None:
    command = [sys.executable, "-c", LARGE, str(large_run), name]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert found["seconds"] < 15  # on an idle machine 5 at most; a busy one may take longer
    assert found["bytes"] < 2**30


# Charts.


@pytest.mark.parametrize("values", [[1.0], [5.0, 3.0, 1.0], [1 / (n + 1) for n in range(30)], [1.0, 1e-9]])
def test_a_treemaps_areas_are_in_proportion_and_fill_the_place(values: list[float]) -> None:
    found = squarified(values, Rectangle(x=0.0, y=0.0, width=60.0, height=20.0))
    areas = [one.width * one.height for one in found]
    assert areas == pytest.approx([1200 * value / sum(values) for value in values])
    assert all(one.x >= 0 and one.y >= 0 for one in found)
    assert max(one.x + one.width for one in found) == pytest.approx(60)
    assert max(one.y + one.height for one in found) == pytest.approx(20)


@pytest.mark.parametrize(
    ("operator", "kind"),
    [
        ("aten::addmm", "matrix products"),
        ("aten::_scaled_dot_product_flash_attention", "attention"),
        ("Optimizer.step#AdamW.step", "optimizer"),
        ("triton_poi_fused_add_0", "generated"),
        ("CompiledFxGraph (fused kernels)", "generated"),
        ("aten::copy_", "copies"),
        ("aten::native_layer_norm", "norm and softmax"),
        ("aten::add", "other"),
    ],
)
def test_operators_are_told_apart_by_name(operator: str, kind: str) -> None:
    assert family(operator) == kind


def test_the_ladder_over_all_workloads_is_of_those_measured_to_the_end(tmp_path: Path) -> None:
    run = made_run(tmp_path, made_suite(lengths=(32, 64, 128)))
    whole = next(chart for chart in charts(document_of(run, ["comparison"])) if "over" in chart.title)
    assert whole.title == "The ladder over 2 of 3 workloads"
    assert [mark.at for mark in whole.marks] == ["v1", "+sdpa", "+compile", "+fused", "+bf16", "all together"]
    assert [mark.value for mark in whole.marks[:5]] == pytest.approx([1.0, 0.8, 0.62, 0.61, 0.7], rel=0.02)
    assert [mark.series for mark in whole.marks[1:3]] == ["better", "better"]


def test_what_was_measured_counts_where_the_run_ended_before_the_rest(tmp_path: Path) -> None:
    run = made_run(tmp_path, made_suite(lengths=(32, 64, 128)), fails=False)
    rest = {case.id for case in run.suite.blocks[-1].cases}
    samples = run.samples().astype({"case": str, "metric": str})
    samples[~samples["case"].isin(rest)].to_parquet(tmp_path / "samples.parquet")
    outcomes = [item | {"status": "interrupted"} if item["case"] in rest else item for item in run.outcomes]
    for item in (replace(run, outcomes=outcomes), run):  # it never wrote down how it ended
        found = terminal.render(document_of(item, ["comparison"]), width=200, color=False)
        assert "Over 2 of 3 workloads: +fused is" in found
        assert "5 of 15 cases have no figures" in found


def test_runs_that_share_no_measured_case_are_compared_in_a_sentence(run: Run) -> None:
    other = replace(run, id="other", outcomes=[item | {"status": "error"} for item in run.outcomes])
    for name in ("terminal", "markdown", "html"):
        assert "nothing was measured in both" in render(name, comparison_of(run, other))


def test_a_column_of_errors_shows_the_smallest_too() -> None:
    errors = [Quantity(estimate=estimate([value]), unit="1") for value in (3e-7, 8e-3, 8e-3)]
    made = Table(title="t", columns=("error",), rows=tuple((error,) for error in errors))
    (scale,) = _words.columns(made)[1]
    assert [_words.words(error, scale) for error in errors] == ["3.0e-07", "8.0e-03", "8.0e-03"]


@pytest.mark.parametrize(("patience", "title"), [(0, "losses after 8 steps"), (3, "losses after up to 8 steps")])
def test_losses_are_of_the_steps_that_were_trained(patience: int, title: str, tmp_path: Path) -> None:
    suite = made_suite(lengths=(64,))
    (block,) = suite.blocks
    recipe = replace(block.workload.recipe, patience=patience, score_every=5 if patience else 0)
    blocks = (replace(block, workload=replace(block.workload, recipe=recipe)),)
    found = document_of(made_run(tmp_path, replace(suite, blocks=blocks)), ["correctness"])
    assert tables(found)[0].title.endswith(title)


def test_models_of_other_settings_have_lengths_of_their_own(tmp_path: Path) -> None:
    suite = made_suite(lengths=(32, 64))
    wide = [
        replace(block, name=f"{block.name} dim=256", workload=replace(block.workload, settings={"dim": 256}))
        for block in suite.blocks
    ]
    run = made_run(tmp_path, replace(suite, blocks=(*suite.blocks, *wide)))
    found = [chart for chart in charts(document_of(run, ["length"])) if chart.title.startswith("Throughput")]
    assert [chart.title for chart in found] == [
        f"Throughput over length: gpt tiny fp32{mark}" for mark in ("", " dim=256")
    ]
    assert all({mark.at for mark in chart.marks} == {32.0, 64.0} for chart in found)


def test_every_chart_is_a_table_too(document: Document) -> None:
    for chart in charts(document):
        table = _vega.data(chart)
        assert len(table.rows) == len(chart.marks)
        assert len(table.columns) >= 2


def test_places_are_drawn_in_the_unit_that_the_axis_names(tmp_path: Path) -> None:
    found = charts(document_of(made_machine(tmp_path), ["hardware"]))
    drawn = _vega.specification(next(chart for chart in found if chart.title.startswith("Memory bandwidth")))
    assert [row["at"] for row in drawn["data"]["values"]] == [1.0, 256.0]
    assert "working set, MiB" in json.dumps(drawn)
    assert "calculate" not in json.dumps(drawn)  # done twice, it would be off by the unit


def test_traces_are_linked_from_where_the_report_lies(run: Run, tmp_path: Path) -> None:
    trace = tmp_path / "runs/made/traces" / run.suite.cases[0].id / "cpu.1.pt.trace.json"
    trace.parent.mkdir(parents=True)
    trace.write_text("{}")
    shutil.copy(run.path / "samples.parquet", tmp_path / "runs/made/samples.parquet")
    document = document_of(replace(run, path=tmp_path / "runs/made"), ["operators"])
    page = html.render(replace(document, place=tmp_path / "reports"))
    assert any(link.startswith("../runs/made/traces/gpt-tiny-b4-l64--v1") for link in Elements(page).links)


def test_environments_are_told_in_whole(document: Document) -> None:
    (section,) = [section for section in document.sections if section.title == "Environments"]
    (table,) = section.items
    assert isinstance(table, Table)
    assert table.columns == ("what", "current")
    assert ("calibration gemm", "0.01") in table.rows
