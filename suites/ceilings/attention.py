"""An attention alone, forward and backward, at one length: what share of the matrix products' rate it reaches."""

import torch

from harness.work import Ceiling, Place
from suites.ceilings.matmul import DTYPES

BACKWARD = 2
"""Backward over forward FLOP: four products for two; what a flash kernel computes again is not counted."""


def prepare(
    place: Place, *, length: int, batch: int = 1, heads: int = 12, head_dim: int = 64, causal: bool = True
) -> Ceiling:
    """Return a step of q, k, v of (batch, heads, length, head_dim); causal attention counts its FLOP in full."""
    shape = batch, length, heads, head_dim
    drawn = [torch.randn(shape, device=place.device, dtype=DTYPES[place.precision]) for _ in range(3)]
    leaves = [tensor.requires_grad_() for tensor in drawn]

    def step() -> None:
        q, k, v = (leaf.transpose(1, 2) for leaf in leaves)  # (batch, heads, length, head_dim), as in a model
        with torch.enable_grad():
            output = place.attention(q, k, v, causal=causal)
            torch.autograd.grad(output, leaves, torch.ones_like(output))

    forward = 4.0 * batch * heads * length**2 * head_dim
    return Ceiling(step=step, amount={"flop": forward * (1 + BACKWARD)})
