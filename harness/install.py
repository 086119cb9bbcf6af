"""Installing: makes an environment with one PyTorch release and what that needs, and sees a worker start in it."""

import errno
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from time import perf_counter

from harness import environments, pythons
from harness.environments import Environment
from harness.errors import DISK, UserError
from harness.labels import holds, is_release

GIB = 2**30
OLDEST = (1, 13)
# Newest Python by release, from which on: with a newer one it does not install, or (2.0, 2.2, 2.5) does not compile.
NEWEST_PYTHON = (((1, 13), 11), ((2, 0), 10), ((2, 1), 11), ((2, 4), 12), ((2, 6), 13), ((2, 10), 14))
# Built against NumPy 1; and torch.compile builds its kernels with pkg_resources.packaging, which setuptools 70 dropped.
BEFORE_2_3 = ("numpy<2", "setuptools<70")
SIZES = (((1, 13), 3.3), ((2, 0), 4.3), ((2, 1), 8.0))
"""GiB that a release takes with its CUDA libraries, from which on; two as measured, the last a round bound."""
SMALLEST = 0.8  # GiB, of a build for CPUs
LINES = 8  # of pip's last words
NO_NETWORK = re.compile(
    "NewConnectionError|ConnectTimeout|Max retries exceeded|name resolution|Network is unreachable|Connection refused"
    "|dns error|error sending request",
    re.I,
)
Say = Callable[[str], None]


def create(
    label: str, torch: str, say: Say, *, python: str = "", index_url: str = "", extra: Sequence[str] = ()
) -> Environment:
    """Make an environment and return it; whatever goes wrong, nothing half-made is left."""
    environments.check(label)
    release = release_of(torch)
    if is_release(label) and torch.partition("+")[0] != label:
        raise UserError(f"{label!r} would hold torch {torch}", "take a label that says what is in it")
    began, interpreter = perf_counter(), chosen(python, release)
    with environments.new(label) as folder:
        say(f"making environment {label!r} in {folder}, with {interpreter}")
        say(f"it takes up to {expected(release, index_url)}; {room(folder):.1f} GiB are free")
        wanted = [f"torch=={torch}", *(BEFORE_2_3 if release < (2, 3) else ("numpy",)), *extra]
        for command in commands(folder, interpreter, wanted, index_url):
            carry_out(command, folder, say)
        said = pythons.ask(str(environments.python_in(folder)))
        if reason := pythons.unfit(label, str(environments.python_in(folder)), said):
            raise UserError(f"environment {label!r} {reason[0]}", "it was removed; give another --torch or --python")
        if not holds(torch.partition("+")[0], said["torch"]):
            told = f"environment {label!r} was to hold torch {torch} and imports {said['torch']}"
            raise UserError(told, "it was removed; unset PYTHONPATH, if another torch lies there")
        made = Environment(
            label=label,
            python=".".join(map(str, said["python"])),
            torch=greeted(label, str(environments.python_in(folder))),
            numpy=said["numpy"],
            made=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            command=again(label, torch, python, index_url, extra),
            bytes=environments.size(folder),
        )
        environments.finish(made)
    say(f"environment {label!r} is ready: {made.bytes / GIB:.1f} GiB, made in {perf_counter() - began:.0f} s")
    return made


def release_of(torch: str) -> tuple[int, int]:
    """Return major and minor of a torch version as the user gave it."""
    version, plus, build = torch.partition("+")
    if not is_release(version) or (plus and not build.isalnum()):
        raise UserError(f"--torch {torch!r} is no release", "write for instance --torch 1.13.1")
    major, minor = map(int, version.split(".")[:2])
    if (major, minor) < OLDEST:
        raise UserError(f"torch {torch} is older than a worker can use", "take 1.13.1 or newer")
    return major, minor


def at(release: tuple[int, int], table: Sequence[tuple[tuple[int, int], float]]) -> float:
    """Return what a table that says from which release on says of one."""
    return [value for since, value in table if since <= release][-1]


