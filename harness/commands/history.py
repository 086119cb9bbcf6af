"""`tandem history`: a metric of a case over runs, and when it changed."""

from pathlib import Path
from typing import Annotated

import typer

from harness.commands.options import Format, Output, Runs
from harness.commands.report import deliver


def history(
    metric: Annotated[str, typer.Argument(metavar="METRIC", help="A name from `tandem list metrics`.")],
    case: Annotated[str, typer.Argument(metavar="CASE", help="A case: an id, a part of one, a variant or a pattern.")],
    format: Format = "terminal",
    output: Output = None,
    runs: Runs = Path("runs"),
) -> None:
    """Show a metric of a case over all runs, and at which of them it changed."""
    from harness.history import history
    from reports.history import document_of

    deliver(document_of(history(metric, case, runs)), format, output)
