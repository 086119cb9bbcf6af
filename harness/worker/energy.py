"""Energy: joules of a step, from the device's own counter, without what the machine takes while it does nothing.

A GPU counts millijoules since its driver started (NVML, nvmlDeviceGetTotalEnergyConsumption, Volta or newer); a
processor counts microjoules of its package (RAPL), which Linux shows below powercap and wraps at a stated range.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.errors import Unavailable

POWERCAP = Path("/sys/class/powercap")
IDLE_SECONDS = 0.5
BUSY_SECONDS = 1.0  # counters move every millisecond (RAPL) to tenth of a second (NVML)
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
        handle = pynvml.nvmlDeviceGetHandleByUUID(gpu_uuid())
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except ImportError:
        raise Unavailable("a GPU's energy is read through NVML: pip install nvidia-ml-py") from None
    except Exception as error:
        raise Unavailable(f"this GPU counts no energy: {error}") from error
    return lambda: [pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3]


def gpu_uuid() -> str:
    """Return the UUID of the GPU that torch calls the first, which NVML may number otherwise."""
    import torch

    return f"GPU-{torch.cuda.get_device_properties(0).uuid}"


def rapl(powercap: Path) -> tuple[Counter, list[float]]:
    """Return the counter of all processor packages."""
    packages = [zone for zone in sorted(powercap.glob("*:*")) if text(zone / "name").startswith("package")]
    files = [zone / "energy_uj" for zone in packages]
    if not files:
        raise Unavailable("no counter of energy here: Linux shows none of the processor's (RAPL), as in most clouds")
    try:
        for file in files:
            file.read_text()
    except OSError as error:
        raise Unavailable(f"{files[0]} cannot be read: {error.strerror}; sudo chmod a+r {files[0]}") from error
    ranges = [float(text(zone / "max_energy_range_uj") or "inf") / 1e6 for zone in packages]
    return (lambda: [float(file.read_text()) / 1e6 for file in files]), ranges


def text(path: Path) -> str:
    """Return the stripped text of a file, nothing where there is none."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def spent(before: list[float], after: list[float], ranges: list[float]) -> float:
    """Return the joules between two readings; a counter that has become smaller has wrapped once."""
    return sum(
        end - start + (around if end < start else 0.0) for start, end, around in zip(before, after, ranges, strict=True)
    )


def of_steps(step: Callable[[], None], device: Any, powercap: Path = POWERCAP) -> dict[str, float]:
    """Run steps for a second or more; return joules of a step above idle, and the watts of doing nothing."""
    read, ranges = counter(device, powercap)
    device.synchronize()
    began, before = time.perf_counter(), read()
    time.sleep(IDLE_SECONDS)
    idle = spent(before, read(), ranges) / (time.perf_counter() - began)
    count, began, before = 0, time.perf_counter(), read()
    while time.perf_counter() - began < BUSY_SECONDS:
        step()
        device.synchronize()
        count += 1
    seconds, joules = time.perf_counter() - began, spent(before, read(), ranges)
    return {"step_joules": max(0.0, joules - idle * seconds) / count, "idle_watts": idle}
