"""The memory of a traced step: its curve, the peak of each phase, and what is alive at the highest."""

from collections.abc import Iterator, Mapping

from harness.traces.account import OUTSIDE, Place, plain_module
from harness.traces.memory import Curve, curve_of
from reports.document import Cell, Chart, Mark, Note, Table, exact
from reports.traced import SHOWN, Traced

DRAWN = 300  # points of a curve
NO_OPERATOR = "no operator"


def memory(item: Traced) -> Iterator[Note | Table | Chart]:
    """Yield the memory curve, its peak in each phase, and what was alive at the highest."""
    curve = curve_of(item.trace, item.account)
    if curve is None:
        yield Note(parts=("the trace holds no memory: it was made without profile_memory",))
        return
    peak = curve.peak
    yield Note(
        parts=(
            "at its peak, in", peak.point.phase, "the step holds", exact(peak.point.size, "B"),
            f"more than it began with; most of it was made by {makers(peak.alive)}",
        ),
        kind="answer",
    )  # fmt: skip
    yield curve_chart(item, curve)
    rows = tuple(
        (found.point.phase, exact(found.point.at), exact(found.point.size, "B"), makers(found.alive))
        for found in curve.peaks
    )
    columns = ("phase", "peak at", "above the step's start", "made by")
    yield Table(title="Peak of each phase", columns=columns, rows=rows, hardware=item.hardware)
    yield alive(item, curve)


def alive(item: Traced, curve: Curve) -> Table:
    """Return what is alive at the highest peak; the rows sum to it."""
    found: dict[tuple[str, str, str], int] = {}
    for place, size in curve.peak.alive.items():
        key = place.operator or NO_OPERATOR, place.phase or OUTSIDE, plain_module(place.module)
        found[key] = found.get(key, 0) + size
    ordered = sorted(found.items(), key=lambda pair: -pair[1])
    rows: list[tuple[Cell, ...]] = [(*key, exact(size, "B")) for key, size in ordered[:SHOWN]]
    totals = {
        f"{len(ordered) - SHOWN} others": sum(size for _, size in ordered[SHOWN:]),
        "alive before, given back": -curve.peak.given_back,
        "the peak": curve.peak.point.size,
    }
    rows += [(name, None, None, exact(size, "B")) for name, size in totals.items() if size]
    columns = ("made by", "in", "in module", "alive")
    return Table(title="Alive at the peak", columns=columns, rows=tuple(rows), hardware=item.hardware)


def makers(alive: Mapping[Place, int]) -> str:
    """Return the operators that made most of what is alive."""
    found: dict[str, int] = {}
    for place, size in alive.items():
        name = place.operator or NO_OPERATOR
        found[name] = found.get(name, 0) + size
    total = sum(found.values()) or 1
    top = sorted(found.items(), key=lambda pair: -pair[1])[:3]
    return ", ".join(f"{name} {size / total:.0%}" for name, size in top)


def curve_chart(item: Traced, curve: Curve) -> Chart:
    """Return the curve, thinned to the highest points."""
    width = max(1, -(-len(curve.points) // DRAWN))
    drawn = [
        max(curve.points[start : start + width], key=lambda point: point.size)
        for start in range(0, len(curve.points), width)
    ]
    marks = tuple(Mark(at=round(point.at * 1e3, 3), value=point.size, series=point.phase) for point in drawn)
    return Chart(
        kind="lines", title="Memory over a step", text=f"Memory of a step of {item.name} above what it began with",
        at="ms into the traced step", value="memory", unit="B", marks=marks, hardware=item.hardware,
    )  # fmt: skip
