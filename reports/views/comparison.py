"""What each variant gains against its baseline: speed, memory and correctness in one row."""

import math
from collections.abc import Iterable
from typing import TypeVar

from harness.compare import Comparison, Overall, rungs_together, within_interpreters
from harness.metrics import METRICS
from harness.spec import Block, Case
from reports.document import Cell, Change, Chart, Mark, Note, Section, Status, Table, filled
from reports.frame import Frame
from reports.views._kernels import is_kernel
from reports.views._quality import heading, quality_change, quality_note, target_heading, time_to_target

ORDER = 10
Judged = TypeVar("Judged", Comparison, Overall)


def view(frame: Frame) -> Section:
    """Return the answer in sentences, then a table, the throughput and the ladder of each block.

    Blocks of one attention alone are compared by `kernels`, ceilings are told by `hardware`.
    """
    blocks = [block for block in frame.run.suite.blocks if not (is_kernel(block) or block.workload.is_ceiling)]
    items: list[Note | Table | Chart] = [*answers(frame), *whole_ladder(frame)] if blocks else []
    for block in blocks:
        items += [table(frame, block), *ladder(frame, block), *within(frame, block)]
        items += [*throughput(frame, block), *waterfall(frame, block)]
    return Section(title="Comparison", question=frame.run.suite.question, items=tuple(items))


def answers(frame: Frame) -> list[Note]:
    """Return what was asked, over all blocks and then for each; nothing that is not established."""
    notes = []
    everywhere = [item for item in frame.overall if item.measured == item.blocks]
    if over := fastest(everywhere or frame.overall):
        where = (
            f"Over {over.measured} of {over.blocks} workloads" if over.measured < over.blocks else "Over all workloads"
        )
        notes.append(says(where, over))
    for block in frame.run.suite.blocks:
        if len(block.cases) > 1 and not block.workload.is_ceiling:
            notes += [answer(frame, block), *quality_note(frame, block)]
    if frame.run.suite.seeds == 1 and frame.figures.stated(*frame.run.suite.cases):
        notes.append(Note(parts=("quality was scored from one seed, which establishes nothing: `--set seeds=5`",)))
    failed = [case for case in frame.run.suite.cases if not frame.figures.is_measured(case)]
    if failed:
        many = f"{len(failed)} of {len(frame.run.suite.cases)} cases have no figures; the outcomes say why"
        notes.append(Note(parts=(many,), kind="warning"))
    return notes


def answer(frame: Frame, block: Block) -> Note:
    """Return the fastest variant of a block, or why there is none to name."""
    found = [item for case in block.cases if (item := frame.comparison(case, "step_seconds"))]
    if best := fastest(found):
        return says(block.name, best)
    return Note(parts=(f"{block.name}: {no_gain(found, block.baseline)}",), kind="answer")


def fastest(found: Iterable[Judged]) -> Judged | None:
    """Return the best of those whose gain is established."""
    better = (item for item in found if item.judgement.verdict == "better")
    return min(better, key=lambda item: item.judgement.ratio, default=None)


def says(where: str, found: Comparison | Overall) -> Note:
    """Return the sentence about an established gain."""
    speed = Change(judgement=found.judgement, is_speed=True)
    return Note(parts=(f"{where}: {found.candidate} is", speed, f"as fast as {found.baseline}"), kind="answer")


def no_gain(found: list[Comparison], baseline: str) -> str:
    """Return what can be said of a block in which nothing is established to be faster."""
    verdicts = {item.judgement.verdict for item in found}
    if not found:
        return f"nothing could be compared with {baseline}"
    if "unsure" in verdicts:
        return f"no variant is established to be faster than {baseline}, some cannot be told from it yet"
    if "worse" in verdicts:
        return f"no variant is faster than {baseline}, some are slower"
    return f"no variant differs from {baseline} in speed by more than {METRICS['step_seconds'].margin:.0%}"


def table(frame: Frame, block: Block) -> Table:
    """Return a row for each variant of a block."""
    metric = frame.figures.stated(*block.cases)
    score, target = heading(metric or "quality"), target_heading(block.workload)
    return filled(
        Table(
            title=block.name,
            columns=(
                "variant",
                f"speed against {block.baseline}",
                "step time",
                "tokens/s",
                "peak memory",
                "error against float64",
                score,
                f"{score} against {block.baseline}",
                target,
                f"{target} against {block.baseline}",
                "compiling pays after",
            ),
            rows=tuple(row(frame, block, case, metric) for case in block.cases),
            hardware=frame.hardware(*block.cases),
        )
    )


