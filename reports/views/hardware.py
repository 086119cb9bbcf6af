"""What the machine can do at most: matrix products, memory, attention, calls, disk; and whether it keeps it up."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import median
from typing import Any

from harness import passport
from harness.metrics import METRICS
from harness.spec import Block, Case
from harness.stats import Estimate
from reports.document import Cell, Change, Chart, Mark, Note, Quantity, Section, Status, Table, exact, filled
from reports.frame import Frame

ORDER = 4
RATES = ("flop_per_second", "bytes_per_second", "call_seconds")
ENDS = 3  # turns at the begin and at the end of a sustained load that are held against each other
KEPT = 0.03  # a loss of rate below this is none
NEEDED = 1 / 2  # of the FLOP of an attention, counted in full: a causal mask leaves the others out
SLOW = {  # precision -> instructions, one of which its products need to be faster than float32's
    "bf16": ("amx_bf16", "avx512_bf16", "sve"),
    "fp16": ("amx_fp16", "avx512_fp16", "sve"),
    "int8": ("amx_int8", "avx512_vnni", "sve"),
}
Found = list[tuple[Block, Case]]


def view(frame: Frame) -> Section:
    """Return the ceilings in sentences, tables and charts."""
    found = [(block, case) for block in frame.run.suite.blocks if block.workload.is_ceiling for case in block.cases]
    items: list[Note | Table | Chart] = []
    if found:
        items = [*highest(frame, found), *precisions(frame, found), *scores(frame)]
        items += [*products(frame, found), *memory(frame, found), *attention(frame, found), *others(frame, found)]
        items += sustained(frame, found)
    return Section(title="Ceilings", question="What can this machine do at most?", items=tuple(items))


def of(found: Found, task: str) -> Found:
    """Return the ceilings of a task."""
    return [(block, case) for block, case in found if block.workload.task == f"ceilings/{task}"]


def rate(frame: Frame, case: Case) -> Quantity | None:
    """Return what a ceiling was found to be."""
    if not frame.figures.is_measured(case):
        return None
    return next((quantity for name in RATES if (quantity := frame.quantity(case, name))), None)


def highest(frame: Frame, found: Found) -> Iterator[Note]:
    """Yield the highest rate of products in each precision, of memory in caches and beyond them, and of calls."""
    all_cores = [(block, case) for block, case in found if not case.variant.threads]
    rates = {case.id: quantity for _, case in all_cores if (quantity := rate(frame, case))}
    products: dict[str, Quantity] = {}
    for _, case in of(all_cores, "matmul"):
        if case.id in rates:
            known = products.get(case.variant.precision, rates[case.id])
            products[case.variant.precision] = max(known, rates[case.id], key=center)
    if products:
        yield listed("matrix products reach", [(quantity, f"in {name}") for name, quantity in products.items()])
    moved = [(block, rates[case.id]) for block, case in of(all_cores, "memory") if case.id in rates]
    if moved:
        largest = max(size_of(block) for block, _ in moved)
        ends = [max((pair for pair in moved if size_of(pair[0]) == largest), key=rate_of), max(moved, key=rate_of)]
        told = dict.fromkeys(
            (block.workload.settings["operation"], size_of(block), quantity) for block, quantity in ends
        )
        parts: list[tuple[Cell, ...]] = [
            (quantity, f"with {operation} on", exact(size, "B")) for operation, size, quantity in told
        ]
        yield listed("memory moves", parts)
    for block, case in of(found, "matmul"):
        if case.variant.threads and (comparison := frame.comparison(case, "step_seconds")):
            speed = Change(judgement=comparison.judgement, is_speed=True)
            yield Note(parts=(f"{case.variant.name} is", speed, f"as fast as all of them, of {shape(block)}"))
    for block, case in of(all_cores, "calls"):
        if case.id in rates:
            waits = "with its result waited for" if block.workload.settings.get("wait") else "queued"
            yield Note(parts=("a call of an operator,", f"{waits}, takes", rates[case.id]), kind="answer")


def listed(begin: str, parts: Sequence[tuple[Cell, ...]]) -> Note:
    """Return an answer that lists quantities with what they are of."""
    cells: list[Cell] = [begin]
    for number, part in enumerate(parts):
        *front, last = part
        is_inside = isinstance(last, str) and number < len(parts) - 2
        cells += [*(["and"] if 0 < number == len(parts) - 1 else []), *front, f"{last}," if is_inside else last]
    return Note(parts=tuple(cells), kind="answer")


def center(quantity: Quantity) -> float:
    """Return what quantities are compared by."""
    return quantity.estimate.center


def rate_of(pair: tuple[Block, Quantity]) -> float:
    """Return what blocks with their rate are compared by."""
    return center(pair[1])


def size_of(block: Block) -> int:
    """Return the bytes of a memory block's working set."""
    return int(str(block.workload.settings["size"]))


