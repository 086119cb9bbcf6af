"""What a suite is expected to take: a first guess, before anything was measured, in seconds on a CPU."""

from collections.abc import Collection, Mapping
from typing import Any

from harness import start
from harness.spec import Block, Suite, Variant, Workload

# Seconds, seen on a 2-core machine with tiny models.
STARTUP, COLD_COMPILE, WARM_COMPILE, EXTRAS, TURN, STEP, CEILING = 4.0, 25.0, 5.0, 6.0, 0.1, 0.05, 1.5
SHORTEST_STEP, STEPS_OF_TURN, STEPS_OF_LAUNCH = 0.005, 3, 30
"""The least that a step takes; how many are in a turn with its settling, and in warming up and observing."""
AGAIN = 10.0
"""Seconds that compiling for one more shape takes."""
GIVEN_UP, MEAN_LENGTH = 8, 0.625
"""Shapes after which torch.compile gives a function up; of lengths that vary the mean, as a share of the longest."""
FLOP_PER_SECOND = 8e10  # of training, the attention's and the embeddings' not counted
SCORE = {True: 30, False: 3}
"""Training steps that take as long as a score, by whether it is of fine-tuning: all of its test part is scored."""
Configs = Mapping[str, Mapping[str, Any]]
"""Block -> the model's configuration."""


def expected_seconds(suite: Suite, configs: Configs | None = None, unavailable: Collection[str] = ()) -> float:
    """Return roughly how long the suite takes on a CPU without its `unavailable` cases, its pretraining apart."""
    return sum(
        expected_launch(suite, block, launch, configs, unavailable)
        for block in suite.blocks
        for launch in range(1, suite.launches + 1)
    )


def expected_pretraining(suite: Suite, configs: Configs | None = None) -> float:
    """Return roughly how long the pretrained starts of a suite take, each made once."""
    starts = {repr(made): (block, made) for block in suite.blocks if (made := start.workload(block.workload))}
    return sum(
        STARTUP + (made.recipe.steps or 0) * expected_step(made, (configs or {}).get(block.name, {}))
        for block, made in starts.values()
    )


def expected_launch(
    suite: Suite, block: Block, launch: int, configs: Configs | None = None, unavailable: Collection[str] = ()
) -> float:
    """Return roughly how long one launch of a block takes without its `unavailable` cases."""
    step = expected_step(block.workload, (configs or {}).get(block.name, {}))
    steps = suite.steps_of(block.workload) * (launch <= suite.seeds)
    scores = len(block.workload.recipe.points(steps)) if steps else 0
    training = (steps + scores * SCORE[block.workload.task.startswith("finetuning/")]) * step
    variants = [case.variant for case in block.cases if case.id not in unavailable]
    if block.workload.is_ceiling:
        return CEILING * len(variants)
    return sum(
        training + expected_case(suite, block.workload, variant, step, is_first=launch == 1) for variant in variants
    )


def expected_case(suite: Suite, workload: Workload, variant: Variant, step: float, *, is_first: bool) -> float:
    """Return roughly what one variant adds to a launch, its training apart; the first compiles cold and checks."""
    first, again = (COLD_COMPILE, AGAIN) if is_first else (WARM_COMPILE, WARM_COMPILE * AGAIN / COLD_COMPILE)
    compiling = (first + again * (shapes(workload, variant) - 1)) * (variant.compile != "none")
    explaining = (STARTUP + COLD_COMPILE * (variant.compile != "none")) * suite.explain
    stepping = suite.rounds * max(TURN, (STEPS_OF_TURN - 1 + workload.lengths) * step)
    warming = STEPS_OF_LAUNCH * workload.lengths * step
    return STARTUP / 2 + compiling + (EXTRAS + explaining) * is_first + stepping + warming


def shapes(workload: Workload, variant: Variant) -> int:
    """Return how often a variant compiles for the lengths of a workload's batches."""
    if variant.bucket:
        return min(workload.lengths, -(-workload.length // variant.bucket))
    return min(workload.lengths, {None: 2, True: 1, False: GIVEN_UP}[variant.dynamic])


def expected_step(workload: Workload, config: Mapping[str, Any]) -> float:
    """Return roughly how long a training step takes: six operations for each token and weight of the layers.

    Of a model whose configuration has not the names that the own ones have, as long as a tiny one's.
    """
    width, layers = config.get("dim"), config.get("layers")
    if not isinstance(width, int) or not isinstance(layers, int):
        return STEP * workload.accumulate
    tokens = workload.batch * workload.length * workload.accumulate * (MEAN_LENGTH if workload.lengths > 1 else 1)
    return max(SHORTEST_STEP, 6 * tokens * 12 * layers * width**2 / FLOP_PER_SECOND)
