"""Probes: what a step takes besides time; they disturb what they observe, so they have turns of their own, untimed."""

import ctypes
import gc
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from math import prod
from multiprocessing import active_children
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from statistics import mean, median
from typing import Any

import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.profiler import ProfilerActivity, profile, record_function
from torch.utils._pytree import tree_flatten

from harness.errors import is_out_of_memory
from harness.worker.clock import split, timed
from harness.worker.device import Device
from harness.worker.step import keeping_activations

PHASES = ("data", "forward", "backward", "optimizer")
SECOND_STEP = "tandem: second step"
RESET_HIGH_WATER_MARK = "5"  # Linux, proc(5), /proc/pid/clear_refs


def phases(step: Any, runs: Iterable[Sequence[int]], device: Device, cycle: int = 1) -> dict[str, float]:
    """Take runs of steps; return the median seconds of each phase, and their sum as a share of steps not taken apart.

    Where steps differ in a cycle, as batches of several lengths do, the mean over its places of these medians.
    """
    turns = [
        (index, turn)
        for indices in runs
        for index, turn in zip(indices, split(step.phases, indices, device), strict=True)
    ]

    def middle(name: str) -> float:
        seen: dict[int, list[float]] = {}
        for index, turn in turns:
            if name in turn:
                seen.setdefault(index % cycle, []).append(turn[name])
        return mean(map(median, seen.values()))

    whole, *parts = map(middle, ("step", *PHASES))
    seconds = {f"{phase}_seconds": part for phase, part in zip(PHASES, parts, strict=True)}
    return {**seconds, "phases_share": sum(parts) / whole}


def loading(step: Any, indices: Sequence[int], device: Device, settle: Sequence[int]) -> dict[str, float]:
    """Fetch the batches of steps and do nothing with them; return the mean seconds of those of a step.

    Those of `settle` before them are not timed: a loader has made them while the model was training.
    """
    return {"load_seconds": timed(step.load, indices, device, settle)[1] / len(indices)}


@contextmanager
def memory_peak(device: Device) -> Iterator[dict[str, int]]:
    """Yield a dictionary that holds, once left, the highest memory in between, in bytes."""
    peak: dict[str, int] = {}
    gc.collect()
    can_forget = forget_peak(device)
    yield peak
    device.synchronize()
    peak.update(read_peak(device) if can_forget else process_peak())


def loader_memory() -> dict[str, int]:
    """Return what the loader's processes, daemons as torch starts them, have to themselves; nothing without them.

    That is what would be free without them: what a fork shares with this process is in this one's figures.
    """
    private = [private_bytes(process.pid) for process in active_children() if process.daemon]
    return {"memory_loader_bytes": sum(private)} if any(private) else {}


def private_bytes(pid: int | None) -> int:
    """Return the resident bytes of a process that no other shares, by Linux's count (proc(5)); 0 where it has none."""
    try:
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return 1024 * sum(int(size) for size in re.findall(r"^Private_\w+:\s+(\d+) kB", rollup, re.M))


def memory_cold_peak(device: Device) -> dict[str, int]:
    """Return the highest memory so far, for the end of the first step: nothing is forgotten."""
    peak = {**process_peak(), **read_peak(device)}
    return {"memory_cold_peak_bytes": peak.get("memory_peak_bytes", peak["memory_peak_maxrss_bytes"])}


def forget_peak(device: Device) -> bool:
    """Give back unused memory and start a new peak from here; tell whether that is possible."""
    if accelerator := allocator(device):
        accelerator.empty_cache()
        accelerator.reset_peak_memory_stats()
        return True
    if trim := sys.platform == "linux" and getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)  # glibc keeps freed memory, which would count as resident
    try:
        Path("/proc/self/clear_refs").write_text(RESET_HIGH_WATER_MARK)
    except OSError:
        return False
    return device.kind == "cpu"


def give_back(device: Device) -> None:
    """Return memory that an accelerator's allocator keeps unused: other cases are alive beside this one and need it."""
    if accelerator := allocator(device):
        accelerator.empty_cache()


