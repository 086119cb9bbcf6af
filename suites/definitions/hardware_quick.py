"""What this machine can do at most, at a first look: matrix products, memory, calls."""

from collections.abc import Sequence

from harness.spec import Suite, Variant
from suites.definitions._ceilings import ONE_CORE, PLAIN, ceiling, precisions


def suite() -> Suite:
    """Return few ceilings, in few launches."""
    return made(side=2048, size=2**28, one=[ONE_CORE])


def accelerated() -> Suite:
    """Return the same at sizes that keep a GPU busy."""
    return made(side=8192, size=2**32, one=[])


def made(*, side: int, size: int, one: Sequence[Variant]) -> Suite:
    """Return the suite with products of matrices of (side, side) and working sets of `size` bytes."""
    return Suite(
        name="hardware_quick",
        question="What can this machine do at most, at a first look?",
        blocks=(
            ceiling("matmul", [*precisions("fp32", "bf16"), *one], rows=side, inner=side, columns=side),
            *(ceiling("memory", [PLAIN], operation=name, size=size) for name in ("copy", "triad", "read")),
            ceiling("calls", [PLAIN]),
        ),
        launches=3,
        rounds=10,
    )
