"""Sides: what a gate holds against what, as the user named it -> a suite of base, candidate and control."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from harness.adjust import VARIANT_FIELDS, parsed, parted
from harness.errors import UserError, unknown
from harness.gate import LAUNCHES
from harness.spec import Block, Suite, Variant, slugify
from harness.verdict import BASE, CANDIDATE, CONTROL

ROUNDS = 40  # of a tiny model cheap beside its start; docs/measuring.md, "How many rounds"


@dataclass(frozen=True, kw_only=True)
class Side:
    """A side of a gate: a variant of the suite, or each of them, with some fields changed."""

    name: str
    variant: str = ""
    changes: Mapping[str, Any] = field(default_factory=dict)

    def of(self, variant: Variant) -> Variant:
        """Return the variant as this side runs it."""
        return replace(variant, **self.changes)


def side(
    name: str, settings: Sequence[str], suite: Suite, labels: Sequence[str], commit_of: Callable[[str], str | None]
) -> Side:
    """Return the side called `name` (a variant, an interpreter label or a git reference; empty for none of these)."""
    changes = dict(setting(text) for text in settings)
    shown = ", ".join(filter(None, [name, *settings])) or "as it is"
    variants = list(dict.fromkeys(case.variant.name for case in suite.cases))
    if not name or name in variants:
        return Side(name=shown, variant=name, changes=changes)
    if name in labels:
        return Side(name=shown, changes={"torch": name, **changes})
    if commit := commit_of(name):
        return Side(name=shown, changes={"revision": commit, **changes})
    raise unknown("variant, interpreter label or git reference", name, [*variants, *labels])


def setting(text: str) -> tuple[str, Any]:
    """Return field and value of `key=value`; a field of the workload would make two different works."""
    key, value = parted(text, "--base-set")
    if key not in VARIANT_FIELDS:
        raise UserError(
            f"{key!r} is no field of a variant",
            f"both sides do the same work; known: {', '.join(sorted(VARIANT_FIELDS))}",
        )
    return key, parsed(value)


def gate_suite(suite: Suite, base: Side, candidate: Side, budget: float | None) -> Suite:
    """Return the suite that measures base, candidate and the base once more, a block for each pair of variants."""
    blocks = [made for block in suite.blocks for made in pairs(block, base, candidate)]
    if not blocks:
        wanted = " and ".join(dict.fromkeys(filter(None, (base.variant, candidate.variant))))
        lacking = f"has {wanted}" if wanted else "has a variant that the two sides run differently"
        remedy = "see `tandem run SUITE --dry-run`, and give --base, --candidate, --base-set or --candidate-set"
        raise UserError(f"no block of suite {suite.name!r} {lacking}", remedy)
    return replace(
        suite,
        name=f"gate-{suite.name}",
        question=f"Is {candidate.name} worse than {base.name}?",
        blocks=tuple(blocks),
        launches=LAUNCHES,
        rounds=max(suite.rounds, ROUNDS),
        seeds=LAUNCHES if any(suite.steps_of(block.workload) for block in suite.blocks) else 1,
        retry=True,
        budget=suite.budget if budget is None else budget,
    )


def pairs(block: Block, base: Side, candidate: Side) -> Iterator[Block]:
    """Yield a block of three for each variant that both sides run, or one for the two variants that they name."""
    variants = {variant.name: variant for variant in block.variants}
    for variant in block.variants:
        was, now = variants.get(base.variant or variant.name), variants.get(candidate.variant or variant.name)
        if variant.name != (candidate.variant or base.variant or variant.name) or not (was and now):
            continue
        was, now = base.of(was), candidate.of(now)
        if was == now and not (base.variant and candidate.variant):  # it has the changed fields already
            continue
        yield Block(
            name=f"{block.name} {slugify(variant.name)}",
            workload=block.workload,
            variants=tuple(
                replace(variant, name=f"{variant.name} {role}")
                for variant, role in ((was, BASE), (now, CANDIDATE), (was, CONTROL))
            ),
        )
