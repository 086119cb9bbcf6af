"""Writing: what an encoder-decoder answers, token after token."""

from collections.abc import Callable, Sequence
from typing import Any

import torch

from suites.pretraining._windows import BOS, EOS, PAD


def greedy(decode: Callable[[Any], Any], rows: int, width: int, device: torch.device) -> list[Sequence[int]]:
    """Return what is written in each row, `width` tokens at most, the likeliest each time, until all rows have ended.

    `decode` gives the logits after each token of (rows, width). All are computed each time, in one shape so that
    nothing is compiled or tuned anew; a causal decoder's first ones stay what they were.
    """
    tokens = torch.full((rows, width + 1), PAD, device=device)
    tokens[:, 0] = BOS
    for place in range(width):
        tokens[:, place + 1] = decode(tokens[:, :-1])[:, place].argmax(-1)
        if (tokens == EOS).any(1).all():
            break
    return [ended(row) for row in tokens[:, 1:].tolist()]


def ended(tokens: Sequence[int]) -> Sequence[int]:
    """Return the tokens before EOS, or all if there is none."""
    return tokens[: tokens.index(EOS)] if EOS in tokens else tokens
