"""The pace: how long a turn is, when a case is warm, when to stop."""

import math

import numpy as np
import pytest

from harness import pace


@pytest.mark.parametrize(("step", "steps"), [(0.5, 1), (0.01, 1), (0.004, 3), (0.0001, 100), (0.0, 1)])
def test_a_turn_lasts_10_ms_and_has_a_step(step, steps):
    assert pace.steps_per_turn(step) == steps


def test_equal_steps_are_steady_once_there_are_enough():
    assert not pace.is_steady([0.1] * 12, "cpu")
    assert pace.is_steady([0.1] * 13, "cpu")
    assert not pace.is_steady([0.001] * 100, "cpu")  # 0.1 s is too short
    assert not pace.is_steady([0.05] * 13, "cuda")  # a GPU wants a second
    assert pace.is_steady([0.05] * 13, "cuda", before=0.35)  # of any work in the process


def test_falling_steps_are_not_steady():
    assert not pace.is_steady([0.2 * 0.95**step for step in range(60)], "cpu")


def test_one_slow_step_in_a_window_is_not_steady():
    assert not pace.is_steady([0.1] * 11 + [0.1, 0.2, 0.1, 0.2, 0.2], "cpu")


def test_short_steps_are_compared_turn_by_turn():
    noisy = np.random.RandomState(0).uniform(0.95, 1.05, (100, 3000))  # of five such steps the median strays by 2 %
    assert sum(pace.is_steady((row * 1e-3).tolist(), "cpu") for row in noisy) > 90
    assert sum(pace.is_steady((row * 2e-2).tolist(), "cpu") for row in noisy) < 60
    assert len(pace.turns_of([0.5, *[0.001] * 105])) == 10
    assert pace.turns_of([0.5, *[0.001, 0.001, 0.007] * 10]) == [0.001] * 3
    assert not pace.is_steady([0.002 * 0.999**step for step in range(600)], "cpu")
    assert pace.turns_of([0.1, 0.2]) == [0.1, 0.2]
    assert pace.turns_of([]) == []
    assert not pace.is_exhausted([0.00035] * 2000 + [0.012] * 3, "cpu")


def test_warming_up_ends_by_turns_or_seconds():
    assert pace.is_exhausted([0.002] * 1500, "cpu")
    assert not pace.is_exhausted([0.002] * 1499, "cpu")
    assert pace.is_exhausted([0.01] * 300, "cpu")
    assert pace.is_exhausted([31.0], "cpu")
    assert not pace.is_exhausted([0.01] * 299, "cpu")


def test_short_steps_do_not_end_warming_up_before_its_least_time():
    assert not pace.is_exhausted([0.001] * 300, "cpu")
    assert not pace.is_exhausted([0.002] * 300, "cuda")
    assert pace.is_steady([0.001] * 501, "cpu")
    assert not pace.is_exhausted([0.001] * 501, "cpu")


def test_warming_up_never_overshoots_a_first_look():
    assert pace.next_warm_up([]) == 3
    assert pace.next_warm_up([0.1] * 3) == 10
    assert pace.next_warm_up([60.0]) == 1
    assert pace.next_warm_up([0.1] * 13) == 5
    assert pace.next_warm_up([0.0001] * 13) == 500


def test_a_block_is_precise_only_after_five_launches_and_with_narrow_intervals():
    narrow = [0.1, 0.1001, 0.0999, 0.1, 0.1]
    assert pace.is_precise([narrow], 0.03)
    assert not pace.is_precise([narrow[:4]], 0.03)
    assert not pace.is_precise([narrow, [0.1, 0.4, -0.2, 0.3, 0.0, 0.1]], 0.03)
    assert not pace.is_precise([], 0.03)
    assert not pace.is_precise([[math.nan] * 5], 0.03)


def test_a_launch_that_does_not_fit_the_budget_is_not_begun():
    assert pace.fits_budget(10, 5, None)
    assert pace.fits_budget(10, 5, 15)
    assert not pace.fits_budget(11, 5, 15)
