"""Quality in words: what a score is called, whether one is as good as another, when a target was reached."""

from typing import Literal

from harness.metrics import METRICS
from harness.spec import Block, Case, Workload
from harness.stats import VOIDING, Judgement, bound, level
from reports.document import Cell, Change, Note
from reports.frame import Frame

HEADINGS = {"f1": "F1", "matthews_correlation": "Matthews correlation", "held_out_loss": "held-out loss"}
Standing = Literal["as good", "worse", "cannot tell"]


def heading(metric: str) -> str:
    """Return what a score is called."""
    return HEADINGS.get(metric, metric.replace("_", " "))


def target_heading(workload: Workload) -> str:
    """Return what the time to the recipe's target is called."""
    goal = workload.recipe.goal
    return f"time to {heading(goal[0])} {goal[1]:g}" if goal else "time to target"


def standing(found: Judgement, metric: str) -> Standing:
    """Return whether a score is as good as the other's or better, as far as the margin: by the interval's bad end."""
    scale, better, farthest = METRICS[metric].scale, METRICS[metric].better, METRICS[metric].margin
    low, high = level(found.low, scale), level(found.high, scale)
    loss = -low if better == "higher" else high
    if loss <= bound(farthest, scale) and not {*VOIDING} & {*found.codes()}:
        return "as good"
    return "worse" if found.verdict == "worse" else "cannot tell"


def quality_note(frame: Frame, block: Block) -> list[Note]:
    """Return which variants are as good as the baseline, which are not and of which that cannot be told."""
    metric = frame.figures.stated(*block.cases)
    pairs = [(case.variant.name, change) for case in block.cases if (change := quality_change(frame, case, metric))]
    if metric is None or not pairs:
        return []
    found = [(standing(change.judgement, metric), name, change) for name, change in pairs]
    good = ", ".join(name for word, name, _ in found if word == "as good") or "none"
    margin = f"{METRICS[metric].margin:.0%}".replace("%", "pp" if METRICS[metric].scale == "difference" else "%")
    margin = margin.replace("pp", " pp").replace("%", " %")
    rest = [part for word, name, change in found if word != "as good" for part in (f"· {word}: {name}", change)]
    lead = f"{block.name}: {heading(metric)} as good as that of {block.baseline}, within {margin}: {good}"
    return [Note(parts=(lead, *rest), kind="answer")]


def quality_change(frame: Frame, case: Case, metric: str | None) -> Change | None:
    """Return a case's score against its baseline's; None from one seed, of which nothing can be told."""
    found = frame.comparison(case, metric) if metric else None
    return Change(judgement=found.judgement) if found and found.judgement.launches > 1 else None


def time_to_target(frame: Frame, case: Case) -> Cell:
    """Return the time until the recipe's target is reached, or in how many launches it is not."""
    missed, scored = frame.figures.missed(case)
    return f"not reached in {missed} of {scored}" if missed else frame.quantity(case, "time_to_quality_seconds")
