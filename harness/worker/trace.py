"""Trace: torch.profiler over some steps, an operator table from it, and which attention kernel really ran.

Beside the operators the trace holds spans named after the phases (`tandem: forward`) and after the modules of a model
that runs as it is written (`nn.Module: layers.0.mlp`), and what was allocated and given back.
"""

import inspect
import json
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn
from torch.profiler import ProfilerActivity, profile, record_function, schedule

from harness.worker.device import Device
from harness.worker.outside import outside

TOP = 20
PHASE = "tandem: "
MODULE = "nn.Module: "  # as torch's own tracer of Python calls has it
MARKS = (PHASE, MODULE, "ProfilerStep")  # spans that hold operators and are none
ATTENTION = (  # operator or kernel -> backend; the first that fits: cuDNN's kernels have "flash" in their names too
    ("sdpa_cudnn", r"cudnn_attention|cudnn.*(sdpa|fmha|flash)"),
    ("sdpa_efficient", r"efficient_attention|fmha_cutlass"),
    ("flex", r"flex_attention"),
    ("sdpa_flash", r"flash_attention|flash_(fwd|bwd)"),
    ("sdpa_math", r"attention_math"),
)


def trace(
    step: Any, indices: Sequence[int], device: Device, folder: Path, modules: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Profile the steps `indices`, the first only to warm the profiler up; write the trace where TensorBoard looks.

    `modules` are marked by name. Return the file's name, the operators that take most of a step, the attention seen,
    and on a GPU the kernels a step. A GPU's trace without a kernel tells neither time nor attention, and is not kept.
    """
    traced = len(indices) - 1
    profiled = profile(
        activities=activities(device),
        schedule=schedule(wait=0, warmup=1, active=traced, repeat=1),
        profile_memory=True,
    )
    with marked_modules(modules or {}), profiled as profiler:
        for index in indices:
            marked_step(step, index)
            device.synchronize()  # a kernel belongs to the step that queued it
            profiler.step()
    folder.mkdir(parents=True, exist_ok=True)
    path = (
        folder / f"{device.kind}.{time.time_ns() // 1_000_000}.pt.trace.json"
    )  # <worker>.<ms>: torch-tb-profiler's rule
    profiler.export_chrome_trace(str(path))
    make_anonymous(path)
    events = profiler.key_averages()
    kernels = [] if device.kind == "cpu" else kernel_names(path)
    names = [event.key for event in events if not event.key.startswith(MARKS)]
    found = {
        "file": path.name,
        "operators": operators(events, traced),
        "attention_actual": attention_seen(names + kernels),
    }
    if device.kind == "cpu":
        return {**found, **outside(profiler.events(), traced)}
    if not kernels:
        path.unlink()
        return {"kernels_per_step": 0.0}
    return {**found, "kernels_per_step": len(kernels) / traced}


def marked_step(step: Any, index: int) -> None:
    """Run a step, each phase within a span of its name."""
    micro_batch = ("data", "forward", "backward")
    running = step.phases(index)
    for phase in (*micro_batch * step.accumulate, "optimizer"):
        with record_function(PHASE + phase):
            done = next(running)
        assert done == phase, f"{done} ended where {phase} was marked"
    for _ in running:
        raise AssertionError("a step goes on after its optimizer")


@contextmanager
def marked_modules(modules: Mapping[str, Any]) -> Iterator[None]:
    """Put the forward pass of each module within a span of its name."""
    spans: list[Any] = []  # a stack: modules call each other

    def enter(name: str, *_: Any) -> None:
        spans.append(record_function(MODULE + name))
        spans[-1].__enter__()

    def leave(*_: Any) -> None:
        spans.pop().__exit__(None, None, None)

    # Checkpointing ends its second forward pass, once it has what it needs, by an exception (from torch 2.1 on).
    can_always = "always_call" in inspect.signature(nn.Module.register_forward_hook).parameters
    always = {"always_call": True} if can_always else {}
    hooks = [module.register_forward_pre_hook(partial(enter, name)) for name, module in modules.items()]
    hooks += [module.register_forward_hook(leave, **always) for module in modules.values()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def activities(device: Device) -> list[Any]:
    """Return what to record: the CPU, and the device where this torch can."""
    on_device = None if device.kind == "cpu" else getattr(ProfilerActivity, device.kind.upper(), None)
    return [ProfilerActivity.CPU, on_device] if on_device else [ProfilerActivity.CPU]


def make_anonymous(path: Path) -> None:
    """Take the names of the host and of the folder out of a trace, which torch writes beside its events."""
    text = path.read_text(encoding="utf-8")
    path.write_text(re.sub(r'"(host_name|traceName)": "[^"]*"', r'"\1": ""', text), encoding="utf-8")


def kernel_names(path: Path) -> list[str]:
    """Return the name of each kernel that the trace saw on the device."""
    events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    return [event["name"] for event in events if event.get("cat") == "kernel"]


def operators(events: Iterable[Any], steps: int) -> list[dict[str, Any]]:
    """Return the operators with the most time of their own a step: on the device if any has some, else on the CPU.

    A kernel's time is its operator's; the kernels themselves, which the events hold too, are left out.
    """
    called = [event for event in events if "CPU" in str(event.device_type) and not event.key.startswith(MARKS)]
    own_time = device_time if any(map(device_time, called)) else cpu_time
    table: dict[str, dict[str, Any]] = {}
    for event in called:
        row = table.setdefault(plain(event.key), {"name": plain(event.key), "seconds": 0.0, "calls": 0.0})
        row["seconds"] += own_time(event) / 1e6 / steps
        row["calls"] += event.count / steps
    rows = [row for row in table.values() if row["seconds"] > 0]
    return sorted(rows, key=lambda row: -row["seconds"])[:TOP]


def cpu_time(event: Any) -> float:
    """Return an operator's own microseconds on the CPU."""
    return event.self_cpu_time_total  # type: ignore[no-any-return]


def device_time(event: Any) -> float:
    """Return an operator's own microseconds on the device; the later name is that of torch before 2.4."""
    return getattr(event, "self_device_time_total", None) or getattr(event, "self_cuda_time_total", 0.0)


def plain(name: str) -> str:
    """Return an operator's name without the hash of a compiled graph, so that two runs can be compared."""
    return re.sub(r"## Call (\w+) \w+ ##", r"\1 (fused kernels)", name)


def attention_seen(names: Iterable[str]) -> str:
    """Return the attention backends seen, joined by `+` where layers differ.

    `formula` means that no attention kernel was seen: the formula itself, or SDPA's math once a compiler took it apart.
    """
    seen = {backend for name in names if (backend := attention_of(name))}
    return "+".join(sorted(seen)) or "formula"


def attention_of(name: str) -> str | None:
    """Return the attention backend that an operator or kernel belongs to, if any."""
    return next((backend for backend, pattern in ATTENTION if re.search(pattern, name)), None)
