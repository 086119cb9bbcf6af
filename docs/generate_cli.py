"""The command line as a page: `python docs/generate_cli.py` writes docs/cli.md; a test compares the two."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.main import get_command

from harness.cli import app

PAGE = Path(__file__).with_name("cli.md")
HEAD = """<!-- Written by `python docs/generate_cli.py`: change the help texts in harness/commands/ instead. -->
# The command line

Results go to stdout, progress and warnings to stderr. Every command takes `--help`. The exit codes are in
[Reading results](reading-results.md#exit-codes).
"""


def page() -> str:
    """Return docs/cli.md as the command line is now."""
    commands: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]
    return "\n".join([HEAD, *(line for name, command in flat(commands) for line in described(name, command))])


def flat(commands: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield each command with its whole name; of a group, the commands in it."""
    for name, command in commands.items():
        if hasattr(command, "commands"):
            if command.invoke_without_command:
                yield name, command
            yield from ((f"{name} {inner}", found) for inner, found in flat(command.commands))
        else:
            yield name, command


def described(name: str, command: Any) -> Iterator[str]:
    """Yield the lines about a command: usage, what it does, and a line for each argument and option."""
    arguments = [typed(item) for item in command.params if item.param_type_name == "argument"]
    usage = " ".join([f"    tandem {name} [OPTIONS]", *arguments])
    yield from (f"## tandem {name}", "", usage, "", command.help, "")
    yield from (f"- `{typed(item)}`{meaning(item)}" for item in command.params)
    yield ""


def typed(item: Any) -> str:
    """Return how an argument or option is typed; an argument that may be left out stands in brackets."""
    if item.param_type_name == "option":
        return ", ".join(item.opts) + ("" if item.is_flag else f" {item.metavar or 'N'}")
    return str(item.metavar) if item.required or item.metavar.startswith("[") else f"[{item.metavar}]"


def meaning(item: Any) -> str:
    """Return an item's help and its default."""
    has_default = item.default not in (None, False, "", ...) and not item.required
    return (f": {item.help}" if item.help else "") + (f" Default: `{item.default}`." if has_default else "")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
