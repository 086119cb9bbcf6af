"""A few of scikit-learn's digits, enlarged to 224x224 pixels in colour: work at published sizes, nothing to learn."""

from pathlib import Path
from typing import Any

import numpy as np

from suites.data import digits
from suites.data._parts import Parts, kept

EACH = 64  # images of a part
ENLARGED = 28  # times 8 is 224


def prepare(folder: Path) -> dict[str, Any]:
    """Return the manifest of the enlarged digits below `folder`; make them unless they are there."""
    depends = Path(digits.__file__).read_bytes() + Path(__file__).read_bytes()
    return kept("digits_224", depends, make, folder)


def make() -> tuple[Parts, dict[str, Any]]:
    """Return the three parts and what they are."""
    parts, facts = digits.make()
    few = {part: {name: array[:EACH] for name, array in arrays.items()} for part, arrays in parts.items()}
    large = {part: {**arrays, "images": enlarged(arrays["images"])} for part, arrays in few.items()}
    return large, {
        **facts,
        "source": f"{facts['source']} The first {EACH} of each part, enlarged to 224x224 in colour.",
    }


def enlarged(images: np.ndarray) -> np.ndarray:
    """Return images (samples, 8, 8, 1) as (samples, 224, 224, 3), each pixel a square."""
    return np.repeat(images.repeat(ENLARGED, 1).repeat(ENLARGED, 2), 3, axis=3)
