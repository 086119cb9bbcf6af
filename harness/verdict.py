"""Verdicts: what the gate says of one metric of one case, and what a policy makes of all of them."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, Literal

from harness import exits
from harness.figures import Figures
from harness.looks import Decision
from harness.metrics import COMPILED, METRICS
from harness.outcome import earlier
from harness.policy import OUTCOME, Policy
from harness.spec import Case
from harness.stats import UNSETTLED

BASE, CANDIDATE, CONTROL = "base", "candidate", "control"  # the variants of a gate's block, in this order
COUNTED = (*COMPILED, "kernels_per_step", "flop")  # what repeats exactly; more is worse
MENDABLE = ("wrong", "oom", "error")  # how a base may end for its own reasons
OVERALL = "all cases"
Word = Literal["pass", "fail", "improved", "unsure", "error"]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the gate says of one metric of one case; ratios are candidate over base, NaN where there is none.

    `low` and `high` are those of the ratio, or where there is a `difference` (candidate less base) of that.
    """

    block: str
    case: str
    metric: str
    verdict: Word = "unsure"
    reason: str = ""
    ratio: float = math.nan
    difference: float | None = None
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


def concluded(base: str, candidate: str, judged: Sequence[Verdict], policy: Policy, today: date) -> Ruling:
    """Return the verdicts with what the policy makes of them: the worst that it does not allow."""
    if all(verdict.metric == OUTCOME for verdict in judged):
        blank = Verdict(block=OVERALL, case=OVERALL, metric=OUTCOME)
        judged = [*judged, replace(blank, verdict="error", reason="no case could be compared")]
    verdicts = tuple(allow(verdict, policy, today) for verdict in judged)
    found = {verdict.verdict for verdict in verdicts if not verdict.allowed}
    worst: Word = next((word for word in ("fail", "error", "unsure") if word in found), "pass")
    codes = {"fail": exits.REGRESSION, "error": exits.FAILED, "unsure": exits.CANNOT_TELL * (policy.unsure == "fail")}
    return Ruling(base=base, candidate=candidate, verdict=worst, verdicts=verdicts, code=codes.get(worst, exits.FINE))


def allow(verdict: Verdict, policy: Policy, today: date) -> Verdict:
    """Return a failure with the policy's reason to let it pass, if it has one."""
    names = (verdict.case, verdict.block, verdict.block.rsplit(" ", 1)[0])
    allowance = policy.allowance(verdict.metric, today, *names) if verdict.verdict == "fail" else None
    return replace(verdict, allowed=f"{allowance.reason} (until {allowance.expires})") if allowance else verdict


def decided(blank: Verdict, decision: Decision) -> Verdict:
    """Return a decision as ratios, or of a metric that is compared so as differences."""
    sign = turned([1.0], blank.metric)[0]
    center, *ends = (sign * value for value in (decision.center, decision.low, decision.high))
    said = replace(blank, verdict=decision.verdict, reason=decision.reason, launches=decision.launches)
    if METRICS[blank.metric].scale == "difference":
        return replace(
            said, difference=center, low=min(ends), high=max(ends), margin=decision.bound,
            noise_floor=decision.floor, detectable=decision.detectable,
        )  # fmt: skip
    low, high = sorted(map(math.exp, ends))
    return replace(
        said, ratio=math.exp(center), low=low, high=high, margin=math.expm1(decision.bound),
        noise_floor=math.expm1(decision.floor), detectable=math.expm1(decision.detectable),
    )  # fmt: skip


def steady(verdict: Verdict, unsettled: Sequence[str]) -> Verdict:
    """Return a verdict, `unsure` if it is on times and some of what it rests on was not steady."""
    if not unsettled or METRICS[verdict.metric].noise != "timed":
        return verdict
    return replace(verdict, verdict="unsure", reason=f"{UNSETTLED}: {', '.join(unsettled)}")


def counts(blank: Verdict, before: Figures, base: Case, after: Figures, candidate: Case) -> Iterator[Verdict]:
    """Yield the verdicts on the counts that a side has; those of compiling only where both compile alike."""
    is_alike = base.variant.compile == candidate.variant.compile
    for metric in COUNTED if is_alike else COUNTED[len(COMPILED) :]:
        sides = [*before.of(base, metric).values()], [*after.of(candidate, metric).values()]
        if any(sides):
            yield counted(replace(blank, metric=metric, launches=min(map(len, sides))), *sides)


def counted(blank: Verdict, before: Sequence[float], after: Sequence[float]) -> Verdict:
    """Return the verdict on a count, which may not rise; where it does not repeat, only a rise above all is one."""
    if not (before and after):
        return replace(blank, reason="it was counted on one side only")
    was, now = map(spoken, (before, after))
    exact = replace(
        blank,
        reason=f"{was} before, {now} now" if was != now else f"{now} on both sides",
        ratio=max(after) / max(before) if max(before) else math.nan,
        margin=0.0,
        noise_floor=0.0,
        detectable=0.0,
    )
    if {*before} == {*after} and len({*before}) == 1:
        return replace(exact, verdict="pass")
    if min(after) > max(before):
        return replace(exact, verdict="fail")
    if max(after) < min(before):
        return replace(exact, verdict="improved")
    return replace(exact, reason=f"it does not repeat: {exact.reason}")


def spoken(values: Sequence[float]) -> str:
    """Return a count, or from where to where it goes."""
    return f"{values[0]:g}" if len({*values}) == 1 else f"{min(values):g} to {max(values):g}"


def ended(blank: Verdict, *outcomes: Mapping[str, Any] | None) -> Verdict:
    """Return the verdict on how base, candidate and, if there is one, control ended.

    Newly failing is a regression. Newly working is an improvement only if the base failed at once and by itself; a base
    that runs out of time, fails later or cannot run here leaves nothing to compare with.
    """
    status = [outcome["status"] if outcome else "interrupted" for outcome in outcomes]
    sides = [(name, outcome) for name, outcome in zip((BASE, CANDIDATE, CONTROL), outcomes, strict=False) if outcome]
    reasons = "; ".join(f"{name} {said['status']}: {said['reason']}" for name, said in sides if said["reason"])
    once = "; ".join(f"{name} failed once, {said['message']}" for name, item in sides if (said := earlier(item)))
    was, now, *again = status
    if "interrupted" in status:
        return replace(blank, reason=reasons or "it was not measured")
    if {*status} == {"ok"} and once:
        return replace(blank, reason=f"{once}; not again since")
    if was == now == "unavailable":
        return replace(blank, verdict="pass", reason=f"this machine can run neither side: {reasons}")
    if was == "ok" and now != "ok" and {*again} <= {"ok"}:
        is_shaken = any(earlier(item) for name, item in sides if name != CANDIDATE)
        word: Word = "unsure" if is_shaken else "fail"
        return replace(blank, verdict=word, reason="; ".join(filter(None, [reasons, once])))
    if {*status} == {"ok"}:
        return replace(blank, verdict="pass", reason="both sides ran")
    is_mended = now == "ok" and was in MENDABLE and (earlier(sides[0][1]) or sides[0][1])["launch"] == 1
    if is_mended and all(other == was for other in again):
        return replace(blank, verdict="improved", reason=f"it works now; {reasons}")
    return replace(blank, verdict="error", reason=reasons)


def turned(effects: Sequence[float], metric: str) -> list[float]:
    """Return effects, or values, so that above is worse."""
    sign = -1.0 if METRICS[metric].better == "higher" else 1.0
    return [sign * effect for effect in effects]
