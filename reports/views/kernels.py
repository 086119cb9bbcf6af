"""Which attention kernel SDPA chose, whether a forced one is faster, and from which length on."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import combinations, groupby

from harness.correct import is_as_asked
from harness.spec import Case
from reports.document import Cell, Change, Chart, Mark, Note, Section, Status, Table, filled
from reports.frame import Frame
from reports.views._kernels import (
    CHOICE,
    Crossing,
    Family,
    Point,
    crossings,
    families,
    fastest,
    judged,
    kernels,
    measured,
)  # fmt: skip

ORDER = 5
SPEED = ("step_seconds", "flop_per_second")
MEMORY = ("memory_allocated_peak_bytes", "memory_peak_bytes", "memory_peak_maxrss_bytes")  # the first that is known
REMEDIES = {
    "formula": "write softmax(QK^T)V out there, as suites/attention/formula.py does",
    "sdpa_math": "pin it there: `with torch.nn.attention.sdpa_kernel(SDPBackend.MATH)`",
    "sdpa_flash": "pin it there: `with torch.nn.attention.sdpa_kernel(SDPBackend.FLASH_ATTENTION)`",
    "sdpa_efficient": "pin it there: `with torch.nn.attention.sdpa_kernel(SDPBackend.EFFICIENT_ATTENTION)`",
    "sdpa_cudnn": "pin it there: `with torch.nn.attention.sdpa_kernel(SDPBackend.CUDNN_ATTENTION)`",
    "flex": "call torch.nn.attention.flex_attention there, compiled",
}


def view(frame: Frame) -> Section:
    """Return what SDPA chose and what would be faster, in sentences, charts and tables."""
    found = families(frame)
    names = kernels(frame, found)
    items: list[Note | Chart | Table] = []
    if any(measured(frame, point, name) for family in found for point in family.points for name in point.cases):
        items += [*answers(frame, found, names), *slower_choices(frame, found, names), *strangers(frame, found)]
        charts = [chart(frame, family, names) for family in found if len(family.points) > 1]
        items += [item for item in charts if item.marks]
        items += [fastest_table(frame, found, names), *crossing_table(frame, found, names)]
        for setting, group in groupby(found, key=lambda family: family.setting):
            several = list(group)
            items += [times(frame, setting, several, names), memory(frame, setting, several, names)]
    question = "Which attention kernel does SDPA choose, and from which length on is another faster?"
    return Section(title="Attention kernels", question=question, items=tuple(items))


def answers(frame: Frame, found: Sequence[Family], names: Sequence[str]) -> Iterator[Note]:
    """Yield what SDPA chose, which kernel is the fastest where, and whether each was the one asked for."""
    points = [point for family in found for point in family.points if measured(frame, point, CHOICE)]
    kernel_at = [actual for point in points if (actual := kernel_of(frame, point.cases[CHOICE]))]
    if kernel_at:
        told = ", ".join(f"{name} at {count}" for name, count in Counter(kernel_at).most_common())
        yield say(f"SDPA chose {told} of {len(points)} points")
        beaten = sum(bool(faster(frame, point, names)) for point in points)
        yield say(f"at {beaten or 'none'} of them a forced kernel is established to be faster than SDPA's choice")
    where: dict[str, list[Family]] = {}
    for family in found:
        where.setdefault(over_lengths(frame, family, names), []).append(family)
    for statement, several in where.items():
        yield say(f"{named(several, found)}: {statement}")
    traced = [(case, kernel) for case in all_cases(frame, found) if (kernel := kernel_of(frame, case))]
    right = sum(is_as_asked(case.variant, kernel) for case, kernel in traced)
    yield Note(parts=(f"the kernel that ran is the one asked for in {right} of {len(traced)} traced cases",))


def over_lengths(frame: Frame, family: Family, names: Sequence[str]) -> str:
    """Return which kernel is the fastest from length to length."""
    best = [(point.length, fastest(frame, point, names) or "none that ran") for point in family.points]
    runs = [(name, [length for length, _ in group]) for name, group in groupby(best, key=lambda item: item[1])]
    if len(runs) == 1 < len(best):
        return f"fastest at every length: {runs[0][0]}"
    return "fastest " + ", ".join(f"{span(lengths)}: {name}" for name, lengths in runs)


def span(lengths: Sequence[int]) -> str:
    """Return lengths in words."""
    return f"at {lengths[0]:,}" if len(lengths) == 1 else f"from {lengths[0]:,} to {lengths[-1]:,}"


def named(several: Sequence[Family], found: Sequence[Family]) -> str:
    """Return families in words: `everywhere`, or where all of a setting are among them, that."""
    if len(several) == len(found) > 1:
        return "everywhere"
    words = []
    for setting, group in groupby(several, key=lambda family: family.setting):
        labels = [family.label for family in group]
        whole = len(labels) == sum(family.setting == setting for family in found) > 1
        words += [f"everywhere in {setting}"] if whole else labels
    return "; ".join(words)


def slower_choices(frame: Frame, found: Sequence[Family], names: Sequence[str]) -> Iterator[Note]:
    """Yield a warning for each kernel that is somewhere established to be faster than the one that SDPA chose."""
    places: dict[str, list[tuple[Family, Point, Change]]] = {}
    for family in found:
        for point in family.points:
            if beating := faster(frame, point, names):
                name, change = min(beating.items(), key=lambda item: item[1].judgement.ratio)
                places.setdefault(name, []).append((family, point, change))
    for name, several in places.items():
        chosen = dict.fromkeys(kernel_of(frame, point.cases[CHOICE]) or "a kernel" for _, point, _ in several)
        least = min((change for *_, change in several), key=lambda change: change.judgement.ratio)
        said = f"SDPA chose {' and '.join(chosen)} where {name} is faster and takes as little as"
        by_family = groupby(several, key=lambda item: item[0])
        where = "; ".join(
            f"{family.label}, length {', '.join(f'{point.length:,}' for _, point, _ in group)}"
            for family, group in by_family
        )
        yield Note(parts=(said, least, f"of its time: {where}: {REMEDIES.get(name, f'use {name}')}"), kind="warning")


def faster(frame: Frame, point: Point, names: Sequence[str]) -> dict[str, Change]:
    """Return the forced kernels that are established to be faster than SDPA's choice, against it."""
    changes = {name: change for name in names if (change := against_choice(frame, point, name))}
    return {name: change for name, change in changes.items() if change.judgement.verdict == "better"}


