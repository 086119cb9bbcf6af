"""Charts as Vega-Lite; every colour reads on a light and on a dark page, text takes the page's own."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from harness.stats import Estimate, exactly
from reports.document import Cell, Chart, Mark, Quantity, Table, filled
from reports.formats import _words
from reports.formats._squarified import Rectangle, squarified

Spec = dict[str, Any]

PALETTE = ("#4f8ef7", "#f0a030", "#2fb27c", "#b07cf0", "#e8615a", "#20b0c0", "#e070b0", "#8fae3a")
TONES = {
    "total": "#7f8ea3",
    "better": "#2fb27c",
    "worse": "#e8615a",
    "same": "#4f8ef7",
    "unsure": "#c9a227",
    "different": "#b07cf0",
}
INK = "currentColor"
WIDTH = 560
MAP = 280  # how high a treemap is
LETTER = 7.0  # how wide a letter of its names is, on average
INSET = 6  # from the rectangle's side to its name
FEWEST = 3  # letters that tell a name
ROW = 34
RUNG = 28
AROUND = 60
"""How much higher than its rows a chart is: the axis and its title."""
FEW = 12  # distinct places up to which a line shows its points, on a logarithmic scale where it can
CONFIG = {
    "background": "transparent",
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "range": {"category": list(PALETTE)},
    "text": {"color": INK},
    "rule": {"color": INK},
    "axis": {
        "labelColor": INK, "titleColor": INK, "domainColor": INK, "tickColor": INK, "gridColor": INK,
        "gridOpacity": 0.12, "domainOpacity": 0.3, "tickOpacity": 0.3, "titleFontWeight": "normal",
        "labelFontSize": 12, "titleFontSize": 12, "labelLimit": 240,
    },
    "axisQuantitative": {"tickCount": 6},
    "legend": {"labelColor": INK, "titleColor": INK, "orient": "top", "title": None, "labelFontSize": 12,
               "columnPadding": 18},
}  # fmt: skip


def specification(chart: Chart) -> Spec:
    """Return the chart in Vega-Lite."""
    if chart.kind in ("points", "crossings"):
        chart = rescaled(chart)
    quantities = [Quantity(estimate=estimate(mark), unit=chart.unit) for mark in chart.marks]
    scale = _words.scale_of(quantities)
    axis = f"{chart.value}, {scale.label}" if scale.label else chart.value
    pairs = zip(chart.marks, quantities, strict=True)
    values = [datum(mark, quantity, scale) for mark, quantity in pairs if math.isfinite(mark.value)]
    draw = {
        "intervals": intervals,
        "grouped": grouped,
        "waterfall": waterfall,
        "lines": lines,
        "stacked": stacked,
        "curves": curves,
        "points": points,
        "crossings": crossings,
        "treemap": treemap,
    }[chart.kind]
    return {
        "description": chart.text,
        "width": WIDTH,
        "height": ROW * len({mark.at for mark in chart.marks}),
        "data": {"values": values},
        **draw(chart, axis),
    }


def data(chart: Chart) -> Table:
    """Return a chart's figures as a table."""
    names = ("name", chart.at, "verdict" if chart.kind == "waterfall" else "series", "from", chart.value)
    rows = tuple(
        (
            mark.name or None,
            place(mark, chart),
            mark.series or None,
            None if mark.start is None else Quantity(estimate=exactly(mark.start), unit=chart.unit),
            Quantity(estimate=estimate(mark), unit=chart.unit),
        )
        for mark in chart.marks
    )
    return filled(Table(title=chart.title, columns=names, rows=rows))


def place(mark: Mark, chart: Chart) -> Cell:
    """Return where a mark is, with its interval if it has one there."""
    if isinstance(mark.at, str):
        return mark.at
    low, high = (math.nan if end is None else end for end in (mark.at_low, mark.at_high))
    return Quantity(estimate=Estimate(center=float(mark.at), low=low, high=high, n=1), unit=chart.at_unit or "1")


def estimate(mark: Mark) -> Estimate:
    """Return a mark's value and interval."""
    low, high = (math.nan if end is None else end for end in (mark.low, mark.high))
    return Estimate(center=mark.value, low=low, high=high, n=1)


def rescaled(chart: Chart) -> Chart:
    """Return the chart with its places in the unit that suits them, which is named beside what they are."""
    scale = _words.scale_of([Quantity(estimate=exactly(float(mark.at)), unit=chart.at_unit) for mark in chart.marks])
    ends = [{"at": float(mark.at), "at_low": mark.at_low, "at_high": mark.at_high} for mark in chart.marks]
    told: list[dict[str, Any]] = [
        {name: end / scale.factor for name, end in own.items() if end is not None} for own in ends
    ]
    marks = tuple(replace(mark, **own) for mark, own in zip(chart.marks, told, strict=True))
    return replace(chart, at=f"{chart.at}, {scale.label}" if scale.label else chart.at, marks=marks)