def row(frame: Frame, block: Block, case: Case, metric: str | None) -> tuple[Cell, ...]:
    """Return what a variant costs and gains, or that it failed."""
    if not frame.figures.is_measured(case):
        return (case.variant.name, Status(outcome=frame.outcome(case)["status"]), *[None] * 9)
    reached = frame.comparison(case, "time_to_quality_seconds")
    return (
        case.variant.name,
        speed(frame, block, case),
        frame.quantity(case, "step_seconds"),
        frame.quantity(case, "tokens_per_second"),
        frame.quantity(case, "memory_peak_bytes") or frame.quantity(case, "memory_peak_maxrss_bytes"),
        frame.quantity(case, "output_error"),
        frame.quantity(case, metric) if metric else None,
        quality_change(frame, case, metric),
        time_to_target(frame, case),
        Change(judgement=reached.judgement) if reached else None,
        frame.break_even(block, case),
    )


def speed(frame: Frame, block: Block, case: Case) -> Cell:
    """Return how many times as fast as the baseline a case is."""
    if case == block.baseline_case:
        return "baseline"
    comparison = frame.comparison(case, "step_seconds")
    return Change(judgement=comparison.judgement, is_speed=True) if comparison else "nothing to compare with"


def throughput(frame: Frame, block: Block) -> list[Chart]:
    """Return the chart of tokens a second with their intervals."""
    marks = []
    for case in block.cases:
        if frame.figures.is_measured(case) and (quantity := frame.quantity(case, "tokens_per_second")):
            found = quantity.estimate
            low, high = (max(found.low, 0.0), found.high) if found.has_interval else (None, None)
            marks.append(Mark(at=case.variant.name, value=found.center, low=low, high=high))
    if not marks:
        return []
    return [
        Chart(
            kind="intervals",
            title=f"Throughput: {block.name}",
            text=f"Tokens a second of each variant on {block.name}, with 95 % intervals",
            at="variant",
            value="throughput",
            unit="tokens/s",
            marks=tuple(marks),
            hardware=frame.hardware(*block.cases),
        )
    ]


def ladder(frame: Frame, block: Block) -> list[Table]:
    """Return what each rung of a ladder gave."""
    rows = tuple(
        (case.variant.name, rung.baseline, Change(judgement=rung.judgement, is_speed=True))
        for case in block.cases
        if (rung := frame.rung(case))
    )
    columns = ("rung", "against", "speed")
    hardware = frame.hardware(*block.cases)
    return (
        [Table(title=f"Each rung by itself: {block.name}", columns=columns, rows=rows, hardware=hardware)]
        if rows
        else []
    )


def within(frame: Frame, block: Block) -> list[Table]:
    """Return what each variant gives over the first one in the same interpreter, where the baseline is in another."""
    found = within_interpreters(block, frame.figures)
    rows = tuple((item.candidate, item.baseline, Change(judgement=item.judgement, is_speed=True)) for item in found)
    title = f"Within one interpreter: {block.name}"
    columns = ("variant", "against", "speed")
    return [Table(title=title, columns=columns, rows=rows, hardware=frame.hardware(*block.cases))] if rows else []


def whole_ladder(frame: Frame) -> list[Chart]:
    """Return the chart of what each rung changes over all workloads, of the step time at the first rung."""
    rungs = rungs_together(frame.figures)
    if not rungs or not all(math.isfinite(rung.judgement.ratio) for rung in rungs):
        return []
    first = rungs[0]
    marks = [Mark(at=first.baseline, start=0.0, value=1.0, series="total")]
    for rung in rungs:
        before = marks[-1].value
        value = before * rung.judgement.ratio
        marks.append(Mark(at=rung.candidate, start=before, value=value, series=rung.judgement.verdict))
    over = f"{first.measured} of {first.blocks}" if first.measured < first.blocks else "all"
    return [
        Chart(
            kind="waterfall",
            title=f"The ladder over {over} workloads",
            text=f"What each rung changes in the step time over {over} workloads, from {first.baseline} "
            f"to {rungs[-1].candidate}, as a share of {first.baseline}'s (geometric means)",
            at="rung",
            value=f"step time against {first.baseline}",
            unit="share",
            marks=(*marks, Mark(at="all together", start=0.0, value=marks[-1].value, series="total")),
            hardware=frame.hardware(*frame.run.suite.cases),
        )
    ]


def waterfall(frame: Frame, block: Block) -> list[Chart]:
    """Return the chart of what each rung of a ladder took off the step time, or added to it."""
    marks: list[Mark] = []
    for case in filter(frame.figures.is_measured, block.cases):
        seconds, rung = frame.center(case, "step_seconds"), frame.rung(case)
        if seconds is not None:
            start = marks[-1].value if marks and rung else 0.0
            marks.append(
                Mark(
                    at=case.variant.name, start=start, value=seconds, series=rung.judgement.verdict if rung else "total"
                )
            )
    if not any(mark.start for mark in marks):
        return []
    end = Mark(at="all together", start=0.0, value=marks[-1].value, series="total")
    return [
        Chart(
            kind="waterfall",
            title=f"The ladder: {block.name}",
            text=f"What each rung changes in the step time of {block.name}, from {marks[0].at} to {marks[-1].at}",
            at="rung",
            value="step time",
            unit="s",
            marks=(*marks, end),
            hardware=frame.hardware(*block.cases),
        )
    ]
