"""The case of a run that a name means: a variant's name, an id, the only id with it in it, or a pattern."""

from fnmatch import fnmatchcase

from harness.errors import UserError, unknown
from harness.spec import Case
from harness.store import Run


def chosen(run: Run, name: str) -> Case:
    """Return the case that a name means; raise UserError, with the closest names, if that is none or several."""
    cases = {case.id: case for case in run.suite.cases}
    meant = (
        [id for id in cases if id == name]
        or [id for id, case in cases.items() if case.variant.name == name]
        or [id for id in cases if name in id]
        or [id for id in cases if fnmatchcase(id, name)]
    )
    if not meant:
        raise unknown("case", name, {*(case.variant.name for case in cases.values()), *cases})
    if len(meant) > 1:
        raise UserError(f"{name!r} means {len(meant)} cases", f"say which: {', '.join(sorted(meant))}")
    return cases[meant[0]]