def datum(mark: Mark, quantity: Quantity, scale: _words.Scale) -> Spec:
    """Return a mark as a row of data, in the chart's unit; what is not known is left out."""
    at = _words.text(mark.at) if isinstance(mark.at, str) else mark.at
    ends = {"value": mark.value, "low": mark.low, "high": mark.high, "start": mark.start}
    found: Spec = {name: end / scale.factor for name, end in ends.items() if end is not None}
    found |= {name: end for name, end in (("at_low", mark.at_low), ("at_high", mark.at_high)) if end is not None}
    found |= {"at": at, "name": _words.text(mark.name), "series": _words.text(mark.series), "label": label(mark, scale)}
    found |= {"words": f"{_words.quantity(quantity, scale)} {scale.label}"}
    return {name: rounded(value) for name, value in found.items() if value != ""}


def rounded(value: Any) -> Any:
    """Return a value for the page, a fraction as fine as a picture can show it."""
    return float(f"{value:.6g}") if isinstance(value, float) else value


def label(mark: Mark, scale: _words.Scale) -> str:
    """Return what stands beside a bar: of a rung what it changed, where that is established."""
    if mark.start is None or mark.series == "total":
        return f"{mark.value / scale.factor:,.3g}"
    if mark.series in ("better", "worse"):
        return f"{(mark.value - mark.start) / scale.factor:+,.3g}".replace("-", "−")
    return mark.series


def rows(**more: Any) -> Spec:
    """Return the encoding of the names at the left, in their own order."""
    return {"field": "at", "type": "nominal", "sort": None, "title": None, **more}


def tooltip(chart: Chart) -> list[Spec]:
    """Return what is shown under the pointer."""
    series = [{"field": "series", "type": "nominal"}] if any(mark.series for mark in chart.marks) else []
    return [{"field": "at", "title": chart.at}, *series, {"field": "words", "type": "nominal", "title": chart.value}]


def intervals(chart: Chart, axis: str) -> Spec:
    """Return bars with their intervals."""
    shared = {"y": rows()}
    bar = {
        "mark": {"type": "bar", "color": PALETTE[0], "opacity": 0.85, "height": {"band": 0.6}, "cornerRadiusEnd": 3},
        "encoding": {"x": {"field": "value", "type": "quantitative", "title": axis}, "tooltip": tooltip(chart)},
    }
    whisker = {
        "mark": {"type": "errorbar", "color": INK, "thickness": 1.5, "ticks": {"color": INK, "size": 10}},
        "encoding": {"x": {"field": "low", "type": "quantitative", "title": axis}, "x2": {"field": "high"}},
    }
    return {"encoding": shared, "layer": [bar, whisker]}


def grouped(chart: Chart, axis: str) -> Spec:
    """Return for each place a bar of each series, with its interval."""
    order = distinct(chart.marks)
    shared = {"y": rows(), "yOffset": {"field": "series", "type": "nominal", "sort": order}}
    bar = {
        "mark": {"type": "bar", "opacity": 0.85, "cornerRadiusEnd": 2},
        "encoding": {
            "x": {"field": "value", "type": "quantitative", "title": axis},
            "color": {"field": "series", "type": "nominal", "sort": order},
            "tooltip": tooltip(chart),
        },
    }
    whisker = {
        "mark": {"type": "rule", "strokeWidth": 1.5},
        "transform": known("low"),
        "encoding": {"x": {"field": "low", "type": "quantitative", "title": axis}, "x2": {"field": "high"}},
    }
    high = max(ROW, 16 * len(order) + 10) * len({mark.at for mark in chart.marks})
    return {"height": high, "encoding": shared, "layer": [bar, whisker]}


def waterfall(chart: Chart, axis: str) -> Spec:
    """Return bars that start where the one before ended."""
    used = [tone for tone in TONES if any(mark.series == tone for mark in chart.marks)]
    color = {"field": "series", "scale": {"domain": used, "range": [TONES[tone] for tone in used]}}
    bar = {
        "mark": {"type": "bar", "height": {"band": 0.6}, "cornerRadius": 3},
        "encoding": {
            "x": {"field": "start", "type": "quantitative", "title": axis},
            "x2": {"field": "value"},
            "color": color,
            "tooltip": tooltip(chart),
        },
    }
    text = {
        "transform": [{"calculate": "max(datum.start, datum.value)", "as": "end"}],
        "mark": {"type": "text", "align": "left", "dx": 6},
        "encoding": {"x": {"field": "end", "type": "quantitative"}, "text": {"field": "label"}},
    }
    high = RUNG * len({mark.at for mark in chart.marks})
    return {"height": high, "encoding": {"y": rows()}, "layer": [bar, text]}


