"""What compiling costs, cold and warm, where it breaks off, and when it has paid."""

from harness.spec import Block, Case
from reports.document import Cell, Note, Section, Table, filled
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
REASONS = {"graph_break_reasons": "graph break", "recompile_reasons": "recompiled"}


def view(frame: Frame) -> Section:
    """Return a table for each block that compiles, and the reasons for breaks and recompiles."""
    items: list[Table | Note] = []
    for block in frame.run.suite.blocks:
        compiled = [case for case in block.cases if case.variant.compile != "none" and frame.figures.is_measured(case)]
        if compiled:
            items.append(table(frame, block, compiled))
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


def reasons(frame: Frame, block: Block, case: Case) -> list[Note]:
    """Return why graphs broke and why code was compiled again."""
    facts = frame.outcome(case)["facts"]
    found: list[tuple[Cell, ...]] = [
        (f"{block.name}, {case.variant.name}: {what}: {reason}",)
        for fact, what in REASONS.items()
        for reason in facts.get(fact, [])
    ]
    return [Note(parts=parts) for parts in found]
