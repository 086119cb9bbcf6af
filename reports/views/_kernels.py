"""Attention kernels beside one another: families of points that differ in length alone, and where kernels cross."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from harness.compare import cautions, judge_pair
from harness.spec import Block, Case
from harness.stats import Judgement
from reports.frame import Frame

TASK = "kernels/attention"
CHOICE = "sdpa"
"""The backend that leaves the choice of a kernel to SDPA; the others force one."""
SIGNS = {"better": -1, "worse": 1}
Fields = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Point:
    """One attention, by each backend: name -> case."""

    length: int
    batch: int
    cases: Mapping[str, Case]


@dataclass(frozen=True, kw_only=True)
class Family:
    """Points that differ in length alone (and in batch, where tokens are alike), from short to long."""

    setting: str
    """How and where: precision, and what else the variants differ in."""
    head: str
    mask: str
    more: str
    """What else the workloads differ in."""
    points: tuple[Point, ...]

    @property
    def label(self) -> str:
        """The family in words."""
        return ", ".join(filter(None, (self.setting, f"head size {self.head}", f"{self.mask or 'no'} mask", self.more)))


@dataclass(frozen=True, kw_only=True)
class Crossing:
    """Where one kernel overtakes another: between two lengths measured, by interpolation at one in between.

    Where the verdicts leave open whether it does, `at` is NaN and `after` is either of them.
    """

    before: str
    after: str
    lengths: tuple[int, int]
    at: float
    low: float
    high: float
    seconds: float


def is_kernel(block: Block) -> bool:
    """Tell whether a block is one attention alone."""
    return block.workload.task == TASK


def families(frame: Frame) -> list[Family]:
    """Return the attentions of a run, those that differ in length alone together."""
    found: dict[str, tuple[Fields, Fields, list[Point]]] = {}
    for block in filter(is_kernel, frame.run.suite.blocks):
        work = block.workload
        shape = {**work.settings, "padding": work.padding, "seed": work.seed}
        for setting, cases in lanes(block):
            *_, points = found.setdefault(json.dumps([setting, shape], sort_keys=True), (setting, shape, []))
            points.append(Point(length=work.length, batch=work.batch, cases=cases))
    settings, shapes = [setting for setting, *_ in found.values()], [shape for _, shape, _ in found.values()]
    groups = sorted(found.values(), key=lambda group: settings.index(group[0]))  # one setting after the other
    return [
        Family(
            setting=", ".join((setting["precision"], *told(setting, settings, ("precision",)))),
            head=str(shape["dim"] // shape["heads"]) if {"dim", "heads"} <= shape.keys() else "unknown",
            mask=mask_of(shape),
            more=", ".join((*told(shape, shapes, ("heads", "causal", "padding")), *batch)),
            points=part,
        )
        for setting, shape, points in groups
        for batch, part in unambiguous(points)
    ]


def lanes(block: Block) -> Iterator[tuple[Fields, dict[str, Case]]]:
    """Yield the cases of a block that differ in attention alone, with what they share."""
    found: dict[str, tuple[Fields, dict[str, Case]]] = {}
    for case in block.cases:
        setting = {name: value for name, value in asdict(case.variant).items() if name not in ("name", "attention")}
        _, cases = found.setdefault(json.dumps(setting), (setting, {}))
        cases.setdefault(case.variant.attention, case)
    yield from found.values()


def mask_of(shape: Mapping[str, Any]) -> str:
    """Return the mask of an attention in words; nothing where there is none."""
    masks = ["causal"] * bool(shape.get("causal")) + [f"{shape['padding']:.0%} padding"] * bool(shape["padding"])
    return " and ".join(masks)


def told(one: Mapping[str, Any], many: Sequence[Mapping[str, Any]], apart: Sequence[str]) -> tuple[str, ...]:
    """Return the fields, those `apart` left out, in which not all are alike."""
    names = [name for name in one if name not in apart and len({str(other.get(name)) for other in many}) > 1]
    return tuple(f"{name}={one[name]}" for name in names)


def unambiguous(points: Sequence[Point]) -> Iterator[tuple[tuple[str, ...], tuple[Point, ...]]]:
    """Yield the points in order of length; where one length comes twice, those of each batch by themselves."""
    ordered = sorted(points, key=lambda point: (point.length, point.batch))
    if len({point.length for point in ordered}) == len(ordered):
        yield (), tuple(ordered)
        return
    for batch in sorted({point.batch for point in ordered}):
        yield (f"batch {batch}",), tuple(point for point in ordered if point.batch == batch)


def kernels(frame: Frame, found: Sequence[Family]) -> list[str]:
    """Return the forced backends that were measured at any point, in the suite's order."""
    cases = [case for family in found for point in family.points for case in point.cases.values()]
    measured = dict.fromkeys(case.variant.attention for case in cases if frame.figures.is_measured(case))
    return [name for name in measured if name != CHOICE]


