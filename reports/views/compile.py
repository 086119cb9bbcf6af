"""What compiling costs, cold and warm, where it breaks off, and when it has paid."""

import math

from harness.spec import Block, Case
from reports.document import Cell, Chart, Mark, Note, Section, Table, filled
from reports.frame import Frame

ORDER = 40
COLUMNS = {
    "cold first step": "cold_first_step_seconds",
    "warm first step": "warm_first_step_seconds",
    "cold compile": "cold_compile_seconds",
    "Dynamo": "cold_dynamo_seconds",
    "AOT": "cold_aot_seconds",
    "Inductor": "cold_inductor_seconds",
    "warm compile": "warm_compile_seconds",
    "graphs": "graphs",
    "graph breaks": "graph_breaks",
    "recompiles": "recompiles",
    "given up": "recompile_limits",
}
FEWEST = 1000  # steps that the chart shows where no variant pays
POINTS = 4  # of a straight line, so that each can be pointed at
REASONS = {"graph_break_reasons": "graph break", "recompile_reasons": "recompiled"}


def view(frame: Frame) -> Section:
    """Return a table for each block that compiles, and the reasons for breaks and recompiles."""
    items: list[Table | Chart | Note] = []
    for block in frame.run.suite.blocks:
        compiled = [case for case in block.cases if case.variant.compile != "none" and frame.figures.is_measured(case)]
        if compiled:
            items += [table(frame, block, compiled), *paid(frame, block, compiled)]
            items += [note for case in compiled for note in reasons(frame, block, case)]
    return Section(title="Compiling", question="What does compiling cost, and when has it paid?", items=tuple(items))


def table(frame: Frame, block: Block, compiled: list[Case]) -> Table:
    """Return what compiling costs each variant, below the baseline's own first steps."""
    cases = [*([] if block.baseline_case in compiled else [block.baseline_case]), *compiled]
    rows = tuple(
        (
            case.variant.name,
            *(frame.quantity(case, metric) for metric in COLUMNS.values()),
            frame.break_even(block, case),
        )
        for case in cases
    )
    columns = ("variant", *COLUMNS, "pays after")
    return filled(Table(title=block.name, columns=columns, rows=rows, hardware=frame.hardware(*cases)))


def paid(frame: Frame, block: Block, compiled: list[Case]) -> list[Chart]:
    """Return what each variant has saved after so many steps: below 0 until compiling has paid."""
    step, base = (frame.center(block.baseline_case, name) for name in ("step_seconds", "cold_start_seconds"))
    known = [
        (case, comparison.judgement, cold)
        for case in compiled
        if (comparison := frame.comparison(case, "step_seconds")) and (cold := frame.center(case, "cold_start_seconds"))
    ]
    if not (step and base and known):
        return []
    ends = [point.steps for case, *_ in known if (point := frame.break_even(block, case)) and point.steps < math.inf]
    first, last = frame.run.suite.checked_steps(block.workload), 2 * max([*ends, FEWEST])

    def saved(steps: float, ratio: float, cold: float) -> float:
        return (steps - first) * step * (1 - ratio) - (cold - base)

    marks = tuple(
        Mark(
            at=at,
            series=case.variant.name,
            value=saved(at, found.ratio, cold),
            low=saved(at, found.high, cold) if math.isfinite(found.high) else None,
            high=saved(at, found.low, cold) if math.isfinite(found.low) else None,
        )
        for case, found, cold in known
        for at in (first + (last - first) * part / POINTS for part in range(POINTS + 1))
    )
    return [
        Chart(
            kind="curves",
            title=f"Saved by compiling: {block.name}",
            text="Seconds that each compiled variant has saved after so many steps, its compilation paid for above 0",
            at="steps",
            value="saved",
            unit="s",
            marks=marks,
            hardware=frame.hardware(block.baseline_case, *(case for case, *_ in known)),
        )
    ]


def reasons(frame: Frame, block: Block, case: Case) -> list[Note]:
    """Return why graphs broke and why code was compiled again."""
    facts = frame.outcome(case)["facts"]
    found: list[tuple[Cell, ...]] = [
        (f"{block.name}, {case.variant.name}: {what}: {reason}",)
        for fact, what in REASONS.items()
        for reason in facts.get(fact, [])
    ]
    return [Note(parts=parts) for parts in found]
