"""Ceilings in this process: each is prepared once and then stepped in turns, the others waiting in memory."""

import os
import re
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import torch

from harness import names
from harness.errors import Unavailable
from harness.work import Ceiling, Place
from harness.worker import clock, energy, precision
from harness.worker.ability import refusing, usable_device
from harness.worker.system import read

EFFORT = {"cpu": 1}
EFFORT_ELSEWHERE = 256
KEPT_FREE = 0.25  # share of the free memory that no ceiling takes: with none left the system would swap
CGROUP = Path("/sys/fs/cgroup")
Message = Mapping[str, Any]


class Prepared:
    """The ceilings that this process has prepared, by case."""

    def __init__(self) -> None:
        self.ready: dict[str, tuple[Ceiling, Any, Any]] = {}

    def probe(self, message: Message) -> dict[str, Any]:
        """Run `settle` steps untimed, then time `steps`; the first time prepare the ceiling and check its result."""
        case, reply = message["case"], {}
        if case not in self.ready:
            with refusing():
                self.ready[case], reply = prepared(message)
            clock.settle_garbage()
        ceiling, device, around = self.ready[case]
        precision.switch_tf32(message["variant"]["precision"])
        with refusing(), torch.no_grad(), around():
            settle = range(message.get("settle", 0))
            seconds, wall = clock.timed(lambda _: ceiling.step(), range(message["steps"]), device, settle)
        return {**reply, "seconds": seconds, "wall": wall, "state": state(device)}


def prepared(message: Message) -> tuple[tuple[Ceiling, Any, Any], dict[str, Any]]:
    """Return a ceiling with its device and what its turns are to be entered by; and what there is to tell of it."""
    variant, folders = message["variant"], [Path(folder) for folder in message["folders"]]
    if reason := message["data"].get("unavailable"):
        raise Unavailable(reason)
    attention = names.find("attention", variant["attention"], folders)
    device = usable_device(variant, attention, trains=False)
    place = Place(
        device=device.torch,
        precision=variant["precision"],
        attention=attention.load(),
        data=message["data"],
        effort=EFFORT.get(device.kind, EFFORT_ELSEWHERE),
    )
    precision.switch_tf32(variant["precision"])
    room(message["settings"].get("size", 0), device)
    torch.manual_seed(0)
    ceiling = names.find("ceiling", message["task"], folders).load()(place, **message["settings"])
    around = getattr(attention.module(), "around", nullcontext)
    reply: dict[str, Any] = {"metrics": dict(ceiling.amount), "device": device.kind}
    with torch.no_grad(), around():
        if ceiling.error:
            reply["errors"] = {"output_error": ceiling.error()}
    return (ceiling, device, around), reply


def room(size: int, device: Any) -> None:
    """Raise Unavailable if a working set of `size` bytes is more than this machine has free."""
    free = free_bytes(device)
    if free is not None and size > free * (1 - KEPT_FREE):
        gib = 2**30
        raise Unavailable(
            f"a working set of {size / gib:.3g} GiB does not fit into the {free / gib:.3g} GiB that are free; "
            "a smaller one, where the suite has one, stands for it"
        )


def free_bytes(device: Any) -> int | None:
    """Return the memory that can still be had, within the container's limit if it has one; None where it is unknown."""
    asked = getattr(getattr(torch, device.kind, None), "mem_get_info", None)
    if device.kind != "cpu" and asked:
        return int(asked()[0])
    found = re.search(r"^MemAvailable:\s+(\d+) kB", read(Path("/proc/meminfo")) or "", re.M)
    free = [int(found[1]) * 1024] if found else []
    limit, used = (read(CGROUP / name) or "" for name in ("memory.max", "memory.current"))
    if limit.isdigit() and used.isdigit():
        cached = re.search(r"^inactive_file (\d+)$", read(CGROUP / "memory.stat") or "", re.M)  # given up when asked
        free.append(int(limit) - int(used) + (int(cached[1]) if cached else 0))
    return min(free, default=None)


def state(device: Any) -> dict[str, float]:
    """Return the device's clock in hertz, its degrees Celsius, and what holds the clock, where they can be read."""
    found: dict[str, float] = {}
    if device.kind == "cuda":
        for ask in (
            lambda: {"clock_hertz": torch.cuda.clock_rate() * 1e6},
            lambda: {"celsius": float(torch.cuda.temperature())},
            energy.held_by,
        ):
            with suppress(Exception):  # torch before 2.1 has none, and of NVML the bindings may be missing
                found.update(ask())
        return found
    if device.kind != "cpu":
        return found  # the host's clock says nothing of it
    clocks = [int(text) for core in cores() if (text := read(core) or "").isdigit()]
    if clocks:
        found["clock_hertz"] = sum(clocks) / len(clocks) * 1000  # told in kHz
    sensors = (read(sensor) or "" for sensor in Path("/sys/class/thermal").glob("thermal_zone*/temp"))
    if degrees := [int(text) for text in sensors if text.lstrip("-").isdigit()]:
        found["celsius"] = max(degrees) / 1000
    return found


def cores() -> list[Path]:
    """Return where the clock of each core that this process may use is told."""
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    return [Path(f"/sys/devices/system/cpu/cpu{core}/cpufreq/scaling_cur_freq") for core in usable]
