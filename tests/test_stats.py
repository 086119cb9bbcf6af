import math
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from harness.stats import (
    UNSETTLED,
    Caution,
    estimate,
    geometric_mean,
    half_width,
    judge,
    judge_exact,
    judge_unpaired,
    log_ratio,
    paired_log_ratio,
)

MARGIN = 0.03
FLIPPED = {"better": "worse", "worse": "better"}
logs = st.lists(st.floats(-0.5, 0.5), min_size=2, max_size=12)
seconds = st.floats(1e-6, 1e3)
rounds = st.dictionaries(st.integers(1, 20), seconds, min_size=1)
settings.register_profile("tandem", deadline=None, derandomize=True)
settings.load_profile("tandem")


def spread(center: float, deviation: float, launches: int) -> list[float]:
    """Return values with exactly this mean and standard deviation."""
    values = np.linspace(-1.0, 1.0, launches)
    return list(center + deviation * values / values.std(ddof=1))


def test_an_estimate_is_the_mean_with_students_interval() -> None:
    values = [1.0, 2.0, 4.0, 5.5]
    found = estimate(values)
    low, high = scipy.stats.t.interval(0.95, 3, np.mean(values), scipy.stats.sem(values))
    assert (found.center, found.low, found.high, found.n) == pytest.approx((3.125, low, high, 4))
    assert half_width(values) == pytest.approx((high - low) / 2)


def test_one_launch_has_no_interval() -> None:
    found = estimate([2.0])
    assert (found.center, found.n, found.has_interval) == (2.0, 1, False)


@pytest.mark.parametrize("values", [[], [math.nan], [1.0, math.nan, 2.0], [1.0, math.inf]])
def test_what_is_not_a_number_stays_visible_in_an_estimate(values: list[float]) -> None:
    found = estimate(values)
    assert not math.isfinite(found.center)
    assert not found.has_interval


def test_a_launch_is_the_median_over_the_rounds_that_both_had() -> None:
    base, candidate = {1: 1.0, 2: 1.0, 3: 1.0, 4: 9.0}, {3: 4.0, 2: 2.0, 1: 1.0, 7: 5.0}
    assert paired_log_ratio(base, candidate) == pytest.approx(math.log(2.0))
    assert math.isnan(paired_log_ratio({1: 1.0}, {2: 1.0}))


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_a_ratio_of_what_is_no_positive_number_is_not_a_number(value: float) -> None:
    assert math.isnan(log_ratio(1.0, value))
    assert math.isnan(log_ratio(value, 1.0))


@pytest.mark.parametrize(
    ("center", "deviation", "verdict"),
    [
        (math.log(0.80), 0.01, "better"),
        (math.log(1.25), 0.01, "worse"),
        (0.0, 0.005, "same"),
        (0.01, 0.005, "same"),
        (0.0, 0.10, "unsure"),
        (math.log(0.975), 0.02, "unsure"),
        (math.log(1.10), 0.20, "unsure"),
    ],
)
def test_a_verdict_needs_the_whole_interval_on_one_side(center: float, deviation: float, verdict: str) -> None:
    found = judge(spread(center, deviation, 5), MARGIN, "lower")
    assert found.verdict == verdict
    assert found.ratio == pytest.approx(math.exp(center))
    assert found.low < found.ratio < found.high
    assert (found.needed is not None) == (verdict == "unsure")


def test_higher_is_better_where_the_metric_says_so() -> None:
    assert judge(spread(0.3, 0.01, 5), MARGIN, "higher").verdict == "better"
    assert judge(spread(-0.3, 0.01, 5), MARGIN, "higher").verdict == "worse"
    assert judge(spread(0.3, 0.01, 5), MARGIN, "neither").verdict == "different"


def test_the_smallest_change_that_would_be_caught_is_stated() -> None:
    found = judge(spread(0.0, 0.02, 8), MARGIN, "lower")
    t = scipy.stats.t(7)
    expected = math.log1p(MARGIN) + (t.ppf(0.975) + t.ppf(0.80)) * 0.02 / math.sqrt(8)
    assert math.log1p(found.detectable) == pytest.approx(expected)


