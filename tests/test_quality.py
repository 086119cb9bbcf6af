"""Quality over seeds: differences, learning curves, time to quality, blocks side by side; on made-up runs."""

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from made_run import RUNGS, compared, made_gate, made_run

from harness.changes import level_changes
from harness.compare import Comparison, against_baselines
from harness.figures import figures
from harness.gate import ruling
from harness.looks import decide
from harness.metrics import METRICS
from harness.policy import Policy
from harness.ratios import Ratios
from harness.spec import Block, Suite, Variant, Workload
from harness.stats import Caution, judge, judge_unpaired
from harness.store import COLUMNS, Run
from reports.document import Change, Chart, Quantity, Table
from reports.formats import _vega, _words, csv, html, terminal
from reports.formats import json as json_format
from reports.frame import frame_of
from reports.report import comparison_of, document_of
from reports.views._quality import standing
from reports.views.families import front, target_of

STEPS = 40
SEEDS = 5
VARIANTS = {"v1": 0.970, "+sdpa": 0.971, "+bf16": 0.930}  # and the accuracy that each ends with
FAMILIES = {"bert": (0.95, 3e6, 0.97), "gpt": (0.90, 2e6, 1.00), "llama": (0.89, 4e6, 0.91)}


def aimed(workload: Workload, target: str) -> Workload:
    """Return the workload with a target in its recipe."""
    return replace(workload, recipe=replace(workload.recipe, target=target))


def work(model: str = "bert") -> Workload:
    return Workload(task="finetuning/text_classification", model=model, size="tiny", batch=4, length=64)


def suite_of(*blocks: Block) -> Suite:
    question = "Is a faster way as good?"
    return Suite(
        name="scored", question=question, blocks=blocks, launches=SEEDS, rounds=4, quality_steps=STEPS, seeds=SEEDS
    )


def ladder(workload: Workload) -> Suite:
    return suite_of(Block(workload=workload, variants=tuple(Variant(name=name, **RUNGS[name][0]) for name in VARIANTS)))


def scored(
    run: Run, ends: Mapping[str, float], more: Mapping[str, Mapping[str, float]] | None = None, *, seeds: int = SEEDS
) -> Run:
    """Add to a run's rows, for each case id, the accuracy every 10 steps up to its end, and `more` figures."""
    draw = np.random.default_rng(3)
    luck = draw.normal(0, 0.01, seeds)  # of a seed, the same for all
    rows = []
    for case, end in ends.items():
        for launch in range(1, seeds + 1):
            final = end + luck[launch - 1] + draw.normal(0, 0.001)
            scores = {step: final * (1 - math.exp(-step / 8)) for step in range(10, STEPS + 1, 10)}
            rows += [(case, launch, 0, 0, step, "accuracy", score) for step, score in scores.items()]
            rows.append((case, launch, 0, 0, 0, "accuracy", rows[-1][-1]))
            rows += [(case, launch, 0, 0, 0, name, value) for name, value in ((more or {}).get(case, {})).items()]
    known = run.samples().astype({"case": str, "metric": str})
    known = known[known["metric"] != "held_out_loss"]
    pd.concat([pd.DataFrame(rows, columns=list(COLUMNS)), known]).to_parquet(run.path / "samples.parquet")
    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    suite = ladder(aimed(work(), "accuracy:0.95"))
    made = made_run(tmp_path_factory.mktemp("scored"), suite, fails=False)
    return scored(made, {case.id: VARIANTS[case.variant.name] for case in suite.cases})


@pytest.fixture(scope="module")
def families(tmp_path_factory: pytest.TempPathFactory) -> Run:
    suite = suite_of(*(Block(workload=work(model), variants=(Variant(name="v1"),)) for model in FAMILIES))
    made = made_run(tmp_path_factory.mktemp("families"), suite, fails=False)
    figures_of = dict(zip((case.id for case in suite.cases), FAMILIES.values(), strict=True))
    more = {
        case: {"parameters": size, "train_accuracy": train, "held_out_loss": 0.4, "train_loss": 0.3}
        for case, (_, size, train) in figures_of.items()
    }
    return scored(made, {case: found[0] for case, found in figures_of.items()}, more)


def find(found: list[Comparison], candidate: str, metric: str) -> Comparison:
    return next(item for item in found if (item.candidate, item.metric) == (candidate, metric))


# Differences.