def measured(frame: Frame, point: Point, *backends: str) -> list[Case]:
    """Return the cases of backends at a point, all of them or none."""
    cases = [point.cases.get(name) for name in backends]
    known = [case for case in cases if case and frame.figures.is_measured(case)]
    return known if len(known) == len(cases) else []


def judged(frame: Frame, base: Case, case: Case) -> Judgement:
    """Return the verdict on the time of one case against another of its block, paired launch by launch."""
    return judge_pair(base, case, "step_seconds", frame.figures, cautions(frame.figures, base, case))


def fastest(frame: Frame, point: Point, names: Sequence[str]) -> str | None:
    """Return in words which forced backends take least time: one, those that are the same, and those that may be."""
    timed = {name: frame.center(case, "step_seconds") for name in names for case in measured(frame, point, name)}
    known = {name: seconds for name, seconds in timed.items() if seconds is not None}
    if not known:
        return None
    best, verdicts = "", {}
    for best in sorted(known, key=lambda name: known[name]):  # a smaller mean may be of slower launches
        verdicts = {name: judged(frame, *measured(frame, point, best, name)).verdict for name in known if name != best}
        if "better" not in verdicts.values():
            break
    alike, unsure = ([name for name in verdicts if verdicts[name] == verdict] for verdict in ("same", "unsure"))
    if unsure and len(unsure) == len(verdicts):
        return "cannot tell"
    return ", perhaps ".join([" or ".join([best, *alike]), *unsure])


def crossings(frame: Frame, family: Family, one: str, other: str) -> list[Crossing]:
    """Return where two backends overtake one another, from short to long; one that is open where that is not known."""
    pairs = [(point, cases) for point in family.points if (cases := measured(frame, point, one, other))]
    verdicts = [(point, judged(frame, *cases)) for point, cases in pairs]
    decided = [number for number, (_, found) in enumerate(verdicts) if found.verdict in SIGNS]
    crossed = [
        crossing(frame, verdicts[start : end + 1], one, other)
        for start, end in pairwise(decided)
        if verdicts[start][1].verdict != verdicts[end][1].verdict
    ]
    unsure = [point.length for point, found in verdicts if found.verdict == "unsure"]
    if crossed or not unsure or len(verdicts) < 2:
        return crossed
    nowhere = dict.fromkeys(("at", "low", "high", "seconds"), math.nan)
    return [Crossing(before=one, after=other, lengths=(unsure[0], unsure[-1]), **nowhere)]


def crossing(frame: Frame, verdicts: Sequence[tuple[Point, Judgement]], one: str, other: str) -> Crossing:
    """Return the crossing between the first and the last of the points, whose verdicts differ.

    Between two lengths the logarithm of the ratio is taken to change evenly with that of the length. The interval is
    what the intervals at its ends allow; where a length in between is undecided, no more is known than the lengths.
    """
    sign = 1 if verdicts[0][1].verdict == "worse" else -1  # +1: the other is slower at first
    ends = next(pair for pair in pairwise(verdicts) if sign * math.log(pair[1][1].ratio) < 0)
    (left, first), (right, last) = ends
    (start, (low, high)), (end, (last_low, last_high)) = (oriented(found, sign) for found in (first, last))
    share = start / (start - end)
    before, after = (one, other) if sign > 0 else (other, one)
    bracket = verdicts[0][0].length, verdicts[-1][0].length
    is_tight = len(verdicts) == 2
    at = between(left.length, right.length, share)
    return Crossing(
        before=before,
        after=after,
        lengths=bracket,
        at=at,
        low=between(*bracket, low / (low - last_low)) if is_tight else bracket[0],
        high=between(*bracket, high / (high - last_high)) if is_tight else bracket[1],
        seconds=between(seconds(frame, left, after), seconds(frame, right, after), share),
    )


def oriented(found: Judgement, sign: int) -> tuple[float, tuple[float, float]]:
    """Return a ratio's logarithm with its interval, turned round where `sign` is below 0."""
    center, low, high = (sign * math.log(value) for value in (found.ratio, found.low, found.high))
    return center, (min(low, high), max(low, high))


def between(start: float, end: float, share: float) -> float:
    """Return the value at a share of the way from one to another on a logarithmic scale."""
    return float(start * (end / start) ** share)


def seconds(frame: Frame, point: Point, backend: str) -> float:
    """Return the time of a backend at a point."""
    return frame.center(point.cases[backend], "step_seconds") or math.nan
