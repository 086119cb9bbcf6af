"""The run: carries out a suite block by block, launch by launch, until it is precise enough or out of time."""

import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

from harness import ceilings, load, names, pace, start
from harness.conditions import Conditions
from harness.errors import UserError
from harness.fit import fit_block
from harness.labels import asked, lacking, making
from harness.launch import Launch, out_of_budget
from harness.metrics import METRICS
from harness.outcome import is_due
from harness.peer import CaseFailure
from harness.progress import Progress
from harness.ratios import Ratios
from harness.spec import Block, Case, Suite, Variant
from harness.stopwatch import Stopwatch
from harness.store import Recorder


def precise(suite: Suite) -> Callable[[Block, Ratios], bool]:
    """Return what tells whether a block may stop: its intervals are narrow enough, and all seeds are scored."""

    def is_precise(block: Block, ratios: Ratios) -> bool:
        scored = ratios.launches >= suite.seeds or suite.steps_of(block.workload) == 0
        return scored and pace.is_precise([*ratios.by_case.values()], METRICS["step_seconds"].margin)

    return is_precise


def carry_out(
    suite: Suite,
    recorder: Recorder,
    conditions: Conditions,
    progress: Progress,
    watch: Stopwatch,
    is_enough: Callable[[Block, Ratios], bool],
) -> None:
    """Measure every block until it is enough; each failure is an outcome, never an exception."""
    start = perf_counter() - recorder.meta["seconds"].get("total", 0.0)  # what an interrupted run has spent counts
    probed = [block for block in suite.blocks if block.workload.is_ceiling]
    if probed:
        ceilings.measure(suite, probed, recorder, conditions, progress, watch)
    others = [block for block in suite.blocks if block not in probed]
    for position, block in enumerate(others):
        blocks_left = len(others) - position
        if suite.fit:
            fit_block(suite, block, recorder, conditions, progress, watch)
            continue
        share = suite.budget and (suite.budget - (perf_counter() - start)) / blocks_left
        carry_out_block(suite, block, recorder, conditions, progress, watch, share, is_enough)


def carry_out_block(
    suite: Suite,
    block: Block,
    recorder: Recorder,
    conditions: Conditions,
    progress: Progress,
    watch: Stopwatch,
    budget: float | None,
    is_enough: Callable[[Block, Ratios], bool],
) -> None:
    """Measure launch after launch until all are done, it is enough, or the budget is used up."""
    began_block, longest, works = perf_counter(), 0.0, True
    ratios = Ratios(block)
    try:
        conditions = started(suite, block, recorder, conditions, progress, watch)
    except CaseFailure as failure:
        for case in block.cases:
            recorder.outcome(case.id, block.name, failure.status, f"no pretrained start: {failure}", 1)
            progress.failed(case, failure.status, f"no pretrained start: {failure}")
        return
    for number in range(1, suite.launches + 1):
        if recorder.is_done(block.name, number):
            ratios.add(recorder.launch_rows({case.id for case in block.cases}, number))
            continue
        owes = suite.retry and number > 1 and any(is_due(recorder.outcomes[case.id], number) for case in block.cases)
        if (is_enough(block, ratios) or not works) and not owes:
            break
        if not pace.fits_budget(perf_counter() - began_block, longest, budget):
            out_of_budget(block, number - 1, recorder)
            break
        began = perf_counter()
        launch = Launch(suite, block, number, recorder, conditions, progress, watch)
        launch.run(ratios)
        longest, works = max(longest, perf_counter() - began), bool(launch.cases)
    progress.block_done(block)


