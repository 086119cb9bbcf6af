"""Energy: joules of a step, from the device's own counter, without what the machine takes while it does nothing.

A GPU counts millijoules since its driver started (NVML, nvmlDeviceGetTotalEnergyConsumption, Volta or newer); a
processor counts microjoules of its package (RAPL), which Linux shows below powercap and wraps at a stated range.
"""

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.errors import Unavailable
from harness.worker.system import read

POWERCAP = Path("/sys/class/powercap")
IDLE_SECONDS = {"cuda": 2.0}
IDLE_SECONDS_ELSEWHERE = 0.5
BUSY_SECONDS = {"cuda": 3.0}
BUSY_SECONDS_ELSEWHERE = 1.0  # counters move every millisecond (RAPL) to tenth of a second (NVML)
CALM_SECONDS = {"cuda": 2.0}
"""Until a GPU's power has fallen to that of idling: 178 W were read right after load."""
POWER, HEAT = 0x04 | 0x80, 0x20 | 0x40
"""Reasons for a lower clock, as NVML numbers them (nvmlClocksEventReasons): cap and brake, software and hardware."""
Counter = Callable[[], list[float]]
"""Joules of each part that counts; each only grows, but for where it wraps."""


def counter(device: Any, powercap: Path = POWERCAP) -> tuple[Counter, list[float]]:
    """Return what reads the joules so far, and where each wraps to 0; raise Unavailable if nothing here counts them."""
    if device.kind == "cuda":
        return nvml(), [float("inf")]
    if device.kind != "cpu":
        raise Unavailable(f"no counter of energy is known for {device.kind}")
    return rapl(powercap)


def nvml() -> Counter:
    """Return the GPU's counter."""
    try:
        import pynvml

        pynvml.nvmlInit()
        handle = handle_of(pynvml)
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except ImportError:
        raise Unavailable(
            "a GPU's energy is read through NVML, in the extra `nvidia`: pip install nvidia-ml-py"
        ) from None
    except Unavailable:
        raise
    except Exception as error:
        remedy = "Volta or newer counts it, and a container needs NVIDIA_DRIVER_CAPABILITIES=utility"
        raise Unavailable(f"this GPU counts no energy: {error}; {remedy}") from error
    return lambda: [pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3]


def held_by() -> dict[str, float]:
    """Return whether power, and whether heat, hold a GPU's clock down, as 0 or 1; raise where NVML does not tell."""
    import pynvml

    pynvml.nvmlInit()
    reasons = pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle_of(pynvml))
    return {"held_by_power": float(bool(reasons & POWER)), "held_by_heat": float(bool(reasons & HEAT))}


def handle_of(pynvml: Any) -> Any:
    """Return NVML's handle of the GPU that torch calls the first, which NVML may number otherwise."""
    import torch

    found = getattr(torch.cuda.get_device_properties(0), "uuid", None)  # older torch does not tell it
    if not found and pynvml.nvmlDeviceGetCount() > 1:
        raise Unavailable(f"torch {torch.__version__} does not tell which of several GPUs it uses")
    return pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{found}") if found else pynvml.nvmlDeviceGetHandleByIndex(0)


def rapl(powercap: Path) -> tuple[Counter, list[float]]:
    """Return the counter of all processor packages."""
    packages: dict[str, Path] = {}  # the dies of a package count the same, and so may another driver
    for zone in sorted(powercap.glob("intel-rapl:*")):
        if package := re.match(r"package-\d+", read(zone / "name") or ""):
            packages.setdefault(package[0], zone)
    files = [zone / "energy_uj" for zone in packages.values()]
    if not files:
        raise Unavailable("no counter of energy here: Linux shows none of the processor's (RAPL), as in most clouds")
    try:
        for file in files:
            file.read_text()
    except OSError as error:
        raise Unavailable(f"{files[0]} cannot be read: {error.strerror}; sudo chmod a+r {files[0]}") from error
    ranges = [float(read(zone / "max_energy_range_uj") or "inf") / 1e6 for zone in packages.values()]
    return (lambda: [float(file.read_text()) / 1e6 for file in files]), ranges


def spent(before: list[float], after: list[float], ranges: list[float]) -> float:
    """Return the joules between two readings; a counter that has become smaller has wrapped once."""
    return sum(
        end - start + (around if end < start else 0.0) for start, end, around in zip(before, after, ranges, strict=True)
    )


def of_steps(step: Callable[[], None], device: Any, powercap: Path = POWERCAP, lengths: int = 1) -> dict[str, float]:
    """Run steps for a second or more, three on CUDA; return joules of a step above idle, and the watts of idling.

    Of batches of several `lengths`, which follow each other, whole rounds through them.
    """
    joules_so_far, ranges = counter(device, powercap)
    device.synchronize()
    if device.kind in CALM_SECONDS:
        time.sleep(CALM_SECONDS[device.kind])
    began, before = time.perf_counter(), joules_so_far()
    time.sleep(IDLE_SECONDS.get(device.kind, IDLE_SECONDS_ELSEWHERE))
    idle = spent(before, joules_so_far(), ranges) / (time.perf_counter() - began)
    count, began, before = 0, time.perf_counter(), joules_so_far()
    while time.perf_counter() - began < BUSY_SECONDS.get(device.kind, BUSY_SECONDS_ELSEWHERE):
        for _ in range(lengths):
            step()
        device.synchronize()
        count += lengths
    seconds, joules = time.perf_counter() - began, spent(before, joules_so_far(), ranges)
    return {"step_joules": max(0.0, joules - idle * seconds) / count, "idle_watts": idle}
