"""Telling classes apart, whatever they are of: batches of the training part, accuracy on the whole test part."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from harness.work import Work
from suites.pretraining._rows import draw_rows, scored_rows
from suites.pretraining._work import Arrays, cross_entropy, smoothed, to_device

SCORED = 256  # samples that are scored at once


def classification(
    *,
    config: Mapping[str, Any],
    device: torch.device,
    labels: Mapping[str, np.ndarray],
    inputs: Callable[[str, Any], Arrays],
    tokens: float,
    call: Callable[..., Any] = lambda model, *shown: model(*shown),
) -> Work:
    """Return the Work of a model that, called with `inputs(part, rows)`, gives logits (batch, classes).

    A batch is these inputs and the labels (batch,); `tokens` is how many a batch has.
    """
    classes = config["data"]["classes"]

    def chosen(part: str, rows: Any) -> tuple[Any, ...]:
        return to_device((*inputs(part, rows), labels[part][rows].astype(np.int64)), device)

    def batch(index: int) -> tuple[Any, ...]:
        return chosen("train", draw_rows(config, "train", len(labels["train"]), index))

    def loss(model: Any, batch: Any, smoothing: float = 0.0) -> Any:
        *shown, answers = batch
        logits = call(model, *shown)
        known = logits.size(1) if logits.dim() == 2 else 0
        if known < classes:
            raise ValueError(f"the model tells {known} classes apart, not {classes}: --set classes={classes}")
        return cross_entropy(logits, answers, smoothing), logits.detach()

    @torch.no_grad()
    def score(model: Any, part: str = "test") -> dict[str, float]:
        rows = scored_rows(part, {part: len(found) for part, found in labels.items()})
        total, right, count = 0.0, 0, len(rows)
        for start in range(0, count, SCORED):
            samples = chosen(part, rows[start : start + SCORED])
            mean, logits = loss(model, samples)
            total += float(mean) * len(samples[-1])
            right += int((logits.argmax(1) == samples[-1]).sum())
        return {"accuracy": right / count, "held_out_loss": total / count}

    amount = {"tokens": tokens, "samples": config["batch"]}
    return Work(batch=batch, loss=smoothed(loss, config), amount=amount, score=score)
