"""Figures: rows -> one value for each case, metric and launch."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pandas as pd

from harness.metrics import METRICS, QUALITY, TABLE
from harness.outcome import earlier
from harness.spec import Case
from harness.stats import UNSETTLED
from harness.store import Run

EXACT = {metric.name for metric in TABLE if metric.noise == "exact"}
ByLaunch = Mapping[int, float]


@dataclass(frozen=True, kw_only=True)
class Figures:
    """A run reduced: its rows to launches, its step times to rounds for pairing, its outcomes by case."""

    run: Run
    outcomes: Mapping[str, Mapping[str, Any]]
    launches: Mapping[str, Mapping[str, ByLaunch]]
    """Case -> metric -> launch -> value; derived metrics included."""

    rounds: Mapping[str, Mapping[int, Mapping[int, float]]]
    """Case -> launch -> round -> median seconds of the steps of that turn."""

    losses: Mapping[str, Mapping[int, float]]
    """Case -> step -> training loss, of the first launch."""

    curves: Mapping[str, Mapping[str, Mapping[int, ByLaunch]]]
    """Case -> metric -> launch -> step -> score after that many steps; at least the figure, at the end."""

    def of(self, case: Case, metric: str) -> ByLaunch:
        """Return the values by launch; empty where none was observed."""
        return self.launches.get(case.id, {}).get(metric, {})

    def missed(self, case: Case) -> tuple[int, int]:
        """Return in how many launches the recipe's target was not reached, and in how many it was scored."""
        goal = case.workload.recipe.goal
        scored = self.of(case, goal[0]) if goal else {}
        return len(scored.keys() - self.of(case, "steps_to_quality").keys()), len(scored)

    def stated(self, *cases: Case) -> str | None:
        """Return the metric by which the quality of cases is told: the first that their task scores."""
        scored = (metric for case in cases for metric in self.launches.get(case.id, {}) if metric in QUALITY)
        return next(scored, None)

    def is_measured(self, case: Case) -> bool:
        """Tell whether the case has figures that count: it did not fail, and a launch of it is complete."""
        has_launch = any(self.launches.get(case.id, {}).values())
        return has_launch and self.outcomes.get(case.id, {}).get("status") == "ok"

    def is_settled(self, case: Case) -> bool:
        """Tell whether the case was steady before it was timed, in every launch."""
        return UNSETTLED not in [warning["code"] for warning in self.outcomes.get(case.id, {}).get("warnings", [])]


