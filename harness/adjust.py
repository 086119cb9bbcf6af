"""Adjusting a suite from the command line: `--set key=value` and `--vary axis=a,b`."""

import ast
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields, replace
from typing import Any

from harness.errors import UserError, unknown
from harness.recipe import Recipe
from harness.spec import Block, Suite, Variant, Workload, repeated

SUITE_FIELDS = {
    "launches",
    "rounds",
    "budget",
    "check_steps",
    "quality_steps",
    "seeds",
    "explain",
    "fit",
    "memory_limit",
    "timeout",
}
RECIPE_FIELDS = {item.name for item in fields(Recipe)}
WORKLOAD_FIELDS = {item.name for item in fields(Workload)} - {"settings", "recipe"}
# A revision is checked out by the gate only; `model` is the workload's.
VARIANT_FIELDS = {item.name for item in fields(Variant)} - {"name", "revision", "model"}
Settings = Callable[[Workload], set[str]]


def set_value(suite: Suite, text: str, settings_of: Settings) -> Suite:
    """Return the suite with `key=value` set everywhere; `settings_of` gives the fields of a workload's model."""
    key, value = parted(text, "--set")
    check_key(suite, key, settings_of)
    if key in SUITE_FIELDS | {"seed"}:
        suite = replace(suite, **{key: parsed(value)})
    if key in SUITE_FIELDS:
        return suite
    blocks = [changed(block, key, parsed(value), settings_of) for block in suite.blocks]
    if repeated(block.name for block in distinct(blocks)):  # made alike: only their old names tell them apart
        blocks = [replace(block, name=before.name) for block, before in zip(blocks, suite.blocks, strict=True)]
    return replace(suite, blocks=distinct(blocks))


def vary(suite: Suite, text: str, settings_of: Settings) -> Suite:
    """Return the suite with an axis spread over values.

    An axis of the workload (or of its model) repeats each block for each value. An axis of the variant
    multiplies the variants of each block, and the baseline with the first value stays the baseline.
    An axis that the suite spreads itself is spread anew: blocks that this makes alike are one.
    """
    axis, values = parted(text, "--vary")
    check_key(suite, axis, settings_of)
    if axis in SUITE_FIELDS:
        raise UserError(f"{axis!r} says how to measure and cannot be varied", f"use `--set {axis}=VALUE`")
    points = [parsed(value) for value in values.split(",")]
    if len(set(map(str, points))) < len(points):
        raise UserError(f"--vary {text}: a value comes twice", "give each value once")
    if axis in VARIANT_FIELDS:
        return replace(suite, blocks=distinct(spread(block, axis, points) for block in suite.blocks))
    return replace(
        suite,
        blocks=distinct(
            changed(block, axis, point, settings_of, mark=True) for block in suite.blocks for point in points
        ),
    )


def distinct(blocks: Iterable[Block]) -> tuple[Block, ...]:
    """Return the blocks without those that hold the cases of one before."""
    found: dict[tuple[str, ...], Block] = {}
    for block in blocks:
        found.setdefault(tuple(case.id for case in block.cases), block)
    return tuple(found.values())


def changed(block: Block, key: str, value: Any, settings_of: Settings, *, mark: bool = False) -> Block:
    """Return the block with one field changed in its workload or all its variants; `mark` puts it into the name.

    A mark of that field which the name has already, such as `heads=8`, is set anew in any case. Another model keeps of
    the settings those that it knows.
    """
    name, marks = re.subn(rf" {re.escape(key)}=\S+", lambda _: f" {key}={value}", block.name)
    if key in VARIANT_FIELDS:
        return replace(block, name=name, variants=tuple(replace(item, **{key: value}) for item in block.variants))
    workload = block.workload
    if key in WORKLOAD_FIELDS and not (workload.is_ceiling and key in workload.settings):
        changed_workload = replace(workload, **{key: value})
        if key == "model":
            known = settings_of(changed_workload)
            kept = {name: setting for name, setting in workload.settings.items() if name in known}
            changed_workload = replace(changed_workload, settings=kept)
    elif key in RECIPE_FIELDS:
        changed_workload = replace(workload, recipe=replace(workload.recipe, **{key: value}))
    else:
        changed_workload = replace(workload, settings={**workload.settings, key: value})
    if name.startswith(workload.slug):  # a name made of what the workload is, and perhaps more
        name = changed_workload.slug + name.removeprefix(workload.slug)
    is_told = marks or not mark or changed_workload.slug != workload.slug
    return replace(block, workload=changed_workload, name=name if is_told else f"{name} {key}={value}")


def spread(block: Block, axis: str, points: Sequence[Any]) -> Block:
    """Return the block with every variant once a value."""
    variants = [
        replace(variant, name=f"{variant.name} {axis}={point}", **{axis: point})
        for variant in block.variants
        for point in points
    ]
    name = re.sub(rf" {re.escape(axis)}=\S+", "", block.name)
    return replace(block, name=name, variants=tuple(variants), baseline=f"{block.baseline} {axis}={points[0]}")


def check_key(suite: Suite, key: str, settings_of: Settings) -> None:
    """Raise UserError for a key that no block knows."""
    known = SUITE_FIELDS | WORKLOAD_FIELDS | RECIPE_FIELDS | VARIANT_FIELDS
    for block in suite.blocks:
        known = known | settings_of(block.workload)
    if key not in known:
        raise unknown("axis or setting", key, known)


def parted(text: str, option: str) -> tuple[str, str]:
    """Return both sides of `key=value`."""
    key, equals, value = text.partition("=")
    if not (key and equals and value):
        raise UserError(f"{option} {text!r} is not of the form key=value", f"write for instance `{option} batch=4`")
    return key, value


def parsed(value: str) -> Any:
    """Return the number, truth value or None that a text stands for, else the text."""
    named = {"true": True, "false": False, "none": "none", "unset": None}  # `compile=none` is a name
    if value.lower() in named:
        return named[value.lower()]
    try:
        found = ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value
    return found if isinstance(found, int | float | str) else value
