"""Baselines as reports: the names, and how far the newest under a name has crept from the first."""

from collections.abc import Sequence
from dataclasses import replace

from harness.baseline import Baseline
from harness.store import Run
from reports.document import Document, Note, Section, Table, filled
from reports.frame import frame_of, result_of
from reports.report import comparison_of

FROM = ("saved", "who", "run", "commit", "machine")


def listing(found: Sequence[Sequence[Baseline]]) -> Document:
    """Return the names, each with how often it was saved and the newest."""
    rows = tuple((saved[-1].name, len(saved), *source(saved[-1])) for saved in found)
    table = Table(title="Newest under each name", columns=("name", "saved times", *FROM), rows=rows)
    nothing = Note(parts=("no baselines yet: save one with `tandem baseline save NAME RUN`",))
    section = Section(
        title="Baselines", question="Which runs are kept by name?", items=(filled(table) if rows else nothing,)
    )
    return Document(title="Baselines", question=section.question, sections=(section,))


def creep(saved: Sequence[Baseline], anchor: Run, newest: Run) -> Document:
    """Return what was saved under a name, and its newest run against the anchor."""
    name = saved[0].name
    rows = tuple((str(item.number), *source(item)) for item in saved)
    history = Section(
        title=f"Baseline {name}",
        question="What was saved under this name?",
        items=(filled(Table(title="The first is the anchor, the last counts", columns=("", *FROM), rows=rows)),),
    )
    if len(saved) == 1:
        note = Note(parts=("saved once: there is nothing to creep away from the anchor yet",), kind="answer")
        section = Section(title="Creep", question=QUESTION, items=(note,))
        document = Document(
            title=anchor.suite.name,
            question=anchor.suite.question,
            sections=(section,),
            results=(result_of(frame_of(anchor)),),
        )
    else:
        document = comparison_of(anchor, newest)
    sections = tuple(replace(section, title="Creep", question=QUESTION) for section in document.sections)
    return replace(document, title=f"{name}: {document.title}", sections=(history, *sections))


QUESTION = "How far is the newest from the anchor, many small changes together?"


def source(item: Baseline) -> tuple[str | None, ...]:
    """Return where a baseline is from."""
    return item.saved, item.who, item.run, item.commit, item.machine
