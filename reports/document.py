"""Document: what a report says, as values; scaling, rounding and wording are the formats' work."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from harness.compare import Between, BreakEven, Comparison, Difference, Overall
from harness.stats import Estimate, Judgement, exactly
from harness.verdict import Ruling


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """An estimate with its unit, in base units (seconds, bytes, FLOP)."""

    estimate: Estimate
    unit: str


def exact(value: float, unit: str = "s") -> Quantity:
    """Return a value that has no interval."""
    return Quantity(estimate=exactly(float(value)), unit=unit)


@dataclass(frozen=True, kw_only=True)
class Change:
    """A judgement to be shown: as a ratio of the values, or of the speeds (how many times as fast), or a difference."""

    judgement: Judgement
    is_speed: bool = False


@dataclass(frozen=True, kw_only=True)
class Status:
    """How a case ended, for one that has no figures."""

    outcome: str


@dataclass(frozen=True, kw_only=True)
class Link:
    """A text that leads to a file."""

    text: str
    target: Path


Cell = str | int | Quantity | Change | BreakEven | Status | Link | None
"""What stands in a table; None where there is nothing to say."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of cells; `hardware` says on what the figures were measured."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    hardware: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A value in a chart: where (`at`), in which series, how much, with an interval or the value it starts from."""

    at: str | float
    value: float
    series: str = ""
    low: float | None = None
    high: float | None = None
    start: float | None = None
    name: str = ""
    """Of a point that has one, with the interval of `at` beside it."""
    at_low: float | None = None
    at_high: float | None = None


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A picture of values: `text` says in words what it shows."""

    kind: Literal["intervals", "grouped", "waterfall", "lines", "stacked", "curves", "points", "treemap", "crossings"]
    title: str
    text: str
    at: str
    value: str
    unit: str
    marks: tuple[Mark, ...]
    at_unit: str = ""
    hardware: tuple[str, ...] = ()
    series: tuple[str, ...] = ()
    """All series that there can be, where each is to have the same colour in every chart."""


@dataclass(frozen=True, kw_only=True)
class Note:
    """A sentence, its values kept as values; an `answer` is what the reader came for."""

    parts: tuple[Cell, ...]
    kind: Literal["answer", "info", "warning"] = "info"


@dataclass(frozen=True, kw_only=True)
class Section:
    """One question and what answers it."""

    title: str
    question: str
    items: tuple[Note | Table | Chart, ...]


@dataclass(frozen=True, kw_only=True)
class CaseResult:
    """A case as data: what it was, how it ended and its figures."""

    case: str
    block: str
    workload: Mapping[str, Any]
    variant: Mapping[str, Any]
    outcome: str
    reason: str | None
    metrics: Mapping[str, Quantity]
    facts: Mapping[str, Any]
    warnings: tuple[Mapping[str, str], ...]
    launches: tuple[float, ...] = ()
    """The step seconds of each launch, on which the estimate rests."""
    score: str | None = None
    """The metric by which its quality is told."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """A run as data, for the formats that programs read."""

    run: Mapping[str, Any]
    environments: Mapping[str, Any]
    cases: tuple[CaseResult, ...]
    comparisons: tuple[Comparison, ...]
    overall: tuple[Overall, ...] = ()
    base: Mapping[str, Any] | None = None
    """The run that `comparisons` are against, where that is not this one."""
    differences: tuple[Difference, ...] = ()
    gate: Ruling | None = None
    advice: Mapping[str, tuple[Note, ...]] = field(default_factory=dict)
    """Case -> what would help it, where the report is such an explanation."""


@dataclass(frozen=True, kw_only=True)
class Document:
    """A report: sections for people, results for programs."""

    title: str
    question: str
    sections: tuple[Section, ...]
    results: tuple[Result, ...] = field(default=())
    between: tuple[Between, ...] = ()
    """Where several runs are compared: each of the others against the first."""
    place: Path = Path()
    """The folder that the report is written to, from which its links lead to files."""


def heading(metric: str) -> str:
    """Return a metric's name as the heading of a column."""
    return "step time" if metric == "step_seconds" else metric.removesuffix("_bytes").replace("_", " ")


def differing(differences: Iterable[Difference], base: str, candidate: str, title: str = "What differs") -> Table:
    """Return in which fields two runs, or two machines, differ, by their names."""
    rows = tuple((item.field, item.base, item.candidate) for item in differences)
    return Table(title=title, columns=("field", base, candidate), rows=rows)


def filled(table: Table) -> Table:
    """Return the table without the columns that say nothing."""
    kept = [number for number in range(len(table.columns)) if any(row[number] is not None for row in table.rows)]
    return replace(
        table,
        columns=tuple(table.columns[number] for number in kept),
        rows=tuple(tuple(row[number] for number in kept) for row in table.rows),
    )
