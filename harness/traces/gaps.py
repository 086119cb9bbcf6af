"""Gaps: when within a step nothing ran, between two kernels of a device or, on a CPU, between two operators."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from harness.traces.account import Account, is_operator
from harness.traces.read import Trace

END = "(end of the step)"


@dataclass(frozen=True, kw_only=True)
class Gaps:
    """The gaps of a step, in the mean of the traced steps."""

    count: float
    seconds: float
    longest: float
    before: Mapping[str, float]
    """Kernel or operator that ended gaps -> their seconds a step, the longest first."""


def gaps_of(trace: Trace, account: Account) -> Gaps:
    """Find the gaps of a trace."""
    found = list(gaps(trace, account))
    before: dict[str, float] = defaultdict(float)
    for seconds, name in found:
        before[name] += seconds / len(trace.steps)
    return Gaps(
        count=len(found) / len(trace.steps),
        seconds=sum(before.values()),
        longest=max((seconds for seconds, _ in found), default=0.0),
        before=dict(sorted(before.items(), key=lambda item: (-item[1], item[0]))),
    )


def gaps(trace: Trace, account: Account) -> Iterator[tuple[float, str]]:
    """Yield the seconds of each gap in a step and the name of what ended it."""
    main = trace.steps[0].thread
    busy = trace.device if account.on_device else [s for s in trace.spans if s.thread == main and is_operator(s)]
    for step in trace.steps:
        free = step.start
        for span in busy:
            if step.start <= span.start < step.end:
                if span.start > free:
                    yield span.start - free, span.name
                free = max(free, min(span.end, step.end))
        if step.end > free:
            yield step.end - free, END
