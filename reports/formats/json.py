"""For programs: the contract in docs/reading-results.md; no interval and NaN are null, infinity is "inf"."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from harness.compare import Between, Comparison, Overall
from harness.passport import REPORT_FORMAT
from harness.stats import Judgement
from harness.wire import portable
from reports.document import CaseResult, Cell, Document, Note, Quantity, Result, Section, Table
from reports.formats._words import sentence


def render(document: Document) -> str:
    """Return one run as an object, several as `{"format": 1, "reports": [...]}`, with `between` where compared."""
    if not document.results:
        return printed({"format": REPORT_FORMAT, "reports": [], "sections": list(map(section, document.sections))})
    reports = [report(result) for result in document.results]
    compared = {"between": [between(item) for item in document.between]} if document.between else {}
    return printed(reports[0] if len(reports) == 1 else {"format": REPORT_FORMAT, "reports": reports, **compared})


def printed(data: dict[str, Any]) -> str:
    """Return data as JSON."""
    return json.dumps(portable(without_nan(data)), indent=1, ensure_ascii=False) + "\n"


def section(item: Section) -> dict[str, Any]:
    """Return what a report without results says, which is not of a run as a whole: its notes and tables."""
    notes = [[cell(part) for part in note.parts] for note in item.items if isinstance(note, Note)]
    tables = [
        {"title": table.title, "columns": table.columns, "rows": [list(map(cell, row)) for row in table.rows]}
        for table in item.items
        if isinstance(table, Table)
    ]
    return {"title": item.title, "question": item.question, "notes": notes, "tables": tables}


def cell(item: Cell) -> Any:
    """Return a cell: a quantity as its centre and unit."""
    if isinstance(item, Quantity):
        return {"center": item.estimate.center, "unit": item.unit}
    return item if isinstance(item, str | int | None) else asdict(item)


def report(result: Result) -> dict[str, Any]:
    """Return a run."""
    against = {"base": result.base, "differences": [asdict(item) for item in result.differences]}
    return {
        "format": REPORT_FORMAT,
        "run": result.run,
        "environments": result.environments,
        "cases": [case(item) for item in result.cases],
        "comparisons": [comparison(item) for item in result.comparisons],
        "overall": [over_blocks(item) for item in result.overall],
        **(against if result.base else {}),
        **({"gate": asdict(result.gate)} if result.gate else {}),
        **({"advice": advice(result.advice)} if result.advice else {}),
    }


def advice(notes: Mapping[str, Sequence[Note]]) -> dict[str, list[str]]:
    """Return the sentences about each case."""
    return {case: [sentence(note) for note in told] for case, told in notes.items()}


def between(item: Between) -> dict[str, Any]:
    """Return one of several runs against the first."""
    return {**asdict(item), "comparisons": [comparison(one) for one in item.comparisons]}


def case(item: CaseResult) -> dict[str, Any]:
    """Return a case."""
    return {
        "case": item.case,
        "block": item.block,
        "workload": item.workload,
        "variant": item.variant,
        "outcome": item.outcome,
        "reason": item.reason,
        "metrics": {name: estimate(quantity) for name, quantity in item.metrics.items()},
        "facts": item.facts,
        "warnings": item.warnings,
    }


def estimate(quantity: Quantity) -> dict[str, Any]:
    """Return an estimate with its unit."""
    return {**asdict(quantity.estimate), "unit": quantity.unit}


def comparison(item: Comparison) -> dict[str, Any]:
    """Return a comparison."""
    names = {"block": item.block, "case": item.case, "baseline": item.baseline, "candidate": item.candidate}
    return {**names, "metric": item.metric, **judgement(item.judgement)}


def over_blocks(item: Overall) -> dict[str, Any]:
    """Return a geometric mean, with how many of the blocks it holds."""
    names = {"baseline": item.baseline, "candidate": item.candidate, "metric": "step_seconds"}
    return {**names, "measured": item.measured, "blocks": item.blocks, **judgement(item.judgement)}


def judgement(item: Judgement) -> dict[str, Any]:
    """Return a judgement."""
    order = ("ratio", "low", "high", "confidence", "verdict", "detectable", "launches", "needed", "warnings")
    values = asdict(item)
    found = {name: values[name] for name in order}
    return found if item.difference is None else {"difference": item.difference, **found}


def without_nan(value: Any) -> Any:
    """Return `value` with None for every NaN."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
