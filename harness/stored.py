"""The gate on two stored runs, which share no session: only what compares, and with a wider margin."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date

from harness import looks, passport
from harness.calibration import DRIFT
from harness.compare import unlike_places, unlike_work
from harness.errors import UserError
from harness.figures import Figures
from harness.metrics import METRICS, SPREAD
from harness.policy import OUTCOME, Policy
from harness.spec import Block, Case
from harness.stats import level
from harness.store import Run
from harness.verdict import OVERALL, Ruling, Verdict, concluded, counts, decided, ended, steady, turned


def stored(base: Figures, candidate: Figures, policy: Policy, today: date) -> Ruling:
    """Return what the gate says of two stored runs; raise UserError where they are not comparable."""
    known = {case.id for case in candidate.run.suite.cases}
    both = [(block, case) for block in base.run.suite.blocks for case in block.cases]
    shared = [(block, case) for block, case in both if case.id in known]
    refuse_unlike(base.run, candidate.run, [case for _, case in shared])
    gone = [
        Verdict(block=block.name, case=case.id, metric=OUTCOME, reason="the candidate's suite lacks it")
        for block, case in both
        if case.id not in known
    ]
    judged = [verdict for block, case in shared for verdict in of_sessions(base, candidate, block, case, policy)]
    together = of_all_sessions(base, candidate, [case for _, case in shared], policy)
    return concluded(base.run.id, candidate.run.id, [*gone, *judged, *together], policy, today)


def refuse_unlike(base: Run, candidate: Run, shared: Sequence[Case]) -> None:
    """Raise UserError for two runs whose figures do not compare: no verdict is better than a wrong one."""
    if not shared:
        raise UserError(f"runs {base.id} and {candidate.id} share no case", "gate two runs of the same suite")
    if differences := [*unlike_work(base, candidate, shared), *unlike_places(base, candidate, shared)]:
        fields = "; ".join(f"{item.field}: {item.base} against {item.candidate}" for item in differences)
        raise UserError(
            f"runs {base.id} and {candidate.id} are not comparable: {fields}{changed((base, candidate), shared)}",
            "measure both sides in one `tandem gate SUITE`",
        )


def changed(runs: Sequence[Run], shared: Sequence[Case]) -> str:
    """Return which of some runs found its machine unlike the passport that it has, if any did."""
    places = [(run, place) for run in runs for place in dict.fromkeys(map(run.place, shared))]
    told = [
        f"; in {run.id} {passport.told(changes)}"
        for run, place in places
        if (changes := passport.of_run(run.meta, place).changes(run.environments.get(place, {})))
    ]
    return "".join(told)


def of_sessions(base: Figures, candidate: Figures, block: Block, case: Case, policy: Policy) -> Iterator[Verdict]:
    """Yield the verdicts on one case of two runs; times may stray by as much as the calibration probes may."""
    blank = Verdict(block=block.name, case=case.id, metric=OUTCOME)
    yield ended(blank, base.outcomes.get(case.id), candidate.outcomes.get(case.id))
    if not (base.is_measured(case) and candidate.is_measured(case)):
        return
    unsettled = [side.run.id for side in (base, candidate) if not side.is_settled(case)]
    for metric in SPREAD:
        before, after = (levels(side, case, metric) for side in (base, candidate))
        if len(before) == len(after) == 1 and before == after:  # as the loss of one seed, where nothing has changed
            yield replace(blank, metric=metric, verdict="pass", reason="the same in the one launch of each", launches=1)
        elif before or after:
            stray = DRIFT if METRICS[metric].noise == "timed" else 0.0
            margin = max(policy.margin(metric, case.id, block.name), stray)
            decision = looks.between([before], [after], margin, METRICS[metric].scale)
            yield steady(decided(replace(blank, metric=metric), decision), unsettled)
    yield from counts(blank, base, case, candidate, case)


def of_all_sessions(base: Figures, candidate: Figures, cases: Sequence[Case], policy: Policy) -> Iterator[Verdict]:
    """Yield the verdict on the geometric mean of step times over the cases that both runs measured."""
    metric = "step_seconds"
    measured = [case for case in cases if levels(base, case, metric) and levels(candidate, case, metric)]
    if len(measured) > 1:
        before, after = ([levels(side, case, metric) for case in measured] for side in (base, candidate))
        margin = max(policy.margin(metric, OVERALL), DRIFT)
        unsettled = [case.id for case in measured if not (base.is_settled(case) and candidate.is_settled(case))]
        blank = Verdict(block=OVERALL, case=OVERALL, metric=metric)
        yield steady(decided(blank, looks.between(before, after, margin)), unsettled)


def levels(side: Figures, case: Case, metric: str) -> list[float]:
    """Return a figure, one a launch, as its log where ratios are compared, turned so that above is worse."""
    values = side.of(case, metric).values() if side.is_measured(case) else ()
    return turned([level(value, METRICS[metric].scale) for value in values], metric)
