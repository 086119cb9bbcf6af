"""What share of the machine's ceilings each case reaches, what bounds it phase by phase, and the roofline."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness import passport
from harness.metrics import METRICS
from harness.passport import Ceilings
from harness.spec import Block, Case
from harness.stats import Estimate
from reports.document import Cell, Chart, Mark, Note, Quantity, Section, Table, exact, filled
from reports.frame import Frame

ORDER = 14
PARTS = ("parameters", "gradients", "optimizer", "activations")
PEAKS = ("memory_allocated_peak_bytes", "memory_peak_bytes")
GIB = 2**30
AUTOCAST = ("bf16", "fp16")
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
        known = [block for block in blocks if any(bounded[case.id] for case in block.cases)]
        items = [*changed(frame, blocks), *best(frame, blocks), *(table(frame, block, bounded) for block in known)]
        items += roofline(frame, blocks)
    return Section(
        title="Shares of the ceilings",
        question="How much of what this machine can do does each case reach, and what bounds it?",
        items=(*items, *predicted(frame, blocks)) if items else (),
    )


def ceilings_of(frame: Frame, case: Case) -> Ceilings:
    """Return the ceilings of the environment that a case ran in."""
    return passport.of_run(frame.run.meta, frame.run.place(case))


def fewest_bytes(frame: Frame, case: Case) -> dict[str, tuple[float, float]] | None:
    """Return for each phase the fewest bytes that it reads and writes, and how many of them are different ones.

    Forward writes what backward needs, backward reads that and writes the gradients; the optimizer reads these, and
    reads and writes the parameters that they are of, and its state. What forward and backward read of the parameters
    is left out: of an embedding that is a few rows. None where the parts are not known, or known of one length of many.
    """
    if case.workload.lengths > 1:
        return None
    found = {part: frame.center(case, f"memory_{part}_bytes") for part in PARTS}
    if None in found.values():
        return None
    saved, gradients, state = (found[part] or 0.0 for part in ("activations", "gradients", "optimizer"))
    updated = 0.0 if case.variant.optimizer == "none" else gradients + state  # a parameter is as large as its gradient
    times = case.workload.accumulate  # the parts are those of one micro-batch
    return {
        "forward": (times * saved, saved),
        "backward": (times * (saved + gradients), saved + gradients),
        "optimizer": (gradients + 2 * updated if updated else 0.0, gradients + updated if updated else 0.0),
    }


def work_of(frame: Frame, case: Case) -> dict[str, float] | None:
    """Return the fewest FLOP of each phase; None where they were not counted. Of a fused attention half is enough."""
    flop, forward, fused = (frame.center(case, name) for name in ("flop", "forward_flop", "fused_attention_flop"))
    if not (flop and forward):
        return None
    spared = (fused or 0.0) / 2
    backward = flop - forward
    return {
        "forward": forward - spared * forward / flop,
        "backward": backward - spared * backward / flop,
        "optimizer": 0.0,
    }


def bounds(frame: Frame, case: Case) -> list[Bound]:
    """Return each phase against the ceilings; nothing where a figure or the passport is missing."""
    found = ceilings_of(frame, case)
    work, moved, peak = work_of(frame, case), fewest_bytes(frame, case), found.peak(case.variant.precision)
    if not (work and moved and peak and frame.figures.is_measured(case)):
        return []
    made = []
    for phase, flop in work.items():
        size, different = moved[phase]
        measured, rate = frame.center(case, f"{phase}_seconds"), found.bandwidth(different)
        seconds = {"products": flop / peak, "memory": size / rate if rate else 0.0}
        if measured:
            by = max(seconds, key=lambda name: seconds[name])
            made.append(Bound(phase=phase, seconds=seconds[by], by=by, measured=measured))
    return made


def changed(frame: Frame, blocks: Sequence[Block]) -> Iterator[Note]:
    """Yield for each environment how its machine differs from what its passport found, if it does."""
    for place in dict.fromkeys(frame.run.place(case) for block in blocks for case in block.cases):
        known = passport.of_run(frame.run.meta, place)
        if changes := known.changes(frame.run.environments.get(place, {})):
            remedy = "read its shares with care, or make its passports anew: tandem hardware, tandem hardware --quick"
            yield Note(parts=(f"{passport.told(changes)}: {remedy}",), kind="warning")


def best(frame: Frame, blocks: Sequence[Block]) -> Iterator[Note]:
    """Yield for each block the case that reaches the highest share of its peak."""
    for block in blocks:
        measured = filter(frame.figures.is_measured, block.cases)
        shares = [(quantity, case) for case in measured if (quantity := frame.quantity(case, "mfu"))]
        if shares:
            quantity, case = max(shares, key=lambda pair: pair[0].estimate.center)
            words = f"of the rate of {case.variant.precision} matrix products on this machine"
            yield Note(parts=(f"{block.name}: {case.variant.name} reaches", quantity, words), kind="answer")


def table(frame: Frame, block: Block, bounded: Mapping[str, Sequence[Bound]]) -> Table:
    """Return a row a variant: its share of the peak and of the roofline, and what bounds each phase."""
    columns = (
        "variant", "step time", "FLOP/s", "share of the peak (MFU)", "no faster than", "share of that",
        "forward bound by", "backward bound by", "optimizer bound by", "energy of a step", "energy of a token",
        "tokens for a joule", "power when idle", "tokens for 1 of money",
    )  # fmt: skip
    rows = tuple(
        (
            case.variant.name,
            *(frame.quantity(case, name) for name in ("step_seconds", "flop_per_second", "mfu")),
            *roof(frame, case, bounded[case.id]),
            *(told(bounded[case.id], phase) for phase in ("forward", "backward", "optimizer")),
            *(
                frame.quantity(case, name)
                for name in ("step_joules", "joules_per_token", "tokens_per_joule", "idle_watts")
            ),
            for_money(frame, case),
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
        known = step.estimate
        ends = (known.center, known.high, known.low)  # the low one is below 0 where launches differ much
        center, low, high = (seconds / end if end > 0 else math.nan for end in ends)
        share = Quantity(estimate=Estimate(center=center, low=low, high=high, n=known.n), unit="share")
    return exact(seconds, "s"), share


def for_money(frame: Frame, case: Case) -> Quantity | None:
    """Return the tokens that are trained for one unit of money, where the run knows what an hour costs."""
    price, rate = frame.run.meta.get("price_per_hour"), frame.quantity(case, "tokens_per_second")
    if not (price and rate):
        return None
    center, low, high = (
        value * 3600 / price for value in (rate.estimate.center, rate.estimate.low, rate.estimate.high)
    )
    return Quantity(estimate=Estimate(center=center, low=low, high=high, n=rate.estimate.n), unit="tokens")


def told(found: Sequence[Bound], phase: str) -> str | None:
    """Return what bounds a phase, and how near it comes to that bound."""
    for bound in found:
        if bound.phase == phase and bound.seconds:
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
        if not found.bandwidths:
            continue
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
                at = flop / sum(size for size, _ in moved.values())
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
    """Yield the memory that a step's parts add up to beside what was measured, and the batch that it bounds."""
    rows: list[tuple[Cell, ...]] = []
    for block in blocks:
        for case in filter(frame.figures.is_measured, block.cases):
            parts = [frame.quantity(case, f"memory_{part}_bytes") for part in PARTS]
            peak = next((found for name in PEAKS if (found := frame.quantity(case, name))), None)
            if peak and all(parts):
                total = sum(part.estimate.center for part in parts if part)
                share = exact(total / peak.estimate.center, "share")
                fits = largest_batch(frame, block, case), by_peak(frame, block, case, peak.estimate.center)
                rows.append((block.name, case.variant.name, *parts, exact(total, "B"), peak, share, *fits))
    if rows:
        columns = (
            "workload", "variant", *PARTS, "together", "measured peak", "explained", "largest batch, at most about",
            "by its peak, about",
        )  # fmt: skip
        cases = [case for block in blocks for case in block.cases]
        table = Table(
            title="Memory: parts and peak", columns=columns, rows=tuple(rows), hardware=frame.hardware(*cases)
        )
        yield filled(table)


