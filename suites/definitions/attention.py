"""Which attention backend is fastest, and which takes least memory, from short texts to long."""

from harness.spec import Block, Suite, Variant
from suites.definitions._lengths import LENGTHS, workload

BACKENDS = ("formula", "sdpa", "sdpa_math", "sdpa_flash", "sdpa_efficient", "sdpa_cudnn", "flex")


def suite() -> Suite:
    """Return a block a length, a variant a backend; a backend that this machine lacks is `unavailable`."""
    variants = tuple(Variant(name=backend, attention=backend) for backend in BACKENDS)
    return Suite(
        name="attention",
        question="Which attention backend trains fastest and with least memory at each length?",
        blocks=tuple(Block(workload=workload(length), variants=variants, baseline="formula") for length in LENGTHS),
        quality_steps=0,
    )
