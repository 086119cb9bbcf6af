"""Which operators take the time of a step, and where the traces are."""

from harness.spec import Block, Case
from harness.traces.read import trace_files
from reports.document import Chart, Link, Mark, Section, Table, exact
from reports.frame import Frame

ORDER = 90
SHOWN = 12  # operators a table; beyond these each takes little
DRAWN = 24  # operators a chart
FAMILIES = {  # by what is in the name, the first that fits
    "attention": ("attention", "flash", "sdpa", "flex"),
    "generated": ("triton", "cpp_fused", "inductor", "compiled", "dynamo"),
    "matrix products": ("mm", "linear", "matmul", "gemm", "conv", "einsum", "nvjet", "cutlass"),
    "optimizer": ("adam", "optimizer", "foreach", "sgd"),
    "copies": ("copy", "clone", "cat", "contiguous", "aten::to", "memcpy", "memset", "fill", "zero", "empty"),
    "norm and softmax": ("norm", "softmax", "dropout"),
}


def view(frame: Frame) -> Section:
    """Return for each block the operators that take most, a column for each variant, and charts of two of these."""
    items: list[Table | Chart] = []
    for block in frame.run.suite.blocks:
        seconds = {case.variant.name: operators(frame, case) for case in block.cases}
        if any(seconds.values()):
            items.append(table(frame, block, {name: found for name, found in seconds.items() if found}))
            items += [chart(frame, block, case) for case in extremes(frame, block)]
    items += traces(frame)
    return Section(title="Operators", question="Which operators take the time of a step?", items=tuple(items))


def extremes(frame: Frame, block: Block) -> list[Case]:
    """Return the traced cases that a chart is drawn of: the baseline and the fastest."""
    traced = [case for case in block.cases if operators(frame, case)]
    found = [case for case in traced if case == block.baseline_case]
    timed = [(seconds, case) for case in traced if (seconds := frame.center(case, "step_seconds"))]
    if timed:
        _, fastest = min(timed, key=lambda pair: pair[0])
        found += [] if fastest in found else [fastest]
    return found


def chart(frame: Frame, block: Block, case: Case) -> Chart:
    """Return the time of a case's operators as areas."""
    found = sorted(operators(frame, case).items(), key=lambda item: -item[1])
    marks = [Mark(at=name, value=seconds, series=family(name)) for name, seconds in found[:DRAWN] if seconds > 0]
    if rest := sum(seconds for _, seconds in found[DRAWN:]):
        marks.append(Mark(at=f"{len(found) - DRAWN} more", value=rest, series="other"))
    return Chart(
        kind="treemap",
        title=f"Operators of {case.variant.name}: {block.name}",
        text=f"Seconds of a step in each operator of {case.variant.name} on {block.name}, as areas, from the trace",
        at="operator",
        value="time a step",
        unit="s",
        marks=tuple(marks),
        series=(*FAMILIES, "other"),
        hardware=frame.hardware(case),
    )


def family(operator: str) -> str:
    """Return what kind of work an operator does, as far as its name tells."""
    name = operator.lower()
    return next((kind for kind, parts in FAMILIES.items() if any(part in name for part in parts)), "other")


def traces(frame: Frame) -> list[Table]:
    """Return where the profiler's trace of each case lies; they are too large to be part of a report."""
    rows = tuple(
        (block.name, case.variant.name, Link(text=f"traces/{case.id}/{path.name}", target=path))
        for block in frame.run.suite.blocks
        for case in block.cases
        for path in trace_files(frame.run.path / "traces" / case.id)
    )
    return (
        [Table(title="Traces, in the run's folder", columns=("workload", "variant", "trace"), rows=rows)]
        if rows
        else []
    )


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
            *(exact(found[name]) if name in found else None for found in seconds.values()),
        )
        for name in names
    )
    return Table(
        title=f"{block.name}: time a step in each operator, from the trace",
        columns=("operator", *seconds),
        rows=rows,
        hardware=frame.hardware(*block.cases),
    )