def read_peak(device: Device) -> dict[str, int]:
    """Return the highest memory since the last `forget_peak`: allocated on a GPU, resident on the CPU."""
    if accelerator := allocator(device):
        return {
            "memory_peak_bytes": accelerator.max_memory_allocated(),
            "memory_reserved_bytes": accelerator.max_memory_reserved(),
        }
    status = Path("/proc/self/status")
    found = re.search(r"^VmHWM:\s+(\d+) kB", status.read_text(), re.M) if status.exists() else None
    return {"memory_peak_bytes": int(found[1]) * 1024} if found else {}


def process_peak() -> dict[str, int]:
    """Return the highest resident memory of this process since it began."""
    unit = 1 if sys.platform == "darwin" else 1024
    return {"memory_peak_maxrss_bytes": getrusage(RUSAGE_SELF).ru_maxrss * unit}


def allocated_peak(step: Any, indices: Sequence[int], device: Device) -> dict[str, int]:
    """Run two steps; return the highest memory that tensors took in the second, in bytes, by the CPU's allocator.

    Unlike resident memory it repeats to the byte: it does not depend on which freed pages the process still has. The
    first step is recorded, too: the profiler does not report that a tensor is given back unless it saw it being made.
    Nothing for a GPU, whose allocator keeps this peak itself.
    """
    if device.kind != "cpu":
        return {}
    gc.unfreeze()  # what was frozen when the worker settled is not listed; nothing is timed hereafter
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step(indices[0])
        gc.collect()
        total = top = held_by_tensors()
        with record_function(SECOND_STEP):
            step(indices[1])
    events = sorted(profiler.profiler.kineto_results.events(), key=began)
    start = next(began(event) for event in events if event.name() == SECOND_STEP)
    for event in events:
        if event.name() == "[memory]" and began(event) >= start:
            total += event.nbytes()  # below 0 where it is given back
            top = max(top, total)
    return {"memory_allocated_peak_bytes": top}


def held_by_tensors() -> int:
    """Return the bytes behind all plain dense tensors of the CPU that are alive."""
    tensors = (item for item in gc.get_objects() if type(item) in (torch.Tensor, torch.nn.Parameter))
    dense = (item for item in tensors if item.device.type == "cpu" and item.layout is torch.strided)
    return sum(storages([item for item in dense if has_storage(item)]).values())


def has_storage(tensor: torch.Tensor) -> bool:
    """Tell whether a tensor has bytes of its own: what torch.func wraps while it traces has none."""
    try:
        storage(tensor)
    except NotImplementedError:
        return False
    return True


def began(event: Any) -> float:
    """Return when an event of the profiler began."""
    return float(event.start_ns() if hasattr(event, "start_ns") else event.start_us())  # before torch 2.4


def allocator(device: Device) -> Any:
    """Return torch's module for the device (`torch.cuda`, `torch.xpu`) if it keeps peaks, else None."""
    module = getattr(torch, device.kind, None)
    return module if hasattr(module, "reset_peak_memory_stats") else None


def attribution(step: Any) -> dict[str, int]:
    """Run forward and backward once; return the memory of each of a training step's parts, in bytes.

    Each storage counts once and whole, however many tensors share it: tied weights once, a saved slice as what it keeps
    alive. Activations are what the forward pass, as it is timed (compiled, under autocast), saves for the backward
    pass, but for parameters, buffers and the batch; the copies of the weights that autocast makes are among them. A
    compiled forward saves through the same hooks, once for its whole graph, and does not compile again for it.
    """
    batch = step.work.batch(0)
    held = storages([*step.model.parameters(), *step.model.buffers()])
    known = held.keys() | storages(batch).keys()
    saved: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        saved.update(storages(tensor))
        return tensor

    with saved_tensors_hooks(untraced(keep), untraced(lambda tensor: tensor)), step.autocast:
        loss, _ = step.evaluate(step.model, batch)
    loss.backward()
    gradients = storages([parameter.grad for parameter in step.model.parameters()])
    step.optimizer.zero_grad(set_to_none=True)
    return {
        "memory_parameters_bytes": sum(held.values()),
        "memory_gradients_bytes": sum(gradients.values()),
        "memory_optimizer_bytes": sum(storages(list(step.optimizer.state.values())).values()),
        "memory_activations_bytes": sum(size for place, size in saved.items() if place not in known),
    }


