"""What was odd while measuring, and what to do about it."""

from reports.document import Section, Table
from reports.frame import Frame

ORDER = 100


def view(frame: Frame) -> Section:
    """Return each warning once, with the cases it is about."""
    cases: dict[tuple[str, str, str], list[str]] = {}
    for block in frame.run.suite.blocks:
        for case in block.cases:
            for warning in frame.outcome(case)["warnings"]:
                key = (warning["code"], warning["message"], warning["remedy"])
                cases.setdefault(key, []).append(f"{block.name} {case.variant.name}")
    rows = tuple((code, ", ".join(where), message, remedy) for (code, message, remedy), where in cases.items())
    table = Table(title="Warnings", columns=("warning", "where", "what was seen", "what to do"), rows=rows)
    return Section(title="Warnings", question="What was odd, and what to do about it?", items=(table,) if rows else ())
