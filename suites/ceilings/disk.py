"""Reading a training text from the disk itself, or from the pages that the system keeps of it in memory."""

import mmap
import os
import shutil
import tempfile
from pathlib import Path

from harness.errors import Unavailable, UserError
from harness.work import Ceiling, Place

CHUNK = 2**20


def prepare(place: Place, *, direct: bool = True, fresh: bool = False) -> Ceiling:
    """Return a pass over the workload's training text in chunks of 1 MiB; `direct` leaves the system's cache out.

    `fresh` reads a copy made for it. How fast the system's cache gives a file depends on how its pages came to lie in
    memory: a file of some age may be far from a new one, new ones are alike.
    """
    if not isinstance(place.data.get("train"), str):
        raise UserError("disk reads a text", "give the workload data such as stdlib")
    path = Path(place.data["train"])
    if direct and not hasattr(os, "O_DIRECT"):
        raise Unavailable("this system cannot read past its cache (O_DIRECT): no rate of the disk itself")
    try:
        file = opened(path, os.O_RDONLY | (os.O_DIRECT if direct else 0), fresh=fresh)
        size = os.fstat(file).st_size // CHUNK * CHUNK
        buffer = mmap.mmap(-1, CHUNK)  # page-aligned, as direct reading needs it
        os.preadv(file, [buffer], 0)
    except OSError as error:
        raise Unavailable(f"{path.name} cannot be read{' past the cache' * direct}: {error.strerror}") from error

    def step() -> None:
        for offset in range(0, size, CHUNK):
            os.preadv(file, [buffer], offset)

    return Ceiling(step=step, amount={"moved_bytes": float(size)})


def opened(path: Path, flags: int, *, fresh: bool) -> int:
    """Return the descriptor of a file, or of a nameless copy of it beside it, which ends with the descriptor."""
    if not fresh:
        return os.open(path, flags)
    with path.open("rb") as file, tempfile.NamedTemporaryFile(dir=path.parent) as copy:
        shutil.copyfileobj(file, copy)
        copy.flush()
        os.fsync(copy.fileno())
        return os.open(copy.name, flags)
