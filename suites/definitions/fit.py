"""The largest batch, or with `--set fit=length` the longest sequence, that each rung can train in the same memory."""

from dataclasses import replace

from harness.spec import Block, Suite, Workload
from suites.definitions._rungs import SDPA, V1

BF16 = replace(SDPA, name="+bf16", precision="bf16")
CHECKPOINT = replace(BF16, name="+checkpoint", checkpoint=True)
VARIANTS = (V1, SDPA, BF16, CHECKPOINT, replace(BF16, name="bf16, compiled", compile="default"))


def suite() -> Suite:
    """Return a decoder with room for long texts, and 2 GiB."""
    work = Workload(task="pretraining/causal_lm", model="llama", size="tiny", settings={"positions": 2**17})
    return Suite(
        name="fit",
        question="What is the most that each rung can train in the same memory?",
        blocks=(Block(workload=work, variants=VARIANTS),),
        launches=1,
        fit="batch",
        memory_limit=2 * 2**30,
    )
