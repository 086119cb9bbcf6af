"""PyTorch's SDPA pinned to its memory-efficient kernel (from xFormers)."""

from contextlib import AbstractContextManager
from typing import Any

from torch import Tensor

from suites.attention import sdpa
from suites.attention._heads import repeated

REQUIRES = {"torch": "2.3", "device": ["cuda"]}


def around() -> AbstractContextManager[Any]:
    """Allow no other kernel: SDPA raises where this one cannot run."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    return sdpa_kernel(SDPBackend.EFFICIENT_ATTENTION)


def attention(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
    """Attend with this kernel, which knows no grouped heads."""
    return sdpa.attention(q, repeated(k, q.size(1)), repeated(v, q.size(1)), **options)
