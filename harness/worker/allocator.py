"""The allocator: whether memory that a step frees stays with the process for the next one.

By default glibc returns large blocks to the kernel as they are freed and has each of their pages faulted in again in
the next step. That is what a user's own process does, so it is the default here (docs/decisions/007-the-allocator.md).
"""

import ctypes
import os
import sys

from harness.errors import Unavailable

TRIM_THRESHOLD, MMAP_MAX = -1, -4  # mallopt(3)
NEVER = -1


def keep_memory() -> None:
    """Let glibc use freed memory again instead of returning it; raise Unavailable where that is not ours to say."""
    if settings := wishes():
        raise Unavailable(f"allocator=keep needs an allocator that is not set by {', '.join(settings)}: unset it")
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        raise Unavailable("allocator=keep needs glibc: Linux, and not musl")
    mallopt(TRIM_THRESHOLD, NEVER)
    mallopt(MMAP_MAX, 0)


def wishes() -> list[str]:
    """Return the environment's settings for malloc, or for another in its place."""
    return sorted(name for name in os.environ if name.startswith("MALLOC_") or name in ("GLIBC_TUNABLES", "LD_PRELOAD"))