@pytest.mark.parametrize("launches", [0, 1])
def test_fewer_than_two_launches_are_never_enough(launches: int) -> None:
    found = judge([-0.5] * launches, MARGIN, "lower")
    assert (found.verdict, found.launches, found.needed) == ("unsure", launches, None)
    assert [warning.code for warning in found.warnings] == ["one launch"]


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_what_is_not_a_number_is_neither_better_nor_the_same(odd: float) -> None:
    found = judge([-0.5, -0.5, odd], MARGIN, "lower")
    assert found.verdict == "unsure"
    assert [warning.code for warning in found.warnings] == ["not a number"]


def test_a_case_that_never_settled_gets_no_verdict() -> None:
    warning = Caution(code=UNSETTLED, message="its step time never settled", remedy="close what else runs")
    found = judge(spread(-0.5, 0.01, 5), MARGIN, "lower", [warning])
    assert (found.verdict, found.needed, found.warnings) == ("unsure", None, (warning,))


@given(logs, st.floats(0.005, 0.2))
def test_swapping_the_sides_flips_the_verdict(ratios: list[float], margin: float) -> None:
    forward, backward = judge(ratios, margin, "lower"), judge([-value for value in ratios], margin, "lower")
    assert backward.verdict == FLIPPED.get(forward.verdict, forward.verdict)
    assert backward.ratio == pytest.approx(1 / forward.ratio)
    assert (backward.low, backward.high) == pytest.approx((1 / forward.high, 1 / forward.low))


@given(rounds, rounds, st.floats(0.01, 100.0))
def test_a_machine_that_is_faster_for_both_changes_nothing(
    base: dict[int, float], candidate: dict[int, float], factor: float
) -> None:
    assume(base.keys() & candidate.keys())
    scaled = ({number: value * factor for number, value in side.items()} for side in (base, candidate))
    assert paired_log_ratio(*scaled) == pytest.approx(paired_log_ratio(base, candidate), abs=1e-9)


@given(seconds, st.integers(2, 12))
def test_identical_values_are_the_same(value: float, launches: int) -> None:
    found = judge([log_ratio(value, value)] * launches, MARGIN, "lower")
    assert (found.ratio, found.low, found.high, found.verdict) == (1.0, 1.0, 1.0, "same")


@given(st.floats(0.001, 0.2), st.integers(2, 40))
def test_more_launches_never_widen_what_is_detectable(deviation: float, launches: int) -> None:
    fewer, more = (judge(spread(0.0, deviation, count), MARGIN, "lower") for count in (launches, launches + 1))
    assert more.detectable < fewer.detectable


@given(st.floats(-0.2, 0.2), st.floats(0.005, 0.1), st.integers(3, 12))
def test_as_many_launches_more_as_are_said_settle_it(center: float, deviation: float, launches: int) -> None:
    found = judge(spread(center, deviation, launches), MARGIN, "lower")
    assume(found.needed is not None)
    assert found.needed is not None
    assert judge(spread(center, deviation, launches + found.needed), MARGIN, "lower").verdict != "unsure"


@given(logs, st.floats(0.0, 0.1))
def test_a_wider_margin_never_turns_a_verdict_around(ratios: list[float], wider: float) -> None:
    narrow, wide = judge(ratios, MARGIN, "lower").verdict, judge(ratios, MARGIN + wider, "lower").verdict
    assert {narrow, wide} != {"better", "worse"}
    assert not (narrow == "same" and wide != "same")


def share(trials: int, is_so: Callable[[np.random.Generator], bool]) -> float:
    """Return how often something is so, of so many trials with one seed."""
    draw = np.random.default_rng(20)
    return sum(is_so(draw) for _ in range(trials)) / trials


def test_the_interval_holds_the_truth_in_95_of_100_runs() -> None:
    def holds(draw: np.random.Generator) -> bool:
        found = judge(list(draw.normal(-0.1, 0.02, 5)), MARGIN, "lower")
        return found.low <= math.exp(-0.1) <= found.high

    assert share(2000, holds) == pytest.approx(0.95, abs=0.015)