def test_shares_are_compared_by_their_difference_in_points() -> None:
    effects = [0.012, 0.016, 0.018, 0.02]
    found = judge(effects, 0.01, "higher", scale="difference")
    low, high = scipy.stats.t.interval(0.95, 3, np.mean(effects), scipy.stats.sem(effects))
    assert (found.difference, found.low, found.high) == pytest.approx((np.mean(effects), low, high))
    assert (found.verdict, math.isnan(found.ratio)) == ("better", True)
    assert judge(effects, 0.01, "lower", scale="difference").verdict == "worse"
    assert judge([0.001, 0.002, 0.0], 0.01, "higher", scale="difference").verdict == "same"
    assert judge([0.0, 0.03, 0.01], 0.01, "higher", scale="difference").needed


def test_two_sessions_of_shares_are_judged_by_welchs_t_on_the_shares() -> None:
    base, candidate = [0.0, 0.01, 0.02], [0.10, 0.11, 0.13]
    found = judge_unpaired(base, candidate, 0.01, "higher", scale="difference")
    test = scipy.stats.ttest_ind(candidate, base, equal_var=False).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((test.low, test.high))


def test_every_metric_that_is_compared_by_difference_is_a_share_or_is_not_compared() -> None:
    assert {metric.name for metric in METRICS.values() if metric.scale == "difference" and metric.margin} == {
        "accuracy", "f1", "matthews_correlation", "character_error_rate", "train_accuracy", "mfu",
    }  # fmt: skip
    assert all(metric.unit == "share" for metric in METRICS.values() if metric.scale == "difference" and metric.margin)


def test_an_accuracy_of_zero_has_a_verdict(run: Run, tmp_path: Path) -> None:
    rows = run.samples().astype({"case": str, "metric": str})
    rows.loc[rows["metric"] == "accuracy", "value"] = 0.0
    rows.to_parquet(tmp_path / "samples.parquet")
    judgement = find(against_baselines(figures(replace(run, path=tmp_path))), "+sdpa", "accuracy").judgement
    assert (judgement.verdict, judgement.difference) == ("same", 0.0)


def test_the_luck_of_a_seed_cancels(run: Run) -> None:
    found = against_baselines(figures(run))
    judgement = find(found, "+bf16", "accuracy").judgement
    assert judgement.low < VARIANTS["+bf16"] - VARIANTS["v1"] < judgement.high
    assert judgement.high - judgement.low < 0.01  # that of each by itself is five times as wide
    assert (judgement.verdict, find(found, "+sdpa", "accuracy").judgement.verdict) == ("worse", "same")


def test_two_runs_compare_shares_by_difference(run: Run) -> None:
    found = compared(run, run)
    judgements = {item.judgement.difference for item in found.comparisons if item.metric == "accuracy"}
    assert judgements == {0.0}
    assert "accuracy" in terminal.render(comparison_of(run, run), width=200, color=False)


def test_the_running_ratios_leave_out_learning_curves(run: Run) -> None:
    (block,) = run.suite.blocks
    base, other = block.cases[:2]
    ratios = Ratios(block)
    ratios.add(
        [(base.id, 1, 0, 0, 0, "accuracy", 0.0), (other.id, 1, 0, 0, 0, "accuracy", 0.5)]
        + [(case.id, 1, 0, 0, 10, "accuracy", 0.9) for case in (base, other)]
    )
    assert ratios.by_metric == {"accuracy": {other.id: {1: 0.5}}}


def test_the_gate_takes_one_point_from_any_accuracy() -> None:
    calm = [0.0001, -0.0001] * 5
    worse = [0.03 + value for value in calm]  # turned: above 0 is worse
    assert decide(worse, calm, 0.01, "difference").verdict == "fail"
    assert decide([0.005 + value for value in calm], calm, 0.01, "difference").verdict == "pass"
    assert decide(worse, calm, 0.01, "difference").bound == 0.01


def test_a_gate_says_points(tmp_path: Path) -> None:
    made = made_gate(tmp_path, Policy())
    made = replace(made, suite=replace(made.suite, quality_steps=STEPS, seeds=10))
    ends = {case.id: 0.90 if "candidate" in case.variant.name else 0.95 for case in made.suite.cases}
    found = ruling(figures(scored(made, ends, seeds=10)))
    assert found is not None
    verdicts = [item for item in found.verdicts if item.metric == "accuracy"]
    assert {item.verdict for item in verdicts} == {"fail"}
    assert all(item.difference == pytest.approx(-0.05, abs=0.002) and math.isnan(item.ratio) for item in verdicts)
    text = terminal.render(document_of(made, ["gate"]), width=250, color=False)
    assert re.search(r"✗ -[45]\.\d+ pp \(-", text)
    assert " 1 pp " in text


