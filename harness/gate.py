"""The gate: a run of base, candidate and control, or two stored runs -> a verdict for each case and metric."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, Literal

from harness import exits, looks
from harness.compare import DRIFT, log_ratios, unlike
from harness.errors import UserError
from harness.figures import Figures
from harness.looks import Decision
from harness.metrics import METRICS
from harness.policy import OUTCOME, Policy
from harness.ratios import WATCHED, Ratios
from harness.spec import Block, Case
from harness.stats import log_ratio
from harness.store import Run

BASE, CANDIDATE, CONTROL = "base", "candidate", "control"  # the variants of a gate's block, in this order
SPREAD = ("step_seconds", *WATCHED)  # what varies from launch to launch
COUNTED = ("graphs", "graph_breaks", "recompiles", "kernels_per_step", "flop")  # what repeats exactly; more is worse
OVERALL = "all cases"
LAUNCHES = 2 * looks.LOOKS[-1]  # the last look, and as many to confirm it


Word = Literal["pass", "fail", "improved", "unsure", "error"]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the gate says of one metric of one case; ratios are candidate over base, NaN where there is none."""

    block: str
    case: str
    metric: str
    verdict: Word = "unsure"
    reason: str = ""
    ratio: float = math.nan
    low: float = math.nan
    high: float = math.nan
    margin: float = math.nan
    """The margin that was applied, as a share: the policy's, or the noise floor where that is larger."""
    noise_floor: float = math.nan
    detectable: float = math.nan
    launches: int = 0
    allowed: str | None = None
    """Why the policy lets a failure pass, if it does."""


@dataclass(frozen=True, kw_only=True)
class Ruling:
    """All verdicts of a gate, the worst that is not allowed, and the exit code that follows."""

    base: str
    candidate: str
    verdict: Word
    verdicts: tuple[Verdict, ...]
    code: int


def settled(policy: Policy) -> Callable[[Block, Ratios], bool]:
    """Return what tells whether a block needs no further launch: every metric is decided, or one side has failed."""

    def is_enough(block: Block, ratios: Ratios) -> bool:
        _, candidate, control = (case.id for case in block.cases)
        if ratios.launches == 0:
            return False
        if len(ratios.by_case.get(candidate, ())) < ratios.launches:
            return True
        decisions = (
            looks.decide(
                turned(by_case.get(candidate, ()), metric),
                turned(by_case.get(control, ()), metric),
                policy.margin(metric, candidate, block.name),
            )
            for metric, by_case in ratios.by_metric.items()
        )
        return all(decision.wanted <= ratios.launches for decision in decisions)

    return is_enough


def policy_of(meta: Mapping[str, Any]) -> Policy | None:
    """Return the policy that a run is gated by; None for a run that is not the gate's."""
    return Policy.from_json(meta["gate"]["policy"]) if "gate" in meta else None


def ruling(found: Figures) -> Ruling | None:
    """Return what the gate says of a run of base, candidate and control, by the policy and on the day it was made."""
    meta = found.run.meta
    policy = policy_of(meta)
    if policy is None:
        return None
    judged = [verdict for block in found.run.suite.blocks for verdict in of_block(found, block, policy)]
    day = date.fromisoformat(meta["started"][:10])
    return concluded(meta["gate"]["base"], meta["gate"]["candidate"], [*judged, *of_all(found, policy)], policy, day)


def stored(base: Figures, candidate: Figures, policy: Policy, today: date) -> Ruling:
    """Return what the gate says of two stored runs; raise UserError where they are not comparable."""
    known = {case.id for case in candidate.run.suite.cases}
    shared = [(block, case) for block in base.run.suite.blocks for case in block.cases if case.id in known]
    refuse_unlike(base.run, candidate.run, [case for _, case in shared])
    judged = [verdict for block, case in shared for verdict in of_sessions(base, candidate, block, case, policy)]
    return concluded(base.run.id, candidate.run.id, judged, policy, today)


def concluded(base: str, candidate: str, judged: Sequence[Verdict], policy: Policy, today: date) -> Ruling:
    """Return the verdicts with what the policy makes of them: the worst that it does not allow."""
    verdicts = tuple(allow(verdict, policy, today) for verdict in judged)
    found = {verdict.verdict for verdict in verdicts if not verdict.allowed}
    worst: Word = next((word for word in ("fail", "error", "unsure") if word in found), "pass")
    codes = {"fail": exits.REGRESSION, "error": exits.FAILED, "unsure": exits.CANNOT_TELL * (policy.unsure == "fail")}
    return Ruling(base=base, candidate=candidate, verdict=worst, verdicts=verdicts, code=codes.get(worst, exits.FINE))


def of_block(found: Figures, block: Block, policy: Policy) -> Iterator[Verdict]:
    """Yield the verdicts on one block: how the sides ended, then each metric that both have."""
    base, candidate, control = block.cases
    blank = Verdict(block=block.name, case=candidate.id, metric=OUTCOME)
    yield ended(blank, found.outcomes.get(base.id), found.outcomes.get(candidate.id))
    if not (found.is_measured(base) and found.is_measured(candidate)):
        return
    for metric in SPREAD:
        effects, strays = (log_ratios(base, case, metric, found) for case in (candidate, control))
        if effects:
            launches = [launch for launch in effects if launch in strays]
            decision = looks.decide(
                turned([effects[launch] for launch in launches], metric),
                turned([strays[launch] for launch in launches], metric),
                policy.margin(metric, candidate.id, block.name),
            )
            yield decided(replace(blank, metric=metric), decision)
    yield from counts(blank, found, base, found, candidate)


