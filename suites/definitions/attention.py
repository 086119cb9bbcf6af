"""Which attention kernel SDPA chooses, and whether another is faster: by dtype, head size, mask and length."""

from typing import Any

from harness.recipe import Recipe
from harness.spec import Block, Suite, Variant, Workload

BACKENDS = ("sdpa", "formula", "sdpa_math", "sdpa_flash", "sdpa_efficient", "sdpa_cudnn", "flex")
FAMILIES: tuple[dict[str, Any], ...] = (  # one, and others that differ from it in one thing; `--vary` crosses them
    {},
    {"precision": "bf16_pure"},  # on a GPU FlashAttention and cuDNN take half precision only
    {"heads": 2},
    {"causal": False},
    {"causal": False, "padding": 0.25},
)
LENGTHS = (64, 256, 1024)
DIM, TOKENS = 256, 1024  # alike everywhere, so that only attention's own share grows with the length


def suite() -> Suite:
    """Return a block for each attention and length: SDPA's choice, and beside it every forced kernel."""
    return Suite(
        name="attention",
        question="Which attention kernel does SDPA choose, and is it the fastest?",
        blocks=tuple(block(length, **family) for length in LENGTHS for family in FAMILIES),  # a shard of 5 is a family
        launches=3,
        check_steps=1,
        quality_steps=0,
    )


def block(length: int, *, precision: str = "fp32", heads: int = 8, causal: bool = True, padding: float = 0.0) -> Block:
    """Return a variant a backend on one attention; its name says what else `--vary` may change."""
    workload = Workload(
        task="kernels/attention",
        model="suites.kernels.attention",
        batch=TOKENS // length,
        length=length,
        padding=padding,
        settings={"dim": DIM, "heads": heads, "causal": causal},
        recipe=Recipe(clip=0.0),
    )
    return Block(
        name=f"{workload.slug} precision={precision} heads={heads} causal={causal} padding={padding}",
        workload=workload,
        variants=tuple(Variant(name=name, attention=name, precision=precision, optimizer="none") for name in BACKENDS),
    )
