"""The largest batch and the longest sequence that fit into memory."""

from harness.fit import METRIC
from harness.spec import Block
from reports.document import Section, Table, filled
from reports.frame import Frame

ORDER = 5


def view(frame: Frame) -> Section:
    """Return a table of each block where sizes were looked for."""
    tables = tuple(table for block in frame.run.suite.blocks if (table := sizes(frame, block)).rows)
    return Section(title="Fit", question="What is the largest that fits?", items=tables)


def sizes(frame: Frame, block: Block) -> Table:
    """Return the sizes that each variant reached within the memory that it might take."""
    found = ((case, [frame.quantity(case, metric) for metric in METRIC.values()]) for case in block.cases)
    rows = tuple((case.variant.name, *values) for case, values in found if any(values))
    limit = frame.run.suite.memory_limit / 2**30
    return filled(
        Table(
            title=f"{block.name}, in {limit:.3g} GiB",
            columns=("variant", *(name.replace("_", " ") for name in METRIC.values())),
            rows=rows,
            hardware=frame.hardware(*block.cases),
        )
    )
