"""Policy: what the gate holds against a change, how sure it has to be and what is allowed, from a TOML file."""

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from datetime import date, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from harness.errors import UserError, unknown
from harness.metrics import METRICS, SPREAD
from harness.stopwatch import seconds

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Unsure = Literal["warn", "fail"]
KEYS = ("allow", "budget", "margins", "unsure")
TABLE = "tool.tandem.gate"
OUTCOME = "outcome"  # what the gate calls the way a case ended


@dataclass(frozen=True, kw_only=True)
class Margin:
    """By how much a metric may get worse, in the cases or blocks that a pattern names.

    Relative (0.05 is 5 %); of a metric that is compared by difference, as accuracy is, in its unit (0.01 is a point).
    """

    metric: str
    value: float
    case: str = "*"

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise unknown("metric", self.metric, METRICS)
        if type(self.value) not in (int, float) or not 0 <= self.value < 1:
            raise UserError(f"the margin is {self.value!r}", "give a share of 0 or more and below 1; 0.05 is 5 %")
        if self.value and METRICS[self.metric].noise == "exact":
            raise UserError(f"{self.metric} repeats exactly, its margin is 0", "leave it out, or allow the cases")
        if self.metric not in SPREAD and METRICS[self.metric].noise != "exact":
            raise UserError(f"a gate does not judge {self.metric}", f"give the margin of one of {', '.join(SPREAD)}")
        if not self.case:
            raise UserError("the pattern after @ is empty", "name cases, such as bert-*")

    @property
    def specificity(self) -> int:
        """How many letters of a name the pattern fixes."""
        return sum(letter not in "*?[]" for letter in self.case)


@dataclass(frozen=True, kw_only=True)
class Allowance:
    """A regression that is accepted for a reason, up to and including a day."""

    case: str
    reason: str
    expires: date
    metric: str = "*"

    def __post_init__(self) -> None:
        for name in ("case", "metric", "reason"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value.strip():
                raise UserError(f"{name} is {value!r}", "write it out")
        if not isinstance(self.expires, date) or isinstance(self.expires, datetime):
            raise UserError(f"expires is {str(self.expires)!r}", "give a day without quotes, such as 2027-01-31")
        if not any(fnmatchcase(metric, self.metric) for metric in (*METRICS, OUTCOME)):
            raise unknown("metric", self.metric, [*METRICS, OUTCOME])

    def covers(self, metric: str) -> bool:
        """Tell whether it is about a metric; a failing case is allowed only where `outcome` is named."""
        return metric == self.metric if metric == OUTCOME else fnmatchcase(metric, self.metric)


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What the gate goes by. `budget` is in seconds; patterns are those of a shell, for case ids and block names."""

    margins: tuple[Margin, ...] = ()
    unsure: Unsure = "warn"
    budget: float | None = None
    allowed: tuple[Allowance, ...] = ()

    def __post_init__(self) -> None:
        if self.unsure not in get_args(Unsure):
            raise unknown("value of unsure", str(self.unsure), get_args(Unsure))
        if self.budget is not None and not 0 < self.budget < math.inf:
            raise UserError(f"budget is {self.budget!r}", "give a time above 0, such as 90, 90s, 10m or 1h")
        known: dict[tuple[str, str], float] = {}
        for item in self.margins:
            if known.setdefault((item.metric, item.case), item.value) != item.value:
                both = f"{known[item.metric, item.case]} and {item.value}"
                raise UserError(f"{item.metric} @ {item.case} has two margins, {both}", "keep one")

    def margin(self, metric: str, *names: str) -> float:
        """Return the margin of a metric in a case by any of its names: the most specific, of equals the last."""
        found = [item for item in self.margins if item.metric == metric and matches(item.case, names)]
        # `max` keeps the first of equals
        return max(reversed(found), key=lambda item: item.specificity).value if found else METRICS[metric].margin

    def allowance(self, metric: str, today: date, *names: str) -> Allowance | None:
        """Return what allows a case, by any of its names, to be worse in a metric today; its outcome only by name."""
        return next(
            (
                item
                for item in self.allowed
                if today <= item.expires and item.covers(metric) and matches(item.case, names)
            ),
            None,
        )

    def idle(self, names: Sequence[str]) -> list[str]:
        """Return the patterns that fit none of the names of cases and blocks."""
        patterns = [item.case for item in self.margins] + [item.case for item in self.allowed]
        return [pattern for pattern in dict.fromkeys(patterns) if not matches(pattern, names)]

    def to_json(self) -> dict[str, Any]:
        """Return the policy as plain data; `Policy.from_json` gives it back."""
        data = asdict(self)
        return {**data, "allowed": [{**item, "expires": str(item["expires"])} for item in data["allowed"]]}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> "Policy":
        """Return the policy that `data` describes."""
        allowed = [{**item, "expires": date.fromisoformat(item["expires"])} for item in data["allowed"]]
        return Policy(
            margins=tuple(Margin(**item) for item in data["margins"]),
            unsure=data["unsure"],
            budget=data["budget"],
            allowed=tuple(Allowance(**item) for item in allowed),
        )


def matches(pattern: str, names: Sequence[str]) -> bool:
    """Tell whether a pattern fits one of the names of a case."""
    return any(fnmatchcase(name, pattern) for name in names)


def read_policy(path: Path | None, folder: Path) -> Policy:
    """Return the policy of a file, or of the nearest pyproject.toml from `folder` upwards, or else the defaults.

    Every mistake in it is a UserError that names the file and the key.
    """
    if path is None:
        above = (place / "pyproject.toml" for place in (folder.resolve(), *folder.resolve().parents))
        path = next((file for file in above if file.is_file()), None)
        return policy_of(table(path, is_needed=False), path) if path else Policy()
    return policy_of(table(path, is_needed=True), path)


def table(path: Path, *, is_needed: bool) -> Mapping[str, Any]:
    """Return the gate's table of a TOML file; of one without [tool], the whole file."""
    try:
        data: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"no policy {str(path)!r}: {error.strerror}", "give the path of a TOML file") from None
    except ValueError as error:  # of tomllib, or of text that is no UTF-8
        raise UserError(f"{path} is no TOML: {error}", "mend that line") from None
    if "tool" not in data and path.name != "pyproject.toml":
        return data
    outer = of_kind(dict, of_kind(dict, data.get("tool", {}), path, "tool").get("tandem", {}), path, "tool.tandem")
    check(outer, ("gate",), path, "tool.tandem")
    if "gate" not in outer and is_needed:
        raise UserError(f"{path} holds no [{TABLE}]", "write one")
    return of_kind(dict, outer.get("gate", {}), path, TABLE)


