"""The cases that a name means: those of a variant, an id, the ids that begin with it or hold it, or a pattern."""

from collections.abc import Iterable
from fnmatch import fnmatchcase

from harness.errors import UserError, unknown
from harness.spec import Case


def meant(cases: Iterable[Case], name: str) -> list[Case]:
    """Return the cases that a name means; raise UserError, with the closest names, if that is none."""
    known = {case.id: case for case in cases}
    found = (
        [id for id in known if id == name]
        or [id for id, case in known.items() if case.variant.name == name]
        or [id for id in known if id.startswith(name)]
        or [id for id in known if name in id]
        or [id for id in known if fnmatchcase(id, name)]
    )
    if not found:
        raise unknown("case", name, [*(case.variant.name for case in known.values()), *known])
    return [known[id] for id in found]


def chosen(cases: Iterable[Case], name: str) -> Case:
    """Return the case that a name means; raise UserError if that is none or several."""
    first, *others = meant(cases, name)
    if others:
        ids = sorted(case.id for case in (first, *others))
        raise UserError(f"{name!r} means {len(ids)} cases", f"say which: {', '.join(ids)}")
    return first
