"""The name of a function from its body, for an encoder-decoder such as encoder_decoder or t5.

The encoder reads the bytes, or words, of the function as far as `length` has room, and EOS; the decoder writes the
name, and EOS. Trains on the training part. Scored are 256 functions of the test part, the same ones always, in what the
model writes when it takes the likeliest token each time (greedy decoding):

- `f1`, of the sub-tokens of all names together, as Alon et al. 2019 (code2seq, https://arxiv.org/abs/1808.01400) count
  them after Allamanis et al. 2016 (https://arxiv.org/abs/1602.03001): in any order, in lower case;
- `accuracy`, the share of names that are right token for token; words leave case and `_` out.

Chance is nearly nothing: to answer `close` always, the commonest name of the training part, is right nowhere, and `get`
has an F1 of 0.07 (functions of Python 3.11). Counts as tokens the real positions of the encoder and the
decoder's targets, EOS among both, in the mean over the training part.
"""

import re
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from harness.work import Work
from suites.finetuning._writing import ended, greedy
from suites.pretraining._rows import PARTS, draw_rows, open_rows, require_own_lengths, scored_rows
from suites.pretraining._windows import BOS, EOS, FIRST, IGNORED, PAD, fill, real
from suites.pretraining._work import (
    cross_entropy,
    require_tokens_told,
    require_vocabulary,
    smoothed,
    to_device,
    vocabulary,
)

SCORED = 256  # functions, each of which takes a forward pass a token
AT_ONCE = 64
SUB_TOKEN = re.compile("[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")


def prepare(model: torch.nn.Module, config: Mapping[str, Any], device: torch.device) -> Work:
    """Return the work; a batch is source (batch, length), target_input and target (batch, name), and source's mask."""
    require_tokens_told(model, "function_naming")
    require_vocabulary(model, vocabulary(config, EOS + 1), "function_naming")
    require_own_lengths(config, shortest=2)
    names = ("source", "source_lengths", "target", "target_lengths")
    parts = {part: open_rows(config, part, *names) for part in PARTS}
    room = config["length"] - 1
    width = 1 + max(target.shape[1] for _, _, target, _ in parts.values())

    def chosen(part: str, rows: Any) -> tuple[Any, ...]:
        source, lengths, target, target_lengths = (array[rows] for array in parts[part])
        lengths = np.minimum(lengths, room)
        source = fill(source, real(lengths, source.shape[1]), lengths + 1, config["length"])
        target = fill(target, real(target_lengths, target.shape[1]), target_lengths + 1, width)
        target_input = np.concatenate([np.full((len(target), 1), BOS), target[:, :-1]], axis=1)
        target = np.where(target == PAD, IGNORED, target)
        return to_device((source, target_input, target, real(lengths + 1, config["length"])), device)

    def batch(index: int) -> tuple[Any, ...]:
        return chosen("train", draw_rows(config, "train", len(parts["train"][0]), index))

    @torch.no_grad()
    def score(model: Any, part: str = "test") -> dict[str, float]:
        total, targets, pairs = 0.0, 0, []
        rows = scored_rows(part, {part: len(arrays[0]) for part, arrays in parts.items()}, SCORED)
        for start in range(0, len(rows), AT_ONCE):
            source, target_input, target, mask = chosen(part, rows[start : start + AT_ONCE])
            count = int((target != IGNORED).sum())
            total += float(loss(model, (source, target_input, target, mask))[0]) * count
            targets += count
            answers = written(model, source, mask, width)
            pairs += zip(answers, map(ended, target.tolist()), strict=True)
        right = sum(name == answer for name, answer in pairs)
        named = [(sub_tokens_of(name), sub_tokens_of(answer)) for name, answer in pairs]
        return {"f1": f1(named), "accuracy": right / len(pairs), "held_out_loss": total / targets}

    _, lengths, _, target_lengths = parts["train"]
    mean = float(np.minimum(lengths, room).mean() + target_lengths.mean()) + 2
    amount = {"tokens": round(config["batch"] * mean), "samples": config["batch"]}
    return Work(batch=batch, loss=smoothed(loss, config), amount=amount, score=score)


def loss(model: Any, batch: Any, smoothing: float = 0.0) -> Any:
    """Return the mean loss over the target, given all of it before each position (teacher forcing), and the logits.

    The target needs no mask: its padding stands at the end, where causal attention hides it from all that count.
    """
    source, target_input, target, mask = batch
    logits = model(source, target_input, mask, None)
    return cross_entropy(logits, target, smoothing), logits.detach()


def written(model: Any, source: Any, mask: Any, width: int) -> list[Sequence[int]]:
    """Return the tokens that the model names each function with."""
    return greedy(lambda target: model(source, target, mask, None), len(source), width, source.device)


def spelled(tokens: Sequence[int]) -> str:
    """Return what tokens spell; what is no byte spells nothing."""
    return bytes(token for token in tokens if 0 <= token < 256).decode(errors="replace")


def sub_tokens_of(tokens: Sequence[int]) -> list[str] | list[int]:
    """Return the sub-tokens of a name: where it is in words, these, else what its bytes spell."""
    return [token for token in tokens if token >= FIRST] or sub_tokens(spelled(tokens))


def f1(pairs: Sequence[tuple[Sequence[Hashable], Sequence[Hashable]]]) -> float:
    """Return the F1 of the sub-tokens of names and of their right answers, over all pairs together."""
    counts = [(Counter(name), Counter(answer)) for name, answer in pairs]
    common = sum((name & answer).total() for name, answer in counts)
    both = sum(name.total() + answer.total() for name, answer in counts)
    return 2 * common / both if both else 0.0


def sub_tokens(name: str) -> list[str]:
    """Return the words of a name in lower case: `read`, `http`, `header` of _read_HTTPHeader and of readHttpHeader."""
    return [word.lower() for word in SUB_TOKEN.findall(name)]
