"""What this machine can do at most, and what Transformers reach of it: the suite of `tandem hardware`."""

from dataclasses import replace

from harness.spec import Block, Suite, Variant, Workload
from suites.definitions._ceilings import EVERY, ONE_CORE, PLAIN, ceiling, precisions
from suites.definitions._rungs import COMPILE, SDPA

SIDE = 2048
TOKENS, WIDTH = 1024, 768  # a batch of GPT-2's size 124M: its projections, its feed-forward part, its vocabulary
SHAPES = ((TOKENS, WIDTH, WIDTH), (TOKENS, WIDTH, 4 * WIDTH), (TOKENS, 4 * WIDTH, WIDTH), (TOKENS, WIDTH, 50304))
SIZES = [2**power for power in range(18, 31, 2)]  # 256 KiB to 1 GiB: from the second cache to memory alone
LARGE = 2**28  # more than the caches of today's processors hold
OPERATIONS = ("copy", "triad", "read")
BACKENDS = [Variant(name=name, attention=name) for name in ("sdpa", "formula", "sdpa_flash", "sdpa_efficient")]
BF16_FLASH = Variant(name="sdpa, bf16", attention="sdpa", precision="bf16")
SCORED = (SDPA, COMPILE)


def suite() -> Suite:
    """Return the ceilings, then the training of four models at published sizes, in batches that suit a CPU."""
    return made(batch=1, length=64)


def accelerated() -> Suite:
    """Return the same in batches that keep a GPU busy."""
    return made(batch=16, length=1024)


def made(batch: int, length: int) -> Suite:
    """Return the suite with batches of so many texts; of images as many."""
    text = Workload(task="pretraining/causal_lm", model="gpt", size="base", batch=batch, length=length)
    workloads = (
        text,
        replace(text, task="pretraining/masked_lm", model="bert", length=min(length, 512)),  # all positions that it has
        replace(text, task="pretraining/denoising", model="encoder_decoder"),
        replace(text, task="finetuning/image_classification", model="vit", length=197, data="digits_224"),
    )
    return Suite(
        name="hardware",
        question="What can this machine do at most, and how much of it do Transformers reach?",
        blocks=(*ceilings(), *(Block(workload=workload, variants=SCORED) for workload in workloads)),
        launches=3,
        rounds=6,
        quality_steps=0,
        check_steps=2,
    )


def ceilings() -> tuple[Block, ...]:
    """Return every ceiling."""
    return (
        ceiling("matmul", [*EVERY, ONE_CORE], rows=SIDE, inner=SIDE, columns=SIDE),
        ceiling("matmul", precisions("fp32", "bf16"), rows=SIDE, inner=SIDE, columns=SIDE, cold=True),
        *(
            ceiling("matmul", precisions("fp32", "bf16"), rows=rows, inner=inner, columns=columns)
            for rows, inner, columns in SHAPES
        ),
        *(
            ceiling("memory", [PLAIN, ONE_CORE] if size == LARGE else [PLAIN], operation=name, size=size)
            for name in OPERATIONS
            for size in SIZES
        ),
        *(ceiling("attention", [*BACKENDS, BF16_FLASH], length=length) for length in (256, 1024)),
        *(ceiling("calls", [PLAIN], wait=wait) for wait in (False, True)),
        *(
            ceiling("transfer", [PLAIN], direction=direction, pinned=pinned)
            for direction in ("to_device", "to_host")
            for pinned in (True, False)
        ),
        *(ceiling("disk", [PLAIN], direct=direct) for direct in (True, False)),
        ceiling("sustained", [PLAIN], rows=SIDE, inner=SIDE, columns=SIDE),
    )
