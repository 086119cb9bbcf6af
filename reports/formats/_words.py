"""Words: cells -> text, scaled to readable units and rounded to what their intervals support."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from statistics import median

from harness.compare import BreakEven
from harness.stats import VOIDING, Judgement
from reports.document import Cell, Change, Document, Link, Note, Quantity, Status, Table

MARKS = {"better": "✓", "worse": "✗", "same": "=", "unsure": "?", "different": "≠"}
SIGNS = "✓ better  ✗ worse  = same, within the margin  ? unsure, cannot tell"
RATIOS = "1.25x as fast = 1.25 times the work in the same time; pp = percentage points"
UNITS: dict[str, tuple[tuple[float, str], ...]] = {  # largest first
    "s": ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns")),
    "B": ((2.0**40, "TiB"), (2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB"), (1.0, "B")),
    "FLOP": ((1e15, "PFLOP"), (1e12, "TFLOP"), (1e9, "GFLOP"), (1e6, "MFLOP"), (1.0, "FLOP")),
    "FLOP/s": ((1e12, "TFLOP/s"), (1e9, "GFLOP/s"), (1e6, "MFLOP/s"), (1.0, "FLOP/s")),
    "B/s": ((1e12, "TB/s"), (1e9, "GB/s"), (1e6, "MB/s"), (1.0, "B/s")),
    "Hz": ((1e9, "GHz"), (1e6, "MHz"), (1.0, "Hz")),
    "share": ((0.01, "%"),),
    "points": ((0.01, "pp"),),
    "1": ((1.0, ""),),
}
FINE = 0.005  # an interval of a ratio so narrow is worth a third decimal
TINY = 1e-3  # below it, a figure without a unit is an error and reads better as 2.1e-07


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How the figures of a column are written: one unit, the same decimals; `decimals` None is 2.1e-07."""

    factor: float
    label: str
    decimals: int | None


def legend(document: Document) -> str:
    """Return what signs and intervals mean in a report."""
    intervals = "± and (low–high) are 95 % intervals over launches"
    if any(result.gate for result in document.results):
        intervals = "± is a 95 % interval over launches, (low–high) the gate's one-sided bounds, each at 95 % or more"
    return f"{SIGNS}  ·  {intervals}; {RATIOS}"


def unit_of(quantities: Sequence[Quantity]) -> tuple[float, str]:
    """Return the unit that suits the middle one of quantities of one kind, as (factor, label)."""
    units = UNITS.get(quantities[0].unit, ((1.0, quantities[0].unit),))
    size = middle([abs(item.estimate.center) for item in quantities])
    return next((unit for unit in units if unit[0] <= size), units[-1])


def scale_of(quantities: Sequence[Quantity], unit: tuple[float, str] | None = None) -> Scale:
    """Return how to write quantities of one kind: two digits of their interval, four digits at most."""
    factor, label = unit or unit_of(quantities)
    sizes = [abs(item.estimate.center) / factor for item in quantities]
    size = middle(sizes)
    if not label and min((size for size in sizes if 0 < size < math.inf), default=1.0) < TINY:
        return Scale(factor=factor, label=label, decimals=None)
    halves = [half for item in quantities if (half := (item.estimate.high - item.estimate.low) / 2 / factor) > 0]
    wanted = 1 - digits(median(halves)) if halves else 3
    if all(size % 1 == 0 for size in sizes):
        wanted = 0
    return Scale(factor=factor, label=label, decimals=max(min(wanted, 3 - digits(size)), 0))


def middle(sizes: Sequence[float]) -> float:
    """Return the median of the sizes that are numbers and not zero."""
    return median([size for size in sizes if 0 < size < math.inf] or [1.0])


def digits(value: float) -> int:
    """Return the power of ten of a number."""
    return math.floor(math.log10(value))


def columns(table: Table) -> tuple[list[str], list[Scale | None]]:
    """Return a table's headings, with units, and the scale of each column that holds quantities of one kind."""
    kinds: dict[str, list[Quantity]] = {}
    for cell in chain.from_iterable(table.rows):
        if isinstance(cell, Quantity):
            kinds.setdefault(cell.unit, []).append(cell)
    units = {kind: unit_of(quantities) for kind, quantities in kinds.items()}
    headings: list[str] = []
    scales: list[Scale | None] = []
    for number, title in enumerate(table.columns):
        quantities = [cell for row in table.rows if isinstance(cell := row[number], Quantity)]
        is_one_kind = len({item.unit for item in quantities}) == 1
        scale = scale_of(quantities, units[quantities[0].unit]) if is_one_kind else None
        label = scale.label if scale else ""
        scales.append(scale)
        headings.append(f"{text(title)}, {label}" if label and label not in title.split() else text(title))
    return headings, scales


def words(cell: Cell, scale: Scale | None = None) -> str:
    """Return a cell as text; a quantity in the column's scale, or with a unit of its own."""
    match cell:
        case None:
            return ""
        case str():
            return text(cell)
        case Quantity():
            return quantity(cell, scale) if scale else with_unit(cell)
        case Change():
            return change(cell)
        case BreakEven():
            return break_even(cell)
        case Status():
            return cell.outcome
        case Link():
            return text(cell.text)
        case _:
            return str(cell)


