"""PyTorch's scaled_dot_product_attention, the kernel chosen by PyTorch."""

import torch
import torch.nn.functional as F
from torch import Tensor

REQUIRES = {"torch": "2.0"}


def attention(q: Tensor, k: Tensor, v: Tensor, *, causal: bool, mask: Tensor | None = None) -> Tensor:
    """Attend with the SDPA kernel that the surrounding context allows."""
    if causal and mask is not None:  # SDPA takes one or the other: some kernels refuse both, some would drop one
        mask = mask & torch.ones(q.size(-2), k.size(-2), dtype=torch.bool, device=q.device).tril()
        causal = False
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)
