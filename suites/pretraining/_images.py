"""Images: checked against the model that is to see them, and brought to the numbers that it takes."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from harness.errors import UserError


def require_tokens(model: torch.nn.Module, config: Mapping[str, Any]) -> None:
    """Raise UserError unless `length` is the tokens that the model says it makes of an image, and none are padding."""
    length = getattr(model, "length", config["length"])
    if config["length"] != length:
        raise UserError(f"an image makes {length} tokens here, not {config['length']}", f"--set length={length}")
    if config["padding"]:
        raise UserError("images have no padding", "--set padding=0")


def scaled(images: np.ndarray) -> np.ndarray:
    """Return images (rows, height, width, channels) of 0 to 255 as (rows, channels, height, width) of -1 to 1."""
    return np.moveaxis(images, 3, 1).astype(np.float32) / np.float32(127.5) - np.float32(1)
