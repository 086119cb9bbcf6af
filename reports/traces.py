"""Traces as reports: one case, the difference of two, all cases of a run."""

from collections.abc import Iterator, Mapping, Sequence

from harness.traces.account import OUTSIDE, PHASES, WAITING
from harness.traces.gaps import gaps_of
from harness.traces.read import trace_files
from reports.document import Cell, Chart, Document, Note, Section, Table, exact
from reports.frame import Frame
from reports.plugin import device_notes, kernel_columns, second_reading
from reports.trace_memory import memory
from reports.traced import FAR, SHOWN, Traced, traced_case

FEW = 8
Rows = tuple[tuple[Cell, ...], ...]
APART = 0.03  # of two scales: the margin of a step time
Item = Note | Table | Chart


def document_of_run(frame: Frame) -> Document:
    """Return the report on all traces of a run: how far traced, observed and timed step agree."""
    cases = [case for case in frame.run.suite.cases if any(trace_files(frame.run.path / "traces" / case.id))]
    found = [traced_case(frame, case) for case in cases if case.workload.lengths == 1]
    items: list[Item] = [
        Note(parts=("run `tandem trace RUN CASE` for one of them, `tandem trace RUN A B` for what differs",))
    ]
    if far := [item.name for item in found if abs(item.added) > FAR]:
        text = f"far from the timed steps, so that their shares tell little, are the traces of {', '.join(far)}"
        items.append(Note(parts=(f"{text}; run them again on a quieter machine",), kind="warning"))
    if len(found) < len(cases):
        items.append(Note(parts=("where lengths vary a trace shows one of them: look at single ones",)))
    if not cases:
        items = [Note(parts=("this run holds no traces: run without --no-trace, or see its warnings",), kind="warning")]
    rows = tuple(
        (
            item.name,
            exact(item.step),
            exact(item.account.step.seconds),
            exact(item.added, "share"),
            *(exact(item.phases.get(phase, 0.0)) for phase in PHASES),
            exact(apart(item), "share") if item.observed else None,
            exact(item.operators.get(item.account.rest, 0.0) / item.step, "share"),
        )
        for item in found
    )
    columns = (
        "case", "step as timed", "as traced", "tracing added", *PHASES, "phases apart from their own turns by",
        "between operators",
    )  # fmt: skip
    if rows:
        hardware = tuple(dict.fromkeys(line for item in found for line in item.hardware))
        items.append(Table(title="Traced steps", columns=columns, rows=rows, hardware=hardware))
    return Document(
        title=frame.run.suite.name,
        question="What do the traces say of each case?",
        sections=(Section(title="Traces", question="What do the traces say of each case?", items=tuple(items)),),
    )


def apart(item: Traced) -> float:
    """Return by how much the phase that differs most differs between trace and turns of its own, of the step."""
    return max(abs(item.phases.get(phase, 0.0) - seconds) for phase, seconds in item.observed.items()) / item.step


def document_of_case(item: Traced) -> Document:
    """Return the report on one trace."""
    question = f"Where does a step of {item.name} spend its time and memory?"
    sections = [
        Section(title="Step", question=question, items=(*scaled(item), phases(item))),
        Section(title="Operators", question="Which operators take the time?", items=(operators(item),)),
        Section(title="Kernels", question="Which kernels ran on the device?", items=tuple(kernels(item))),
        Section(title="Modules", question="Which modules take the time?", items=tuple(modules(item))),
        Section(title="Gaps", question="When did nothing run, and what was waited for?", items=tuple(waits(item))),
        Section(title="Memory", question="What is alive at the peaks?", items=tuple(memory(item))),
    ]
    return Document(title=item.name, question=question, sections=tuple(part for part in sections if part.items))


