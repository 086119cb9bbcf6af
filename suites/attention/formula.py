"""softmax(QK^T/sqrt(d))V written out, the 1.x way (Vaswani et al. 2017, equation 1).

Under `torch.compile`, Inductor recognises this pattern where there is no mask and puts SDPA in its place: the trace
then names an SDPA kernel.
"""

import math

import torch
from torch import Tensor

from suites.attention._heads import repeated


def attention(
    q: Tensor, k: Tensor, v: Tensor, *, causal: bool, mask: Tensor | None = None, bias: Tensor | None = None
) -> Tensor:
    """Attend with plain tensor operations, scores and all."""
    k, v = repeated(k, q.size(1)), repeated(v, q.size(1))
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))  # (batch, heads, Lq, Lk)
    if bias is not None:
        scores = scores + bias
    if causal:
        past = torch.ones(q.size(-2), k.size(-2), dtype=torch.bool, device=q.device).tril()  # (Lq, Lk)
        scores = scores.masked_fill(~past, float("-inf"))
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    return torch.softmax(scores, dim=-1) @ v  # (batch, heads, Lq, dim)