@pytest.mark.parametrize("spread", [0.005, 0.01, 0.02])
def test_the_interval_over_measured_launches_holds_the_truth_as_often(spread: float) -> None:
    """Launches as they are measured: each the median over rounds that wobble, on a machine that drifts for both."""
    truth, rounds = math.log1p(0.05), range(40)

    def launch(draw: np.random.Generator) -> float:
        drift = draw.normal(0, 0.1, len(rounds)).cumsum()
        base = dict(zip(rounds, np.exp(drift + draw.normal(0, 0.02, len(rounds))), strict=True))
        offset = truth + draw.normal(0, spread)
        candidate = dict(zip(rounds, np.exp(drift + offset + draw.normal(0, 0.02, len(rounds))), strict=True))
        return paired_log_ratio(base, candidate)

    def holds(draw: np.random.Generator) -> bool:
        found = judge([launch(draw) for _ in range(5)], MARGIN, "lower")
        return found.low <= 1.05 <= found.high

    assert 0.94 <= share(2000, holds) <= 0.965


def test_identical_code_is_seldom_called_different() -> None:
    assert share(2000, lambda draw: judge(list(draw.normal(0, 0.05, 3)), MARGIN, "lower").verdict in FLIPPED) < 0.03


def test_a_change_as_large_as_detectable_is_caught_4_times_in_5() -> None:
    error = 0.02 / math.sqrt(8)
    exact = judge([error * 7**0.5 * sign for sign in (1, -1)] * 4, MARGIN, "lower")  # standard deviation 0.02
    change = math.log1p(exact.detectable)

    def is_caught(draw: np.random.Generator) -> bool:
        return judge(list(draw.normal(change, 0.02, 8)), MARGIN, "lower").verdict == "worse"

    assert share(2000, is_caught) == pytest.approx(0.80, abs=0.04)


def test_two_sessions_are_judged_by_welchs_t() -> None:
    base, candidate = [1.0, 1.1, 1.05, 0.95], [1.5, 1.4, 1.6]
    found = judge_unpaired(base, candidate, MARGIN, "lower")
    test = scipy.stats.ttest_ind(np.log(candidate), np.log(base), equal_var=False).confidence_interval(0.95)
    assert (math.log(found.low), math.log(found.high)) == pytest.approx((test.low, test.high))
    assert (found.verdict, found.launches) == ("worse", 3)


@pytest.mark.parametrize(("base", "candidate"), [([1.0], [1.0, 1.0]), ([], [1.0, 1.0]), ([1.0, math.nan], [1.0, 1.0])])
def test_two_sessions_need_two_launches_of_numbers_each(base: list[float], candidate: list[float]) -> None:
    assert judge_unpaired(base, candidate, MARGIN, "lower").verdict == "unsure"


def test_two_sessions_without_any_spread_are_judged() -> None:
    assert judge_unpaired([2.0] * 3, [2.0] * 3, MARGIN, "lower").verdict == "same"
    assert judge_unpaired([2.0] * 3, [1.0] * 3, MARGIN, "lower").verdict == "better"


@pytest.mark.parametrize(
    ("base", "candidate", "verdict"),
    [
        ([3.0, 3.0], [3.0], "same"),
        ([0.0], [0.0], "same"),
        ([3.0], [4.0], "different"),
        ([0.0], [4.0], "different"),
        ([3.0, 3.0], [3.0, 4.0], "different"),
        ([3.0], [math.nan], "unsure"),
        ([], [3.0], "unsure"),
    ],
)
def test_counts_are_equal_or_different(base: list[float], candidate: list[float], verdict: str) -> None:
    found = judge_exact(base, candidate)
    assert found.verdict == verdict
    assert math.isfinite(found.ratio) == (verdict == "same" or (base, candidate) == ([3.0], [4.0]))


def test_the_geometric_mean_is_taken_launch_by_launch_where_every_block_has_one() -> None:
    together = geometric_mean([{1: 0.2, 2: 0.4, 3: 9.0}, {2: -0.2, 1: 0.0}])
    assert together == pytest.approx({1: 0.1, 2: 0.1})
    assert geometric_mean([]) == {}


def test_a_slowdown_is_not_clipped() -> None:
    assert geometric_mean([{1: math.log(2.0)}, {1: math.log(0.5)}]) == pytest.approx({1: 0.0})


def test_importing_is_light() -> None:
    code = (
        "import sys, harness.stats; print([name for name in ('scipy.stats', 'pandas', 'torch') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
