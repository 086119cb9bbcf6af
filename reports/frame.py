"""Frame: a run reduced to what the views read; the only place where a report's figures are made."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from harness import stats
from harness.compare import BreakEven, Comparison, Overall, against_baselines, break_even, overall, rungs
from harness.figures import Figures, figures
from harness.gate import ruling
from harness.metrics import METRICS, TABLE
from harness.spec import Block, Case
from harness.store import Run
from harness.verdict import Ruling
from reports.document import CaseResult, Quantity, Result

NEVER_STARTED = {"status": "interrupted", "reason": "the run ended before this case", "facts": {}, "warnings": []}


@dataclass(frozen=True, kw_only=True)
class Frame:
    """A run, its figures by launch, and every comparison within it."""

    run: Run
    figures: Figures
    comparisons: Mapping[tuple[str, str], Comparison]
    """(case, metric) -> the case against its baseline."""
    rungs: Mapping[str, Comparison]
    """Case -> the case against the rung of the ladder before it, in step time."""
    overall: tuple[Overall, ...]
    gate: Ruling | None = None

    def quantity(self, case: Case, metric: str) -> Quantity | None:
        """Return a case's estimate over launches, or None where the metric was not observed."""
        values = self.figures.of(case, metric)
        return Quantity(estimate=stats.estimate(values.values()), unit=METRICS[metric].unit) if values else None

    def center(self, case: Case, metric: str) -> float | None:
        """Return the centre of a case's estimate, for a chart."""
        quantity = self.quantity(case, metric)
        return quantity.estimate.center if quantity else None

    def outcome(self, case: Case) -> Mapping[str, Any]:
        """Return how a case ended: status, reason, facts, warnings."""
        return self.figures.outcomes.get(case.id, NEVER_STARTED)

    def comparison(self, case: Case, metric: str) -> Comparison | None:
        """Return a case against its baseline."""
        return self.comparisons.get((case.id, metric))

    def rung(self, case: Case) -> Comparison | None:
        """Return a case against the rung of the ladder before it."""
        return self.rungs.get(case.id)

    def break_even(self, block: Block, case: Case) -> BreakEven | None:
        """Return after how many steps a compiled case has paid for its first ones."""
        comparison = self.comparison(case, "step_seconds")
        needed = [
            self.center(block.baseline_case, "step_seconds"),
            self.center(block.baseline_case, "cold_start_seconds"),
            self.center(case, "cold_start_seconds"),
        ]
        if case.variant.compile == "none" or comparison is None or None in needed:
            return None
        step, base_cold, cold = (value or 0.0 for value in needed)
        return break_even(cold - base_cold, step, comparison.judgement, self.run.suite.checked_steps(case.workload))

    def hardware(self, *cases: Case) -> tuple[str, ...]:
        """Return the hardware lines of where the cases ran, each once."""
        environments = map(self.run.environment, cases)
        return tuple(dict.fromkeys(environment["line"] for environment in environments if "line" in environment))


def frame_of(run: Run) -> Frame:
    """Reduce a run."""
    found = figures(run)
    return Frame(
        run=run,
        figures=found,
        comparisons={(item.case, item.metric): item for item in against_baselines(found)},
        rungs={item.case: item for item in rungs(found)},
        overall=tuple(overall(found)),
        gate=ruling(found),
    )


def result_of(frame: Frame) -> Result:
    """Return a run as data."""
    run = frame.run
    return Result(
        run={
            "id": run.id,
            "suite": run.suite.name,
            "question": run.suite.question,
            "status": run.meta["status"],
            "seconds": run.meta["seconds"],
            "command": run.meta.get("command"),
            "data": run.meta.get("data"),
            "started": run.meta.get("started"),
            "commit": run.meta.get("commit"),
            **{name: run.meta[name] for name in ("measuring", "price_per_hour") if name in run.meta},
        },
        environments=run.environments,
        cases=tuple(case_result(frame, block, case) for block in run.suite.blocks for case in block.cases),
        comparisons=tuple(frame.comparisons.values()),
        overall=frame.overall,
        gate=frame.gate,
    )


def case_result(frame: Frame, block: Block, case: Case) -> CaseResult:
    """Return a case as data."""
    outcome = frame.outcome(case)
    quantities = {metric.name: frame.quantity(case, metric.name) for metric in TABLE}
    return CaseResult(
        case=case.id,
        block=block.name,
        workload=asdict(case.workload),
        variant=asdict(case.variant),
        outcome=outcome["status"],
        reason=outcome["reason"],
        metrics={name: quantity for name, quantity in quantities.items() if quantity},
        facts=outcome["facts"],
        warnings=tuple(outcome["warnings"]),
        launches=tuple(frame.figures.of(case, "step_seconds").values()),
        score=frame.figures.stated(*block.cases),
    )