def strangers(frame: Frame, found: Sequence[Family]) -> Iterator[Note]:
    """Yield a warning for each case that ran another kernel than the one forced."""
    for family in found:
        for point in family.points:
            for name, case in point.cases.items():
                actual = kernel_of(frame, case)
                if actual and not is_as_asked(case.variant, actual):
                    told = f"{family.label}, length {point.length:,}: {name} was forced and {actual} ran"
                    yield Note(parts=(f"{told}; read its figures as those of {actual}",), kind="warning")


def chart(frame: Frame, family: Family, names: Sequence[str]) -> Chart:
    """Return the time of each kernel over the length, with the crossings."""
    marks = [
        Mark(at=float(point.length), series=name, value=quantity.estimate.center)
        for name in names
        for point in family.points
        for case in measured(frame, point, name)
        if (quantity := frame.quantity(case, "step_seconds"))
    ]
    marks += [
        Mark(
            at=found.at, at_low=found.low, at_high=found.high, value=found.seconds, series=found.after,
            name=f"{found.after} from about {found.at:,.0f}",
        )
        for pair in combinations(names, 2)
        for found in crossings(frame, family, *pair)
        if math.isfinite(found.at)
    ]  # fmt: skip
    return Chart(
        kind="crossings",
        title=f"Time over length: {family.label}",
        text=f"Time of each attention kernel over the length, both logarithmic, and where they cross: {family.label}",
        at="length",
        value="time",
        unit="s",
        marks=tuple(marks),
        hardware=hardware(frame, [family]),
    )


def fastest_table(frame: Frame, found: Sequence[Family], names: Sequence[str]) -> Table:
    """Return the fastest kernels of each family at each length, and those that cannot be told from it."""
    lengths = sorted({point.length for family in found for point in family.points})
    rows = []
    for family in found:
        best = {point.length: fastest(frame, point, names) for point in family.points}
        rows.append((family.label, *(best.get(length) for length in lengths)))
    columns = ("attention", *(f"{length:,}" for length in lengths))
    title = "Fastest forced kernel by length"
    return Table(title=title, columns=columns, rows=tuple(rows), hardware=hardware(frame, found))


