"""For a browser: one file with charts, which loads nothing and runs nothing but its own script."""

import base64
import hashlib
import json
import math
import os
import re
from pathlib import Path
from urllib.parse import quote

import vl_convert
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from harness.compare import BreakEven
from reports.document import Cell, Change, Chart, Document, Link, Note, Quantity, Section, Table
from reports.formats import _overview, _vega, _words

HERE = Path(__file__).parent
TEMPLATE = "html.jinja"
DRAWN = 800_000
"""Characters of pictures that the file holds at most, so that it stays below 6 MB; the script draws the others."""
SORTABLE, FILTERABLE, TALL = 3, 16, 25
"""From how many rows on a table can be sorted, be filtered, and scrolls in a frame of its own."""
FOLDED, OPEN = 16, 8
"""Of a section with more parts than the first, only the second are open: of the first one or two workloads."""
NEEDLESS = re.compile(r' (?:aria-[a-z]+|role|class|pointer-events|font-family|stroke-miterlimit)="[^"]*"| opacity="1"')
EMPTY = re.compile(r'<path(?: [a-z-]+="[^"]*")* d=""(?: [a-z-]+="[^"]*")*/>|<g></g>')


def render(document: Document) -> str:
    """Return the document as one HTML file."""
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=without_controls,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found = script()
    digest = base64.b64encode(hashlib.sha256(found.encode()).digest()).decode()
    page = Page(document)
    lead, sections = _overview.divided(document)
    return environment.get_template(TEMPLATE).render(
        document=document,
        run=page.run(),
        overview=page.overview(lead),
        sections=[page.section(item) for item in sections],
        legend=_words.legend(document),
        script=Markup(found),
        digest=digest,
        styles=Markup((HERE / "html.css").read_text(encoding="utf-8")),
    )


def script() -> str:
    """Return the page's only script: Vega with what draws the charts and sorts and filters the tables."""
    # the stub lacks that `snippet` may be left out, which is twice as fast
    vega = vl_convert.javascript_bundle()  # type: ignore[call-arg]
    config = f"const CONFIG = {json.dumps(_vega.CONFIG)};\n"
    return f"{vega}\n{config}{(HERE / 'html.js').read_text(encoding='utf-8')}"


def without_controls(value: object) -> object:
    """Return what the template prints, on one line and printable where it is text from outside."""
    return _words.text(value) if type(value) is str else value