def lines(chart: Chart, axis: str) -> Spec:
    """Return a line for each series, with its points where they are few."""
    places = {float(mark.at) for mark in chart.marks}
    is_few = len(places) <= FEW
    x: Spec = {"field": "at", "type": "quantitative", "title": chart.at, "axis": {"tickMinStep": 1}}
    y: Spec = {"field": "value", "type": "quantitative", "title": axis, "scale": {"zero": False}}
    if is_few and min(places) > 0:
        x |= {"scale": {"type": "log", "base": 2, "nice": False}, "axis": {"values": sorted(places)}}
        y["scale"] = {"zero": True}
    color = {"field": "series", "type": "nominal", "sort": None}
    return {
        "height": 240,
        "mark": {"type": "line", "point": {"size": 50} if is_few else False, "strokeWidth": 2},
        "encoding": {"x": x, "y": y, "color": color, "tooltip": tooltip(chart)},
    }


def curves(chart: Chart, axis: str) -> Spec:
    """Return a line for each series with its points, within the band of its intervals."""
    x: Spec = {"field": "at", "type": "quantitative", "title": chart.at, "axis": {"tickMinStep": 1}}
    y: Spec = {"type": "quantitative", "title": axis, "scale": {"zero": False}}
    color = {"field": "series", "type": "nominal", "sort": None}
    band = {
        "mark": {"type": "area", "opacity": 0.18},
        "encoding": {"x": x, "y": {"field": "low", **y}, "y2": {"field": "high"}, "color": color},
    }
    line = {
        "mark": {"type": "line", "point": {"size": 25}, "strokeWidth": 2},
        "encoding": {"x": x, "y": {"field": "value", **y}, "color": color, "tooltip": tooltip(chart)},
    }
    return {"height": 240, "layer": [band, line]}


def points(chart: Chart, axis: str) -> Spec:
    """Return a named point for each mark, with its intervals both ways."""
    x: Spec = {"type": "quantitative", "title": chart.at, "scale": {"zero": False}}
    y: Spec = {"type": "quantitative", "title": axis, "scale": {"zero": False}}
    across = {"x": {"field": "at_low", **x}, "x2": {"field": "at_high"}, "y": {"field": "value", **y}}
    upright = {"x": {"field": "at", **x}, "y": {"field": "low", **y}, "y2": {"field": "high"}}
    center: Spec = {"x": {"field": "at", **x}, "y": {"field": "value", **y}}
    color = {"field": "series", "type": "nominal", "scale": {"domain": distinct(chart.marks), "range": PALETTE[:2]}}
    name = {"field": "name", "type": "nominal"}
    return {
        "height": 300,
        "layer": [
            {"mark": {"type": "rule", "opacity": 0.5}, "transform": known("at_low"), "encoding": across},
            {"mark": {"type": "rule", "opacity": 0.5}, "transform": known("low"), "encoding": upright},
            {
                "mark": {"type": "point", "filled": True, "size": 80, "opacity": 1},
                "encoding": center | {"color": color, "tooltip": [name, *tooltip(chart)]},
            },
            {"mark": {"type": "text", "align": "left", "dx": 8, "dy": -8}, "encoding": center | {"text": name}},
        ],
    }


def crossings(chart: Chart, axis: str) -> Spec:
    """Return a line for each series, both axes logarithmic, and a named mark with its interval where two cross."""
    places = sorted({float(mark.at) for mark in chart.marks if not mark.name})
    x: Spec = {
        "field": "at", "type": "quantitative", "title": chart.at,
        "scale": {"type": "log", "base": 2, "nice": False}, "axis": {"values": places},
    }  # fmt: skip
    y: Spec = {"field": "value", "type": "quantitative", "title": axis, "scale": {"type": "log", "nice": False}}
    color = {"field": "series", "type": "nominal", "sort": distinct(chart.marks)}
    is_line, is_crossing = ([{"filter": f"{sign}isValid(datum.name)"}] for sign in ("!", ""))
    across = {"x": {**x, "field": "at_low"}, "x2": {"field": "at_high"}, "y": y}
    named = {"field": "name", "type": "nominal", "title": "what"}
    return {
        "height": 240,
        "layer": [
            {
                "transform": is_line,
                "mark": {"type": "line", "point": {"size": 50}, "strokeWidth": 2},
                "encoding": {"x": x, "y": y, "color": color, "tooltip": tooltip(chart)},
            },
            {"transform": is_crossing, "mark": {"type": "rule", "strokeWidth": 2}, "encoding": across},
            {
                "transform": is_crossing,
                "mark": {"type": "point", "shape": "diamond", "size": 110, "filled": True, "opacity": 1},
                "encoding": {"x": x, "y": y, "color": color, "tooltip": [named, *tooltip(chart)]},
            },
        ],
    }


