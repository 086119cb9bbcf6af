"""FlexAttention: one fused kernel that torch.compile makes for the mask at hand.

Causal attention skips the blocks that lie in the future; padding is a score modifier, as it differs from batch to batch
and making a block mask for every layer of every step would cost more than the blocks it skips.
"""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

REQUIRES = {"torch": "2.5", "compiler": True}
LEARNS_BIAS = torch.__version__ >= "2.6"  # pytorch pull 137452


def attention(
    q: Tensor, k: Tensor, v: Tensor, *, causal: bool, mask: Tensor | None = None, bias: Tensor | None = None
) -> Tensor:
    """Attend with a compiled FlexAttention kernel; with its uncompiled form, the formula, only for a score."""
    if bias is not None and bias.requires_grad and not LEARNS_BIAS:
        raise NotImplementedError("FlexAttention has no gradient for a bias before torch 2.6")
    if torch.compiler.is_compiling():  # the surrounding graph compiles it, and Dynamo warns of every lru_cache it meets
        attend, blocks = compiled.__wrapped__(), causal_blocks.__wrapped__
    else:
        attend, blocks = compiled(), causal_blocks
    scores = (q.size(0), q.size(1), q.size(2), k.size(2))
    return attend(
        q, k, v,
        score_mod=modifier(*(None if x is None else x.expand(scores) for x in (mask, bias))),
        block_mask=blocks(q.size(2), q.device) if causal else None,
        enable_gqa=k.size(1) < q.size(1),
    )  # fmt: skip


def modifier(mask: Tensor | None, bias: Tensor | None) -> Any:
    """Return what adds `bias` to a score and shuts out what `mask` does, both (batch, heads, Lq, Lk), or None."""

    def modify(score: Tensor, batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        if bias is not None:
            score = score + bias[batch, head, query, key]
        if mask is not None:
            score = torch.where(mask[batch, head, query, key], score, -float("inf"))
        return score

    return None if mask is None and bias is None else modify


def past(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
    """Tell whether `key` is not in the future of `query`."""
    return query >= key


@lru_cache(maxsize=1)  # compiled when first used: importing does nothing
def compiled() -> Any:
    """Return FlexAttention, compiled by itself; `fullgraph` so that it fails rather than runs uncompiled."""
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, fullgraph=True, dynamic=False)


@lru_cache(maxsize=8)  # a pure function of its arguments; a model has one or two lengths
def causal_blocks(length: int, device: torch.device) -> Any:
    """Return which blocks of a causal (length, length) mask are empty, full or on the diagonal."""
    from torch.nn.attention.flex_attention import create_block_mask

    return create_block_mask(past, None, None, length, length, device=device)
