"""The machine: what this interpreter and its device are, and how fast they are just now."""

import hashlib
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch

from harness.errors import Unavailable
from harness.worker import energy
from harness.worker.allocator import wishes
from harness.worker.clock import timed
from harness.worker.compiler import cpp_compiler
from harness.worker.device import Device
from harness.worker.system import read

GIB = 2**30
COMPARABLE = (  # what must be equal for absolute times to be comparable
    "device", "cpu", "cpu_revision", "cores_physical", "cores_usable", "cpu_quota", "memory_gib", "governor", "turbo",
    "threads", "allocator", "python", "torch", "torch_git", "compiler", "gpu", "gpu_memory_gib", "capability",
    "driver", "cuda", "cudnn",
)  # fmt: skip
INSTRUCTIONS = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_int8",
    "amx_bf16",
    "amx_fp16",
    "sve",
)
CALIBRATIONS = 7  # of each probe: about 0.3 s in all
SYSTEM = Path("/sys/devices/system/cpu")


def describe(device: Device) -> dict[str, Any]:
    """Return the facts about this machine, this interpreter and `device`; None where they cannot be read.

    `fingerprint` is equal where absolute times are comparable, `line` is for people. No name of host or user, no
    environment variable.
    """
    facts = {
        "device": device.kind,
        "cpu": cpu_name(),
        "cpu_revision": cpu_revision(),
        "instructions": instructions(),
        "caches": caches(),
        "numa_nodes": len(list(Path("/sys/devices/system/node").glob("node[0-9]*"))) or None,
        "virtual": virtual(),
        "cores_physical": physical_cores(),
        "cores_logical": os.cpu_count(),
        "cores_usable": usable_cores(),
        "cpu_quota": cpu_quota(),
        "memory_gib": memory_gib(),
        "memory_limit_gib": memory_limit_gib(),
        "governor": read(SYSTEM / "cpu0/cpufreq/scaling_governor"),
        "turbo": turbo(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "torch_git": torch.version.git_version,
        "torch_build": torch_build(),
        "threads": torch.get_num_threads(),
        "allocator": f"as set by {', '.join(wishes())}" if wishes() else "the system's",
        "compiler": compiler_version(),
        "energy": energy_counter(device),
        **gpu(device),
    }
    chosen = json.dumps([facts.get(name) for name in COMPARABLE])
    return {**facts, "fingerprint": hashlib.sha256(chosen.encode()).hexdigest()[:12], "line": line(facts)}


def line(facts: dict[str, Any]) -> str:
    """Return the hardware line that stands under every table."""
    system = re.match(r"\S+ \d+(\.\d+)?", facts["system"])
    machine = [
        f"{facts['cpu']} ({facts['cores_usable']} cores)",
        f"{facts['memory_gib']} GiB",
        system[0] if system else facts["system"],
    ]
    if "gpu" in facts:
        machine.insert(0, f"{facts['gpu']} ({facts['gpu_memory_gib']} GiB)")
    threads = f"{facts['threads']} thread{'s' * (facts['threads'] != 1)}"
    software = [f"Python {facts['python']}", f"torch {facts['torch']}", threads]
    return " · ".join([", ".join(machine), *software])


def cpu_name() -> str:
    """Return the processor's name, without trademarks and clock rate."""
    found = re.search(r"^model name\s*: (.+)$", read(Path("/proc/cpuinfo")) or "", re.M)
    name = found[1] if found else first_line("sysctl", "-n", "machdep.cpu.brand_string")
    name = re.sub(r"\((R|TM)\)| CPU| Processor|@.*", "", name or platform.processor() or platform.machine())
    return " ".join(name.split())


def cpu_revision() -> str | None:
    """Return family, model and stepping: clouds hide the processor's full name, but not these."""
    text = read(Path("/proc/cpuinfo")) or ""
    found = [re.search(rf"^{name}\s*: (\d+)$", text, re.M) for name in ("cpu family", "model", "stepping")]
    return "-".join(item[1] for item in found if item) or None


def instructions() -> str | None:
    """Return which of the instructions that matrix products use this processor has."""
    found = re.search(r"^flags\s*: (.+)$", read(Path("/proc/cpuinfo")) or "", re.M)
    have = [name for name in INSTRUCTIONS if found and name in found[1].split()]
    return " ".join(have) or None


def caches(folder: Path = SYSTEM / "cpu0/cache") -> str | None:
    """Return the caches that the first core sees, such as `L1 32K, L2 1024K, L3 32768K`; instructions' left out."""
    found = [
        f"L{read(cache / 'level')} {read(cache / 'size')}"
        for cache in sorted(folder.glob("index*"))
        if read(cache / "type") != "Instruction"
    ]
    return ", ".join(found) or None


def virtual() -> bool | None:
    """Tell whether a hypervisor stands between this system and the processor, where the processor tells."""
    flags = re.search(r"^flags\s*: (.+)$", read(Path("/proc/cpuinfo")) or "", re.M)
    return "hypervisor" in flags[1].split() if flags else None


def memory_limit_gib(root: Path = Path("/sys/fs/cgroup")) -> float | None:
    """Return the memory that the container may take, or None where there is no limit."""
    limit = read(root / "memory.max") or ""
    return round(int(limit) / GIB, 2) if limit.isdigit() else None


def physical_cores() -> int | None:
    """Return the number of cores, not counting hyper-threads."""
    blocks = (read(Path("/proc/cpuinfo")) or "").split("\n\n")
    cores = {tuple(re.findall(r"^(?:physical id|core id)\s*: (\d+)$", block, re.M)) for block in blocks} - {()}
    count = first_line("sysctl", "-n", "hw.physicalcpu") if sys.platform == "darwin" else None
    return int(count) if count else len(cores) or None


def usable_cores() -> int | None:
    """Return the number of logical cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def cpu_quota(root: Path = Path("/sys/fs/cgroup")) -> float | None:
    """Return how many cores the container may keep busy, or None where there is no limit."""
    quota, _, period = (read(root / "cpu.max") or "").partition(" ")
    if not period:  # cgroups version 1
        quota, period = (read(root / f"cpu/cpu.cfs_{name}_us") or "" for name in ("quota", "period"))
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() else None


def memory_gib() -> int | None:
    """Return the machine's memory."""
    try:
        return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / GIB)
    except (AttributeError, ValueError):  # Windows
        return None


