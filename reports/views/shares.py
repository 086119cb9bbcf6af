"""What share of the machine's ceilings each case reaches, what bounds it phase by phase, and the roofline."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness import passport
from harness.metrics import METRICS
from harness.passport import Ceilings
from harness.spec import Block, Case
from harness.stats import Estimate
from reports.document import Cell, Chart, Mark, Note, Quantity, Section, Table, filled
from reports.frame import Frame

ORDER = 14
PARTS = ("parameters", "gradients", "optimizer", "activations")
PEAKS = ("memory_allocated_peak_bytes", "memory_peak_bytes")
INTENSITIES = [2.0**power for power in range(-2, 13)]  # FLOP a byte over which the roof is drawn


@dataclass(frozen=True, kw_only=True)
class Bound:
    """A phase against the ceilings: no machine with these can do it in fewer `seconds`."""

    phase: str
    seconds: float
    by: str
    measured: float


def view(frame: Frame) -> Section:
    """Return a table for each block, the roofline over all, and memory as predicted; nothing without a passport."""
    blocks = [block for block in frame.run.suite.blocks if not block.workload.is_ceiling]
    items: list[Note | Table | Chart] = []
    bounded = {case.id: bounds(frame, case) for block in blocks for case in block.cases}
    if any(bounded.values()):
        items = [*best(frame, blocks), *(table(frame, block, bounded) for block in blocks), *roofline(frame, blocks)]
    return Section(
        title="Shares of the ceilings",
        question="How much of what this machine can do does each case reach, and what bounds it?",
        items=(*items, *predicted(frame, blocks)) if items else (),
    )


def ceilings_of(frame: Frame, case: Case) -> Ceilings:
    """Return the ceilings of the environment that a case ran in."""
    return passport.of_run(frame.run.meta, frame.run.place(case))


def fewest_bytes(frame: Frame, case: Case) -> dict[str, float] | None:
    """Return the fewest bytes that each phase has to read and write, each tensor once; None where it is not known.

    Forward: parameters, and what is saved for backward. Backward: both again, and the gradients. Optimizer: gradients,
    and parameters and state both read and written.
    """
    found = {part: frame.center(case, f"memory_{part}_bytes") for part in PARTS}
    if None in found.values():
        return None
    size = {part: value or 0.0 for part, value in found.items()}
    forward = size["parameters"] + size["activations"]
    return {
        "forward": forward,
        "backward": forward + size["gradients"],
        "optimizer": size["gradients"] + 2 * (size["parameters"] + size["optimizer"]),
    }


def work_of(frame: Frame, case: Case) -> dict[str, float] | None:
    """Return the FLOP of each phase; None where they were not counted."""
    flop, forward = (frame.center(case, name) for name in ("flop", "forward_flop"))
    return {"forward": forward, "backward": flop - forward, "optimizer": 0.0} if flop and forward else None


def bounds(frame: Frame, case: Case) -> list[Bound]:
    """Return each phase against the ceilings; nothing where a figure or the passport is missing."""
    found = ceilings_of(frame, case)
    work, moved, peak = work_of(frame, case), fewest_bytes(frame, case), found.peak(case.variant.precision)
    if not (work and moved and peak and found.bandwidths and frame.figures.is_measured(case)):
        return []
    made = []
    for phase, flop in work.items():
        measured, rate = frame.center(case, f"{phase}_seconds"), found.bandwidth(moved[phase])
        if measured and rate:
            seconds = {"products": flop / peak, "memory": moved[phase] / rate}
            by = max(seconds, key=lambda name: seconds[name])
            made.append(Bound(phase=phase, seconds=seconds[by], by=by, measured=measured))
    return made


def best(frame: Frame, blocks: Sequence[Block]) -> Iterator[Note]:
    """Yield for each block the case that reaches the highest share of its peak."""
    for block in blocks:
        shares = [(quantity, case) for case in block.cases if (quantity := frame.quantity(case, "mfu"))]
        if shares:
            quantity, case = max(shares, key=lambda pair: pair[0].estimate.center)
            words = f"of the rate of {case.variant.precision} matrix products on this machine"
            yield Note(parts=(f"{block.name}: {case.variant.name} reaches", quantity, words), kind="answer")


def table(frame: Frame, block: Block, bounded: Mapping[str, Sequence[Bound]]) -> Table:
    """Return a row a variant: its share of the peak and of the roofline, and what bounds each phase."""
    columns = (
        "variant", "step time", "FLOP/s", "share of the peak (MFU)", "no faster than", "share of that",
        "forward bound by", "backward bound by", "optimizer bound by",
    )  # fmt: skip
    rows = tuple(
        (
            case.variant.name,
            *(frame.quantity(case, name) for name in ("step_seconds", "flop_per_second", "mfu")),
            *roof(frame, case, bounded[case.id]),
            *(told(bounded[case.id], phase) for phase in ("forward", "backward", "optimizer")),
        )
        for case in block.cases
        if bounded[case.id]
    )
    title = f"{block.name}: shares of the ceilings"
    return filled(Table(title=title, columns=columns, rows=rows, hardware=frame.hardware(*block.cases)))


def roof(frame: Frame, case: Case, found: Sequence[Bound]) -> tuple[Cell, Cell]:
    """Return the time that the ceilings allow for a step, and what share of it the measured one is."""
    seconds = sum(bound.seconds for bound in found)
    step = frame.quantity(case, "step_seconds")
    share = None
    if step:
        center, low, high = (seconds / value for value in (step.estimate.center, step.estimate.high, step.estimate.low))
        share = Quantity(estimate=Estimate(center=center, low=low, high=high, n=step.estimate.n), unit="share")
    return exactly(seconds, "s"), share


def told(found: Sequence[Bound], phase: str) -> str | None:
    """Return what bounds a phase, and how near it comes to that bound."""
    for bound in found:
        if bound.phase == phase:
            return f"{bound.by}, {bound.seconds / bound.measured:.0%} of it reached"
    return None


def roofline(frame: Frame, blocks: Sequence[Block]) -> Iterator[Chart]:
    """Yield the roofline chart of each environment: FLOP/s over FLOP a byte, and where the cases stand."""
    by_place: dict[str, list[tuple[Block, Case]]] = {}
    for block in blocks:
        for case in block.cases:
            if bounds(frame, case):
                by_place.setdefault(frame.run.place(case), []).append((block, case))
    for place, pairs in by_place.items():
        found = ceilings_of(frame, pairs[0][1])
        slowest = found.bandwidths[-1][1]
        used = dict.fromkeys(
            passport.SAME_PEAK.get(case.variant.precision, case.variant.precision) for _, case in pairs
        )
        marks = [
            Mark(at=intensity, series=f"roof, {precision}", value=min(found.peaks[precision], intensity * slowest))
            for precision in used
            for intensity in INTENSITIES
        ]
        for block, case in pairs:
            flop, moved, rate = (
                frame.center(case, "flop"),
                fewest_bytes(frame, case),
                frame.center(case, "flop_per_second"),
            )
            if flop and moved and rate:
                name = f"{block.name}, {case.variant.name}"
                at = flop / sum(moved.values())
                marks.append(Mark(at=at, value=rate, series=block.name, name=name))
        yield Chart(
            kind="crossings",
            title=f"Roofline, {place}" if len(by_place) > 1 else "Roofline",
            text="The rate that the ceilings allow over FLOP a byte, both logarithmic, and what each case reaches",
            at="FLOP a byte, the fewest bytes counted",
            value="rate",
            unit=METRICS["flop_per_second"].unit,
            marks=tuple(marks),
            hardware=frame.hardware(*(case for _, case in pairs)),
        )


def predicted(frame: Frame, blocks: Sequence[Block]) -> Iterator[Table]:
    """Yield the memory that a step's parts add up to beside what was measured."""
    rows: list[tuple[Cell, ...]] = []
    for block in blocks:
        for case in filter(frame.figures.is_measured, block.cases):
            parts = [frame.quantity(case, f"memory_{part}_bytes") for part in PARTS]
            peak = next((found for name in PEAKS if (found := frame.quantity(case, name))), None)
            if peak and all(parts):
                total = sum(part.estimate.center for part in parts if part)
                share = exactly(total / peak.estimate.center, "share")
                rows.append((block.name, case.variant.name, *parts, exactly(total, "B"), peak, share))
    if rows:
        columns = ("workload", "variant", *PARTS, "together", "measured peak", "explained")
        cases = [case for block in blocks for case in block.cases]
        yield Table(title="Memory: parts and peak", columns=columns, rows=tuple(rows), hardware=frame.hardware(*cases))


def exactly(value: float, unit: str) -> Quantity:
    """Return a value without an interval."""
    nothing = float("nan")
    return Quantity(estimate=Estimate(center=value, low=nothing, high=nothing, n=1), unit=unit)
