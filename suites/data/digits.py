"""Handwritten digits without a download: the 1,797 images of 8x8 pixels that scikit-learn carries.

They are the test part of UCI's "Optical Recognition of Handwritten Digits" (Alpaydin and Kaynak 1998), of 13 writers.
Here they are split anew, each class by itself, at random from a fixed seed, as is usual with this set: so the same
hands are in all parts. `images` is (samples, height, width, channels), uint8, 0 to 255; `labels` (samples,), uint8.
"""

from pathlib import Path
from typing import Any

import numpy as np

from harness.errors import UserError
from suites.data._parts import SEED, Parts, kept, split

BRIGHTEST = 16  # the value that scikit-learn gives a pixel all of whose 4x4 points are ink


def prepare(folder: Path) -> dict[str, Any]:
    """Return the manifest of the digits below `folder`; make them, which takes scikit-learn, unless they are there."""
    return kept("digits", Path(__file__).read_bytes(), make, folder)


def make() -> tuple[Parts, dict[str, Any]]:
    """Return the three parts and what they are."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise UserError("the digits come with scikit-learn, which is missing", "pip install scikit-learn") from None
    pixels, labels = load_digits(return_X_y=True)
    images = np.rint(pixels * (255 / BRIGHTEST)).astype(np.uint8).reshape(-1, 8, 8, 1)
    rows = split(labels)
    parts = {part: {"images": images[rows[part]], "labels": labels[rows[part]].astype(np.uint8)} for part in rows}
    return parts, {"classes": 10, "source": f"scikit-learn's digits, {len(labels):,} images, split with seed {SEED}."}
