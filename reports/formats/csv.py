"""For a spreadsheet or pandas: a row for each case and metric, in base units, beside its comparison."""

import csv
import math
from collections.abc import Iterator
from io import StringIO

from harness.compare import Comparison
from reports.document import Document, Quantity, Result

COMPARED = (
    *("baseline", "ratio", "ratio_low", "ratio_high", "verdict", "detectable", "launches"),
    *("difference", "difference_low", "difference_high"),
)
COLUMNS = (
    *("run", "block", "case", "variant", "outcome", "reason"),
    *("metric", "unit", "center", "low", "high", "n"),
    *COMPARED,
)
ACROSS = ("first_run", *(f"run_{name}" for name in COMPARED[1:]))
"""What stands behind these columns where several runs are compared: each against the first."""


def render(document: Document) -> str:
    """Return the results as comma-separated values; a failed case has a row without figures."""
    out = StringIO()
    writer = csv.writer(out, lineterminator="\n")
    between = {(item.candidate, item.case, item.metric): item for one in document.between for item in one.comparisons}
    writer.writerow((*COLUMNS, *(ACROSS if document.between else ())))
    for result in document.results:
        for row in rows(result):
            key = (row[0], row[2], row[6])
            writer.writerow((*row, *(comparison(between.get(key)) if document.between else ())))  # type: ignore[arg-type]
    return out.getvalue()


def rows(result: Result) -> Iterator[tuple[object, ...]]:
    """Yield a run's rows."""
    compared = {(item.case, item.metric): item for item in result.comparisons}
    for case in result.cases:
        name = case.variant["name"]
        head = (result.run["id"], case.block, case.case, name, case.outcome, case.reason)
        for metric, quantity in case.metrics.items():
            yield *head, metric, *estimate(quantity), *comparison(compared.get((case.case, metric)))
        if not case.metrics:
            yield *head, *[None] * (len(COLUMNS) - len(head))


def estimate(quantity: Quantity) -> tuple[object, ...]:
    """Return the columns of an estimate."""
    found = quantity.estimate
    return quantity.unit, known(found.center), known(found.low), known(found.high), found.n


def comparison(item: Comparison | None) -> tuple[object, ...]:
    """Return the columns of a comparison, empty without one."""
    if item is None:
        return (None,) * 10
    found = item.judgement
    figures = [known(value) for value in (found.center, found.low, found.high)]
    ratio, difference = (figures, [None] * 3) if found.difference is None else ([None] * 3, figures)
    return item.baseline, *ratio, found.verdict, known(found.detectable), found.launches, *difference


def known(value: float) -> float | None:
    """Return a number, or None for NaN."""
    return None if math.isnan(value) else value
