"""Account: where a traced step's seconds went; every second counts once, so each table made from it sums to the step.

On a CPU a second is that of the innermost operator on the thread that steps. On a GPU it is that of the operator whose
kernel runs; where none runs, it is a gap.
"""

import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from harness.traces.read import MARK, OPERATOR, Allocation, Span, Trace

PHASES = ("data", "forward", "backward", "optimizer")
PHASE, MODULE, LOADER = "tandem: ", "nn.Module: ", "enumerate(DataLoader)"
BETWEEN = "between operators"
IDLE = "no kernel running"
WAITING = "waiting for the data loader"
OUTSIDE = "outside of phases"
NO_MODULE = "outside of modules"


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a step something happened; an empty text is unknown."""

    operator: str = ""
    phase: str = ""
    module: str = ""


@dataclass(frozen=True, kw_only=True)
class Spent:
    """Seconds and calls in a step."""

    seconds: float
    calls: int

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(seconds=self.seconds + other.seconds, calls=self.calls + other.calls)


NOTHING = Spent(seconds=0.0, calls=0)


@dataclass(frozen=True, kw_only=True)
class Account:
    """A step: place -> what was spent there."""

    step: Span
    spent: Mapping[Place, Spent]
    on_device: bool
    held: Sequence[tuple[Allocation, Place]]
    """Each change of memory, and where it happened."""

    @property
    def seconds(self) -> float:
        """A step."""
        return sum(item.seconds for item in self.spent.values())

    @property
    def rest(self) -> str:
        """What a second is called in which no operator, or no kernel, ran."""
        return IDLE if self.on_device else BETWEEN

    def by(self, key: Callable[[Place], str], phase: str = "") -> dict[str, Spent]:
        """Return what was spent, in a phase or in all, by something that a place has, the dearest first."""
        found: dict[str, Spent] = defaultdict(lambda: NOTHING)
        for place, spent in self.spent.items():
            if phase in ("", place.phase):
                found[key(place)] += spent
        return dict(sorted(found.items(), key=lambda item: (-item[1].seconds, item[0])))

    def by_operator(self) -> dict[str, Spent]:
        """Return what each operator took, and what none did."""
        return self.by(lambda place: place.operator or self.rest)

    def by_phase(self) -> dict[str, Spent]:
        """Return what each phase took."""
        return self.by(lambda place: place.phase or OUTSIDE)

    def by_module(self, phase: str = "") -> dict[str, Spent]:
        """Return what each module took, in a phase or in all, without those in it; layers are put together."""
        return self.by(module_of, phase)


def account_of(trace: Trace, step: Span | None = None) -> Account:
    """Take a step of a trace apart: the middle one, unless another is given."""
    step = step or trace.step
    phases = Timeline([span for span in trace.spans if span.category == MARK and span.name.startswith(PHASE)])
    modules: dict[int, str] = {}  # sequence number of a forward operator -> its module
    own: dict[Place, Spent] = defaultdict(lambda: NOTHING)
    places: dict[int, Place] = {}
    held: list[tuple[Allocation, Place]] = []
    for thread in dict.fromkeys([step.thread, *(span.thread for span in trace.spans)]):  # first where forward runs
        spans = [span for span in trace.spans if span.thread == thread]
        memory = [item for item in trace.memory if item.thread == thread]
        for found, place, seconds in walked(spans, memory, phases, modules):
            if isinstance(found, Allocation):
                held.append((found, place))
                continue
            if found.category == OPERATOR and (number := found.numbers.get("External id")) is not None:
                places[number] = place
            if thread == step.thread and step.start <= found.start < step.end:
                own[place] += Spent(seconds=seconds, calls=int(is_operator(found)))
    held.sort(key=lambda item: item[0].at)
    launched = [(kernel, launch_place(kernel, places)) for kernel in trace.device]
    spent = on_device(step, launched) if trace.device else own
    return Account(step=step, spent=dict(spent), on_device=bool(trace.device), held=held)


def module_of(place: Place) -> str:
    """Return the module of a place, or what it is part of beside them."""
    if place.phase in ("data", "optimizer"):
        return place.phase
    return plain_module(place.module) or NO_MODULE


def is_operator(span: Span) -> bool:
    """Tell whether a span is an operator, or a wait for the data loader, and not a mark around some."""
    return span.category == OPERATOR or span.name.startswith(LOADER)


class Timeline:
    """Moment -> which of some spans that follow each other it lies in, on whatever thread."""

    def __init__(self, spans: Sequence[Span]) -> None:
        self.spans = spans
        self.starts = [span.start for span in spans]

    def at(self, moment: float) -> Span | None:
        """Return the span around a moment, or None."""
        number = bisect_right(self.starts, moment) - 1
        return self.spans[number] if number >= 0 and moment < self.spans[number].end else None


def phase_at(phases: Timeline, moment: float) -> str:
    """Return the name of the phase at a moment, or nothing: also for what autograd's thread does."""
    found = phases.at(moment)
    return found.name.removeprefix(PHASE) if found else ""