def document_of_difference(base: Traced, other: Traced) -> Document:
    """Return the report on what differs between two traces; the rows of each table sum to the difference."""
    question = f"What does a step of {other.name} do in another time than one of {base.name}?"
    change, as_traced = other.step - base.step, other.account.step.seconds - base.account.step.seconds
    answer = Note(
        parts=(
            f"a step of {other.name} takes", *more_or_less(change), f"than one of {base.name}:",
            exact(other.step), "against", exact(base.step),
        ),
        kind="answer",
    )  # fmt: skip
    notes = [answer, *scaled(base), *scaled(other)]
    if change * as_traced < 0:
        remedy = "so the rows tell little; run both again on a quieter machine, or with more launches"
        told = ("as traced it takes", *more_or_less(as_traced), f"- the other way round than as timed -, {remedy}")
        notes.append(Note(parts=told, kind="warning"))
    if (unlike := abs(other.scale / base.scale - 1)) > APART:
        says = "the two are scaled unlike: a row that takes as long in both traces differs here by"
        parts = (says, exact(unlike, "share"), "of its time; read no less than that as a difference")
        notes.append(Note(parts=parts, kind="warning"))
    tables = [difference("operator", base, other, base.operators, other.operators)]
    tables.append(difference("phase", base, other, base.phases, other.phases))
    if base.has_modules() and other.has_modules():
        tables.append(difference("module", base, other, base.modules, other.modules))
    items: tuple[Item, ...] = (*notes, *tables)
    return Document(title=f"{base.name} and {other.name}", question=question, sections=(
        Section(title="Difference", question=question, items=items),
    ))  # fmt: skip


def more_or_less(change: float) -> tuple[Cell, Cell]:
    """Return a change as words: so much, and more or less."""
    return exact(abs(change)), "less" if change < 0 else "more"


def difference(what: str, base: Traced, other: Traced, ours: Mapping[str, float], theirs: Mapping[str, float]) -> Table:
    """Return a table of both sides, the largest difference first, that sums to the difference of the steps."""
    names = sorted({*ours, *theirs}, key=lambda name: (-abs(theirs.get(name, 0.0) - ours.get(name, 0.0)), name))
    sides = [(name, ours.get(name, 0.0), theirs.get(name, 0.0)) for name in names]
    shown, others = sides[:SHOWN], sides[SHOWN:]
    if others:
        shown.append((f"{len(others)} others", sum(was for _, was, _ in others), sum(now for *_, now in others)))
    shown.append(("the step", base.step, other.step))
    rows = tuple((name, exact(was), exact(now), exact(now - was)) for name, was, now in shown)
    return Table(
        title=f"By {what}",
        columns=(what, base.name, other.name if other.name != base.name else f"{other.name} (2)", "difference"),
        rows=rows,
        hardware=tuple(dict.fromkeys([*base.hardware, *other.hardware])),
    )


def scaled(item: Traced) -> Iterator[Note]:
    """Yield what the profiler added, and how the figures make up for it."""
    count = len(item.trace.steps)
    if item.timed is None:
        text = f"{item.name}: the middle one of {count} traced steps, with what the profiler takes"
        yield Note(parts=(text,))
        return
    words = "longer" if item.added >= 0 else "shorter"
    yield Note(
        parts=(
            f"a step of {item.name} took", exact(item.step), "as timed and", exact(item.account.step.seconds),
            f"as traced, the middle one of {count}: the profiler, and the machine as it was then, made it",
            exact(abs(item.added), "share"), f"{words}. {rule(item)}, so that all sum to the timed step",
        ),
    )  # fmt: skip
    if abs(item.added) > FAR:
        text = "far from the timed step: what is called often and briefly shows too much; trace a larger batch"
        yield Note(parts=(f"the trace of {item.name} is {text}",), kind="warning")


def rule(item: Traced) -> str:
    """Return in words how the times of a trace are made those of the timed step."""
    if item.stretches_gaps:
        return f"Kernels are told as traced, and gaps multiplied by {item.gap_scale:.3f}"
    return f"Every time here is multiplied by {item.scale:.3f}"


def shares(item: Traced, values: Sequence[tuple[str, float, Cell]]) -> Rows:
    """Return rows of seconds and their share of the step, the others as one, and the step that they sum to."""
    shown, others = list(values[:SHOWN]), values[SHOWN:]
    if others:
        shown.append((f"{len(others)} others", sum(seconds for _, seconds, _ in others), None))
    shown.append(("the step", item.step, None))
    return tuple((name, exact(seconds), exact(seconds / item.step, "share"), more) for name, seconds, more in shown)