def figures(run: Run) -> Figures:
    """Reduce a run's rows: for each launch the median over rounds of the median over the steps of a turn."""
    samples = complete(run)
    is_step = samples["metric"] == "step_seconds"
    is_loss = samples["metric"] == "training_loss"
    is_point = ~is_step & ~is_loss & (samples["step"] > 0)  # of a learning curve; the figure has step 0
    losses_seen = samples[is_loss]
    turns = samples[is_step & (samples["round"] > 0)]  # round 0 is outside the mirrored rounds
    rounds = quantiles(turns, ["case", "launch", "round"], 0.5)
    reduced = (
        quantiles(rounds, ["case", "launch"], 0.5).assign(metric="step_seconds"),
        quantiles(turns, ["case", "launch"], 0.9).assign(metric="step_p90_seconds"),
        quantiles(samples[~is_step & ~is_loss & ~is_point], ["case", "metric", "launch"], 0.5),
        losses_seen.drop_duplicates(["case", "launch"], keep="last"),  # of a curve, where it ends
    )
    launches: dict[str, dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for frame in reduced:
        for case, metric, launch, value in lines(frame, "case", "metric", "launch", "value"):
            launches[case][metric][launch] = value
    by_round: dict[str, dict[int, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for case, launch, number, value in lines(rounds, "case", "launch", "round", "value"):
        by_round[case][launch][number] = value
    losses: dict[str, dict[int, float]] = defaultdict(dict)
    for case, step, loss in lines(losses_seen[losses_seen["launch"] == 1], "case", "step", "value"):
        losses[case][step] = loss
    curves = curves_of(samples[is_point], launches, run)
    for case in run.suite.cases:
        if goal := case.workload.recipe.goal:
            launches[case.id] |= to_quality(curves[case.id][goal[0]], launches[case.id], *goal)
    return Figures(
        run=run,
        outcomes={outcome["case"]: outcome for outcome in run.outcomes},
        launches={case: derive(found) for case, found in launches.items()},
        rounds=by_round,
        losses=losses,
        curves=curves,
    )


Curves = dict[str, dict[str, dict[int, dict[int, float]]]]
Launches = Mapping[str, Mapping[str, Mapping[int, float]]]


def curves_of(points: pd.DataFrame, launches: Launches, run: Run) -> Curves:
    """Return the learning curves: the scores on the way, or the figure of the launch where training ended."""
    curves: Curves = defaultdict(lambda: defaultdict(lambda: defaultdict(dict)))
    for case, metric, launch, step, value in lines(points, "case", "metric", "launch", "step", "value"):
        curves[case][metric][launch][step] = value
    for case, found in launches.items():
        for metric in QUALITY:
            for launch, value in found.get(metric, {}).items():
                end = int(found.get("steps_trained", {}).get(launch, run.suite.quality_steps))
                curves[case][metric][launch].setdefault(end, value)
    return curves


def to_quality(
    curves: Mapping[int, Mapping[int, float]], observed: Mapping[str, ByLaunch], metric: str, goal: float
) -> dict[str, dict[int, float]]:
    """Return steps and seconds until a score of `metric` reaches the goal, of the launches in which one does."""
    sign = 1.0 if METRICS[metric].better == "higher" else -1.0
    reached = {
        launch: [step for step in curve if sign * curve[step] >= sign * goal] for launch, curve in curves.items()
    }
    steps = {launch: float(min(found)) for launch, found in reached.items() if found}
    times = observed.get("step_seconds", {})
    seconds = {launch: count * times[launch] for launch, count in steps.items() if launch in times}
    return {"steps_to_quality": steps, "time_to_quality_seconds": seconds}


def complete(run: Run) -> pd.DataFrame:
    """Return the rows of a run without those of launches that an interruption, or a case's failure, cut short."""
    samples = run.samples()
    failed = {(item["case"], warning["launch"]) for item in run.outcomes if (warning := earlier(item))}
    if run.meta.get("status") != "interrupted" and not failed:
        return samples
    done = {
        (case.id, launch)
        for block in run.suite.blocks
        for case in block.cases
        for launch in run.meta.get("launches", {}).get(block.name, [])
    }
    done -= failed
    is_kept = [key in done for key in lines(samples, "case", "launch")]
    kept: pd.DataFrame = samples[pd.Series(is_kept, index=samples.index, dtype=bool)]
    return kept


def quantiles(frame: pd.DataFrame, keys: Sequence[str], share: float) -> pd.DataFrame:
    """Return a quantile of each group; a group that holds a NaN is NaN, for pandas would leave it out."""
    groups = frame.groupby(list(keys), observed=True, sort=False)["value"]
    found = groups.median() if share == 0.5 else groups.quantile(share)
    reduced: pd.DataFrame = found.where(groups.count() == groups.size()).reset_index()
    return reduced


def lines(frame: pd.DataFrame, *columns: str) -> Iterator[tuple[Any, ...]]:
    """Yield the rows as plain Python values."""
    yield from zip(*(frame[column].tolist() for column in columns), strict=True)


def derive(observed: Mapping[str, ByLaunch]) -> dict[str, ByLaunch]:
    """Return a case's figures with those that can be computed from them, launch by launch."""
    derived: dict[str, dict[int, float]] = {}
    counts = {name: next(iter(values.values())) for name, values in observed.items() if name in EXACT}
    for launch in observed.get("step_seconds", {}):
        # a count that a later launch did not repeat is the same there
        known = counts | {name: by_launch[launch] for name, by_launch in observed.items() if launch in by_launch}
        for metric in TABLE:
            if metric.derive:
                with suppress(KeyError, ZeroDivisionError):
                    derived.setdefault(metric.name, {})[launch] = metric.derive(known)
    return {**observed, **derived}