def policy_of(data: Mapping[str, Any], path: Path) -> Policy:
    """Return the policy that a table describes."""
    check(data, KEYS, path, "gate")
    with place(path, "budget"):
        budget = budget_of(data.get("budget"))
    margins = tuple(margins_of(of_kind(dict, data.get("margins", {}), path, "margins"), path))
    allowed = tuple(allowances_of(of_kind(list, data.get("allow", []), path, "allow"), path))
    with place(path, "gate"):
        return Policy(margins=margins, unsure=data.get("unsure", "warn"), budget=budget, allowed=allowed)


def budget_of(value: Any) -> float | None:
    """Return the seconds of a number, or of a text such as "10m"."""
    try:
        return seconds(None if value is None else str(value))
    except UserError:
        raise UserError(f"{value!r} is no time", 'write seconds, or for instance "90s", "10m" or "1h"') from None


def margins_of(data: Mapping[str, Any], path: Path) -> Iterator[Margin]:
    """Yield the margins: `METRIC = share`, or `"METRIC @ PATTERN" = share`."""
    for key, value in data.items():
        metric, at, case = (part.strip() for part in key.partition("@"))
        with place(path, f"margins: {key!r}"):
            yield Margin(metric=metric, case=case if at else "*", value=value)


def allowances_of(data: Sequence[Any], path: Path) -> Iterator[Allowance]:
    """Yield the allowances, each a table."""
    for number, item in enumerate(data, 1):
        name = f"allow {number}"
        given = of_kind(dict, item, path, name)
        check(given, tuple(field.name for field in fields(Allowance)), path, name)
        for needed in ("case", "reason", "expires"):
            if needed not in given:
                raise UserError(f"{path}: {name} has no {needed}", "an allowance names case, reason and expires")
        with place(path, name):
            yield Allowance(**given)


@contextmanager
def place(path: Path, key: str) -> Iterator[None]:
    """Put file and key before what is wrong there."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{path}: {key}: {error}") from None


Kind = TypeVar("Kind", dict[str, Any], list[Any])


def of_kind(kind: type[Kind], value: Any, path: Path, key: str) -> Kind:
    """Return a table or a list of tables; raise UserError where it is something else."""
    if not isinstance(value, kind):
        form = f"[{key}]" if kind is dict else f"[[{key}]]"
        raise UserError(f"{path}: {key} is {value!r}", f"write it as {form}")
    return value


def check(data: Mapping[str, Any], known: Sequence[str], path: Path, key: str) -> None:
    """Refuse a key that nobody reads."""
    with place(path, key):
        for name in data:
            if name not in known:
                raise unknown("key", name, known)
