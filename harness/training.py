"""Training to a score: the cases of a launch in turns, from one score to the next, each until its recipe is over."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from harness.peer import CaseFailure, Peer
from harness.recipe import is_over
from harness.spec import Case
from harness.start import CHUNK

if TYPE_CHECKING:
    from harness.launch import Launch

SEEN = {"accuracy": "train_accuracy", "held_out_loss": "train_loss"}
"""Scores that are kept of the training part, too, and what they are called there."""
Scores = Mapping[str, Mapping[str, float]]
"""Part of the data -> metric -> value."""


@dataclass(kw_only=True)
class Curve:
    """The scores of one case so far, by step."""

    points: dict[int, Scores] = field(default_factory=dict)
    is_over: bool = False


def train(launch: "Launch") -> None:
    """Train all cases of a launch to the workload's steps and write down their scores, of each in the end its best."""
    steps = launch.suite.steps_of(launch.block.workload)
    if steps == 0:
        return
    curves = {case: Curve() for case in launch.cases}
    for step in launch.block.workload.recipe.points(steps):
        launch.each(f"training, step {step:,} of {steps:,}", partial(train_to, launch, curves, step, step == steps))
    launch.each("quality", partial(conclude, launch, curves))


def train_to(launch: "Launch", curves: Mapping[str, Curve], step: int, is_last: bool, case: Case, peer: Peer) -> None:
    """Train a case on to a step and score it, unless its training is over."""
    curve, recipe = curves[case.id], launch.block.workload.recipe
    if curve.is_over:
        return
    wanted = {"test": True, "validation": recipe.patience > 0, "train": recipe.gap and (is_last or recipe.patience > 0)}
    parts = [part for part, is_wanted in wanted.items() if is_wanted]
    ask, losses = partial(peer.ask, "quality", launch.suite.timeout), []
    with launch.watch("quality"):
        for until in range(max(curve.points, default=0) + CHUNK, step, CHUNK):
            losses += ask(steps=until, parts=[])["losses"]
        reply = ask(steps=step, parts=parts)
    losses = [float(loss) for loss in losses + reply["losses"]]
    first = step - len(losses)
    launch.write([
        (case.id, launch.number, 0, launch.turn, index, "training_loss", loss)
        for index, loss in enumerate(losses, start=first)
    ])  # fmt: skip
    scores = {part: {name: float(value) for name, value in reply["scores"][part].items()} for part in parts}
    curve.points[step] = scores
    if recipe.score_every:
        launch.put_all(case.id, scores["test"], step=step)
    for index, loss in enumerate(losses, start=first):
        if not math.isfinite(loss):
            raise CaseFailure("wrong", f"its training diverged: the loss of step {index:,} is not a number")
    if not all(math.isfinite(value) for found in scores.values() for value in found.values()):
        raise CaseFailure("wrong", f"its score after step {step:,} is not a number")
    if recipe.patience:
        curve.is_over = is_over(recipe, [found["validation"]["held_out_loss"] for found in curve.points.values()])


def conclude(launch: "Launch", curves: Mapping[str, Curve], case: Case, peer: Peer) -> None:
    """Write down the score that counts: the last, or with patience that of the lowest loss on the validation part."""
    points, recipe = curves[case.id].points, launch.block.workload.recipe
    last = max(points)
    best = min(points, key=lambda step: points[step]["validation"]["held_out_loss"]) if recipe.patience else last
    launch.put_all(case.id, points[best]["test"])
    launch.put(case.id, "steps_trained", last)
    if recipe.gap:
        seen = points[best]["train"]
        launch.put_all(case.id, {name: seen[metric] for metric, name in SEEN.items() if metric in seen})
