"""A checkpoint: a folder with config.json and safetensors files, as Hugging Face lays them out; found without torch."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.errors import UserError

CONFIGURATION = "config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"


def find(name: str, folders: Sequence[Path] = ()) -> Path:
    """Return the folder called `name` in one of `folders` or here, or what the Hugging Face cache keeps for that id."""
    for folder in (*folders, Path()):
        if (folder / name).is_dir():
            return (folder / name).resolve()
    kept = cache() / f"models--{name.replace('/', '--')}"
    main = kept / "refs/main"  # what the id stood for when it was last downloaded
    if main.is_file() and (snapshot := kept / "snapshots" / main.read_text().strip()).is_dir():
        return snapshot
    raise UserError(
        f"no checkpoint {name!r}: it is no folder, and no id in the Hugging Face cache at {cache()}",
        f"give a folder with {CONFIGURATION} and {WEIGHTS}; nothing is downloaded",
    )


def cache() -> Path:
    """Return where huggingface_hub keeps what it has downloaded, by its own variables."""
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    return Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub").expanduser()


def files(folder: Path) -> list[Path]:
    """Return the files that make a checkpoint: its configuration and its weights, if it has any."""
    configuration(folder)
    return [folder / CONFIGURATION, *shards(folder)]


def configuration(folder: Path) -> dict[str, Any]:
    """Return what config.json says."""
    if not (folder / CONFIGURATION).is_file():
        raise UserError(f"{folder} is no checkpoint: it has no {CONFIGURATION}", "give the folder that has it")
    return read(folder / CONFIGURATION)


def shards(folder: Path) -> list[Path]:
    """Return the safetensors files: one, or those that the index names, or none."""
    if (folder / WEIGHTS).is_file() or not (folder / INDEX).is_file():
        return [folder / WEIGHTS] if (folder / WEIGHTS).is_file() else []
    named = read(folder / INDEX).get("weight_map")
    if not isinstance(named, dict) or not all(isinstance(name, str) for name in named.values()):
        raise UserError(f"{folder / INDEX} has no weight_map", "copy it again from where it was made")
    paths = [folder / Path(name).name for name in sorted(set(named.values()))]  # in this folder, whatever it says
    if absent := [path for path in paths if not path.is_file()]:
        raise UserError(f"{folder} lacks {absent[0].name}, which its {INDEX} names", "copy that file, too")
    return paths


def read(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file of a checkpoint."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}", "copy it again from where it was made") from None
    if not isinstance(found, dict):
        raise UserError(f"{path} holds no JSON object", "copy it again from where it was made")
    return found
