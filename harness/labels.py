"""Labels: the interpreters that a suite asks for by name, and what makes those that are not there."""

import re
from collections.abc import Collection, Iterable

from harness.errors import UserError, unknown
from harness.spec import Suite

CURRENT = "current"
"""The label of the interpreter that runs this."""


def asked(suite: Suite) -> list[str]:
    """Return the labels that a suite's variants run under."""
    return list(dict.fromkeys(case.variant.torch for case in suite.cases))


def lacking(suite: Suite, known: Collection[str]) -> list[str]:
    """Return the labels of a suite that are not among those known."""
    return [label for label in asked(suite) if label not in known and label != CURRENT]


def check(suite: Suite, known: Iterable[str]) -> None:
    """Raise UserError if a suite asks for labels that nobody knows, with the commands that make them all."""
    known = list(known)
    if not (missing := lacking(suite, known)):
        return
    first = next(case.variant.name for case in suite.cases if case.variant.torch == missing[0])
    error = unknown("interpreter", missing[0], [*known, CURRENT])
    commands = " and ".join(f"`{making(label)}`" for label in missing)
    every = " (all with --create-envs of `tandem run`)" * (len(missing) > 1)
    remedy = f"make it with {commands}{every}, or map it with `--python {missing[0]}=PATH`"
    raise UserError(f"variant {first!r}: {error}", remedy)


def making(label: str) -> str:
    """Return the command that makes the environment for a label."""
    return f"tandem env create {label} --torch {label if is_release(label) else 'VERSION'}"


def holds(label: str, torch: str) -> bool:
    """Tell whether a torch is what its label says, or the label says nothing of it."""
    version = torch.partition("+")[0]
    return not is_release(label) or version == label or version.startswith(f"{label}.")


def is_release(label: str) -> bool:
    """Tell whether a label says which torch it stands for, such as `1.13.1`."""
    return re.fullmatch(r"\d+\.\d+(\.\d+)?", label) is not None
