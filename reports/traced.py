"""Traced: a case's trace beside its timed step, to which its figures are scaled."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from harness.errors import UserError
from harness.spec import Case
from harness.traces.account import PHASES, Account, Place, account_of
from harness.traces.read import Trace, read_trace, trace_files
from reports.frame import Frame

SHOWN = 20  # rows a table; the others are one more
FAR = 0.25  # a trace so much longer than the timed step is a warning: the profiler costs as much for each short call


@dataclass(frozen=True, kw_only=True)
class Traced:
    """A trace, taken apart, and what is known of the step without the profiler."""

    name: str
    trace: Trace
    account: Account
    timed: float | None = None
    """Seconds of the step as it was timed; None where there is only the trace."""
    observed: Mapping[str, float]
    """Phase -> seconds, as observed in turns of their own."""
    hardware: tuple[str, ...] = ()

    @property
    def step(self) -> float:
        """What the figures sum to: the timed step, or without one the traced."""
        return self.timed or self.account.step.seconds

    @property
    def busy(self) -> float:
        """Seconds of the traced step in which an operator, or a kernel, ran."""
        return sum(spent.seconds for place, spent in self.account.spent.items() if place != Place())

    @property
    def stretches_gaps(self) -> bool:
        """Tell whether only gaps make up what tracing added: a GPU's kernels take as long under the profiler."""
        return self.account.on_device and self.busy <= self.step

    @property
    def scale(self) -> float:
        """What a traced second of an operator, or a kernel, counts."""
        return 1.0 if self.stretches_gaps else self.step / self.account.step.seconds

    @property
    def gap_scale(self) -> float:
        """What a traced second counts in which nothing ran."""
        idle = self.account.step.seconds - self.busy
        return (self.step - self.busy) / idle if self.stretches_gaps and idle > 0 else self.scale

    @property
    def added(self) -> float:
        """What the profiler, and another mood of the machine, added to the step, as a share of it."""
        return self.account.step.seconds / self.step - 1

    @cached_property
    def operators(self) -> dict[str, float]:
        """Operator -> seconds of the timed step; with what no operator took they sum to it."""
        return self.scaled("by_operator")

    @cached_property
    def phases(self) -> dict[str, float]:
        """Phase -> seconds of the timed step."""
        return self.scaled("by_phase")

    @cached_property
    def modules(self) -> dict[str, float]:
        """Module -> seconds of the timed step in its forward and backward pass."""
        return self.scaled("by_module")

    def scaled(self, table: str) -> dict[str, float]:
        """Return a table of the account, scaled to the timed step."""
        as_timed = {
            place: replace(spent, seconds=spent.seconds * (self.scale if place != Place() else self.gap_scale))
            for place, spent in self.account.spent.items()
        }
        return {name: spent.seconds for name, spent in getattr(replace(self.account, spent=as_timed), table)().items()}

    def has_modules(self) -> bool:
        """Tell whether the trace knows modules."""
        return any(place.module for place in self.account.spent)


def traced_case(frame: Frame, case: Case) -> Traced:
    """Read the trace of a run's case; raise UserError if it has none.

    Where lengths vary it is alone, as the timed step is the mean over lengths and the traced one has one of them.
    """
    files = list(trace_files(frame.run.path / "traces" / case.id))
    if not files:
        outcome = frame.outcome(case)
        reason = f"it is {outcome['status']}" if outcome["status"] != "ok" else "the run kept none"
        raise UserError(
            f"{case.id} has no trace: {reason}", "choose another case, run it without --no-trace, or see its warnings"
        )
    found = {phase: frame.center(case, f"{phase}_seconds") for phase in PHASES}
    is_one = case.workload.lengths == 1
    return traced(
        case.variant.name if len(frame.run.suite.blocks) == 1 else case.id,
        files[-1],
        timed=frame.center(case, "step_seconds") if is_one else None,
        observed={phase: seconds for phase, seconds in found.items() if seconds is not None and is_one},
        hardware=frame.hardware(case),
    )


def traced(
    name: str,
    path: Path,
    *,
    timed: float | None = None,
    observed: Mapping[str, float] | None = None,
    hardware: tuple[str, ...] = (),
) -> Traced:
    """Read a trace and take it apart."""
    trace = read_trace(path)
    return Traced(
        name=name,
        trace=trace,
        account=account_of(trace),
        timed=timed,
        observed=observed or {},
        hardware=hardware,
    )
