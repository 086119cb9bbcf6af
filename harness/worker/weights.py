"""Weights: a model as it starts, drawn from the seed or read from a checkpoint; and a model written as a checkpoint."""

import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import torch

from harness import checkpoint
from harness.errors import Unavailable, UserError
from harness.names import Named

OWN = "tandem"
"""The `model_type` in the config.json of checkpoints that `write` makes."""
Tensors = Mapping[str, torch.Tensor]


def initial(model: Named, attention: Any, config: Mapping[str, Any], folder: str) -> tuple[torch.nn.Module, list[str]]:
    """Return the model as it starts, and the names of the weights that its checkpoint lacks and that stay as drawn.

    Without a folder all are drawn. Raise UserError for a checkpoint that the model cannot take.
    """
    if not folder:
        return model.load()(attention, **config), []
    if model.reads_weights:
        built = model.load()(attention, folder, **config)
        return built, getattr(built, "drawn", [])
    try:
        return from_checkpoint(model, attention, config, Path(folder))
    except UserError as error:
        raise UserError(f"model {model.name!r} cannot start from {folder}: {error}") from None


def from_checkpoint(
    model: Named, attention: Any, config: Mapping[str, Any], folder: Path
) -> tuple[torch.nn.Module, list[str]]:
    """Return the model built as its checkpoint and then `config` say, with the checkpoint's weights."""
    fields, rename = described(model, checkpoint.configuration(folder))
    built = model.load()(attention, **{**fields, **config})
    needed = built.state_dict()
    optional = {name for listed in ("HEAD", "ADDED") for name in getattr(model.module(), listed, ())}
    taken = chosen(needed, rename(read(folder)), optional)
    built.load_state_dict(taken, strict=False)
    return built, [name for name in needed if name not in taken]


def described(model: Named, says: Mapping[str, Any]) -> tuple[Mapping[str, Any], Callable[[Tensors], Tensors]]:
    """Return the fields that a checkpoint's configuration gives the model, and what renames its tensors."""
    try:
        if says.get("model_type") == OWN:
            if says["model"] != model.name:
                raise UserError(f"it holds a {says['model']!r}", f"--set model={says['model']}")
            return says["fields"], dict
        module = model.module()
        if not hasattr(module, "from_checkpoint"):
            raise UserError("its file has no from_checkpoint", "write one: docs/extending.md, 'A model'")
        return module.from_checkpoint(says), module.rename
    except KeyError as error:
        raise UserError(f"config.json has no {error}", f"its model_type is {says.get('model_type')!r}") from None


def read(folder: Path) -> dict[str, torch.Tensor]:
    """Return all tensors of a checkpoint by the names that they have there."""
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError:
        raise Unavailable("reading a checkpoint needs the package safetensors") from None
    found: dict[str, torch.Tensor] = {}
    for path in checkpoint.shards(folder):
        try:
            with safe_open(path, framework="pt") as file:
                found |= {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 it is no mapping
        except SafetensorError as error:
            raise UserError(f"{path.name} is damaged: {error}", "copy it again from where it was made") from None
    if not found:
        raise UserError(f"it has no {checkpoint.WEIGHTS}", "save it as safetensors; a pickle is never read")
    return found


def chosen(needed: Tensors, found: Tensors, optional: Collection[str]) -> dict[str, torch.Tensor]:
    """Return the tensors to load: all that the model needs, without what is optional and not there in this size.

    `optional` names modules and parameters: the head, which changes with what a model is trained for, here and in other
    checkpoints of it, and what a setting adds. Raise UserError for any other difference in names or shapes.
    """

    def is_optional(name: str) -> bool:
        return name in optional or name.rpartition(".")[0] in optional

    there = {name for name in needed if name in found and found[name].shape == needed[name].shape}
    wanted = [name for name in needed if name in there or not is_optional(name)]
    if unexpected := sorted(name for name in found if name not in needed and not is_optional(name)):
        raise UserError(f"{several(unexpected)} has no place in it", "see `rename` in the model's file")
    if missing := [name for name in wanted if name not in found]:
        raise UserError(f"{several(missing)} is not in the checkpoint", "use one of the whole model")
    for name in wanted:
        if found[name].shape != needed[name].shape:
            shapes = f"{tuple(found[name].shape)} in the checkpoint and {tuple(needed[name].shape)} in the model"
            raise UserError(f"{name} is {shapes}", "config.json and your settings must give the sizes that it has")
    return {name: found[name] for name in wanted}


def several(names: list[str]) -> str:
    """Return the first name and how many more there are."""
    return names[0] + (f" (with {len(names) - 1} more)" if len(names) > 1 else "")


def write(folder: Path, name: str, fields: Mapping[str, Any], model: torch.nn.Module) -> None:
    """Write a model as a checkpoint that `initial` reads: `fields` are those it was built with.

    config.json comes last, so a folder that has one is complete.
    """
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    weights = {key: tensor.detach().cpu().contiguous() for key, tensor in model.state_dict().items()}
    save_file(weights, folder / checkpoint.WEIGHTS)
    says = {"model_type": OWN, "model": name, "fields": dict(fields)}
    (folder / checkpoint.CONFIGURATION).write_text(json.dumps(says, indent=1), encoding="utf-8")
