"""Speech recognition, a word at a time, for an encoder-decoder that hears, such as whisper.

From the sound of a word the decoder writes its letters, as bytes. Trains on the training part with cross-entropy, given
the letters before each (teacher forcing). Scores the test part, in voices never heard, by greedy decoding: `accuracy`
is the share of words without a mistake, `character_error_rate` the letters to insert, drop or change over those there
are. Chance is one over the number of words: 3 % of the 35. `length` is that of the encoder, in places of 20 ms; after
the word there is silence. Counts as tokens all places of encoder and decoder, those of the silence among them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from harness.errors import UserError
from harness.work import Work
from suites.finetuning._writing import ended, greedy
from suites.pretraining._rows import PARTS, draw_rows, open_rows, scored_rows
from suites.pretraining._windows import BOS, EOS, IGNORED, PAD, real
from suites.pretraining._work import cross_entropy, require_vocabulary, smoothed, to_device

PLACE = 320  # samples of a place: two of Whisper's frames, a hundredth of a second each
SCORED = 64  # words that are scored at once


def prepare(model: torch.nn.Module, config: Mapping[str, Any], device: torch.device) -> Work:
    """Return the work; a batch is sound (batch, samples), target_input and target, both (batch, longest word + 1)."""
    require_vocabulary(model, EOS + 1, "speech")
    parts = {part: open_rows(config, part, "sounds", "words") for part in PARTS}
    width = 1 + max(words.shape[1] for _, words in parts.values())
    samples = require_length(config, parts["train"][0])

    def chosen(part: str, rows: Any) -> tuple[Any, ...]:
        sounds, words = parts[part]
        return to_device((heard(sounds[rows], samples), *spelled(words[rows], width)), device)

    def batch(index: int) -> tuple[Any, ...]:
        return chosen("train", draw_rows(config, "train", len(parts["train"][0]), index))

    @torch.no_grad()
    def score(model: Any, part: str = "test") -> dict[str, float]:
        total, targets, written = 0.0, [], []
        rows = scored_rows(part, {part: len(sounds) for part, (sounds, _) in parts.items()})
        for start in range(0, len(rows), SCORED):
            sound, target_input, target = chosen(part, rows[start : start + SCORED])
            total += float(loss(model, (sound, target_input, target))[0]) * int((target != IGNORED).sum())
            targets += map(ended, target.tolist())
            written += recognised(model, sound, width)
        return {**compared(written, targets), "held_out_loss": total / sum(len(target) + 1 for target in targets)}

    amount = {"tokens": config["batch"] * (config["length"] + width), "samples": config["batch"]}
    return Work(batch=batch, loss=smoothed(loss, config), amount=amount, score=score)


def require_length(config: Mapping[str, Any], sounds: np.ndarray) -> int:
    """Return how many samples `length` places are; raise UserError if they do not hold the sounds."""
    needed = -(-sounds.shape[1] // PLACE)
    if config["length"] < needed:
        raise UserError(f"a word takes {needed} places, more than {config['length']}", f"--set length={needed}")
    if config["padding"]:
        raise UserError("spoken words end in silence, not in padding", "--set padding=0")
    return PLACE * int(config["length"])


def heard(sounds: np.ndarray, samples: int) -> np.ndarray:
    """Return sounds, int16, as float32 of -1 to 1, with silence up to `samples`."""
    return np.pad(sounds.astype(np.float32) / np.float32(32768), ((0, 0), (0, samples - sounds.shape[1])))


def spelled(words: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return what the decoder is given, BOS and the letters, and what it is to write, the letters and EOS."""
    lengths = (words > 0).sum(1)
    letters = np.pad(words.astype(np.int64), ((0, 0), (0, width - words.shape[1])))
    inside = real(lengths, width)
    given = np.concatenate([np.full((len(words), 1), BOS), np.where(inside, letters, PAD)[:, :-1]], axis=1)
    target = np.where(inside, letters, IGNORED)
    np.put_along_axis(target, lengths[:, None], EOS, axis=1)
    return given, target


def loss(model: Any, batch: Any, smoothing: float = 0.0) -> Any:
    """Return the mean loss over the letters and EOS, and the logits."""
    sound, target_input, target = batch
    logits = model(sound, target_input)
    return cross_entropy(logits, target, smoothing), logits.detach()


def recognised(model: Any, sound: Any, width: int) -> list[Sequence[int]]:
    """Return the letters that the model writes for each sound."""
    if hasattr(model, "encode"):  # else it hears the sound again with each letter
        memory = model.encode(sound)
        return greedy(lambda target: model.decode(target, memory), len(sound), width, sound.device)
    return greedy(lambda target: model(sound, target), len(sound), width, sound.device)


def compared(written: Sequence[Sequence[int]], targets: Sequence[Sequence[int]]) -> dict[str, float]:
    """Return accuracy and character error rate."""
    pairs = [*zip(written, targets, strict=True)]
    return {
        "accuracy": sum(one == other for one, other in pairs) / len(pairs),
        "character_error_rate": sum(distance(*pair) for pair in pairs) / sum(map(len, targets)),
    }


def distance(one: Sequence[int], other: Sequence[int]) -> int:
    """Return how many insertions, deletions and substitutions lead from one to the other (Levenshtein 1966)."""
    row = [*range(len(other) + 1)]
    for place, token in enumerate(one, 1):
        above, row = row, [place]
        for at, wanted in enumerate(other):
            row.append(min(row[at] + 1, above[at + 1] + 1, above[at] + (token != wanted)))
    return row[-1]