def started(
    suite: Suite, block: Block, recorder: Recorder, conditions: Conditions, progress: Progress, watch: Stopwatch
) -> Conditions:
    """Return the conditions with the block's pretrained start, if it has one: made now, or kept from before."""
    baseline = block.baseline_case
    workload = start.workload(block.workload)
    if workload is None or all(recorder.is_done(block.name, number + 1) for number in range(suite.launches)):
        return conditions
    variant = Variant(name="start", attention="sdpa", device=baseline.variant.device)
    before = Block(workload=workload, variants=(variant,), name=block.name)
    plain = replace(conditions, starts={}, trees={})
    recipe = plain.recipe(before, variant, workload.seed, workload.recipe.steps or 0)
    if "classes" in load.model_fields(workload, conditions.folders):
        recipe["config"]["classes"] = 0
    sources = load.sources(replace(suite, blocks=(before,)), conditions.folders)
    log = recorder.path / "logs" / f"{baseline.id}--start.txt"
    with watch("quality"):
        peer = plain.peer(variant, name=f"{baseline.id}--start", work=recorder.work, log=log, record=recorder.event)
        try:
            ask = partial(peer.ask, timeout=suite.timeout)
            told = ask("hello", **plain.greeting(variant)), ask("build", **recipe)
            folder = load.cache() / "starts" / start.key(recipe, sources, *told)
            if not start.is_made(folder):
                progress.say(f"{block.name} · pretraining for {recipe['steps']:,} steps, once: the result is kept")
                start.make(ask, recipe["steps"], folder, lambda what: progress.doing(block, 1, baseline, what))
        finally:
            peer.kill()
    return replace(conditions, starts={**conditions.starts, block.name: str(folder)})


def refusals(suite: Suite, conditions: Conditions) -> Mapping[str, str | None]:
    """Return case -> why it is unavailable here, or None, by asking one worker an interpreter."""
    reasons: dict[str, str | None] = {}
    for label in asked(suite):
        cases = [case for case in suite.cases if case.variant.torch == label]
        if label in lacking(suite, conditions.interpreters):
            reason = f"no interpreter {label!r}: `{making(label)}` makes it"
            reasons |= dict.fromkeys((case.id for case in cases), reason)
            continue
        reasons |= dict(zip((case.id for case in cases), ask_ability(cases, suite.timeout, conditions), strict=True))
    return reasons


def ask_ability(cases: list[Case], timeout: float, conditions: Conditions) -> list[str | None]:
    """Return why each case is unavailable in its interpreter, or None."""
    try:
        reply = ask_once(cases[0].variant, timeout, conditions, can=[asdict(case.variant) for case in cases])
    except CaseFailure as failure:
        return [str(failure)] * len(cases)
    return list(reply["unavailable"])


def refuse_misfits(suite: Suite, conditions: Conditions) -> None:
    """Raise UserError for the first model that cannot take its checkpoint or the user's own data.

    That is before anything is measured: of the data, where they are made by then, the first batch is tried.
    """
    asked = [
        (variant, conditions.recipe(block, variant, block.workload.seed))
        for block in suite.blocks
        for variant in {case.model: case.variant for case in reversed(block.cases)}.values()
    ]
    for variant, recipe in asked:
        is_own = recipe["data"] and names.find("data", recipe["workload"]["data"], conditions.folders).is_own
        if is_own or recipe["workload"]["weights"]:
            with suppress(CaseFailure):  # of the interpreter; the case will say it again
                if misfit := ask_once(variant, suite.timeout, conditions, takes=recipe)["misfit"]:
                    raise UserError(misfit)


def described(variant: Variant, timeout: float, conditions: Conditions) -> dict[str, Any]:
    """Return what the machine and the device of a variant are; raise UserError where it cannot run here."""
    try:
        reply = ask_once(variant, timeout, conditions, describe=asdict(variant))
    except CaseFailure as failure:
        raise UserError(f"--device {variant.device}: {failure}", "give another device, or auto") from None
    found: dict[str, Any] = reply["environment"]
    return found


def ask_once(variant: Variant, timeout: float, conditions: Conditions, **question: Any) -> dict[str, Any]:
    """Return what a worker for a variant replies to one greeting; it is gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        peer = conditions.peer(variant, name="question", work=work, log=work / "log.txt", record=lambda event: None)
        try:
            return peer.ask("hello", timeout, **{**conditions.greeting(variant), "allocator": "default"}, **question)
        finally:
            peer.kill()
