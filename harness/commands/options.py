"""What several commands take: runs, formats, times, interpreters."""

import os
import signal
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Optional

import typer

from harness.errors import UserError
from harness.spec import repeated

Runs = Annotated[Path, typer.Option("--runs", metavar="DIR", help="Folder of the runs.")]
Baselines = Annotated[Path, typer.Option("--baselines", metavar="DIR", help="Folder of the baselines.")]
Format = Annotated[str, typer.Option("--format", metavar="F", help="One of `tandem list formats`.")]
Output = Annotated[Optional[Path], typer.Option("-o", "--output", metavar="FILE", help="Write here instead of stdout.")]


def run_path(name: str, runs: Path, baselines: Path = Path("baselines")) -> Path:
    """Return the folder of a run given by path, id, `latest` or `baseline:NAME`."""
    if name.startswith("baseline:"):
        from harness.baseline import newest

        return newest(name.removeprefix("baseline:"), baselines)
    if name == "latest":
        finished = sorted(path.parent for path in runs.glob("[!.]*/run.json"))
        if not finished:
            raise UserError(f"no run in {runs}", "make one with `tandem run quick`, or name the folder with --runs")
        return finished[-1]
    for path in (Path(name), runs / name, runs / f".partial-{name}"):
        if path.is_dir():
            return path
    raise UserError(f"no run {name!r}", f"give a path, an id in {runs}, `latest`, or `baseline:NAME`")


def interpreters(texts: Iterable[str]) -> dict[str, str]:
    """Return label -> path: of every environment, then as given by `LABEL=PATH`, which counts more."""
    from harness import environments

    given = [interpreter(text) for text in texts]
    if twice := repeated(label for label, _ in given):
        raise UserError(f"--python names {twice!r} twice", "give each interpreter its own label")
    return {**environments.interpreters(), **dict(given)}


def interpreter(text: str) -> tuple[str, str]:
    """Return label and path of `LABEL=PATH`."""
    label, _, path = text.partition("=")
    if not (label and os.access(path, os.X_OK) and Path(path).is_file()):
        raise UserError(f"--python {text!r}: no program there", "write LABEL=PATH, the path of a Python with torch")
    return label, os.path.abspath(path)  # not resolved: a virtual environment's Python is a link


def end_by_interrupt() -> None:
    """Have the signals that end a process interrupt it, as Ctrl-C does, so that nothing is left half-made."""
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, signal.default_int_handler)


def say(text: str) -> None:
    """Tell on stderr how something that takes long goes on."""
    print(f"tandem: {text}", file=sys.stderr, flush=True)
