"""`tandem env`: virtual environments with other PyTorch releases, each known to every command by its label."""

import sys
from typing import Annotated, Optional

import typer

from harness import exits
from harness.commands.options import end_by_interrupt, say

app = typer.Typer(help="Make, list and remove environments with other PyTorch releases.", no_args_is_help=True)
Label = Annotated[str, typer.Argument(metavar="LABEL", help="Letters, digits, dash, dot, plus and underscore.")]


@app.command()
def create(
    label: Label,
    torch: Annotated[str, typer.Option(metavar="VERSION", help="The release, 1.13.1 or newer; required.")],
    python: Annotated[str, typer.Option(metavar="VERSION", help="As `3.10`, or a path; else one that fits.")] = "",
    index_url: Annotated[str, typer.Option(metavar="URL", help="Where packages are from, if not pip's own.")] = "",
    with_: Annotated[
        Optional[list[str]], typer.Option("--with", metavar="PACKAGE", help="Install a further one; repeatable.")
    ] = None,
) -> None:
    """Make a virtual environment with that torch, the NumPy it needs and nothing else, and see a worker start in it."""
    from harness import environments, install

    for name in environments.sweep():
        say(f"removed {name!r}, which was half-made")
    end_by_interrupt()
    try:
        made = install.create(label, torch, say, python=python, index_url=index_url, extra=with_ or [])
    except KeyboardInterrupt:
        say(f"interrupted; nothing is left of environment {label!r}")
        sys.exit(exits.INTERRUPTED)
    print(made.path)


@app.command("list")
def list_environments() -> None:
    """List the labels, and for each what is in it and what it takes."""
    from harness import environments
    from harness.commands.report import deliver
    from reports.environments import listing

    for name in environments.sweep():
        say(f"removed {name!r}, which was half-made")
    deliver(listing({label: environments.read(label) for label in environments.labels()}), "terminal", None)


@app.command()
def show(label: Label) -> None:
    """Show what an environment holds and how it was made, after a worker has started in it."""
    from harness import environments, install
    from harness.commands.report import deliver
    from reports.environments import description

    found = environments.find(label)
    install.greeted(label, str(found.path))
    deliver(description(found), "terminal", None)


@app.command()
def remove(label: Label) -> None:
    """Remove an environment, whole or broken, and say what that frees."""
    from harness import environments

    say(f"removed environment {label!r}: {environments.remove(label) / 2**30:.1f} GiB are free again")
