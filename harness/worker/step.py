"""The training step: data, forward, backward, clipping and optimizer, written once."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch.nn.utils import clip_grad_norm_

from harness import recipe
from harness.errors import Unavailable
from harness.work import Work


@dataclass(kw_only=True)
class TrainingStep:
    """One step of training; calling it runs all phases, `phases` stops after each."""

    model: torch.nn.Module
    work: Work
    fetch: Callable[[int], Any]
    """`work.batch`, or a loader of the same batches."""
    evaluate: Callable[[Any, Any], Any]
    """`work.loss`, compiled where the variant says so."""
    optimizer: torch.optim.Optimizer
    clip: Callable[[Any], Any]
    autocast: AbstractContextManager[Any]
    scaler: Any
    device: Any
    accumulate: int = 1
    rate: Callable[[int], float] | None = None
    """Index of a step -> its learning rate, where that changes."""
    loss: Any = field(default=None, init=False)
    """Mean loss of the last step, a tensor on the device."""
    keeps_outputs: bool = field(default=False, init=False)
    outputs: Any = field(default=None, init=False)
    """Outputs of the last micro-batch where they are kept: alive in the next step, they would add to its memory."""

    def __call__(self, index: int) -> None:
        """Run step `index`."""
        for _ in self.phases(index):
            pass

    def load(self, index: int) -> None:
        """Fetch the batches of step `index` and do nothing with them."""
        for micro in range(self.accumulate):
            self.fetch(index * self.accumulate + micro)

    def phases(self, index: int) -> Iterator[str]:
        """Run step `index`, yielding the name of each phase once it is done."""
        total = 0.0
        for micro in range(self.accumulate):
            batch = self.fetch(index * self.accumulate + micro)
            yield "data"
            with self.autocast:
                loss, outputs = self.evaluate(self.model, batch)
            self.outputs = outputs if self.keeps_outputs else None
            del outputs
            total = total + loss.detach()  # a new tensor: CUDA graphs overwrite their outputs in the next micro-batch
            yield "forward"
            self.scaler.scale(loss / self.accumulate).backward()
            yield "backward"
        self.loss = total / self.accumulate
        self.scaler.unscale_(self.optimizer)
        self.clip(self.model.parameters())
        if self.rate:
            for group in self.optimizer.param_groups:
                group["lr"] = self.rate(index)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        yield "optimizer"


def trained(model: torch.nn.Module) -> list[torch.nn.Parameter]:
    """Return the parameters that are not frozen."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def scheduled(asked: Mapping[str, Any], steps: int) -> Callable[[int], float] | None:
    """Return the learning rate by step as a recipe for `steps` steps has it, or None where it stays the same."""
    if asked["schedule"] == "constant" and not asked["warmup"]:
        return None
    return partial(recipe.rate, asked, steps)


def clipper(kind: str, norm: float) -> Callable[[Any], Any]:
    """Return what clips the gradients to `norm`: one kernel a tensor for `loop`, as one group otherwise.

    Nothing is clipped to 0, or for the optimizer `none`.
    """
    if not norm or kind == "none":
        return lambda parameters: None
    if "foreach" in inspect.signature(clip_grad_norm_).parameters:
        return partial(clip_grad_norm_, max_norm=norm, foreach=kind != "loop")
    return partial(clip_grad_norm_, max_norm=norm)  # torch 1.x has only the loop


def optimizer(parameters: Any, kind: str, asked: Mapping[str, Any]) -> torch.optim.Optimizer:
    """Return a recipe's AdamW, running one kernel a tensor (`loop`), grouped (`foreach`) or as one kernel (`fused`).

    With `none` a step is forward and backward alone.
    """
    if kind == "none":
        return Unchanging(parameters, {})
    choice = {"loop": {"foreach": False}, "foreach": {"foreach": True}, "fused": {"fused": True}}[kind]
    try:
        return torch.optim.AdamW(parameters, lr=asked["learning_rate"], weight_decay=asked["weight_decay"], **choice)
    except (TypeError, RuntimeError) as error:
        raise Unavailable(f"the {kind} AdamW of torch {torch.__version__} refuses: {error}") from error


class Unchanging(torch.optim.Optimizer):
    """An optimizer that leaves every parameter as it is."""

    def step(self, closure: Any = None) -> None:
        """Do nothing."""


def checkpointed(forward: Any, *arguments: Any, **keywords: Any) -> Any:
    """Run a layer without keeping its activations; they are computed again in the backward pass."""
    from torch.utils.checkpoint import checkpoint

    return checkpoint(forward, *arguments, use_reentrant=False, **keywords)


@contextmanager
def keeping_activations(model: torch.nn.Module) -> Iterator[None]:
    """Compute nothing again, within it, of a model whose layers are `checkpointed`."""
    found = [(module, vars(module).get("forward")) for module in model.modules()]
    wrapped = [(module, forward) for module, forward in found if getattr(forward, "func", None) is checkpointed]
    for module, forward in wrapped:
        (module.forward,) = forward.args
    try:
        yield
    finally:
        for module, forward in wrapped:
            module.forward = forward


def layers(model: torch.nn.Module, purpose: str) -> list[torch.nn.Module]:
    """Return the model's layers: the elements of its ModuleLists; raise Unavailable if it has none."""
    lists = [module for module in model.modules() if isinstance(module, torch.nn.ModuleList)]
    if not lists:
        raise Unavailable(f"the model has no layers to {purpose}: it keeps none in an nn.ModuleList")
    return [layer for group in lists for layer in group]
