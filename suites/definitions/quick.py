"""What each step from PyTorch 1.x style to 2.x gains, on two tiny models, in minutes."""

from harness.spec import Block, Suite, Workload
from suites.definitions._rungs import COMPILE, FUSED, SDPA, V1

WORKLOADS = (
    Workload(task="pretraining/causal_lm", model="gpt", size="tiny"),
    Workload(task="pretraining/masked_lm", model="bert", size="tiny"),
)


def suite() -> Suite:
    """Return two workloads on four rungs, few launches."""
    return Suite(
        name="quick",
        question="What does each step from PyTorch 1.x style to 2.x gain on this machine, at a first look?",
        blocks=tuple(Block(workload=workload, variants=(V1, SDPA, COMPILE, FUSED)) for workload in WORKLOADS),
        launches=4,
        rounds=24,
        quality_steps=30,
    )
