"""Compare: cases of one run with their baselines, or those of two runs with each other; refuses unlike with unlike."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any

from harness import stats
from harness.calibration import strayed
from harness.errors import UserError
from harness.figures import Figures
from harness.metrics import COMPILED, METRICS, SPREAD, TO_QUALITY
from harness.spec import Block, Case
from harness.stats import UNREACHED, Caution, Judgement
from harness.store import Run

COMPARED = (*SPREAD, *TO_QUALITY, *COMPILED)
TWO_SESSIONS = Caution(
    code="two sessions",
    message="the runs were made at different times: how far the machine strayed between them is not in the interval",
    remedy="measure both in one run, as two variants of a block",
)

UNLIKE_PLACES = Caution(
    code="unlike places",
    message="the machine, the build or the machine's own speed differ: the ratio is of these, not of the code",
    remedy="to compare code, measure both on one machine, in one run",
)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A judgement and what it is about: a candidate against a baseline (two variants, or two runs) in a metric."""

    block: str
    case: str
    baseline: str
    candidate: str
    metric: str
    judgement: Judgement


@dataclass(frozen=True, kw_only=True)
class Overall:
    """A variant against the baseline over several blocks: the geometric mean of those where both were measured."""

    baseline: str
    candidate: str
    measured: int
    blocks: int
    judgement: Judgement


@dataclass(frozen=True, kw_only=True)
class BreakEven:
    """After how many steps a variant has paid for its dearer first steps.

    `steps` is infinite for never and NaN for cannot tell, which may still be known to be not before `low`.
    """

    steps: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A field in which two runs are unlike, so that their figures do not compare."""

    field: str
    base: str
    candidate: str


@dataclass(frozen=True, kw_only=True)
class Between:
    """Two runs compared: what makes them not comparable, or else the comparisons."""

    base: str
    candidate: str
    differences: tuple[Difference, ...]
    comparisons: tuple[Comparison, ...]
    shared: tuple[str, ...] = ()
    """The ids of the cases that both hold, measured or not."""
    places: tuple[Difference, ...] = ()
    """In what the machines or builds differ, where the comparisons are between those."""


def against_baselines(found: Figures) -> list[Comparison]:
    """Return each measured variant against its block's baseline, in every metric that both have."""
    return [
        comparison
        for block in found.run.suite.blocks
        for case in candidates(block)
        for comparison in contrast(block, block.baseline_case, case, found)
    ]


def rungs(found: Figures) -> list[Comparison]:
    """Return, for each block that is a ladder, the step time of each rung against the measured one before it."""
    return [
        comparison
        for block in found.run.suite.blocks
        if is_ladder(block)
        for before, case in pairwise(filter(found.is_measured, block.cases))
        for comparison in contrast(block, before, case, found, metrics=("step_seconds",))
    ]


def within_interpreters(block: Block, found: Figures) -> list[Comparison]:
    """Return, where the baseline has another interpreter, the step time of each case against the first in its own."""
    groups: dict[str, list[Case]] = {}
    for case in filter(found.is_measured, block.cases):
        groups.setdefault(case.variant.torch, []).append(case)
    return [
        comparison
        for label, (first, *others) in groups.items()
        if label != block.baseline_case.variant.torch
        for case in others
        for comparison in contrast(block, first, case, found, metrics=("step_seconds",))
    ]


def overall(found: Figures) -> list[Overall]:
    """Return the step time over all blocks, for each variant that several of them compare with the same baseline."""
    pairs: dict[tuple[str, str], list[tuple[Case, Case]]] = {}
    for block in found.run.suite.blocks:
        if block.workload.is_ceiling:  # precisions of a product, not ways of doing one work
            continue
        for case in candidates(block):
            pairs.setdefault((block.baseline, case.variant.name), []).append((block.baseline_case, case))
    return [
        Overall(
            baseline=baseline, candidate=candidate, measured=len(measured), blocks=len(both),
            judgement=judge_together(measured, found),
        )
        for (baseline, candidate), both in pairs.items()
        if len(both) > 1 and (measured := [pair for pair in both if all(map(found.is_measured, pair))])
    ]  # fmt: skip


