"""History: a metric of a case over runs, by start time, with the runs at which it changed."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from harness import stats
from harness.changes import FEWEST, Changes, exact_changes, level_changes
from harness.chosen import chosen
from harness.errors import UserError, unknown
from harness.figures import Figures, figures
from harness.metrics import METRICS, Metric
from harness.spec import Case
from harness.stats import Estimate, Judgement
from harness.store import Run, open_run


@dataclass(frozen=True, kw_only=True)
class Point:
    """A run's figure of the case; `value` is None where the case gave none."""

    figures: Figures
    case: Case
    value: Estimate | None

    @property
    def run(self) -> Run:
        """The run."""
        return self.figures.run

    @property
    def is_sound(self) -> bool:
        """Tell whether there is a finite value, as changes are searched in."""
        return self.value is not None and math.isfinite(self.value.center)

    @property
    def setting(self) -> tuple[Any, ...]:
        """What was done, and on which machine and torch: figures compare where it is equal."""
        facts, suite = self.run.facts(self.case), self.run.suite
        return (
            self.run.environment(self.case).get("fingerprint"),
            self.run.meta.get("data", {}).get(self.case.workload.data, {}).get("sha256"),
            *(facts.get(name) for name in ("weights_sha256", "batch_sha256")),
            *(suite.quality_steps, suite.seeds),
        )


@dataclass(frozen=True, kw_only=True)
class Shift:
    """A change of level: the last run before and the first after it, both levels, and how they differ."""

    last: Point
    first: Point
    before: Estimate
    after: Estimate
    judgement: Judgement


@dataclass(frozen=True, kw_only=True)
class Series:
    """The sound points of one setting; `changes` is None where they are too few to tell."""

    setting: tuple[Any, ...]
    line: str
    points: tuple[Point, ...]
    changes: Changes | None
    shifts: tuple[Shift, ...]


@dataclass(frozen=True, kw_only=True)
class History:
    """A metric of a case over runs, and its changes among the runs of each setting."""

    metric: Metric
    case: str
    points: tuple[Point, ...]
    series: tuple[Series, ...]
    refused: Mapping[str, str]
    """Run folders that could not be opened, and why."""


def history(metric: str, case: str, folder: Path) -> History:
    """Return the history of a metric in a case, as `chosen` finds it, over the sealed runs in a folder."""
    if metric not in METRICS:
        raise unknown("metric", metric, METRICS)
    runs, refused = sealed(folder)
    if not runs:
        raise UserError(
            f"no sealed run in {folder}", "make one with `tandem run quick`, or name the folder with --runs"
        )
    named = chosen((item for run in runs for item in run.suite.cases), case)
    points = tuple(point(figures(run), named, metric) for run in runs if named in run.suite.cases)
    if not any(item.value for item in points):
        seen = {name for item in points for name in item.figures.launches.get(named.id, {})}
        raise UserError(f"no run measured {metric} of {named.id}", f"measured: {', '.join(sorted(seen)) or 'nothing'}")
    settings = dict.fromkeys(item.setting for item in points if item.is_sound)
    return History(
        metric=METRICS[metric],
        case=named.id,
        points=points,
        series=tuple(series_of(METRICS[metric], setting, points) for setting in settings),
        refused=refused,
    )


def sealed(folder: Path) -> tuple[list[Run], dict[str, str]]:
    """Return the runs in a folder by start time, and why others could not be opened."""
    runs, refused = [], {}
    for path in sorted(file.parent for file in folder.glob("[!.]*/run.json")):
        try:
            runs.append(open_run(path))
        except UserError as error:
            refused[path.name] = str(error)
    return sorted(runs, key=lambda run: (run.meta.get("started", ""), run.id)), refused


def point(found: Figures, case: Case, metric: str) -> Point:
    """Return a run's figure of a case."""
    values = found.of(case, metric) if found.is_measured(case) else {}
    return Point(figures=found, case=case, value=stats.estimate(values.values()) if values else None)


def series_of(metric: Metric, setting: tuple[Any, ...], points: Sequence[Point]) -> Series:
    """Return the points of one setting, with their changes."""
    own = [item for item in points if item.is_sound and item.setting == setting]
    values = [item.value.center for item in own if item.value]
    is_exact, is_enough = metric.noise == "exact", len(values) >= fewest(metric)
    changes = (exact_changes(values) if is_exact else level_changes(values, metric.scale)) if is_enough else None
    return Series(
        setting=setting,
        line=own[0].run.environment(own[0].case).get("line", "unknown machine"),
        points=tuple(own),
        changes=changes,
        shifts=tuple(shifts(metric, own, values, changes.at)) if changes else (),
    )


def fewest(metric: Metric) -> int:
    """Return from how many runs on something can be told."""
    return 2 if metric.noise == "exact" else FEWEST


def shifts(metric: Metric, points: Sequence[Point], values: Sequence[float], at: Sequence[int]) -> list[Shift]:
    """Return each change with the levels on both sides of it."""
    levels = [values[start:end] for start, end in pairwise([0, *at, len(values)])]
    return [
        Shift(
            last=points[place - 1],
            first=points[place],
            before=stats.estimate(before),
            after=stats.estimate(after),
            judgement=judge(metric, before, after),
        )
        for place, (before, after) in zip(at, pairwise(levels), strict=True)
    ]


def judge(metric: Metric, before: Sequence[float], after: Sequence[float]) -> Judgement:
    """Return how two levels differ, each run a value; that it is a change is known, so the margin is 0."""
    if metric.noise == "exact":
        return stats.judge_exact(before, after)
    return replace(stats.judge_unpaired(before, after, 0.0, metric.better, scale=metric.scale), needed=None)
