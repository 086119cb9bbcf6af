"""An attention alone, forward and backward, at one length: what share of the matrix products' rate it reaches."""

from math import ceil

import torch

from harness.errors import Unavailable
from harness.work import Ceiling, Place
from suites.ceilings.matmul import DTYPES, WORK

TRAINED = ("fp64", "fp32", "tf32", "fp16", "bf16", "bf16_pure")
BACKWARD = 2
"""Backward over forward FLOP: four products for two; what a flash kernel computes again is not counted."""


def prepare(
    place: Place, *, length: int, batch: int = 1, heads: int = 12, head_dim: int = 64, causal: bool = True
) -> Ceiling:
    """Return steps of q, k, v of (batch, heads, length, head_dim); causal attention counts its FLOP in full."""
    if place.precision not in TRAINED:
        raise Unavailable(f"{place.precision} is a format of matrix products; attention is not computed in it")
    shape = batch, length, heads, head_dim
    leaves = [torch.randn(shape, device=place.device, dtype=DTYPES[place.precision]) for _ in range(3)]
    for leaf in leaves:
        leaf.requires_grad_()
    slope = torch.ones(batch, heads, length, head_dim, device=place.device, dtype=DTYPES[place.precision])
    flop = 4.0 * batch * heads * length**2 * head_dim * (1 + BACKWARD)
    repeats = ceil(WORK * place.effort / flop)

    def step() -> None:
        with torch.enable_grad():
            for _ in range(repeats):
                q, k, v = (leaf.transpose(1, 2) for leaf in leaves)  # (batch, heads, length, head_dim), as in a model
                torch.autograd.grad(place.attention(q, k, v, causal=causal), leaves, slope)

    return Ceiling(step=step, amount={"flop": flop * repeats})
