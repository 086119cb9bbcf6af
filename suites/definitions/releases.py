"""What each PyTorch release gains over 1.13.1 on the same code, and 2.x style over 1.x style, on three models."""

from dataclasses import replace

from harness.spec import Block, Suite
from suites.definitions._rungs import COMPILE, V1
from suites.definitions.ladder import WORKLOADS

# `foreach` and not `fused`: the fused optimizer runs on a CPU from torch 2.4 on, and here both releases do the same.
V2 = replace(COMPILE, name="v2", optimizer="foreach")
RUN = ((V1, "1.13.1"), (V1, "2.0.1"), (V1, "current"), (V2, "2.0.1"), (V2, "current"))


def suite() -> Suite:
    """Return three workloads, each style under each release that has it."""
    variants = tuple(replace(style, name=f"{style.name} {label}", torch=label) for style, label in RUN)
    return Suite(
        name="releases",
        question="Is PyTorch 2.x faster than 1.x on the same model, with the same code and with its own?",
        blocks=tuple(Block(workload=workload, variants=variants) for workload in WORKLOADS),
    )
