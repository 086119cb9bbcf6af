"""The plan: every turn of a suite in order, seeded, so that it can be printed and repeated."""

import random
from collections.abc import Collection
from dataclasses import dataclass

from harness.spec import Block, Suite, Variant


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One visit of one case: it steps while all others wait."""

    block: str
    launch: int
    round: int
    case: str


def plan(suite: Suite) -> list[Turn]:
    """Return all turns: block by block, launch by launch, in each round every case once."""
    return [
        turn
        for block in suite.blocks
        for launch in range(1, suite.launches + 1)
        for turn in turns(suite, block, launch)
    ]


def turns(suite: Suite, block: Block, launch: int) -> list[Turn]:
    """Return the turns of one launch: a random order of the cases, the next round the same mirrored.

    Mirroring gives each pair of cases both orders equally often, so that what a case leaves behind
    (cache contents, clock speed) does not favour its neighbour.
    """
    draw = random.Random(f"{suite.seed}/{block.name}/{launch}")
    cases = [case.id for case in block.cases]
    order: list[str] = []
    planned = []
    for number in range(1, suite.rounds + 1):
        order = draw.sample(cases, len(cases)) if number % 2 else order[::-1]
        planned += [Turn(block=block.name, launch=launch, round=number, case=case) for case in order]
    return planned


# A first guess, before anything was measured, in seconds; seen on a 2-core machine with tiny models.
STARTUP, COLD_COMPILE, WARM_COMPILE, EXTRAS, TURN, STEP = 4.0, 25.0, 5.0, 6.0, 0.1, 0.05


def expected_seconds(suite: Suite, unavailable: Collection[str] = ()) -> float:
    """Return roughly how long the suite takes without its `unavailable` cases; tiny models on a CPU."""
    return sum(
        expected_launch(suite, block, launch, unavailable)
        for block in suite.blocks
        for launch in range(1, suite.launches + 1)
    )


def expected_launch(suite: Suite, block: Block, launch: int, unavailable: Collection[str] = ()) -> float:
    """Return roughly how long one launch of a block takes."""
    training = suite.steps_of(block.workload) * STEP * (launch <= suite.seeds)
    variants = [case.variant for case in block.cases if case.id not in unavailable]
    return sum(training + expected_case(suite, variant, is_first=launch == 1) for variant in variants)


def expected_case(suite: Suite, variant: Variant, *, is_first: bool) -> float:
    """Return roughly what one variant adds to a launch, its training apart; the first compiles cold and checks."""
    compiling = (COLD_COMPILE if is_first else WARM_COMPILE) * (variant.compile != "none")
    explaining = (STARTUP + COLD_COMPILE * (variant.compile != "none")) * suite.explain
    return STARTUP / 2 + compiling + (EXTRAS + explaining) * is_first + suite.rounds * TURN