def largest_batch(frame: Frame, block: Block, case: Case) -> int | None:
    """Return the batch beyond which memory cannot hold what the end of the forward pass does.

    That is the parameters, the optimizer's state, and what is saved for backward. The latter grows with the batch, but
    for the copies of the weights that autocast makes, half as large as these at most, and a mask or two.
    """
    found = [frame.center(case, f"memory_{part}_bytes") for part in ("parameters", "optimizer", "activations")]
    parameters, state, saved = (part or 0.0 for part in found)
    growing = saved - (parameters / 2 if case.variant.precision in AUTOCAST else 0.0)
    room = memory_of(frame, case)
    if not room or growing <= 0:
        return None
    return max(0, int((room - parameters - state) * block.workload.batch / growing))


def by_peak(frame: Frame, block: Block, case: Case, peak: float) -> int | None:
    """Return the batch whose peak would fill the memory, if all of the peak but weights and states grows with it."""
    found = [frame.center(case, f"memory_{part}_bytes") for part in ("parameters", "gradients", "optimizer")]
    fixed, room = sum(part or 0.0 for part in found), memory_of(frame, case)
    return max(0, int((room - fixed) * block.workload.batch / (peak - fixed))) if room and peak > fixed else None


def memory_of(frame: Frame, case: Case) -> float | None:
    """Return the bytes that a case may take at most: of its limit, its GPU, its machine and container."""
    facts, device = frame.run.environment(case), frame.run.facts(case).get("device")
    whole = "gpu_memory_gib" if device == "cuda" else "memory_gib"
    found = [(float(facts[whole]) + 0.5) * GIB] if facts.get(whole) else []  # it is told in whole GiB
    if device == "cpu" and facts.get("memory_limit_gib"):
        found.append(float(facts["memory_limit_gib"]) * GIB)
    if limit := frame.run.suite.memory_limit:
        found.append(float(limit))
    return min(found, default=None)
