"""The pace: how many steps a turn takes, when a case is warm, when a block is measured precisely enough."""

import math
from collections.abc import Sequence
from statistics import median, quantiles

from harness.stats import half_width

# Each bound is from docs/measuring.md, "Cold and warm" and "Sample".
TURN_SECONDS = 0.010
WARM_STEPS = 3
WARM_SECONDS = {"cuda": 1.0}
WARM_SECONDS_ELSEWHERE = 0.5
WINDOW = 5
MEDIAN_CHANGE = 0.02
QUARTILE_CHANGE = 0.05
WARM_UP_CAP_TURNS = 300
WARM_UP_CAP_SECONDS = 30.0
FIRST_LOOK = 5


def steps_per_turn(step_seconds: float) -> int:
    """Return enough steps for a turn of 10 ms, and at least one."""
    return max(1, math.ceil(TURN_SECONDS / step_seconds)) if step_seconds > 0 else 1


def is_steady(seconds: Sequence[float], device: str, before: float = 0.0) -> bool:
    """Tell whether the steps so far have ended in a steady state: two windows of turns that agree.

    `before` are the seconds that the same process has stepped other work, which warmed the device up as well.
    """
    turns = turns_of(seconds)
    if len(turns) < WARM_STEPS + 2 * WINDOW or not is_long_enough(before + sum(seconds), device):
        return False
    earlier, later = quartiles(turns[-2 * WINDOW : -WINDOW]), quartiles(turns[-WINDOW:])
    low, middle, high = (abs(after / before - 1) for before, after in zip(earlier, later, strict=True))
    return middle <= MEDIAN_CHANGE and low <= QUARTILE_CHANGE and high <= QUARTILE_CHANGE


def turns_of(seconds: Sequence[float]) -> list[float]:
    """Return the median step of each turn that the steps make up, the last of which ends with them.

    Of steps of 10 ms and more each is a turn. What is left over at the beginning counts for nothing.
    """
    if not seconds:
        return []
    steps = steps_per_turn(median(seconds[len(seconds) // 2 :]))  # few slow ones among short steps make no turn longer
    return [median(seconds[end - steps : end]) for end in range(len(seconds), steps - 1, -steps)][::-1]


def is_long_enough(seconds: float, device: str) -> bool:
    """Tell whether warming up has taken as long as it must."""
    return seconds >= WARM_SECONDS.get(device, WARM_SECONDS_ELSEWHERE)


def is_exhausted(seconds: Sequence[float], device: str) -> bool:
    """Tell whether warming up has gone on for as long as it may; many turns are no end before the least time."""
    is_many = len(turns_of(seconds)) >= WARM_UP_CAP_TURNS and is_long_enough(sum(seconds), device)
    return is_many or sum(seconds) >= WARM_UP_CAP_SECONDS


def next_warm_up(seconds: Sequence[float]) -> int:
    """Return how many warm-up steps to run before looking again."""
    if not seconds:
        return WARM_STEPS
    missing = WARM_STEPS + 2 * WINDOW - len(seconds)
    wanted = missing if missing > 0 else WINDOW * steps_per_turn(median(seconds[-WINDOW:]))
    return max(1, min(wanted, int(WARM_UP_CAP_SECONDS / max(median(seconds), 1e-6))))


def is_precise(log_ratios: Sequence[Sequence[float]], margin: float) -> bool:
    """Tell whether every comparison's interval is narrow enough to stop: half-width at most half the margin.

    Stopping on precision, never on a verdict, leaves the intervals honest; no look before the fifth
    launch, since fewer give too wild a standard deviation.
    """
    return bool(log_ratios) and all(
        len(ratios) >= FIRST_LOOK and half_width(ratios) <= math.log1p(margin) / 2 for ratios in log_ratios
    )


def fits_budget(spent: float, launch: float, budget: float | None) -> bool:
    """Tell whether another launch, as long as `launch` seconds, still fits."""
    return budget is None or spent + launch <= budget


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the three quartiles."""
    low, middle, high = quantiles(values, n=4, method="inclusive")
    return low, middle, high
