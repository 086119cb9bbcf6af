"""Calibration: how a machine's own probes took then and now, and by how much that may differ. Pure."""

import math
from collections.abc import Mapping
from typing import Any

DRIFT = 0.05  # docs/measuring.md, "Across runs": calibration probes must agree within this


def strayed(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Return the probes of an environment in which another one disagrees, or that it lacks."""
    probes, own = (environment.get("calibration", {}) for environment in (before, after))
    times = {probe: ratio(seconds, own.get(probe)) for probe, seconds in probes.items()}
    return [probe for probe, found in times.items() if not abs(math.log(found)) <= math.log1p(DRIFT)]


def ratio(before: Any, after: Any) -> float:
    """Return how many times as long a probe took, NaN where one of both is no time."""
    try:
        times = float(after) / float(before)
    except (TypeError, ValueError, ZeroDivisionError):
        return math.nan
    return times if 0 < times < math.inf else math.nan
