"""PyTorch's SDPA pinned to cuDNN's kernel."""

from contextlib import AbstractContextManager
from typing import Any

from suites.attention.sdpa import attention

__all__ = ["around", "attention"]

REQUIRES = {"torch": "2.5", "device": ["cuda"]}


def around() -> AbstractContextManager[Any]:
    """Allow no other kernel: SDPA raises where this one cannot run."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    return sdpa_kernel(SDPBackend.CUDNN_ATTENTION)
