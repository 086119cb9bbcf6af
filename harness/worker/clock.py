"""The clock: the one place where time is measured."""

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from time import perf_counter
from typing import Any


def timed(
    step: Callable[[int], None], indices: Sequence[int], device: Any, settle: Sequence[int] = (),
    ready: Callable[[], object] = lambda: None,
) -> tuple[list[float], float]:  # fmt: skip
    """Get ready and run `settle` untimed, then return the seconds of each step and of the turn.

    Only steps are between the marks.
    """
    with no_garbage_collection():
        ready()
        device.synchronize()  # what was queued before must not count
        for index in settle:
            step(index)
        if device.kind != "cuda":  # there the first mark is queued behind these steps, and the queue stays filled
            device.synchronize()
        start = perf_counter()
        marks = [mark(device)]
        for index in indices:
            step(index)
            marks.append(mark(device))
        device.synchronize()  # the last step's kernels must count
        wall = perf_counter() - start
    return [between(*pair) for pair in pairwise(marks)], wall


def split(phases: Callable[[int], Iterator[str]], indices: Sequence[int], device: Any) -> list[dict[str, float]]:
    """Run steps on end; return the seconds of every second one by phase, of the others as a whole, under `step`.

    A phase lasts from one mark to the next, so on a GPU nobody waits at its borders. The undivided steps in between
    show whether the marks themselves take time.
    """
    turns = []
    with no_garbage_collection():
        device.synchronize()
        for number, index in enumerate(indices):
            marks = [("", mark(device))]
            marks += [(phase, mark(device)) for phase in phases(index) if number % 2]
            turns.append(marks if number % 2 else [*marks, ("step", mark(device))])
        device.synchronize()  # the last step's kernels must count
    return [sums(marks) for marks in turns]


def sums(marks: Sequence[tuple[str, Any]]) -> dict[str, float]:
    """Return the seconds that end with a mark of each name; a name may come again, once a micro-batch."""
    seconds: dict[str, float] = {}
    for (_, start), (name, end) in pairwise(marks):
        seconds[name] = seconds.get(name, 0.0) + between(start, end)
    return seconds


def laps(phases: Iterator[str], device: Any) -> Iterator[tuple[str, float]]:
    """Yield each phase with its seconds; what the caller does between two phases is not timed."""
    while True:
        device.synchronize()  # a phase must not pay for the one before
        start = perf_counter()
        phase = next(phases, None)
        if phase is None:
            return
        device.synchronize()  # a phase must pay for its own kernels
        yield phase, perf_counter() - start


def mark(device: Any) -> Any:
    """Return this moment on the device's own time line: a CUDA event, elsewhere the wall clock."""
    if device.kind == "cuda":
        from torch.cuda import Event

        event = Event(enable_timing=True)
        event.record()
        return event
    device.synchronize()  # on mps and xpu a step ends when its kernels do
    return perf_counter()


def between(start: Any, end: Any) -> float:
    """Return the seconds from one mark to the next."""
    return end - start if isinstance(start, float) else start.elapsed_time(end) / 1000


def settle_garbage() -> None:
    """Collect, and leave all that is alive now out of later collections: searching it again takes 0.1 s a turn."""
    gc.collect()
    gc.freeze()


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Collect now, and not again before the end: a collection in one step would be noise."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
