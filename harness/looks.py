"""Looks: the rule of the gate. Launches so far -> a decision, or how many launches it still wants. Pure.

An effect is log(candidate / base), or of a share candidate - base, turned so that above 0 is worse; there is one a
launch. Decisions fall after 5, 8 and 11 launches, each at a third of the error probability (Bonferroni), so that
looking three times is paid for. A failure found at a look counts only if as many fresh launches show it again
(docs/gating.md).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from harness.stats import POWER, Mean, Scale, mean
from harness.stats import bound as bound_of

LOOKS = (5, 8, 11)
ALPHA = 0.05  # one-sided, over all looks
Decided = Literal["pass", "fail", "improved", "unsure"]
Launches = Sequence[float]


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What the launches so far say: effects are worse above 0; NaN where nothing can be said of them."""

    verdict: Decided
    reason: str
    wanted: int = 0
    """Launches that would say more; no more than there are, once it is decided."""
    launches: int
    """Launches that the interval rests on."""
    center: float = math.nan
    low: float = math.nan
    high: float = math.nan
    floor: float = math.nan
    """Noise floor: how far the control strayed."""
    bound: float = math.nan
    """The margin that was applied: that of the policy, or the noise floor where that is larger."""
    detectable: float = math.nan
    """The smallest true effect that this look would find 4 times in 5."""


def decide(effects: Launches, control: Launches, margin: float, scale: Scale = "ratio") -> Decision:
    """Return the first decision that a look gives; a failure, only as fresh launches confirm it."""
    found = Decision(
        verdict="unsure", reason=f"the first look takes {LOOKS[0]} launches, there are {len(effects)}", launches=0
    )
    for look in LOOKS:
        if len(effects) < look:
            return replace(found, wanted=look)
        found = at(effects[:look], control[:look], margin, ALPHA / len(LOOKS), scale)
        if found.verdict == "fail":
            return confirmed(found, effects[look : 2 * look], control[look : 2 * look], margin, scale)
        if found.verdict != "unsure":
            return found
    return found


def at(effects: Launches, control: Launches, margin: float, alpha: float, scale: Scale = "ratio") -> Decision:
    """Return what one set of launches says, each one-sided bound at `alpha`."""
    return weighed(mean([effects]), mean([control]), bound_of(margin, scale), alpha, len(effects))


def confirmed(found: Decision, effects: Launches, control: Launches, margin: float, scale: Scale) -> Decision:
    """Return a failure as it stands after as many fresh launches, which decide by themselves."""
    look = found.launches
    first = f"beyond the margin in {look} launches"
    if len(effects) < look:
        reason = f"{first}, but not confirmed: {look} fresh ones were not measured"
        return replace(found, verdict="unsure", reason=reason, wanted=2 * look)
    again = at(effects, control, margin, ALPHA, scale)
    if again.verdict == "fail":
        return replace(again, reason=f"{first}, and again in {look} fresh ones")
    return replace(again, verdict="unsure", reason=f"{first}, but not again in {look} fresh ones")


def together(effects: Sequence[Launches], controls: Sequence[Launches], margin: float) -> Decision:
    """Return what several blocks say in the mean; both halves of their launches must agree on a failure."""
    weights = [1 / len(effects)] * len(effects)
    return in_halves(effects, weights, [mean(half, weights) for half in parts(controls)], math.log1p(margin))


def between(base: Sequence[Launches], candidate: Sequence[Launches], margin: float, scale: Scale = "ratio") -> Decision:
    """Return what the values of two sessions (of ratios their logs) say in the mean over their cases.

    There is no control, so `margin` must hold what sessions stray.
    """
    still, share = Mean(center=0.0, error=0.0, freedom=1.0), 1 / len(base)
    weights = [share] * len(candidate) + [-share] * len(base)
    found = in_halves([*candidate, *base], weights, [still] * 3, bound_of(margin, scale))
    return replace(found, floor=math.nan)


def in_halves(
    samples: Sequence[Launches], weights: Sequence[float], controls: Sequence[Mean], policy: float
) -> Decision:
    """Decide on all launches; a failure only if their odd and their even ones each show it, as independent sets."""
    launches = min(map(len, samples), default=0)
    whole, *halves = (
        weighed(mean(part, weights), control, policy, ALPHA, launches)
        for part, control in zip(parts(samples), controls, strict=True)
    )
    if whole.verdict == "fail" and any(half.verdict != "fail" for half in halves):
        return replace(whole, verdict="unsure", reason="beyond the margin, but not in each half of the launches")
    return whole


def parts(samples: Sequence[Launches]) -> list[list[Launches]]:
    """Return all launches of each sample, then the first, third, ... of each, then the others."""
    return [[*samples], [sample[::2] for sample in samples], [sample[1::2] for sample in samples]]


def weighed(effect: Mean, control: Mean, policy: float, alpha: float, launches: int) -> Decision:
    """Return on which side of the margin an effect lies."""
    floor = abs(control.center) + control.half(ALPHA)  # the farther end of the control's one-sided bounds
    bound = max(policy, floor)
    if not all(map(math.isfinite, (effect.center, floor))):
        return Decision(
            verdict="unsure", reason="a figure is not a number, or seen in too few launches", launches=launches
        )
    half = effect.half(alpha)
    is_off = abs(control.center) - control.half(ALPHA / 2) > policy
    verdict, reason = side(effect.center - half, effect.center + half, policy, bound, is_off=is_off)
    return Decision(
        verdict=verdict, reason=reason, launches=launches, center=effect.center, low=effect.center - half,
        high=effect.center + half, floor=floor, bound=bound, detectable=bound + half + effect.half(1 - POWER),
    )  # fmt: skip


def side(low: float, high: float, policy: float, bound: float, *, is_off: bool) -> tuple[Decided, str]:
    """Return on which side of the margin an interval lies, in a word and in a sentence.

    The noise floor widens the margin for a failure or an improvement only: noise is no reason to pass.
    """
    if is_off:
        return "unsure", "the control, the base measured twice, differs from itself: this session is too noisy to tell"
    if high < -bound:
        return "improved", "the whole interval is beyond the margin on the good side; a new baseline is due"
    if high < policy:
        return "pass", "the whole interval is below the margin"
    if low > bound:
        return "fail", "the whole interval is beyond the margin"
    return "unsure", "the interval reaches across the margin" if low <= policy else "the loss is within the noise floor"
