"""PyTorch's scaled_dot_product_attention, the kernel chosen by PyTorch."""

import torch
import torch.nn.functional as F
from torch import Tensor

from suites.attention._heads import repeated

REQUIRES = {"torch": "2.0"}
# Releases from which a device's FlashAttention takes fewer key heads than heads (pytorch pulls 128898 and 157893).
GROUPS_SINCE = {"cuda": "2.5", "cpu": "2.9"}
KNOWS_GROUPS = {device for device, release in GROUPS_SINCE.items() if torch.__version__ >= release}
HALVES = (torch.float16, torch.bfloat16)


def attention(
    q: Tensor, k: Tensor, v: Tensor, *, causal: bool, mask: Tensor | None = None, bias: Tensor | None = None
) -> Tensor:
    """Attend with the SDPA kernel that the surrounding context allows."""
    if causal and (mask is not None or bias is not None):
        # SDPA takes one or the other: some kernels refuse both, some would drop one
        past = torch.ones(q.size(-2), k.size(-2), dtype=torch.bool, device=q.device).tril()
        mask = past if mask is None else mask & past
        causal = False
    if bias is not None:  # SDPA adds a mask of the queries' type to the scores
        bias = bias.to(q.dtype)
        mask = bias if mask is None else bias.masked_fill(~mask, float("-inf"))
    if k.size(1) < q.size(1):
        if takes_groups(q, mask):
            return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal, enable_gqa=True)
        k, v = repeated(k, q.size(1)), repeated(v, q.size(1))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)


def takes_groups(q: Tensor, mask: Tensor | None) -> bool:
    """Tell whether FlashAttention runs on grouped heads as they are; for what it refuses, SDPA would take its math."""
    on_gpu = q.device.type == "cuda"
    return q.device.type in KNOWS_GROUPS and not (on_gpu and (mask is not None or q.dtype not in HALVES))
