"""Change points: none in noise, a step where it is, and nothing hidden by a second one."""

import math

import numpy as np
import pytest

from harness.changes import exact_changes, level_changes

TRIALS = 200


def noisy(levels, spread, seed, runs=15):
    """Return runs at levels that take equal turns, with noise of a relative size."""
    level = np.asarray(levels)[np.arange(runs) * len(levels) // runs]
    return list(0.02 * level * np.exp(np.random.default_rng(seed).normal(0, spread, runs)))


@pytest.mark.parametrize("runs", [4, 6, 10, 15, 40])
def test_noise_alone_holds_no_change_in_95_of_100_series(runs):
    found = [bool(level_changes(noisy([1.0], 0.02, seed, runs)).at) for seed in range(TRIALS)]
    assert np.mean(found) <= 0.05


@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e9])
def test_a_step_of_10_percent_in_2_percent_of_noise_is_found_within_one_run(unit):
    found = [level_changes([unit * value for value in noisy([1.0, 1.1], 0.02, seed, 14)]).at for seed in range(TRIALS)]
    assert np.mean([any(abs(place - 7) <= 1 for place in at) for at in found]) >= 0.98
    assert np.mean([len(at) == 1 for at in found]) >= 0.95


@pytest.mark.parametrize("levels", [[1.0, 1.1, 1.0], [1.0, 1.1, 1.2]])
def test_a_second_change_does_not_hide_the_first(levels):
    found = [len(level_changes(noisy(levels, 0.01, seed)).at) for seed in range(TRIALS)]
    assert np.mean([count == 2 for count in found]) >= 0.9


@pytest.mark.parametrize(("levels", "at"), [([1.0, 1.1], (8,)), ([1.0, 1.0001, 1.1], (5, 10)), ([1.0], ())])
def test_without_noise_a_change_is_where_it_is(levels, at):
    assert level_changes(noisy(levels, 0.0, 0)).at == at


def test_one_odd_run_is_no_change():
    values = noisy([1.0], 0.01, 3)
    values[9] *= 1.2
    assert level_changes(values).at == ()


def test_values_that_may_be_zero_are_compared_by_difference():
    found = level_changes([0.0, 0.1, 0.0, 0.1, 5.0, 5.1, 5.0, 5.1])
    assert found.at == (4,)
    assert not found.is_ratio


def test_what_would_have_been_seen_is_said_and_is_so():
    values = noisy([1.0], 0.01, 0, 16)
    size = level_changes(values).detectable
    assert 0.01 < size < 0.05
    draws = [noisy([1.0, 1.0 + size], 0.01, seed, 16) for seed in range(TRIALS)]
    assert np.mean([bool(level_changes(draw).at) for draw in draws]) >= 0.7
    assert math.isnan(level_changes(noisy([1.0, 1.5], 0.01, 0)).detectable)


def test_a_count_changes_where_it_differs():
    assert exact_changes([1, 1, 2, 2, 1]).at == (2, 4)
