"""PyTorch's SDPA pinned to its memory-efficient kernel (from xFormers)."""

from contextlib import AbstractContextManager
from typing import Any

from suites.attention.sdpa import attention

__all__ = ["around", "attention"]

REQUIRES = {"torch": "2.3", "device": ["cuda"]}


def around() -> AbstractContextManager[Any]:
    """Allow no other kernel: SDPA raises where this one cannot run."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    return sdpa_kernel(SDPBackend.EFFICIENT_ATTENTION)
