"""Traces written by hand, in the words of torch.profiler: what the reader is tested on, without torch."""

import json
from pathlib import Path
from typing import Any

Event = dict[str, Any]
MAIN, AUTOGRAD, STREAM = (1, 1), (1, 2), (0, 7)  # process and thread; of a kernel, device and stream


def op(name: str, start: float, took: float, number: int = 0, thread: tuple[int, int] = MAIN, **more: Any) -> Event:
    """Return an operator: microseconds; `number` ties it to kernels."""
    told = {"External id": number, "Record function id": 0, **more}
    pid, tid = thread
    return {"ph": "X", "cat": "cpu_op", "name": name, "pid": pid, "tid": tid, "ts": start, "dur": took, "args": told}


def mark(name: str, start: float, took: float) -> Event:
    """Return a span that holds operators: a step, a phase, a module."""
    return {**op(name, start, took), "cat": "user_annotation"}


def kernel(name: str, start: float, took: float, number: int, category: str = "kernel") -> Event:
    """Return a kernel that an operator has launched."""
    told = {"External id": number, "device": 0, "stream": 7, "correlation": number}
    told |= {"blocks per SM": 0.5, "est. achieved occupancy %": 40, "warps per SM": 1.0}
    pid, tid = STREAM
    return {"ph": "X", "cat": category, "name": name, "pid": pid, "tid": tid, "ts": start, "dur": took, "args": told}


def launch(start: float, number: int, thread: tuple[int, int] = MAIN) -> Event:
    """Return the call of CUDA's runtime by which an operator launches its kernel."""
    told = {"External id": number, "correlation": number, "cbid": 211}
    return {**op("cudaLaunchKernel", start, 3, number, thread), "cat": "cuda_runtime", "args": told}


def memory(at: float, size: int, address: int, device: int = 0, thread: tuple[int, int] = MAIN) -> Event:
    """Return an instant at which memory was taken or, below 0, given back."""
    told = {"Total Allocated": 0, "Bytes": size, "Device Id": device - 1, "Device Type": device, "Addr": address}
    pid, tid = thread
    return {"ph": "i", "s": "t", "cat": "cpu_instant_event", "name": "[memory]", "pid": pid, "tid": tid, "ts": at,
            "args": told}  # fmt: skip


def backward(number: int) -> dict[str, int]:
    """Return what ties an operator of the backward pass to the one of the forward pass."""
    return {"Sequence number": number, "Fwd thread id": 1}


def step_events(start: float = 0.0, number: int = 1, slower: float = 1.0) -> list[Event]:
    """Return a step of 1,000 microseconds on a CPU; `slower` multiplies the time of `aten::mm`.

    Forward: `layers.0.mlp` with aten::linear of 200, of which aten::mm 100, then aten::gelu of 50. Backward: of
    aten::mm 200, in 220 of autograd. Optimizer: aten::sqrt of 30. All else is between operators.
    """
    more = 300 * (slower - 1)
    half = more / 3
    return [
        mark(f"ProfilerStep#{number}", start, 1000 + more),
        mark("tandem: data", start + 10, 20),
        mark("enumerate(DataLoader)#_SingleProcessDataLoaderIter.__next__", start + 12, 15),
        mark("tandem: forward", start + 40, 360 + half),
        mark("nn.Module: layers.0", start + 50, 300 + half),
        mark("nn.Module: layers.0.mlp", start + 60, 220 + half),
        op("aten::linear", start + 65, 200 + half, 11, **{"Sequence number": 5, "Fwd thread id": 0}),
        op("aten::mm", start + 70, 100 + half, 12, **{"Sequence number": 5, "Fwd thread id": 0}),
        memory(start + 75, 4096, 0xA),
        op("aten::gelu", start + 285 + half, 50, 13, **{"Sequence number": 6, "Fwd thread id": 0}),
        memory(start + 290 + half, 1024, 0xB),
        mark("tandem: backward", start + 400 + half, 400 + 2 * half),
        op("autograd::engine::evaluate_function: MmBackward0", start + 410 + half, 220 + 2 * half, 14, **backward(5)),
        op("aten::mm", start + 420 + half, 200 + 2 * half, 15),
        memory(start + 425 + half, 8192, 0xC),
        memory(start + 430 + half, -1024, 0xB),
        memory(start + 700 + more, -4096, 0xA),
        mark("tandem: optimizer", start + 900 + more, 80),
        op("aten::sqrt", start + 910 + more, 30, 16),
        memory(start + 960 + more, -8192, 0xC),
    ]


def gpu_events() -> list[Event]:
    """Return a step of 1,000 microseconds whose kernels run on a GPU; the backward pass has a thread of its own."""
    return [
        mark("ProfilerStep#1", 0, 1000),
        mark("tandem: forward", 0, 200),
        mark("nn.Module: head", 5, 100),
        op("aten::mm", 10, 50, 21, **{"Sequence number": 3, "Fwd thread id": 0}),
        op("aten::relu", 120, 20, 22),
        mark("tandem: backward", 200, 300),
        op("autograd::engine::evaluate_function: MmBackward0", 210, 100, 23, AUTOGRAD, **backward(3)),
        op("aten::mm", 220, 50, 24, AUTOGRAD),
        launch(12, 21),
        launch(122, 22),
        launch(222, 24, AUTOGRAD),
        kernel("sm90_gemm", 100, 300, 21),
        kernel("relu_kernel", 350, 100, 22),  # 50 of them while the one before still runs
        kernel("sm90_gemm", 500, 400, 24),
        kernel("Memcpy DtoH", 920, 10, 99, "gpu_memcpy"),  # of no operator that is known
        memory(15, 1 << 20, 0xD, device=1),
    ]


def write_trace(path: Path, events: list[Event]) -> Path:
    """Write events as torch.profiler does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"schemaVersion": 1, "deviceProperties": [], "traceEvents": events}))
    return path
