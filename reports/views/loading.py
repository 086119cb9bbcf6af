"""How fast each way of loading data is alone, how long training waits for it, and what memory it takes."""

from harness.spec import Block
from reports.document import Section, Table, filled
from reports.frame import Frame

ORDER = 55
COLUMNS = {
    "loading alone": "loader_samples_per_second",
    "training": "samples_per_second",
    "waits, of a step": "wait_share",
    "data": "data_seconds",
    "step": "step_seconds",
    "memory of workers": "memory_loader_bytes",
}


def view(frame: Frame) -> Section:
    """Return a table of each block that has a loader."""
    blocks = [block for block in frame.run.suite.blocks if any(variant.loader != "none" for variant in block.variants)]
    return Section(
        title="Loading",
        question="Does training wait for its data?",
        items=tuple(table for block in blocks if (table := loading(frame, block)).rows),
    )


def loading(frame: Frame, block: Block) -> Table:
    """Return samples a second alone and in training, the share of a step spent waiting, and the workers' memory."""
    cases = [case for case in block.cases if frame.figures.is_measured(case) and frame.quantity(case, "load_seconds")]
    rows = tuple((case.variant.name, *(frame.quantity(case, metric) for metric in COLUMNS.values())) for case in cases)
    return filled(Table(title=block.name, columns=("variant", *COLUMNS), rows=rows, hardware=frame.hardware(*cases)))
