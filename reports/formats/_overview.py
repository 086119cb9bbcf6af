"""Overview: a page's first screen, taken from the head of a document: the answer, the ladder, a row for each case."""

from dataclasses import dataclass, replace

from reports.document import CaseResult, Cell, Change, Chart, Document, Note, Result, Section, Status, Table, filled
from reports.views._quality import heading

MEMORY = ("memory_peak_bytes", "memory_peak_maxrss_bytes")


@dataclass(frozen=True, kw_only=True)
class Overview:
    """The first answer, what else is said in the first section, its most telling chart, all cases with their ids."""

    answer: Note | None = None
    notes: tuple[Note, ...] = ()
    chart: Chart | None = None
    table: Table | None = None
    cases: tuple[str, ...] = ()


def divided(document: Document) -> tuple[Overview, tuple[Section, ...]]:
    """Return the first screen, and the sections without what stands there."""
    if not document.sections:
        return Overview(), ()
    first, *others = document.sections
    notes = leading(first)
    answer = next((note for note in notes if note.kind == "answer"), None)
    chart = telling(first)
    shown = [*notes, chart]
    rest = tuple(item for item in first.items if not any(item is one for one in shown))
    table, cases = table_of(document)
    overview = Overview(
        answer=answer,
        notes=tuple(note for note in notes if note is not answer),
        chart=chart,
        table=table,
        cases=cases,
    )
    return overview, (*([replace(first, items=rest)] if rest else []), *others)


def leading(section: Section) -> list[Note]:
    """Return the notes at the head of a section."""
    notes: list[Note] = []
    for item in section.items:
        if not isinstance(item, Note):
            break
        notes.append(item)
    return notes


def telling(section: Section) -> Chart | None:
    """Return a section's first ladder, else its first chart."""
    charts = [item for item in section.items if isinstance(item, Chart)]
    ladders = [chart for chart in charts if chart.kind == "waterfall"]
    return next(iter(ladders or charts), None)


def table_of(document: Document) -> tuple[Table | None, tuple[str, ...]]:
    """Return a row for each case of the run, and the cases' ids; nothing where a document is about several runs."""
    if len(document.results) != 1 or document.results[0].base or not document.results[0].cases:
        return None, ()
    (result,) = document.results
    cases = [case for case in result.cases if case.workload.get("model")]  # a ceiling's step time says nothing
    if not cases:
        return None, ()
    baselines = {item.baseline for item in result.comparisons if item.metric == "step_seconds"}
    scores = {case.score for case in result.cases if case.score}
    table = Table(
        title="All cases",
        columns=(
            *("workload", "variant", "outcome", one("speed against {}", baselines) or "speed", "against", "step time"),
            *("tokens/s", "peak memory", one("{}", set(map(heading, scores))) or "score", "scored by"),
        ),
        rows=tuple(row(result, case, are_alike=(len(baselines) < 2, len(scores) < 2)) for case in cases),
        hardware=tuple(dict.fromkeys(str(item["line"]) for item in result.environments.values() if "line" in item)),
    )
    return filled(table), tuple(case.case for case in cases)


def one(text: str, names: set[str]) -> str:
    """Return a text about the only name; empty where there are several."""
    return text.format(*names) if len(names) == 1 else ""


def row(result: Result, case: CaseResult, *, are_alike: tuple[bool, bool]) -> tuple[Cell, ...]:
    """Return what a case costs and gains; against what and scored by what, where that is not alike for all."""
    found = [item for item in result.comparisons if (item.case, item.metric) == (case.case, "step_seconds")]
    score = case.score if case.score in case.metrics else None
    names = [item.baseline for item in result.comparisons if item.block == case.block]
    without = "baseline" if case.variant["name"] in names else None
    speed = Change(judgement=found[0].judgement, is_speed=True) if found else without
    return (
        case.block,
        str(case.variant["name"]),
        case.outcome if case.outcome == "ok" else Status(outcome=case.outcome),
        speed,
        found[0].baseline if found and not are_alike[0] else None,
        case.metrics.get("step_seconds"),
        case.metrics.get("tokens_per_second"),
        next((case.metrics[metric] for metric in MEMORY if metric in case.metrics), None),
        case.metrics[score] if score else None,
        heading(score) if score and not are_alike[1] else None,
    )
