"""Masked-image prediction for an encoder such as vit, made with classes=0.

SimMIM: Xie et al. 2022, https://arxiv.org/abs/2111.09886.
60 % of the patches are hidden; from the others the model restores their pixels, and the loss is the mean absolute error
of the hidden pixels, which run from -1 to 1. But for the constant ln 2 that is the likelihood of the pixels in nats, if
they lie about the prediction as Laplace's distribution of scale 1 has it.
Counts as tokens the patches and the class token: `length`. Trains on the training part, scores on the validation part.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from harness.errors import UserError
from harness.work import Work
from suites.pretraining._images import require_tokens, scaled
from suites.pretraining._rows import draw_rows, open_rows
from suites.pretraining._windows import choose, random_numbers
from suites.pretraining._work import HELD_OUT_BATCHES, to_device

HIDDEN = 0.6


def prepare(model: torch.nn.Module, config: Mapping[str, Any], device: torch.device) -> Work:
    """Return the work; a batch is images (batch, channels, height, width) and which patches are hidden."""
    require_tokens(model, config)
    parts = {part: open_rows(config, part, "images")[0] for part in ("train", "validation")}
    rows, patches = config["batch"], config["length"] - 1
    if config.get("recipe", {}).get("label_smoothing"):
        raise UserError("masked_image has no labels to smooth", "--set label_smoothing=0")

    def drawn(part: str, purpose: str, index: int) -> tuple[Any, ...]:
        images = parts[part][draw_rows(config, purpose, len(parts[part]), index)]
        random = random_numbers(config["seed"], f"{purpose} patches", index)
        hidden = choose(random, np.ones((rows, patches), dtype=bool), np.full(rows, round(HIDDEN * patches)))
        return to_device((scaled(images), hidden), device)

    def batch(index: int) -> tuple[Any, ...]:
        return drawn("train", "train", index)

    @torch.no_grad()
    def score(model: Any, part: str = "test") -> dict[str, float]:
        if part == "validation":  # which is scored as the test, since the test part is for those who start from here
            raise UserError("masked_image has no part to stop by", "--set patience=0")
        rows, purpose = ("train", "scored") if part == "train" else ("validation", "validation")
        losses = [loss(model, drawn(rows, purpose, index))[0] for index in range(HELD_OUT_BATCHES)]
        return {"held_out_loss": float(torch.stack(losses).mean())}

    return Work(batch=batch, loss=loss, amount={"tokens": rows * config["length"], "samples": rows}, score=score)


def loss(model: Any, batch: Any) -> Any:
    """Return the mean absolute error of the hidden pixels, and the images restored."""
    images, hidden = batch
    restored = model(images, hidden)
    wide = restored if restored.dtype == torch.float64 else restored.float()
    side = round(hidden.size(1) ** 0.5)
    patch = images.size(-1) // side
    pixels = hidden.unflatten(1, (1, side, side)).repeat_interleave(patch, 2).repeat_interleave(patch, 3)
    errors = (wide - images).abs() * pixels  # (batch, channels, height, width)
    return errors.sum() / (pixels.sum() * images.size(1)), restored.detach()