def crossing_table(frame: Frame, found: Sequence[Family], names: Sequence[str]) -> list[Table]:
    """Return where one kernel overtakes another, if any does."""
    rows = tuple(
        (
            family.label,
            f"{item.before} and {item.after}",
            "–".join(f"{length:,}" for length in dict.fromkeys(item.lengths)),
            place(item),
            None if math.isnan(item.at) else item.after,
        )
        for family in found
        for pair in combinations(names, 2)
        for item in crossings(frame, family, *pair)
    )
    columns = ("attention", "kernels", "between lengths", "cross at about, if even in between", "then faster")
    title = "Where one kernel overtakes another"
    return [Table(title=title, columns=columns, rows=rows, hardware=hardware(frame, found))] if rows else []


def place(item: Crossing) -> str:
    """Return where two kernels cross, with its interval."""
    if math.isnan(item.at):
        return "cannot tell"
    return f"{item.at:,.0f} ({item.low:,.0f}–{item.high:,.0f})"


def times(frame: Frame, setting: str, found: Sequence[Family], names: Sequence[str]) -> Table:
    """Return the kernel that SDPA chose at each point, its time, and that of each forced kernel relative to it."""
    rows = tuple(
        (
            *shape(family),
            point.length,
            point.batch,
            chosen(frame, point),
            *(frame.quantity(point.cases[CHOICE], metric) if CHOICE in point.cases else None for metric in SPEED),
            *(relative(frame, point, name) for name in names),
        )
        for family in found
        for point in family.points
    )
    columns = ("length", "batch", "SDPA chose", "its time", "its FLOP/s", *(f"{name}, of its time" for name in names))
    return grid(f"Time: {setting}", columns, rows, frame, found)


def memory(frame: Frame, setting: str, found: Sequence[Family], names: Sequence[str]) -> Table:
    """Return the peak memory of SDPA's choice and of each forced kernel at each point."""
    cases = [*all_cases(frame, found)]
    metric = next((name for name in MEMORY if any(frame.figures.of(case, name) for case in cases)), MEMORY[-1])
    rows = tuple(
        (
            *shape(family),
            point.length,
            point.batch,
            *(
                frame.quantity(point.cases[name], metric) if measured(frame, point, name) else None
                for name in (CHOICE, *names)
            ),
        )
        for family in found
        for point in family.points
    )
    return grid(f"Peak memory: {setting}", ("length", "batch", CHOICE, *names), rows, frame, found)


def grid(
    title: str, columns: Sequence[str], rows: tuple[tuple[Cell, ...], ...], frame: Frame, found: Sequence[Family]
) -> Table:
    """Return a table whose rows begin with a family's shape."""
    columns = ("head size", "mask", "and", *columns)
    return filled(Table(title=title, columns=columns, rows=rows, hardware=hardware(frame, found)))


def shape(family: Family) -> tuple[Cell, ...]:
    """Return how the rows of a family begin."""
    return family.head, family.mask or "none", family.more or None


def chosen(frame: Frame, point: Point) -> Cell:
    """Return the kernel that SDPA chose, or how its case ended."""
    if not measured(frame, point, CHOICE):
        return Status(outcome=frame.outcome(point.cases[CHOICE])["status"]) if CHOICE in point.cases else None
    return kernel_of(frame, point.cases[CHOICE]) or "not traced"


def relative(frame: Frame, point: Point, name: str) -> Cell:
    """Return a forced kernel's time relative to that of SDPA's choice, or how its case ended."""
    if name in point.cases and not measured(frame, point, name):
        return Status(outcome=frame.outcome(point.cases[name])["status"])
    return against_choice(frame, point, name)


def against_choice(frame: Frame, point: Point, name: str) -> Change | None:
    """Return the time of a forced kernel against that of SDPA's choice."""
    pair = measured(frame, point, CHOICE, name)
    return Change(judgement=judged(frame, *pair)) if pair else None


def kernel_of(frame: Frame, case: Case) -> str | None:
    """Return the kernel that a case's trace shows; nothing of one that has no figures."""
    actual: str | None = frame.outcome(case)["facts"].get("attention_actual")
    return actual if frame.figures.is_measured(case) else None


def all_cases(frame: Frame, found: Sequence[Family]) -> list[Case]:
    """Return every case of the families."""
    return [case for family in found for point in family.points for case in point.cases.values()]


def hardware(frame: Frame, found: Sequence[Family]) -> tuple[str, ...]:
    """Return the hardware lines of families."""
    return frame.hardware(*all_cases(frame, found))


def say(sentence: str) -> Note:
    """Return an answer."""
    return Note(parts=(sentence,), kind="answer")
