"""Rows: data that hold one sample a row, opened, drawn epoch by epoch, and chosen for a score."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from harness.errors import UserError
from suites.pretraining._windows import random_numbers, row_lengths

PARTS = ("train", "validation", "test")


def open_rows(config: Mapping[str, Any], part: str, *names: str) -> tuple[np.ndarray, ...]:
    """Return the arrays `names` of the `train`, `validation` or `test` part, memory-mapped."""
    data = config["data"]
    files = data.get(part)
    if not isinstance(files, Mapping) or not files.keys() >= {*names}:
        raise UserError(
            f"{config['task']} takes {' and '.join(names)}, and the {part} part of data {data['name']!r} has none",
            "give other data: --set data=NAME",
        )
    return tuple(np.load(files[name], mmap_mode="r").view(np.ndarray) for name in names)


def scored_rows(part: str, counts: Mapping[str, int], most: int | None = None) -> np.ndarray:
    """Return which rows of a part are scored: of the training part as many as of the test part, `most` at most.

    Always the same ones, whatever the seed.
    """
    number = min(counts[part], counts["test"] if part == "train" else counts[part], most or counts[part])
    rows: np.ndarray = random_numbers(0, "scored", 0).permutation(counts[part])[:number]
    return rows


def require_own_lengths(config: Mapping[str, Any], shortest: int) -> None:
    """Raise UserError where padding is asked for, which the texts bring along, or a row has no room for `shortest`."""
    if config["padding"]:
        raise UserError(f"{config['task']} pads as its texts are long", "--set padding=0")
    row_lengths(config, shortest)


def draw_rows(config: Mapping[str, Any], part: str, count: int, index: int) -> np.ndarray:
    """Return which of `count` rows are in batch `index`: every row once an epoch, in an order of the epoch's own."""
    places = np.arange(index * config["batch"], (index + 1) * config["batch"])
    epochs = places // count
    return np.concatenate([
        order(config["seed"], part, int(epoch), count)[places[epochs == epoch] % count] for epoch in np.unique(epochs)
    ])  # fmt: skip


@lru_cache(maxsize=4)
def order(seed: int, part: str, epoch: int, count: int) -> np.ndarray:
    """Return the order of the rows in an epoch; kept, as drawing it anew for each batch would be in every step."""
    return random_numbers(seed, part, epoch).permutation(count)
