"""Saliency: how much each input position counts for the loss, and how alike two models rank the positions.

Gradient times input: Shrikumar et al. 2016, https://arxiv.org/abs/1605.01713, after Simonyan et al. 2013,
https://arxiv.org/abs/1312.6034.
"""

from typing import Any

import numpy as np
import torch
from torch import nn

from harness.errors import Unavailable
from harness.worker.probes import uncompiled

ENTRANCES = (nn.Embedding, nn.Linear, nn.Conv1d, nn.Conv2d)  # what turns tokens, or patches, into vectors


def saliency(step: Any) -> np.ndarray:
    """Return ||gradient * input|| of batch 0 at what enters the first layer: (samples, positions), float64.

    A tensor of zeros is added to what enters, and the loss, compiled where the variant is, derived by it: that changes
    no value, but it is another graph than the one that is timed.
    """
    step.model.eval()
    batch = step.work.batch(0)
    entrance, entering = enter(step, batch)
    zeros = torch.zeros_like(entering, requires_grad=True)
    calls: list[None] = []

    def add(module: Any, arguments: Any, output: Any) -> Any:
        calls.append(None)
        return output + zeros if len(calls) == 1 else output  # a decoder may share the encoder's embedding

    handle = entrance.register_forward_hook(add)
    try:
        with step.autocast:
            loss, _ = step.evaluate(step.model, batch)
        (gradient,) = torch.autograd.grad(step.scaler.scale(loss), zeros)
    finally:
        handle.remove()
        step.model.train()
    product = gradient.detach().double() * entering.double()
    vectors = product.movedim(1, -1) if isinstance(entrance, nn.Conv1d | nn.Conv2d) else product
    found: np.ndarray = vectors.norm(dim=-1).flatten(1).cpu().numpy()
    return found


def enter(step: Any, batch: Any) -> tuple[nn.Module, torch.Tensor]:
    """Return the first embedding or projection that the model calls on a batch, and what comes out of it."""
    found: list[tuple[nn.Module, torch.Tensor]] = []

    def note(module: nn.Module, arguments: Any, output: torch.Tensor) -> None:
        if output.dim() >= 3:  # (samples, positions, dim), or (samples, dim, ...) of a convolution
            found.append((module, output.detach()))

    handles = [item.register_forward_hook(note) for item in step.model.modules() if isinstance(item, ENTRANCES)]
    try:
        with torch.no_grad(), step.autocast, uncompiled():
            step.work.loss(step.model, batch)
    finally:
        for handle in handles:
            handle.remove()
    if not found:
        raise Unavailable("the model has no embedding or projection whose output could be observed")
    return found[0]


def agreement(expected: np.ndarray, found: np.ndarray) -> float:
    """Return Spearman's rank correlation over positions, mean over samples; NaN where a value is none.

    Positions that do not count at all in the reference, such as padding, are left out: their order says nothing.
    """
    if expected.shape != found.shape:
        raise Unavailable(f"its first layer sees positions {found.shape}, that of the reference {expected.shape}")
    if not np.isfinite(found).all():
        return float("nan")
    pairs = ((ranks(own[known > 0]), ranks(known[known > 0])) for own, known in zip(found, expected, strict=True))
    return float(np.mean([np.corrcoef(*pair)[0, 1] for pair in pairs]))


def ranks(values: np.ndarray) -> np.ndarray:
    """Return the rank of each value, from 1; equal ones share the mean of theirs."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    shared: np.ndarray = (np.cumsum(counts) - (counts - 1) / 2)[places]
    return shared
