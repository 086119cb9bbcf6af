"""Telling classes apart, whatever they are of: batches of the training part, scores on the whole test part.

The score is the `accuracy`, or what the data say that they are scored by: names of SCORES, the most telling first.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from harness.errors import UserError
from harness.work import Work
from suites.pretraining._rows import draw_rows, scored_rows
from suites.pretraining._work import Arrays, cross_entropy, smoothed, to_device

SCORED = 256  # samples that are scored at once


def accuracy(truth: np.ndarray, answers: np.ndarray) -> float:
    """Return the share of right answers."""
    return float((truth == answers).mean())


def f1(truth: np.ndarray, answers: np.ndarray) -> float:
    """Return the F1 of class 1: the harmonic mean of how many answers `1` are right, and of how many 1 are found."""
    both = int((truth == 1).sum() + (answers == 1).sum())
    return 2 * int(((truth == 1) & (answers == 1)).sum()) / both if both else 0.0


def matthews_correlation(truth: np.ndarray, answers: np.ndarray) -> float:
    """Return the correlation of truth and answers, 0 where one of them never changes.

    Matthews 1975, https://doi.org/10.1016/0005-2795(75)90109-9; of any number of classes, Gorodkin 2004.
    """
    classes = np.arange(max(truth.max(), answers.max()) + 1)
    told = [(labels[:, None] == classes).astype(float) for labels in (truth, answers)]
    x, y = (columns - columns.mean(0) for columns in told)
    spread = (x * x).sum() * (y * y).sum()
    return float((x * y).sum() / math.sqrt(spread)) if spread else 0.0


SCORES = {"accuracy": accuracy, "f1": f1, "matthews_correlation": matthews_correlation}
"""Metric -> (true class of each sample, class answered) -> value."""


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
            raise UserError(f"the model tells {known} classes apart, not {classes}", f"--set classes={classes}")
        return cross_entropy(logits, answers, smoothing), logits.detach()

    @torch.no_grad()
    def score(model: Any, part: str = "test") -> dict[str, float]:
        rows = scored_rows(part, {part: len(found) for part, found in labels.items()})
        total, found = 0.0, []
        for start in range(0, len(rows), SCORED):
            samples = chosen(part, rows[start : start + SCORED])
            mean, logits = loss(model, samples)
            total += float(mean) * len(samples[-1])
            found.append(logits.argmax(1).cpu().numpy())
        truth, answers = labels[part][rows].astype(np.int64), np.concatenate(found)
        scores = {name: SCORES[name](truth, answers) for name in config["data"].get("scores", ("accuracy",))}
        return {**scores, "held_out_loss": total / len(rows)}

    amount = {"tokens": tokens, "samples": config["batch"]}
    return Work(batch=batch, loss=smoothed(loss, config), amount=amount, score=score)
