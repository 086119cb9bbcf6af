"""The one device abstraction: what a case runs on, and how to wait for it."""

from dataclasses import dataclass

import torch

from harness.errors import Unavailable

ACCELERATORS = ("cuda", "xpu", "mps")  # what `auto` tries, in this order


@dataclass(frozen=True)
class Device:
    """A kind of device (`cpu`, `cuda`, `xpu`, `mps`) that is known to be there."""

    kind: str

    def synchronize(self) -> None:
        """Wait until the device has done all work queued so far; the CPU never lags behind."""
        if self.kind != "cpu":
            getattr(torch, self.kind).synchronize()

    @property
    def torch(self) -> torch.device:
        """The device as tensors know it."""
        return torch.device(self.kind)


def resolve(name: str) -> Device:
    """Return the device called `name`, with `auto` the first accelerator there is, else the CPU."""
    if name == "auto":
        return Device(next((kind for kind in ACCELERATORS if missing(kind) is None), "cpu"))
    if reason := missing(name):
        raise Unavailable(reason)
    return Device(name)


def missing(kind: str) -> str | None:
    """Return why there is no device of this kind here, or None if there is one."""
    if kind == "cpu":
        return None
    if kind == "cuda":
        return missing_cuda()
    if kind == "xpu":
        seen = hasattr(torch, "xpu") and torch.xpu.is_available()
        return None if seen else f"torch {torch.__version__} sees no Intel GPU (xpu)"
    seen = hasattr(torch, "mps") and torch.backends.mps.is_available()  # torch 1.13 has no torch.mps to wait with
    return None if seen else f"torch {torch.__version__} sees no Apple GPU (mps)"


def missing_cuda() -> str | None:
    """Return why CUDA (or ROCm, which torch gives the same name) cannot be used, or None."""
    if torch.version.cuda is None and torch.version.hip is None:
        return f"torch {torch.__version__} is built without CUDA: install a CUDA build of torch"
    if not torch.cuda.is_available():
        return f"torch {torch.__version__} sees no CUDA GPU: no driver, a driver that is too old, or no GPU"
    return None
