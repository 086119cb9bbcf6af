"""The first steps of a case: cold or warm, and compared with the float64 reference."""

from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from harness.correct import disagreement
from harness.peer import CaseFailure, Peer
from harness.spec import Case, Variant

if TYPE_CHECKING:
    from harness.launch import Launch


def write_reference(launch: "Launch") -> tuple[Path, str | None]:
    """Run the first steps in float64 with the formula; return where they are, or why there are none."""
    path = launch.recorder.work / f"{launch.block.baseline_case.id}.npz"
    launch.progress.doing(launch.block, launch.number, launch.block.baseline_case, "float64 reference")
    with launch.watch("check"):
        try:
            steps = launch.suite.checked_steps(launch.block.workload)
            launch.apart("reference", reference_of(launch), "check", steps=steps, write=str(path))
        except CaseFailure as failure:
            return path, f"no reference: {failure}"
    return path, None


def reference_of(launch: "Launch") -> Variant:
    """Return the variant that all are held against: the formula in float64, where the baseline runs."""
    baseline = launch.block.baseline_case.variant
    return Variant(
        name="reference", precision="fp64", device=baseline.device, threads=baseline.threads,
        torch=baseline.torch, revision=baseline.revision,
    )  # fmt: skip


def first_steps(launch: "Launch", case: Case, peer: Peer, reference: tuple[Path, str | None] | None) -> None:
    """Run a case's first steps, and compare them with the reference unless an earlier launch has."""
    if reference and case.id in launch.unchecked:
        check(launch, case, peer, reference)
    else:
        first_step(launch, case, peer)


def check(launch: "Launch", case: Case, peer: Peer, reference: tuple[Path, str | None]) -> None:
    """Run the first steps, the very first one cold, and compare them with the reference."""
    path, absent = reference
    began = perf_counter()
    reply = peer.ask(
        "check", launch.suite.timeout, steps=launch.suite.checked_steps(case.workload),
        against=None if absent else str(path), same_model=case.model == launch.block.workload.model,
    )  # fmt: skip
    launch.watch.add("check", perf_counter() - began - reply["seconds"][0])
    started(launch, case, {**reply, "seconds": reply["seconds"][0]})
    if launch.is_first:
        launch.put(case.id, "cold_start_seconds", sum(reply["seconds"]))
    for step, loss in enumerate(reply["losses"]):
        launch.put(case.id, "training_loss", float(loss), step=step)
    errors = {name: float(value) for name, value in reply.get("errors", {}).items()}
    if case.variant.optimizer == "none":  # its weights stay, and those of the reference move on
        errors.pop("losses_error", None)
    launch.put_all(case.id, errors)
    note = absent or reply.get("reference")
    launch.recorder.fact(case.id, {"reference": note or "float64 formula"})
    if note:
        launch.warn(case.id, "no reference", note, "read its speed as unchecked")
    if reason := disagreement(errors, reply["losses"], case.variant.precision):
        raise CaseFailure("wrong", reason)


def first_step(launch: "Launch", case: Case, peer: Peer) -> None:
    """Run this process's first step, with the compile cache that launch 1 has filled; with all lengths it saw there."""
    began = perf_counter()
    steps = min(launch.cycle, launch.suite.checked_steps(case.workload))
    reply = peer.ask("measure", launch.suite.timeout, steps=steps, first=True)
    first = float(reply["wall"] if steps == 1 else reply["seconds"][0])
    started(launch, case, {**reply, "seconds": first})
    launch.watch.add("warmup", perf_counter() - began - first)


def started(launch: "Launch", case: Case, reply: Mapping[str, Any]) -> None:
    """Record a first step: how long it took and what compiling took of it."""
    launch.watch.add("warmup" if case.variant.compile == "none" else "compile", reply["seconds"])
    if case.id in launch.unchecked and not launch.is_first:  # its caches are half filled
        return
    temperature = "cold" if launch.is_first else "warm"
    launch.put(case.id, f"{temperature}_first_step_seconds", reply["seconds"])
    launch.put_all(case.id, reply.get("metrics", {}))
    compiling = reply.get("compile", {})
    for stage in ("compile", "dynamo", "aot", "inductor"):
        if f"{stage}_seconds" in compiling:
            launch.put(case.id, f"{temperature}_{stage}_seconds", compiling[f"{stage}_seconds"])
