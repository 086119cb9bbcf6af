"""Which operators take the time of a step."""

from harness.spec import Block, Case
from harness.stats import estimate
from reports.document import Quantity, Section, Table
from reports.frame import Frame

ORDER = 90
SHOWN = 12  # operators a table; beyond these each takes little


def view(frame: Frame) -> Section:
    """Return for each block the operators that take most, a column for each variant."""
    tables = []
    for block in frame.run.suite.blocks:
        seconds = {case.variant.name: operators(frame, case) for case in block.cases}
        if any(seconds.values()):
            tables.append(table(frame, block, {name: found for name, found in seconds.items() if found}))
    return Section(title="Operators", question="Which operators take the time of a step?", items=tuple(tables))


def operators(frame: Frame, case: Case) -> dict[str, float]:
    """Return the seconds a step of each operator in the case's trace."""
    return {item["name"]: float(item["seconds"]) for item in frame.outcome(case)["facts"].get("operators", [])}


def table(frame: Frame, block: Block, seconds: dict[str, dict[str, float]]) -> Table:
    """Return the operators, the dearest in any variant first."""
    dearest: dict[str, float] = {}
    for found in seconds.values():
        for name, value in found.items():
            dearest[name] = max(value, dearest.get(name, 0.0))
    names = sorted(dearest, key=lambda name: (-dearest[name], name))[:SHOWN]
    rows = tuple(
        (
            name,
            *(
                Quantity(estimate=estimate([found[name]]), unit="s") if name in found else None
                for found in seconds.values()
            ),
        )
        for name in names
    )
    return Table(
        title=f"{block.name}: time a step in each operator, from the trace",
        columns=("operator", *seconds),
        rows=rows,
        hardware=frame.hardware(*block.cases),
    )