def rungs_together(found: Figures) -> list[Overall]:
    """Return each rung against the one before it over all blocks that are the same ladder, measured to its end."""
    ladders = [block for block in found.run.suite.blocks if is_ladder(block)]
    names = [[case.variant.name for case in block.cases] for block in ladders]
    same = [block for block, own in zip(ladders, names, strict=True) if own == names[0]]
    whole = [block.cases for block in same if all(map(found.is_measured, block.cases))]
    if len(whole) < 2:
        return []
    return [
        Overall(
            baseline=before, candidate=name, measured=len(whole), blocks=len(same),
            judgement=judge_together([(cases[number], cases[number + 1]) for cases in whole], found),
        )
        for number, (before, name) in enumerate(pairwise(names[0]))
    ]  # fmt: skip


def between(base: Figures, candidate: Figures) -> Between:
    """Return the cases that both runs hold, candidate against base, unless the runs are unlike."""
    found = across(base, candidate)
    if not found.shared:
        raise UserError(
            f"runs {base.run.id} and {candidate.run.id} share no case", "compare two runs of the same suite"
        )
    differences = (*found.differences, *found.places)
    return replace(found, differences=differences, places=(), comparisons=() if differences else found.comparisons)


def across(base: Figures, candidate: Figures) -> Between:
    """Return the cases that both runs hold, candidate against base, of unlike machines too, but not of unlike work."""
    known = {case.id for case in candidate.run.suite.cases}
    shared = [(block, case) for block in base.run.suite.blocks for case in block.cases if case.id in known]
    runs, cases = (base.run, candidate.run), [case for _, case in shared]
    differences = tuple(unlike_work(*runs, cases)) if shared else ()
    places = tuple(unlike_places(*runs, cases))
    more = (UNLIKE_PLACES,) if places else ()
    # One machine that was not as fast in both says nothing of the code; unlike machines are a question of their own.
    is_mood = bool(places) and all(": calibration " in item.field for item in places)
    return Between(
        base=base.run.id,
        candidate=candidate.run.id,
        differences=differences,
        comparisons=() if differences or is_mood else tuple(between_sessions(base, candidate, shared, more)),
        shared=tuple(case.id for case in cases),
        places=places,
    )


def break_even(extra: float, step_seconds: float, judgement: Judgement, first: int = 0) -> BreakEven:
    """Return when `extra` seconds of the `first` steps are paid back, at the baseline's `step_seconds` and a ratio."""
    if not all(map(math.isfinite, (extra, step_seconds, judgement.low))):
        return BreakEven(steps=math.nan, low=math.nan, high=math.nan)
    steps, high, low = (
        (first + extra / (step_seconds * (1 - ratio)) if extra > 0 else 0.0) if ratio < 1 else math.inf
        for ratio in (judgement.ratio, judgement.high, judgement.low)
    )
    is_settled = stats.UNSETTLED not in [warning.code for warning in judgement.warnings]
    is_known = judgement.verdict == "better" or (judgement.low >= 1 and is_settled)
    return BreakEven(steps=steps if is_known else math.nan, low=low, high=high)