@pytest.mark.parametrize(
    ("effects", "better", "word"),
    [
        ([0.0, 0.001, -0.001], "higher", "as good"),
        ([0.03, 0.05, 0.0], "higher", "cannot tell"),
        ([0.03, 0.05, 0.02], "higher", "as good"),
        ([-0.03, -0.031, -0.029], "higher", "worse"),
        ([-0.03, -0.031, -0.029], "lower", "as good"),
        ([0.01], "higher", "cannot tell"),
    ],
)
def test_as_good_is_said_where_the_bad_end_is_within_the_margin(effects: list[float], better: str, word: str) -> None:
    metric = "accuracy" if better == "higher" else "character_error_rate"
    assert standing(judge(effects, 0.01, METRICS[metric].better, scale="difference"), metric) == word


@pytest.mark.parametrize(
    ("effects", "words"),
    [
        ([0.04, 0.042, 0.038], "+4.0 pp (+3.5 to +4.5)"),
        ([-0.04, -0.046, -0.034], "-4.0 pp (-5.5 to -2.5)"),
        ([0.0, 0.0], "same (0.00 pp)"),
        ([0.0, 0.03, 0.01], "unsure (-2.5 to +5.1 pp), about"),
        ([0.01], "unsure, one launch"),
    ],
)
def test_a_difference_is_written_in_points(effects: list[float], words: str) -> None:
    assert _words.words(Change(judgement=judge(effects, 0.01, "higher", scale="difference"))).startswith(words)


def test_programs_read_a_difference_and_no_ratio(run: Run) -> None:
    document = document_of(run)
    found = json.loads(json_format.render(document))["comparisons"]
    accuracy = next(item for item in found if item["metric"] == "accuracy")
    assert accuracy["ratio"] is None
    assert accuracy["low"] <= accuracy["difference"] <= accuracy["high"]
    assert all("difference" not in item for item in found if item["metric"] == "step_seconds")
    table = pd.read_csv(StringIO(csv.render(document)))
    row = table[(table["metric"] == "accuracy") & (table["variant"] == "+bf16")].iloc[0]
    assert (row["difference"], row["verdict"]) == (pytest.approx(-0.04, abs=0.004), "worse")
    assert math.isnan(row["ratio"])


def test_changes_of_a_share_over_runs_are_not_relative() -> None:
    found = level_changes([0.10, 0.11] * 5 + [0.20, 0.21] * 5, "difference")
    assert (found.at, found.is_ratio) == ((10,), False)


# Learning curves, and the time to quality.


def test_points_of_a_curve_are_no_figures(run: Run) -> None:
    found, case = figures(run), run.suite.cases[0]
    curve = found.curves[case.id]["accuracy"][1]
    assert [*curve] == [10, 20, 30, 40]
    assert found.of(case, "accuracy")[1] == curve[40] > curve[10]


def test_a_curve_ends_with_the_figure_where_training_ended(tmp_path: Path) -> None:
    suite = ladder(work())
    made = made_run(tmp_path, suite, fails=False)
    case = suite.cases[0]
    found = figures(scored(made, {case.id: 0.9}, {case.id: {"steps_trained": 37.0}}))
    assert found.curves[case.id]["accuracy"][1][37] == found.of(case, "accuracy")[1]


def test_time_to_quality_is_steps_times_step_time_paired_by_launch(run: Run) -> None:
    found, base = figures(run), run.suite.cases[0]
    steps, seconds = (found.of(base, name) for name in ("steps_to_quality", "time_to_quality_seconds"))
    curves = found.curves[base.id]["accuracy"]
    assert steps == {
        launch: min(at)
        for launch, curve in curves.items()
        if (at := [step for step, score in curve.items() if score >= 0.95])
    }
    assert seconds == {launch: count * found.of(base, "step_seconds")[launch] for launch, count in steps.items()}


def test_reached_by_all_it_has_a_verdict(tmp_path: Path) -> None:
    suite = ladder(aimed(work(), "accuracy:0.6"))
    made = made_run(tmp_path, suite, fails=False)
    found = figures(scored(made, {case.id: 0.97 for case in suite.cases}))
    (judgement,) = (
        item.judgement
        for item in against_baselines(found)
        if (item.candidate, item.metric) == ("+sdpa", "time_to_quality_seconds")
    )
    assert judgement.verdict == "better"
    assert judgement.ratio == pytest.approx(0.8, rel=0.02)


def test_a_target_that_some_launches_miss_gives_no_verdict_but_says_so(run: Run) -> None:
    judgement = find(against_baselines(figures(run)), "+bf16", "time_to_quality_seconds").judgement
    (caution,) = (item for item in judgement.warnings if item.code == "not reached")
    assert isinstance(caution, Caution)
    assert judgement.verdict == "unsure"
    assert "accuracy 0.95 was not reached" in caution.message
    assert "in 5 of 5 launches of +bf16" in caution.message
    text = terminal.render(document_of(run, ["comparison"]), width=300, color=False)
    assert "not reached in 5 of 5" in text
    assert "unsure, not reached" in text