def turbo() -> bool | None:
    """Tell whether cores may clock above their base rate."""
    if state := read(SYSTEM / "intel_pstate/no_turbo"):
        return state == "0"
    state = read(SYSTEM / "cpufreq/boost")
    return None if state is None else state == "1"


def torch_build() -> str:
    """Return the libraries and CPU instructions that this torch uses, but not its compiler's flags."""
    lines = [item.strip(" -") for item in torch.__config__.show().splitlines()[1:]]
    return "; ".join(item for item in lines if item and not item.startswith("Build settings"))


def compiler_version() -> str | None:
    """Return the first line that the C++ compiler says of itself."""
    return first_line(cpp_compiler(), "--version")


def energy_counter(device: Device) -> str:
    """Return what counts the energy, or why nothing does."""
    try:
        energy.counter(device)
    except Unavailable as error:
        return f"not counted: {error}"
    return "NVML" if device.kind == "cuda" else "RAPL"


def gpu(device: Device) -> dict[str, Any]:
    """Return the facts about a CUDA device; nothing for the others, about which torch tells little."""
    if device.kind != "cuda":
        return {}
    properties = torch.cuda.get_device_properties(0)
    driver = re.search(r"\b\d+\.\d+(\.\d+)*", read(Path("/proc/driver/nvidia/version")) or "")
    return {
        "gpu": properties.name,
        "gpu_memory_gib": round(properties.total_memory / GIB),
        "capability": f"{properties.major}.{properties.minor}",
        "driver": driver[0] if driver else None,
        "cuda": torch.version.cuda or torch.version.hip,
        "cudnn": torch.backends.cudnn.version(),
    }


def calibrate(device: Device) -> dict[str, float]:
    """Return the median seconds of four short probes: two runs are comparable where these agree within 5 %.

    On a GPU products and copies are larger: of small ones it would be the launching that counts.
    """
    side, size = (512, 64 * 2**20) if device.kind == "cpu" else (4096, 2**30)
    matrix = torch.ones(side, side, device=device.torch)
    source = torch.zeros(size, dtype=torch.uint8, device=device.torch)
    target = torch.empty_like(source)
    tiny = torch.zeros(1, device=device.torch)

    def dispatch() -> None:
        device.synchronize()  # a device that lags behind would hide what the host does
        for _ in range(1000):
            tiny.add_(1)

    def interpret() -> None:
        device.synchronize()
        sum(number & 7 for number in range(20_000))

    probes: dict[str, Callable[[], Any]] = {
        "gemm_seconds": lambda: matrix @ matrix,
        "copy_seconds": lambda: target.copy_(source),
        "dispatch_seconds": dispatch,
        "interpreter_seconds": interpret,
    }
    in_turn = list(probes.values())
    seconds, _ = timed(lambda turn: in_turn[turn % 4](), range(4 * (1 + CALIBRATIONS)), device)
    return {name: median(seconds[4 + place :: 4]) for place, name in enumerate(probes)}  # the first of each warms it up


def first_line(*command: str) -> str | None:
    """Return the first line that a command prints, or None where it does not run."""
    try:
        output = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return output.split("\n")[0].strip() or None
