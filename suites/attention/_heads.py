"""Grouped heads for a kernel that knows none: each key head once for every query head that reads it."""

from torch import Tensor


def repeated(x: Tensor, heads: int) -> Tensor:
    """Return `x` (batch, key heads, Lk, dim) as (batch, heads, Lk, dim); each key head stands for heads / key heads."""
    if x.size(1) == heads:
        return x
    return x[:, :, None].expand(-1, -1, heads // x.size(1), -1, -1).flatten(1, 2)
