"""For a browser: one file with charts, which loads nothing and runs nothing but its own script."""

import base64
import hashlib
import json
from pathlib import Path

import vl_convert
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from harness.compare import BreakEven
from reports.document import Cell, Change, Chart, Document, Note, Section, Table
from reports.formats import _vega, _words

TEMPLATE = "html.jinja"
START = """
for (const figure of document.querySelectorAll("figure[data-chart]")) {
  const spec = JSON.parse(figure.querySelector("script").textContent);
  const theme = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  const fitting = { ...spec, width: "container", autosize: { type: "fit-x", contains: "padding" } };
  const options = { mode: "vega-lite", actions: false, renderer: "svg", ast: true, tooltip: { theme }, logLevel: 1 };
  vegaEmbed(figure.querySelector(".picture"), fitting, options).catch(console.error);
}
"""
"""Draws each chart again so that it fits its place and answers the pointer; without it the drawn ones stay.

`ast` makes Vega interpret its expressions, so that the page may forbid `eval`.
"""


def render(document: Document) -> str:
    """Return the document as one HTML file."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=without_controls,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # the stub lacks that `snippet` may be left out, which is twice as fast
    script = vl_convert.javascript_bundle() + START if has_charts(document) else ""  # type: ignore[call-arg]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template(TEMPLATE).render(
        document=document,
        sections=[section(number, item) for number, item in enumerate(document.sections)],
        legend=_words.LEGEND,
        script=Markup(script),
        digest=digest,
        styles=Markup(Path(__file__).with_name("html.css").read_text(encoding="utf-8")),
    )


def without_controls(value: object) -> object:
    """Return what the template prints, on one line and printable where it is text from outside."""
    return _words.text(value) if type(value) is str else value


def has_charts(document: Document) -> bool:
    """Tell whether there is anything to draw."""
    return any(isinstance(item, Chart) for section in document.sections for item in section.items)


def section(number: int, item: Section) -> dict[str, object]:
    """Return a section for the template."""
    return {
        "id": f"section-{number}",
        "title": item.title,
        "question": item.question,
        "items": list(map(block, item.items)),
    }


def block(item: Note | Table | Chart) -> dict[str, object]:
    """Return a note, table or chart for the template."""
    if isinstance(item, Note):
        return {"kind": "note", "tone": item.kind, "text": _words.sentence(item)}
    if isinstance(item, Table):
        return {"kind": "table", **table(item)}
    return {"kind": "chart", "title": item.title, "text": item.text, "hardware": item.hardware, **picture(item)}


def table(item: Table) -> dict[str, object]:
    """Return a table's headings and cells."""
    headings, scales = _words.columns(item)
    sides = [any(_words.is_number(row[number]) for row in item.rows) for number in range(len(headings))]
    rows = [[cell(*pair) for pair in zip(row, scales, strict=True)] for row in item.rows]
    return {
        "title": item.title,
        "hardware": item.hardware,
        "headings": list(zip(headings, sides, strict=True)),
        "rows": rows,
    }


def cell(value: Cell, scale: _words.Scale | None) -> dict[str, object]:
    """Return a cell: its words before, in and after the interval, its sign and its tone."""
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
    }


def picture(chart: Chart) -> dict[str, object]:
    """Return a chart drawn, and its specification for the script."""
    specification = _vega.specification(chart)
    data = json.dumps(specification, allow_nan=False).replace(
        "<", "\\u003c"
    )  # nothing in it can end the script element
    return {
        "svg": Markup(vl_convert.vegalite_to_svg(specification)),
        "specification": Markup(data),
    }
