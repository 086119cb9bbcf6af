"""Whether the candidate is worse than the base, case by case and metric by metric."""

import math
from collections import Counter

from harness.metrics import METRICS
from harness.policy import OUTCOME
from harness.stats import Judgement
from harness.stats import Verdict as Word
from harness.verdict import Ruling, Verdict
from reports.document import Cell, Change, Note, Quantity, Section, Status, Table, exact, filled, heading
from reports.frame import Frame

ORDER = 5
WORDS: dict[str, Word] = {"fail": "worse", "improved": "better", "unsure": "unsure"}


def view(frame: Frame) -> Section:
    """Return the verdict in a sentence, what is not a pass with its reason, then all verdicts and what they rest on."""
    ruling = frame.gate
    question = f"Is {ruling.candidate} worse than {ruling.base}?" if ruling else ""
    if ruling is None:
        return Section(title="Gate", question=question, items=())
    hardware = frame.hardware(*frame.run.suite.cases)
    return Section(title="Gate", question=question, items=(*answers(ruling), table(ruling, hardware), grounds(ruling)))


def answers(ruling: Ruling) -> list[Note]:
    """Return the verdict, and a sentence for each check that did not pass."""
    counts = Counter("allowed" if item.allowed else item.verdict for item in ruling.verdicts)
    said = ", ".join(f"{count} {word}" for word, count in counts.most_common())
    notes = [Note(parts=(f"{ruling.verdict}: {ruling.candidate} against {ruling.base}: {said}",), kind="answer")]
    return notes + [told(item) for item in ruling.verdicts if item.verdict != "pass"]


def told(item: Verdict) -> Note:
    """Return a verdict as a sentence."""
    word = "allowed" if item.allowed else item.verdict
    figure = cell(item) if math.isfinite(item.low) else "-"
    is_calm = item.verdict == "improved" or item.allowed
    return Note(
        parts=(f"{word}: {item.block}: {heading(item.metric)}", figure, because(item)),
        kind="info" if is_calm else "warning",
    )


def because(item: Verdict) -> str:
    """Return why a verdict is what it is."""
    return f"{item.reason}; allowed: {item.allowed}" if item.allowed else item.reason


def table(ruling: Ruling, hardware: tuple[str, ...]) -> Table:
    """Return a row a block, a column a metric: the candidate's figure over the base's."""
    metrics = list(dict.fromkeys(item.metric for item in ruling.verdicts))
    found: dict[tuple[str, str], dict[str, Cell]] = {}
    for item in ruling.verdicts:
        found.setdefault((item.block, item.case), {})[item.metric] = cell(item)
    rows = tuple((block, *map(cells.get, metrics)) for (block, _), cells in found.items())
    columns = ("what", *map(heading, metrics))
    return filled(Table(title="Candidate over base", columns=columns, rows=rows, hardware=hardware))


def cell(item: Verdict) -> Cell:
    """Return a verdict as a cell: a ratio or a difference where there is one."""
    if item.metric == OUTCOME or item.verdict == "error":
        return Status(outcome=item.verdict) if item.verdict in ("fail", "error") else item.verdict
    if item.verdict == "pass":  # not "same": it may as well be a little better
        return f"pass ({interval(item)})" if math.isfinite(item.low) else "pass"
    return Change(
        judgement=Judgement(
            ratio=item.ratio, low=item.low, high=item.high, verdict=WORDS[item.verdict], detectable=item.detectable,
            launches=item.launches, difference=item.difference,
        )
    )  # fmt: skip


def interval(item: Verdict) -> str:
    """Return the interval of a verdict: of the ratio, or of the difference in percentage points."""
    if item.difference is None:
        return f"{item.low:.2f}–{item.high:.2f}"
    return f"{100 * item.low:+.1f} to {100 * item.high:+.1f} pp"


def grounds(ruling: Ruling) -> Table:
    """Return what each verdict on a figure that varies rests on."""
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (
            item.block,
            heading(item.metric),
            *(share(item, value) for value in (item.margin, item.noise_floor, item.detectable)),
            item.launches,
        )
        for item in ruling.verdicts
        if item.metric != OUTCOME and METRICS[item.metric].noise != "exact"
    )
    columns = ("what", "metric", "margin", "noise floor", "detectable", "launches")
    return Table(title="What the verdicts rest on", columns=columns, rows=rows)


def share(item: Verdict, value: float) -> Quantity | None:
    """Return a share, of a difference in percentage points, as a cell; nothing where it is not known."""
    unit = "share" if item.difference is None else "points"
    return None if math.isnan(value) else exact(value, unit)
