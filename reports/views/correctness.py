"""How far each variant's numbers are from float64, and how well it learned."""

from harness.correct import tolerance
from harness.spec import Block, Case
from reports.document import Cell, Chart, Mark, Section, Table, exact, filled
from reports.frame import Frame

ORDER = 30
ERRORS = {
    "outputs": "output_error",
    "loss": "loss_error",
    "gradients": "gradient_error",
    "first losses": "losses_error",
}
USUAL = "float64 formula"  # the reference that needs no mention
POINTS = 200  # more would only make a file larger


def view(frame: Frame) -> Section:
    """Return the errors and losses of each block, and the loss curves."""
    items: list[Table | Chart] = []
    for block in frame.run.suite.blocks:
        measured = [
            case for case in block.cases if frame.figures.of(case, "output_error") or frame.figures.losses.get(case.id)
        ]
        if measured and not block.workload.is_ceiling:
            items += [table(frame, block, measured), *curves(frame, block, measured)]
    return Section(
        title="Correctness",
        question="Does each variant compute the same, and does it learn as well?",
        items=tuple(items),
    )


def table(frame: Frame, block: Block, cases: list[Case]) -> Table:
    """Return relative errors against float64 beside what the number format may have, and losses."""
    steps = frame.run.suite.steps_of(block.workload) or frame.run.suite.check_steps
    after = f"after {'up to ' * bool(block.workload.recipe.patience)}{steps} steps"
    return filled(
        Table(
            title=f"{block.name}: relative errors of the first steps, losses {after}",
            columns=("variant", *ERRORS, "allowed", "training loss", "held-out loss", "explains alike", "reference"),
            rows=tuple(row(frame, case) for case in cases),
            hardware=frame.hardware(*cases),
        )
    )


def row(frame: Frame, case: Case) -> tuple[Cell, ...]:
    """Return the errors and losses of a case."""
    reference = frame.outcome(case)["facts"].get("reference")
    allowed = tolerance("output_error", case.variant.precision)
    return (
        case.variant.name,
        *(frame.quantity(case, metric) for metric in ERRORS.values()),
        exact(allowed, "1"),
        frame.quantity(case, "training_loss"),
        frame.quantity(case, "held_out_loss"),
        frame.quantity(case, "saliency_agreement"),
        None if reference == USUAL else reference,
    )


def curves(frame: Frame, block: Block, cases: list[Case]) -> list[Chart]:
    """Return the chart of the training losses."""
    marks = []
    for case in cases:
        losses = sorted(frame.figures.losses.get(case.id, {}).items())
        thin = losses[:: len(losses) // POINTS + 1]
        marks += [Mark(at=float(step), value=loss, series=case.variant.name) for step, loss in thin]
    if not marks:
        return []
    return [
        Chart(
            kind="lines",
            title=f"Learning: {block.name}",
            text=f"Training loss of each variant on {block.name} over the steps",
            at="step",
            value="training loss",
            unit="nats",
            marks=tuple(marks),
        )
    ]
