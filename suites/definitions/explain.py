"""Whether a faster variant still explains itself alike: which positions of its input count for the loss."""

from dataclasses import replace

from harness.spec import Block, Suite, Workload
from suites.definitions._rungs import COMPILE, SDPA, V1

WORKLOADS = (
    Workload(task="pretraining/masked_lm", model="bert", size="tiny"),
    Workload(task="pretraining/causal_lm", model="gpt", size="tiny"),
)
HALVES = tuple(replace(COMPILE, name=f"+{precision}", precision=precision) for precision in ("bf16", "fp16"))


def suite() -> Suite:
    """Return an encoder and a decoder on the rungs that change what is computed, each from several seeds."""
    return Suite(
        name="explain",
        question="Does each rung rank the positions of its input as float64 does?",
        blocks=tuple(Block(workload=workload, variants=(V1, SDPA, COMPILE, *HALVES)) for workload in WORKLOADS),
        seeds=5,
        explain=True,
        quality_steps=0,
    )
