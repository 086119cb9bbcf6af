"""How much memory a step takes, and what for."""

from harness.spec import Block, Case
from reports.document import Cell, Change, Chart, Mark, Section, Table, filled
from reports.frame import Frame

ORDER = 60
STEADY = {
    "steady peak": "memory_peak_bytes",
    "of tensors": "memory_allocated_peak_bytes",
    "peak of the process": "memory_peak_maxrss_bytes",
    "reserved": "memory_reserved_bytes",
}
PARTS = {
    "cold peak": "memory_cold_peak_bytes",
    "parameters": "memory_parameters_bytes",
    "gradients": "memory_gradients_bytes",
    "optimizer": "memory_optimizer_bytes",
    "activations": "memory_activations_bytes",
}


def view(frame: Frame) -> Section:
    """Return a table and a chart for each block."""
    items: list[Table | Chart] = []
    for block in frame.run.suite.blocks:
        cases = [case for case in block.cases if frame.figures.is_measured(case)]
        if any(frame.figures.of(case, metric) for case in cases for metric in (*STEADY.values(), *PARTS.values())):
            items += [table(frame, block, cases), *chart(frame, block, cases)]
    return Section(title="Memory", question="How much memory does a step take, and what for?", items=tuple(items))


def chart(frame: Frame, block: Block, cases: list[Case]) -> list[Chart]:
    """Return the peaks as bars: the first kind of peak that was observed."""
    for name, metric in STEADY.items():
        found = [(case, quantity.estimate) for case in cases if (quantity := frame.quantity(case, metric))]
        if found:
            marks = tuple(
                Mark(at=case.variant.name, value=peak.center, low=peak.low, high=peak.high)
                if peak.has_interval
                else Mark(at=case.variant.name, value=peak.center)
                for case, peak in found
            )
            text = f"Bytes of each variant on {block.name}, {name}, with 95 % intervals"
            hardware = frame.hardware(*cases)
            return [
                Chart(
                    kind="intervals", title=f"Memory, {name}: {block.name}", text=text, at="variant", value=name,
                    unit="B", marks=marks, hardware=hardware,
                )
            ]  # fmt: skip
    return []


def table(frame: Frame, block: Block, cases: list[Case]) -> Table:
    """Return the peaks against the baseline's, and the parts."""
    columns = ("variant", *STEADY, f"peak against {block.baseline}", *PARTS)
    rows = tuple(
        (
            case.variant.name,
            *(frame.quantity(case, metric) for metric in STEADY.values()),
            change(frame, case),
            *(frame.quantity(case, metric) for metric in PARTS.values()),
        )
        for case in cases
    )
    return filled(Table(title=block.name, columns=columns, rows=rows, hardware=frame.hardware(*cases)))


def change(frame: Frame, case: Case) -> Cell:
    """Return the peak as a ratio to the baseline's."""
    found = [frame.comparison(case, metric) for metric in STEADY.values()]
    return next((Change(judgement=comparison.judgement) for comparison in found if comparison), None)
