"""Machines side by side: their passports' ceilings and models, as ratios to the first, and speed against price."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from harness.errors import UserError
from harness.metrics import METRICS
from harness.spec import Case, Variant, construct, workload_from
from harness.stats import Estimate
from reports.document import Cell, Chart, Document, Mark, Note, Quantity, Section, Table, filled
from reports.views.families import FRONT, WORSE, is_beyond
from reports.views.hardware import RATES

SPEED, ECONOMY = "tokens_per_second", "tokens_per_joule"
COMPILING = {"cold_compile_seconds": ", compiled cold", "warm_compile_seconds": ", compiled again from the cache"}
TITLES = {
    "flop_per_second": "Products and attention", "bytes_per_second": "Memory, transfers, disk", "call_seconds": "Calls",
    SPEED: "Models", ECONOMY: "Energy", **dict.fromkeys(COMPILING, "Compiling"),
}  # fmt: skip
"""Metric -> the table that it is in."""
SHARE = 0.05  # docs/measuring.md, "Across runs": by as much two sessions of one machine may differ
AGAINST = {
    "price": ("price of an hour", "what an hour of it costs", -1),
    "energy": ("tokens for a joule", "the tokens that it trains for a joule", 1),
}
"""What speed is set against -> the name of its axis, that in words, and 1 where more of it is better, else -1."""
ALONE = ("calls", "transfer", "disk", "sustained")  # ceilings that are no kind, of which one is the best
BEST = "the best"
Report = Mapping[str, Any]
Key = tuple[str, str, str]
"""What, by which variant, in which metric."""


def document_of(reports: Sequence[Report]) -> Document:
    """Return the passports side by side; raise UserError where they were not measured in the same way."""
    versions = {report["run"]["measuring"] for report in reports}
    if len(versions) > 1:
        told = ", ".join(f"{report['run']['id']} by version {report['run']['measuring']}" for report in reports)
        raise UserError(f"these passports were measured in different ways: {told}", "measure the older ones again")
    names = labels(reports)
    found = [rates(report) for report in reports]
    section = Section(
        title="Machines", question="Which machine does more, and at what price?",
        items=(*summary(names, found), *tables(names, found, reports), *charts(names, found, reports)),
    )  # fmt: skip
    return Document(title="hardware", question=section.question, sections=(section,))


def labels(reports: Sequence[Report]) -> list[str]:
    """Return a name for each machine: its device, with a number where two have the same."""
    plain = [device(report) for report in reports]
    return [name if plain.count(name) == 1 else f"{name} ({number})" for number, name in enumerate(plain, 1)]


def device(report: Report) -> str:
    """Return the name of what a passport is of: the GPU, or the processor with its cores."""
    facts = environment(report)
    return str(facts.get("gpu") or f"{facts.get('cpu', 'unknown')}, {facts.get('cores_usable', '?')} cores")


def line(report: Report) -> str:
    """Return the hardware line of a passport."""
    return str(environment(report).get("line", ""))


def environment(report: Report) -> Mapping[str, Any]:
    """Return the facts about the first environment of a passport."""
    found: Mapping[str, Any] = next(iter(report["environments"].values()), {})
    return found


def rates(report: Report) -> dict[Key, Quantity]:
    """Return the best of each kind, which machines of all sizes have; then the rate of each ceiling and model."""
    found: dict[Key, Quantity] = {}
    best: dict[Key, Quantity] = {}
    for item in report["cases"]:
        case = Case(workload=workload_from(item["workload"]), variant=construct(Variant, item["variant"]))
        names = RATES if case.workload.is_ceiling else (SPEED, ECONOMY, *COMPILING)
        told = [name for name in names if item["outcome"] == "ok" and item["metrics"].get(name, {}).get("center")]
        for name in told[:1] if case.workload.is_ceiling else told:
            what = case.workload.slug + COMPILING.get(name, "")
            value = found[what, case.variant.name, name] = quantity(item["metrics"][name], name)
            if name not in COMPILING and (kind := kind_of(case)):
                key = (*kind, name)
                best[key] = max(best.get(key, value), value, key=lambda one: one.estimate.center)
    return {**best, **found}


def kind_of(case: Case) -> tuple[str, str] | None:
    """Return what a case may be the best of on its machine, whatever its size, with all cores."""
    workload, variant = case.workload, case.variant
    if variant.threads or workload.task in [f"ceilings/{name}" for name in ALONE]:
        return None
    if workload.task == "ceilings/attention":
        return "attention", f"{BEST}, {variant.precision}"
    if workload.task == "ceilings/matmul":
        return "products", f"{BEST}, {variant.precision}"
    if workload.task == "ceilings/memory":
        return "memory, caches too", BEST
    return f"{workload.model} {workload.size}", BEST


def quantity(figure: Mapping[str, Any], metric: str) -> Quantity:
    """Return a figure of a JSON report."""
    ends = (math.nan if figure[end] is None else float(figure[end]) for end in ("center", "low", "high"))
    center, low, high = ends
    return Quantity(estimate=Estimate(center=center, low=low, high=high, n=figure["n"]), unit=METRICS[metric].unit)


def ratio(base: Quantity, other: Quantity) -> Quantity:
    """Return how many times as much another is; its interval as that of two independent sessions, in logarithms."""
    center = math.log(other.estimate.center / base.estimate.center)
    half = math.hypot(*(half_width(item.estimate) for item in (base, other)))
    low, high = math.exp(center - half), math.exp(center + half)
    return Quantity(estimate=Estimate(center=math.exp(center), low=low, high=high, n=other.estimate.n), unit="x")


def half_width(estimate: Estimate) -> float:
    """Return half of an interval in logarithms; NaN where there is none."""
    return (math.log(estimate.high) - math.log(estimate.low)) / 2 if estimate.low > 0 else math.nan


def summary(names: Sequence[str], found: Sequence[Mapping[Key, Quantity]]) -> list[Note]:
    """Return how many figures of each machine are more than the first's by more than sessions of one machine differ.

    Of each kind the best counts, once.
    """
    notes = []
    for name, own in list(zip(names, found, strict=True))[1:]:
        shared = [key for key in own if key in found[0] and (key[1].startswith(BEST) or key[0].startswith(ALONE))]
        pairs = [(found[0][key], own[key]) for key in shared]
        more = sum(is_better(*pair) for pair in pairs)
        less = sum(is_better(*reversed(pair)) for pair in pairs)
        told = f"{name} against {names[0]}: better in {more} of {len(pairs)} figures, worse in {less}"
        notes.append(Note(parts=(f"{told}, within {SHARE:.0%} or the intervals in the others",), kind="answer"))
    if left := len({key for own in found for key in own} - {*comparable(found)}):
        told = f"{left} more figures are of a size that one machine alone measured: see its report"
        notes.append(Note(parts=(told,)))
    return notes


def is_better(base: Quantity, other: Quantity) -> bool:
    """Tell whether a figure is better than the base by more than two sessions of one machine differ."""
    gain = ratio(other, base) if base.unit == "s" else ratio(base, other)
    return gain.estimate.low > 1 + SHARE


def comparable(found: Sequence[Mapping[Key, Quantity]]) -> list[Key]:
    """Return what several machines have, the best of each kind, and compile times; the rest is of one size on one."""
    keys = dict.fromkeys(key for own in found for key in own)
    return [
        key for key in keys if sum(key in own for own in found) > 1 or key[1].startswith(BEST) or key[2] in COMPILING
    ]


def tables(names: Sequence[str], found: Sequence[Mapping[Key, Quantity]], reports: Sequence[Report]) -> list[Table]:
    """Return the tables: each figure that there is to compare, of each machine, and its ratio to the first."""
    keys = sorted(comparable(found), key=lambda key: not key[1].startswith(BEST))
    columns = ("what", "variant", *names, *(f"{name}, times the first" for name in names[1:]))
    made = []
    for title in dict.fromkeys(TITLES[key[2]] for key in keys):
        rows: list[tuple[Cell, ...]] = []
        for key in keys:
            if TITLES[key[2]] == title:
                first, *others = values = [own.get(key) for own in found]
                ratios = [ratio(first, value) if first and value else None for value in others]
                rows.append((*key[:2], *values, *ratios))
        lines = tuple(map(line, reports))
        made.append(filled(Table(title=title, columns=columns, rows=tuple(rows), hardware=lines)))
    return made


def charts(names: Sequence[str], found: Sequence[Mapping[Key, Quantity]], reports: Sequence[Report]) -> list[Chart]:
    """Return each model's speed against price and against energy, over the machines that know both."""
    models = dict.fromkeys(key[:2] for own in found for key in own if key[1:] == (BEST, SPEED))
    made = []
    for model, variant in models:
        costs = {
            "price": [report["run"].get("price_per_hour") for report in reports],
            "energy": [center(own.get((model, variant, ECONOMY))) for own in found],
        }
        for cost, values in costs.items():
            points = [
                (name, float(value), speed)
                for name, own, value in zip(names, found, values, strict=True)
                if value and (speed := center(own.get((model, variant, SPEED))))
            ]
            if len(points) > 1:
                title = f"Speed against {cost}: {model}, {variant}"
                made.append(chart(title, cost, fronted(points, AGAINST[cost][2]), reports))
    return made


def fronted(points: Sequence[tuple[str, float, float]], sign: int) -> tuple[Mark, ...]:
    """Return machines with their cost and speed as marks, those first that no other is better than in both."""
    ranks = {name: (sign * at, speed) for name, at, speed in points}
    marks = [
        Mark(
            at=at, value=speed, name=name,
            series=WORSE if any(is_beyond(other, ranks[name]) for other in ranks.values()) else FRONT,
        )
        for name, at, speed in points
    ]  # fmt: skip
    return tuple(sorted(marks, key=lambda mark: mark.series == WORSE))


def center(quantity: Quantity | None) -> float | None:
    """Return the value of a quantity, if there is one."""
    return quantity.estimate.center if quantity else None


def chart(title: str, cost: str, marks: tuple[Mark, ...], reports: Sequence[Report]) -> Chart:
    """Return the machines as points: tokens a second over their price or their economy."""
    at, told, _ = AGAINST[cost]
    return Chart(
        kind="points",
        title=title,
        text=f"Tokens a second of each machine against {told}",
        at=at,
        value="tokens a second",
        unit="tokens/s",
        marks=marks,
        hardware=tuple(map(line, reports)),
    )
