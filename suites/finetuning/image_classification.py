"""Image classification for an encoder such as vit.

Trains on the training part with cross-entropy, scores the share of right answers on all images of the test part. Chance
is one over the number of classes: 10 % on the digits. Counts as tokens the patches and the class token: `length`.
"""

from collections.abc import Mapping
from typing import Any

import torch

from harness.work import Work
from suites.finetuning._classification import classification
from suites.pretraining._images import require_tokens, scaled
from suites.pretraining._rows import PARTS, open_rows


def prepare(model: torch.nn.Module, config: Mapping[str, Any], device: torch.device) -> Work:
    """Return the work; a batch is images (batch, channels, height, width) and labels (batch,)."""
    require_tokens(model, config)
    parts = {part: open_rows(config, part, "images", "labels") for part in PARTS}
    return classification(
        config=config,
        device=device,
        labels={part: labels for part, (_, labels) in parts.items()},
        inputs=lambda part, rows: (scaled(parts[part][0][rows]),),
        tokens=config["batch"] * config["length"],
    )
