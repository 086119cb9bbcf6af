"""Correctness: whether a case did what was asked: the numbers of float64, the attention kernel named."""

import math
from collections.abc import Mapping, Sequence

from harness.spec import Variant

# Relative errors of outputs and losses, by number format: docs/measuring.md, "Correct first".
TOLERANCE = {
    "fp64": 1e-4,
    "fp32": 1e-4,
    "tf32": 1e-2,
    "fp16": 1e-2,
    "bf16": 5e-2,
    "bf16_pure": 5e-2,
    "int8": 0.0,
    "fp8": 5e-2,
}

# A gradient passes through the network twice and sums over the batch, so it gathers more rounding.
GRADIENT_FACTOR = 4.0


def tolerance(error: str, precision: str) -> float:
    """Return how large an error may be."""
    return TOLERANCE[precision] * (GRADIENT_FACTOR if error == "gradient_error" else 1.0)


def disagreement(errors: Mapping[str, float], losses: Sequence[float | str], precision: str) -> str | None:
    """Return in what a case's first steps disagree with float64, or None; NaN never passes."""
    for step, loss in enumerate(losses):
        if not math.isfinite(float(loss)):
            return f"its loss in step {step} is {loss}"
    for name, value in errors.items():
        if not value <= tolerance(name, precision):
            allowed = tolerance(name, precision)
            return f"{name} against float64 is {value:.2g}, more than the {allowed:g} that {precision} may have"
    return None


def is_as_asked(variant: Variant, actual: str) -> bool:
    """Tell whether the kernel seen fits what was asked for.

    `sdpa` lets torch choose; an attention of the user's own may use any; compiled, SDPA's math leaves no kernel to see.
    Inductor may rewrite a compiled `formula` to a fused kernel: that is not what was asked for.
    """
    asked = variant.attention
    if actual == asked or "." in asked:
        return True
    if actual == "formula":
        return variant.compile != "none" and asked in ("sdpa", "sdpa_math")
    return asked == "sdpa" and actual.startswith("sdpa_")
