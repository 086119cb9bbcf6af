"""Statistics: one value a launch -> Estimate, Judgement. Pure; docs/measuring.md gives the reasons."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

CONFIDENCE = 0.95
POWER = 0.80  # `detectable` is the change that would be caught 4 times in 5
FARTHEST_LOOK = 1000  # launches beyond which nobody will go to settle a verdict
UNSETTLED, UNREACHED = VOIDING = ("no steady state", "not reached")  # the codes of warnings that take a verdict away

Verdict = Literal["better", "worse", "same", "unsure", "different"]
Better = Literal["lower", "higher", "neither"]
Scale = Literal["ratio", "difference"]
Launches = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Caution:
    """A warning as data: what was seen, and what to do about it."""

    code: str
    message: str
    remedy: str


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean over launches and its 95 % interval, which is NaN where one launch is all there is."""

    center: float
    low: float
    high: float
    n: int

    @property
    def has_interval(self) -> bool:
        """Tell whether there is an interval."""
        return math.isfinite(self.low) and math.isfinite(self.high)


def exactly(value: float) -> Estimate:
    """Return a value without an interval."""
    return Estimate(center=value, low=math.nan, high=math.nan, n=1)


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """Candidate against base, and what may be said of it; `different` is for counts without a good side.

    `low` and `high` are those of the ratio, or where there is a `difference` (candidate less base) of that.
    """

    ratio: float
    low: float
    high: float
    verdict: Verdict
    detectable: float
    launches: int
    needed: int | None = None
    """About how many more launches would settle an `unsure`; None where launches would not."""
    warnings: tuple[Caution, ...] = ()
    confidence: float = CONFIDENCE
    difference: float | None = None
    """Of a metric that is compared by difference; its ratio is NaN."""

    @property
    def center(self) -> float:
        """The difference if it is one, else the ratio."""
        return self.ratio if self.difference is None else self.difference

    def codes(self) -> list[str]:
        """Return the codes of the warnings."""
        return [warning.code for warning in self.warnings]


@dataclass(frozen=True, kw_only=True)
class Mean:
    """An effect with its standard error and degrees of freedom."""

    center: float
    error: float
    freedom: float

    def half(self, alpha: float) -> float:
        """Return how far a one-sided bound at `alpha` lies from the centre."""
        return quantile(1 - alpha, self.freedom) * self.error


def estimate(values: Iterable[float]) -> Estimate:
    """Return the mean over launches with its interval by Student's t."""
    launches = np.asarray(list(values), dtype=float)
    if not np.isfinite(launches).all():
        return Estimate(center=float(launches[~np.isfinite(launches)][0]), low=math.nan, high=math.nan, n=len(launches))
    center = float(launches.mean()) if len(launches) else math.nan
    half = half_width(launches)
    return Estimate(center=center, low=center - half, high=center + half, n=len(launches))


def half_width(values: Iterable[float]) -> float:
    """Return half the width of the mean's 95 % interval; NaN for fewer than two values."""
    launches = np.asarray(list(values), dtype=float)
    if len(launches) < 2:
        return math.nan
    return quantile(0.5 + CONFIDENCE / 2, len(launches) - 1) * standard_error(launches)


def paired_log_ratio(base: Mapping[int, float], candidate: Mapping[int, float]) -> float:
    """Return a launch's effect: the median over common rounds of log(candidate / base); NaN without any."""
    rounds = [number for number in base if number in candidate]
    return float(np.median([log_ratio(base[number], candidate[number]) for number in rounds])) if rounds else math.nan


def log_ratio(base: float, candidate: float) -> float:
    """Return log(candidate / base), NaN where either is not a positive number."""
    sound = 0 < base < math.inf and 0 < candidate < math.inf
    return math.log(candidate) - math.log(base) if sound else math.nan


def effect(base: float, candidate: float, scale: Scale) -> float:
    """Return what candidate is against base on a scale on which no effect is 0: a log ratio, or the difference."""
    return log_ratio(base, candidate) if scale == "ratio" else candidate - base


def bound(margin: float, scale: Scale) -> float:
    """Return a margin on the scale of effects."""
    return math.log1p(margin) if scale == "ratio" else margin


def judge(
    effects: Sequence[float], margin: float, better: Better, warnings: Sequence[Caution] = (), scale: Scale = "ratio"
) -> Judgement:
    """Return the verdict on one paired effect a launch, a log ratio or a difference, both sides measured in turns."""
    launches = np.asarray(effects, dtype=float)
    return decide(launches, standard_error(launches), len(launches) - 1, margin, better, warnings, scale)


def judge_unpaired(
    base: Sequence[float],
    candidate: Sequence[float],
    margin: float,
    better: Better,
    warnings: Sequence[Caution] = (),
    scale: Scale = "ratio",
) -> Judgement:
    """Return the verdict on values of two sessions, one a launch (Welch's t, of a ratio on their logarithms)."""
    levels = [[level(value, scale) for value in values] for values in (base, candidate)]
    fewest = min(map(len, levels))
    if fewest < 2:
        return undecided(math.nan, fewest, (*warnings, ONE_LAUNCH), scale)
    found = mean(levels, (-1.0, 1.0))
    return decide(np.full(fewest, found.center), found.error, found.freedom, margin, better, warnings, scale)


def level(value: float, scale: Scale) -> float:
    """Return a value of one side so that effects are differences: its logarithm, or itself."""
    return log_ratio(1.0, value) if scale == "ratio" else value


