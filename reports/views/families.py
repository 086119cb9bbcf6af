"""Which workload to choose: blocks of one task and data side by side, and the fronts of quality against cost."""

from collections.abc import Sequence

from harness import stats
from harness.compare import about, cautions, effects_of
from harness.metrics import METRICS
from harness.spec import Block, Case
from reports.document import Cell, Change, Chart, Mark, Note, Quantity, Section, Table, filled
from reports.frame import Frame
from reports.views._quality import heading, target_heading, time_to_target

ORDER = 12
FRONT, WORSE = "none better in both", "another is better in both"
COSTS = {  # what quality is weighed against
    "throughput": ("samples_per_second", "tokens_per_second"),
    "memory": ("memory_peak_bytes", "memory_allocated_peak_bytes", "memory_peak_maxrss_bytes"),
}
Pair = tuple[Block, Case]


def view(frame: Frame) -> Section:
    """Return a table and two charts for each task that several blocks do on the same data."""
    groups: dict[tuple[str, str, int], list[Pair]] = {}
    for block in frame.run.suite.blocks:
        work, case = block.workload, block.baseline_case
        if frame.figures.is_measured(case) and frame.figures.stated(case):
            groups.setdefault((work.task, work.data, work.length), []).append((block, case))
    items = [item for pairs in groups.values() if len(pairs) > 1 for item in side_by_side(frame, pairs)]
    return Section(
        title="Side by side", question="Which of them is best for the task, and at what cost?", items=tuple(items)
    )


def side_by_side(frame: Frame, pairs: Sequence[Pair]) -> list[Note | Table | Chart]:
    """Return who is on which front, a row a block, and a chart for each cost."""
    metric = frame.figures.stated(pairs[0][1])
    pairs = [pair for pair in pairs if metric and frame.figures.of(pair[1], metric)]
    if metric is None or len(pairs) < 2:
        return []
    cases = [case for _, case in pairs]
    costs = {name: found for name, metrics in COSTS.items() if (found := shared(frame, cases, metrics))}
    fronts = {name: front(frame, cases, metric, cost) for name, cost in costs.items()}
    answers = [
        Note(
            parts=(f"best {heading(metric)} for its {name}, by their means: {named(pairs, fronts[name])}",),
            kind="answer",
        )
        for name in costs
    ]
    charts = [pareto(frame, pairs, metric, name, cost, fronts[name]) for name, cost in costs.items()]
    return [*answers, table(frame, pairs, metric, costs, fronts), *charts]


def shared(frame: Frame, cases: Sequence[Case], metrics: Sequence[str]) -> str | None:
    """Return the first of `metrics` that all cases have."""
    return next((metric for metric in metrics if all(frame.figures.of(case, metric) for case in cases)), None)


def front(frame: Frame, cases: Sequence[Case], *metrics: str) -> list[Case]:
    """Return the cases to which no other is preferable: as good in all metrics, and better in one."""
    signs = [1 if METRICS[metric].better == "higher" else -1 for metric in metrics]
    ranks = [
        [sign * (frame.center(case, metric) or 0.0) for sign, metric in zip(signs, metrics, strict=True)]
        for case in cases
    ]
    return [case for case, own in zip(cases, ranks, strict=True) if not any(is_beyond(other, own) for other in ranks)]


def is_beyond(other: Sequence[float], own: Sequence[float]) -> bool:
    """Tell whether one is at least as high in everything, and higher in something."""
    return other != own and all(theirs >= mine for theirs, mine in zip(other, own, strict=True))


def named(pairs: Sequence[Pair], cases: Sequence[Case]) -> str:
    """Return the names of the blocks of cases."""
    return ", ".join(block.name for block, case in pairs if case in cases)


def table(
    frame: Frame, pairs: Sequence[Pair], metric: str, costs: dict[str, str], fronts: dict[str, list[Case]]
) -> Table:
    """Return a row a block: its baseline's size, cost and quality."""
    (first, base), name = pairs[0], heading(metric)
    columns = (
        "block", "trained parameters", *costs, name, f"{name} against {first.name}", "accuracy gap", "loss gap",
        target_of([block for block, _ in pairs]), "best for its",
    )  # fmt: skip
    rows = tuple(
        (
            block.name,
            frame.quantity(case, "parameters"),
            *(frame.quantity(case, cost) for cost in costs.values()),
            frame.quantity(case, metric),
            None if case == base else against(frame, base, case, metric),
            gap(frame, case),
            frame.quantity(case, "loss_gap"),
            time_to_target(frame, case),
            ", ".join(cost for cost in costs if case in fronts[cost]) or None,
        )
        for block, case in pairs
    )
    title = f"{first.workload.task} on {first.workload.data}: the baseline of each block"
    return filled(Table(title=title, columns=columns, rows=rows, hardware=frame.hardware(*(case for _, case in pairs))))


def target_of(blocks: Sequence[Block]) -> str:
    """Return what the time to the target is called, where each block may have its own."""
    headings = {target_heading(block.workload) for block in blocks}
    return headings.pop() if len(headings) == 1 else "time to its own target"


def against(frame: Frame, base: Case, case: Case, metric: str) -> Cell:
    """Return a case's score against the first block's, paired by seed."""
    found = frame.figures
    effects, row = effects_of(base, case, metric, found), METRICS[metric]
    warnings = about(metric, cautions(found, base, case))
    return Change(judgement=stats.judge([*effects.values()], row.margin, row.better, warnings, row.scale))


def gap(frame: Frame, case: Case) -> Quantity | None:
    """Return by how many percentage points a model is better at what it was trained on."""
    found = frame.quantity(case, "accuracy_gap")
    return Quantity(estimate=found.estimate, unit="points") if found else None


def pareto(frame: Frame, pairs: Sequence[Pair], metric: str, name: str, cost: str, best: Sequence[Case]) -> Chart:
    """Return the chart of quality against a cost."""
    marks = []
    for block, case in sorted(pairs, key=lambda pair: pair[1] not in best):
        score, spent = (stats.estimate(frame.figures.of(case, item).values()) for item in (metric, cost))
        low, high = (score.low, score.high) if score.has_interval else (None, None)
        at_low, at_high = (spent.low, spent.high) if spent.has_interval else (None, None)
        series = FRONT if case in best else WORSE
        marks.append(
            Mark(
                at=spent.center, value=score.center, series=series, name=block.name, low=low, high=high,
                at_low=at_low, at_high=at_high,
            )
        )  # fmt: skip
    task = pairs[0][0].workload.task
    return Chart(
        kind="points",
        title=f"{heading(metric)[0].upper()}{heading(metric)[1:]} against {name}: {task}",
        text=f"{heading(metric)} of each block's baseline against its {name}, with 95 % intervals both ways",
        at=name,
        at_unit=METRICS[cost].unit,
        value=heading(metric),
        unit=METRICS[metric].unit,
        marks=tuple(marks),
        hardware=frame.hardware(*(case for _, case in pairs)),
    )
