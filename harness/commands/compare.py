"""`tandem compare`: variants against their baselines, or a run against another."""

from pathlib import Path
from typing import Annotated, Optional

import typer

from harness.commands.options import Format, Output, Runs, run_path
from harness.commands.report import deliver


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
