"""What this machine can do at most, and what Transformers reach of it: the suite of `tandem hardware`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from harness.spec import Block, Suite, Variant, Workload
from suites.definitions._ceilings import EVERY, ONE_CORE, PLAIN, ceiling, precisions
from suites.definitions._rungs import COMPILE, SDPA

TOKENS, WIDTH = 1024, 768  # a batch of GPT-2's size 124M: its projections, its feed-forward part, its vocabulary
SHAPES = ((TOKENS, WIDTH, WIDTH), (TOKENS, WIDTH, 4 * WIDTH), (TOKENS, 4 * WIDTH, WIDTH), (TOKENS, WIDTH, 50304))
LARGE = 28  # as a power of two, in bytes: more than the caches of most processors hold
OPERATIONS = ("copy", "triad", "read")
BACKENDS = [Variant(name=name, attention=name) for name in ("sdpa", "formula", "sdpa_flash", "sdpa_efficient")]
BF16_FLASH = Variant(name="sdpa, bf16", attention="sdpa", precision="bf16")


@dataclass(frozen=True, kw_only=True)
class Scale:
    """What suits a kind of device."""

    batch: int
    """Texts, or images, of a training step."""
    length: int
    side: int
    """Of square products."""
    sizes: Sequence[int]
    """Of working sets, as powers of two: from the second cache to memory alone."""
    one: Sequence[Variant]
    """The variant that has one core only, where cores do the work."""
    sustained: str = "fp32"


SCORED = (SDPA, replace(COMPILE, name="+compile, bf16", precision="bf16"))


def suite() -> Suite:
    """Return the ceilings, then the training of four models at published sizes, in batches that suit a CPU."""
    return made(Scale(batch=1, length=64, side=2048, sizes=range(18, 31, 2), one=[ONE_CORE]))


def accelerated() -> Suite:
    """Return the same in batches that keep a GPU busy."""
    return made(Scale(batch=16, length=1024, side=8192, sizes=range(24, 33, 2), one=[], sustained="bf16"))


def made(scale: Scale) -> Suite:
    """Return the suite at a scale."""
    batch, length = scale.batch, scale.length
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
        blocks=(*ceilings(scale), *(Block(workload=workload, variants=SCORED) for workload in workloads)),
        launches=3,
        rounds=4,
        quality_steps=0,
        check_steps=2,
    )


def ceilings(scale: Scale) -> tuple[Block, ...]:
    """Return every ceiling."""
    square = {"rows": scale.side, "inner": scale.side, "columns": scale.side}
    return (
        ceiling("matmul", [*EVERY, *scale.one], **square),
        ceiling("matmul", precisions("fp32", "bf16"), **square, cold=True),
        *(
            ceiling("matmul", precisions("fp32", "bf16"), rows=rows, inner=inner, columns=columns)
            for rows, inner, columns in SHAPES
        ),
        *(
            ceiling("memory", [PLAIN, *scale.one] if power == LARGE else [PLAIN], operation=name, size=2**power)
            for name in OPERATIONS
            for power in scale.sizes
        ),
        *(ceiling("attention", [*BACKENDS, BF16_FLASH], length=length) for length in (256, 1024)),
        *(ceiling("calls", [PLAIN], wait=wait) for wait in (False, True)),
        *(
            ceiling("transfer", [PLAIN], direction=direction, pinned=pinned)
            for direction in ("to_device", "to_host")
            for pinned in (True, False)
        ),
        *(ceiling("disk", [PLAIN], direct=direct) for direct in (True, False)),
        ceiling("sustained", precisions(scale.sustained), **square),
    )
