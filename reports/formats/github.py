"""Annotations for GitHub Actions, the most severe first: print them in a step of a workflow."""

from harness import exits
from harness.verdict import Verdict
from reports.document import Document
from reports.formats._words import text
from reports.formats.junit import sentence

MOST = 10  # GitHub shows ten of each kind a step
LEVELS = {"fail": "error", "error": "error", "unsure": "warning", "improved": "notice"}


def render(document: Document) -> str:
    """Return a workflow command a line, for each verdict that is not a pass and each case that failed."""
    found = [item for result in document.results if result.gate for item in result.gate.verdicts]
    told = sorted(filter(is_told, found), key=rank)
    lines = [line(LEVELS[item.verdict], item.block, sentence(item)) for item in told]
    lines += [
        line("error", f"{case.block} {case.variant['name']}", f"{case.outcome}: {case.reason}")
        for result in document.results
        if not result.gate
        for case in result.cases
        if case.outcome in exits.FAILURES
    ]
    more = [line("notice", "tandem", f"{len(lines) - MOST + 1} more are in the report")] if len(lines) > MOST else []
    return "".join(lines[: MOST - len(more)] + more)


def is_told(item: Verdict) -> bool:
    """Tell whether a verdict is worth an annotation."""
    return item.verdict in LEVELS and not item.allowed


def rank(item: Verdict) -> tuple[int, float]:
    """Return where a verdict stands: failures first, the largest first."""
    size = item.ratio - 1 if item.difference is None else item.difference
    return list(LEVELS).index(item.verdict), -abs(size) if size == size else 0.0


def line(level: str, title: str, message: str) -> str:
    """Return an annotation; what would end a property or the command is escaped as GitHub asks."""
    name = escaped(title).replace(":", "%3A").replace(",", "%2C")
    return f"::{level} title={name}::{escaped(message)}\n"


def escaped(outside: str) -> str:
    """Return a text on one line, in GitHub's own escapes."""
    return text(outside).replace("%", "%25")
