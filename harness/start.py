"""The start: a model pretrained once, kept by a hash of all that it depends on, and read by every case of a block."""

import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.checkpoint import CONFIGURATION
from harness.names import ROOT
from harness.peer import CaseFailure
from harness.recipe import Recipe
from harness.spec import Workload

CHUNK = 100
"""Steps that are asked for at once, so that progress shows and no deadline is missed."""
CODE = (
    "harness/recipe.py",
    "harness/work.py",
    "harness/worker",
    "suites/attention",
    "suites/models",
    "suites/pretraining",
)
"""What computes a start, beside the files that its workload names."""


def workload(asked: Workload) -> Workload | None:
    """Return the workload that makes the start of another, or None: the same model without a head for classes."""
    recipe = asked.recipe
    if not recipe.start:
        return None
    kept = {name: getattr(recipe, name) for name in ("schedule", "weight_decay", "clip")}
    peak = recipe.start_learning_rate or recipe.learning_rate
    warmup = min(recipe.warmup, recipe.start_steps)
    return replace(
        asked,
        task=recipe.start,
        data=recipe.start_data or asked.data,
        recipe=Recipe(steps=recipe.start_steps, learning_rate=peak, warmup=warmup, **kept),
        settings={name: value for name, value in asked.settings.items() if name != "classes"},
    )


def key(recipe: Mapping[str, Any], sources: Mapping[str, str], *replies: Mapping[str, Any]) -> str:
    """Return the hash of all that a start depends on.

    That is what the worker is told, the files that the workload names, the code, and what the worker says of itself
    and of what it has built: torch, device, threads, initial weights and first batch.
    """
    paths = sorted(path for name in CODE for path in ((ROOT / name).glob("*.py") if "." not in name else [ROOT / name]))
    code = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
    told = {name: recipe[name] for name in ("workload", "variant", "config")}
    says = [reply.get(name) for reply in replies for name in ("torch", "facts")]
    depends = [told, recipe["data"].get("sha256"), dict(sources), code, says]
    return hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()[:16]


def make(ask: Callable[..., Mapping[str, Any]], steps: int, folder: Path, say: Callable[[str], None]) -> None:
    """Train for `steps` by asking a worker that has built the model, and keep what it writes as `folder`.

    Raise CaseFailure for what fails in the worker, and for a loss that is no number.
    """
    for done in range(0, steps, CHUNK):
        say(f"pretraining, step {done:,} of {steps:,}")
        until = min(done + CHUNK, steps)
        losses = [float(loss) for loss in ask("quality", steps=until, parts=[])["losses"]]
        for step, loss in enumerate(losses, start=until - len(losses)):
            if not math.isfinite(loss):
                raise CaseFailure("wrong", f"its training diverged: the loss of step {step:,} is not a number")
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f"{folder.name}.{os.getpid()}")
    ask("write", folder=str(partial))
    try:
        os.rename(partial, folder)
    except OSError:
        if not is_made(folder):  # by another process meanwhile: the same
            raise
        shutil.rmtree(partial)


def is_made(folder: Path) -> bool:
    """Tell whether a start is there, whole: its configuration is written last."""
    return (folder / CONFIGURATION).is_file()
