import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from made_run import RUNGS, compared, made_run, made_suite

from harness.compare import (
    BreakEven,
    Comparison,
    against_baselines,
    break_even,
    is_ladder,
    overall,
    rungs,
    within_interpreters,
)
from harness.errors import UserError
from harness.figures import figures
from harness.spec import Block, Suite, Variant, Workload
from harness.stats import UNSETTLED, judge
from harness.store import COLUMNS, Run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return made_run(tmp_path_factory.mktemp("run"))


def compare(run: Run) -> list[Comparison]:
    return against_baselines(figures(run))


def find(comparisons: list[Comparison], candidate: str, metric: str = "step_seconds") -> Comparison:
    return next(item for item in comparisons if (item.candidate, item.metric) == (candidate, metric))


def with_rows(run: Run, path: Path, change: Any) -> Run:
    """Return the run with its rows changed."""
    path.mkdir()
    change(run.samples().astype({"case": str, "metric": str})).to_parquet(path / "samples.parquet")
    return replace(run, path=path)


def with_outcome(run: Run, name: str, **changes: Any) -> Run:
    """Return the run with the outcomes of one variant changed."""
    cases = {case.id for case in run.suite.cases if case.variant.name == name}
    return replace(run, outcomes=[item | changes if item["case"] in cases else item for item in run.outcomes])


def test_each_variant_is_compared_with_its_blocks_baseline(run: Run) -> None:
    found = compare(run)
    assert {item.baseline for item in found} == {"v1"}
    assert {item.block for item in found} == {block.name for block in run.suite.blocks}
    for name, (_, speed, memory, _) in list(RUNGS.items())[1:]:
        judgement = find(found, name).judgement
        assert judgement.low < speed < judgement.high
        assert (judgement.verdict, judgement.launches) == ("better", 5)
        assert find(found, name, "memory_peak_bytes").judgement.ratio == pytest.approx(memory, rel=1e-3)


def test_a_failed_case_is_not_compared(run: Run) -> None:
    last = run.suite.cases[-1]
    assert last.id not in {item.case for item in compare(run)}
    assert "+sdpa" not in {
        item.candidate for item in compare(with_outcome(run, "+sdpa", status="wrong", reason="loss"))
    }
    assert compare(with_outcome(run, "v1", status="oom", reason="memory")) == []


def test_a_case_that_never_settled_gets_no_verdict(run: Run) -> None:
    warning = {"code": UNSETTLED, "message": "its step time never settled", "remedy": "close what else runs"}
    found = compare(with_outcome(run, "+sdpa", warnings=[warning]))
    assert find(found, "+sdpa").judgement.verdict == "unsure"
    assert find(found, "+compile").judgement.verdict == "better"


def test_what_was_measured_in_one_launch_gets_no_verdict(run: Run) -> None:
    judgement = find(compare(run), "+bf16", "held_out_loss").judgement
    assert (judgement.verdict, [warning.code for warning in judgement.warnings]) == ("unsure", ["one launch"])


def test_counts_are_compared_where_both_compile(run: Run) -> None:
    block = run.suite.blocks[0]
    suite = replace(run.suite, blocks=(replace(block, baseline="+compile"),))
    assert find(compare(replace(run, suite=suite)), "+fused", "graphs").judgement.verdict == "same"
    assert all(item.metric != "graphs" for item in compare(run))


def test_a_drift_that_hits_both_sides_of_a_round_cancels(run: Run, tmp_path: Path) -> None:
    def drift(rows: pd.DataFrame) -> pd.DataFrame:
        is_step = rows["metric"] == "step_seconds"
        factor = (1 + rows["round"]) ** is_step.astype(float)
        return rows.assign(value=rows["value"] * factor)

    found = compare(with_rows(run, tmp_path / "drift", drift))
    judgements = [(item.judgement.ratio, item.judgement.low) for item in found if item.metric == "step_seconds"]
    still = [(item.judgement.ratio, item.judgement.low) for item in compare(run) if item.metric == "step_seconds"]
    for moved, stood in zip(judgements, still, strict=True):
        assert moved == pytest.approx(stood)


