"""Fit: the largest batch, or the longest sequence, with which a case still trains in the memory that it may take."""

from collections.abc import Mapping
from dataclasses import replace

from harness.conditions import Conditions
from harness.launch import Launch
from harness.peer import CaseFailure
from harness.progress import Progress
from harness.spec import Block, Case, Suite
from harness.stopwatch import Stopwatch
from harness.store import Recorder

METRIC = {"batch": "largest_batch", "length": "longest_sequence"}
STEPS = 2  # the first has no optimizer state yet
PROBES = 6
"""The least that a search takes: a size that fits, its double that does not, and four halvings to a sixteenth."""


def next_size(fits: Mapping[int, bool], start: int) -> int | None:
    """Return the size to try next: doubled until one does not fit, then halfway; None once known to a sixteenth."""
    if not fits:
        return start
    good = max((size for size, does_fit in fits.items() if does_fit), default=0)
    bad = min((size for size, does_fit in fits.items() if not does_fit), default=None)
    if bad is None:
        return 2 * good
    return None if bad - good <= max(1, good // 16) else (good + bad) // 2


def fit_block(
    suite: Suite, block: Block, recorder: Recorder, conditions: Conditions, progress: Progress, watch: Stopwatch
) -> None:
    """Find each case's size, and record it; each probe is a process of its own, whose end ends nothing else."""
    if not recorder.is_done(block.name, 1):
        for case in block.cases:
            recorder.outcome(case.id, block.name, "ok", None, 1)
            launch = Launch(suite, block, 1, recorder, conditions, progress, watch)
            with watch("startup"):
                launch.describe(case)
            with watch("fit"):
                fit(suite, block, case, launch)
        recorder.launch_done([block.name], 1)
    progress.block_done(block)


def fit(suite: Suite, block: Block, case: Case, launch: Launch) -> None:
    """Find one case's size: memory that runs out is an answer, any other failure the end of the search."""
    fits: dict[int, bool] = {}
    ended = CaseFailure(
        "oom", f"even a {suite.fit} of 1 takes more than the memory_limit of {suite.memory_limit} bytes"
    )
    while size := next_size(fits, getattr(block.workload, suite.fit)):
        launch.progress.doing(block, 1, case, f"{suite.fit} {size}")
        sized = replace(block.workload, batch=size) if suite.fit == "batch" else replace(block.workload, length=size)
        tried = replace(block, name=block.name, workload=sized)
        probe = Launch(suite, tried, 1, launch.recorder, launch.conditions, launch.progress, launch.watch)
        try:
            probe.apart(f"{case.variant.name} {size}", case.variant, "measure", steps=STEPS, first=True)
            fits[size] = True
        except CaseFailure as failure:
            if failure.status != "oom":
                ended = failure
                break
            fits[size] = False
    best = max((size for size, does_fit in fits.items() if does_fit), default=0)
    if not best:
        launch.end(case, ended)
        return
    launch.put(case.id, METRIC[suite.fit], best)
    if ended.status != "oom":
        message = f"memory did not end the search at {size}: {ended}"
        launch.warn(case.id, "cut short", message, "read its figure as at least that much")
