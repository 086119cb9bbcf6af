"""Fitness: is this machine fit to measure on? What was seen, how it stands, and what to do about it."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

from harness import sentinel

LOOK_SECONDS = 1.0
GIB = 2**30
EXCLUSIVE = ("Exclusive_Process", "Exclusive_Thread", "Prohibited")  # compute modes, as nvidia-smi calls them
HALF_A_CORE = 50.0  # percent, as psutil counts: a process below it is no rival
SYSTEM = Path("/sys/devices/system/cpu")
CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True, kw_only=True)
class Check:
    """One property of the machine."""

    name: str
    seen: str
    status: Literal["ok", "note", "bad"] = "ok"
    remedy: str = ""
    """What to do, for a note or what is bad."""


def graded(name: str, seen: str, remedy: str, *, note: bool = False, bad: bool = False) -> Check:
    """Return a check at the worse of the two grades that hold."""
    if not (note or bad):
        return Check(name=name, seen=seen)
    return Check(name=name, seen=seen, status="bad" if bad else "note", remedy=remedy)


def checks(folders: Mapping[str, Path]) -> list[Check]:
    """Look at the machine for a second; `folders` are those that measuring writes to."""
    swapped, throttled = psutil.swap_memory(), throttles(SYSTEM)
    processes = list(psutil.process_iter())
    before = sentinel.look(os.getpid())
    _ = [share_of_core(process) for process in processes]  # the first call only starts psutil's count
    time.sleep(LOOK_SECONDS)
    watch = sentinel.Watch()
    watch.add(before, sentinel.look(os.getpid()))
    busy = [name_of(process) for process in processes if share_of_core(process) >= HALF_A_CORE]
    swapping = psutil.swap_memory()
    cores = usable_cores()
    shares = watch.shares()
    average = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return [
        of_cores(cores, quota(CGROUP)),
        of_load(average, shares.get("others_share", 0.0), cores),
        of_steal(shares.get("steal_share", 0.0)),
        of_processes(busy),
        of_governor(read(SYSTEM / "cpu0/cpufreq/scaling_governor")),
        of_turbo(read(SYSTEM / "intel_pstate/no_turbo"), read(SYSTEM / "cpufreq/boost")),
        of_throttling(throttled, throttles(SYSTEM)),
        of_memory(psutil.virtual_memory().available),
        of_swap(swapping.used, (swapping.sin + swapping.sout) - (swapped.sin + swapped.sout)),
        *(of_disk(name, shutil.disk_usage(existing(folder)).free) for name, folder in folders.items()),
        of_compiler(os.environ.get("CXX") or {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")),
        of_allocator(os.environ),
        *of_device(device_processes(), compute_mode()),
    ]


def of_cores(cores: int, limit: float | None) -> Check:
    """Judge how many cores a worker may use, and the container's quota, which stops threads in the midst of a step."""
    is_held = limit is not None and limit < cores
    seen = f"{cores}" + (f", of which the container may keep {limit:g} busy" if is_held else "")
    remedy = "give the container whole cores (`--cpuset-cpus`)" if is_held else "a single core waits on itself: use two"
    return graded("cores", seen, remedy, note=cores < 2, bad=is_held)


def of_load(average: float | None, others: float, cores: int) -> Check:
    """Judge the load average, and what other processes took of the machine during the look."""
    queue = "no load average" if average is None else f"load average {average:.1f} on {cores} cores"
    seen = f"{queue}; others took {others:.0%} just now"
    remedy = "close what else runs, or measure when it has ended"
    is_loaded = others > sentinel.BUSY or (average or 0.0) > cores / 2
    return graded("load", seen, remedy, note=is_loaded, bad=others > 0.5)


def of_steal(share: float) -> Check:
    """Judge the time that the host gave to other machines."""
    remedy = "a virtual machine with cores of its own, or more launches"
    return graded("steal", f"{share:.1%} just now", remedy, note=share > 0.01, bad=share > 4 * sentinel.STOLEN)


def of_processes(busy: Sequence[str]) -> Check:
    """Judge the other processes that use half a core or more."""
    seen = ", ".join(sorted(busy)) or "none uses half a core"
    return graded("other processes", seen, "end them, or wait until they have ended", note=bool(busy))


def of_governor(name: str | None) -> Check:
    """Judge how the kernel chooses the clock rate."""
    remedy = "`sudo cpupower frequency-set -g performance`: with another one the clock follows the load"
    return graded("governor", name or "this machine does not say", remedy, note=name not in (None, "performance"))


def of_turbo(no_turbo: str | None, boost: str | None) -> Check:
    """Judge whether cores may clock above their base rate."""
    is_on = no_turbo == "0" if no_turbo else boost == "1"
    seen = "on" if is_on else "off" if no_turbo or boost else "this machine does not say"
    remedy = "ratios of one run hold; to compare times of two runs, switch it off in the firmware or in " + (
        f"{SYSTEM}/intel_pstate/no_turbo" if no_turbo else f"{SYSTEM}/cpufreq/boost"
    )
    return graded("turbo", seen, remedy, note=is_on)