def of_all(found: Figures, policy: Policy) -> Iterator[Verdict]:
    """Yield the verdict on the geometric mean of step times over the blocks whose three cases were measured."""
    metric = "step_seconds"
    blocks = [block for block in found.run.suite.blocks if all(map(found.is_measured, block.cases))]
    if len(blocks) > 1:
        effects, strays = (
            [[*log_ratios(block.cases[0], block.cases[place], metric, found).values()] for block in blocks]
            for place in (1, 2)
        )
        blank = Verdict(block=OVERALL, case=OVERALL, metric=metric)
        yield decided(blank, looks.together(effects, strays, policy.margin(metric, OVERALL)))


def refuse_unlike(base: Run, candidate: Run, shared: Sequence[Case]) -> None:
    """Raise UserError for two runs whose figures do not compare: no verdict is better than a wrong one."""
    if not shared:
        raise UserError(f"runs {base.id} and {candidate.id} share no case", "gate two runs of the same suite")
    if differences := list(unlike(base, candidate, shared)):
        fields = "; ".join(f"{item.field}: {item.base} against {item.candidate}" for item in differences)
        raise UserError(
            f"runs {base.id} and {candidate.id} are not comparable: {fields}",
            "measure both sides in one `tandem gate SUITE`",
        )


def of_sessions(base: Figures, candidate: Figures, block: Block, case: Case, policy: Policy) -> Iterator[Verdict]:
    """Yield the verdicts on one case of two runs; times may stray by as much as the calibration probes may."""
    blank = Verdict(block=block.name, case=case.id, metric=OUTCOME)
    yield ended(blank, base.outcomes.get(case.id), candidate.outcomes.get(case.id))
    if not (base.is_measured(case) and candidate.is_measured(case)):
        return
    for metric in SPREAD:
        before, after = (
            turned([log_ratio(1.0, value) for value in side.of(case, metric).values()], metric)
            for side in (base, candidate)
        )
        if before and after:
            stray = DRIFT if METRICS[metric].noise == "timed" else 0.0
            margin = max(policy.margin(metric, case.id, block.name), stray)
            yield decided(replace(blank, metric=metric), looks.between(before, after, margin))
    yield from counts(blank, base, case, candidate, case)


def turned(effects: Sequence[float], metric: str) -> list[float]:
    """Return logs so that above 0 is worse."""
    sign = -1.0 if METRICS[metric].better == "higher" else 1.0
    return [sign * effect for effect in effects]


def decided(blank: Verdict, decision: Decision) -> Verdict:
    """Return a decision as ratios."""
    sign = turned([1.0], blank.metric)[0]
    low, high = sorted((math.exp(sign * decision.low), math.exp(sign * decision.high)))
    return replace(
        blank, verdict=decision.verdict, reason=decision.reason, launches=decision.launches,
        ratio=math.exp(sign * decision.center), low=low, high=high, margin=math.expm1(decision.bound),
        noise_floor=math.expm1(decision.floor), detectable=math.expm1(decision.detectable),
    )  # fmt: skip


def counts(blank: Verdict, before: Figures, base: Case, after: Figures, candidate: Case) -> Iterator[Verdict]:
    """Yield the verdicts on the counts that at least one side has."""
    for metric in COUNTED:
        sides = [*before.of(base, metric).values()], [*after.of(candidate, metric).values()]
        if any(sides):
            yield counted(replace(blank, metric=metric, launches=min(map(len, sides))), *sides)


def counted(blank: Verdict, before: Sequence[float], after: Sequence[float]) -> Verdict:
    """Return the verdict on a count: it must repeat on each side, and may not rise."""
    if not (before and after):
        return replace(blank, reason="it was counted on one side only")
    for side, values in ((BASE, before), (CANDIDATE, after)):
        if len(set(values)) > 1:
            return replace(blank, reason=f"it does not repeat on the side of the {side}: {sorted(set(values))}")
    was, now = before[0], after[0]
    return replace(
        blank,
        verdict="fail" if now > was else "improved" if now < was else "pass",
        reason=f"{was:g} before, {now:g} now" if was != now else f"{now:g} on both sides",
        ratio=now / was if was else math.nan,
        margin=0.0,
        noise_floor=0.0,
        detectable=0.0,
    )


def ended(blank: Verdict, base: Mapping[str, Any] | None, candidate: Mapping[str, Any] | None) -> Verdict:
    """Return the verdict on how the two sides ended: newly failing is a regression, newly working an improvement."""
    was, now = (side["status"] if side else "interrupted" for side in (base, candidate))
    said = [f"{name} {side['status']}: {side['reason']}" for name, side in ((BASE, base), (CANDIDATE, candidate))
            if side and side["reason"]]  # fmt: skip
    reasons = "; ".join(said)
    if "interrupted" in (was, now):
        return replace(blank, reason=reasons or "it was not measured")
    if was == now == "ok":
        return replace(blank, verdict="pass", reason="both sides ran")
    if was == now == "unavailable":
        return replace(blank, verdict="pass", reason=f"this machine can run neither side: {reasons}")
    if now == "ok":
        return replace(blank, verdict="improved", reason=f"it works now; {reasons}")
    return replace(blank, verdict="fail" if was == "ok" else "error", reason=reasons)


def allow(verdict: Verdict, policy: Policy, today: date) -> Verdict:
    """Return a failure with the policy's reason to let it pass, if it has one."""
    allowance = (
        policy.allowance(verdict.metric, verdict.case, today, verdict.block) if verdict.verdict == "fail" else None
    )
    return replace(verdict, allowed=f"{allowance.reason} (until {allowance.expires})") if allowance else verdict
