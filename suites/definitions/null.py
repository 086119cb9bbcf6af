"""Whether this machine and this harness see a difference where there is none: the same variant twice."""

from harness.spec import Block, Suite, Variant, Workload


def suite() -> Suite:
    """Return one workload with two variants that differ in nothing but their names."""
    return Suite(
        name="null",
        question="Does the same variant, run twice, come out the same?",
        blocks=(
            Block(
                workload=Workload(task="pretraining/causal_lm", model="gpt", size="tiny"),
                variants=tuple(Variant(name=name, attention="sdpa") for name in ("a", "b")),
            ),
        ),
        launches=3,
        rounds=40,  # a tiny model's rounds are cheap beside its start: docs/measuring.md, "How many rounds"
        quality_steps=0,
    )
