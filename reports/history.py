"""History as a report: how often a metric changed, when last and by how much, and every run."""

import math
from collections.abc import Iterator
from dataclasses import replace

from harness.compare import Comparison
from harness.history import History, Point, Series, Shift, fewest
from harness.stats import Estimate
from reports.document import Cell, Change, Chart, Document, Mark, Note, Quantity, Result, Section, Status, Table, filled
from reports.frame import Frame, result_of


def document_of(found: History) -> Document:
    """Return the report on a history."""
    question = f"When did {found.metric.name} of {found.case} change?"
    items: tuple[Note | Table | Chart, ...] = (
        *(Note(parts=answer(found, series), kind="answer") for series in found.series),
        *warnings(found),
        *changes(found),
        *chart(found),
        table(found),
    )
    return Document(
        title=f"{found.metric.name} of {found.case}",
        question=question,
        sections=(Section(title="History", question=question, items=items),),
        results=tuple(result(found, point) for point in found.points),
    )


def answer(found: History, series: Series) -> tuple[Cell, ...]:
    """Return the sentence that says whether the metric changed in a series."""
    what = f"{found.metric.name} of {found.case}{in_series(found, series)}"
    runs = f"{len(series.points)} run{'s' * (len(series.points) > 1)}"
    if series.changes is None:
        return (f"{what}: nothing can be told from {runs}, {fewest(found.metric)} or more are needed",)
    if not series.shifts:
        return (f"{what}: no change found in {runs}", *detectable(found, series))
    last, times = series.shifts[-1], len(series.shifts)
    where = f"run {last.first.run.id} (commit {last.first.run.meta.get('commit') or 'unknown'})"
    lead = (
        f"changed {f'{times} times' if times > 1 else 'once'} in {runs}, {'the last at' if times > 1 else 'at'} {where}"
    )
    return (f"{what}: {lead}:", *moved(found, last))


def moved(found: History, shift: Shift) -> tuple[Cell, ...]:
    """Return by how much a level changed, or from what to what where nothing can be said of that."""
    if math.isfinite(shift.judgement.center) and is_told_as_change(found, shift):
        return (Change(judgement=shift.judgement),)
    return "from", quantity(found, shift.before), "to", quantity(found, shift.after)


def is_told_as_change(found: History, shift: Shift) -> bool:
    """Tell whether a change is a ratio, or a difference in percentage points."""
    return shift.judgement.difference is None or unit_of(found) == "points"


def change(found: History, shift: Shift) -> Cell:
    """Return a change as a cell, a difference that is none of shares in the metric's own unit."""
    told = shift.judgement
    if is_told_as_change(found, shift):
        return Change(judgement=told)
    return quantity(found, Estimate(center=told.center, low=told.low, high=told.high, n=told.launches))


def unit_of(found: History) -> str:
    """Return what a difference of the metric is told in: of shares in percentage points."""
    is_share = found.metric.scale == "difference" and found.metric.unit == "share"
    return "points" if is_share else found.metric.unit


def detectable(found: History, series: Series) -> tuple[Cell, ...]:
    """Return what would have been found."""
    size = series.changes.detectable if series.changes else math.nan
    if found.metric.noise == "exact" or math.isnan(size):
        return ("(all values are equal)",)
    if series.changes and series.changes.is_ratio:
        return (f"(a lasting change of {size:.1%} halfway would be found 4 times in 5)",)
    estimate = Estimate(center=size, low=math.nan, high=math.nan, n=len(series.points))
    unit = unit_of(found)
    return "(a lasting change of", Quantity(estimate=estimate, unit=unit), "halfway would be found 4 times in 5)"


def warnings(found: History) -> Iterator[Note]:
    """Yield what a reader has to know: several series, runs without a figure, runs that could not be read."""
    if len(found.series) > 1:
        text = f"these runs are {len(found.series)} series, by machine, torch and what was done (data, weights, seeds,"
        text += " steps before the score): changes are searched within each"
        yield Note(parts=(text,), kind="warning")
    if missing := [point for point in found.points if not point.is_sound]:
        yield Note(parts=(f"{len(missing)} of {len(found.points)} runs have no finite value",), kind="warning")
    for name, why in found.refused.items():
        yield Note(parts=(f"run {name} is left out: {why}",), kind="warning")


