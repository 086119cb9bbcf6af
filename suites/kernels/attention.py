"""One attention alone, forward and backward: queries, keys and values are the parameters.

All else that a model does hides where one kernel overtakes another. Here the loss is the mean square of the output,
and that is all there is beside the attention. For one `dim`, any number of heads takes the same FLOP.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from harness.errors import UserError
from harness.work import Work
from suites.pretraining._windows import real, row_lengths


def build(
    attention: Callable[..., Tensor], *, batch: int, length: int, dim: int = 256, heads: int = 4, causal: bool = False
) -> nn.Module:
    """Return an attention of `heads` heads of dim / heads over random queries, keys and values."""
    if dim % heads:
        raise UserError(f"a dim of {dim} does not divide into {heads} heads", f"--set dim={heads * (dim // heads + 1)}")
    return Attention(attention, (batch, length, heads, dim // heads), causal)


class Attention(nn.Module):
    """Mask (batch, 1, 1, length) or None -> what the queries find, (batch, heads, length, dim / heads)."""

    def __init__(self, attention: Callable[..., Tensor], shape: tuple[int, ...], causal: bool) -> None:
        super().__init__()
        self.attention, self.causal = attention, causal
        self.q, self.k, self.v = (nn.Parameter(torch.randn(shape)) for _ in range(3))

    def forward(self, mask: Tensor | None) -> Tensor:
        """Return the output; in memory a token's heads lie together, as a model's projections leave them."""
        q, k, v = (x.transpose(1, 2) for x in (self.q, self.k, self.v))  # (batch, heads, length, dim / heads)
        return self.attention(q, k, v, causal=self.causal, mask=mask)


def prepare(model: nn.Module, config: Mapping[str, Any], device: torch.device) -> Work:
    """Return the work; a batch is the mask of the real keys, or None where nothing is padded."""
    lengths = row_lengths(config, shortest=1)
    mask = None
    if config["padding"]:
        mask = torch.from_numpy(real(lengths, config["length"]))[:, None, None, :].to(device)

    def batch(index: int) -> Tensor | None:
        return mask

    amount = {"tokens": int(lengths.sum()), "samples": config["batch"]}
    return Work(batch=batch, loss=loss, amount=amount, score=score)


def loss(model: nn.Module, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the mean square of the output, and the output."""
    output = model(mask)
    return output.square().mean(), output.detach()


def score(model: nn.Module, part: str = "test") -> Mapping[str, float]:
    """Refuse: there is nothing to learn."""
    raise UserError("an attention alone learns nothing", "--set quality_steps=0")
