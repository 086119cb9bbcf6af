"""The running comparison of a block: paired log ratios of its variants to the baseline, one a launch."""

from collections.abc import Sequence
from statistics import median

from harness.spec import Block
from harness.stats import paired_log_ratio
from harness.store import Row


class Ratios:
    """The paired log ratios of a block's variants to its baseline, one a launch."""

    def __init__(self, block: Block) -> None:
        self.baseline = block.baseline_case.id
        self.by_case: dict[str, list[float]] = {case.id: [] for case in block.cases if case.id != self.baseline}

    def add(self, rows: Sequence[Row]) -> None:
        """Add a launch: the rows of its timed steps."""
        medians = round_medians(rows)
        for case, ratios in self.by_case.items():
            pair = medians.get(self.baseline, {}), medians.get(case, {})
            if pair[0].keys() & pair[1].keys():
                ratios.append(paired_log_ratio(*pair))

    def values(self) -> list[list[float]]:
        """Return the ratios of the variants that have any."""
        return [ratios for ratios in self.by_case.values() if ratios]


def round_medians(rows: Sequence[Row]) -> dict[str, dict[int, float]]:
    """Return case -> round -> median seconds of a step."""
    steps: dict[str, dict[int, list[float]]] = {}
    for case, _, number, _, _, metric, value in rows:
        if metric == "step_seconds":
            steps.setdefault(case, {}).setdefault(number, []).append(value)
    return {case: {number: median(values) for number, values in rounds.items()} for case, rounds in steps.items()}