def untraced(function: Any) -> Any:
    """Return a function that Dynamo, where it is loaded, leaves alone: torch 2.0 compiles hooks, and counts them."""
    dynamo = sys.modules.get("torch._dynamo")
    return dynamo.disable(function) if dynamo else function


def storages(values: Any) -> dict[int, int]:
    """Return address -> bytes of the storages behind all tensors in `values`, however nested."""
    found = (storage(item) for item in tree_flatten(values)[0] if isinstance(item, torch.Tensor))
    return {item.data_ptr(): item.nbytes() for item in found}


def storage(tensor: torch.Tensor) -> Any:
    """Return what holds a tensor's bytes."""
    return tensor.untyped_storage() if hasattr(tensor, "untyped_storage") else tensor.storage()  # torch 1.13


def flop(step: Any, lengths: int = 1) -> dict[str, float]:
    """Run forward and backward once for each length of batch, uncompiled; return the FLOP of a step.

    Convention: matrix products and attention only, a multiply-add as two, causal attention counted full, and what
    flash kernels, or checkpointing, compute again in the backward pass not counted: so every attention backend has the
    same FLOP. Empty before torch 2.1, for flex attention, which cannot run under the counter (pytorch issue 134385),
    and where memory has no room for the uncompiled pass.
    """
    try:
        from torch.utils.flop_counter import FlopCounterMode
    except ImportError:
        return {}
    counter = FlopCounterMode(display=False, custom_mapping=attention_formulas())
    forward = 0
    try:
        with counter, step.autocast, uncompiled(), keeping_activations(step.model):
            for index in range(lengths):
                before = counter.get_total_flops()
                loss, _ = step.work.loss(step.model, step.work.batch(index))
                forward += counter.get_total_flops() - before
                loss.backward()
    except (TypeError, NotImplementedError):  # flex's refusal; the same loss has trained before
        return {}
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return {}
    finally:
        step.optimizer.zero_grad(set_to_none=True)
    by_operator = counter.get_flop_counts().get("Global", {})
    fused = sum(count for name, count in by_operator.items() if "scaled_dot_product" in str(name))
    found = {"flop": counter.get_total_flops(), "forward_flop": forward, "fused_attention_flop": fused}
    return {name: count * step.accumulate / lengths for name, count in found.items()}


def uncompiled() -> Any:
    """Return a context in which compiled code runs as it is written, where torch has one (2.6)."""
    compiler = getattr(torch, "compiler", None)
    return compiler.set_stance("force_eager") if hasattr(compiler, "set_stance") else nullcontext()


def attention_formulas() -> dict[Any, Any]:
    """Return operator -> FLOP formula of every fused attention.

    The counter's own registry lacks the CPU kernel (torch 2.13 counts it as nothing) and counts recomputation.
    """
    kinds = ("flash_attention", "flash_attention_for_cpu", "efficient_attention", "cudnn_attention")
    return {
        getattr(torch.ops.aten, f"_scaled_dot_product_{kind}{suffix}"): formula
        for kind in (*kinds, "fused_attention_overrideable")
        for suffix, formula in (("", attention_forward), ("_backward", attention_backward))
        if hasattr(torch.ops.aten, f"_scaled_dot_product_{kind}{suffix}")
    }


def attention_forward(query: Iterable[int], key: Any, value: Any, *_: Any, **__: Any) -> int:
    """Return the FLOP of QK^T and of its product with V, from shapes (batch, heads, length, dim).

    Grouped key heads save reading, not arithmetic: the heads are the query's.
    """
    *rows, dim = query
    return 2 * prod(rows) * key[-2] * (dim + value[-1])


def attention_backward(_: Any, query: Iterable[int], key: Any, value: Any, *__: Any, **___: Any) -> int:
    """Return the FLOP of the four products that give the gradients of the two forward ones."""
    return 2 * attention_forward(query, key, value)
