"""Pythons: those of this machine, and whether one of them can be a worker's interpreter."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.labels import asked, holds, making
from harness.spec import Suite

OLDEST = (3, 10)  # what zones S and W are written for
PATIENCE = 120  # seconds; importing torch from a cold disk takes tens of them
UNSPEAKING = "is no Python"
QUESTION = """
import json, sys
said = {"python": list(sys.version_info[:3])}
print("\\n" + json.dumps(said))
sys.stdout.flush()
try:
    import numpy
    said["numpy"] = numpy.__version__
    import torch
    said["torch"] = torch.__version__
    torch.zeros(1).numpy()
except BaseException as error:
    lines = [line for line in str(error).splitlines() if line.strip()] or [""]
    said["error"] = type(error).__name__ + ": " + lines[0]
    said["lacks"] = getattr(error, "name", None) if type(error).__name__ == "ModuleNotFoundError" else None
print("\\n" + json.dumps(said))
"""
VERSION = "import json, sys; print(json.dumps({'python': list(sys.version_info[:3])}))"
"""Asked of programs that may be any Python, or none: written for Python 2.7, too."""


def ask(path: str, question: str = QUESTION) -> Mapping[str, Any]:
    """Return what a Python says about itself: `python`, `torch`, `numpy`, and the `error` of importing them, if any."""
    try:
        done = subprocess.run(
            [path, "-c", question], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE, cwd="/"
        )
        said: Mapping[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    except (OSError, ValueError, IndexError):
        return {"error": UNSPEAKING}
    except subprocess.TimeoutExpired:
        return {"error": f"does not answer within {PATIENCE} s"}
    if not isinstance(said, dict) or "python" not in said:
        return {"error": UNSPEAKING}
    died = {"error": f"it dies of {signal.Signals(-done.returncode).name}"} if done.returncode < 0 else {}
    return {**said, **died}


def refuse(suite: Suite, interpreters: Mapping[str, str]) -> None:
    """Raise UserError for the first interpreter of a suite in which no worker can start."""
    for label in asked(suite):
        if label in interpreters and (reason := unfit(label, interpreters[label], ask(interpreters[label]))):
            raise UserError(f"interpreter {label!r} {reason[0]}", reason[1])


def unfit(label: str, path: str, said: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return why a worker cannot start in what said this of itself, and what to do about it, or None."""
    anew = f"or make one: `{making(label)}`"
    if reason := too_old(said):
        return f"({path}) {reason}", f"write --python {label}=PATH of a Python with torch, {anew}"
    if said.get("lacks") in ("torch", "numpy"):
        return f"lacks {said['lacks']}", f"install it there (`{path} -m pip install torch numpy`), {anew}"
    if "torch" not in said:
        return f"has a torch that does not import: {said.get('error', 'it ends Python')}", f"install it anew, {anew}"
    if "error" in said:
        remedy = f"`{path} -m pip install 'numpy<2'`, if torch is older than 2.3"
        return f"has a torch that cannot use its NumPy {said['numpy']}: {said['error']}", remedy
    if not holds(label, said["torch"]):
        return f"({path}) holds torch {said['torch']}", "take a label that says what is in it"
    return None


def too_old(said: Mapping[str, Any]) -> str | None:
    """Return why what said this of itself is no Python for a worker, whatever is installed in it, or None."""
    if "python" not in said:
        return str(said["error"])
    have, need = (".".join(map(str, version)) for version in (said["python"], OLDEST))
    return f"is Python {have}, and a worker needs {need} or newer" if tuple(said["python"]) < OLDEST else None


def find(version: str) -> str | None:
    """Return the path of a Python of a version such as `3.10` or `3.10.13`: this one, on PATH or of pyenv."""
    wanted = tuple(map(int, version.split(".")))
    for path in candidates(".".join(version.split(".")[:2])):
        if os.access(path, os.X_OK) and tuple(ask(path, VERSION).get("python", ()))[: len(wanted)] == wanted:
            return path
    return None


def candidates(version: str) -> Iterator[str]:
    """Yield where a Python of a version such as `3.10` may lie."""
    if version == "{}.{}".format(*sys.version_info):
        yield sys.executable
    yield from (str(Path(folder) / f"python{version}") for folder in os.environ.get("PATH", "").split(os.pathsep))
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    yield from map(str, sorted(pyenv.glob(f"{version}*/bin/python{version}"), key=by_number, reverse=True))


def by_number(path: Path) -> list[int]:
    """Return the numbers in a path, so that 3.10.13 comes after 3.10.9."""
    return [int(number) for number in re.findall(r"\d+", str(path))]
