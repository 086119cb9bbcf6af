"""Markdown for a pull request's comment or a CI job's summary: the answer first, the tables folded away."""

import html
from collections.abc import Iterator

from reports.document import Document, Note, Section, Table
from reports.formats import _words
from reports.formats.markdown import escape, grid

MOST = 60_000  # characters: a comment on GitHub holds 65,536; a job's summary would hold 1 MiB
LEFT_OUT = "\nThe rest is in the report.\n"


def render(document: Document) -> str:
    """Return what the sections say, as far as it fits."""
    page = f"### {escape(document.sections[0].question)}\n\n"
    for part in (part for section in document.sections for part in parts(section)):
        if len(page) + len(part) > MOST - len(LEFT_OUT):
            return page + LEFT_OUT
        page += part
    return page


def parts(section: Section) -> Iterator[str]:
    """Yield the notes of a section in the open, then its tables."""
    for note in section.items:
        if isinstance(note, Note):
            said = escape(_words.sentence(note))
            yield f"**{said}**\n\n" if note.kind == "answer" else f"- {said}\n"
    for table in section.items:
        if isinstance(table, Table):
            below = "".join(f"\n<sub>{escape(line)}</sub>\n" for line in table.hardware)
            # Inside HTML, where Markdown has no escapes.
            title = html.escape(_words.text(f"{section.title}: {table.title}"))
            yield f"\n<details><summary>{title}</summary>\n\n{grid(table)}\n{below}\n</details>\n"
