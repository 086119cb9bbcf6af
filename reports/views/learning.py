"""How each variant learns: its score on held-out data over steps and over time."""

from collections.abc import Mapping
from statistics import fmean

from harness.metrics import METRICS
from harness.spec import Block, Case
from harness.stats import Estimate, estimate
from reports.document import Chart, Mark, Quantity, Section, Table
from reports.frame import Frame
from reports.views._quality import heading

ORDER = 35
FEWEST = 3  # seeds from which on an interval says more than the range does
ROWS = 12
Curve = Mapping[int, Estimate]


def view(frame: Frame) -> Section:
    """Return the learning curves of each block that was scored on the way, and the same as a table."""
    items = [item for block in frame.run.suite.blocks for item in learning(frame, block)]
    return Section(title="Learning", question="How fast does each variant learn?", items=tuple(items))


def learning(frame: Frame, block: Block) -> list[Chart | Table]:
    """Return the curves of a block over steps and over seconds, then the table; nothing from a single score."""
    cases = [case for case in block.cases if frame.figures.is_measured(case)]
    metric = frame.figures.stated(*cases)
    curves = [(case, found) for case in cases if metric and len(found := curve(frame, case, metric)) > 1]
    if metric is None or not curves:
        return []
    name, hardware = heading(metric), frame.hardware(*(case for case, _ in curves))
    seeds = max(found.n for _, points in curves for found in points.values())
    band = band_of(seeds)
    unit = METRICS[metric].unit
    times = [frame.center(case, "step_seconds") for case, _ in curves]
    seconds = [time for time in times if time] if all(times) else []
    charts = [
        Chart(
            kind="curves",
            title=f"{name[0].upper()}{name[1:]} over {at}: {block.name}",
            text=f"{name} of each variant on {block.name} over {at}; {band}",
            at=at,
            value=name,
            unit=unit,
            marks=tuple(
                mark for (case, points), each in zip(curves, scale, strict=True) for mark in marks(case, points, each)
            ),
            hardware=hardware,
        )
        for at, scale in (("steps", [1.0] * len(curves)), ("seconds of training", seconds))
        if scale
    ]
    every = sorted({step for _, points in curves for step in points})
    shown = [*every[: -1 : (len(every) - 2) // (ROWS - 1) + 1], every[-1]]
    rows = tuple((step, *(cell(points.get(step), unit) for _, points in curves)) for step in shown)
    columns = ("steps", *(case.variant.name for case, _ in curves))
    title = f"{name[0].upper()}{name[1:]} over steps: {block.name} ({band})"
    return [*charts, Table(title=title, columns=columns, rows=rows, hardware=hardware)]


def curve(frame: Frame, case: Case, metric: str) -> Curve:
    """Return step -> mean over the seeds that were all scored there, with the ends of its band."""
    launches = frame.figures.curves.get(case.id, {}).get(metric, {}).values()
    steps = sorted(set.intersection(*map(set, launches))) if launches else []
    return {step: banded([launch[step] for launch in launches]) for step in steps}


def banded(values: list[float]) -> Estimate:
    """Return the mean with a 95 % interval, of two seeds with their range."""
    if len(values) == FEWEST - 1:
        return Estimate(center=fmean(values), low=min(values), high=max(values), n=len(values))
    return estimate(values)


def band_of(seeds: int) -> str:
    """Return in words what the band is."""
    if seeds == 1:
        return "one seed, no band"
    return f"mean of {seeds} seeds with {'its 95 % interval' if seeds >= FEWEST else 'their range'}"


def marks(case: Case, points: Curve, scale: float) -> list[Mark]:
    """Return the points of a curve, a step as long as `scale`."""
    return [
        Mark(
            at=step * scale, value=found.center, series=case.variant.name,
            low=found.low if found.has_interval else None, high=found.high if found.has_interval else None,
        )
        for step, found in points.items()
    ]  # fmt: skip


def cell(found: Estimate | None, unit: str) -> Quantity | None:
    """Return a point as a cell."""
    return Quantity(estimate=found, unit=unit) if found else None
