"""Where a step's time went beyond what its products take at the peak, from the traces."""

from collections.abc import Iterator

from harness.errors import UserError
from harness.spec import Block, Case
from harness.traces.read import trace_files
from reports.document import Cell, Note, Section, Table, exact, filled
from reports.frame import Frame
from reports.traced import FAR, Traced, traced_case
from reports.views.operators import family
from reports.views.shares import ceilings_of, work_of

ORDER = 15
PRODUCTS = ("matrix products", "attention")
IDLE = 0.3  # share of a step without a kernel from which on it is the host that sets the pace
COLUMNS = (
    "variant", "products at the peak, at least", "beyond that in products", "in other operators", "the dearest of them",
    "between operators, or kernels", "padding asked for",
)  # fmt: skip


def view(frame: Frame) -> Section:
    """Return a table for each block; nothing without a passport, or without traces."""
    items: list[Note | Table] = []
    for block in frame.run.suite.blocks:
        items += of_block(frame, block)
    return Section(
        title="Distance from the peak",
        question="What does a step do beside its products, and how far are these from the peak?",
        items=tuple(items),
    )


def of_block(frame: Frame, block: Block) -> Iterator[Note | Table]:
    """Yield the shares of a step of each case that has a trace and a peak, and why a trace cannot be read."""
    rows = []
    for case in block.cases:
        least = seconds_at_peak(frame, block, case)
        if least and any(trace_files(frame.run.path / "traces" / case.id)):
            try:
                traced = traced_case(frame, case)
                rows.append(row(block, case, traced, least))
                yield from waits(f"{block.name}, {case.variant.name}", traced)
                if abs(traced.added) > FAR and not traced.stretches_gaps:
                    says = f"its trace is {traced.added:+.0%} off the timed step, so its shares tell little"
                    yield Note(
                        parts=(f"{block.name}, {case.variant.name}: {says}; trace a larger batch",), kind="warning"
                    )
            except UserError as error:
                yield Note(parts=(f"{block.name}, {case.variant.name}: {error}",), kind="warning")
    if rows:
        title = f"{block.name}: shares of a step, from the trace"
        yield filled(Table(title=title, columns=COLUMNS, rows=tuple(rows), hardware=frame.hardware(*block.cases)))


def waits(name: str, traced: Traced) -> Iterator[Note]:
    """Yield what to do where a GPU waits for its host for much of a step."""
    idle = traced.operators.get(traced.account.rest, 0.0) / traced.step
    if traced.account.on_device and idle >= IDLE:
        says = f"{name}: no kernel runs in {idle:.0%} of a step: its host does not keep up"
        yield Note(parts=(f"{says}; a larger batch, or compile=reduce-overhead, keeps the GPU busier",), kind="answer")


def seconds_at_peak(frame: Frame, block: Block, case: Case) -> float | None:
    """Return what a step's products take at the peak; None where that is unknown, or a trace has one length of many."""
    work, peak = work_of(frame, case), ceilings_of(frame, case).peak(case.variant.precision)
    is_one = block.workload.lengths == 1 and frame.figures.is_measured(case)
    return sum(work.values()) / peak if work and peak and is_one else None


def row(block: Block, case: Case, traced: Traced, least: float) -> tuple[Cell, ...]:
    """Return a case's row; nothing of products that kernels of other names hold, as a trace that is short of them."""
    padding = exact(block.workload.padding, "share") if block.workload.padding else None
    at_peak, more, others, idle = parts_of(traced, least)
    rest: tuple[Cell, ...] = (None, None, None)
    if more >= 0:
        rest = exact(more, "share"), exact(others, "share"), dearest(traced)
    return (case.variant.name, exact(at_peak, "share"), *rest, exact(idle, "share"), padding)


def parts_of(traced: Traced, least: float) -> tuple[float, float, float, float]:
    """Return the shares of a step that are the `least` seconds of its products, and the three that it is more."""
    whole, idle = traced.step, traced.operators.get(traced.account.rest, 0.0)
    others = sum(seconds for _, seconds in others_of(traced))
    return least / whole, (whole - others - idle - least) / whole, others / whole, idle / whole


def others_of(traced: Traced) -> list[tuple[str, float]]:
    """Return the operators that are no products, the dearest first, with their seconds."""
    rest = traced.account.rest
    return [(name, took) for name, took in traced.operators.items() if name != rest and family(name) not in PRODUCTS]


def dearest(traced: Traced) -> str | None:
    """Return the operator that takes most of those that are no products, with its share of the step."""
    return next((f"{name}, {took / traced.step:.0%}" for name, took in others_of(traced)), None)
