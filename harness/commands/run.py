"""`tandem run`: measure a suite, or finish a run that was interrupted."""

import os
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, Optional

import typer

from harness import exits, labels, load, names
from harness.commands.options import Runs, end_by_interrupt, interpreters, run_path, say
from harness.commands.report import rendered
from harness.errors import DISK, UserError
from harness.stopwatch import seconds

if TYPE_CHECKING:
    from harness.conditions import Conditions
    from harness.ratios import Ratios
    from harness.spec import Block, Suite
    from harness.store import Recorder, Run

PARTS = ("train", "held_out", "validation", "test")  # of a data manifest: where the files lie on this machine


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
    shard: Annotated[
        Optional[str], typer.Option(metavar="K/N", help="Measure every Nth block only, starting with the Kth.")
    ] = None,
    create_envs: Annotated[
        bool, typer.Option("--create-envs", help="Make the environments that are missing, as `tandem env create` does.")
    ] = False,
    runs: Runs = Path("runs"),
    resume: Annotated[Optional[str], typer.Option(metavar="RUN", help="Finish an interrupted run.")] = None,
    no_trace: Annotated[bool, typer.Option("--no-trace", help="Record no profiler traces.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Measure a suite, print the comparison and, as the last line, the run's path."""
    from dataclasses import replace

    from harness import pythons
    from harness.conditions import Conditions
    from harness.run import refuse_misfits
    from harness.shard import parse
    from harness.stopwatch import Stopwatch

    watch = Stopwatch()
    share = parse(shard) if shard is not None else None
    known = interpreters(python or [])
    with watch("prepare"):
        if resume is not None:
            begun = unfinished(resume, runs, suite, vary or set_ or launches or rounds or budget or share or dry_run)
            asked, folders = stored(begun)
        else:
            asked, folders = load.load(suite or missing("SUITE"), settings=set_ or [], axes=vary or [])
            asked = load.with_limits(asked, launches, rounds, seconds(budget))
            begun = None
        lacking = labels.lacking(asked, known)
        if create_envs and not dry_run:
            releases = [label for label in lacking if labels.is_release(label)]
            load.check_names(asked, folders, [*known, *releases])  # before gigabytes are downloaded
            known |= made_environments(releases)
        load.check_names(asked, folders, [*known, *(lacking if dry_run else ())])
        pythons.refuse(asked, known)
        marks: dict[str, Any] = {}
        if share:
            marks = {"shard": {"part": str(share), "whole": asked.to_json(), "trace": not no_trace}}
            asked = share.part(asked)
        search = [*folders, Path.cwd()]
        plain = Conditions(interpreters=known, folders=search, trace=not no_trace)
        if dry_run:
            refuse_misfits(asked, plain)
            print_plan(asked, plain)
            return
        data = load.prepare_data(asked, load.cache() / "data", folders)
        conditions = replace(plain, data=data)
        refuse_misfits(asked, conditions)
        recorder = reopened(begun, data, asked, folders) if begun else created(runs, asked, data, folders, marks)
    leave(measured(asked, recorder, conditions, watch, quiet=quiet))


def measured(
    asked: "Suite", recorder: "Recorder", conditions: "Conditions", watch: Any, *, quiet: bool,
    is_enough: "Optional[Callable[[Block, Ratios], bool]]" = None,
) -> "Run":  # fmt: skip
    """Carry out a run and return it, sealed whatever happened; `is_enough` stands for the run's own rule to stop."""
    from dataclasses import replace

    from harness import gate
    from harness.passport import kept
    from harness.progress import Progress
    from harness.revisions import checked_out
    from harness.run import carry_out, precise
    from harness.store import open_run

    progress = Progress(asked, quiet=quiet)
    status = "complete"
    policy = gate.policy_of(recorder.meta)
    is_enough = is_enough or (gate.settled(policy) if policy else precise(asked))
    end_by_interrupt()
    try:
        with checked_out({case.variant.revision for case in asked.cases} - {""}, recorder.work / "trees") as trees:
            # A passport that is being made is not held against earlier ones.
            known = {} if "measuring" in recorder.meta else kept(load.cache() / "passports")
            conditions = replace(conditions, trees=trees, passports=known)
            carry_out(asked, recorder, conditions, progress, watch, is_enough)
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
    return open_run(path)


def leave(sealed: "Run", format: str = "terminal") -> NoReturn:
    """Print what a run says and, as the last line, its path; leave with its exit code."""
    from reports.report import BRIEF, BRIEF_GATE, document_of

    if "measuring" in sealed.meta and sealed.meta["status"] == "complete":
        from harness.commands.hardware import keep

        keep(sealed)
    document = document_of(sealed, BRIEF_GATE if "gate" in sealed.meta else BRIEF)
    ruling = document.results[0].gate
    print(rendered(document, format))
    print(sealed.path)
    if sealed.meta["status"] == "interrupted":
        print(f"tandem: interrupted; finish it with `tandem run --resume {sealed.path}`", file=sys.stderr)
        sys.exit(exits.INTERRUPTED)
    if ruling:
        sys.exit(ruling.code)
    sys.exit(exits.FAILED if any(outcome["status"] in exits.FAILURES for outcome in sealed.outcomes) else exits.FINE)


def stopped(error: OSError, recorder: "Recorder") -> Exception:
    """Return the sentence for a disk that stopped a run, or the error itself if it is a bug."""
    if error.errno not in DISK:
        return error
    remedy = f"{DISK[error.errno]}, then finish it with `tandem run --resume {recorder.id}`"
    return UserError(f"{error.strerror}: the run stopped, what it had measured is kept", remedy)


def made_environments(releases: Sequence[str]) -> dict[str, str]:
    """Make the environments for labels that say which torch they stand for; return label -> interpreter."""
    from harness import install

    for label in releases:
        install.chosen("", install.release_of(label))  # a Python for each, before the first is made
    end_by_interrupt()
    try:
        return {label: str(install.create(label, label, say).path) for label in releases}
    except KeyboardInterrupt:
        say("interrupted; nothing half-made is left")
        sys.exit(exits.INTERRUPTED)


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


def reopened(begun: Path, data: Any, asked: "Suite", folders: Sequence[Path]) -> "Recorder":
    """Return a run for going on, if its code and data are what it began with."""
    from harness.store import read_meta, resume

    meta = read_meta(begun)
    now = load.sources(asked, folders)
    if changed := [name for name in now if now[name] != meta["sources"].get(name)]:
        raise UserError(f"{changed[0]} has changed since run {meta['id']} began", "start a new run")
    if "gate" in meta and meta["commit"] != commit():
        raise UserError(f"run {meta['id']} began at commit {meta['commit']}, this is {commit()}", "check that one out")
    for name, manifest in data.items():
        if meta["data"][name]["sha256"] != manifest["sha256"]:
            raise UserError(f"data {name!r} has changed since run {meta['id']} began", "start a new run")
    return resume(begun)


def created(runs: Path, asked: "Suite", data: Any, folders: Sequence[Path], marks: Mapping[str, Any]) -> "Recorder":
    """Return a new run; `marks` are further facts of run.json."""
    from dataclasses import asdict

    from harness.plan import plan
    from harness.store import create

    recorder = create(
        runs,
        asked,
        ["tandem", *sys.argv[1:]],
        {name: {key: value for key, value in manifest.items() if key not in PARTS} for name, manifest in data.items()},
        [asdict(turn) for turn in plan(asked)],
    )
    recorder.meta |= {
        "folders": [os.path.relpath(folder) for folder in folders],
        "sources": load.sources(asked, folders),
        "commit": commit(),
        **marks,
    }
    recorder.save()
    return recorder


def commit() -> Optional[str]:
    """Return the git commit of the current folder, with `+` if it has changes; None where there is none."""
    from harness.revisions import git

    return git("describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+")


def print_plan(asked: "Suite", conditions: Any) -> None:
    """Print every case, why one is skipped, and the time expected."""
    from harness.run import refusals

    reasons = refusals(asked, conditions)
    print(f"{asked.name}: {asked.question}")
    for block in asked.blocks:
        print(f"\n{block.name} ({block.workload.task}, baseline {block.baseline})")
        for case in block.cases:
            reason = reasons[case.id]
            print(f"  {case.id}" + (f"  unavailable: {reason}" if reason else ""))
    absent = [case for case, reason in reasons.items() if reason is not None]
    print(f"\n{len(reasons)} cases, {len(absent)} unavailable; {asked.launches} launches of {asked.rounds} rounds each")
    configs = {block.name: load.config(block.workload, conditions.folders) for block in asked.blocks}
    print(f"expected time: {expected_time(asked, configs, absent)}")


def expected_time(asked: "Suite", configs: Mapping[str, Any], unavailable: Collection[str]) -> str:
    """Return what is to be expected of a suite, in words."""
    from harness.expected import COLD_COMPILE, STARTUP, expected_pretraining, expected_seconds
    from harness.fit import PROBES
    from harness.progress import duration

    if asked.fit:  # how often it doubles is what the search is to find
        probe = f"{duration(STARTUP)} and two steps each, {duration(COLD_COMPILE)} more where it compiles"
        return f"not known before the search: {PROBES} probes a variant and one for each doubling that fits, {probe}"
    spent, before = expected_seconds(asked, configs, unavailable), expected_pretraining(asked, configs)
    within = min(spent + before, asked.budget or spent + before)
    pretraining = f", {duration(before)} of it for pretraining, if that is not kept from before" if before else ""
    return f"{duration(within)} (a guess for a 2-core CPU{pretraining})"


def missing(argument: str) -> NoReturn:
    """Raise UserError for an argument that is needed."""
    raise UserError(
        f"{argument} is missing", f"known suites: {', '.join(named.name for named in names.listing('suite'))}"
    )
