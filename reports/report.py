"""Report: run -> Document, the views in reading order; or one run against another."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from harness import names
from harness.compare import COMPARED, Between, Comparison, between
from harness.stats import ONE_LAUNCH
from harness.store import Run
from harness.verdict import Ruling
from reports.document import Cell, Change, Document, Note, Section, Table, differing, filled, heading
from reports.frame import Frame, frame_of, result_of

BRIEF = ("hardware", "kernels", "comparison", "shares", "families", "fit", "outcomes", "warnings", "run")
"""The views that a run ends with on a terminal."""
BRIEF_GATE = ("gate", "outcomes", "warnings", "run")


def document_of(run: Run, views: Sequence[str] = ()) -> Document:
    """Return the report on a run: `views`, or all."""
    frame = frame_of(run)
    return Document(
        title=run.suite.name,
        question=run.suite.question,
        sections=tuple(sections(frame, views)),
        results=(result_of(frame),),
    )


def sections(frame: Frame, views: Sequence[str], name: str = "") -> list[Section]:
    """Return what the views say of a run, in order, without those that have nothing to say; its `name` before each."""
    named = [names.find("view", view) for view in views] or names.listing("view")
    named.sort(key=lambda view: (view.literal("ORDER", 1000), view.name))
    found: list[Section] = [view.load()(frame) for view in named]
    prefix = f"{name}: " if name else ""
    return [
        Section(title=prefix + section.title, question=section.question, items=section.items)
        for section in found
        if section.items
    ]


def comparison_of(base: Run, candidate: Run) -> Document:
    """Return the report on one run against another."""
    frames = frame_of(base), frame_of(candidate)
    found = between(frames[0].figures, frames[1].figures)
    section = Section(
        title="Run against run",
        question=f"What has changed from {base.id} to {candidate.id}?",
        items=unlike(found) if found.differences else changes(frames[1], found.comparisons),
    )
    result = replace(
        result_of(frames[1]),
        base=result_of(frames[0]).run,
        differences=found.differences,
        comparisons=found.comparisons,
        overall=(),
    )
    return Document(
        title=candidate.suite.name, question=candidate.suite.question, sections=(section,), results=(result,)
    )


def ruling_of(candidate: Run, ruling: Ruling) -> Document:
    """Return the gate's report on two stored runs."""
    frame = replace(frame_of(candidate), gate=ruling)
    section: Section = names.find("view", "gate").load()(frame)
    return Document(
        title=candidate.suite.name, question=section.question, sections=(section,), results=(result_of(frame),)
    )


def unlike(found: Between) -> tuple[Note | Table, ...]:
    """Return that two runs are not comparable, and in which fields they differ."""
    return (
        Note(parts=("not comparable: the runs differ in what must be equal",), kind="answer"),
        differing(found.differences, found.base, found.candidate),
    )


def changes(frame: Frame, comparisons: Sequence[Comparison]) -> tuple[Note | Table, ...]:
    """Return how many cases became faster or slower, and a row for each."""
    verdicts = Counter(item.judgement.verdict for item in comparisons if item.metric == "step_seconds")
    counts = ", ".join(f"{count} {verdict}" for verdict, count in verdicts.items()) or "nothing was measured in both"
    hardware = frame.hardware(*frame.run.suite.cases)
    return (
        Note(parts=(f"speed: {counts}",), kind="answer"),
        *case_by_case(frame, comparisons, "Case by case", hardware),
    )


def case_by_case(
    frame: Frame, comparisons: Sequence[Comparison], title: str, hardware: tuple[str, ...]
) -> tuple[Note | Table, ...]:
    """Return a row for each case, what changed in each metric, and what to bear in mind."""
    by_case: dict[str, dict[str, Cell]] = {}
    for item in comparisons:
        is_speed = item.metric == "step_seconds"
        by_case.setdefault(item.case, {})[item.metric] = Change(judgement=item.judgement, is_speed=is_speed)
    rows = tuple(
        (block.name, case.variant.name, *(by_case[case.id].get(metric) for metric in COMPARED))
        for block in frame.run.suite.blocks
        for case in block.cases
        if case.id in by_case
    )
    columns = ("workload", "variant", "speed", *map(heading, COMPARED[1:]))
    cautions = dict.fromkeys(caution for item in comparisons for caution in item.judgement.warnings)
    cautions.pop(ONE_LAUNCH, None)  # the cells say so
    return (
        *([filled(Table(title=title, columns=columns, rows=rows, hardware=hardware))] if rows else []),
        *(Note(parts=(f"{item.code}: {item.message}; {item.remedy}",), kind="warning") for item in cautions),
    )
