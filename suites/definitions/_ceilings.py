"""Blocks of ceilings, as the hardware suites put them together."""

from collections.abc import Sequence

from harness.spec import Block, Scalar, Variant, Workload


def ceiling(task: str, variants: Sequence[Variant], **settings: Scalar) -> Block:
    """Return a ceiling at these settings, by each of the variants."""
    return Block(workload=Workload(task=f"ceilings/{task}", settings=settings), variants=tuple(variants))


def precisions(*names: str) -> list[Variant]:
    """Return a variant a precision, float32 as the baseline."""
    return [Variant(name=name, precision=name) for name in names]


ONE_CORE = Variant(name="one thread", threads=1)
PLAIN = Variant(name="fp32")
EVERY = precisions("fp32", "fp64", "tf32", "bf16", "fp16", "int8", "fp8")
