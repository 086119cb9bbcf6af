"""`tandem doctor`: is this machine fit to measure on, and does Tandem keep its promises here?"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness import exits, load
from harness.commands.options import Format, Output
from harness.commands.report import deliver, refuse_undeliverable
from harness.commands.run import created, measured
from harness.errors import UserError

if TYPE_CHECKING:
    from harness.figures import Figures
    from harness.spec import Block, Suite

QUICK = {"launches": 5, "rounds": 20}
FULL = {"launches": 11, "rounds": 40}


def doctor(
    quick: Annotated[bool, typer.Option("--quick", help="Fewer launches: under 3 minutes on 2 cores.")] = False,
    format: Format = "terminal",
    output: Output = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Look at the machine and measure known faults on it; exit code 3 if it is not fit, or a fault went unseen."""
    from time import perf_counter

    from harness.doctor import diagnosis
    from harness.fitness import checks
    from reports.doctor import document_of

    refuse_undeliverable(format, output)
    began = perf_counter()
    seen = checks({"runs": Path("runs"), "caches": load.cache()})
    with TemporaryDirectory(prefix="tandem-doctor-") as folder:
        found = session(Path(folder), QUICK if quick else FULL, quiet=quiet)
        diagnosed = diagnosis(found)
        deliver(document_of(seen, diagnosed, found.run, perf_counter() - began), format, output)
    if diagnosed.broken or any(check.status == "bad" for check in seen):
        raise SystemExit(exits.FAILED)


def session(folder: Path, size: dict[str, int], *, quiet: bool) -> "Figures":
    """Return what one session of all faults measured, their size set by a short one before it."""
    from harness import faults

    faults.write_probe(folder)
    probed = carried_out(faults.probing(), folder, quiet=quiet)
    step, unit, peak = calibration(probed)
    faults.write_faults(folder, faults.products(step, unit), int(faults.GROWTH * peak))
    return carried_out(faults.faulty(**size), folder, quiet=quiet)


def calibration(probed: "Figures") -> tuple[float, float, float]:
    """Return seconds of a step of the base and of the probe, and the base's peak memory; a failure ends the doctor."""
    from harness.doctor import MEMORIES

    base, probe = probed.run.suite.cases
    for outcome in probed.run.outcomes:
        if outcome["status"] != "ok":
            raise UserError(f"the doctor could measure nothing: {outcome['status']}: {outcome['reason']}", "mend that")
    seconds = [probed.of(case, "step_seconds")[1] for case in (base, probe)]
    if seconds[1] <= seconds[0]:
        raise UserError("extra work took no time: this machine is too busy to measure on", "close what else runs")
    peaks = [value for metric in MEMORIES for value in probed.of(base, metric).values()]
    return seconds[0], seconds[1], next(iter(peaks), 2.0**30)


def carried_out(suite: "Suite", folder: Path, *, quiet: bool) -> "Figures":
    """Return what a suite of the doctor measured, of the compiled block one launch: counts repeat exactly."""
    from harness.conditions import Conditions
    from harness.faults import COMPILED
    from harness.figures import figures
    from harness.stopwatch import Stopwatch

    def is_enough(block: "Block", ratios: Any) -> bool:
        return block.name == COMPILED and ratios.launches > 0

    data = load.prepare_data(suite, load.cache() / "data", [folder])
    recorder = created(folder / "runs", suite, data, [folder], {})
    conditions = Conditions(data=data, folders=[folder], trace=False)
    run = measured(suite, recorder, conditions, Stopwatch(), quiet=quiet, is_enough=is_enough)
    if run.meta["status"] == "interrupted":
        raise SystemExit(exits.INTERRUPTED)
    return figures(run)
