"""Span corruption for an encoder-decoder such as encoder_decoder or t5.

T5: Raffel et al. 2020, https://arxiv.org/abs/1910.10683.
Random spans, 15 % of the bytes and 3 long in the mean, are cut out of a window: the encoder sees a sentinel in the
place of each, the decoder writes each sentinel and the bytes that belong there. `length` is that of the encoder's
input; as T5 computes it, the window and the target are as long as makes it come out full, so nothing is padded.
Counts as tokens the encoder's real positions plus the decoder's real targets, sentinels and EOS among both.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from harness.errors import UserError
from harness.work import Work
from suites.pretraining._windows import BOS, IGNORED, PAD, SENTINEL, choose, fill, real, row_lengths, sample
from suites.pretraining._work import (
    Arrays,
    Batches,
    cross_entropy,
    require_tokens_told,
    require_vocabulary,
    text_work,
    vocabulary,
)

NOISE = 0.15
MEAN_SPAN = 3


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How the rows of a batch divide: an int each for one row, an array each for all rows."""

    kept: Any
    """Bytes that the encoder sees."""
    noise: Any
    """Bytes that the decoder is to write."""
    spans: Any

    @property
    def source(self) -> Any:
        """Length of the encoder's input: bytes, sentinels and EOS."""
        return self.kept + self.spans + 1

    @property
    def target(self) -> Any:
        """Length of the decoder's target: sentinels, bytes and EOS."""
        return self.noise + self.spans + 1


def prepare(model: torch.nn.Module, config: Mapping[str, Any], device: torch.device) -> Work:
    """Return the work; a batch is source, target_input, target and the masks of the first two, or None."""
    require_tokens_told(model, "denoising")
    if config.get("bucket"):
        raise UserError("denoising pads to no bucket, its sources and targets differ in length", "--set bucket=0")
    if vocabulary(config, 0):
        raise UserError(f"denoising takes bytes, and data {config['data']['name']!r} are words", "--set data=stdlib")
    longest = sizes(int(row_lengths(config, shortest=3)[0]))
    require_vocabulary(model, SENTINEL + longest.spans, f"denoising at length {config['length']}")
    return text_work(config=config, device=device, batches=batches, loss=loss, pads=())


def batches(config: Mapping[str, Any]) -> Batches:
    """Return batches of one length of the encoder's input."""
    lengths = row_lengths(config, shortest=3)  # a byte kept, a sentinel, EOS
    divided = [sizes(int(length)) for length in lengths]
    longest, padded = divided[0], bool(config["padding"])
    window = longest.kept + longest.noise
    table = np.array([(row.kept, row.noise, row.spans) for row in divided])

    def draw(text: np.ndarray, random: np.random.RandomState) -> Arrays:
        kept, noise, count = random.permutation(table).T
        size = Sizes(kept=kept, noise=noise, spans=count)
        rows = sample(text, random, config["batch"], window)
        source, target = corrupt(rows, random, size, config["length"], longest.target)
        target_input = np.concatenate([np.full((len(target), 1), BOS), target[:, :-1]], axis=1)
        if not padded:
            return source, target_input, target, None, None
        masks = real(size.source, config["length"]), real(size.target, longest.target)
        return source, np.where(masks[1], target_input, PAD), np.where(masks[1], target, IGNORED), *masks

    return Batches(window=window, draw=draw, tokens=sum(row.source + row.target for row in divided))


def sizes(length: int) -> Sizes:
    """Return how a window divides whose encoder input is `length` long: the longest such (T5's random_spans_helper)."""

    def divide(window: int) -> Sizes:
        noise = max(round(window * NOISE), 1)
        return Sizes(kept=window - noise, noise=noise, spans=max(round(noise / MEAN_SPAN), 1))

    window = length - 1
    while divide(window + 1).source <= length:
        window += 1
    return divide(window)


def corrupt(
    window: np.ndarray, random: np.random.RandomState, size: Sizes, source_width: int, target_width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the encoder's input and the decoder's target, each ended by EOS and filled up with PAD.

    Each row divides into kept, noise, kept, noise, ... spans. A sentinel takes the place of the first byte of a span:
    of a noise span in the source, where the rest of the span is dropped; of a kept span in the target, likewise.
    """
    rows, width = window.shape
    kept, noise = spans(random, size.kept, size.spans), spans(random, size.noise, size.spans)
    alternating = np.stack([kept, noise], axis=2).reshape(rows, -1)  # (batch, 2 * spans)
    starts = np.cumsum(alternating, axis=1) - alternating  # the zeros at the end of `spans` start past the row's end
    is_start = np.zeros((rows, width + 1), dtype=bool)
    np.put_along_axis(is_start, starts, True, axis=1)
    is_start = is_start[:, :-1]
    span = np.cumsum(is_start, axis=1) - 1  # (batch, width)
    is_noise, sentinel = span % 2 == 1, SENTINEL + span // 2
    in_row = real(size.kept + size.noise, width)
    source = fill(np.where(is_noise, sentinel, window), in_row & (~is_noise | is_start), size.source, source_width)
    target = fill(np.where(is_noise, window, sentinel), in_row & (is_noise | is_start), size.target, target_width)
    return source, target


def spans(random: np.random.RandomState, total: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Return the lengths of `count` spans, 1 or more each and `total` together, all divisions equally likely.

    (batch, most spans); a row with fewer has zeros at the end.
    """
    inner = real(total - 1, int(total.max()) - 1)  # a cut may follow any item but the last
    cuts = choose(random, inner, count - 1)
    rows, most = len(total), int(count.max())
    span = np.cumsum(np.pad(cuts, ((0, 0), (1, 0))), axis=1)  # of each item: (batch, items)
    span += most * np.arange(rows)[:, None]  # one count for all rows at once
    return np.bincount(span[real(total, span.shape[1])], minlength=rows * most).reshape(rows, most)


def loss(model: Any, batch: Any, smoothing: float = 0.0) -> Any:
    """Return the mean loss over the target, given all of it before each position (teacher forcing), and the logits."""
    source, target_input, target, source_mask, target_mask = batch
    logits = model(source, target_input, source_mask, target_mask)
    return cross_entropy(logits, target, smoothing), logits.detach()
