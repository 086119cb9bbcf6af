"""`tandem compare`: variants against their baselines, a run against another, or two files of pytest-benchmark."""

from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from harness.commands.options import Format, Output, Runs, run_path
from harness.commands.report import deliver
from harness.errors import UserError


def compare(
    base: Annotated[
        str,
        typer.Argument(
            metavar="RUN", help="A run: path, id, `latest` or `baseline:NAME`; or a JSON file of pytest-benchmark."
        ),
    ],
    candidate: Annotated[
        Optional[str], typer.Argument(metavar="[RUN]", help="A run, or such a file, to compare with the first.")
    ] = None,
    format: Format = "terminal",
    output: Output = None,
    runs: Runs = Path("runs"),
) -> None:
    """Compare the variants of a run with their baselines, a run with another, or two files of pytest-benchmark."""
    from harness.store import open_run
    from reports.report import BRIEF, comparison_of, document_of

    if any(name and name.endswith(".json") for name in (base, candidate)):
        if format == "pytest-benchmark":
            raise UserError("two files of pytest-benchmark are in that format already", "choose another --format")
        found = sessions(base, candidate)
    else:
        first = open_run(run_path(base, runs))
        found = comparison_of(first, open_run(run_path(candidate, runs))) if candidate else document_of(first, BRIEF)
    deliver(found, format, output)


def sessions(base: str, candidate: Optional[str]) -> Any:
    """Return the report on two files of pytest-benchmark."""
    from harness.benchmark_files import read_session
    from reports.sessions import document_of_sessions

    if candidate is None or not (base.endswith(".json") and candidate.endswith(".json")):
        raise UserError("a file of pytest-benchmark is compared with another", "give two files that end in .json")
    return document_of_sessions(read_session(Path(base)), read_session(Path(candidate)))
