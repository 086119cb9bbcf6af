"""Which cases have no figures, and why."""

from reports.document import Section, Status, Table
from reports.frame import Frame

ORDER = 20
FEW = 4  # workloads that are named; of more, how many there are


def view(frame: Frame) -> Section:
    """Return every case that did not end well, with its reason; those of one variant and reason in one row."""
    alike: dict[tuple[str, str, str | None], list[str]] = {}
    for block in frame.run.suite.blocks:
        for case in block.cases:
            if (outcome := frame.outcome(case))["status"] != "ok":
                alike.setdefault((case.variant.name, outcome["status"], outcome["reason"]), []).append(block.name)
    rows = []
    for (variant, status, reason), names in alike.items():
        each = names if len(names) <= FEW else [f"{len(names)} of {len(frame.run.suite.blocks)} workloads"]
        rows += [(name, variant, Status(outcome=status), reason) for name in each]
    table = Table(
        title="Cases that did not end well", columns=("workload", "variant", "outcome", "reason"), rows=tuple(rows)
    )
    return Section(title="Outcomes", question="Which cases have no figures, and why?", items=(table,) if rows else ())
