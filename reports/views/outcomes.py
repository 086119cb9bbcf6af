"""Which cases have no figures, and why."""

from reports.document import Section, Status, Table
from reports.frame import Frame

ORDER = 20


def view(frame: Frame) -> Section:
    """Return every case that did not end well, with its reason."""
    rows = tuple(
        (block.name, case.variant.name, Status(outcome=outcome["status"]), outcome["reason"])
        for block in frame.run.suite.blocks
        for case in block.cases
        if (outcome := frame.outcome(case))["status"] != "ok"
    )
    table = Table(title="Cases that did not end well", columns=("workload", "variant", "outcome", "reason"), rows=rows)
    return Section(title="Outcomes", question="Which cases have no figures, and why?", items=(table,) if rows else ())