def chosen(python: str, release: tuple[int, int]) -> str:
    """Return the interpreter that was asked for, else the one that runs tandem or the newest that the release takes."""
    newest = int(at(release, NEWEST_PYTHON))
    fitting = [f"3.{minor}" for minor in range(newest, pythons.OLDEST[1] - 1, -1)]
    own = "{}.{}".format(*sys.version_info)
    if os.sep in python:
        python = os.path.abspath(python)
        if reason := pythons.too_old(pythons.ask(python, pythons.VERSION)):
            raise UserError(f"--python {python} {reason}", "give the path of a Python 3.10 or newer")
        return python
    if python and not re.fullmatch(r"3\.\d+(\.\d+)?", python):
        raise UserError(f"--python {python!r} is no version", "write for instance --python 3.10, or a path")
    if python and tuple(map(int, python.split(".")[:2])) < pythons.OLDEST:
        raise UserError(f"--python {python}: a worker needs 3.10 or newer", f"take {fitting[0]}")
    wanted = [python] if python else sorted(fitting, key=lambda version: version != own)
    for version in wanted:
        if found := pythons.find(version):
            return found
    missing = f"no Python {' or '.join(wanted)} on PATH or in pyenv"
    raise UserError(missing, f"install one (`pyenv install {wanted[0]}`), or give its path with --python")


def commands(folder: Path, interpreter: str, wanted: Sequence[str], index_url: str) -> list[list[str]]:
    """Return what makes the environment: with uv where it is installed, else with venv and pip."""
    index, inside = (["--index-url", index_url] if index_url else []), str(environments.python_in(folder))
    if uv := shutil.which("uv"):
        return [
            [uv, "venv", "--quiet", "--allow-existing", "--python", interpreter, str(folder)],
            [uv, "pip", "install", "--no-progress", "--python", inside, *index, *wanted],
        ]
    options = ["--disable-pip-version-check", "--no-input", "--progress-bar", "off"]
    return [
        [interpreter, "-m", "venv", str(folder)],
        [inside, "-m", "pip", "install", *options, *index, *wanted],
    ]


def carry_out(command: Sequence[str], folder: Path, say: Say) -> None:
    """Run a command; if it fails, show its own last lines and raise UserError with what to do."""
    clean = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run(  # without PYTHONPATH: what lies there would count as installed
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=clean, text=True,
        errors="replace",
    )  # fmt: skip
    if done.returncode == 0:
        return
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    for line in lines[-LINES:]:
        say(f"| {without_password(line)}")
    tool = "uv" if Path(command[0]).name == "uv" else command[2]  # of `python -m venv` and `python -m pip`
    raise UserError(f"{tool} could not make environment {folder.name!r}, it was removed", remedy(done.stdout))


def remedy(output: str) -> str:
    """Return what to do about a failed installation."""
    for number, what in DISK.items():
        if os.strerror(number) in output:
            return what
    if NO_NETWORK.search(output):
        return "connect to the network, or give the --index-url of a mirror"
    if "ensurepip" in output:
        return "install what that Python's venv needs (Debian: python3-venv), or give another --python"
    return "its last lines above say why; give another --torch, --python or --index-url"


def greeted(label: str, path: str) -> str:
    """Return the torch that a worker in an interpreter reports when it is greeted."""
    from harness.conditions import Conditions
    from harness.peer import CaseFailure
    from harness.run import ask_once
    from harness.spec import Variant

    try:
        conditions = Conditions(interpreters={label: path})
        return str(ask_once(Variant(name=label, torch=label), pythons.PATIENCE, conditions)["torch"])
    except CaseFailure as failure:
        raise UserError(f"no worker starts in {path}: {failure}", "give another --torch or --python") from None


def expected(release: tuple[int, int], index_url: str) -> str:
    """Return what an environment will take on disk at most; pip tells only when it has downloaded it."""
    if index_url.rstrip("/").endswith("/cpu"):
        return f"{2 * SMALLEST:.1f} GiB"
    return f"{at(release, SIZES):.1f} GiB, with its CUDA libraries"


def room(folder: Path) -> float:
    """Return how many GiB are free where a folder lies; raise UserError if no torch fits in."""
    free = shutil.disk_usage(folder).free / GIB
    if free < SMALLEST:
        remedy = f"{DISK[errno.ENOSPC]}, or set XDG_CACHE_HOME to where there is more"
        raise UserError(f"only {free:.1f} GiB are free at {folder.parent}", remedy)
    return free


def again(label: str, torch: str, python: str, index_url: str, extra: Sequence[str]) -> str:
    """Return the command that makes an environment once more, without passwords."""
    options = {"--torch": torch, "--python": python, "--index-url": index_url}
    given = [word for option, value in options.items() if value for word in (option, value)]
    further = [word for one in extra for word in ("--with", one)]
    return without_password(shlex.join(["tandem", "env", "create", label, *given, *further]))


def without_password(text: str) -> str:
    """Return a text without what stands in URLs before the host."""
    return re.sub(r"//[^/\s]+@", "//", text)
