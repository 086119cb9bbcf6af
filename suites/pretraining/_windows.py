"""Windows of text, drawn by numpy alone: the same bits in any process, whatever the torch and numpy there."""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from harness.errors import UserError

MASK, PAD, BOS, EOS, SENTINEL = 256, 257, 258, 259, 260  # above the 256 bytes; SENTINEL is the first of many
FIRST = 320  # of words, above the sentinels
SHORTEST = 1 / 4  # of batches whose lengths vary, as a share of the longest
IGNORED = -100  # a target that no loss counts, as torch's cross-entropy has it


def open_text(config: Mapping[str, Any], part: str, window: int) -> np.ndarray:
    """Return the tokens of the `train` or `held_out` text, which must hold a batch of windows of `window` of them."""
    if not isinstance(config["data"].get(part), str):
        raise UserError(f"data {config['data']['name']!r} are no text", "give a text: --set data=stdlib")
    if "markers" in config["data"]:
        raise UserError(
            f"{config['task']} has markers of its own, and data {config['data']['name']!r} have others",
            "give bytes or words: --set data=stdlib",
        )
    text: np.ndarray = np.load(config["data"][part], mmap_mode="r").view(np.ndarray)
    needed = config["batch"] * window
    if text.size < needed:
        raise UserError(
            f"the {part} text of data {config['data']['name']!r} has {text.size} tokens, a batch takes {needed}",
            "make batch or length smaller, or give more text",
        )
    return text


def random_numbers(seed: int, part: str, index: int) -> np.random.RandomState:
    """Return the random numbers of one batch.

    RandomState, because numpy has frozen its streams; those of the newer Generator differ between releases.
    """
    digest = hashlib.sha256(f"{seed}/{part}/{index}".encode()).digest()
    return np.random.RandomState(np.frombuffer(digest, dtype="<u4"))


def batch_lengths(config: Mapping[str, Any]) -> list[int]:
    """Return the lengths that batches have, one after the other and over again.

    They fall evenly from `length`, which comes first, to a quarter of it; the order of the others is the seed's.
    """
    count = config.get("lengths", 1)
    falling = np.rint(np.linspace(config["length"], config["length"] * SHORTEST, count)).astype(int)
    order = random_numbers(config["seed"], "lengths", 0).permutation(count - 1)
    return [int(falling[0]), *(int(length) for length in falling[1:][order])]


def row_lengths(config: Mapping[str, Any], shortest: int) -> np.ndarray:
    """Return how many tokens of each row are real, longest first; all but the share `padding` of the batch.

    Lengths fall evenly from `length` to 1 - 2 * padding of it. Each batch has these same lengths, in its own order.
    """
    rows = np.arange(config["batch"]) + 0.5
    shares = 1 - 2 * config["padding"] * rows / config["batch"]
    ends = np.rint(config["length"] * np.cumsum(shares)).astype(np.int64)
    lengths: np.ndarray = np.sort(np.diff(ends, prepend=0))[::-1]
    if lengths[-1] < shortest:
        raise UserError(
            f"a row of {lengths[-1]} tokens is too short for {config['task']}, which needs {shortest}",
            "make length larger, or batch or padding smaller",
        )
    return lengths


def real(lengths: np.ndarray, width: int) -> np.ndarray:
    """Return which positions of rows of `width` are real: (rows, width), True before each row's length."""
    return np.arange(width) < lengths[:, None]


def fill(values: np.ndarray, keep: np.ndarray, lengths: np.ndarray, width: int) -> np.ndarray:
    """Return the values to keep, row by row from the left, then EOS as each row's last, then PAD."""
    filled = np.full((len(values), width), PAD)
    filled[real(lengths - 1, width)] = values[keep]
    np.put_along_axis(filled, lengths[:, None] - 1, EOS, axis=1)
    return filled


def widened(values: np.ndarray, pad: int, bucket: int) -> np.ndarray:
    """Return rows filled up with `pad` to the next multiple of `bucket`."""
    return np.pad(values, ((0, 0), (0, -values.shape[1] % bucket)), constant_values=pad)


def sample(text: np.ndarray, random: np.random.RandomState, rows: int, width: int) -> np.ndarray:
    """Return windows of the text from random places: (rows, width), int64."""
    starts = random.randint(0, text.size - width + 1, size=rows, dtype=np.int64)
    windows: np.ndarray = text[starts[:, None] + np.arange(width)].astype(np.int64)
    return windows


def choose(random: np.random.RandomState, candidates: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return a random choice of `counts[row]` of the True positions of each row, as a mask of the same shape."""
    keys = np.where(candidates, random.random_sample(candidates.shape), np.inf)
    order = np.argsort(keys, axis=1, kind="stable")[:, : counts.max()]
    chosen = np.zeros_like(candidates)
    np.put_along_axis(chosen, order, np.arange(order.shape[1]) < counts[:, None], axis=1)
    return chosen
