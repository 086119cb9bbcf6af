"""Conditions: what a run needs beside its suite, and how its workers are started."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.names import ROOT
from harness.peer import Peer
from harness.spec import Variant

# Would turn compiled variants into eager ones, or warm starts into cold ones, without a word.
COMPILER_SWITCHES = ("TORCHDYNAMO_DISABLE", "TORCH_COMPILE_DISABLE", "TORCHINDUCTOR_FORCE_DISABLE_CACHES")
WORKER = ("-m", "harness.worker")


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What a run needs beside its suite."""

    data: Mapping[str, Mapping[str, Any]]
    """Data name -> manifest."""
    configs: Mapping[str, Mapping[str, Any]]
    """Block name -> the model's configuration."""
    interpreters: Mapping[str, str] = field(default_factory=dict)
    """Interpreter label -> path; `current` is this one."""
    folders: Sequence[Path] = ()
    """Where path names are looked up."""
    trace: bool = True
    worker: Sequence[str] = field(default_factory=lambda: WORKER)

    def peer(
        self, variant: Variant, *, name: str, work: Path, log: Path, record: Callable[[dict[str, Any]], None]
    ) -> Peer:
        """Start a worker for a variant, with a compile cache of its own below `work`."""
        return Peer(
            [self.interpreters.get(variant.torch, sys.executable), *self.worker],
            name=name,
            environment=environment(work, name, threads(variant)),
            log=log,
            record=record,
        )

    def greeting(self, variant: Variant) -> dict[str, Any]:
        """Return what a worker is told first."""
        return {
            "threads": threads(variant),
            "compiles": variant.compile != "none",
            "folders": [str(folder) for folder in self.folders],
        }


def threads(variant: Variant) -> int:
    """Return the CPU threads of a variant: all cores that this process may use, unless it says otherwise."""
    if variant.threads:
        return variant.threads
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1  # macOS has none


def environment(work: Path, name: str, thread_count: int) -> dict[str, str]:
    """Return the environment of a worker: this one, the project importable, threads fixed, an own compile cache."""
    packages = work / "import"
    packages.mkdir(exist_ok=True)
    for package in ("harness", "suites"):  # linked, so that nothing else of this installation can be imported
        if not (packages / package).is_symlink():
            (packages / package).symlink_to(ROOT / package)
    cache = work / "cache" / name
    own_path = [os.environ["PYTHONPATH"]] if os.environ.get("PYTHONPATH") else []
    return {
        **{key: value for key, value in os.environ.items() if key not in COMPILER_SWITCHES},
        "PYTHONPATH": os.pathsep.join([str(packages), str(Path.cwd()), *own_path]),
        "PYTHONSAFEPATH": "1",
        "OMP_NUM_THREADS": str(thread_count),
        "MKL_NUM_THREADS": str(thread_count),
        "TORCHINDUCTOR_CACHE_DIR": str(cache / "inductor"),
        "TRITON_CACHE_DIR": str(cache / "triton"),
    }
