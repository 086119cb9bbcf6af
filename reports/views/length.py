"""How throughput, time and memory change with the sequence length."""

from collections.abc import Sequence
from dataclasses import replace

from harness.spec import Block, stem
from reports.document import Chart, Mark, Section, Table
from reports.frame import Frame
from reports.views._kernels import is_kernel

ORDER = 80
METRICS = {
    "throughput": ("tokens_per_second", "tokens/s"),
    "step time": ("step_seconds", "s"),
    "peak memory": ("memory_peak_bytes", "B"),
    "peak memory of the process": ("memory_peak_maxrss_bytes", "B"),
}


def view(frame: Frame) -> Section:
    """Return table and chart of each model that was measured at several lengths; `kernels` does it for attentions."""
    models: dict[str, list[Block]] = {}
    for block in frame.run.suite.blocks:
        if is_kernel(block):
            continue
        models.setdefault(apart_from_length(block), []).append(block)
    items = [
        item
        for blocks in models.values()
        if len({block.workload.length for block in blocks}) > 1
        for name, (metric, unit) in METRICS.items()
        for item in over_lengths(frame, name_of(blocks[0]), blocks, name, metric, unit)
    ]
    items.sort(key=lambda item: isinstance(item, Table))  # charts first, side by side
    return Section(
        title="Length", question="How do throughput, time and memory change with the length?", items=tuple(items)
    )


def apart_from_length(block: Block) -> str:
    """Return all that blocks over several lengths have in common: the batch and the room for positions may grow."""
    settings = {name: value for name, value in block.workload.settings.items() if name != "positions"}
    work = replace(block.workload, length=2 * block.workload.lengths, batch=1, settings=settings)
    return f"{work} {block.baseline_case.variant.precision}"


def name_of(block: Block) -> str:
    """Return the name of a model with its size and precision, and with what its block's name says beside."""
    work = block.workload
    marks = block.name.removeprefix(work.slug) if block.name.startswith(work.slug) else ""
    return " ".join(filter(None, (stem(work.model), work.size, block.baseline_case.variant.precision, marks.strip())))


def over_lengths(
    frame: Frame, model: str, blocks: Sequence[Block], name: str, metric: str, unit: str
) -> list[Table | Chart]:
    """Return one metric over the lengths, a column and a line for each variant; nothing if it was not observed."""
    blocks = sorted(blocks, key=lambda block: (block.workload.length, block.workload.batch))
    variants = list(dict.fromkeys(case.variant.name for block in blocks for case in block.cases))
    found = {
        (block.name, case.variant.name): quantity
        for block in blocks
        for case in filter(frame.figures.is_measured, block.cases)
        if (quantity := frame.quantity(case, metric))
    }
    if not found:
        return []
    title = f"{name.capitalize()} over length: {model}"
    hardware = frame.hardware(*(case for block in blocks for case in block.cases))
    marks = tuple(
        Mark(at=float(block.workload.length), series=variant, value=found[block.name, variant].estimate.center)
        for block in blocks
        for variant in variants
        if (block.name, variant) in found
    )
    rows = tuple(
        (block.workload.length, block.workload.batch, *(found.get((block.name, variant)) for variant in variants))
        for block in blocks
    )
    return [
        Chart(
            kind="lines",
            title=title,
            text=f"{name.capitalize()} of each variant of {model} over the sequence length",
            at="length",
            value=name,
            unit=unit,
            marks=marks,
            hardware=hardware,
        ),
        Table(title=title, columns=("length", "batch", *variants), rows=rows, hardware=hardware),
    ]
