"""The cases of a run that a name means: those of a variant, an id, the ids with it in them, or a pattern."""

from fnmatch import fnmatchcase

from harness.errors import UserError, unknown
from harness.spec import Case
from harness.store import Run


def meant(run: Run, name: str) -> list[Case]:
    """Return the cases that a name means; raise UserError, with the closest names, if that is none."""
    cases = {case.id: case for case in run.suite.cases}
    found = (
        [id for id in cases if id == name]
        or [id for id, case in cases.items() if case.variant.name == name]
        or [id for id in cases if name in id]
        or [id for id in cases if fnmatchcase(id, name)]
    )
    if not found:
        raise unknown("case", name, dict.fromkeys([*(case.variant.name for case in cases.values()), *cases]))
    return [cases[id] for id in found]


def chosen(run: Run, name: str) -> Case:
    """Return the case that a name means; raise UserError if that is none or several."""
    first, *others = meant(run, name)
    if others:
        raise UserError(
            f"{name!r} means {len(others) + 1} cases",
            f"say which: {', '.join(sorted(case.id for case in (first, *others)))}",
        )
    return first
