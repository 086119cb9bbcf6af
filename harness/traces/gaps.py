"""Gaps: when within a step nothing ran, between two kernels of a device or, on a CPU, between two operators."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from harness.traces.account import Account, is_operator
from harness.traces.read import Trace

END = "(end of the step)"


@dataclass(frozen=True, kw_only=True)
class Gaps:
    """The gaps of a step."""

    count: int
    seconds: float
    longest: float
    before: Mapping[str, float]
    """Kernel or operator that ended gaps -> their seconds, the most first."""


def gaps_of(trace: Trace, account: Account) -> Gaps:
    """Find the gaps of the step of an account."""
    found = list(gaps(trace, account))
    before: dict[str, float] = defaultdict(float)
    for seconds, name in found:
        before[name] += seconds
    return Gaps(
        count=len(found),
        seconds=sum(before.values()),
        longest=max((seconds for seconds, _ in found), default=0.0),
        before=dict(sorted(before.items(), key=lambda item: (-item[1], item[0]))),
    )


def gaps(trace: Trace, account: Account) -> Iterator[tuple[float, str]]:
    """Yield the seconds of each gap and the name of what ended it."""
    step = account.step
    on_thread = (span for span in trace.spans if span.thread == step.thread and is_operator(span))
    free = step.start
    for span in trace.device if account.on_device else on_thread:
        if step.start <= span.start < step.end:
            if span.start > free:
                yield span.start - free, span.name
            free = max(free, min(span.end, step.end))
    if step.end > free:
        yield step.end - free, END
