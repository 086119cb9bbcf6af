"""Runs side by side: machines, commits or days over the cases that they share, each run against the first."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from harness.compare import Between, Difference, across
from harness.errors import UserError
from harness.spec import Block, Case
from harness.stats import Judgement
from harness.store import Run
from reports.document import (
    Cell,
    Change,
    Chart,
    Document,
    Mark,
    Note,
    Quantity,
    Section,
    Status,
    Table,
    differing,
    filled,
)
from reports.frame import Frame, frame_of, result_of
from reports.report import BRIEF, case_by_case, sections

CALIBRATION, FINGERPRINT = "calibration ", "fingerprint"
"""Of the fields in which machines differ: how fast they are as such, and the digest of all the others."""
Names = Mapping[str, str]
"""Run id -> `run 1`, as the report calls it: ids are long."""


def document_of_runs(runs: Sequence[Run]) -> Document:
    """Return the report on several runs: what differs between them, then each of them in brief."""
    ids = [run.id for run in runs]
    if twice := [id for id, count in Counter(ids).items() if count > 1]:
        raise UserError(f"run {twice[0]} is given twice", "name each run once")
    names = {id: f"run {number}" for number, id in enumerate(ids, 1)}
    frames = [frame_of(run) for run in runs]
    found = [across(frames[0].figures, frame.figures) for frame in frames[1:]]
    question = f"How do {len(runs)} runs differ in the cases that they share?"
    items: tuple[Note | Table | Chart, ...] = (
        *(Note(parts=answer(one, names), kind="answer") for one in found),
        *alone(frames, names),
        listing(frames, names),
        *by_run(frames, found, names),
        *(item for frame, one in zip(frames[1:], found, strict=True) for item in against(frames[0], frame, one, names)),
    )
    return Document(
        title=", ".join(dict.fromkeys(run.suite.name for run in runs)),
        question=question,
        sections=(
            Section(title="Runs side by side", question=question, items=items),
            *(section for frame in frames for section in sections(frame, BRIEF, names[frame.run.id])),
        ),
        results=tuple(map(result_of, frames)),
        between=tuple(found),
    )


def answer(found: Between, names: Names) -> tuple[Cell, ...]:
    """Return the sentence on one run against the first: what changed, between what, or why that is not told."""
    who = f"{names[found.candidate]} against {names[found.base]}"
    if not found.shared:
        return (f"{who}: not comparable, they share no case",)
    if found.differences:
        return (
            f"{who}: not comparable, they did not do the same: {named([item.field for item in found.differences])}",
        )
    judged = [item.judgement for item in found.comparisons if item.metric == "step_seconds"]
    if found.places and not found.comparisons:
        return (f"{who}: {between_what(found.places)}",)
    if not judged:
        return (f"{who}: nothing was measured in both",)
    counts = ", ".join(f"{count} {verdict}" for verdict, count in Counter(item.verdict for item in judged).items())
    caution = f"{between_what(found.places)}; " if found.places else ""
    lead = f"{who}: {caution}speed in {len(judged)} shared case{'s' * (len(judged) > 1)}: {counts}"
    return (lead, *extremes(judged))


def extremes(judged: Sequence[Judgement]) -> tuple[Cell, ...]:
    """Return the smallest and the largest established change of speed."""
    known = [item for item in judged if item.verdict in ("better", "worse")]
    if not known:
        return ()
    ends = [Change(judgement=pick(known, key=lambda item: -item.ratio), is_speed=True) for pick in (min, max)]
    return ("·", ends[0]) if len(known) == 1 else ("· from", ends[0], "to", ends[1], "as fast")


def between_what(places: Sequence[Difference]) -> str:
    """Return what a comparison is between, where not only the code or the day differ."""
    probes = [item.field.split(CALIBRATION)[1].removesuffix("_seconds") for item in places if CALIBRATION in item.field]
    fields = [item.field.split(": ")[-1] for item in places if CALIBRATION not in item.field]
    if not fields:
        return f"not comparable, the machine itself was not as fast in both ({named(probes)})"
    return f"machines or builds compared, not code ({named(fields)} differ)"


def named(fields: Sequence[str], most: int = 4) -> str:
    """Return the first of the fields that differ."""
    fields = [field for field in dict.fromkeys(fields) if field != FINGERPRINT]
    more = f" and {len(fields) - most} more" if len(fields) > most else ""
    return ", ".join(fields[:most]) + more


def alone(frames: Sequence[Frame], names: Names) -> Iterator[Note]:
    """Yield which cases only one of the runs holds."""
    ids = [{case.id for case in frame.run.suite.cases} for frame in frames]
    for number, frame in enumerate(frames):
        others = set().union(*(own for place, own in enumerate(ids) if place != number))
        if only := [case.id for case in frame.run.suite.cases if case.id not in others]:
            yield Note(parts=(f"only in {names[frame.run.id]}: {', '.join(only)}",))


def listing(frames: Sequence[Frame], names: Names) -> Table:
    """Return the runs: when, from which commit, on what, and how many cases they hold."""
    rows = tuple(
        (
            names[frame.run.id],
            frame.run.id,
            frame.run.meta.get("started"),
            frame.run.meta.get("commit"),
            str(frame.run.meta["status"]),
            len(frame.run.suite.cases),
            "; ".join(frame.hardware(*frame.run.suite.cases)),
        )
        for frame in frames
    )
    columns = ("run", "id", "started", "commit", "status", "cases", "hardware")
    return filled(Table(title="The runs", columns=columns, rows=rows))


def by_run(frames: Sequence[Frame], found: Sequence[Between], names: Names) -> Iterator[Table | Chart]:
    """Yield for each workload the step times, a column and a bar for each run that did the same as another."""
    shown = [frames[0], *(frame for frame, one in zip(frames[1:], found, strict=True) if one.comparisons)]
    if len(shown) < 2:
        return
    shared = {id for one in found for id in one.shared}
    for block in frames[0].run.suite.blocks:
        cases = [case for case in block.cases if case.id in shared and is_measured(shown, case)]
        here = [frame for frame in shown if held(frame, cases)]
        if cases:
            yield times(here, found, block, cases, names)
            yield bars(here, block, cases, names)


def is_measured(frames: Sequence[Frame], case: Case) -> bool:
    """Tell whether any of the runs has figures of a case."""
    return any(frame.figures.is_measured(case) and frame.quantity(case, "step_seconds") for frame in frames)


def times(
    frames: Sequence[Frame], found: Sequence[Between], block: Block, cases: Sequence[Case], names: Names
) -> Table:
    """Return the step time in each run, beside how many times as fast it is as in the first."""
    first, *others = (frame.run.id for frame in frames)
    judged = {
        (one.candidate, item.case): Change(judgement=item.judgement, is_speed=True)
        for one in found
        for item in one.comparisons
        if item.metric == "step_seconds"
    }
    rows = tuple(
        (
            case.variant.name,
            *(cell for frame in frames for cell in (
                seconds(frame, case), *([judged.get((frame.run.id, case.id))] if frame.run.id != first else [])
            )),
        )
        for case in cases
    )  # fmt: skip
    pairs = [(f"step time, {names[id]}", f"speed, {names[id]}") for id in others]
    columns = ("variant", f"step time, {names[first]}", *(name for pair in pairs for name in pair))
    return filled(
        Table(
            title=f"Step time by run: {block.name}", columns=columns, rows=rows, hardware=places(frames, cases, names)
        )
    )


def seconds(frame: Frame, case: Case) -> Quantity | Status | None:
    """Return a case's step time in a run, or how it ended there; nothing where the run does not hold it."""
    if frame.figures.is_measured(case):
        return frame.quantity(case, "step_seconds")
    held = any(case.id == own.id for own in frame.run.suite.cases)
    return Status(outcome=frame.outcome(case)["status"]) if held else None


