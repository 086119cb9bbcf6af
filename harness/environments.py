"""Environments: virtual environments with a PyTorch release each, made once, known to every command by their label.

Below the cache folder lies `environments/LABEL/`, which is the virtual environment itself. What it holds is written
into it last, so a folder without `tandem.json` is half-made; whoever makes it keeps the folder locked.
"""

import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from harness.errors import UserError, unknown
from harness.labels import CURRENT, making
from harness.load import cache
from harness.spec import construct
from harness.store import read_json, write_json

FACTS = "tandem.json"
LABEL = r"[A-Za-z0-9_][A-Za-z0-9._+-]*"  # no path, nothing hidden, no option


@dataclass(frozen=True, kw_only=True)
class Environment:
    """A virtual environment that is ready: what it was made for, what a worker in it found, and what it takes."""

    label: str
    python: str
    torch: str
    numpy: str
    made: str
    """When, in UTC."""
    command: str
    """What makes it once more."""
    bytes: int

    @property
    def path(self) -> Path:
        """Its interpreter."""
        return python_in(home() / self.label)


def home() -> Path:
    """Return the folder of all environments."""
    return cache() / "environments"


def python_in(folder: Path) -> Path:
    """Return the interpreter of a virtual environment."""
    return folder / "bin" / "python"


def labels() -> list[str]:
    """Return the labels of all that is there, ready or not."""
    return sorted(path.name for path in home().glob("[!.]*") if path.is_dir()) if home().is_dir() else []


def read(label: str) -> Environment | None:
    """Return an environment that is ready, or None: it is half-made, or its interpreter is gone."""
    if not os.access(python_in(home() / label), os.X_OK):  # a link to the Python that it was made with
        return None
    try:
        return construct(Environment, read_json(home() / label / FACTS))
    except (UserError, TypeError):
        return None


def ready() -> dict[str, Environment]:
    """Return the environments that can be used, by label."""
    return {label: found for label in labels() if (found := read(label))}


def interpreters() -> dict[str, str]:
    """Return label -> interpreter of the environments that can be used."""
    return {label: str(found.path) for label, found in ready().items()}


def find(label: str) -> Environment:
    """Return an environment that is ready; raise UserError where there is none."""
    if found := read(label) if label in labels() else None:
        return found
    if label in labels():
        raise UserError(f"environment {label!r} is broken", f"make it anew: `{making(label)}`")
    if known := ready():
        raise unknown("environment", label, known)
    raise UserError(f"no environment in {home()}", f"make one with `{making(label)}`")


def check(label: str) -> None:
    """Refuse a label that would be a path, hidden, an option, or this interpreter."""
    if label == CURRENT:
        raise UserError("'current' is the interpreter that runs tandem", "take another label")
    if not re.fullmatch(LABEL, label):
        raise UserError(f"{label!r} is no label", "use letters, digits, dash, dot, plus and underscore")


@contextmanager
def new(label: str) -> Iterator[Path]:
    """Give the folder of a new environment, locked while it is made; whatever ends that early removes it."""
    folder = home() / label
    if found := read(label) if folder.exists() else None:
        remedy = f"remove it with `tandem env remove {label}`, or take another label"
        raise UserError(f"environment {label!r} is there already, with torch {found.torch}", remedy)
    if folder.exists():
        remove(label)
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise taken(label) from None
    with locked(label):
        try:
            yield folder
        except BaseException:  # an interruption, too
            shutil.rmtree(folder, ignore_errors=True)
            raise


def taken(label: str) -> UserError:
    """Return the error for an environment that is not ours now."""
    return UserError(f"environment {label!r} is being made by another process", "wait for it to end")


@contextmanager
def locked(label: str) -> Iterator[None]:
    """Hold the lock of an environment's folder; raise UserError if another process is making it."""
    try:
        handle = os.open(home() / label, os.O_RDONLY)
    except FileNotFoundError:  # removed in this moment
        raise taken(label) from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise taken(label) from None
        yield
    finally:
        os.close(handle)


def remove(label: str) -> int:
    """Remove what is there under a label, whole or not; return how many bytes that frees."""
    check(label)
    if label not in labels():
        raise unknown("environment", label, labels()) if labels() else UserError(f"no environment in {home()}")
    folder = home() / label
    with locked(label):
        (folder / FACTS).unlink(
            missing_ok=True
        )  # first, so that a removal that is cut off leaves nothing that looks whole
        freed = size(folder)
        shutil.rmtree(folder)
    return freed


def sweep() -> list[str]:
    """Remove what was left half-made and is made by nobody; return the labels."""
    left = [label for label in labels() if not (home() / label / FACTS).exists()]
    return [label for label in left if swept(label)]


def swept(label: str) -> bool:
    """Remove a half-made environment, unless somebody is making it."""
    with suppress(UserError):
        remove(label)
        return True
    return False


def finish(environment: Environment) -> None:
    """Write down that an environment is ready."""
    write_json(home() / environment.label / FACTS, asdict(environment))


def size(folder: Path) -> int:
    """Return the bytes that a folder takes on disk, each file once however often it is linked."""
    found = {}
    for path in folder.rglob("*"):
        status = path.lstat()
        found[status.st_ino] = getattr(status, "st_blocks", status.st_size // 512) * 512
    return sum(found.values())