def test_without_a_target_nothing_is_said_of_it(families: Run) -> None:
    assert all(item.metric != "time_to_quality_seconds" for item in against_baselines(figures(families)))
    assert not figures(families).of(families.suite.cases[0], "steps_to_quality")


# Reports.


def test_quality_in_a_report(run: Run, families: Run, golden: Callable[[str, str], None]) -> None:
    views = ["comparison", "families", "learning"]
    found = "".join(terminal.render(document_of(made, views), width=120, color=False) for made in (run, families))
    golden("quality.txt", found)


@pytest.mark.parametrize(("seeds", "said"), [(5, "its 95 % interval"), (2, "their range"), (1, "one seed, no band")])
def test_a_learning_curve_says_what_its_band_is(tmp_path: Path, seeds: int, said: str) -> None:
    suite = ladder(work())
    made = scored(made_run(tmp_path, suite, fails=False), {case.id: 0.9 for case in suite.cases}, seeds=seeds)
    (section,) = document_of(made, ["learning"]).sections
    charts = [item for item in section.items if isinstance(item, Chart)]
    assert [chart.at for chart in charts] == ["steps", "seconds of training"]
    assert all(said in chart.text for chart in charts)
    assert all((mark.low is None) == (seeds == 1) for chart in charts for mark in chart.marks)


def test_gaps_are_of_the_launchs_own_scores(families: Run) -> None:
    found, case = figures(families), families.suite.cases[0]
    assert found.of(case, "accuracy_gap")[1] == 0.97 - found.of(case, "accuracy")[1]
    assert found.of(case, "loss_gap")[1] == pytest.approx(0.1)


def test_blocks_of_one_task_stand_side_by_side_with_their_fronts(families: Run) -> None:
    (section,) = document_of(families, ["families"]).sections
    assert section.question.endswith("?")
    (table,) = (item for item in section.items if isinstance(item, Table))
    assert [row[0] for row in table.rows] == [block.name for block in families.suite.blocks]
    changes = [cell for row in table.rows for cell in row if isinstance(cell, Change)]
    assert [change.judgement.verdict for change in changes] == ["worse", "worse"]
    gaps = [cell for row in table.rows for cell in row if isinstance(cell, Quantity) and cell.unit == "points"]
    assert len(gaps) == 3
    charts = [item for item in section.items if isinstance(item, Chart)]
    assert [(chart.kind, chart.at) for chart in charts] == [("points", "throughput"), ("points", "memory")]


def test_blocks_with_targets_of_their_own_do_not_share_a_heading(families: Run) -> None:
    blocks = [
        replace(block, workload=replace(block.workload, recipe=replace(block.workload.recipe, target=target)))
        for block, target in zip(families.suite.blocks, ("accuracy:0.8", "accuracy:0.9", "accuracy:0.9"), strict=True)
    ]
    assert target_of(blocks) == "time to its own target"
    assert target_of(blocks[1:]) == "time to accuracy 0.9"


def test_on_a_front_no_other_is_preferable(families: Run) -> None:
    frame, cases = frame_of(families), families.suite.cases
    speed = "tokens_per_second"
    best = front(frame, cases, "accuracy", speed)
    fastest = max(cases, key=lambda case: frame.center(case, speed) or 0.0)
    assert cases[0] in best
    assert fastest in best
    assert front(frame, [cases[0], cases[0]], "accuracy", speed) == [cases[0], cases[0]]


def test_blocks_of_other_lengths_are_not_put_side_by_side(tmp_path: Path) -> None:
    blocks = (Block(workload=replace(work(), length=length), variants=(Variant(name="v1"),)) for length in (32, 64))
    suite = suite_of(*blocks)
    made = scored(made_run(tmp_path, suite, fails=False), {case.id: 0.9 for case in suite.cases})
    assert document_of(made, ["families"]).sections == ()


def test_bands_and_fronts_are_drawn(run: Run, families: Run) -> None:
    documents = [document_of(made, ["families", "learning"]) for made in (run, families)]
    sections = [section for document in documents for section in document.sections]
    charts = [item for section in sections for item in section.items if isinstance(item, Chart)]
    assert {chart.kind for chart in charts} == {"curves", "points"}
    marks = {chart.kind: {layer["mark"]["type"] for layer in _vega.specification(chart)["layer"]} for chart in charts}
    assert marks == {"curves": {"area", "line"}, "points": {"rule", "point", "text"}}
    page = "".join(map(html.render, documents))
    assert page.count('role="img" aria-label="') == len(charts)
    assert all(block.name in page for block in families.suite.blocks)
