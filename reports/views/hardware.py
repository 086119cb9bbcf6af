"""What the machine can do at most: matrix products, memory, attention, calls, disk; and whether it keeps it up."""

from collections.abc import Callable, Iterator, Sequence
from statistics import median

from harness.metrics import METRICS
from harness.spec import Block, Case
from harness.stats import exactly
from reports.document import Cell, Change, Chart, Mark, Note, Quantity, Section, Status, Table, filled
from reports.frame import Frame

ORDER = 4
RATES = ("flop_per_second", "bytes_per_second", "call_seconds")
ENDS = 3  # turns at the begin and at the end of a sustained load that are held against each other
KEPT = 0.03  # a loss of rate below this is none
Found = list[tuple[Block, Case]]


def view(frame: Frame) -> Section:
    """Return the ceilings in sentences, tables and charts."""
    found = [(block, case) for block in frame.run.suite.blocks if block.workload.is_ceiling for case in block.cases]
    items: list[Note | Table | Chart] = []
    if found:
        items = [*highest(frame, found), *precisions(frame, found)]
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
            (quantity, f"with {operation} on", in_bytes(size)) for operation, size, quantity in told
        ]
        yield listed("memory moves", parts)
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
            yield Note(parts=(f"{precision} products are at best", speed, f"as fast as fp32 ({best.block})"))
        elif all(item.judgement.verdict in ("worse", "same") for item in pairs):
            yield Note(
                parts=(f"{precision} gains nothing here: none of its products is faster than fp32's",), kind="answer"
            )


def products(frame: Frame, found: Found) -> list[Table]:
    """Return the rate of each product by precision."""
    return grid(frame, of(found, "matmul"), "Matrix products", "product", shape)


def shape(block: Block) -> str:
    """Return a product's shapes in words."""
    settings = block.workload.settings
    text = "({rows} x {inner}) ({inner} x {columns})".format(**settings)
    return text + (", cold" if settings.get("cold") else "")


def grid(frame: Frame, found: Found, title: str, first: str, name: Callable[[Block], str | int]) -> list[Table]:
    """Return a row a block and a column a variant."""
    if not found:
        return []
    columns = list(dict.fromkeys(case.variant.name for _, case in found))
    blocks = list(dict.fromkeys(block.name for block, _ in found))
    cells = {(block.name, case.variant.name): cell(frame, case) for block, case in found}
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
        (in_bytes(size), *(cell(frame, cells[size, name]) if (size, name) in cells else None for name in operations))
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


def in_bytes(size: int) -> Quantity:
    """Return a size, which is exact."""
    return Quantity(estimate=exactly(float(size)), unit="B")


def attention(frame: Frame, found: Found) -> list[Table]:
    """Return the rate of each attention, forward and backward."""
    return grid(
        frame, of(found, "attention"), "Attention, forward and backward", "length",
        lambda block: int(str(block.workload.settings["length"])),
    )  # fmt: skip


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
    """Yield how the rate goes over half a minute of load."""
    for block, case in of(found, "sustained"):
        turns = frame.figures.rounds.get(case.id, {}).get(1, {})
        flop = frame.center(case, "flop")
        if not flop or len(turns) < 2 * ENDS:
            continue
        rates = [flop / seconds for _, seconds in sorted(turns.items())]
        kept = median(rates[-ENDS:]) / median(rates[:ENDS])
        lost = f"its rate fell to {kept:.0%} of what it was at first: it throttles, or its host gave less"
        stayed = f"it kept its rate ({kept:.0%} of what it was at first)"
        words = f"over {len(rates)} s of load {stayed if kept > 1 - KEPT else lost}"
        yield Note(parts=(words + beside(frame, found, block, case, median(rates[-ENDS:])),),
                   kind="answer" if kept > 1 - KEPT else "warning")  # fmt: skip
        yield Chart(
            kind="lines",
            title=f"Under load: {block.name}",
            text="Rate of matrix products second by second, nothing else in between",
            at="second",
            value="rate",
            unit=METRICS["flop_per_second"].unit,
            marks=tuple(Mark(at=float(number), series="rate", value=value) for number, value in enumerate(rates, 1)),
            hardware=hardware(frame, [(block, case)]),
        )


def beside(frame: Frame, found: Found, block: Block, case: Case, last: float) -> str:
    """Return in words how the end of a sustained load stands to the same products in short turns."""
    alike = (
        other
        for product, other in of(found, "matmul")
        if product.workload.settings == block.workload.settings
        and (other.variant.precision, other.variant.threads) == (case.variant.precision, case.variant.threads)
    )
    short = next(alike, None)
    text = ""
    if short and (peak := frame.center(short, "flop_per_second")):
        text += f"; at the end {last / peak:.0%} of the rate that short turns reach"
    if clock := frame.center(case, "clock_hertz"):
        before = frame.center(short, "clock_hertz") if short else None
        text += f"; its clock is {clock / 1e9:.2f} GHz" + (f", in short turns {before / 1e9:.2f}" if before else "")
    if celsius := frame.center(case, "celsius"):
        text += f"; {celsius:.0f} °C"
    return text


def hardware(frame: Frame, found: Sequence[tuple[Block, Case]]) -> tuple[str, ...]:
    """Return the hardware lines of ceilings."""
    return frame.hardware(*(case for _, case in found))
