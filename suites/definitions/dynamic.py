"""What torch.compile does where the length of the text varies from step to step: recompile, compile once, or pad."""

from dataclasses import replace

from harness.spec import Block, Suite, Workload
from suites.definitions._rungs import COMPILE, SDPA

LENGTHS = 12  # more than the 8 compilations of a function after which torch.compile gives it up
BUCKETS = (64, 128)
VARIANTS = (
    SDPA,
    COMPILE,
    replace(COMPILE, name="+compile dynamic", dynamic=True),
    replace(COMPILE, name="+compile static", dynamic=False),
    *(replace(COMPILE, name=f"+compile bucket {bucket}", dynamic=False, bucket=bucket) for bucket in BUCKETS),
)
WORKLOAD = Workload(task="pretraining/causal_lm", model="gpt", size="tiny", length=256, lengths=LENGTHS)


def suite() -> Suite:
    """Return a decoder and an encoder on batches of twelve lengths, eager as the baseline."""
    workloads = (WORKLOAD, replace(WORKLOAD, task="pretraining/masked_lm", model="bert"))
    return Suite(
        name="dynamic",
        question="Where lengths vary from step to step, does torch.compile pay, and how?",
        blocks=tuple(Block(workload=workload, variants=VARIANTS) for workload in workloads),
        check_steps=LENGTHS,  # every length once: the cold start holds every compilation
        quality_steps=0,
    )