def precisions(frame: Frame, found: Found) -> Iterator[Note]:
    """Yield what a lower precision gains in matrix products, or that it gains nothing."""
    for precision in dict.fromkeys(case.variant.precision for _, case in of(found, "matmul")):
        pairs = [
            comparison
            for _, case in of(found, "matmul")
            if case.variant.precision == precision
            and not case.variant.threads
            and (comparison := frame.comparison(case, "step_seconds"))
        ]
        if precision not in ("bf16", "fp16", "int8", "fp8", "tf32") or not pairs:
            continue
        best = min(pairs, key=lambda item: item.judgement.ratio)
        if best.judgement.verdict == "better":
            speed = Change(judgement=best.judgement, is_speed=True)
            name = next(shape(block) for block, _ in found if block.name == best.block)
            yield Note(parts=(f"{precision} products are at best", speed, f"as fast as fp32, of {name}"))
        elif all(item.judgement.verdict in ("worse", "same") for item in pairs):
            yield Note(
                parts=(
                    f"{precision} gains nothing here{reason(frame, precision)}: no product of it is faster than fp32's",
                ),
                kind="answer",
            )


def reason(frame: Frame, precision: str) -> str:
    """Return in words which instructions a CPU lacks for a precision, where it tells which it has."""
    facts: Mapping[str, Any] = next(iter(frame.run.environments.values()), {})
    have, wanted = facts.get("instructions"), SLOW.get(precision)
    if facts.get("device") != "cpu" or not (have and wanted) or {*wanted} & {*have.split()}:
        return ""
    return f", as this processor has no {' or '.join(wanted)}"


def scores(frame: Frame) -> Iterator[Note | Table]:
    """Yield which variant trains each model fastest: its tokens a second, share of the peak, and tokens for a joule."""
    rows: list[tuple[Cell, ...]] = []
    cases = []
    for block in frame.run.suite.blocks:
        measured = filter(frame.figures.is_measured, block.cases)
        rates = [(found, case) for case in measured if (found := frame.center(case, "tokens_per_second"))]
        if not block.workload.model or not rates:
            continue
        _, best = max(rates, key=lambda pair: pair[0])
        cases.append(best)
        told = ("tokens_per_second", "mfu", "tokens_per_joule")
        rows.append((block.name, best.variant.name, *(frame.quantity(best, name) for name in told)))
        comparison = frame.comparison(best, "step_seconds")
        if comparison and comparison.judgement.verdict == "better":
            yield Note(parts=(f"train {block.workload.model} by {best.variant.name}",), kind="answer")
        elif best == block.baseline_case:
            yield Note(
                parts=(f"train {block.workload.model} by {best.variant.name}: nothing was shown to be faster",),
                kind="answer",
            )
    if rows:
        columns = ("model", "fastest variant", "tokens/s", "share of the peak (MFU)", "tokens for a joule")
        yield filled(
            Table(title="Models, training", columns=columns, rows=tuple(rows), hardware=frame.hardware(*cases))
        )


def products(frame: Frame, found: Found) -> list[Table]:
    """Return the rate of each product by precision."""
    return grid(frame, of(found, "matmul"), "Matrix products", "product", shape, cell)


def shape(block: Block) -> str:
    """Return a product's shapes in words."""
    settings = block.workload.settings
    text = "({rows} x {inner}) ({inner} x {columns})".format(**settings)
    return text + (", cold" if settings.get("cold") else "")


