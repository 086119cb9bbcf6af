"""The allocator: whether memory that a step frees stays with the process for the next one, and how much it may take.

By default glibc returns large blocks to the kernel as they are freed and has each of their pages faulted in again in
the next step. That is what a user's own process does, so it is the default here (docs/decisions/007-the-allocator.md).
"""

import ctypes
import os
import resource
import sys
from typing import Any

import torch

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


def limit_memory(limit: int, device: Any) -> None:
    """Let no more than `limit` bytes be taken, 0 for any number: what asks for more is told that memory ran out.

    On the CPU of private writable memory (RLIMIT_DATA), Python and torch included; its kernel would kill instead.
    """
    if not limit:
        return
    if device.kind == "cuda":
        total = torch.cuda.get_device_properties(device.torch).total_memory
        torch.cuda.set_per_process_memory_fraction(min(limit / total, 1.0))
    elif device.kind == "cpu" and sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_DATA, (limit, resource.getrlimit(resource.RLIMIT_DATA)[1]))
    else:
        raise Unavailable(f"memory_limit needs CUDA, or a CPU on Linux; this case runs on {device.kind}")


def wishes() -> list[str]:
    """Return the environment's settings for malloc, or for another in its place."""
    return sorted(name for name in os.environ if name.startswith("MALLOC_") or name in ("GLIBC_TUNABLES", "LD_PRELOAD"))
