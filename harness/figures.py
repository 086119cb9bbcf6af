"""Figures: rows -> one value for each case, metric and launch."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pandas as pd

from harness.metrics import TABLE
from harness.outcome import earlier
from harness.spec import Case
from harness.store import Run

MEASURED = ("ok", "interrupted")  # the outcomes whose figures count
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

    def of(self, case: Case, metric: str) -> ByLaunch:
        """Return the values by launch; empty where none was observed."""
        return self.launches.get(case.id, {}).get(metric, {})

    def is_measured(self, case: Case) -> bool:
        """Tell whether the case's figures count: it did not fail."""
        return case.id in self.outcomes and self.outcomes[case.id]["status"] in MEASURED


def figures(run: Run) -> Figures:
    """Reduce a run's rows: for each launch the median over rounds of the median over the steps of a turn."""
    samples = complete(run)
    is_step = samples["metric"] == "step_seconds"
    is_loss = samples["metric"] == "training_loss"
    curves = samples[is_loss]
    turns = samples[is_step & (samples["round"] > 0)]  # round 0 is outside the mirrored rounds
    rounds = quantiles(turns, ["case", "launch", "round"], 0.5)
    reduced = (
        quantiles(rounds, ["case", "launch"], 0.5).assign(metric="step_seconds"),
        quantiles(turns, ["case", "launch"], 0.9).assign(metric="step_p90_seconds"),
        quantiles(samples[~is_step & ~is_loss & (samples["step"] == 0)], ["case", "metric", "launch"], 0.5),
        curves.drop_duplicates(["case", "launch"], keep="last"),  # of a curve, where it ends
    )
    launches: dict[str, dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for frame in reduced:
        for case, metric, launch, value in lines(frame, "case", "metric", "launch", "value"):
            launches[case][metric][launch] = value
    by_round: dict[str, dict[int, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for case, launch, number, value in lines(rounds, "case", "launch", "round", "value"):
        by_round[case][launch][number] = value
    losses: dict[str, dict[int, float]] = defaultdict(dict)
    for case, step, loss in lines(curves[curves["launch"] == 1], "case", "step", "value"):
        losses[case][step] = loss
    return Figures(
        run=run,
        outcomes={outcome["case"]: outcome for outcome in run.outcomes},
        launches={case: derive(found) for case, found in launches.items()},
        rounds=by_round,
        losses=losses,
    )


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
