"""The doctor's judgement: one session of known faults -> false alarms, power, and which faults were caught. Pure.

Power and false alarms are of gates resampled from the launches of this one session: they say what the gate's rule
makes of this machine's noise, and no more than those launches know of it (docs/doctor.md).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from harness import gate, looks
from harness.compare import effects_of
from harness.faults import AGAIN, BASE, BROKEN, CONTROL, GROWN, GROWTH, LEVELS, SCALED, WHOLE, WRONG, slower
from harness.figures import Figures
from harness.looks import Decision
from harness.metrics import METRICS
from harness.spec import Block, Case
from harness.stats import Launches
from harness.verdict import Verdict, counted

GATES = 200
"""Resampled gates for each slowdown, and for each of the two A/A pairs."""
ALARMS = 0.05  # what the gate's rule allows itself
SURE = 0.95  # the share of gates in which the largest slowdown must be caught
CONFIDENCE = 0.95
MEMORIES = ("memory_allocated_peak_bytes", "memory_peak_bytes", "memory_peak_maxrss_bytes")
Effects = Sequence[float]


@dataclass(frozen=True, kw_only=True)
class Level:
    """A slowdown: as asked for, as measured (shares), and in what share of the resampled gates it was caught."""

    nominal: float
    true: float
    first: float
    overall: float


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Another fault: whether it was caught, None where it could not be tried, and what was seen."""

    name: str
    caught: bool | None
    seen: str


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """What the session says of the harness on this machine."""

    launches: int
    alarms: int
    gates: int
    levels: tuple[Level, ...]
    faults: tuple[Fault, ...]

    @property
    def limits(self) -> tuple[float, float]:
        """The 95 % interval of the share of false alarms in gates so resampled (Clopper and Pearson)."""
        from scipy.stats import binomtest

        if not self.gates:
            return 0.0, 1.0
        found = binomtest(self.alarms, self.gates).proportion_ci(CONFIDENCE, method="exact")
        return float(found.low), float(found.high)

    @property
    def broken(self) -> list[str]:
        """The promises that were not kept, in words."""
        said = [f"{fault.name}: not caught, {fault.seen}" for fault in self.faults if fault.caught is False]
        if self.limits[0] > ALARMS:
            said.append(f"false alarms in {self.alarms} of {self.gates} resampled gates, more than {ALARMS:.0%}")
        if not self.levels:
            said.append("no slowdown could be judged: the base did not run to the end")
        elif (largest := self.levels[-1]).overall < SURE:
            said.append(f"{largest.true:+.1%} was caught in {largest.overall:.0%} of gates, not in {SURE:.0%}")
        return said


def diagnosis(found: Figures, seed: int = 0) -> Diagnosis:
    """Return what a session of the suite in harness/faults.py says."""
    eager, compiled = found.run.suite.blocks
    cases = {case.variant.name: case for case in (*eager.cases, *compiled.cases)}
    times = shared(cases[BASE], [case for case in eager.cases if found.is_measured(case)], "step_seconds", found)
    control, again = times.get(CONTROL, []), times.get(AGAIN, [])
    draw = np.random.default_rng(seed)
    nulls = [] if not (control and again) else [*gates(control, again, draw), *gates(again, control, draw)]
    slowed = [(level, times[slower(level)]) for level in LEVELS if slower(level) in times and control]
    return Diagnosis(
        launches=len(control),
        alarms=sum(decision.verdict not in ("pass", "unsure") for decision in nulls),
        gates=len(nulls),
        levels=tuple(judged(level, effects, gates(effects, control, draw)) for level, effects in slowed),
        faults=(wrong(found, cases[WRONG]), grown(found, eager, cases), graph_break(found, cases)),
    )


def shared(base: Case, others: Sequence[Case], metric: str, found: Figures) -> dict[str, list[float]]:
    """Return variant -> log(variant / base) in the launches that all of them were measured in."""
    by_case = {case.variant.name: effects_of(base, case, metric, found) for case in others if case != base}
    launches = sorted(set.intersection(*map(set, by_case.values()))) if by_case else []
    return {name: [effects[launch] for launch in launches] for name, effects in by_case.items() if launches}


def gates(effects: Effects, control: Effects, draw: np.random.Generator) -> list[Decision]:
    """Return the gate's decisions on launches drawn with replacement, each effect with the control of its launch."""
    count, most = len(effects), gate.LAUNCHES
    if count < 2:
        return []
    wide, strays = widened(effects), widened(control)
    margin = METRICS["step_seconds"].margin
    draws = (draw.integers(count, size=most) for _ in range(GATES))
    return [looks.decide(wide[drawn].tolist(), strays[drawn].tolist(), margin) for drawn in draws]


def widened(effects: Effects) -> Launches:
    """Return effects about the same mean whose draws vary as the launches do: plain ones vary by (n - 1) / n of it."""
    values = np.asarray(effects, dtype=float)
    wide: Launches = (values - values.mean()) * math.sqrt(len(values) / (len(values) - 1))
    wide += values.mean()
    return wide


def judged(level: float, effects: Effects, decisions: Sequence[Decision]) -> Level:
    """Return in what share of the gates a slowdown was caught."""
    caught = [decision.launches for decision in decisions if decision.verdict == "fail"]
    gates = len(decisions) or math.nan
    return Level(
        nominal=level,
        true=math.expm1(float(np.mean(effects))),
        first=caught.count(looks.LOOKS[0]) / gates,
        overall=len(caught) / gates,
    )


def wrong(found: Figures, case: Case) -> Fault:
    """Return whether the numeric fault was refused."""
    outcome = found.outcomes.get(case.id, {"status": "not run", "reason": None})
    reason = outcome["reason"] or outcome["status"]
    return Fault(name=f"attention times {SCALED}", caught=outcome["status"] == "wrong", seen=reason)


def grown(found: Figures, block: Block, cases: Mapping[str, Case]) -> Fault:
    """Return whether the memory growth was seen, by all launches at once at the error of a first look."""
    blank = Fault(name=f"{GROWTH:.0%} more memory", caught=False, seen="no peak memory was observed")
    measured = [case for case in map(cases.__getitem__, (BASE, CONTROL, GROWN)) if found.is_measured(case)]
    for metric in MEMORIES:
        effects = shared(cases[BASE], measured, metric, found)
        if effects.keys() >= {CONTROL, GROWN}:
            margin, alpha = METRICS[metric].margin, looks.ALPHA / len(looks.LOOKS)
            decision = looks.at(effects[GROWN], effects[CONTROL], margin, alpha)
            seen = f"peak memory {math.expm1(decision.center):+.1%} in {decision.launches} launches: {decision.reason}"
            return replace(blank, caught=decision.verdict == "fail", seen=seen)
    return blank


def graph_break(found: Figures, cases: Mapping[str, Case]) -> Fault:
    """Return whether the graph break was counted; None where this machine compiles nothing."""
    blank = Fault(name="a graph break", caught=None, seen="")
    for name in (WHOLE, BROKEN):
        outcome = found.outcomes.get(cases[name].id, {"status": "not run", "reason": None})
        if outcome["status"] != "ok":
            was_possible = outcome["status"] not in ("unavailable", "not run")
            return replace(blank, caught=False if was_possible else None, seen=outcome["reason"] or outcome["status"])
    before, after = ([*found.of(cases[name], "graph_breaks").values()] for name in (WHOLE, BROKEN))
    verdict = counted(Verdict(block="", case="", metric="graph_breaks"), before, after)
    return replace(blank, caught=verdict.verdict == "fail", seen=verdict.reason)
