"""The command line: one function a command; results on stdout, progress and warnings on stderr."""

import errno
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, Optional

import typer

from harness import names
from harness.errors import UserError, unknown

if TYPE_CHECKING:
    from harness.spec import Suite
    from harness.store import Recorder

app = typer.Typer(
    help="What does a way of running a Transformer cost and gain, compared with another way?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

LISTED = {
    "suites": "suite",
    "models": "model",
    "attention": "attention",
    "tasks": "task",
    "metrics": "",
    "formats": "format",
}
FAILURES = ("wrong", "oom", "timeout", "error")
FAILED = 3
INTERRUPTED = 130
Runs = Annotated[Path, typer.Option("--runs", metavar="DIR", help="Folder of the runs.")]
Format = Annotated[str, typer.Option("--format", metavar="F", help="terminal, markdown, html, json or csv.")]
Output = Annotated[Optional[Path], typer.Option("-o", "--output", metavar="FILE", help="Write here instead of stdout.")]


def main() -> NoReturn:
    """Run a command; a user's mistake is one line and exit code 2."""
    try:
        app()
    except UserError as error:
        mistake(str(error))
    except OSError as error:
        if error.filename is None and error.errno not in DISK:
            raise
        where = f"{error.filename}: " if error.filename else ""
        mistake(f"{where}{error.strerror}; {DISK.get(error.errno or 0, 'check the path and its permissions')}")
    sys.exit(0)


DISK = {errno.ENOSPC: "free some space", errno.EDQUOT: "free some of your quota"}


def mistake(sentence: str) -> NoReturn:
    """Say what the user can mend and leave."""
    print(f"tandem: {sentence}", file=sys.stderr)
    sys.exit(2)


@app.command("list")
def list_names(what: Annotated[Optional[str], typer.Argument(metavar="[" + "|".join(LISTED) + "]")] = None) -> None:
    """List names with what they are and what they need."""
    if what is not None and what not in LISTED:
        raise unknown("list", what, LISTED)
    for heading, kind in LISTED.items():
        if what in (None, heading):
            print(f"{heading}:")
            for name, summary in listed(kind):
                print(f"  {name:<28} {summary}")


def listed(kind: str) -> list[tuple[str, str]]:
    """Return the names of a kind with one line each."""
    from harness.metrics import TABLE

    if not kind:
        return [(metric.name, f"{metric.summary} [{metric.unit}]") for metric in TABLE]
    return [(named.name, named.summary + needs(named.literal("REQUIRES", {}))) for named in names.listing(kind)]


def needs(requires: dict[str, Any]) -> str:
    """Return what a file's REQUIRES asks for, and whether it is missing here."""
    from importlib.metadata import PackageNotFoundError, version
    from shutil import which

    asked = []
    if minimum := requires.get("torch"):
        try:
            have = version("torch")
            missing = tuple(map(int, have.split(".")[:2])) < tuple(map(int, minimum.split(".")[:2]))
        except PackageNotFoundError:
            missing = True
        asked.append(f"torch >= {minimum}" + " (missing here)" * missing)
    if devices := requires.get("device"):
        missing = devices == ["cuda"] and which("nvidia-smi") is None
        asked.append(" or ".join(devices) + " (missing here)" * missing)
    if requires.get("compiler"):
        asked.append("a compiler" + " (missing here)" * (which(os.environ.get("CXX", "g++")) is None))
    return f" [needs {', '.join(asked)}]" if asked else ""


@app.command()
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
    from harness import load
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
        data = load.prepare_data(asked, cache() / "data", folders)
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
        sys.exit(INTERRUPTED)
    if any(outcome["status"] in FAILURES for outcome in sealed.outcomes):
        sys.exit(FAILED)


@app.command()
def compare(
    base: Annotated[str, typer.Argument(metavar="RUN", help="A run: path, id or `latest`.")],
    candidate: Annotated[
        Optional[str], typer.Argument(metavar="[RUN]", help="A run to compare with the first.")
    ] = None,
    format: Format = "terminal",
    output: Output = None,
    runs: Runs = Path("runs"),
) -> None:
    """Compare the variants of a run with their baselines, or a run with another."""
    from harness.store import open_run
    from reports.report import BRIEF, comparison_of, document_of

    first = open_run(run_path(base, runs))
    found = comparison_of(first, open_run(run_path(candidate, runs))) if candidate else document_of([first], BRIEF)
    deliver(found, format, output)


@app.command()
def report(
    run: Annotated[list[str], typer.Argument(metavar="RUN...", help="Runs: paths, ids or `latest`.")],
    format: Format = "terminal",
    output: Output = None,
    runs: Runs = Path("runs"),
) -> None:
    """Show runs as a report in a format."""
    from harness.store import open_run
    from reports.report import document_of

    deliver(document_of([open_run(run_path(name, runs)) for name in run]), format, output)


def rendered(document: Any, format: str) -> str:
    """Return a document in a format."""
    return str(names.find("format", format).load()(document))


def deliver(document: Any, format: str, output: Optional[Path]) -> None:
    """Print a report, or write it and print where."""
    if output is None:
        print(rendered(document, format))
    else:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(rendered(document, format), encoding="utf-8")
        print(output)


def run_path(name: str, runs: Path) -> Path:
    """Return the folder of a run given by path, id or `latest`."""
    if name == "latest":
        finished = sorted(path.parent for path in runs.glob("[!.]*/run.json"))
        if not finished:
            raise UserError(f"no run in {runs}", "make one with `tandem run quick`, or name the folder with --runs")
        return finished[-1]
    for path in (Path(name), runs / name, runs / f".partial-{name}"):
        if path.is_dir():
            return path
    raise UserError(f"no run {name!r}", f"give a path, an id in {runs}, or `latest`")


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
    recorder.meta |= {"folders": [os.path.relpath(folder) for folder in folders], "commit": commit()}
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


def seconds(budget: Optional[str]) -> Optional[float]:
    """Return the seconds in `90`, `90s`, `5m` or `1h`."""
    if budget is None:
        return None
    unit = {"s": 1, "m": 60, "h": 3600}.get(budget[-1:], 0)
    try:
        return float(budget[:-1]) * unit if unit else float(budget)
    except ValueError:
        raise UserError(f"--budget {budget!r} is no time", "write seconds, or for instance 90s, 5m or 1h") from None


def interpreter(text: str) -> tuple[str, str]:
    """Return label and path of `LABEL=PATH`."""
    label, _, path = text.partition("=")
    if not (label and os.access(path, os.X_OK) and Path(path).is_file()):
        raise UserError(f"--python {text!r}: no program there", "write LABEL=PATH, the path of a Python with torch")
    return label, path


def missing(argument: str) -> NoReturn:
    """Raise UserError for an argument that is needed."""
    raise UserError(
        f"{argument} is missing", f"known suites: {', '.join(named.name for named in names.listing('suite'))}"
    )


def cache() -> Path:
    """Return the folder for what is worth keeping between runs."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tandem"


if __name__ == "__main__":
    main()