def judge_exact(base: Sequence[float], candidate: Sequence[float], warnings: Sequence[Caution] = ()) -> Judgement:
    """Return whether two counts that repeat exactly are the same."""
    launches = min(len(base), len(candidate))
    if not launches or not np.isfinite([*base, *candidate]).all():
        return undecided(math.nan, launches, (*warnings, NOT_A_NUMBER))
    verdict: Verdict = "same" if set(base) == set(candidate) else "different"
    repeats = len({*base}) == len({*candidate}) == 1 and base[0]
    ratio = 1.0 if verdict == "same" else candidate[0] / base[0] if repeats else math.nan
    return Judgement(
        ratio=ratio, low=ratio, high=ratio, verdict=verdict, detectable=0.0, launches=launches, warnings=tuple(warnings)
    )


ONE_LAUNCH = Caution(
    code="one launch",
    message="fewer than two launches: nothing says how much the figure varies",
    remedy="raise --launches, and --set seeds for what is scored",
)
NOT_A_NUMBER = Caution(
    code="not a number",
    message="a value is NaN, infinite or not above zero",
    remedy="read the case's log and losses",
)


def decide(
    effects: Launches,
    error: float,
    freedom: float,
    margin: float,
    better: Better,
    warnings: Sequence[Caution],
    scale: Scale,
) -> Judgement:
    """Return the verdict on the mean of `effects` with standard error `error` (docs/measuring.md: Ratio, Verdicts)."""
    launches, is_ratio = len(effects), scale == "ratio"
    if not np.isfinite(effects).all():
        return undecided(math.nan, launches, (*warnings, NOT_A_NUMBER), scale)
    if launches < 2:
        one = float(effects[0]) if launches else math.nan
        return undecided(math.exp(one) if is_ratio else one, launches, (*warnings, ONE_LAUNCH), scale)
    center, farthest = float(effects.mean()), bound(margin, scale)
    half = quantile(0.5 + CONFIDENCE / 2, freedom) * error
    verdict = side(center - half, center + half, farthest, better)
    needed = None
    if any(warning.code in VOIDING for warning in warnings):
        verdict = "unsure"
    elif verdict == "unsure":
        needed = more_launches(abs(abs(center) - farthest), error, freedom, launches)
    caught = farthest + (quantile(0.5 + CONFIDENCE / 2, freedom) + quantile(POWER, freedom)) * error
    return Judgement(
        ratio=math.exp(center) if is_ratio else math.nan,
        difference=None if is_ratio else center,
        low=math.exp(center - half) if is_ratio else center - half,
        high=math.exp(center + half) if is_ratio else center + half,
        verdict=verdict,
        detectable=math.expm1(caught) if is_ratio else caught,
        launches=launches,
        needed=needed,
        warnings=tuple(warnings),
    )


def undecided(center: float, launches: int, warnings: Sequence[Caution], scale: Scale = "ratio") -> Judgement:
    """Return the judgement that says nothing but why."""
    return Judgement(
        ratio=center if scale == "ratio" else math.nan, difference=None if scale == "ratio" else center,
        low=math.nan, high=math.nan, verdict="unsure", detectable=math.nan,
        launches=launches, warnings=tuple(warnings),
    )  # fmt: skip


def side(low: float, high: float, bound: float, better: Better) -> Verdict:
    """Return where the interval of an effect lies: beyond a bound, within both, or across one."""
    if low >= -bound and high <= bound:
        return "same"
    if low <= bound and high >= -bound:
        return "unsure"
    if better == "neither":
        return "different"
    return "better" if (high < 0) == (better == "lower") else "worse"


def more_launches(distance: float, error: float, freedom: float, launches: int) -> int | None:
    """Return how many launches more would make the interval shorter than `distance` on each side."""
    total = np.arange(launches + 1, FARTHEST_LOOK + 1)
    half = stdtrit(freedom * (total - 1) / (launches - 1), 0.5 + CONFIDENCE / 2) * error * np.sqrt(launches / total)
    enough = total[half < distance]
    return int(enough[0]) - launches if len(enough) else None


def geometric_mean(blocks: Sequence[Mapping[int, float]]) -> dict[int, float]:
    """Return the mean log ratio over blocks, launch by launch, of the launches that all of them have."""
    common = set.intersection(*map(set, blocks)) if blocks else set()
    return {launch: sum(block[launch] for block in blocks) / len(blocks) for launch in sorted(common)}


def mean(samples: Sequence[Sequence[float]], weights: Sequence[float] = (1.0,)) -> Mean:
    """Return the weighted sum of the means of independent samples (degrees of freedom: Welch-Satterthwaite)."""
    values = [np.asarray(sample, dtype=float) for sample in samples]
    if not values or min(map(len, values)) < 2 or not all(np.isfinite(sample).all() for sample in values):
        return Mean(center=math.nan, error=math.nan, freedom=math.nan)
    errors = [(weight * standard_error(sample)) ** 2 for weight, sample in zip(weights, values, strict=True)]
    spread = sum(error**2 / (len(sample) - 1) for error, sample in zip(errors, values, strict=True))
    return Mean(
        center=sum(weight * float(sample.mean()) for weight, sample in zip(weights, values, strict=True)),
        error=math.sqrt(sum(errors)),
        freedom=sum(errors) ** 2 / spread if spread > 0 else float(sum(map(len, values)) - len(values)),
    )


def standard_error(values: Launches) -> float:
    """Return the standard error of the mean; NaN for fewer than two values, or where one is no number."""
    if len(values) < 2 or not np.isfinite(values).all():
        return math.nan
    return float(values.std(ddof=1) / math.sqrt(len(values)))


def quantile(share: float, freedom: float) -> float:
    """Return the quantile of Student's t."""
    return float(stdtrit(freedom, share))
