"""A shard: every n-th block of a suite, by position alone, so that machines need not talk to share it."""

import re
from dataclasses import dataclass, replace

from harness.errors import UserError
from harness.spec import Suite


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One of `count` parts of a suite, numbered from 1."""

    number: int
    count: int

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def part(self, suite: Suite) -> Suite:
        """Return the suite with every `count`th block only, from the `number`th on.

        Raise UserError if a shard would be empty, whichever this one is: what the others measure could not be merged.
        """
        if self.count > len(suite.blocks):
            message = f"suite {suite.name!r} cannot make {self.count} shards, for its blocks are {len(suite.blocks)}"
            raise UserError(message, f"use --shard K/{len(suite.blocks)} at most")
        return replace(suite, blocks=suite.blocks[self.number - 1 :: self.count])


def parse(text: str) -> Shard:
    """Return the shard that `2/8` names: the second of eight."""
    found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
    if found and 1 <= int(found[1]) <= int(found[2]):
        return Shard(number=int(found[1]), count=int(found[2]))
    raise UserError(f"{text!r} is no shard", "write for instance --shard 2/8, the second of eight, counted from 1")