def sentence(note: Note) -> str:
    """Return a note as text."""
    return " ".join(words(part) for part in note.parts)


def text(outside: str) -> str:
    """Return a text from outside on one line, without characters that steer a terminal."""
    return "".join(letter for letter in " ".join(outside.split()) if letter.isprintable())


def with_unit(cell: Quantity) -> str:
    """Return a quantity with its unit."""
    scale = scale_of([cell])
    return f"{quantity(cell, scale)} {scale.label}".rstrip()


def quantity(cell: Quantity, scale: Scale) -> str:
    """Return a quantity in a scale, with half its interval if it has one."""
    found = cell.estimate
    center = number(found.center / scale.factor, scale.decimals)
    half = number((found.high - found.low) / 2 / scale.factor, scale.decimals)
    return f"{center} ±{half}" if found.has_interval and half != number(0.0, scale.decimals) else center


def number(value: float, places: int | None) -> str:
    """Return a number with so many decimals."""
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else "infinite"
    return f"{value:.1e}" if places is None else f"{value:,.{places}f}"


def change(cell: Change) -> str:
    """Return what is established: a ratio or a difference with its interval, or that there is none to give."""
    judgement = cell.judgement
    if judgement.difference is not None:
        return difference(judgement)
    ratio, low, high = ratios(cell)
    places = 3 if high - low < FINE else 2
    ends = f"{low:.{places}f}", f"{high:.{places}f}"
    interval = f" ({'–'.join(ends)})" if ends[0] != ends[1] and math.isfinite(low) else ""
    if judgement.verdict == "unsure":
        return f"unsure{interval}{reason(judgement)}"
    if judgement.verdict == "same" or not math.isfinite(ratio):
        return f"{judgement.verdict}{interval}"
    return f"{ratio:.{places}f}x{interval}"


def difference(found: Judgement) -> str:
    """Return a difference of shares in percentage points."""
    interval = f" ({span(found.low, found.high)} pp)" if math.isfinite(found.low) else ""
    if found.verdict == "unsure":
        return f"unsure{interval}{reason(found)}"
    if found.verdict == "same":
        return f"same{interval}"
    return f"{points(found.center, places(found.low, found.high))} pp ({span(found.low, found.high)})"


def span(low: float, high: float) -> str:
    """Return an interval of a difference: `+0.1 to +0.7`; one without width is one number."""
    ends = [points(end, places(low, high)) for end in (low, high)]
    return " to ".join(dict.fromkeys(ends))


def places(low: float, high: float) -> int:
    """Return the decimals that an interval of a difference is worth, in percentage points."""
    return 2 if high - low < FINE else 1


def points(value: float, decimals: int) -> str:
    """Return a share as percentage points with its sign, none where it is zero."""
    found = round(100 * value, decimals)
    return f"{found:+.{decimals}f}" if found else f"{0:.{decimals}f}"


def ratios(cell: Change) -> tuple[float, float, float]:
    """Return ratio, low and high as they are to be shown."""
    found = cell.judgement
    return (1 / found.ratio, 1 / found.high, 1 / found.low) if cell.is_speed else (found.ratio, found.low, found.high)


def reason(judgement: Judgement) -> str:
    """Return why a judgement is unsure, or what would settle it."""
    if judgement.needed:
        return f", about {judgement.needed} more launch{'es' * (judgement.needed > 1)}"
    codes = judgement.codes()
    for code in VOIDING:
        if code in codes:
            return f", {code}"
    return f", {codes[-1]}" if codes and math.isnan(judgement.low) else ""


def break_even(cell: BreakEven) -> str:
    """Return after how many steps something has paid."""
    if math.isnan(cell.steps):
        is_bounded = 0 < cell.low < math.inf
        return f"cannot tell; not before {steps(cell.low)} steps" if is_bounded else "cannot tell"
    if math.isinf(cell.steps):
        return "never"
    return f"{steps(cell.steps)} steps ({steps(cell.low)}–{steps(cell.high)})" if cell.steps else "at once"


def steps(count: float) -> str:
    """Return a number of steps, rounded to two digits: more would pretend."""
    return f"{float(f'{count:.2g}'):,.0f}"


def mark(cell: Cell) -> str:
    """Return the sign of a cell's verdict, for a reader without colours; empty for other cells."""
    return MARKS[cell.judgement.verdict] if isinstance(cell, Change) else ""


def tone(cell: Cell) -> str:
    """Return the name of a cell's colour: its verdict, `failed`, or nothing."""
    if isinstance(cell, Change):
        return cell.judgement.verdict
    return "failed" if isinstance(cell, Status) else ""


def is_number(cell: Cell) -> bool:
    """Tell whether a cell belongs at the right of its column."""
    return isinstance(cell, Quantity | int)