def changes(found: History) -> Iterator[Table]:
    """Yield the table of changes, where there are any."""
    rows = tuple(
        (
            shift.first.run.id,
            shift.first.run.meta.get("commit"),
            shift.last.run.id,
            series_of(found, shift.first),
            quantity(found, shift.before),
            quantity(found, shift.after),
            change(found, shift),
        )
        for series in found.series
        for shift in series.shifts
    )
    if rows:
        columns = ("changed at run", "commit", "last run before", "series", "level before", "level after", "change")
        yield filled(Table(title="Changes", columns=columns, rows=rows, hardware=hardware(found)))


def chart(found: History) -> Iterator[Chart]:
    """Yield the picture of all finite values, a line for each series."""
    marks = tuple(
        Mark(
            at=float(number), value=point.value.center, series=f"series {series_of(found, point) or 1}",
            low=end(point.value.low), high=end(point.value.high),
        )
        for number, point in enumerate(found.points)
        if point.value and point.is_sound
    )  # fmt: skip
    if len(marks) > 1:
        name = found.metric.name.replace("_", " ")
        yield Chart(
            kind="curves", title=name, text=f"{found.metric.name} of {found.case} over the runs",
            at="runs after the first", value=name, unit=found.metric.unit, marks=marks, hardware=hardware(found),
        )  # fmt: skip


def table(found: History) -> Table:
    """Return every run, with its interval over launches."""
    firsts = {id(shift.first): shift for series in found.series for shift in series.shifts}
    rows = tuple(
        (
            point.run.id,
            point.run.meta.get("started"),
            point.run.meta.get("commit"),
            series_of(found, point),
            quantity(found, point.value) if point.value else Status(outcome=outcome(point)),
            change(found, firsts[id(point)]) if id(point) in firsts else None,
        )
        for point in found.points
    )
    columns = ("run", "started", "commit", "series", found.metric.name.replace("_", " "), "changed")
    return filled(Table(title="Run by run", columns=columns, rows=rows, hardware=hardware(found)))


def result(found: History, point: Point) -> Result:
    """Return a run as data: the one case and metric, and its change against the level before, if it began there."""
    whole = result_of(Frame(run=point.run, figures=point.figures, comparisons={}, rungs={}, overall=()))
    kept = [case for case in whole.cases if case.case == found.case]
    metrics = {found.metric.name: quantity(found, point.value)} if point.value else {}
    return replace(
        whole,
        cases=tuple(replace(case, metrics=metrics) for case in kept),
        comparisons=tuple(
            Comparison(
                block=kept[0].block, case=found.case, baseline=shift.last.run.id, candidate=point.run.id,
                metric=found.metric.name, judgement=shift.judgement,
            )
            for series in found.series
            for shift in series.shifts
            if shift.first is point
        ),
    )  # fmt: skip


def quantity(found: History, estimate: Estimate) -> Quantity:
    """Return an estimate in the metric's unit."""
    return Quantity(estimate=estimate, unit=found.metric.unit)


def outcome(point: Point) -> str:
    """Return how the case ended in a run that has no value of it."""
    status = point.figures.outcomes.get(point.case.id, {}).get("status", "interrupted")
    return "not measured" if status == "ok" else str(status)


def series_of(found: History, point: Point) -> str | None:
    """Return the number of a point's series; None where there is only one, or the point has no value."""
    numbers = [number for number, series in enumerate(found.series, 1) if series.setting == point.setting]
    return str(numbers[0]) if numbers and len(found.series) > 1 else None


def in_series(found: History, series: Series) -> str:
    """Return which series a sentence is about, where there are several."""
    return f" in series {found.series.index(series) + 1}" if len(found.series) > 1 else ""


def hardware(found: History) -> tuple[str, ...]:
    """Return the hardware line of each series, numbered where there are several."""
    if len(found.series) == 1:
        return (found.series[0].line,)
    return tuple(f"series {number}: {series.line}" for number, series in enumerate(found.series, 1))


def end(value: float) -> float | None:
    """Return an end of an interval for a chart."""
    return value if math.isfinite(value) else None
