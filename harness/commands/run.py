"""`tandem run`: measure a suite, or finish a run that was interrupted."""

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, Optional

import typer

from harness import exits, load, names
from harness.commands.options import Runs, interpreter, run_path, seconds
from harness.commands.report import rendered
from harness.errors import DISK, UserError

if TYPE_CHECKING:
    from harness.spec import Suite
    from harness.store import Recorder

FAILURES = ("wrong", "oom", "timeout", "error")


def run(
    suite: Annotated[
        Optional[str], typer.Argument(metavar="SUITE", help="A name, or a path to a file with `suite()`.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the cases, why one is skipped and the time expected.")
    ] = False,
    vary: Annotated[
        Optional[list[str]], typer.Option(metavar="AXIS=A,B", help="Spread an axis over values; repeatable.")
    ] = None,
    set_: Annotated[
        Optional[list[str]], typer.Option("--set", metavar="KEY=VALUE", help="Set a field everywhere; repeatable.")
    ] = None,
    launches: Annotated[Optional[int], typer.Option(help="Fresh processes a variant.")] = None,
    rounds: Annotated[Optional[int], typer.Option(help="Visits of each variant in a launch.")] = None,
    budget: Annotated[
        Optional[str], typer.Option(metavar="TIME", help="Start no launch that would end later, e.g. 5m.")
    ] = None,
    python: Annotated[
        Optional[list[str]], typer.Option(metavar="LABEL=PATH", help="An interpreter for variants with torch=LABEL.")
    ] = None,
    runs: Runs = Path("runs"),
    resume: Annotated[Optional[str], typer.Option(metavar="RUN", help="Finish an interrupted run.")] = None,
    no_trace: Annotated[bool, typer.Option("--no-trace", help="Record no profiler traces.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Measure a suite, print the comparison and, as the last line, the run's path."""
    from harness.conditions import Conditions
    from harness.stopwatch import Stopwatch

    watch = Stopwatch()
    interpreters = dict(interpreter(text) for text in python or [])
    with watch("prepare"):
        if resume is not None:
            begun = unfinished(resume, runs, suite, vary or set_ or launches or rounds or budget or dry_run)
            asked, folders = stored(begun)
        else:
            asked, folders = load.load(suite or missing("SUITE"), settings=set_ or [], axes=vary or [])
            asked = load.with_limits(asked, launches, rounds, seconds(budget))
            begun = None
        load.check_names(asked, folders, interpreters)
        configs = {block.name: load.config(block, folders) for block in asked.blocks}
        search = [*folders, Path.cwd()]
        if dry_run:
            print_plan(asked, Conditions(data={}, configs=configs, interpreters=interpreters, folders=search))
            return
        data = load.prepare_data(asked, load.cache() / "data", folders)
        recorder = reopened(begun, data) if begun else created(runs, asked, data, folders)
    conditions = Conditions(data=data, configs=configs, interpreters=interpreters, folders=search, trace=not no_trace)
    measure(asked, recorder, conditions, watch, quiet=quiet)


def measure(asked: "Suite", recorder: "Recorder", conditions: Any, watch: Any, *, quiet: bool) -> None:
    """Carry out a run, seal it whatever happens, report, and leave with the exit code."""
    from harness.progress import Progress
    from harness.run import carry_out
    from harness.store import open_run
    from reports.report import BRIEF, document_of

    progress = Progress(asked, quiet=quiet)
    status = "complete"
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        carry_out(asked, recorder, conditions, progress, watch)
    except KeyboardInterrupt:
        status = "interrupted"
        recorder.interrupted(asked)
    except UserError:  # not the machine it began on, so what is there stays readable
        recorder.seal("interrupted", watch)
        raise
    except OSError as error:
        raise stopped(error, recorder) from error
    finally:
        progress.close()
    try:
        path = recorder.seal(status, watch)
    except OSError as error:
        raise stopped(error, recorder) from error
    sealed = open_run(path)
    print(rendered(document_of([sealed], BRIEF), "terminal"))
    if status == "interrupted":
        print(f"tandem: interrupted; finish it with `tandem run --resume {path}`", file=sys.stderr)
    print(path)
    if status == "interrupted":
        sys.exit(exits.INTERRUPTED)
    if any(outcome["status"] in FAILURES for outcome in sealed.outcomes):
        sys.exit(exits.FAILED)


def stopped(error: OSError, recorder: "Recorder") -> Exception:
    """Return the sentence for a disk that stopped a run, or the error itself if it is a bug."""
    if error.errno not in DISK:
        return error
    remedy = f"{DISK[error.errno]}, then finish it with `tandem run --resume {recorder.id}`"
    return UserError(f"{error.strerror}: the run stopped, what it had measured is kept", remedy)


def unfinished(name: str, runs: Path, suite: Optional[str], adjusted: Any) -> Path:
    """Return the folder of the run to finish."""
    if suite or adjusted:
        raise UserError("--resume finishes a run as it was planned", "give no suite and no option that changes it")
    return run_path(name, runs)


def stored(begun: Path) -> "tuple[Suite, list[Path]]":
    """Return the suite of a run and the folders of its path names."""
    from harness.spec import Suite
    from harness.store import read_meta

    meta = read_meta(begun)
    return Suite.from_json(meta["suite"]), [Path(folder) for folder in meta["folders"]]


def reopened(begun: Path, data: Any) -> "Recorder":
    """Return a run for going on, if its data is what it began with."""
    from harness.store import read_meta, resume

    meta = read_meta(begun)
    for name, manifest in data.items():
        if meta["data"][name]["sha256"] != manifest["sha256"]:
            raise UserError(f"data {name!r} has changed since run {meta['id']} began", "start a new run")
    return resume(begun)


def created(runs: Path, asked: "Suite", data: Any, folders: Sequence[Path]) -> "Recorder":
    """Return a new run."""
    from dataclasses import asdict

    from harness.plan import plan
    from harness.store import create

    recorder = create(
        runs,
        asked,
        ["tandem", *sys.argv[1:]],
        {
            name: {key: value for key, value in manifest.items() if key not in ("train", "held_out")}
            for name, manifest in data.items()
        },
        [asdict(turn) for turn in plan(asked)],
    )
    recorder.meta |= {
        "folders": [os.path.relpath(folder) for folder in folders],
        "sources": load.sources(asked, folders),
        "commit": commit(),
    }
    recorder.save()
    return recorder


def commit() -> Optional[str]:
    """Return the git commit of the current folder, with `+` if it has changes; None where there is none."""
    import subprocess

    command = ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+"]
    try:
        return subprocess.run(command, capture_output=True, text=True).stdout.strip() or None
    except FileNotFoundError:
        return None


def print_plan(asked: "Suite", conditions: Any) -> None:
    """Print every case, why one is skipped, and the time expected."""
    from harness.plan import expected_seconds
    from harness.progress import duration
    from harness.run import refusals

    reasons = refusals(asked, conditions)
    print(f"{asked.name}: {asked.question}")
    for block in asked.blocks:
        print(f"\n{block.name} ({block.workload.task}, baseline {block.baseline})")
        for case in block.cases:
            reason = reasons[case.id]
            print(f"  {case.id}" + (f"  unavailable: {reason}" if reason else ""))
    skipped = sum(reason is not None for reason in reasons.values())
    print(f"\n{len(reasons)} cases, {skipped} unavailable; {asked.launches} launches of {asked.rounds} rounds each")
    print(f"expected time: {duration(expected_seconds(asked))} (a guess for tiny models on a 2-core CPU)")


def missing(argument: str) -> NoReturn:
    """Raise UserError for an argument that is needed."""
    raise UserError(
        f"{argument} is missing", f"known suites: {', '.join(named.name for named in names.listing('suite'))}"
    )
