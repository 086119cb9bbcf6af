"""Text classification for a model that is made with classes=N: bert, gpt, llama, encoder_decoder or t5.

A row is BOS, the tokens of a text as far as they fit, and EOS; where a text is shorter, padding. Word pieces have such
markers of their own; a model that looks for them has a method `mark(begin, end, filler)`. Trains on the training part
with cross-entropy, scores all texts of the test part by the share of right answers, or as the data say (GLUE's tasks).
Chance is one over the number of classes: 16.7 % on `packages`. Counts as tokens the real positions, in the mean over
the training part.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from harness.errors import UserError
from harness.work import Work
from suites.finetuning._classification import classification
from suites.pretraining._rows import PARTS, open_rows, require_own_lengths
from suites.pretraining._windows import BOS, EOS, PAD, real
from suites.pretraining._work import Arrays, require_vocabulary, vocabulary

MARKERS = (BOS, EOS, PAD)  # begin, end and filler, where the data have none of their own


def prepare(model: torch.nn.Module, config: Mapping[str, Any], device: torch.device) -> Work:
    """Return the work; a batch is tokens (batch, length), the mask or None, and labels (batch,)."""
    require_vocabulary(model, vocabulary(config, EOS + 1), "text_classification")
    require_own_lengths(config, shortest=3)
    parts = {part: open_rows(config, part, "text", "text_lengths", "labels") for part in PARTS}
    room, markers = config["length"] - 2, config["data"].get("markers", MARKERS)
    if "joint" in config["data"]:
        require_both([text for text, *_ in parts.values()], config["data"]["joint"], room)
    if mark := getattr(model, "mark", None):
        mark(*markers)
    is_padded = any((lengths < room).any() for _, lengths, _ in parts.values())

    def inputs(part: str, rows: Any) -> Arrays:
        text, lengths, _ = parts[part]
        tokens, mask = framed(text[rows], np.minimum(lengths[rows], room), config["length"], markers)
        return tokens, mask if is_padded else None

    mean = float(np.minimum(parts["train"][1], room).mean()) + 2
    return classification(
        config=config,
        device=device,
        labels={part: labels for part, (_, _, labels) in parts.items()},
        inputs=inputs,
        call=lambda model, tokens, mask: model(tokens, mask=mask),
        tokens=round(config["batch"] * mean),
    )


def require_both(parts: Sequence[np.ndarray], joint: int, room: int) -> None:
    """Raise UserError if of two texts in a row, parted by the token `joint`, the first leaves the second no `room`."""
    last = max(int((text == joint).argmax(1).max()) for text in parts)
    if last + 2 > room:
        needed = f"--set length={last + 4} or more, or tell them in words or pieces"
        raise UserError(f"of two texts the second begins at token {last + 2}, of {room} that are read", needed)


def framed(
    text: np.ndarray, lengths: np.ndarray, width: int, markers: Sequence[int] = MARKERS
) -> tuple[np.ndarray, np.ndarray]:
    """Return begin, the first `lengths` tokens of each text, end and fillers, and which are real: (rows, width)."""
    begin, end, filler = markers
    tokens = np.full((len(text), width), filler)
    tokens[:, 0] = begin
    tokens[:, 1:][real(lengths, width - 1)] = text[real(lengths, text.shape[1])]
    np.put_along_axis(tokens, lengths[:, None].astype(np.int64) + 1, end, axis=1)
    return tokens, real(lengths + 2, width)