def known(field: str) -> list[Spec]:
    """Return the transform that keeps the marks whose interval is known."""
    return [{"filter": f"isValid(datum.{field}) && isFinite(datum.{field})"}]


def stacked(chart: Chart, axis: str) -> Spec:
    """Return bars that are made of their series, in the order in which these come."""
    order = distinct(chart.marks)
    return {
        "transform": [{"calculate": f"indexof({order!r}, datum.series)", "as": "order"}],
        "mark": {"type": "bar", "height": {"band": 0.6}},
        "encoding": {
            "y": rows(),
            "x": {"field": "value", "type": "quantitative", "title": axis, "stack": "zero"},
            "color": {"field": "series", "type": "nominal", "sort": order},
            "order": {"field": "order"},
            "tooltip": tooltip(chart),
        },
    }


def treemap(chart: Chart, axis: str) -> Spec:
    """Return a rectangle for each mark, as large as its share of all; its name stands in it where there is room."""
    marks = sorted((mark for mark in chart.marks if mark.value > 0), key=lambda mark: -mark.value)
    places = squarified([mark.value for mark in marks], Rectangle(x=0.0, y=0.0, width=1.0 * WIDTH, height=1.0 * MAP))
    series = [one for one in chart.series or distinct(marks) if one in distinct(marks)]
    tones = [tone_of(one, chart.series or series) for one in series]
    x: Spec = {"type": "quantitative", "axis": None, "scale": {"domain": [0, WIDTH]}}
    y: Spec = {"type": "quantitative", "axis": None, "scale": {"domain": [0, MAP], "reverse": True}}
    corner: Spec = {"x": {"field": "x", **x}, "y": {"field": "y", **y}}
    area = {
        "mark": {"type": "rect", "stroke": "#10151c", "strokeOpacity": 0.35, "strokeWidth": 1.5},
        "encoding": {
            **corner, "x2": {"field": "x2"}, "y2": {"field": "y2"},
            "color": {"field": "series", "type": "nominal", "scale": {"domain": series, "range": tones}},
            "tooltip": [*tooltip(chart), {"field": "share", "type": "nominal"}],
        },
    }  # fmt: skip
    text = {"type": "text", "align": "left", "baseline": "top", "dx": 6, "color": "#0b0f14"}
    has_room = f"(datum.x2 - datum.x) * width / {WIDTH} > datum.wide && datum.y2 - datum.y"
    names = {
        "transform": [{"filter": f"{has_room} > 18"}],
        "mark": {**text, "dy": 6, "fontWeight": "bold"},
        "encoding": {**corner, "text": {"field": "short", "type": "nominal"}},
    }
    shares = {
        "transform": [{"filter": f"{has_room} > 36"}],
        "mark": {**text, "dy": 21},
        "encoding": {**corner, "text": {"field": "share", "type": "nominal"}},
    }
    values = areas(chart, marks, places)
    return {"height": MAP, "data": {"values": values}, "layer": [area, names, shares]}


def tone_of(series: str, of: Sequence[str]) -> str:
    """Return the colour of a series by its place among all; what is left over is grey."""
    return TONES["total"] if series == "other" else PALETTE[of.index(series) % len(PALETTE)]


def areas(chart: Chart, marks: Sequence[Mark], places: Sequence[Rectangle]) -> list[Spec]:
    """Return the marks as rows of data, each with its rectangle, its share and what of its name fits in."""
    quantities = [Quantity(estimate=estimate(mark), unit=chart.unit) for mark in marks]
    scale, total = _words.scale_of(quantities) if quantities else None, sum(mark.value for mark in marks)
    found = []
    for mark, quantity, place in zip(marks, quantities, places, strict=True):
        short = fitting(str(mark.at).split("::")[-1], place.width)
        found.append({
            **(datum(mark, quantity, scale) if scale else {}),
            "x": round(place.x, 1), "x2": round(place.x + place.width, 1),
            "y": round(place.y, 1), "y2": round(place.y + place.height, 1),
            "share": f"{mark.value / total:.1%}", "short": short, "wide": LETTER * len(short) + 2 * INSET,
        })  # fmt: skip
    return found


def fitting(name: str, width: float) -> str:
    """Return as much of a name as a rectangle holds, with a little to spare."""
    letters, name = int((0.92 * width - 2 * INSET) / LETTER), _words.text(name)
    return name if len(name) <= letters else f"{name[: max(letters - 1, FEWEST)]}…"


def distinct(marks: Sequence[Mark]) -> list[str]:
    """Return the series in the order in which they come."""
    return list(dict.fromkeys(mark.series for mark in marks))
