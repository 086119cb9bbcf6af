"""What each number format gains in speed and memory, and what it costs in correctness and loss."""

from harness.spec import Block, Suite, Variant, Workload

PRECISIONS = ("fp32", "tf32", "bf16", "fp16", "bf16_pure")


def suite() -> Suite:
    """Return one workload, a variant a number format; trained long enough for a loss to go astray."""
    return Suite(
        name="precision",
        question="What does each number format gain in speed and memory, and cost in correctness and loss?",
        blocks=(
            Block(
                workload=Workload(task="pretraining/causal_lm", model="gpt", size="small"),
                variants=tuple(Variant(name=name, attention="sdpa", precision=name) for name in PRECISIONS),
            ),
        ),
        quality_steps=100,
    )
