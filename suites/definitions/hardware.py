"""What this machine can do at most, and what Transformers reach of it: the suite of `tandem hardware`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from harness.spec import Block, Suite, Variant, Workload
from suites.definitions._ceilings import EVERY, ONE_CORE, PLAIN, ceiling, precisions

TOKENS, WIDTH = 256, 768  # GPT-2's size 124M: of a batch at least, and of its layers
SHAPES = ((WIDTH, WIDTH), (WIDTH, 4 * WIDTH), (4 * WIDTH, WIDTH), (WIDTH, 50304))  # projection, both of MLP, vocabulary
LARGE = 28  # as a power of two, in bytes: more than most caches hold
OPERATIONS = ("copy", "triad", "read")
BACKENDS = ("sdpa", "formula", "sdpa_flash", "sdpa_efficient", "sdpa_cudnn")
FP32 = Variant(name="sdpa, fp32", attention="sdpa", optimizer="fused")
COMPILED = replace(FP32, name="+compile, bf16", compile="default", precision="bf16")
REGIONAL = replace(COMPILED, name="+regional, bf16", compile="regional")


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
    lengths: Sequence[int]
    """Of an attention alone."""
    usual: str
    other: str
    """Precisions of attention; load is sustained in the usual one."""
    fast: Variant
    """What the models are trained by beside float32."""


def suite() -> Suite:
    """Return the ceilings, then the training of four models at published sizes, in batches that suit a CPU."""
    return made(Scale(batch=1, length=32, side=2048, sizes=range(18, LARGE + 1, 2), one=[ONE_CORE],
                      lengths=(256, 1024), usual="fp32", other="bf16", fast=REGIONAL))  # fmt: skip


def accelerated() -> Suite:
    """Return the same in batches that keep a GPU busy."""
    return made(Scale(batch=16, length=1024, side=8192, sizes=range(24, 33, 4), one=[],
                      lengths=(1024, 4096), usual="bf16", other="fp32", fast=COMPILED))  # fmt: skip


def made(scale: Scale) -> Suite:
    """Return the suite at a scale."""
    batch, tokens = scale.batch, scale.batch * scale.length
    text = Workload(task="pretraining/causal_lm", model="gpt", size="base", batch=batch, length=scale.length)
    short = min(scale.length, 512)  # all positions that BERT has
    images = max(batch, tokens // 256)  # of 197 tokens each
    workloads = (
        text,
        replace(text, task="pretraining/masked_lm", model="bert", length=short, batch=tokens // short),
        replace(text, task="pretraining/denoising", model="encoder_decoder"),
        replace(text, task="finetuning/image_classification", model="vit", length=197, batch=images, data="digits_224"),
    )
    return Suite(
        name="hardware",
        question="What can this machine do at most, and how much of it do Transformers reach?",
        blocks=(*ceilings(scale), *(Block(workload=workload, variants=(FP32, scale.fast)) for workload in workloads)),
        launches=3,
        rounds=4,
        quality_steps=0,
        check_steps=2,
    )


def ceilings(scale: Scale) -> tuple[Block, ...]:
    """Return every ceiling."""
    square = {"rows": scale.side, "inner": scale.side, "columns": scale.side}
    tokens = max(TOKENS, scale.batch * scale.length)
    attentions = [Variant(name=name, attention=name, precision=scale.usual) for name in BACKENDS]
    attentions.append(Variant(name=f"sdpa, {scale.other}", attention="sdpa", precision=scale.other))
    return (
        ceiling("matmul", [*EVERY, *scale.one], **square),
        ceiling("matmul", precisions("fp32", "bf16"), **square, cold=True),
        *(
            ceiling("matmul", precisions("fp32", "bf16"), rows=tokens, inner=inner, columns=columns)
            for inner, columns in SHAPES
        ),
        *(
            ceiling("memory", [PLAIN, *scale.one] if power == LARGE else [PLAIN], operation=name, size=2**power)
            for name in OPERATIONS
            for power in scale.sizes
        ),
        *(ceiling("attention", attentions, length=length, batch=scale.batch) for length in scale.lengths),
        *(ceiling("calls", [PLAIN], wait=wait) for wait in (False, True)),
        *(
            ceiling("transfer", [PLAIN], direction=direction, pinned=pinned)
            for direction in ("to_device", "to_host")
            for pinned in (True, False)
        ),
        ceiling("disk", [PLAIN], direct=True),
        ceiling("disk", [PLAIN], direct=False, fresh=True),
        ceiling("sustained", precisions(scale.usual), **square),
    )
