"""The outcome of a case: how it ended, as the run's `outcomes.json` keeps it, and whether it may try again."""

from collections.abc import Mapping
from typing import Any

FLAKY = ("error", "oom", "timeout")  # what a fresh launch may not repeat; numbers that are wrong are wrong again
FAILED_ONCE = "failed once"

Outcome = Mapping[str, Any]


def is_owed(outcome: Outcome) -> bool:
    """Tell whether a failed case may still be given a fresh launch: it has not had one."""
    return outcome["status"] in FLAKY and earlier(outcome) is None


def is_due(outcome: Outcome, launch: int) -> bool:
    """Tell whether this launch is a failed case's fresh one: not begun, or cut short by an interruption."""
    warning = earlier(outcome)
    return is_owed(outcome) or (outcome["status"] == "ok" and warning is not None and warning["launch"] == launch - 1)


def earlier(outcome: Outcome) -> Mapping[str, Any] | None:
    """Return the warning of a case that failed and was given a fresh launch."""
    return next((warning for warning in outcome["warnings"] if warning["code"] == FAILED_ONCE), None)
