"""Where a step's time goes: data, forward, backward, optimizer."""

from harness.spec import Block, Case
from reports.document import Chart, Mark, Section, Table, filled
from reports.frame import Frame

ORDER = 50
PHASES = {
    "data": "data_seconds",
    "forward": "forward_seconds",
    "backward": "backward_seconds",
    "optimizer": "optimizer_seconds",
}


def view(frame: Frame) -> Section:
    """Return the phases of each block's variants as a table and as stacked bars."""
    items: list[Table | Chart] = []
    for block in frame.run.suite.blocks:
        cases = [
            case
            for case in block.cases
            if frame.figures.is_measured(case) and frame.figures.of(case, "forward_seconds")
        ]
        items += [table(frame, block, cases), chart(frame, block, cases)] if cases else []
    return Section(title="Phases", question="Where does a step's time go?", items=tuple(items))


def table(frame: Frame, block: Block, cases: list[Case]) -> Table:
    """Return the phases, observed in turns of their own, beside the timed step."""
    metrics = {
        "step, median": "step_seconds",
        "step, 90th percentile": "step_p90_seconds",
        **PHASES,
        "sum of the phases, of a step": "phases_share",
    }
    rows = tuple((case.variant.name, *(frame.quantity(case, metric) for metric in metrics.values())) for case in cases)
    return filled(Table(title=block.name, columns=("variant", *metrics), rows=rows, hardware=frame.hardware(*cases)))


def chart(frame: Frame, block: Block, cases: list[Case]) -> Chart:
    """Return a bar for each variant, stacked from its phases."""
    return Chart(
        kind="stacked",
        title=f"Phases: {block.name}",
        text=f"Seconds of data, forward, backward and optimizer in a step of each variant on {block.name}",
        at="variant",
        value="time",
        unit="s",
        marks=tuple(
            Mark(at=case.variant.name, series=phase, value=value)
            for case in cases
            for phase, metric in PHASES.items()
            if (value := frame.center(case, metric)) is not None
        ),
        hardware=frame.hardware(*cases),
    )
