"""Copies between the host's memory and the device's, pinned or pageable."""

import torch

from harness.errors import Unavailable, UserError
from harness.work import Ceiling, Place


def prepare(place: Place, *, direction: str = "to_device", pinned: bool = True, size: int = 2**28) -> Ceiling:
    """Return one copy of `size` bytes, `to_device` or `to_host`."""
    if direction not in ("to_device", "to_host"):
        raise UserError(f"transfer: direction is {direction!r}", "to_device or to_host")
    if place.device.type == "cpu":
        raise Unavailable("a CPU computes in the host's own memory: nothing is copied to it")
    if pinned and place.device.type != "cuda":
        raise Unavailable(f"pinned memory serves copies to a CUDA device; this is {place.device.type}")
    host = torch.ones(size, dtype=torch.uint8, pin_memory=pinned)
    device = torch.ones(size, dtype=torch.uint8, device=place.device)
    target, source = (device, host) if direction == "to_device" else (host, device)
    return Ceiling(step=lambda: target.copy_(source, non_blocking=pinned), amount={"moved_bytes": float(size)})
