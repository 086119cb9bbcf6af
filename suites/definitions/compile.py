"""What each mode of torch.compile gains, what compiling costs, and when it has paid for itself."""

from harness.spec import CHOICES, Block, Suite, Variant, Workload


def suite() -> Suite:
    """Return one workload, a variant a mode, eager as the baseline."""
    return Suite(
        name="compile",
        question="Which mode of torch.compile pays, and after how many steps?",
        blocks=(
            Block(
                workload=Workload(task="pretraining/causal_lm", model="gpt", size="small"),
                variants=tuple(Variant(name=mode, attention="sdpa", compile=mode) for mode in CHOICES["compile"]),
                baseline="none",
            ),
        ),
        quality_steps=0,
    )
