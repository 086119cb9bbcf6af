"""The start: a model pretrained once, kept by a hash of all that it depends on, and read by every case of a block."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from harness.checkpoint import CONFIGURATION
from harness.names import ROOT
from harness.recipe import Recipe
from harness.spec import Workload

CHUNK = 100
"""Steps that are asked for at once, so that progress shows and no deadline is missed."""
FILES = ("step.py", "precision.py", "session.py", "weights.py")
"""Of the worker: what they compute is in the start."""


def workload(asked: Workload) -> Workload | None:
    """Return the workload that makes the start of another, or None: the same model without a head for classes."""
    recipe = asked.recipe
    if not recipe.start:
        return None
    names = ("learning_rate", "schedule", "weight_decay", "clip")
    kept = {name: getattr(recipe, name) for name in names}
    warmup = min(recipe.warmup, recipe.start_steps)
    return replace(
        asked,
        task=recipe.start,
        data=recipe.start_data or asked.data,
        recipe=Recipe(steps=recipe.start_steps, warmup=warmup, **kept),
        settings={name: value for name, value in asked.settings.items() if name != "classes"},
    )


def key(recipe: Mapping[str, Any], sources: Mapping[str, str]) -> str:
    """Return the hash of all that a start depends on: what the worker is told, its files, and torch."""
    worker = {name: hashlib.sha256((ROOT / "harness/worker" / name).read_bytes()).hexdigest() for name in FILES}
    told = {name: recipe[name] for name in ("workload", "variant", "config")}
    depends = [told, recipe["data"].get("sha256"), dict(sources), worker, version("torch")]
    return hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()[:16]


def make(ask: Callable[..., Mapping[str, Any]], steps: int, folder: Path, say: Callable[[str], None]) -> None:
    """Train for `steps` by asking a worker that has built the model, and keep what it writes as `folder`.

    Raise CaseFailure for what fails in the worker.
    """
    for done in range(0, steps, CHUNK):
        say(f"pretraining, step {done:,} of {steps:,}")
        ask("quality", steps=min(done + CHUNK, steps), parts=[])
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f"{folder.name}.{os.getpid()}")
    ask("write", folder=str(partial))
    with suppress(OSError):  # another process may have made it meanwhile: the same
        partial.rename(folder)
    shutil.rmtree(partial, ignore_errors=True)


def is_made(folder: Path) -> bool:
    """Tell whether a start is there, whole: its configuration is written last."""
    return (folder / CONFIGURATION).is_file()
