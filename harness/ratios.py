"""The running comparison of a block: log ratios of its variants to the baseline, one a launch."""

from collections.abc import Mapping, Sequence
from statistics import median

from harness.spec import Block
from harness.stats import log_ratio, paired_log_ratio
from harness.store import Row

WATCHED = ("memory_peak_bytes", "memory_peak_maxrss_bytes", "memory_reserved_bytes", "held_out_loss")


class Ratios:
    """The log ratios of a block's variants to its baseline, one a launch; those of step times paired by round."""

    def __init__(self, block: Block) -> None:
        self.baseline = block.baseline_case.id
        self.others = [case.id for case in block.cases if case.id != self.baseline]
        self.by_metric: dict[str, dict[str, list[float]]] = {}
        self.launches = 0

    @property
    def by_case(self) -> Mapping[str, Sequence[float]]:
        """Those of the step times."""
        return self.by_metric.get("step_seconds", {})

    def add(self, rows: Sequence[Row]) -> None:
        """Add a launch: all its rows."""
        self.launches += 1
        medians = round_medians(rows)
        for case in self.others:
            pair = medians.get(self.baseline, {}), medians.get(case, {})
            if pair[0].keys() & pair[1].keys():
                self.put("step_seconds", case, paired_log_ratio(*pair))
        values = {(case, metric): value for case, _, _, _, _, metric, value in rows if metric in WATCHED}
        for case, metric in values:
            if case in self.others and (self.baseline, metric) in values:
                self.put(metric, case, log_ratio(values[self.baseline, metric], values[case, metric]))

    def put(self, metric: str, case: str, ratio: float) -> None:
        """Add one launch's ratio."""
        self.by_metric.setdefault(metric, {}).setdefault(case, []).append(ratio)

    def values(self) -> list[Sequence[float]]:
        """Return the ratios of step times of the variants that have any."""
        return [*self.by_case.values()]


def round_medians(rows: Sequence[Row]) -> dict[str, dict[int, float]]:
    """Return case -> round -> median seconds of a step."""
    steps: dict[str, dict[int, list[float]]] = {}
    for case, _, number, _, _, metric, value in rows:
        if metric == "step_seconds":
            steps.setdefault(case, {}).setdefault(number, []).append(value)
    return {case: {number: median(values) for number, values in rounds.items()} for case, rounds in steps.items()}
