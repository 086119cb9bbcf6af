"""Work: what a task asks of a model, and how much that is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Work:
    """One task on one model and device, as `prepare(model, config, device)` returns it.

    The training step around it (precision, clipping, optimizer) is the worker's, the same for all tasks.
    """

    batch: Callable[[int], Any]
    """Index of a micro-batch -> that batch on the device; the same bits for the same index, in any process."""

    loss: Callable[[Any, Any], Any]
    """(model, batch) -> (loss, outputs): a scalar mean in nats, as it is trained, and the outputs, detached."""

    amount: Mapping[str, float]
    """How much one micro-batch is, padding apart: {"tokens": ..., "samples": ...}."""

    lengths: int = 1
    """How many lengths the batches have, one after the other and over again, of which the first is the longest.

    `amount` is then the mean over them."""

    score: Callable[..., Mapping[str, float]]
    """(model, part) -> quality on that part of the data, such as {"held_out_loss": 2.3}, the task's own metric first.

    `test` is what was held out, `validation` what may steer training, `train` as much of the training part. Called
    without gradients; raises UserError where the data have no such part."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where and how a ceiling is to be found, as `prepare(place, *, settings)` is told."""

    device: Any
    """The torch.device."""
    precision: str
    """As in `Variant.precision`; what number format that is says the ceiling."""
    attention: Callable[..., Any]
    """The variant's attention function."""
    data: Mapping[str, Any]
    """The manifest of the workload's data."""
    effort: int
    """How many times a CPU's work a step is to be, so that a GPU has something to do between two marks."""


@dataclass(frozen=True, kw_only=True)
class Ceiling:
    """Something that keeps one part of a machine as busy as it can be."""

    step: Callable[[], Any]
    """Does it once; this alone is timed."""

    amount: Mapping[str, float]
    """How much a step is: {"flop": ...}, {"moved_bytes": ...} or {"calls": ...}."""

    error: Callable[[], float] | None = None
    """Computes the result's relative error against float64, where there is a result to be right or wrong."""
