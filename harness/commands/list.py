"""`tandem list`: every name, what it is and what it needs."""

import os
from typing import Annotated, Any, Optional

import typer

from harness import names
from harness.errors import unknown

LISTED = {
    "suites": "suite",
    "models": "model",
    "attention": "attention",
    "tasks": "task",
    "ceilings": "ceiling",
    "data": "data",
    "metrics": "",
    "formats": "format",
}


def list_names(what: Annotated[Optional[str], typer.Argument(metavar="[" + "|".join(LISTED) + "]")] = None) -> None:
    """List names with what they are and what they need."""
    if what is not None and what not in LISTED:
        raise unknown("list", what, LISTED)
    for heading, kind in LISTED.items():
        if what in (None, heading):
            print(f"{heading}:")
            for name, summary in listed(kind):
                print(f"  {name:<28} {summary}")


def listed(kind: str) -> list[tuple[str, str]]:
    """Return the names of a kind with one line each."""
    from harness.metrics import TABLE

    if not kind:
        return [(metric.name, f"{metric.summary} [{metric.unit}]") for metric in TABLE]
    return [(named.name, named.summary + needs(named.literal("REQUIRES", {}))) for named in names.listing(kind)]


def needs(requires: dict[str, Any]) -> str:
    """Return what a file's REQUIRES asks for, and whether it is missing here."""
    from importlib.metadata import PackageNotFoundError, version
    from shutil import which

    asked = []
    if minimum := requires.get("torch"):
        try:
            have = version("torch")
            missing = tuple(map(int, have.split(".")[:2])) < tuple(map(int, minimum.split(".")[:2]))
        except PackageNotFoundError:
            missing = True
        asked.append(f"torch >= {minimum}" + " (missing here)" * missing)
    if devices := requires.get("device"):
        missing = devices == ["cuda"] and which("nvidia-smi") is None
        asked.append(" or ".join(devices) + " (missing here)" * missing)
    if requires.get("compiler"):
        asked.append("a compiler" + " (missing here)" * (which(os.environ.get("CXX", "g++")) is None))
    return f" [needs {', '.join(asked)}]" if asked else ""
