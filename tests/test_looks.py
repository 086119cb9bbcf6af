"""The gate's rule on launches: when it decides, what it confirms, what it never claims."""

import math
from collections import Counter

import numpy as np
import pytest

from harness.looks import ALPHA, LOOKS, Decision, between, decide, together

MARGIN = 0.03
CALM = [0.001, -0.001] * 11  # a control that hardly strays


def noisy(effect: float, spread: float, launches: int = 22, seed: int = 0) -> list[float]:
    return [*(math.log1p(effect) + np.random.default_rng(seed).normal(0, spread, launches))]


def test_before_the_first_look_nothing_is_said():
    found = decide([0.5] * 4, CALM, MARGIN)
    assert (found.verdict, found.wanted) == ("unsure", LOOKS[0])


@pytest.mark.parametrize(("effect", "verdict"), [(0.0, "pass"), (0.02, "pass"), (-0.2, "improved")])
def test_a_clear_case_is_decided_at_the_first_look(effect, verdict):
    found = decide(noisy(effect, 0.002, 5), CALM, MARGIN)
    assert (found.verdict, found.wanted, found.launches) == (verdict, 0, 5)


def test_a_failure_waits_for_as_many_fresh_launches():
    first = decide(noisy(0.1, 0.005, 5), CALM, MARGIN)
    assert (first.verdict, first.wanted) == ("unsure", 10)
    assert "not confirmed" in first.reason
    found = decide(noisy(0.1, 0.005, 10), CALM, MARGIN)
    assert found.verdict == "fail"
    assert found.low > found.bound == math.log1p(MARGIN)


def test_what_fresh_launches_do_not_show_is_not_a_failure():
    found = decide([*noisy(0.1, 0.005, 5), *noisy(0.0, 0.005, 5)], CALM, MARGIN)
    assert (found.verdict, found.wanted) == ("unsure", 0)
    assert "not again" in found.reason


def test_what_reaches_across_the_margin_is_looked_at_again_and_then_given_up():
    effects = noisy(0.03, 0.02)
    assert [decide(effects[:count], CALM, MARGIN).wanted for count in (5, 8)] == [8, 11]
    assert decide(effects[:11], CALM, MARGIN).wanted == 0


def test_a_loss_within_the_noise_floor_neither_fails_nor_passes():
    restless = noisy(0.0, 0.15, seed=1)
    found = decide(noisy(0.06, 0.002), restless, MARGIN)
    assert found.bound == found.floor > math.log1p(0.06)
    assert (found.verdict, found.reason) == ("unsure", "the loss is within the noise floor")


def test_a_control_that_is_off_decides_nothing():
    off = noisy(0.2, 0.002, seed=1)
    found = decide(noisy(1.0, 0.002), off, MARGIN)
    assert found.verdict == "unsure"
    assert "too noisy to tell" in found.reason


@pytest.mark.parametrize("effects", [[math.nan] * 11, [0.1, math.inf, 0.1, 0.1, 0.1] * 3])
def test_a_figure_that_is_no_number_decides_nothing(effects):
    assert decide(effects, CALM, MARGIN).verdict == "unsure"


def simulated(effect: float, spread: float, runs: int = 300) -> tuple[Counter, float]:
    """Return how often each verdict fell, and the launches a run took."""
    draw = np.random.default_rng(7)
    found: list[Decision] = [
        decide([*(math.log1p(effect) + draw.normal(0, spread, 22))], [*draw.normal(0, spread, 22)], MARGIN)
        for _ in range(runs)
    ]
    launches = [item.launches * (2 if "fresh" in item.reason else 1) for item in found]
    return Counter(item.verdict for item in found), sum(launches) / runs


@pytest.mark.parametrize("spread", [0.005, 0.01, 0.02])
def test_the_same_code_never_fails_and_stops_early(spread):
    verdicts, launches = simulated(0.0, spread)
    assert verdicts["fail"] == 0
    assert launches <= 0.6 * LOOKS[-1]


@pytest.mark.parametrize(("effect", "spread", "share"), [(0.1, 0.02, 0.95), (0.05, 0.01, 0.8), (0.2, 0.02, 0.95)])
def test_a_real_loss_is_caught(effect, spread, share):
    verdicts, _ = simulated(effect, spread)
    assert verdicts["fail"] >= share * 300


def test_many_small_losses_are_one_in_the_mean():
    effects = [noisy(0.045, 0.02, 6, seed) for seed in range(8)]
    controls = [noisy(0.0, 0.02, 6, seed) for seed in range(50, 58)]
    alone = {decide(*pair, MARGIN).verdict for pair in zip(effects, controls, strict=True)}
    assert alone == {"unsure"}
    assert together(effects, controls, MARGIN).verdict == "fail"
    assert together(controls, controls, MARGIN).verdict == "pass"


def test_two_sessions_fail_only_in_both_halves_of_their_launches():
    base = noisy(0.0, 0.005, 8)
    assert between([base], [noisy(0.2, 0.005, 8, 1)], 0.05).verdict == "fail"
    assert between([base], [noisy(0.0, 0.005, 8, 1)], 0.05).verdict == "pass"
    torn = [0.6, 0.04] * 4  # beyond the margin on the whole, not in every second launch
    assert between([[0.0, 0.001] * 4], [torn], 0.05).verdict == "unsure"
    assert between([base], [base[:1]], 0.05).verdict == "unsure"


def test_two_sessions_are_judged_in_the_mean_over_their_cases():
    base = [noisy(0.0, 0.01, 8, seed) for seed in range(6)]
    assert between(base, [noisy(0.12, 0.01, 8, seed) for seed in range(6, 12)], 0.05).verdict == "fail"


@pytest.mark.parametrize("spread", [0.005, 0.02])
def test_a_loss_as_large_as_the_margin_fails_rarely(spread):
    verdicts, _ = simulated(MARGIN, spread)
    assert verdicts["fail"] <= ALPHA * 300
