"""Next-token prediction, of bytes or words, for a decoder such as gpt or llama.

Counts as tokens the real positions, each of which has the token after it as its target. Scores the loss in nats and,
where tokens are bytes, that in bits a byte, of which chance has 8.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from harness.work import Work
from suites.pretraining._windows import IGNORED, PAD, real, row_lengths, sample
from suites.pretraining._work import (
    Arrays,
    Batches,
    cross_entropy,
    require_tokens_told,
    require_vocabulary,
    text_work,
    vocabulary,
)


def prepare(model: torch.nn.Module, config: Mapping[str, Any], device: torch.device) -> Work:
    """Return the work; a batch is tokens, targets, both (batch, length), and the mask or None."""
    require_tokens_told(model, "causal_lm")
    is_padded = config["padding"] or config.get("bucket")
    words = vocabulary(config, 0)
    require_vocabulary(model, words or (PAD + 1 if is_padded else 256), "causal_lm")
    pads = (PAD, IGNORED, False)
    work = text_work(config=config, device=device, batches=batches, loss=loss, pads=pads)

    def score(model: Any, part: str = "test") -> dict[str, float]:
        loss = work.score(model, part)["held_out_loss"]
        return {**({} if words else {"bits_per_byte": loss / math.log(2)}), "held_out_loss": loss}

    return replace(work, score=score)


def batches(config: Mapping[str, Any]) -> Batches:
    """Return batches of one length. Those that are only filled up to a bucket need no mask: none sees what follows."""
    lengths = row_lengths(config, shortest=1)

    def draw(text: np.ndarray, random: np.random.RandomState) -> Arrays:
        rows = sample(text, random, config["batch"], config["length"] + 1)
        tokens, targets = rows[:, :-1], rows[:, 1:]
        if not config["padding"]:
            return tokens, targets, None
        mask = real(random.permutation(lengths), config["length"])
        return np.where(mask, tokens, PAD), np.where(mask, targets, IGNORED), mask

    return Batches(window=config["length"] + 1, draw=draw, tokens=int(lengths.sum()))


def loss(model: Any, batch: Any, smoothing: float = 0.0) -> Any:
    """Return the mean loss over the real positions, and the logits."""
    tokens, targets, mask = batch
    logits = model(tokens, mask)
    return cross_entropy(logits, targets, smoothing), logits.detach()
