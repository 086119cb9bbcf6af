"""The failures that are not bugs: a user's mistake, and what a machine cannot do."""

import errno
from collections.abc import Iterable
from difflib import get_close_matches

DISK = {errno.ENOSPC: "free some space", errno.EDQUOT: "free some of your quota"}
"""What to do about a disk that takes no more, by error number."""

OUT_OF_MEMORY = (
    "DefaultCPUAllocator", "MemoryError", "Cannot allocate memory", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)  # fmt: skip
"""In the texts of torch's allocator, of an error while it compiles, of a process that could not be started, of CUDA."""


class UserError(Exception):
    """A mistake the user can mend: what happened and where, then what to do. Exit code 2."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(f"{message}; {hint}" if hint else message)


class Unavailable(Exception):
    """What a case asks for is beyond this machine, device or torch; the message says why."""


def is_out_of_memory(error: BaseException | None) -> bool:
    """Tell whether memory ran out; torch's CPU allocator and its compiler have only a text for it."""
    while error is not None:
        name, said = type(error).__name__, str(error)
        if "OutOfMemory" in name or isinstance(error, MemoryError) or any(text in said for text in OUT_OF_MEMORY):
            return True
        error = error.__cause__
    return False


def unknown(kind: str, name: str, known: Iterable[str]) -> UserError:
    """Return the error for a name nobody knows, with the closest known names."""
    names = sorted(set(known))
    close = get_close_matches(name, names, n=2, cutoff=0.5)
    guess = f"did you mean {' or '.join(map(repr, close))}? " if close else ""
    return UserError(f"no {kind} {name!r}", f"{guess}known: {', '.join(names)}")