class Page:
    """A page while it is put together: which ids are taken, and for how many more pictures there is room."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.taken = {"overview"}
        self.room = DRAWN

    def run(self) -> str:
        """Return which run a page is about, for its head; empty where there are several."""
        runs = [result.run for result in self.document.results]
        told = [runs[0].get(name) for name in ("id", "status", "started")] if len(runs) == 1 else []
        return " · ".join(str(item) for item in told if item)

    def id(self, name: str) -> str:
        """Return an id that can be typed, as no other element of the page has it."""
        return self.claim(re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "part")

    def claim(self, wanted: str) -> str:
        """Return an id as it is, with a number behind it where it is taken."""
        found, number = wanted, 1
        while found in self.taken:
            number += 1
            found = f"{wanted}-{number}"
        self.taken.add(found)
        return found

    def overview(self, lead: _overview.Overview) -> dict[str, object]:
        """Return the first screen for the template."""
        return {
            "answer": lead.answer and self.block(lead.answer, ""),
            "notes": [self.block(note, "") for note in lead.notes],
            "chart": lead.chart and self.block(lead.chart, "overview"),
            "table": lead.table and {**self.table(lead.table, "overview", lead.cases), "is_filterable": True},
        }

    def section(self, item: Section) -> dict[str, object]:
        """Return a section for the template."""
        id = self.id(item.title)
        parts = [self.block(part, id) for part in item.items]
        shown = OPEN if len(parts) > FOLDED else len(parts)
        return {
            "id": id,
            "title": item.title,
            "question": item.question,
            "shown": parts[:shown],
            "folded": parts[shown:],
        }

    def block(self, item: Note | Table | Chart, section: str) -> dict[str, object]:
        """Return a note, table or chart for the template."""
        if isinstance(item, Note):
            return {"kind": "note", "tone": item.kind, "parts": [self.cell(part, None) for part in item.parts]}
        if isinstance(item, Table):
            return self.table(item, section)
        specification = _vega.specification(item)
        return {
            "kind": "chart",
            "id": self.id(f"{section} {item.title}"),
            "title": item.title,
            "text": item.text,
            "hardware": item.hardware,
            "height": 0,
            "data": self.grid(_vega.data(item)),
            "specification": embedded(specification),
            **self.picture(specification),
        }

    def table(self, item: Table, section: str, ids: tuple[str, ...] = ()) -> dict[str, object]:
        """Return a table with its title; `ids` are those of its rows."""
        words = [_words.words(cell) for cell in item.rows[0]] if item.rows else []
        found = self.grid(item, ids)
        return {
            "kind": "table",
            "id": self.id(f"{section} {item.title}"),
            "title": item.title,
            "hardware": item.hardware,
            "example": next(filter(None, words), ""),
            "is_filterable": len(item.rows) >= FILTERABLE,
            **found,
        }

    def grid(self, item: Table, ids: tuple[str, ...] = ()) -> dict[str, object]:
        """Return a table's headings and cells."""
        headings, scales = _words.columns(item)
        sides = [any(_words.is_number(row[number]) for row in item.rows) for number in range(len(headings))]
        named = [self.claim(id) for id in ids] or [""] * len(item.rows)
        rows = [
            {"id": id, "cells": [self.cell(*pair) for pair in zip(row, scales, strict=True)]}
            for id, row in zip(named, item.rows, strict=True)
        ]
        return {
            "headings": list(zip(headings, sides, strict=True)),
            "rows": rows,
            "is_sortable": len(rows) >= SORTABLE,
            "is_tall": len(rows) >= TALL,
        }

    def cell(self, value: Cell, scale: _words.Scale | None) -> dict[str, object]:
        """Return a cell: its words before, in and after the interval, its sign and tone, and by what it is sorted."""
        words = _words.words(value, scale)
        main, bracket, rest = words.partition(" (") if isinstance(value, Change | BreakEven) else (words, "", "")
        interval, closing, rest = rest.partition(")")
        return {
            "main": main,
            "interval": f"{bracket}{interval}{closing}".strip(),
            "rest": rest,
            "mark": _words.mark(value),
            "tone": _words.tone(value),
            "is_number": _words.is_number(value),
            "value": sorted_by(value),
            "link": self.address(value) if isinstance(value, Link) else "",
        }

    def address(self, link: Link) -> str:
        """Return where a link leads, seen from the folder that the page is for."""
        return quote(os.path.relpath(link.target, self.document.place))

    def picture(self, specification: _vega.Spec) -> dict[str, object]:
        """Return a chart drawn; where there is no room for it, how high a place it needs."""
        if self.room > 0:
            svg = slim(vl_convert.vegalite_to_svg({**specification, "config": _vega.CONFIG}))
            self.room -= len(svg)
            return {"svg": Markup(svg)}
        return {"svg": "", "height": specification["height"] + _vega.AROUND}


def slim(svg: str) -> str:
    """Return a picture without what a page in which it is one image, described in words, makes no use of."""
    return EMPTY.sub("", NEEDLESS.sub("", svg))


def embedded(specification: _vega.Spec) -> Markup:
    """Return a specification as JSON in which nothing can end the script element."""
    return Markup(json.dumps(specification, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c"))


def sorted_by(value: Cell) -> str:
    """Return the number by which a cell is sorted, as it is shown; empty for text and for what is not known."""
    number = math.nan
    match value:
        case bool() | None | str():
            pass
        case int():
            number = float(value)
        case Quantity():
            number = value.estimate.center
        case Change():
            is_ratio = value.judgement.difference is None
            number = _words.ratios(value)[0] if is_ratio else value.judgement.center
        case BreakEven():
            number = value.steps
        case _:
            pass
    if math.isnan(number):
        return ""
    return f"{number:.6g}" if math.isfinite(number) else f"{'-' * (number < 0)}Infinity"