def of_throttling(before: int | None, after: int | None) -> Check:
    """Judge how often cores were slowed down for heat."""
    if before is None or after is None:
        return Check(name="throttling", seen="this machine does not say")
    seen = f"{after} times since boot, {after - before} just now"
    return graded("throttling", seen, "mend the cooling, or let it cool down", note=after > 0, bad=after > before)


def of_memory(available: int) -> Check:
    """Judge the bytes of memory that are free; a tiny model's worker takes half a GiB, a block has several."""
    remedy = "close what holds memory, or take smaller blocks"
    seen = f"{available / GIB:.1f} GiB available"
    return graded("memory", seen, remedy, note=available < 4 * GIB, bad=available < 2 * GIB)


def of_swap(used: int, moved: int) -> Check:
    """Judge the bytes in swap, and those moved during the look."""
    seen = f"{used / GIB:.1f} GiB in use" + (", moving" if moved else "")
    return graded("swap", seen, "free memory, or `sudo swapoff -a`", note=used > GIB / 16, bad=moved > 0)


def of_disk(name: str, free: int) -> Check:
    """Judge the bytes free where runs or caches go; traces and compile caches take some hundred MiB a run."""
    remedy = "free some space, or have it elsewhere (`--runs`, XDG_CACHE_HOME)"
    return graded(f"disk for {name}", f"{free / GIB:.0f} GiB free", remedy, note=free < 5 * GIB, bad=free < GIB)


def of_compiler(name: str) -> Check:
    """Judge whether the C++ compiler that torch.compile needs on a CPU is there."""
    path = shutil.which(name)
    return graded("C++ compiler", path or f"no {name}", f"install {name} to measure `compile`", note=path is None)


def of_allocator(environment: Iterable[str]) -> Check:
    """Judge the environment's settings for malloc, which every worker inherits."""
    own = sorted(name for name in environment if name.startswith("MALLOC_") or name in ("GLIBC_TUNABLES", "LD_PRELOAD"))
    remedy = "unset them, unless your own programs run with them, too"
    return graded("allocator", ", ".join(own) or "the system's", remedy, note=bool(own))


def of_device(programs: Sequence[str] | None, mode: str | None) -> list[Check]:
    """Judge the programs on the NVIDIA device and how many it lets in; None where there is no such device."""
    if programs is None:
        return []
    seen = ", ".join(sorted(programs)) or "no other process"
    found = [graded("GPU", seen, "end them, or wait until they have ended", bad=bool(programs))]
    if mode:
        remedy = "`sudo nvidia-smi --id=0 --compute-mode=DEFAULT`, or its number: a block has several processes on it"
        found.append(graded("compute mode", mode, remedy, bad=mode in EXCLUSIVE))
    return found


def device_processes() -> list[str] | None:
    """Return the names of the programs on the first NVIDIA device that torch may use; None where nothing tells."""
    listed = nvidia_smi("--query-compute-apps=process_name")
    return None if listed is None else sorted({line.split()[0].rpartition("/")[2] for line in listed})


def compute_mode() -> str | None:
    """Return how many processes the first NVIDIA device that torch may use lets in, in the driver's own word."""
    return next(iter(nvidia_smi("--query-gpu=compute_mode") or ()), None)


def nvidia_smi(query: str) -> list[str] | None:
    """Return the lines that are not empty of what the driver's tool tells of that device; None if it tells nothing."""
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    command = ["nvidia-smi", f"--id={first}", query, "--format=csv,noheader"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    return [line.strip() for line in listed.splitlines() if line.strip()]


def share_of_core(process: psutil.Process) -> float:
    """Return the percent of a core that another process took since it was last asked; 0 for this one."""
    try:
        return 0.0 if process.pid == os.getpid() else process.cpu_percent()
    except psutil.Error:
        return 0.0


def name_of(process: psutil.Process) -> str:
    """Return a process's name: no command line, which may hold what is nobody's business."""
    try:
        return str(process.name())
    except psutil.Error:
        return "a process that has ended"


def throttles(system: Path) -> int | None:
    """Return how often cores were slowed down for heat since boot; None where Linux does not count it."""
    counts = [read(path) for path in system.glob("cpu[0-9]*/thermal_throttle/core_throttle_count")]
    return sum(int(count) for count in counts if count and count.isdigit()) if counts else None


def quota(cgroup: Path) -> float | None:
    """Return how many cores the container may keep busy, or None where there is no limit."""
    limit, _, period = (read(cgroup / "cpu.max") or "").partition(" ")
    if not period:  # cgroups version 1
        limit, period = (read(cgroup / f"cpu/cpu.cfs_{name}_us") or "" for name in ("quota", "period"))
    return int(limit) / int(period) if limit.isdigit() and period.isdigit() else None


def usable_cores() -> int:
    """Return the number of cores that a worker may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def existing(folder: Path) -> Path:
    """Return the folder, or the nearest above it that exists."""
    whole = folder.resolve()
    return next(path for path in (whole, *whole.parents) if path.exists())


def read(path: Path) -> str | None:
    """Return the stripped text of a file, or None where there is none to read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None
