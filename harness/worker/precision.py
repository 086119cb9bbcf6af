"""Precisions: the number formats a training step can run in."""

from contextlib import nullcontext
from typing import Any

import torch

from harness.errors import Unavailable

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}
FIRST_SCALE = 2.0**10  # torch's 2**16 may overflow in the first steps, which it then skips: the check would fail
OF_PRODUCTS = ("int8", "fp8")  # formats of matrix products, in which no model is trained here
PARAMETERS = {"bf16_pure": torch.bfloat16, "fp64": torch.float64}


def refuse(precision: str, device: Any, *, trains: bool = True) -> None:
    """Raise Unavailable if `device` cannot train in `precision`, or, where nothing is trained, not multiply in it."""
    if precision == "tf32" and device.kind != "cuda":
        raise Unavailable("tf32 is a CUDA number format: needs an NVIDIA GPU of compute capability 8.0 or newer")
    if precision == "tf32" and torch.cuda.get_device_capability()[0] < 8:
        raise Unavailable("tf32 needs an NVIDIA GPU of compute capability 8.0 or newer")
    if precision in ("bf16", "bf16_pure") and device.kind == "cuda" and only_emulates_bf16():
        raise Unavailable("bfloat16 needs an NVIDIA GPU of compute capability 8.0 or newer")
    if trains and precision == "fp16" and device.kind != "cuda" and not hasattr(torch.amp, "GradScaler"):
        raise Unavailable(
            f"fp16 training on {device.kind} needs torch 2.3 or newer (GradScaler); this is {torch.__version__}"
        )
    if precision == "fp64" and device.kind == "mps":
        raise Unavailable("mps has no float64")


def only_emulates_bf16() -> bool:
    """Tell whether the GPU lacks bfloat16; `torch.cuda.is_bf16_supported` counts slow emulation, too."""
    return torch.version.hip is None and torch.cuda.get_device_capability()[0] < 8


def switch_tf32(precision: str) -> None:
    """Allow TF32 in CUDA's matrix products for `tf32` only; PyTorch's defaults differ between releases."""
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.allow_tf32 = precision == "tf32"


def autocast(precision: str, device: Any) -> Any:
    """Return the context of the forward pass."""
    dtype = AUTOCAST.get(precision)
    return torch.autocast(device.kind, dtype=dtype) if dtype else nullcontext()


def scaler(precision: str, device: Any) -> Any:
    """Return a gradient scaler, which does nothing unless the precision is `fp16`."""
    settings = {"enabled": precision == "fp16", "init_scale": FIRST_SCALE}
    if hasattr(torch.amp, "GradScaler"):
        return torch.amp.GradScaler(device.kind, **settings)
    return torch.cuda.amp.GradScaler(**settings)
