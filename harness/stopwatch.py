"""Seconds: a stopwatch for where the wall time of a run goes, and times as people write them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter

from harness.errors import UserError


@dataclass(kw_only=True)
class Stopwatch:
    """Seconds by phase, and in total since it was made."""

    seconds: dict[str, float] = field(default_factory=dict)
    started: float = field(default_factory=perf_counter)

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        """Add the time inside to `phase`."""
        start = perf_counter()
        try:
            yield
        finally:
            self.add(phase, perf_counter() - start)

    def add(self, phase: str, seconds: float) -> None:
        """Add seconds to a phase."""
        self.seconds[phase] = self.seconds.get(phase, 0.0) + seconds

    def total(self) -> float:
        """Return the seconds since the watch was made."""
        return perf_counter() - self.started


def seconds(budget: str | None) -> float | None:
    """Return the seconds in `90`, `90s`, `5m` or `1h`."""
    if budget is None:
        return None
    unit = {"s": 1, "m": 60, "h": 3600}.get(budget[-1:], 0)
    try:
        return float(budget[:-1]) * unit if unit else float(budget)
    except ValueError:
        raise UserError(f"--budget {budget!r} is no time", "write seconds, or for instance 90s, 5m or 1h") from None
