"""Which run this is: when, on what, with which data, and where its time went."""

from reports.document import Cell, Section, Table, exact
from reports.frame import Frame

ORDER = 110


def view(frame: Frame) -> Section:
    """Return the run's facts and its seconds by phase."""
    items = (facts(frame), *([seconds(frame)] if frame.run.meta["seconds"] else []))
    return Section(title="Run", question="Which run is this, and where did its time go?", items=items)


def facts(frame: Frame) -> Table:
    """Return what identifies the run."""
    run = frame.run
    rows: list[tuple[Cell, ...]] = [
        ("id", run.id),
        ("status", run.meta["status"]),
        ("command", " ".join(run.meta.get("command") or [])),
        ("planned", f"{run.suite.launches} launches of {run.suite.rounds} rounds"),
        *([("shard", run.meta["shard"]["part"])] if "shard" in run.meta else []),
        *((f"shard {shard['part']}", shard["id"]) for shard in run.meta.get("shards", [])),
        *((f"data {name}", f"sha256 {data['sha256']}") for name, data in run.meta.get("data", {}).items()),
        *((f"hardware, {label}", facts["line"]) for label, facts in run.environments.items() if "line" in facts),
    ]
    return Table(title="Facts", columns=("what", "value"), rows=tuple(rows))


def seconds(frame: Frame) -> Table:
    """Return the wall time by phase, the part that no phase covers included."""
    spent = {phase: float(value) for phase, value in frame.run.meta["seconds"].items()}
    total = spent.pop("total", sum(spent.values()))
    spent["not covered"] = total - sum(spent.values())
    shown = {phase: value for phase, value in spent.items() if value > 0} | {"total": total}
    rows = [(phase, ((value, "s"), (value / total, "share"))) for phase, value in shown.items() if total]
    return Table(
        title="Wall time by phase",
        columns=("phase", "time", "share"),
        rows=tuple((phase, *(exact(figure, unit) for figure, unit in figures)) for phase, figures in rows),
    )
