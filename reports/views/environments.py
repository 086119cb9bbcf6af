"""On what machine and torch it was measured."""

from collections.abc import Mapping
from typing import Any

from reports.document import Section, Table
from reports.frame import Frame

ORDER = 105
FIRST = ("line", "device", "cpu", "gpu", "torch", "python", "system")
WHOLE = 160  # characters of a value; torch's build tells more than anyone reads
UNKNOWN = {"governor": "not told", "turbo": "not told", "cpu_quota": "no limit", "memory_limit_gib": "no limit"}


def view(frame: Frame) -> Section:
    """Return what is known of each environment, a column for each."""
    environments = {label: told(facts) for label, facts in frame.run.environments.items()}
    names = dict.fromkeys(name for facts in environments.values() for name in facts)
    ordered = [*(name for name in FIRST if name in names), *(name for name in names if name not in FIRST)]
    rows = tuple((name.replace("_", " "), *(facts.get(name) for facts in environments.values())) for name in ordered)
    table = Table(title="Environments", columns=("what", *environments), rows=rows)
    return Section(title="Environments", question="On what was it measured?", items=(table,) if rows else ())


def told(facts: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return an environment's facts as texts, those in groups with the group's name before theirs."""
    found: dict[str, str] = {}
    for name, known in facts.items():
        value = UNKNOWN.get(name) if known is None else known
        if isinstance(value, Mapping):
            found |= told(value, f"{prefix}{name} ")
        elif value is not None and value != "":
            text = f"{value:.4g}" if isinstance(value, float) else str(value)
            found[f"{prefix}{name}"] = text if len(text) <= WHOLE else f"{text[:WHOLE]}..."
    return found
