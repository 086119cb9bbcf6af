"""What each step from PyTorch 1.x style to 2.x gains, on a decoder, an encoder and an encoder-decoder."""

from harness.spec import Block, Suite, Workload
from suites.definitions._rungs import BF16, COMPILE, FUSED, SDPA, V1

WORKLOADS = (
    Workload(task="pretraining/causal_lm", model="gpt", size="small"),
    Workload(task="pretraining/masked_lm", model="bert", size="small"),
    Workload(task="pretraining/denoising", model="encoder_decoder", size="small"),
)


def suite() -> Suite:
    """Return three workloads on all five rungs."""
    return Suite(
        name="ladder",
        question="What does each step from PyTorch 1.x style to 2.x gain, in speed, memory and loss?",
        blocks=tuple(Block(workload=workload, variants=(V1, SDPA, COMPILE, FUSED, BF16)) for workload in WORKLOADS),
    )
