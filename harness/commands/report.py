"""`tandem report`: a run as a report in a format, or several side by side."""

from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from harness import names
from harness.commands.options import Format, Output, Runs, run_path


def report(
    run: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...", help="Runs: paths, ids, `latest` or `baseline:NAME`; several are compared with the first."
        ),
    ],
    format: Format = "terminal",
    output: Output = None,
    runs: Runs = Path("runs"),
) -> None:
    """Show a run as a report in a format, or several side by side: machines, commits or days."""
    from harness.store import open_run
    from reports.report import document_of
    from reports.runs import document_of_runs

    opened = [open_run(run_path(name, runs)) for name in run]
    deliver(document_of_runs(opened) if len(opened) > 1 else document_of(opened[0]), format, output)


def rendered(document: Any, format: str) -> str:
    """Return a document in a format."""
    return str(names.find("format", format).load()(document))


def refuse_undeliverable(format: str, output: Optional[Path]) -> None:
    """Raise UserError or OSError where `deliver` could not, before a report is measured for; leave no file behind."""
    names.find("format", format)
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        is_new = not output.exists()
        output.open("a").close()
        if is_new:
            output.unlink()


def deliver(document: Any, format: str, output: Optional[Path]) -> None:
    """Print a report, or write it and print where."""
    if output is None:
        print(rendered(document, format))
    else:
        output.parent.mkdir(parents=True, exist_ok=True)
        with redirect_stdout(StringIO()):  # so that none takes the file for a terminal with colours
            text = rendered(replace(document, place=output.parent), format)
        output.write_text(text, encoding="utf-8")
        print(output)
