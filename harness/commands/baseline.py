"""`tandem baseline`: runs kept by name, to compare with later."""

from pathlib import Path
from typing import Annotated

import typer

from harness.commands.options import Baselines, Format, Output, Runs, run_path
from harness.commands.report import deliver

app = typer.Typer(help="Keep runs by name, and see how far the newest is from the first.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(metavar="NAME", help="Letters, digits, dash, dot and underscore.")]


@app.command()
def save(
    name: Name,
    run: Annotated[str, typer.Argument(metavar="RUN", help="A complete run: path, id or `latest`.")],
    update: Annotated[
        bool, typer.Option("--update", help="Replace what the name stands for; the first is kept.")
    ] = False,
    baselines: Baselines = Path("baselines"),
    runs: Runs = Path("runs"),
) -> None:
    """Keep a copy of a run under a name."""
    from harness import baseline
    from harness.store import open_run

    saved = baseline.save(open_run(run_path(run, runs, baselines)), name, baselines, update=update)
    print(saved.place(baselines))


@app.command("list")
def list_baselines(baselines: Baselines = Path("baselines")) -> None:
    """List the names, and for each who saved the newest, when, and of which commit and machine."""
    from harness.baseline import find, names
    from reports.baselines import listing

    deliver(listing([find(name, baselines) for name in names(baselines)]), "terminal", None)


@app.command()
def show(
    name: Name, format: Format = "terminal", output: Output = None, baselines: Baselines = Path("baselines")
) -> None:
    """Show what was saved under a name, and how the newest compares with the first: its creep."""
    from harness.baseline import find
    from harness.store import open_run
    from reports.baselines import creep

    saved = find(name, baselines)
    anchor, newest = (open_run(item.place(baselines)) for item in (saved[0], saved[-1]))
    deliver(creep(saved, anchor, newest), format, output)
