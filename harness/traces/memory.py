"""Memory: the curve of the last traced step, and what is alive at the peak of each phase, by where it was made.

The profiler tells what is given back only of what it saw being made. So the curve begins at 0, whatever the step finds
alive, and the step before it must have been traced, too.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from harness.traces.account import OUTSIDE, Account, Place
from harness.traces.read import Allocation, Trace

CPU = 0  # the type of the device
Change = tuple[Allocation, Place]


@dataclass(frozen=True, kw_only=True)
class Point:
    """Bytes above what the step began with, after a change, and when: seconds into the step."""

    at: float
    size: int
    phase: str


@dataclass(frozen=True, kw_only=True)
class Peak:
    """The highest point of a phase."""

    point: Point
    alive: Mapping[Place, int]
    """Where what is alive was made, in this step -> bytes, the most first."""

    @property
    def given_back(self) -> int:
        """What was alive as the step began and is no longer."""
        return sum(self.alive.values()) - self.point.size


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Memory over a step, and the peak of each phase."""

    points: Sequence[Point]
    peaks: Sequence[Peak]

    @property
    def peak(self) -> Peak:
        """The highest."""
        return max(self.peaks, key=lambda peak: peak.point.size)


def curve_of(trace: Trace, account: Account) -> Curve | None:
    """Return the memory of the last step, of the device where one ran; None where the trace holds none."""
    step = trace.steps[-1]
    changes = [
        (item, place)
        for item, place in account.held
        if step.start <= item.at < step.end and (item.device[0] != CPU) == account.on_device
    ]
    points = [
        Point(at=item.at - step.start, size=total, phase=place.phase or OUTSIDE)
        for (item, place), total in zip(changes, accumulate(item.size for item, _ in changes), strict=True)
    ]
    highest: dict[str, int] = {}  # phase -> number of the point
    for number, point in enumerate(points):
        if point.phase not in highest or point.size > points[highest[point.phase]].size:
            highest[point.phase] = number
    peaks = [Peak(point=points[number], alive=alive(changes[: number + 1])) for number in highest.values()]
    return Curve(points=points, peaks=peaks) if points else None


def alive(changes: Sequence[Change]) -> dict[Place, int]:
    """Return the bytes that are alive after some changes, by where they were made, the most first."""
    held: dict[object, tuple[int, Place]] = {}
    for item, place in changes:
        if item.size > 0:
            held[item.device, item.address] = item.size, place
        else:
            held.pop((item.device, item.address), None)
    found: dict[Place, int] = defaultdict(int)
    for size, place in held.values():
        found[place] += size
    return dict(sorted(found.items(), key=lambda item: -item[1]))
