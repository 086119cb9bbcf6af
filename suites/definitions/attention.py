"""Which attention backend is fastest, and which takes least memory, from short texts to long."""

from harness.spec import Block, Suite, Variant
from suites.definitions._lengths import LENGTHS, workload

BACKENDS = ("formula", "sdpa", "sdpa_math", "sdpa_flash", "sdpa_efficient", "sdpa_cudnn", "flex")
PRECISIONS = {"fp32": "", "bf16": " bf16"}  # on a GPU FlashAttention and cuDNN take half precision only


def suite() -> Suite:
    """Return a block a precision and length, a variant a backend; one that this machine lacks is `unavailable`."""
    return Suite(
        name="attention",
        question="Which attention backend trains fastest and with least memory at each length?",
        blocks=tuple(
            Block(
                name=f"{workload(length).slug}-{precision}",
                workload=workload(length),
                variants=tuple(Variant(name=name + mark, attention=name, precision=precision) for name in BACKENDS),
                baseline="formula" + mark,
            )
            for precision, mark in PRECISIONS.items()
            for length in LENGTHS
        ),
        quality_steps=0,
    )
