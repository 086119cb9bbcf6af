"""The running comparison of a block: log ratios to the baseline, of shares differences, one a launch."""

from collections.abc import Sequence
from statistics import median

from harness.metrics import METRICS, SPREAD
from harness.spec import Block
from harness.stats import effect, paired_log_ratio
from harness.store import Row


class Ratios:
    """The log ratios of a block's variants to its baseline, one a launch; those of step times paired by round."""

    def __init__(self, block: Block) -> None:
        self.baseline = block.baseline_case.id
        self.others = [case.id for case in block.cases if case.id != self.baseline]
        self.by_metric: dict[str, dict[str, dict[int, float]]] = {}
        """Metric -> case -> launch -> effect: a log ratio, or a difference."""
        self.launches = 0

    @property
    def by_case(self) -> dict[str, list[float]]:
        """Those of the step times, in order."""
        return {case: [*ratios.values()] for case, ratios in self.by_metric.get("step_seconds", {}).items()}

    def add(self, rows: Sequence[Row]) -> None:
        """Add a launch: all its rows."""
        self.launches += 1
        medians = round_medians(rows)
        for case in self.others:
            pair = medians.get(self.baseline, {}), medians.get(case, {})
            if pair[0].keys() & pair[1].keys():
                self.put("step_seconds", case, paired_log_ratio(*pair))
        values = {
            (case, metric): value
            for case, _, _, _, step, metric, value in rows
            if metric in SPREAD[1:] and step == 0  # the others are points of a learning curve
        }
        for case, metric in values:
            if case in self.others and (self.baseline, metric) in values:
                scale = METRICS[metric].scale
                self.put(metric, case, effect(values[self.baseline, metric], values[case, metric], scale))

    def put(self, metric: str, case: str, ratio: float) -> None:
        """Add one launch's ratio or difference."""
        self.by_metric.setdefault(metric, {}).setdefault(case, {})[self.launches] = ratio


def round_medians(rows: Sequence[Row]) -> dict[str, dict[int, float]]:
    """Return case -> round -> median seconds of a step."""
    steps: dict[str, dict[int, list[float]]] = {}
    for case, _, number, _, _, metric, value in rows:
        if metric == "step_seconds":
            steps.setdefault(case, {}).setdefault(number, []).append(value)
    return {case: {number: median(values) for number, values in rounds.items()} for case, rounds in steps.items()}
