"""Masked-token prediction, of bytes or words, for an encoder such as bert.

Devlin et al. 2019, https://arxiv.org/abs/1810.04805.
A row is BOS, a segment, EOS, another segment, EOS, the two from different places and cut at a random point.
15 % of its tokens are targets: 80 % of these are replaced by MASK, 10 % by a random one, 10 % are left.
Counts as tokens all real positions of the input, the three markers of a row among them.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from harness.work import Work
from suites.pretraining._windows import BOS, EOS, FIRST, IGNORED, MASK, PAD, choose, real, row_lengths, sample
from suites.pretraining._work import (
    Arrays,
    Batches,
    cross_entropy,
    require_tokens_told,
    require_vocabulary,
    text_work,
    vocabulary,
)

MASKED = 0.15
MARKERS = 3


def prepare(model: torch.nn.Module, config: Mapping[str, Any], device: torch.device) -> Work:
    """Return the work; a batch is tokens, segments, targets, all (batch, length), and the mask or None."""
    require_tokens_told(model, "masked_lm")
    require_vocabulary(model, vocabulary(config, EOS + 1), "masked_lm")
    return text_work(config=config, device=device, batches=batches, loss=loss, pads=(PAD, 0, IGNORED, False))


def batches(config: Mapping[str, Any]) -> Batches:
    """Return batches of one length."""
    is_padded = config["padding"] or config.get("bucket")
    lengths = row_lengths(config, shortest=MARKERS + 2)  # a token a segment
    words = vocabulary(config, 0)
    numbers = range(FIRST, words) if words else range(MASK)

    def draw(text: np.ndarray, random: np.random.RandomState) -> Arrays:
        ends = random.permutation(lengths)
        row, segments = pack(text, random, ends, config["length"])
        tokens, targets = corrupt(row, random, masked_counts(ends), numbers)
        return tokens, segments, targets, real(ends, config["length"]) if is_padded else None

    return Batches(window=config["length"], draw=draw, tokens=int(lengths.sum()))


def pack(
    text: np.ndarray, random: np.random.RandomState, ends: np.ndarray, length: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return rows of two marked segments that end at `ends`, and the segment (0 or 1) of each position."""
    first, second = (sample(text, random, len(ends), length) for _ in range(2))
    cuts = 2 + (random.random_sample(len(ends)) * (ends - 4)).astype(np.int64)  # where the first EOS stands
    position = np.arange(length)
    segments = (position > cuts[:, None]) & real(ends, length)
    row = np.where(segments, second, first)
    row[:, 0] = BOS
    row[position == cuts[:, None]] = EOS
    row[position == ends[:, None] - 1] = EOS
    return np.where(real(ends, length), row, PAD), segments.astype(np.int64)


def masked_counts(ends: np.ndarray) -> np.ndarray:
    """Return how many tokens of each row are targets: 15 %, and one at least."""
    return np.maximum(np.rint(MASKED * (ends - MARKERS)).astype(np.int64), 1)


def corrupt(
    row: np.ndarray, random: np.random.RandomState, counts: np.ndarray, numbers: range
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows with `counts` of the `numbers` in each masked, swapped or left, and these as targets."""
    chosen = choose(random, (numbers.start <= row) & (row < numbers.stop), counts)
    dice = random.random_sample(row.shape)
    swapped = np.where(dice < 0.9, random.randint(numbers.start, numbers.stop, size=row.shape, dtype=np.int64), row)
    return np.where(chosen, np.where(dice < 0.8, MASK, swapped), row), np.where(chosen, row, IGNORED)


def loss(model: Any, batch: Any, smoothing: float = 0.0) -> Any:
    """Return the mean loss over the chosen tokens, and the logits."""
    tokens, segments, targets, mask = batch
    logits = model(tokens, segments, mask)
    return cross_entropy(logits, targets, smoothing), logits.detach()
