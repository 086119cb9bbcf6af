"""For a terminal: tables as wide as it is, colours where it has them."""

import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import StringIO

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.rule import Rule
from rich.table import Table as Grid
from rich.text import Text

from reports.document import Cell, Change, Chart, Document, Note, Section, Table
from reports.formats import _words

STYLES = {
    "better": "bold green",
    "worse": "bold red",
    "same": "blue",
    "unsure": "yellow",
    "different": "magenta",
    "failed": "red",
    "answer": "bold",
    "warning": "yellow",
}
WIDTH_ELSEWHERE = 120  # where stdout is no terminal
GAP = 3  # between two columns


def render(document: Document, *, width: int | None = None, color: bool | None = None) -> str:
    """Return the document as text; with escape codes for colour if stdout is a terminal or `color` says so."""
    console = Console(
        file=StringIO(),
        width=width or shutil.get_terminal_size((WIDTH_ELSEWHERE, 24)).columns,
        force_terminal=sys.stdout.isatty() if color is None else color,
        highlight=False,
        legacy_windows=False,
    )
    for section in document.sections:
        show(console, section)
    if any(isinstance(cell, Change) for section in document.sections for cell in cells(section)):
        console.print(Text(_words.legend(document), style="dim"))
    found = console.file.getvalue()  # type: ignore[attr-defined]
    return "\n".join(line.rstrip() for line in found.splitlines()) + "\n"


def cells(section: Section) -> list[Cell]:
    """Return the cells of all tables of a section."""
    return [cell for item in section.items if isinstance(item, Table) for row in item.rows for cell in row]


def show(console: Console, section: Section) -> None:
    """Print a section; a chart's figures are in the tables."""
    heading = Text.assemble((_words.text(section.title), "bold"), f" · {_words.text(section.question)}")
    console.print(Rule(heading, align="left", style="dim"))
    for item in section.items:
        if isinstance(item, Note):
            console.print(Text(_words.sentence(item), style=STYLES.get(item.kind, "")))
        elif not isinstance(item, Chart):
            console.print(Text(f"\n{_words.text(item.title)}", style="bold"))
            for part in parts(item, console.width):
                console.print(part)
            for line in item.hardware:
                console.print(Text(f" {_words.text(line)}", style="dim"))
    console.print()


def parts(table: Table, width: int) -> Iterator[Grid]:
    """Yield the table, or where it is too wide even with wrapped cells, several that repeat its first column."""
    headings, scales = _words.columns(table)
    columns = [
        Column(heading=heading, cells=[row[number] for row in table.rows], scale=scale)
        for number, (heading, scale) in enumerate(zip(headings, scales, strict=True))
    ]
    first, rest = columns[0], columns[1:]
    while rest:
        fitting = 1
        while fitting < len(rest) and needed([first, *rest[: fitting + 1]]) <= width:
            fitting += 1
        yield grid([first, *rest[:fitting]], width)
        rest = rest[fitting:]


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of a table; its heading may always be wrapped, its cells only where there is no room."""

    heading: str
    cells: list[Cell]
    scale: _words.Scale | None

    @property
    def texts(self) -> list[str]:
        """The cells as text, with the signs of their verdicts."""
        return [f"{_words.mark(cell)} {_words.words(cell, self.scale)}".strip() for cell in self.cells]

    @property
    def least(self) -> int:
        """The longest word."""
        return max(cell_len(word) for text in (self.heading, *self.texts) for word in text.split(" "))

    @property
    def wanted(self) -> int:
        """The longest cell."""
        return max([self.least, *map(cell_len, self.texts)])


def needed(columns: Sequence[Column]) -> int:
    """Return the least width of a table."""
    return sum(column.least + GAP for column in columns)


def grid(columns: Sequence[Column], width: int) -> Grid:
    """Return a table for rich, the columns that lack least made whole first."""
    found = Grid(box=SIMPLE_HEAD, padding=(0, GAP - 1, 0, 0), pad_edge=False)
    room = width - needed(columns)
    extra = {}
    for column in sorted(columns, key=lambda column: column.wanted - column.least):
        extra[column.heading] = min(column.wanted - column.least, max(room, 0))
        room -= extra[column.heading]
    for column in columns:
        is_right = any(map(_words.is_number, column.cells))
        size = column.least + extra[column.heading]
        found.add_column(Text(column.heading), justify="right" if is_right else "left", width=size, overflow="fold")
    styled = [
        [
            Text(text, style=STYLES.get(_words.tone(cell), ""))
            for text, cell in zip(column.texts, column.cells, strict=True)
        ]
        for column in columns
    ]
    for row in zip(*styled, strict=True):
        found.add_row(*row)
    return found
