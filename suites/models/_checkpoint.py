"""What `from_checkpoint` and `rename` of the models share: what config.json must say, and other names for tensors."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from harness.errors import UserError


def need(config: Mapping[str, Any], **computed: Any) -> None:
    """Raise UserError for the first key of a config.json that asks for another value than the model computes with.

    A key that is not there has the value that it has in the published model.
    """
    for key, value in computed.items():
        if config.get(key, value) != value:
            raise UserError(f"its {key} is {config[key]!r}", f"this model computes {value!r}")


def classes(config: Mapping[str, Any], kind: str) -> int:
    """Return how many classes a checkpoint of transformers' class `kind` tells apart; 0 for one of another class."""
    if kind not in (config.get("architectures") or ()):
        return 0
    return len(config.get("id2label", ("LABEL_0", "LABEL_1")))  # two where it says nothing


def renamed(tensors: Mapping[str, Tensor], names: Mapping[str, str | None], prefix: str = "") -> dict[str, Tensor]:
    """Return the tensors under the names that they have here; raise UserError for the first that `names` does not know.

    `names` says for each module or tensor there what it is here, None for what is left out; `*` stands for a number,
    the same in both. `prefix` is what checkpoints of the model with its head have before the names of the model alone.
    """
    patterns = {
        re.compile(re.escape(there).replace(r"\*", r"(\d+)") + r"(\.weight|\.bias)?"): here
        for there, here in names.items()
    }
    found = {}
    for name, tensor in tensors.items():
        matches = ((pattern.fullmatch(name.removeprefix(prefix)), here) for pattern, here in patterns.items())
        match, here = next(((match, here) for match, here in matches if match), (None, None))
        if match is None:
            raise UserError(f"{name} has no place in it", "see NAMES in the model's file")
        if here is not None:
            *numbers, leaf = match.groups(default="")
            for number in numbers:
                here = here.replace("*", number, 1)
            found[here + leaf] = tensor
    return found


def joined(tensors: Mapping[str, Tensor], parts: tuple[str, ...], whole: str) -> dict[str, Tensor]:
    """Return the tensors with those of the modules `parts` of each layer joined, in that order, to one of `whole`."""
    found = dict(tensors)
    for name in tensors:
        before, module, leaf = name.rpartition(f".{parts[0]}.")
        if module:
            names = [f"{before}.{part}.{leaf}" for part in parts]
            if absent := [other for other in names if other not in tensors]:
                raise UserError(f"{absent[0]} is not in the checkpoint", "use one of the whole model")
            found[f"{before}.{whole}.{leaf}"] = torch.cat([found.pop(other) for other in names])
    return found