def walked(
    spans: Sequence[Span], memory: Sequence[Allocation], phases: Timeline, modules: dict[int, str]
) -> Iterator[tuple[Span | Allocation, Place, float]]:
    """Yield each span of a thread with its place and its seconds without those of the spans in it, and each allocation.

    `modules` is filled by the forward pass, and tells the backward pass which module's gradient it computes.
    """
    stack: list[tuple[Span, Place, float, list[float]]] = []  # span, place, end, seconds of the spans in it
    waiting = iter(memory)
    allocation = next(waiting, None)

    def leave(until: float) -> Iterator[tuple[Span | Allocation, Place, float]]:
        nonlocal allocation
        while True:
            end = stack[-1][2] if stack else until
            while allocation and allocation.at < min(end, until):
                yield allocation, stack[-1][1] if stack else Place(phase=phase_at(phases, allocation.at)), 0.0
                allocation = next(waiting, None)
            if not stack or end > until:
                return
            span, place, end, within = stack.pop()
            yield span, place, end - span.start - sum(within)

    for span in spans:
        yield from leave(span.start)
        above = stack[-1] if stack else None
        end = min(span.end, above[2]) if above else span.end  # rounded, a span may end after the one that holds it
        if above:
            above[3].append(end - span.start)
        stack.append((span, place_of(span, above[1] if above else Place(), phases, modules), end, []))
    yield from leave(float("inf"))


def place_of(span: Span, above: Place, phases: Timeline, modules: dict[int, str]) -> Place:
    """Return where a span is, from where the span around it is."""
    phase, module = phase_at(phases, span.start), above.module
    sequence = span.numbers.get("Sequence number", -1)
    if span.category == MARK:
        module = span.name.removeprefix(MODULE) if span.name.startswith(MODULE) else module
        return Place(WAITING if span.name.startswith(LOADER) else above.operator, phase, module)
    if span.numbers.get("Fwd thread id"):  # of the backward pass
        module = module or modules.get(sequence, "")
    elif module and sequence >= 0 and phase != "backward":
        modules[sequence] = module
    return Place(plain_operator(span.name), phase, module)


def launch_place(kernel: Span, places: Mapping[int, Place]) -> Place:
    """Return where a kernel was launched; by name where that is not known."""
    number = kernel.numbers.get("External id", kernel.numbers.get("external id", -1))
    return places.get(number, Place(operator=kernel.name))


def on_device(step: Span, launched: Sequence[tuple[Span, Place]]) -> dict[Place, Spent]:
    """Return what each place spent of the device's time; where kernels overlap, the one that began first has it."""
    spent: dict[Place, Spent] = defaultdict(lambda: NOTHING)
    free = step.start
    for kernel, place in launched:
        if step.start <= kernel.start < step.end:
            end = min(kernel.end, step.end)
            spent[place] += Spent(seconds=max(0.0, end - max(free, kernel.start)), calls=1)
            spent[Place()] += Spent(seconds=max(0.0, kernel.start - free), calls=0)
            free = max(free, end)
    spent[Place()] += Spent(seconds=step.end - free, calls=0)
    return spent


def plain_operator(name: str) -> str:
    """Return an operator's name without the hash of a compiled graph, so that two runs can be compared."""
    return re.sub(r"## Call (\w+) \w+ ##", r"\1 (fused kernels)", name) if name.startswith("## ") else name


def plain_module(name: str) -> str:
    """Return a module's name with a star for each number, so that layers are one row."""
    return re.sub(r"\d+", "*", name)
