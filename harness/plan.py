"""The plan: every turn of a suite in order, seeded, so that it can be printed and repeated."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from harness.spec import Block, Suite


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
        for blocks in together(suite)
        for launch in range(1, suite.launches + 1)
        for turn in turns(suite, blocks, launch)
    ]


def together(suite: Suite) -> list[list[Block]]:
    """Return the blocks in order, those whose cases take turns together: all ceilings, first; then each by itself."""
    ceilings = [block for block in suite.blocks if block.workload.is_ceiling]
    return [*filter(None, [ceilings]), *([block] for block in suite.blocks if block not in ceilings)]


def turns(suite: Suite, blocks: Sequence[Block], launch: int) -> list[Turn]:
    """Return the turns of one launch: a random order of the cases, the next round the same mirrored.

    Mirroring gives each pair of cases both orders equally often, so that what a case leaves behind
    (cache contents, clock speed) does not favour its neighbour.
    """
    draw = random.Random(f"{suite.seed}/{'/'.join(block.name for block in blocks)}/{launch}")
    place = {case.id: block.name for block in blocks for case in block.cases}
    order: list[str] = []
    planned = []
    for number in range(1, suite.rounds + 1):
        order = draw.sample([*place], len(place)) if number % 2 else order[::-1]
        planned += [Turn(block=place[case], launch=launch, round=number, case=case) for case in order]
    return planned
