"""Which attention kernel SDPA chooses, and whether another is faster: by dtype, head size, mask and length."""

from itertools import product

from harness.recipe import Recipe
from harness.spec import Block, Suite, Variant, Workload

BACKENDS = ("sdpa", "formula", "sdpa_math", "sdpa_flash", "sdpa_efficient", "sdpa_cudnn", "flex")
PRECISIONS = ("fp32", "bf16_pure")  # on a GPU FlashAttention and cuDNN take half precision only
HEADS = (8, 2)  # of 32 and of 128
MASKS = ({"causal": False, "padding": 0.0}, {"causal": True, "padding": 0.0}, {"causal": False, "padding": 0.25})
LENGTHS = (64, 256, 1024)
DIM, TOKENS = 256, 1024  # alike everywhere, so that only attention's own share grows with the length


def suite() -> Suite:
    """Return a block for each dtype, head size, mask and length: SDPA's choice, and beside it every forced kernel."""
    return Suite(
        name="attention",
        question="Which attention kernel does SDPA choose, and is it the fastest?",
        blocks=tuple(block(*point) for point in product(PRECISIONS, HEADS, MASKS, LENGTHS)),
        launches=3,
        check_steps=1,
        quality_steps=0,
    )


def block(precision: str, heads: int, mask: dict[str, float], length: int) -> Block:
    """Return a variant a backend on one attention; its name says what `--vary` may change."""
    workload = Workload(
        task="kernels/attention",
        model="suites.kernels.attention",
        batch=TOKENS // length,
        length=length,
        padding=mask["padding"],
        settings={"dim": DIM, "heads": heads, "causal": mask["causal"]},
        recipe=Recipe(clip=0.0),
    )
    return Block(
        name=f"{workload.slug} precision={precision} heads={heads} causal={mask['causal']} padding={mask['padding']}",
        workload=workload,
        variants=tuple(Variant(name=name, attention=name, precision=precision, optimizer="none") for name in BACKENDS),
    )