def is_ladder(block: Block) -> bool:
    """Tell whether each variant changes one thing against the one before, and never the same thing twice."""
    changes = [changed(before, after) for before, after in pairwise(asdict(variant) for variant in block.variants)]
    fields = [field for change in changes for field in change]
    return len(changes) > 1 and all(len(change) == 1 for change in changes) and len(set(fields)) == len(fields)


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Return the fields other than the name that two variants do not share."""
    return [field for field in before if field != "name" and before[field] != after[field]]


def candidates(block: Block) -> list[Case]:
    """Return the cases of a block that are compared with its baseline."""
    return [case for case in block.cases if case != block.baseline_case]


def contrast(
    block: Block, base: Case, case: Case, found: Figures, metrics: Sequence[str] = COMPARED
) -> Iterator[Comparison]:
    """Yield the comparison of two cases of one block in each of `metrics` that both have."""
    if not (found.is_measured(base) and found.is_measured(case)):
        return
    warnings = cautions(found, base, case)
    for metric in metrics:
        missed = list(unreached(metric, (found, base), (found, case)))
        if missed or (found.of(base, metric) and found.of(case, metric)):
            yield Comparison(
                block=block.name, case=case.id, baseline=base.variant.name, candidate=case.variant.name, metric=metric,
                judgement=judge_pair(base, case, metric, found, [*warnings, *missed]),
            )  # fmt: skip


def judge_pair(base: Case, case: Case, name: str, found: Figures, warnings: Sequence[Caution]) -> Judgement:
    """Return the verdict on two cases that took turns."""
    metric, warnings = METRICS[name], about(name, warnings)
    if metric.noise == "exact":
        return stats.judge_exact([*found.of(base, name).values()], [*found.of(case, name).values()], warnings)
    effects = [*effects_of(base, case, name, found).values()]
    if UNREACHED in [warning.code for warning in warnings]:  # those that did reach it are not a fair sample
        return stats.undecided(math.nan, len(effects), warnings)
    return stats.judge(effects, metric.margin, metric.better, warnings, metric.scale)


def about(metric: str, warnings: Sequence[Caution]) -> list[Caution]:
    """Return the warnings that concern a metric: that a step time never settled says nothing of what was learned."""
    return [item for item in warnings if item.code != stats.UNSETTLED or METRICS[metric].noise == "timed"]


def unreached(metric: str, *sides: tuple[Figures, Case]) -> Iterator[Caution]:
    """Yield the warning that a target was not reached in some launches, if `metric` is what it takes to reach it."""
    goal = sides[0][1].workload.recipe.goal
    if metric not in TO_QUALITY or goal is None:
        return
    missed = [(case.variant.name, *found.missed(case)) for found, case in sides]
    if any(count for _, count, _ in missed):
        told = ", ".join(f"in {count} of {scored} launches of {name}" for name, count, scored in missed if count)
        yield Caution(
            code=UNREACHED,
            message=f"{goal[0]} {goal[1]:g} was not reached {told}",
            remedy="more quality_steps, or a target that is easier to reach",
        )


def judge_together(pairs: Sequence[tuple[Case, Case]], found: Figures) -> Judgement:
    """Return the verdict on the geometric mean of the pairs' step time ratios, computed launch by launch."""
    metric = METRICS["step_seconds"]
    together = stats.geometric_mean([effects_of(base, case, metric.name, found) for base, case in pairs])
    warnings = dict.fromkeys(warning for pair in pairs for warning in cautions(found, *pair))
    return stats.judge([*together.values()], metric.margin, metric.better, [*warnings])


def effects_of(base: Case, case: Case, metric: str, found: Figures) -> dict[int, float]:
    """Return log(case / base), of shares case - base, by launch: step times paired round by round."""
    if metric == "step_seconds":
        rounds, own = found.rounds.get(base.id, {}), found.rounds.get(case.id, {})
        return {launch: stats.paired_log_ratio(rounds[launch], own[launch]) for launch in rounds if launch in own}
    if metric == "time_to_quality_seconds":  # steps times step time, which is known better than both quotients
        steps, times = (effects_of(base, case, name, found) for name in ("steps_to_quality", "step_seconds"))
        return {launch: steps[launch] + times[launch] for launch in steps if launch in times}
    values, own_values, scale = found.of(base, metric), found.of(case, metric), METRICS[metric].scale
    return {
        launch: stats.effect(values[launch], own_values[launch], scale) for launch in values if launch in own_values
    }


def cautions(found: Figures, *cases: Case) -> list[Caution]:
    """Return the warnings of the cases, each once."""
    noted = [
        Caution(**{name: warning[name] for name in ("code", "message", "remedy")})
        for case in cases
        for warning in found.outcomes[case.id]["warnings"]
    ]
    return list(dict.fromkeys(noted))


