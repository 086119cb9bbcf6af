"""Work on text: a task's batches brought to the device, its loss, and that loss on held-out text."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import mean
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from harness.errors import UserError
from harness.work import Work
from suites.pretraining._windows import IGNORED, batch_lengths, open_text, random_numbers, widened

HELD_OUT_BATCHES = 8  # enough to tell learning from not; the same ones for every variant
Arrays = tuple[np.ndarray | None, ...]


@dataclass(frozen=True, kw_only=True)
class Batches:
    """Batches of one length, as a task makes them."""

    window: int
    """Tokens of text that a row takes."""
    draw: Callable[[np.ndarray, np.random.RandomState], Arrays]
    tokens: int
    """In a batch, padding apart."""


def text_work(
    *,
    config: Mapping[str, Any],
    device: torch.device,
    batches: Callable[[Mapping[str, Any]], Batches],
    loss: Callable[..., Any],
    pads: tuple[int, ...],
) -> Work:
    """Return the Work of a task with `batches(config)` of each length; `pads` fill its arrays up to a bucket."""
    lengths, bucket = batch_lengths(config), config.get("bucket", 0)
    made = {length: batches({**config, "length": length}) for length in lengths}
    texts = {part: open_text(config, part, made[lengths[0]].window) for part in ("train", "held_out")}

    def drawn(part: str, purpose: str, index: int) -> tuple[Any, ...]:
        draw = made[lengths[index % len(lengths)]].draw
        arrays = draw(texts[part], random_numbers(config["seed"], purpose, index))
        if bucket:
            filled = zip(arrays, pads, strict=True)
            arrays = tuple(None if array is None else widened(array, pad, bucket) for array, pad in filled)
        return to_device(arrays, device)

    def batch(index: int) -> tuple[Any, ...]:
        return drawn("train", "train", index)

    @torch.no_grad()
    def score(model: Any, part: str = "test") -> dict[str, float]:
        if part == "validation":
            raise UserError(f"data {config['data']['name']!r} have no validation part", "--set patience=0")
        text, purpose = {"test": ("held_out", "held_out"), "train": ("train", "scored")}[part]
        indices = range(-(-HELD_OUT_BATCHES // len(lengths)) * len(lengths))  # each length as often
        losses = torch.stack([loss(model, drawn(text, purpose, index))[0] for index in indices])
        weights = losses.new_tensor([made[lengths[index % len(lengths)]].tokens for index in indices])
        return {"held_out_loss": float((losses * weights).sum() / weights.sum())}

    amount = {"tokens": mean(made[length].tokens for length in lengths), "samples": config["batch"]}
    return Work(batch=batch, loss=smoothed(loss, config), amount=amount, score=score, lengths=len(lengths))


def smoothed(loss: Callable[..., Any], config: Mapping[str, Any]) -> Callable[[Any, Any], Any]:
    """Return `loss(model, batch, smoothing)` as it is trained: with the recipe's label smoothing."""
    smoothing = config.get("recipe", {}).get("label_smoothing", 0.0)

    def trained(model: Any, batch: Any) -> Any:
        return loss(model, batch, smoothing)

    return trained


def to_device(arrays: Arrays, device: torch.device) -> tuple[Any, ...]:
    """Return the arrays as tensors on the device; None, a mask that is not needed, stays None."""
    tensors = [None if array is None else torch.from_numpy(np.ascontiguousarray(array)) for array in arrays]
    if device.type == "cuda":  # from pinned memory the copy runs beside the kernels
        return tuple(None if item is None else item.pin_memory().to(device, non_blocking=True) for item in tensors)
    return tuple(None if item is None else item.to(device) for item in tensors)


def cross_entropy(logits: Any, targets: Any, smoothing: float = 0.0) -> Any:
    """Return the mean loss in nats over the targets that are not IGNORED; `smoothing` of each is spread over all.

    Half-precision logits (..., vocabulary) are widened first, as in any real training.
    """
    wide = logits if logits.dtype == torch.float64 else logits.float()
    return F.cross_entropy(wide.flatten(0, -2), targets.flatten(), ignore_index=IGNORED, label_smoothing=smoothing)


def require_tokens_told(model: torch.nn.Module, task: str) -> None:
    """Raise UserError for a model that is made to tell classes apart, where a task asks for tokens."""
    if classes := getattr(model, "classes", 0):
        raise UserError(f"{task} asks for tokens, and this model tells {classes} classes apart", "--set classes=0")


def vocabulary(config: Mapping[str, Any], of_bytes: int) -> int:
    """Return how many numbers the data's tokens may have, `of_bytes` where they are bytes."""
    return int(config["data"].get("vocabulary", of_bytes))


def require_vocabulary(model: torch.nn.Module, needed: int, task: str) -> None:
    """Raise UserError if the model's first embedding, by custom that of the tokens, has fewer than `needed` rows.

    A model that has another one first says which is that of the tokens: `token`.
    """
    said = getattr(model, "token", None)
    embeddings = (module for module in (said, *model.modules()) if isinstance(module, torch.nn.Embedding))
    first = next(embeddings, None)
    if first is not None and first.num_embeddings < needed:
        raise UserError(
            f"{task} uses {needed} different tokens, but the model's first embedding knows {first.num_embeddings}",
            f"give it more: --set vocabulary={needed}",
        )