def phases(item: Traced) -> Table:
    """Return the phases as traced, beside those observed in turns of their own."""
    order = [phase for phase in (*PHASES, OUTSIDE) if phase in item.phases]
    rows = shares(item, [(phase, item.phases[phase], seen(item, phase)) for phase in order])
    columns = ("phase", "time", "of the step", "in turns of their own")
    return Table(title="By phase", columns=columns, rows=rows, hardware=item.hardware)


def seen(item: Traced, phase: str) -> Cell:
    """Return a phase as observed without the profiler."""
    return exact(item.observed[phase]) if phase in item.observed else None


def operators(item: Traced) -> Table:
    """Return the operators, and what none took."""
    count = "kernels a step" if item.account.on_device else "calls a step"
    calls = item.account.by_operator()
    rows = shares(
        item,
        [(name, seconds, calls[name].calls or None) for name, seconds in item.operators.items()],
    )
    return Table(
        title="By operator", columns=("operator", "time", "of the step", count), rows=rows, hardware=item.hardware
    )


def kernels(item: Traced) -> Iterator[Item]:
    """Yield the kernels of a device."""
    found: dict[str, list[float]] = {}
    step = item.account.step
    for kernel in item.trace.device:
        if step.start <= kernel.start < step.end:
            found.setdefault(kernel.name, []).append(kernel.seconds)
    names = sorted(found, key=lambda name: -sum(found[name]))[:SHOWN]
    if not names:
        return
    headings: tuple[str, ...] = ()
    more: Mapping[str, tuple[Cell, ...]] = {}
    if profile := second_reading(item.trace.path):
        yield from device_notes(profile)
        headings, more = kernel_columns(profile)
    rows = tuple(
        (
            name,
            exact(sum(found[name]) * item.scale),
            len(found[name]),
            exact(max(found[name]) * item.scale),
            *more.get(name, (None,) * len(headings)),
        )
        for name in names
    )
    columns = ("kernel", "time", "calls a step", "longest", *headings)
    yield Table(title="By kernel", columns=columns, rows=rows, hardware=item.hardware)


def modules(item: Traced) -> Iterator[Item]:
    """Yield the modules, each without those in it."""
    if not item.has_modules():
        yield Note(parts=("the trace knows no modules: compiled code has none, and traces of before had no marks",))
        return
    passes = {phase: item.account.by_module(phase) for phase in ("forward", "backward")}
    rows = tuple(
        (
            name,
            *(exact(passes[phase][name].seconds * item.scale) if name in passes[phase] else None for phase in passes),
            exact(seconds),
            exact(seconds / item.step, "share"),
        )
        for name, seconds in (*item.modules.items(), ("the step", item.step))
    )
    columns = ("module, without those in it", "forward", "backward", "time", "of the step")
    yield Table(title="By module", columns=columns, rows=rows, hardware=item.hardware)


def waits(item: Traced) -> Iterator[Item]:
    """Yield the gaps, and what ended them."""
    found = gaps_of(item.trace, item.account)
    what = "kernel" if item.account.on_device else "operator"
    yield Note(
        parts=(
            f"no {what} ran in", exact(found.seconds * item.gap_scale / item.step, "share"), "of the step, in",
            found.count, "gaps, the longest of", exact(found.longest * item.gap_scale),
        )
    )  # fmt: skip
    if (waiting := sum(s for name, s in item.operators.items() if name == WAITING)) > 0:
        parts = ("the step waited", exact(waiting), "for its data loader:", exact(waiting / item.step, "share"))
        yield Note(parts=parts, kind="answer")
    rows = tuple(
        (name, exact(seconds * item.gap_scale), exact(seconds * item.gap_scale / item.step, "share"))
        for name, seconds in list(found.before.items())[:FEW]
    )
    columns = (f"{what} that ended gaps", "time", "of the step")
    yield Table(title="Gaps, by what ended them", columns=columns, rows=rows, hardware=item.hardware)