def grid(
    frame: Frame, found: Found, title: str, first: str, name: Callable[[Block], str | int],
    value: Callable[[Frame, Case], Cell],
) -> list[Table]:  # fmt: skip
    """Return a row a block and a column a variant."""
    if not found:
        return []
    columns = list(dict.fromkeys(case.variant.name for _, case in found))
    blocks = list(dict.fromkeys(block.name for block, _ in found))
    cells = {(block.name, case.variant.name): value(frame, case) for block, case in found}
    names = {block.name: name(block) for block, _ in found}
    rows = tuple((names[block], *(cells.get((block, column)) for column in columns)) for block in blocks)
    return [filled(Table(title=title, columns=(first, *columns), rows=rows, hardware=hardware(frame, found)))]


def cell(frame: Frame, case: Case) -> Cell:
    """Return a ceiling, or how its case ended."""
    return rate(frame, case) or Status(outcome=frame.outcome(case)["status"])


def memory(frame: Frame, found: Found) -> list[Table | Chart]:
    """Return bandwidth by the size of the working set."""
    cases = of(found, "memory")
    sizes = sorted({size_of(block) for block, _ in cases})
    operations = list(dict.fromkeys(label(block, case) for block, case in cases))
    cells = {(size_of(block), label(block, case)): case for block, case in cases}
    rows = tuple(
        (exact(size, "B"), *(cell(frame, cells[size, name]) if (size, name) in cells else None for name in operations))
        for size in sizes
    )
    if not rows:
        return []
    marks = tuple(
        Mark(at=float(size), series=name, value=quantity.estimate.center)
        for name in operations
        for size in sizes
        if (size, name) in cells and (quantity := rate(frame, cells[size, name]))
    )
    title, lines = "Memory bandwidth", hardware(frame, cases)
    table = Table(title=title, columns=("working set", *operations), rows=rows, hardware=lines)
    chart = Chart(
        kind="crossings",
        title="Memory bandwidth by working set",
        text="Bytes a second of each operation over the size of its working set, both logarithmic: the caches show",
        at="working set",
        at_unit="B",
        value="bandwidth",
        unit="B/s",
        marks=marks,
        hardware=lines,
    )
    return [filled(table), *([chart] if len(sizes) > 1 and marks else [])]


def label(block: Block, case: Case) -> str:
    """Return the name of a memory operation, with its variant's where that is more than the plain one."""
    variant = f", {case.variant.name}" if case.variant.name != case.variant.precision else ""
    return f"{block.workload.settings['operation']}{variant}"


def attention(frame: Frame, found: Found) -> Iterator[Table | Chart]:
    """Yield the rate of each attention, forward and backward, and its share of that of products in its precision."""
    cases = of(found, "attention")
    yield from grid(frame, cases, "Attention, forward and backward", "length", length, cell)
    if any(share(frame, case) for _, case in cases):
        title = "Attention: share of the peak, of the FLOP that a causal mask leaves"
        yield from grid(frame, cases, title, "length", length, share)
    marks = tuple(
        Mark(at=float(length(block)), series=case.variant.name, value=quantity.estimate.center)
        for block, case in cases
        if (quantity := rate(frame, case))
    )
    if len({mark.at for mark in marks}) > 1:
        yield Chart(
            kind="crossings",
            title="Attention by length",
            text="FLOP a second of each attention over its length, both logarithmic, causal counted in full",
            at="length",
            value="rate",
            unit=METRICS["flop_per_second"].unit,
            marks=marks,
            hardware=hardware(frame, cases),
        )


def length(block: Block) -> int:
    """Return the length of an attention."""
    return int(str(block.workload.settings["length"]))


def share(frame: Frame, case: Case) -> Quantity | None:
    """Return what an attention needs to do, as a share of what the products of its precision could do meanwhile."""
    quantity = rate(frame, case)
    peak = passport.of_run(frame.run.meta, frame.run.place(case)).peak(case.variant.precision)
    if not (quantity and peak):
        return None
    found = quantity.estimate
    needed = NEEDED if case.workload.settings.get("causal", True) else 1.0
    center, low, high = (needed * value / peak for value in (found.center, found.low, found.high))
    return Quantity(estimate=Estimate(center=center, low=low, high=high, n=found.n), unit="share")


