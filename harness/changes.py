"""Changes: values, one a run -> the runs at which their level changed. Pure; docs/baselines.md gives the reasons."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from ruptures import KernelCPD
from scipy.special import betaincinv

from harness.stats import POWER, Launches, Scale, log_ratio, quantile

FALSE_ALARMS = 0.05  # share of series without any change, of normal noise, in which one is found, at most
SEGMENT = 2  # runs that a level lasts at least: a single odd run is no change
FEWEST = 2 * SEGMENT  # runs below which nothing can be told
MOST = 20  # changes that are looked for in one series
NOTHING = 1e-12  # share of the scatter that is rounding, not noise


@dataclass(frozen=True, kw_only=True)
class Changes:
    """Where a series changed, as the indices of the first values at each new level.

    `detectable` is the least lasting change halfway, relative for a ratio (0.05 is 5 %), else in the values' unit,
    that would be found 4 times in 5; NaN where that is not known: because there are changes, or nothing to vary.
    """

    at: tuple[int, ...]
    detectable: float
    is_ratio: bool


def exact_changes(values: Sequence[float]) -> Changes:
    """Return every place where a value differs from the one before: for counts that repeat exactly."""
    at = tuple(number for number, (before, value) in enumerate(pairwise(values), 1) if before != value)
    return Changes(at=at, detectable=0.0, is_ratio=False)


def level_changes(values: Sequence[float], scale: Scale = "ratio") -> Changes:
    """Return where the level of noisy values changed; of ratios that of their logarithms, where all are positive.

    `values` are finite, and FEWEST at least. The best places for each number of changes are exact (dynamic
    programming); each number has to explain more than it would by chance, with all its places to choose from.
    """
    is_ratio = scale == "ratio" and all(value > 0 for value in values)
    series = np.asarray([log_ratio(1.0, value) for value in values] if is_ratio else values, dtype=float)
    series = series - series.mean()
    count = len(series)
    numbers = range(1, min(count // SEGMENT - 1, MOST) + 1)
    search = KernelCPD(kernel="linear", min_size=SEGMENT).fit(series[:, None])
    ends = [[count], *(search.predict(n_bkps=number) for number in numbers)]
    scatter = np.asarray([squares(series, found) for found in ends])
    if scatter[0] == 0:
        return Changes(at=(), detectable=math.nan, is_ratio=is_ratio)
    scores = np.log(np.maximum(scatter / scatter[0], NOTHING)) - prices(count, len(numbers))
    at = tuple(ends[int(scores.argmin())][:-1])
    return Changes(at=at, detectable=math.nan if at else detectable(series, is_ratio), is_ratio=is_ratio)


def prices(count: int, most: int) -> list[float]:
    """Return what each number of changes has to leave less than, as a logarithm of the scatter: 0 for none.

    Less than as many leave by chance, and less than one more leaves by chance after those before it.
    """
    found = [0.0]
    for number in range(1, most + 1):
        one_more = found[-1] + math.log(by_chance(count - number + 1, 1))
        found.append(min(math.log(by_chance(count, number)), one_more))
    return found


def by_chance(count: int, number: int) -> float:
    """Return the share of the scatter that the best `number` changes leave in noise, or less, as often as allowed.

    For given places that share has the beta distribution; the allowance, halved for each further change, is divided
    by the number of ways to choose the places (Bonferroni).
    """
    ways = math.comb(count - number * (SEGMENT - 1) - SEGMENT, number)
    return float(betaincinv((count - number - 1) / 2, number / 2, FALSE_ALARMS / 2**number / ways))


def squares(series: Launches, ends: Sequence[int]) -> float:
    """Return the sum of squares about the mean of each segment."""
    return sum(float(((part - part.mean()) ** 2).sum()) for part in np.split(series, ends[:-1]))


def detectable(series: Launches, is_ratio: bool) -> float:
    """Return the lasting change halfway that would be found 4 times in 5, from a series without any."""
    count, half, freedom = len(series), len(series) // 2, len(series) - 2
    critical = math.sqrt(freedom * (1 / by_chance(count, 1) - 1))  # of Student's t between the halves
    error = float(series.std(ddof=1)) * math.sqrt(1 / half + 1 / (count - half))
    size = (critical + quantile(POWER, freedom)) * error
    return math.expm1(size) if is_ratio else size
