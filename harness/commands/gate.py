"""`tandem gate`: has the candidate become worse than the base? Measured side by side, or two stored runs."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from harness import load, names
from harness.commands.options import Format, Output, Runs, interpreters, run_path
from harness.commands.report import deliver, refuse_undeliverable
from harness.commands.run import created, leave, measured
from harness.errors import UserError
from harness.stopwatch import seconds

if TYPE_CHECKING:
    from harness.conditions import Conditions
    from harness.policy import Policy
    from harness.spec import Suite

Settings = Optional[list[str]]


def gate(
    suite: Annotated[str, typer.Argument(metavar="SUITE", help="A suite, or a stored run to hold another against.")],
    candidate_run: Annotated[Optional[str], typer.Argument(metavar="[RUN]", help="The other stored run.")] = None,
    base: Annotated[str, typer.Option(metavar="SIDE", help="A variant, an interpreter label or a git reference.")] = "",
    candidate: Annotated[str, typer.Option(metavar="SIDE", help="Likewise; left out, the suite as it is.")] = "",
    base_set: Annotated[Settings, typer.Option(metavar="KEY=VALUE", help="Change the base; repeatable.")] = None,
    candidate_set: Annotated[
        Settings, typer.Option(metavar="KEY=VALUE", help="Change the candidate; repeatable.")
    ] = None,
    set_: Annotated[Settings, typer.Option("--set", metavar="KEY=VALUE", help="Set a field on both sides.")] = None,
    vary: Annotated[Settings, typer.Option(metavar="AXIS=A,B", help="Spread an axis over values; repeatable.")] = None,
    python: Annotated[Settings, typer.Option(metavar="LABEL=PATH", help="An interpreter for a side.")] = None,
    policy: Annotated[
        Optional[Path], typer.Option(metavar="FILE", help="TOML; without it [tool.tandem.gate] of pyproject.toml.")
    ] = None,
    budget: Annotated[
        Optional[str], typer.Option(metavar="TIME", help="Start no launch that would end later, e.g. 20m.")
    ] = None,
    format: Format = "terminal",
    output: Output = None,
    runs: Runs = Path("runs"),
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Say whether a candidate is worse than a base; exit code 1 if so, confirmed by fresh launches."""
    from harness.policy import read_policy

    refuse_undeliverable(format, output)
    rules = read_policy(policy, Path.cwd())
    if candidate_run is not None:
        if base or candidate or base_set or candidate_set or set_ or vary or python or budget:
            raise UserError("two stored runs are judged as they are", "give no option that says how to measure")
        judge_stored(suite, candidate_run, rules, runs, format, output)
        return
    known = interpreters(python or [])
    if own := [text for text in set_ or [] if text.partition("=")[0] in ("launches", "seeds")]:
        raise UserError(
            f"--set {own[0]}: the gate finds out how many launches it takes", "leave it out, or give --budget"
        )
    asked, folders = load.load(suite, settings=set_ or [], axes=vary or [])
    sides = (base, base_set or []), (candidate, candidate_set or [])
    limit = rules.budget if budget is None else seconds(budget)
    asked, shown = two_sided(asked, sides, [*known, "current"], limit)
    measure_and_judge(suite, asked, folders, known, shown, rules, runs, quiet, format, output)


def two_sided(asked: "Suite", sides: Any, labels: list[str], budget: float | None) -> "tuple[Suite, dict[str, str]]":
    """Return the gate's suite and how the user named its sides."""
    from harness.revisions import commit_of, refuse_changes
    from harness.sides import gate_suite, side

    was, now = (side(name, settings, asked, labels, commit_of) for name, settings in sides)
    made = gate_suite(asked, was, now, budget)
    revisions = {case.variant.revision for case in made.cases}
    if revisions != {""}:  # the suite is read from the working tree, which must be a commit, too
        refuse_changes()
    return made, {"base": was.name, "candidate": now.name}


def measure_and_judge(
    name: str, asked: "Suite", folders: list[Path], interpreters: dict[str, str], shown: dict[str, str],
    rules: "Policy", runs: Path, quiet: bool, format: str, output: Optional[Path],
) -> None:  # fmt: skip
    """Measure both sides in one session, report and leave with the exit code."""
    from harness import pythons
    from harness.conditions import Conditions
    from harness.run import refuse_misfits
    from harness.stopwatch import Stopwatch
    from reports.report import document_of

    watch = Stopwatch()
    with watch("prepare"):
        load.check_names(asked, folders, interpreters)
        pythons.refuse(asked, interpreters)
        refuse_missing(name, asked, folders)
        data = load.prepare_data(asked, load.cache() / "data", folders)
        conditions = Conditions(
            data=data,
            interpreters=interpreters,
            folders=[*folders, Path.cwd()],
        )
        refuse_misfits(asked, conditions)
        refuse_base(asked, conditions)
        mention_idle(rules, asked)
        recorder = created(runs, asked, data, folders, {"gate": {**shown, "policy": rules.to_json()}})
    sealed = measured(asked, recorder, conditions, watch, quiet=quiet)
    if output is not None:
        deliver(document_of(sealed), format, output)
    leave(sealed, "terminal" if output else format)


def mention_idle(rules: "Policy", asked: "Suite") -> None:
    """Say on stderr which patterns of the policy fit nothing here: right for another suite, or misspelt."""
    from harness.gate import scope
    from harness.verdict import OVERALL

    names = [OVERALL, *(name for block in asked.blocks for name in scope(block))]
    for pattern in rules.idle(names):
        print(f"tandem: the policy's pattern {pattern!r} fits no case of {asked.name}", file=sys.stderr)


def refuse_base(asked: "Suite", conditions: "Conditions") -> None:
    """Raise UserError if the base's interpreter cannot run a case that the candidate's can."""
    from harness.run import refusals

    if len({case.variant.torch for case in asked.cases}) == 1:  # then both sides can do the same
        return
    reasons = refusals(asked, conditions)
    for block in asked.blocks:
        base, candidate, _ = (reasons[case.id] for case in block.cases)
        if base and not candidate:
            raise UserError(f"the base cannot run {block.name}: {base}", "gate a suite without that variant")


def refuse_missing(suite: str, asked: "Suite", folders: list[Path]) -> None:
    """Raise UserError if a commit lacks the suite or another file of the user's that the working tree has."""
    from harness.revisions import lacks, top

    files = [names.find("suite", suite).path, *load.files(asked, folders).values()]
    for commit in sorted({case.variant.revision for case in asked.cases} - {""}):
        for path in files:
            if (above := top()) and lacks(commit, path, above):
                raise UserError(
                    f"commit {commit[:12]} has no {path.resolve().relative_to(above)}",
                    "name a commit that holds the suite",
                )


def judge_stored(base: str, candidate: str, rules: "Policy", runs: Path, format: str, output: Optional[Path]) -> None:
    """Judge one stored run against another, report and leave with the exit code."""
    from datetime import date

    from harness.figures import figures
    from harness.store import open_run
    from harness.stored import stored
    from reports.report import ruling_of

    opened = [figures(open_run(run_path(name, runs))) for name in (base, candidate)]
    ruling = stored(opened[0], opened[1], rules, date.today())
    deliver(ruling_of(opened[1].run, ruling), format, output)
    raise SystemExit(ruling.code)