def others(frame: Frame, found: Found) -> list[Table]:
    """Return the ceilings that stand by themselves: calls, transfers, the disk."""
    single = [pair for task in ("calls", "transfer", "disk") for pair in of(found, task)]
    rows = tuple((block.name, case.variant.name, cell(frame, case)) for block, case in single)
    if not rows:
        return []
    table = Table(title="Calls, transfers, disk", columns=("what", "variant", "most"), rows=rows,
                  hardware=hardware(frame, single))  # fmt: skip
    return [table]


def sustained(frame: Frame, found: Found) -> Iterator[Note | Chart]:
    """Yield how the rate, the clock and the temperature go over half a minute of load."""
    for block, case in of(found, "sustained"):
        turns = frame.figures.rounds.get(case.id, {}).get(1, {})
        flop = frame.center(case, "flop")
        if not frame.figures.is_measured(case) or not flop or len(turns) < 2 * ENDS:
            continue
        rates = [flop / seconds for _, seconds in sorted(turns.items())]
        first, last, short = median(rates[:ENDS]), median(rates[-ENDS:]), in_short_turns(found, block, case)
        peak = (frame.center(short, "flop_per_second") if short else None) or first
        kept = last / max(first, peak)
        words = f"after {len(rates)} s of load it has {last / first:.0%} of the rate that it began with"
        words += f" and {last / peak:.0%} of that of short turns{state(frame, case, short)}"
        if kept <= 1 - KEPT:
            words += f": {cause(frame, case)}"
        yield Note(parts=(words,), kind="answer" if kept > 1 - KEPT else "warning")
        yield over_time(frame, block, case, "flop_per_second", "rate", rates)
        for metric, name in (("clock_hertz", "clock"), ("celsius", "temperature")):
            seen = frame.run.samples()
            rows = seen[(seen["case"] == case.id) & (seen["metric"] == metric) & (seen["round"] > 0)].sort_values(
                "round"
            )
            if len(rows):
                yield over_time(frame, block, case, metric, name, rows["value"].tolist())


def cause(frame: Frame, case: Case) -> str:
    """Return in words what holds the clock for more than half of the load, where the device tells."""
    told = {
        name: share
        for metric, name in (("held_by_power", "its limit of power"), ("held_by_heat", "heat"))
        if (share := frame.center(case, metric)) is not None
    }
    if not told:
        return "it throttles, by heat or by its limit of power, or its host gave less"
    by = [name for name, share in told.items() if share > 0.5]
    if by:
        return f"its clock is held down by {' and by '.join(by)}, so count on the rate that it keeps"
    return "neither its limit of power nor heat holds its clock, so its host gave less, or its clock is set"


def over_time(frame: Frame, block: Block, case: Case, metric: str, name: str, values: Sequence[float]) -> Chart:
    """Return a metric second by second under load."""
    return Chart(
        kind="lines",
        title=f"Under load, {name}: {case.variant.precision} products of {shape(block)}",
        text=f"The {name} second by second while products run and nothing else in between",
        at="second",
        value=name,
        unit=METRICS[metric].unit,
        marks=tuple(Mark(at=float(number), series=name, value=value) for number, value in enumerate(values, 1)),
        hardware=hardware(frame, [(block, case)]),
    )


def in_short_turns(found: Found, block: Block, case: Case) -> Case | None:
    """Return the case of the same products that took turns with other ceilings."""
    alike = (
        other
        for product, other in of(found, "matmul")
        if product.workload.settings == block.workload.settings
        and (other.variant.precision, other.variant.threads) == (case.variant.precision, case.variant.threads)
    )
    return next(alike, None)


def state(frame: Frame, case: Case, short: Case | None) -> str:
    """Return in words the clock and temperature under load."""
    text = ""
    if clock := frame.center(case, "clock_hertz"):
        before = frame.center(short, "clock_hertz") if short else None
        text += f", at {clock / 1e9:.2f} GHz" + (f" where these have {before / 1e9:.2f}" if before else "")
    if celsius := frame.center(case, "celsius"):
        text += f", {celsius:.0f} °C"
    return text


def hardware(frame: Frame, found: Sequence[tuple[Block, Case]]) -> tuple[str, ...]:
    """Return the hardware lines of ceilings."""
    return frame.hardware(*(case for _, case in found))
