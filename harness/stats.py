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
UNSETTLED = "no steady state"  # the code of the one warning of a case that takes its verdicts away

Verdict = Literal["better", "worse", "same", "unsure", "different"]
Better = Literal["lower", "higher", "neither"]
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


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """Candidate over base as a ratio, and what may be said of it; `different` is for counts without a good side."""

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


def judge(log_ratios: Sequence[float], margin: float, better: Better, warnings: Sequence[Caution] = ()) -> Judgement:
    """Return the verdict on one paired log ratio a launch, both sides of each measured in turns."""
    launches = np.asarray(log_ratios, dtype=float)
    return decide(launches, standard_error(launches), len(launches) - 1, margin, better, warnings)


def judge_unpaired(
    base: Sequence[float], candidate: Sequence[float], margin: float, better: Better, warnings: Sequence[Caution] = ()
) -> Judgement:
    """Return the verdict on values of two sessions, one a launch (Welch's t on their logarithms)."""
    logs = [[log_ratio(1.0, value) for value in values] for values in (base, candidate)]
    fewest = min(map(len, logs))
    if fewest < 2:
        return undecided(math.nan, fewest, (*warnings, ONE_LAUNCH))
    effect = mean(logs, (-1.0, 1.0))
    return decide(np.full(fewest, effect.center), effect.error, effect.freedom, margin, better, warnings)


def judge_exact(base: Sequence[float], candidate: Sequence[float], warnings: Sequence[Caution] = ()) -> Judgement:
    """Return whether two counts that repeat exactly are the same."""
    launches = min(len(base), len(candidate))
    if not launches or not np.isfinite([*base, *candidate]).all():
        return undecided(math.nan, launches, (*warnings, NOT_A_NUMBER))
    verdict: Verdict = "same" if set(base) == set(candidate) else "different"
    ratio = 1.0 if verdict == "same" else max(candidate) / max(base) if max(base) else math.nan
    return Judgement(
        ratio=ratio, low=ratio, high=ratio, verdict=verdict, detectable=0.0, launches=launches, warnings=tuple(warnings)
    )


ONE_LAUNCH = Caution(
    code="one launch",
    message="fewer than two launches: nothing says how much the figure varies",
    remedy="raise --launches",
)
NOT_A_NUMBER = Caution(
    code="not a number",
    message="a value is NaN, infinite or not above zero",
    remedy="read the case's log and losses",
)


def decide(
    logs: Launches, error: float, freedom: float, margin: float, better: Better, warnings: Sequence[Caution]
) -> Judgement:
    """Return the verdict on the mean of `logs` with standard error `error` (docs/measuring.md: Ratio, Verdicts)."""
    launches = len(logs)
    if not np.isfinite(logs).all():
        return undecided(math.nan, launches, (*warnings, NOT_A_NUMBER))
    if launches < 2:
        return undecided(math.exp(logs[0]) if launches else math.nan, launches, (*warnings, ONE_LAUNCH))
    center, bound = float(logs.mean()), math.log1p(margin)
    half = quantile(0.5 + CONFIDENCE / 2, freedom) * error
    verdict = side(center - half, center + half, bound, better)
    needed = None
    if any(warning.code == UNSETTLED for warning in warnings):
        verdict = "unsure"
    elif verdict == "unsure":
        needed = more_launches(abs(abs(center) - bound), error, freedom, launches)
    return Judgement(
        ratio=math.exp(center),
        low=math.exp(center - half),
        high=math.exp(center + half),
        verdict=verdict,
        detectable=math.expm1(bound + (quantile(0.5 + CONFIDENCE / 2, freedom) + quantile(POWER, freedom)) * error),
        launches=launches,
        needed=needed,
        warnings=tuple(warnings),
    )


def undecided(ratio: float, launches: int, warnings: Sequence[Caution]) -> Judgement:
    """Return the judgement that says nothing but why."""
    return Judgement(
        ratio=ratio, low=math.nan, high=math.nan, verdict="unsure", detectable=math.nan,
        launches=launches, warnings=tuple(warnings),
    )  # fmt: skip


def side(low: float, high: float, bound: float, better: Better) -> Verdict:
    """Return where the interval of a log ratio lies: beyond a bound, within both, or across one."""
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
