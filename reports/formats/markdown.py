"""For a pull request: GitHub's Markdown."""

import re

from tabulate import tabulate

from reports.document import Chart, Document, Note, Section, Table
from reports.formats import _words

SPECIAL = re.compile(r"([\\`*\[\]<>|~]|(?<![^\W_])_|_(?![^\W_]))")  # an underscore within a word is none


def render(document: Document) -> str:
    """Return the document as Markdown; a chart's figures are in the tables."""
    parts = [f"# {escape(document.title)}", escape(document.question)]
    for section in document.sections:
        parts += [f"## {escape(section.title)}", *blocks(section)]
    return "\n\n".join([*parts, f"<sub>{_words.legend(document)}</sub>"]) + "\n"


def blocks(section: Section) -> list[str]:
    """Return the paragraphs and tables of a section."""
    found = [f"*{escape(section.question)}*"]
    for item in section.items:
        if isinstance(item, Note):
            found.append(
                f"**{escape(_words.sentence(item))}**" if item.kind == "answer" else escape(_words.sentence(item))
            )
        elif not isinstance(item, Chart):
            found += [
                f"### {escape(item.title)}",
                grid(item),
                *(f"<sub>{escape(line)}</sub>" for line in item.hardware),
            ]
    return found


def grid(table: Table) -> str:
    """Return a table."""
    headings, scales = _words.columns(table)
    rows = [
        [
            escape(f"{_words.mark(cell)} {_words.words(cell, scale)}".lstrip())
            for cell, scale in zip(row, scales, strict=True)
        ]
        for row in table.rows
    ]
    sides = [
        "right" if any(_words.is_number(row[number]) for row in table.rows) else "left"
        for number in range(len(headings))
    ]
    return tabulate(rows, [*map(escape, headings)], tablefmt="github", colalign=sides, disable_numparse=True)


def escape(outside: str) -> str:
    """Return a text so that Markdown shows it as it is."""
    return SPECIAL.sub(r"\\\1", _words.text(outside)).replace("@", "@\u2060")  # a word joiner: nobody is mentioned