def bars(frames: Sequence[Frame], block: Block, cases: Sequence[Case], names: Names) -> Chart:
    """Return the step times as bars, a group for each case."""
    marks = []
    for case in cases:
        for frame in frames:
            if frame.figures.is_measured(case) and (quantity := frame.quantity(case, "step_seconds")):
                known = quantity.estimate
                low, high = (known.low, known.high) if known.has_interval else (None, None)
                marks.append(
                    Mark(at=case.variant.name, series=names[frame.run.id], value=known.center, low=low, high=high)
                )
    return Chart(
        kind="grouped",
        title=f"Step time by run: {block.name}",
        text=f"Step time of each variant on {block.name} in each of {len(frames)} runs, with 95 % intervals",
        at="variant",
        value="step time",
        unit="s",
        marks=tuple(marks),
        hardware=places(frames, cases, names),
    )


def places(frames: Sequence[Frame], cases: Sequence[Case], names: Names) -> tuple[str, ...]:
    """Return on what each run was measured; once, where that is the same."""
    lines = {names[frame.run.id]: "; ".join(frame.hardware(*held(frame, cases))) for frame in frames}
    if len(set(lines.values())) == 1:
        return tuple(filter(None, set(lines.values())))
    return tuple(f"{name}: {line}" for name, line in lines.items())


def held(frame: Frame, cases: Sequence[Case]) -> list[Case]:
    """Return those of the cases that a run holds."""
    own = {case.id for case in frame.run.suite.cases}
    return [case for case in cases if case.id in own]


def against(first: Frame, frame: Frame, found: Between, names: Names) -> Iterator[Note | Table]:
    """Yield in what a run and the first differ, and every metric of each case that they share."""
    base, candidate = names[found.base], names[found.candidate]
    if unlike := (*found.differences, *found.places):
        yield differing(unlike, base, candidate, f"What differs: {candidate} against {base}")
    if found.comparisons:
        title = f"{candidate} against {base}, case by case"
        cases = [case for case in frame.run.suite.cases if case.id in found.shared]
        yield from case_by_case(frame, found.comparisons, title, places((first, frame), cases, names))
