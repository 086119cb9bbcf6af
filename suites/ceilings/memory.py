"""Memory bandwidth on a working set of a given size: copy, triad (as in STREAM), or read."""

from math import ceil
from typing import Any

import torch

from harness.errors import UserError
from harness.work import Ceiling, Place

ARRAYS = {"copy": 2, "triad": 3, "read": 2}
"""How many arrays each touches once; a cache that loads a line before it is overwritten moves more, uncounted."""
ELEMENT = 4
WORK = 2**28
"""Bytes that a step on a CPU moves, at least."""


def prepare(place: Place, *, operation: str = "copy", size: int = 2**28) -> Ceiling:
    """Return passes over `size` bytes of float32, all arrays together.

    copy is a = b, triad a = b + 3 c (McCalpin, STREAM, 1995), read the scalar product of a and b.
    """
    if operation not in ARRAYS:
        raise UserError(f"memory: operation is {operation!r}", f"one of {', '.join(ARRAYS)}")
    length = size // (ARRAYS[operation] * ELEMENT)
    arrays = [torch.rand(length, device=place.device) for _ in range(ARRAYS[operation])]
    run, repeats = passes(operation, arrays), ceil(WORK * place.effort / size)

    def step() -> None:
        for _ in range(repeats):
            run()

    return Ceiling(step=step, amount={"moved_bytes": float(length * ARRAYS[operation] * ELEMENT * repeats)})


def passes(operation: str, arrays: list[torch.Tensor]) -> Any:
    """Return one pass over the arrays."""
    a, b = arrays[:2]
    if operation == "copy":
        return lambda: a.copy_(b)
    if operation == "triad":
        return lambda: torch.add(b, arrays[2], alpha=3.0, out=a)
    return lambda: torch.dot(a, b)
