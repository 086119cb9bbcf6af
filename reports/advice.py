"""Advice: what is known of a compiled case -> sentences, each tied to a figure, or to why there is none."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.compare import BreakEven
from reports.document import Cell, Change, Note, exact

SHOWN = 3  # places or guards in a sentence; the tables hold all
LITTLE = 0.01  # of a step; less is not worth a sentence


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What a run knows of a compiled case; None is not known."""

    breaks: Sequence[str] = ()
    """Reasons of graph breaks, with their places."""
    guards: Sequence[str] = ()
    """Guards that failed, each of them a compilation more."""
    recompiles: int = 0
    recompile_seconds: float | None = None
    given_up: Sequence[str] = ()
    """Functions that torch.compile gave up because it had compiled them too often."""
    outside: float | None = None
    """Share of a step: forward and backward outside of compiled graphs, but for library kernels."""
    generated: float | None = None
    """Share of a step: compiled graphs, but for library kernels."""
    unknown: str = ""
    """Why the shares are not known, and what would tell."""
    optimizer: float | None = None
    """Share of a step: the optimizer, where it is a loop over the parameters."""
    cold: float | None = None
    warm: float | None = None
    """Seconds of compiling with an empty and with a filled cache."""
    break_even: BreakEven | None = None
    steadier: tuple[str, Change] | None = None
    """A variant of the block that differs in `dynamic` and `bucket` alone, was not given up and is the fastest of such:
    its name, and its step time over this one's."""


def advice(found: Evidence) -> tuple[Note, ...]:
    """Return what there is to say, most important first."""
    rules: tuple[Callable[[Evidence], Sequence[Cell]], ...] = (
        of_limit, of_breaks, of_recompiles, of_rest, of_optimizer, of_start, of_break_even,
    )  # fmt: skip
    return tuple(Note(parts=tuple(parts), kind="answer") for rule in rules if (parts := rule(found)))


def of_limit(found: Evidence) -> Sequence[Cell]:
    """Say that shapes beyond the recompile limit run eagerly, and what a way out gives where one was measured."""
    if not found.given_up:
        return ()
    gave_up = f"torch.compile gave up {several(found.given_up)}, compiled too often: further shapes run eagerly;"
    if found.steadier is None:
        way = "(tandem run dynamic, or --vary dynamic=unset,true,false, tells what each way out gives)"
        if (parts := left(found)) is None:
            return gave_up, f"what that costs cannot be told: {found.unknown}", way
        return gave_up, f"compiling all is worth at most {sum(parts)} % of the step", way
    name, change = found.steadier
    return gave_up, f"step time with {name}, which is not given up, against this one:", change


def of_breaks(found: Evidence) -> Sequence[Cell]:
    """Say where graphs break, and bound what removing the breaks is worth."""
    if not found.breaks:
        return ()
    breaks = f"{counted(len(found.breaks), 'graph break')}, {several(found.breaks)}:"
    if (parts := left(found)) is None:
        return breaks, f"what removing them is worth cannot be told: {found.unknown}"
    outside, generated = parts
    return (
        breaks,
        f"removing them is worth at most {outside + generated} % of the step:",
        f"{outside} % run outside of compiled code, and {generated} % in compiled code that may fuse across them;",
        "matrix products and attention stay",
    )


def of_recompiles(found: Evidence) -> Sequence[Cell]:
    """Say which guards failed, and bound what keeping shapes alike is worth."""
    if not found.recompiles:
        return ()
    again = f"{counted(found.recompiles, 'recompilation')}{because(found.guards)}:"
    if found.recompile_seconds is None:
        return again, "how long they took is not known to this torch, which keeps no record of each (2.1 does)"
    return (
        again, "one compilation for all is worth at most", exact(found.recompile_seconds),
        "of each cold start: pad to buckets, set dynamic, or keep what changes out of compiled code",
    )  # fmt: skip


def of_rest(found: Evidence) -> Sequence[Cell]:
    """Bound what is left to gain where no graph breaks."""
    if found.breaks or found.given_up:
        return ()
    if (parts := left(found)) is None:
        return (f"no graph break; what is left to gain cannot be told: {found.unknown}",)
    outside, generated = parts
    return (
        f"no graph break; what is left to fuse is at most {outside + generated} % of the step:",
        f"{generated} % in compiled code and {outside} % outside of it;",
        "the rest are matrix products, attention, data and optimizer",
    )


def of_optimizer(found: Evidence) -> Sequence[Cell]:
    """Bound what an optimizer of one kernel is worth."""
    if found.optimizer is None or found.optimizer < LITTLE:
        return ()
    worth = f"optimizer=fused is worth at most {percent(found.optimizer)} % of the step"
    return (f"the optimizer, one kernel a parameter and not compiled: {worth}",)


def of_start(found: Evidence) -> Sequence[Cell]:
    """Say what keeping the compile cache is worth."""
    if found.cold is None or found.warm is None or found.warm >= found.cold:
        return ()
    return (
        "the compile cache: kept between starts (TORCHINDUCTOR_CACHE_DIR), it saves", exact(found.cold - found.warm),
        "of the", exact(found.cold), "that compiling takes at each",
    )  # fmt: skip


def of_break_even(found: Evidence) -> Sequence[Cell]:
    """Say from how many steps on compiling pays."""
    if found.break_even is None:
        return ()
    if math.isinf(found.break_even.steps):
        return ("compiling never pays here: its step is not faster than the baseline's, so leave it off",)
    if math.isnan(found.break_even.steps):
        return "whether compiling pays:", found.break_even, "(more launches may tell)"
    return "compiling pays after:", found.break_even, "- leave it off for a shorter training"


def several(texts: Sequence[str]) -> str:
    """Return the first texts, and how many more there are."""
    more = len(texts) - SHOWN
    return "; ".join(texts[:SHOWN]) + (f"; and {more} more" if more > 0 else "")


def because(guards: Sequence[str]) -> str:
    """Return the guards as the reason of a sentence."""
    return f" because {several(guards)}" if guards else ""


def counted(count: int, what: str) -> str:
    """Return a number with what it counts."""
    return f"{count} {what}{'s' * (count != 1)}"


def left(found: Evidence) -> tuple[int, int] | None:
    """Return how many percent of a step are outside of and in compiled code, each rounded up; None if not known."""
    if found.outside is None or found.generated is None:
        return None
    return percent(found.outside), percent(found.generated)


def percent(value: float) -> int:
    """Return a share in whole percent, rounded up as a bound is: a trace does not tell more."""
    return math.ceil(round(100 * value, 6))
