"""Conditions: what a run needs beside its suite, and how its workers are started."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from harness import checkpoint
from harness.load import config, weights
from harness.names import ROOT
from harness.passport import Ceilings
from harness.peer import Peer
from harness.spec import Block, Variant

# Would turn compiled variants into eager ones, or warm starts into cold ones, without a word.
COMPILER_SWITCHES = ("TORCHDYNAMO_DISABLE", "TORCH_COMPILE_DISABLE", "TORCHINDUCTOR_FORCE_DISABLE_CACHES")
WORKER = (  # as `-m harness.worker` does it, but for the current folder, which Python 3.10 would look in first
    "-c",
    "import runpy, sys; sys.path[:] = filter(None, sys.path); "
    "runpy.run_module('harness.worker', run_name='__main__', alter_sys=True)",
)


@dataclass(frozen=True, kw_only=True)
class Tree:
    """A commit checked out beside the working tree, whose top is `top`."""

    top: Path
    checkout: Path

    def moved(self, path: Path) -> Path:
        """Return where a path of the working tree lies in the checkout; one outside of the tree stays."""
        whole = path.resolve()
        return self.checkout / whole.relative_to(self.top) if whole.is_relative_to(self.top) else path


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What a run needs beside its suite."""

    data: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Data name -> manifest."""
    interpreters: Mapping[str, str] = field(default_factory=dict)
    """Interpreter label -> path; `current` is this one."""
    folders: Sequence[Path] = ()
    """Where path names are looked up."""
    trees: Mapping[str, Tree] = field(default_factory=dict)
    """Commit -> where it is checked out, for variants with a `revision`."""
    starts: Mapping[str, str] = field(default_factory=dict)
    """Block name -> folder of the checkpoint that was pretrained for it."""
    passports: Mapping[str, Ceilings] = field(default_factory=dict)
    """Fingerprint -> what that environment can do at most."""
    trace: bool = True
    worker: Sequence[str] = field(default_factory=lambda: WORKER)

    def peer(
        self, variant: Variant, *, name: str, work: Path, log: Path, record: Callable[[dict[str, Any]], None]
    ) -> Peer:
        """Start a worker for a variant, with a compile cache of its own below `work`."""
        return Peer(
            [self.interpreters.get(variant.torch, sys.executable), *self.worker],
            name=name,
            environment=self.environment(variant, work, name),
            folder=self.moved(variant, Path.cwd()),
            log=log,
            record=record,
        )

    def moved(self, variant: Variant, path: Path) -> Path:
        """Return the path as a variant's worker sees it: in the checkout of its revision, if it has one."""
        tree = self.trees.get(variant.revision)
        return tree.moved(path) if tree else path

    def recipe(self, block: Block, variant: Variant, seed: int, steps: int = 0) -> dict[str, Any]:
        """Return what a worker needs to build a variant of a block and train it for `steps` steps.

        Its `weights` are the checkpoint's folder or nothing; its `config` are the model's sizes as its commit has them.
        """
        workload = block.workload_of(variant)
        name = weights(workload, self.folders)
        folder = self.starts.get(block.name) or (str(checkpoint.find(name, self.folders)) if name else "")
        return {
            "workload": {**asdict(workload), "seed": seed, "weights": folder},
            "variant": asdict(variant),
            "config": config(workload, self.folders, lambda path: self.moved(variant, path)),
            "data": dict(self.data.get(workload.data, {})),
            "folders": self.search(variant),
            "tree": self.tree(variant),
            "steps": steps,
        }

    def tree(self, variant: Variant) -> dict[str, str] | None:
        """Return where a variant's commit is checked out, as its worker is told, or None."""
        tree = self.trees.get(variant.revision)
        return {"top": str(tree.top), "checkout": str(tree.checkout)} if tree else None

    def search(self, variant: Variant) -> list[str]:
        """Return where a variant's path names are looked up."""
        return [str(self.moved(variant, folder)) for folder in self.folders]

    def greeting(self, variant: Variant) -> dict[str, Any]:
        """Return what a worker is told first."""
        return {
            "threads": threads(variant),
            "compiles": variant.compile != "none",
            "allocator": variant.allocator,
            "folders": self.search(variant),
        }

    def environment(self, variant: Variant, work: Path, name: str) -> dict[str, str]:
        """Return a worker's environment: this one, its tree importable, threads fixed, an own compile cache."""
        packages = work / "import" / (variant.revision or "working")
        packages.mkdir(parents=True, exist_ok=True)
        # Linked, so that nothing else of this installation can be imported. Both sides of a gate have the same clock.
        for link, package in (("harness", ROOT / "harness"), ("suites", self.moved(variant, ROOT / "suites"))):
            if not (packages / link).is_symlink():
                (packages / link).symlink_to(package)
        own = [Path(entry) for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
        path = [packages, *(self.moved(variant, folder) for folder in (Path.cwd(), *own))]
        cache = work / "cache" / name
        return {
            "CUDA_DEVICE_ORDER": "PCI_BUS_ID",  # as nvidia-smi counts GPUs; the user's own setting goes first
            **{key: value for key, value in os.environ.items() if key not in COMPILER_SWITCHES},
            "PYTHONPATH": os.pathsep.join(map(str, path)),
            "PYTHONSAFEPATH": "1",
            "OMP_NUM_THREADS": str(threads(variant)),
            "MKL_NUM_THREADS": str(threads(variant)),
            "TORCHINDUCTOR_CACHE_DIR": str(cache / "inductor"),
            "TRITON_CACHE_DIR": str(cache / "triton"),
        }


def threads(variant: Variant) -> int:
    """Return the CPU threads of a variant: all cores that this process may use, unless it says otherwise."""
    if variant.threads:
        return variant.threads
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1  # macOS has none
