"""The check against float64: a case's first steps compared with those of the reference."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from harness.worker.clock import laps, timed
from harness.worker.probes import memory_cold_peak

MOST = 2**22


def first_steps(step: Any, steps: int) -> tuple[list[float], dict[str, np.ndarray], dict[str, int]]:
    """Run `steps` steps from the initial weights.

    Return the seconds of each; the first's outputs, loss and gradients (before clipping) and the loss of each,
    in float64; and the highest memory up to the first backward pass, before these copies are made.
    """
    micro_batches = step.accumulate
    first = 0.0
    found: dict[str, np.ndarray] = {}
    peak: dict[str, int] = {}
    step.keeps_outputs = True
    for phase, lap in laps(step.phases(0), step.device):
        first += lap
        micro_batches -= phase == "backward"
        if phase == "backward" and micro_batches == 0:
            peak = memory_cold_peak(step.device)
            found = {f"gradient/{name}": array(tensor) / step.scaler.get_scale() for name, tensor in gradients(step)}
    found |= {"output": array(sample(step.outputs)), "loss": array(step.loss)}
    step.keeps_outputs, step.outputs = False, None
    seconds, losses = [first], [array(step.loss)]
    for index in range(1, steps):
        seconds += timed(step, [index], step.device)[0]
        losses.append(array(step.loss))
    return seconds, found | {"losses": np.stack(losses)}, peak


def sample(tensor: Any) -> Any:
    """Return at most `MOST` elements, evenly spaced: of a large vocabulary's logits all would take gigabytes."""
    return tensor.flatten()[:: tensor.numel() // MOST + 1]


def gradients(step: Any) -> list[tuple[str, Any]]:
    """Return the gradients of all parameters by name."""
    return [(name, tensor.grad) for name, tensor in step.model.named_parameters() if tensor.grad is not None]


def array(tensor: Any) -> np.ndarray:
    """Return the tensor as float64 on the CPU."""
    return tensor.detach().cpu().double().numpy()  # in two steps: MPS has no float64


def write(path: Path, found: dict[str, np.ndarray]) -> None:
    """Write the reference; `errors` reads it."""
    np.savez(path, **found)


def errors(path: Path, found: dict[str, np.ndarray], *, same_model: bool = True) -> dict[str, float]:
    """Return the relative errors ||x - ref|| / ||ref|| against the reference at `path`, gradients as one vector.

    Of another implementation of the model, whose parameters have other names and layouts, only its length.
    """
    with np.load(path, allow_pickle=False) as reference:
        expected, own = (
            {name: side[name] for name in side if name.startswith("gradient/")} for side in (reference, found)
        )
        length = norm(expected.values())
        if not same_model:
            distance = abs(norm(own.values()) - length)
        elif expected.keys() == own.keys():
            distance = norm(own[name] - expected[name] for name in expected)
        else:
            return {"gradient_error": float("inf")}
        return {
            "output_error": relative(found["output"], reference["output"]),
            "loss_error": relative(found["loss"], reference["loss"]),
            "gradient_error": distance / length,
            "losses_error": relative(found["losses"], reference["losses"]),
        }


def norm(arrays: Iterable[np.ndarray]) -> float:
    """Return the length of all arrays as one vector."""
    return float(np.sqrt(sum(np.sum(array**2) for array in arrays)))


def relative(value: np.ndarray, reference: np.ndarray) -> float:
    """Return ||x - ref|| / ||ref||."""
    return float(np.linalg.norm(value - reference) / np.linalg.norm(reference))