def test_figures_are_medians_over_rounds_of_medians_over_steps(tmp_path: Path) -> None:
    suite = Suite(
        name="one",
        question="?",
        blocks=(Block(workload=Workload(task="t", model="m"), variants=(Variant(name="v1"),)),),
    )
    case = suite.cases[0]
    steps = {1: [1.0, 2.0, 90.0], 2: [4.0, 4.0], 3: [3.0]}
    rows = [(case.id, 1, turn, turn, step, "step_seconds", value)
            for turn, values in steps.items() for step, value in enumerate(values)]  # fmt: skip
    rows += [(case.id, 1, 0, 0, 0, "step_seconds", 1000.0), (case.id, 1, 0, 0, 0, "tokens", 12.0)]
    rows += [(case.id, 1, 0, 0, step, "training_loss", loss) for step, loss in enumerate([5.0, 4.0, 3.5])]
    rows += [(case.id, 1, 0, 0, 0, "held_out_loss", value) for value in (1.0, math.nan)]
    pd.DataFrame(rows, columns=list(COLUMNS)).to_parquet(tmp_path / "samples.parquet")
    run = Run(path=tmp_path, id="one", meta={}, suite=suite, environments={}, outcomes=[])
    found = figures(run)
    assert found.rounds[case.id] == {1: {1: 2.0, 2: 4.0, 3: 3.0}}
    assert found.of(case, "step_seconds") == {1: 3.0}
    assert found.of(case, "step_p90_seconds") == {
        1: pytest.approx(pd.Series([value for turn in steps.values() for value in turn]).quantile(0.9))
    }
    assert found.of(case, "tokens_per_second") == {1: 4.0}  # the work of a step over its time
    assert found.of(case, "training_loss") == {1: 3.5}
    assert found.losses[case.id] == {0: 5.0, 1: 4.0, 2: 3.5}
    assert math.isnan(found.of(case, "held_out_loss")[1])  # a NaN is not left out
    assert not found.of(case, "samples_per_second")


def test_the_ladder_says_what_each_rung_gave(run: Run) -> None:
    steps = [(item.baseline, item.candidate) for item in rungs(figures(run)) if item.block == run.suite.blocks[0].name]
    assert steps == [("v1", "+sdpa"), ("+sdpa", "+compile"), ("+compile", "+fused"), ("+fused", "+bf16")]


def test_a_failed_rung_is_stepped_over(run: Run) -> None:
    broken = figures(with_outcome(run, "+compile", status="error", reason="no compiler"))
    assert ("+sdpa", "+fused") in {(item.baseline, item.candidate) for item in rungs(broken)}


def test_where_interpreters_differ_each_is_compared_within_too(tmp_path: Path) -> None:
    suite = made_suite((64,))
    [block] = suite.blocks
    labels = ("old", "new", "new", "old", "current")  # of v1, +sdpa, +compile, +fused and +bf16
    variants = [replace(item, torch=label) for item, label in zip(block.variants, labels, strict=True)]
    block = replace(block, variants=variants)
    found = within_interpreters(block, figures(made_run(tmp_path, replace(suite, blocks=[block]))))
    assert [(item.baseline, item.candidate) for item in found] == [("+sdpa", "+compile")]
    assert found[0].judgement.verdict == "better"


def test_variants_of_one_axis_are_no_ladder() -> None:
    workload = Workload(task="t", model="m")
    names = ("formula", "sdpa", "flex")
    axis = Block(workload=workload, variants=tuple(Variant(name=name, attention=name) for name in names))
    assert not is_ladder(axis)
    assert not is_ladder(replace(axis, variants=axis.variants[:2]))
    assert is_ladder(made_suite().blocks[0])


def test_the_mean_over_workloads_shows_in_how_many_of_them_a_variant_was_measured(run: Run) -> None:
    found = {item.candidate: item for item in overall(figures(run))}
    assert (found["+bf16"].measured, found["+bf16"].blocks) == (1, 2)
    assert (found["+sdpa"].measured, found["+sdpa"].blocks) == (2, 2)
    assert found["+sdpa"].judgement.ratio == pytest.approx(0.80, rel=0.02)


FASTER = judge([-0.5, -0.51, -0.49, -0.5], 0.03, "lower")


