"""`tandem merge`: the shards of a suite as one run."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from harness.commands.options import Runs, run_path
from harness.commands.report import rendered


def merge(
    run: Annotated[list[str], typer.Argument(metavar="RUN...", help="All shards of a suite: paths or ids of runs.")],
    runs: Runs = Path("runs"),
) -> None:
    """Join shards into one run, print the comparison and, as the last line, the run's path."""
    from harness.merge import merge
    from harness.store import open_run
    from reports.report import BRIEF, document_of

    path = merge([run_path(name, runs) for name in run], runs, ["tandem", *sys.argv[1:]])
    merged = open_run(path)
    print(rendered(document_of(merged, BRIEF), "terminal"))
    if merged.environments.keys() - {merged.suite.environment(case.variant) for case in merged.suite.cases}:
        note = "tandem: the shards' machines, or their speeds, differ; compare no times of one block with another's"
        print(note, file=sys.stderr)
    print(path)
