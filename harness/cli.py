"""The command line: results on stdout, progress and warnings on stderr, exit codes as in `harness.exits`."""

import sys
import traceback
from io import TextIOWrapper
from typing import NoReturn

import typer

from harness import exits
from harness.commands import baseline, env, hardware
from harness.commands.compare import compare
from harness.commands.doctor import doctor
from harness.commands.explain import explain
from harness.commands.gate import gate
from harness.commands.history import history
from harness.commands.list import list_names
from harness.commands.merge import merge
from harness.commands.report import report
from harness.commands.run import run
from harness.commands.trace import trace
from harness.errors import DISK, UserError

app = typer.Typer(
    help="What does a way of running a Transformer cost and gain, compared with another way?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("list")(list_names)
for command in (run, gate, merge, compare, report, explain, trace, history, doctor):
    app.command()(command)
app.add_typer(baseline.app, name="baseline")
app.add_typer(env.app, name="env")
app.add_typer(hardware.app, name="hardware")


def main() -> NoReturn:
    """Run a command; a user's mistake is one line and exit code 2, a bug of Tandem its traceback and code 70."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a report holds signs that not every locale has
    try:
        app()
    except UserError as error:
        mistake(str(error))
    except Exception as error:
        if isinstance(error, OSError) and (error.filename is not None or error.errno in DISK):
            where = f"{error.filename}: " if error.filename else ""
            mistake(f"{where}{error.strerror}; {DISK.get(error.errno or 0, 'check the path and its permissions')}")
        traceback.print_exc()
        sys.exit(exits.BUG)
    sys.exit(exits.FINE)


def mistake(sentence: str) -> NoReturn:
    """Say what the user can mend and leave."""
    print(f"tandem: {sentence}", file=sys.stderr)
    sys.exit(exits.MISTAKE)


if __name__ == "__main__":
    main()