def test_compiling_has_paid_when_the_steps_saved_make_up_for_the_first() -> None:
    found = break_even(10.0, 0.1, FASTER)
    assert found.steps == pytest.approx(10.0 / (0.1 * (1 - math.exp(-0.5))))
    assert found.low < found.steps < found.high


@pytest.mark.parametrize(
    ("extra", "log_ratios", "steps", "low"),
    [
        (10.0, [0.5, 0.51, 0.49], math.inf, math.inf),
        (-1.0, [-0.5, -0.51, -0.49], 0.0, 0.0),
        (10.0, [-0.2, 0.2, 0.1], math.nan, 260.7),
        (10.0, [-0.5], math.nan, math.nan),
        (math.nan, [-0.5, -0.51, -0.49], math.nan, math.nan),
    ],
)
def test_compiling_pays_never_at_once_or_nobody_can_tell(
    extra: float, log_ratios: list[float], steps: float, low: float
) -> None:
    found = break_even(extra, 0.1, judge(log_ratios, 0.03, "lower"))
    assert found == BreakEven(
        steps=pytest.approx(steps, nan_ok=True), low=pytest.approx(low, rel=1e-3, nan_ok=True), high=found.high
    )


def test_a_run_against_itself_is_the_same(run: Run) -> None:
    found = compared(run, run)
    assert found.differences == ()
    assert {item.judgement.verdict for item in found.comparisons if item.metric == "memory_peak_bytes"} == {"same"}
    assert "two sessions" in {warning.code for item in found.comparisons for warning in item.judgement.warnings}


def test_a_slower_run_is_worse(run: Run, tmp_path: Path) -> None:
    slower = made_run(tmp_path, run.suite, slower=1.3, seed=1, name="slower")
    found = compared(run, slower)
    judgements = [item.judgement for item in found.comparisons if item.metric == "step_seconds"]
    assert {judgement.verdict for judgement in judgements} == {"worse"}
    assert [judgement.ratio for judgement in judgements] == pytest.approx([1.3] * len(judgements), rel=0.03)
    assert {(item.baseline, item.candidate) for item in found.comparisons} == {("made-run", "slower")}


def changed_environment(run: Run, **changes: Any) -> Run:
    return replace(run, environments={"current": run.environments["current"] | changes})


def with_fact(run: Run, **facts: Any) -> Run:
    workload = [case.id for case in run.suite.blocks[0].cases]
    changed = [o | {"facts": o["facts"] | facts} if o["case"] in workload else o for o in run.outcomes]
    return replace(run, outcomes=changed)


def test_runs_that_are_unlike_are_not_compared_and_the_fields_are_named(run: Run) -> None:
    unlike = {
        ("suite: name",): replace(run, suite=replace(run.suite, name="other")),
        ("suite: quality_steps",): replace(run, suite=replace(run.suite, quality_steps=9)),
        ("data stdlib: sha256",): replace(run, meta=run.meta | {"data": {"stdlib": {"sha256": "b" * 64}}}),
        (f"{run.suite.blocks[0].name}: initial weights",): with_fact(run, weights_sha256="c" * 64),
        ("current: cores", "current: fingerprint"): changed_environment(run, cores=4, fingerprint="f1"),
        ("current: calibration gemm",): changed_environment(run, calibration={"gemm": 0.0106}),
    }
    for fields, other in unlike.items():
        found = compared(run, other)
        assert (tuple(item.field for item in found.differences), found.comparisons) == (fields, ())


def test_a_fact_that_is_not_in_the_fingerprint_does_not_matter(run: Run) -> None:
    assert compared(run, changed_environment(run, system="another kernel")).differences == ()


def test_a_probe_within_5_percent_is_the_same_machine(run: Run) -> None:
    assert compared(run, changed_environment(run, calibration={"gemm": 0.0104})).differences == ()


@pytest.mark.parametrize("calibration", [{}, {"gemm": "nan"}])
def test_a_probe_that_is_missing_is_a_difference(run: Run, calibration: dict[str, Any]) -> None:
    assert compared(run, changed_environment(run, calibration=calibration)).differences


def test_runs_without_a_common_case_are_a_mistake(run: Run, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="share no case"):
        compared(run, made_run(tmp_path, made_suite(lengths=(32,))))
