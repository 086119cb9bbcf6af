"""How the gain of SDPA and of compiling grows with the length of the text."""

from harness.spec import Block, Suite, Workload
from suites.definitions._rungs import COMPILE, SDPA, V1

LENGTHS = (128, 256, 512, 1024, 2048)
TOKENS = 4096  # in a batch of any length, so that only attention's share of the work grows


def workload(length: int) -> Workload:
    """Return a training step of a gpt that has positions for the longest text: the same model at every length."""
    return Workload(
        task="pretraining/causal_lm",
        model="gpt",
        size="tiny",
        batch=TOKENS // length,
        length=length,
        settings={"positions": LENGTHS[-1]},
    )


def suite() -> Suite:
    """Return a block a length: PyTorch 1.x style, SDPA, and SDPA compiled."""
    return Suite(
        name="length",
        question="How do the gains of SDPA and torch.compile change with the length of the text?",
        blocks=tuple(Block(workload=workload(length), variants=(V1, SDPA, COMPILE)) for length in LENGTHS),
        quality_steps=0,
    )
