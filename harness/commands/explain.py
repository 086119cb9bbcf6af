"""`tandem explain`: what torch.compile made of the cases of a run, and what would help."""

from pathlib import Path
from typing import Annotated, Optional

import typer

from harness.commands.options import Format, Output, Runs, run_path
from harness.commands.report import deliver


def explain(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run: path, id, `latest` or `baseline:NAME`.")],
    case: Annotated[
        Optional[str],
        typer.Argument(
            metavar="[CASE]", help="A variant's name, a case's id, a part of it or a pattern; else all compiled."
        ),
    ] = None,
    format: Format = "terminal",
    output: Output = None,
    runs: Runs = Path("runs"),
) -> None:
    """Say what torch.compile made of a run's cases, what it could not compile, and what removing that is worth."""
    from harness.store import open_run
    from reports.explain import explanation_of

    deliver(explanation_of(open_run(run_path(run, runs)), case), format, output)
