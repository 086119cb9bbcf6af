"""PyTorch's SDPA pinned to its FlashAttention kernel."""

from contextlib import AbstractContextManager
from typing import Any

from suites.attention.sdpa import attention

__all__ = ["around", "attention"]

# Elsewhere torch does not refuse but quietly takes another: math on MPS, oneDNN's on XPU.
REQUIRES = {"torch": "2.3", "device": ["cpu", "cuda"]}


def around() -> AbstractContextManager[Any]:
    """Allow no other kernel: SDPA raises where this one cannot run."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    return sdpa_kernel(SDPBackend.FLASH_ATTENTION)
