"""The gate: a run of base, candidate and control, measured side by side -> its verdicts."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date
from typing import Any

from harness import looks
from harness.compare import effects_of
from harness.figures import Figures
from harness.looks import Decision
from harness.metrics import METRICS, SPREAD
from harness.outcome import is_owed
from harness.policy import OUTCOME, Policy
from harness.ratios import Ratios
from harness.spec import Block
from harness.verdict import OVERALL, Ruling, Verdict, allow, concluded, counts, decided, ended, steady, turned

LAUNCHES = 2 * looks.LOOKS[-1]  # the last look, and as many to confirm it


def settled(policy: Policy) -> Callable[[Block, Ratios], bool]:
    """Return what tells whether a block needs no further launch: every metric is decided, or one side has failed."""

    def is_enough(block: Block, ratios: Ratios) -> bool:
        _, candidate, control = (case.id for case in block.cases)
        if ratios.launches == 0:
            return False
        timed = ratios.by_metric.get("step_seconds", {})
        if any(ratios.launches not in timed.get(case, {}) for case in (candidate, control)):  # it has ended
            return True
        for metric, by_case in ratios.by_metric.items():
            effects, strays = by_case.get(candidate, {}), by_case.get(control, {})
            decision = paired(effects, strays, metric, policy.margin(metric, *scope(block)))
            if decision.wanted > len(effects.keys() & strays.keys()):
                return False
        return True

    return is_enough


def policy_of(meta: Mapping[str, Any]) -> Policy | None:
    """Return the policy that a run is gated by; None for a run that is not the gate's."""
    return Policy.from_json(meta["gate"]["policy"]) if "gate" in meta else None


def ruling(found: Figures) -> Ruling | None:
    """Return what the gate says of a run of base, candidate and control, by the policy and on the day it was made."""
    meta = found.run.meta
    policy = policy_of(meta)
    if policy is None:
        return None
    day = date.fromisoformat(meta["started"][:10])
    judged = [verdict for block in found.run.suite.blocks for verdict in of_block(found, block, policy)]
    allowed = {item.block for item in judged if item.metric == "step_seconds" and allow(item, policy, day).allowed}
    blocks = [block for block in found.run.suite.blocks if block.name not in allowed]
    judged += of_all(found, blocks, policy)
    return concluded(meta["gate"]["base"], meta["gate"]["candidate"], judged, policy, day)


def of_block(found: Figures, block: Block, policy: Policy) -> Iterator[Verdict]:
    """Yield the verdicts on one block: how the sides ended, then each metric that one of them has."""
    base, candidate, control = block.cases
    blank = Verdict(block=block.name, case=candidate.id, metric=OUTCOME)
    outcome = ended(blank, *(found.outcomes.get(case.id) for case in block.cases))
    if outcome.verdict == "fail" and found.run.suite.retry and is_owed(found.outcomes[candidate.id]):
        outcome = replace(outcome, verdict="unsure", reason=f"{outcome.reason}; no fresh launch has confirmed it")
    yield outcome
    if not (found.is_measured(base) and found.is_measured(candidate)):
        return
    unsettled = [case.variant.name for case in block.cases if not found.is_settled(case)]
    for metric in SPREAD:
        if bool(found.of(base, metric)) != bool(found.of(candidate, metric)):
            yield replace(blank, metric=metric, reason="it was observed on one side only")
        elif found.of(base, metric):
            effects, strays = (effects_of(base, case, metric, found) for case in (candidate, control))
            margin = policy.margin(metric, *scope(block))
            yield steady(decided(replace(blank, metric=metric), paired(effects, strays, metric, margin)), unsettled)
    yield from counts(blank, found, base, found, candidate)


def paired(effects: Mapping[int, float], strays: Mapping[int, float], metric: str, margin: float) -> Decision:
    """Return the decision on the launches that candidate and control share."""
    launches = [launch for launch in effects if launch in strays]
    effect, stray = (turned([found[launch] for launch in launches], metric) for found in (effects, strays))
    return looks.decide(effect, stray, margin, METRICS[metric].scale)


def scope(block: Block) -> tuple[str, str, str]:
    """Return the names that a policy's patterns may mean: the case, the gate's block, the suite's block."""
    return block.cases[1].id, block.name, block.name.rsplit(" ", 1)[0]


def of_all(found: Figures, blocks: Sequence[Block], policy: Policy) -> Iterator[Verdict]:
    """Yield the verdict on the geometric mean of step times over the blocks whose three cases were measured."""
    metric = "step_seconds"
    complete = [block for block in blocks if all(map(found.is_measured, block.cases))]
    if len(complete) > 1:
        effects, strays = (
            [[*effects_of(block.cases[0], block.cases[place], metric, found).values()] for block in complete]
            for place in (1, 2)
        )
        blank = Verdict(block=OVERALL, case=OVERALL, metric=metric)
        unsettled = [block.name for block in complete if not all(map(found.is_settled, block.cases))]
        yield steady(decided(blank, looks.together(effects, strays, policy.margin(metric, OVERALL))), unsettled)
