"""What of a model is trained: all of it, its head alone, or small matrices beside linear layers (LoRA) and the head."""

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from harness.errors import UserError
from harness.worker.step import layers


def tune(model: nn.Module, recipe: Mapping[str, Any], heads: Collection[str]) -> None:
    """Freeze what the recipe does not train; `heads` names the modules and parameters of the model's head."""
    if recipe["tune"] == "full":
        return
    trained = [name for name, _ in model.named_parameters() if name in heads or name.rpartition(".")[0] in heads]
    if not trained and recipe["tune"] == "head":
        raise UserError("the model's file names no head to train", "name its modules as HEAD, or --set tune=lora")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in trained)
    if recipe["tune"] == "lora":
        for layer in layers(model, "put LoRA into"):
            adapt(layer, recipe["lora_rank"])
        if not any(isinstance(module, LoRA) for module in model.modules()):
            raise UserError("the model's layers have no nn.Linear to put LoRA beside", "--set tune=head, or full")


def adapt(module: nn.Module, rank: int) -> None:
    """Put a LoRA in the place of each linear layer below `module`."""
    for name, child in module.named_children():
        if isinstance(child, nn.Linear):
            setattr(module, name, LoRA(child, rank))
        elif not isinstance(child, LoRA):  # of a list within a list
            adapt(child, rank)


class LoRA(nn.Module):
    """A frozen linear layer and what is learned beside it: x W + b + 2 x down up, (..., inputs) -> (..., outputs).

    Hu et al. 2021, https://arxiv.org/abs/2106.09685; scale alpha / rank is 2, `up` starts at 0.
    """

    def __init__(self, linear: nn.Linear, rank: int) -> None:
        super().__init__()
        self.linear = linear
        self.down = nn.Parameter(torch.empty(rank, linear.in_features))
        self.up = nn.Parameter(torch.zeros(linear.out_features, rank))
        nn.init.kaiming_uniform_(self.down, a=5**0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's output with what was learned added."""
        return self.linear(x) + 2 * nn.functional.linear(nn.functional.linear(x, self.down), self.up)
