"""Which attention kernel was asked for, and which one ran."""

from harness.correct import is_as_asked
from reports.document import Section, Status, Table
from reports.frame import Frame

ORDER = 70


def view(frame: Frame) -> Section:
    """Return requested and actual kernel of each traced case."""
    rows = tuple(
        (
            block.name,
            case.variant.name,
            case.variant.attention,
            actual,
            "yes" if is_as_asked(case.variant, actual) else Status(outcome="no"),
        )
        for block in frame.run.suite.blocks
        for case in block.cases
        if (actual := frame.outcome(case)["facts"].get("attention_actual"))
    )
    table = Table(
        title="Attention as the trace shows it",
        columns=("workload", "variant", "requested", "actual", "as asked"),
        rows=rows,
        hardware=frame.hardware(*frame.run.suite.cases),
    )
    return Section(title="Attention", question="Did the kernel run that was asked for?", items=(table,) if rows else ())