def between_sessions(
    base: Figures, candidate: Figures, shared: Sequence[tuple[Block, Case]], more: Sequence[Caution] = ()
) -> Iterator[Comparison]:
    """Yield what two runs say of the cases that both measured, `more` among the warnings."""
    for block, case in shared:
        if not (base.is_measured(case) and candidate.is_measured(case)):
            continue
        warnings = [*dict.fromkeys(cautions(base, case) + cautions(candidate, case)), TWO_SESSIONS, *more]
        for metric in map(METRICS.__getitem__, COMPARED):
            before, after = ([*side.of(case, metric.name).values()] for side in (base, candidate))
            missed = list(unreached(metric.name, (base, case), (candidate, case)))
            if not missed and not (before and after):
                continue
            if missed:
                judgement = stats.undecided(math.nan, min(len(before), len(after)), [*warnings, *missed])
            elif metric.noise == "exact":
                judgement = stats.judge_exact(before, after, warnings)
            else:
                judgement = stats.judge_unpaired(
                    before, after, metric.margin, metric.better, about(metric.name, warnings), metric.scale
                )
            yield Comparison(
                block=block.name, case=case.id, baseline=base.run.id, candidate=candidate.run.id, metric=metric.name,
                judgement=judgement,
            )  # fmt: skip


def unlike_work(base: Run, candidate: Run, shared: Sequence[Case]) -> Iterator[Difference]:
    """Yield every field in which two runs did not do the same."""
    for field, before, after in dict.fromkeys(fields(base, candidate, shared)):
        if before != after:
            yield Difference(field=field, base=str(before), candidate=str(after))


def unlike_places(base: Run, candidate: Run, shared: Sequence[Case]) -> Iterator[Difference]:
    """Yield in what the machines or builds of two runs differ, or that one was slower as such."""
    for field, before, after in dict.fromkeys(place_fields(base, candidate, shared)):
        if before != after:
            yield Difference(field=field, base=str(before), candidate=str(after))
    for label, case in places(base, candidate, shared).items():
        before, after = (run.environment(case) for run in (base, candidate))
        if not (before and after):
            lines = [found.get("line", "not described") for found in (before, after)]
            yield Difference(field=f"{label}: machine", base=lines[0], candidate=lines[1])
        for probe in strayed(before, after):
            seconds = [f"{found.get('calibration', {}).get(probe)} s" for found in (before, after)]
            yield Difference(field=f"{label}: calibration {probe}", base=seconds[0], candidate=seconds[1])


def fields(base: Run, candidate: Run, shared: Sequence[Case]) -> Iterator[tuple[str, Any, Any]]:
    """Yield (name, base's value, candidate's value) of what was done."""
    for name in ("name", "quality_steps", "seeds"):
        yield f"suite: {name}", getattr(base.suite, name), getattr(candidate.suite, name)
    for name in dict.fromkeys(case.workload.data for case in shared):
        digests = [run.meta["data"].get(name, {}).get("sha256") for run in (base, candidate)]
        yield f"data {name}: sha256", digests[0], digests[1]
    for case in shared:
        before, after = (run.facts(case) for run in (base, candidate))
        for name, what in (("weights_sha256", "initial weights"), ("batch_sha256", "first batch")):
            if name in before and name in after:  # a case that failed before it was built says nothing of them
                yield f"{case.workload.slug}: {what}", before[name], after[name]


def place_fields(base: Run, candidate: Run, shared: Sequence[Case]) -> Iterator[tuple[str, Any, Any]]:
    """Yield (name, base's value, candidate's value) of where it was done, unless that is the same place."""
    for label, case in places(base, candidate, shared).items():
        before, after = (run.environment(case) for run in (base, candidate))
        if before.get("fingerprint") != after.get("fingerprint"):
            for name in sorted({*before, *after} - {"line", "calibration"}):
                yield f"{label}: {name}", before.get(name), after.get(name)


def places(base: Run, candidate: Run, cases: Sequence[Case]) -> dict[str, Case]:
    """Return the environments that the cases began in, by the names in both runs, each with one of the cases.

    A merged run may name several where the other names one; a case that never began has none.
    """
    begun = [case for case in cases if base.facts(case) and candidate.facts(case)]
    return {" and ".join(dict.fromkeys((base.place(case), candidate.place(case)))): case for case in begun}
