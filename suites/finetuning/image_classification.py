"""Image classification for an encoder such as vit.

Trains on the training part with cross-entropy, scores the share of right answers on all images of the test part. Chance
is one over the number of classes: 10 % on the digits. Counts as tokens the patches and the class token: `length`.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from harness.work import Work
from suites.pretraining._images import require_tokens, scaled
from suites.pretraining._rows import draw_rows, open_rows
from suites.pretraining._work import cross_entropy, to_device

SCORED = 256  # images that are scored at once


def prepare(model: torch.nn.Module, config: Mapping[str, Any], device: torch.device) -> Work:
    """Return the work; a batch is images (batch, channels, height, width) and labels (batch,)."""
    require_tokens(model, config)
    parts = {part: open_rows(config, part, "images", "labels") for part in ("train", "test")}
    classes = config["data"]["classes"]

    def chosen(part: str, rows: Any) -> tuple[Any, ...]:
        images, labels = parts[part]
        return to_device((scaled(images[rows]), labels[rows].astype(np.int64)), device)

    def batch(index: int) -> tuple[Any, ...]:
        return chosen("train", draw_rows(config, "train", len(parts["train"][1]), index))

    def loss(model: Any, batch: Any) -> Any:
        images, labels = batch
        logits = model(images)
        if logits.size(1) < classes:
            raise ValueError(f"the model tells {logits.size(1)} classes apart, not {classes}: --set classes={classes}")
        return cross_entropy(logits, labels), logits.detach()

    @torch.no_grad()
    def score(model: Any) -> dict[str, float]:
        total, right, count = 0.0, 0, len(parts["test"][1])
        for start in range(0, count, SCORED):
            images, labels = chosen("test", slice(start, start + SCORED))
            mean, logits = loss(model, (images, labels))
            total += float(mean) * len(labels)
            right += int((logits.argmax(1) == labels).sum())
        return {"accuracy": right / count, "held_out_loss": total / count}

    amount = {"tokens": config["batch"] * config["length"], "samples": config["batch"]}
    return Work(batch=batch, loss=loss, amount=amount, score=score)
