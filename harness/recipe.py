"""The recipe: how a workload is trained, the same for every variant of a block."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.errors import UserError, unknown
from harness.metrics import QUALITY

CHOICES = {"schedule": ("constant", "linear", "cosine"), "tune": ("full", "head", "lora")}
WHOLE = {"steps": 0, "warmup": 0, "lora_rank": 1, "start_steps": 0, "score_every": 0, "patience": 0}
"""Whole numbers, and the least that each may be."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a workload is trained; the defaults are those of a pretraining step."""

    steps: int | None = None
    """Of training before the score; None is the suite's quality_steps."""
    learning_rate: float = 3e-4
    schedule: str = "constant"
    """How the learning rate falls from its peak towards 0, which the step after the last would have."""
    warmup: int = 0
    """Steps in which the learning rate rises to its peak."""
    weight_decay: float = 0.1
    clip: float = 1.0
    """Largest norm of the gradients; 0 clips none."""
    label_smoothing: float = 0.0
    tune: str = "full"
    """What is trained: `full`, the model's `head` alone, or `lora` matrices beside the linear layers, and the head."""
    lora_rank: int = 8
    start: str = ""
    """Pretraining task whose result the model starts from, made once and kept; empty starts as `weights` says."""
    start_steps: int = 1000
    start_learning_rate: float = 0.0
    """Peak of the start's learning rate; 0 is that of `learning_rate`."""
    start_data: str = ""
    """What the start is trained on; empty is the workload's own data."""
    score_every: int = 0
    """Steps from one score to the next, which make the learning curve; 0 scores at the end alone."""
    patience: int = 0
    """Scores without a lower loss on the validation part before training stops; 0 never does."""
    target: str = ""
    """What is asked for, such as `accuracy:0.95`: the time until a score reaches it is a figure."""
    gap: bool = False
    """Whether as much of the training part is scored, too, at the end."""

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise unknown(f"value of {name}", str(getattr(self, name)), choices)
        for name, least in WHOLE.items():
            value = getattr(self, name)
            if name == "steps" and value is None:
                continue
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise UserError(f"recipe: {name} is {value!r}", f"give a whole number of {least} or more")
        for name in ("learning_rate", "start_learning_rate", "weight_decay", "clip", "label_smoothing"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < math.inf:
                raise UserError(f"recipe: {name} is {value!r}", "give a number of 0 or more")
        if self.label_smoothing >= 1:
            raise UserError(f"recipe: label_smoothing is {self.label_smoothing}", "give a share below 1, such as 0.1")
        for name in ("start", "start_data", "target"):
            if not isinstance(getattr(self, name), str):
                raise UserError(f"recipe: {name} is {getattr(self, name)!r}", "give a text, such as accuracy:0.95")
        if not isinstance(self.gap, bool):
            raise UserError(f"recipe: gap is {self.gap!r}", "give true or false")
        if self.patience and not self.score_every:
            raise UserError("recipe: patience counts scores, and there is one at the end alone", "set score_every too")
        self.goal  # noqa: B018 it raises for a target that cannot be read

    @property
    def goal(self) -> tuple[str, float] | None:
        """The metric and the value that `target` asks for, or None."""
        if not self.target:
            return None
        metric, _, value = self.target.partition(":")
        if metric not in QUALITY:
            raise unknown("score of target", metric, QUALITY)
        try:
            wanted = float(value)
        except ValueError:
            wanted = math.nan
        if not math.isfinite(wanted):
            raise UserError(f"recipe: target is {self.target!r}", "write for instance accuracy:0.95")
        return metric, wanted

    def points(self, steps: int) -> list[int]:
        """Return after which of `steps` steps the model is scored: every `score_every`, and at the end."""
        return [*range(self.score_every, steps, self.score_every), steps] if self.score_every else [steps]


def rate(recipe: Mapping[str, Any], steps: int, index: int) -> float:
    """Return the learning rate of step `index` of `steps`; without an end, or after it, that of the last step.

    Linear and cosine fall to 0 (Loshchilov and Hutter 2017, https://arxiv.org/abs/1608.03983, without restarts).
    """
    peak, warmup = float(recipe["learning_rate"]), int(recipe["warmup"])
    if index < warmup:
        return peak * (index + 1) / warmup
    if recipe["schedule"] == "constant" or not steps:
        return peak
    passed = min(index, steps - 1) - warmup
    share = max(passed, 0) / max(steps - warmup, 1)
    return peak * (1 - share if recipe["schedule"] == "linear" else (1 + math.cos(math.pi * share)) / 2)


def is_over(recipe: Recipe, losses: list[float]) -> bool:
    """Tell whether the last `patience` of the validation losses are no lower than the best before them."""
    return 0 < recipe.patience < len(losses) and min(losses[-recipe.patience :]) >= min(losses[: -recipe.patience])
