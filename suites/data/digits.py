"""Handwritten digits without a download: the 1,797 images of 8x8 pixels that scikit-learn carries.

They are the test part of UCI's "Optical Recognition of Handwritten Digits" (Alpaydin and Kaynak 1998), of 13 writers.
Here they are split anew, each class by itself, at random from a fixed seed, as is usual with this set: so the same
hands are in all parts. `images` is (samples, height, width, channels), uint8, 0 to 255; `labels` (samples,), uint8.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import UserError
from suites.data._parts import Parts, kept

SEED = 0  # of the split
SHARES = {"test": 0.2, "validation": 0.1}  # of each class, rounded; the rest is for training
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


def split(labels: NDArray[Any]) -> dict[str, NDArray[np.int64]]:
    """Return the rows of each part, sorted; each class is shared out alike."""
    random = np.random.RandomState(SEED)
    rows: dict[str, list[NDArray[np.int64]]] = {part: [] for part in ("train", *SHARES)}
    for label in np.unique(labels):
        left = random.permutation(np.flatnonzero(labels == label))
        total = len(left)
        for part, share in SHARES.items():
            taken, left = np.split(left, [round(share * total)])
            rows[part].append(taken)
        rows["train"].append(left)
    return {part: np.sort(np.concatenate(found)) for part, found in rows.items()}
