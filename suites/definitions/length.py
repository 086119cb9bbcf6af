"""How the gain of SDPA and of compiling grows with the length of the text."""

from harness.spec import Block, Suite
from suites.definitions._lengths import LENGTHS, workload
from suites.definitions._rungs import COMPILE, SDPA, V1


def suite() -> Suite:
    """Return a block a length: PyTorch 1.x style, SDPA, and SDPA compiled."""
    return Suite(
        name="length",
        question="How do the gains of SDPA and torch.compile change with the length of the text?",
        blocks=tuple(Block(workload=workload(length), variants=(V1, SDPA, COMPILE)) for length in LENGTHS),
        quality_steps=0,
    )
