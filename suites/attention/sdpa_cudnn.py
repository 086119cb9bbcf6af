"""PyTorch's SDPA pinned to cuDNN's kernel."""

from contextlib import AbstractContextManager
from typing import Any

from torch import Tensor

from suites.attention import sdpa

REQUIRES = {"torch": "2.5", "device": ["cuda"]}


def around() -> AbstractContextManager[Any]:
    """Allow no other kernel: SDPA raises where this one cannot run."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    return sdpa_kernel(SDPBackend.CUDNN_ATTENTION)


def attention(q: Tensor, k: Tensor, v: Tensor, *, bias: Tensor | None = None, **options: Any) -> Tensor:
    """Attend with this kernel; of a bias that learns torch would say no more than that no kernel is available."""
    if bias is not None and bias.requires_grad:
        raise NotImplementedError("cuDNN's attention has no gradient for a bias")
    return sdpa.attention(q, k, v, bias=bias, **options)
