"""What this machine can do at most, at a first look: matrix products, memory, calls."""

from harness.spec import Suite
from suites.definitions._ceilings import ONE_CORE, PLAIN, ceiling, precisions


def suite() -> Suite:
    """Return few ceilings, in few launches."""
    side = 2048
    return Suite(
        name="hardware_quick",
        question="What can this machine do at most, at a first look?",
        blocks=(
            ceiling("matmul", [*precisions("fp32", "bf16"), ONE_CORE], rows=side, inner=side, columns=side),
            *(ceiling("memory", [PLAIN], operation=name, size=2**28) for name in ("copy", "triad", "read")),
            ceiling("calls", [PLAIN]),
        ),
        launches=3,
        rounds=10,
    )
