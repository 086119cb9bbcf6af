"""A trace as torch.profiler writes it, JSON or gzip of it -> Trace; what is no such trace is refused in a sentence."""

import gzip
import json
import math
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from harness.errors import UserError

MOST_BYTES = 200 * 2**20  # about 600,000 events; Python's objects take some ten times as much memory as the text
DEVICE = ("kernel", "gpu_memcpy", "gpu_memset")
OPERATOR, MARK = "cpu_op", "user_annotation"
STEP, MEMORY = "ProfilerStep", "[memory]"
NUMBERS = ("External id", "external id", "Sequence number", "Fwd thread id")
SECONDS = 1e-6  # a trace counts in microseconds


@dataclass(frozen=True, slots=True)
class Span:
    """Something that ran on a thread, or on a stream of a device, from `start` to `end`: seconds into the trace."""

    name: str
    category: str
    start: float
    end: float
    thread: str
    numbers: Mapping[str, int]
    """Those of its arguments that tie it to others."""

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Allocation:
    """Memory taken (`size` above 0) or given back, on the CPU or a device."""

    at: float
    size: int
    address: int
    device: tuple[int, int]
    """Type and number; the CPU's type is 0."""
    thread: str


@dataclass(frozen=True, kw_only=True)
class Trace:
    """What a trace holds, in order of time; where spans begin at once, the one that holds the other comes first."""

    path: Path
    steps: tuple[Span, ...]
    """Of a trace that marks none, all of it as one."""
    spans: tuple[Span, ...]
    """Operators and marks (phases, modules, steps) of the CPU's threads."""
    device: tuple[Span, ...]
    """Kernels and copies on a device; empty where only the CPU ran."""
    memory: tuple[Allocation, ...]

    @property
    def step(self) -> Span:
        """The middle one of the traced steps by its time: what disturbs one of three does not count."""
        return sorted(self.steps, key=lambda step: step.seconds)[(len(self.steps) - 1) // 2]


def read_trace(path: Path) -> Trace:
    """Read a trace; raise UserError if it is truncated, too large, no JSON, or of another tool."""
    events = events_of(path)
    origin = next((event.get("ts", 0) for event in events if isinstance(event, dict) and event.get("ph") == "X"), 0)
    spans: list[Span] = []
    device: list[Span] = []
    memory: list[Allocation] = []
    for number, event in enumerate(events):
        try:
            kind, category = event.get("ph"), event.get("cat")
            if kind == "X" and (category in (OPERATOR, MARK) or category in DEVICE):
                (device if category in DEVICE else spans).append(span_of(event, origin))
            elif kind == "i" and event.get("name") == MEMORY:
                memory.append(allocation_of(event, origin))
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
            foreign(path, f"its event {number + 1} has not the fields that torch.profiler writes")
    if not any(span.category == OPERATOR for span in spans):
        foreign(path, "it holds no operator")
    spans.sort(key=lambda span: (span.start, -span.end))
    steps = tuple(span for span in spans if span.name.startswith(STEP))
    if not steps:
        steps = (Span("whole trace", MARK, spans[0].start, max(span.end for span in spans), spans[0].thread, {}),)
        spans.insert(0, steps[0])
    if any(step.seconds == 0 for step in steps):
        foreign(path, "a step in it takes no time")
    device.sort(key=lambda span: span.start)
    return Trace(
        path=path,
        steps=steps,
        spans=tuple(spans),
        device=tuple(device),
        memory=tuple(sorted(memory, key=lambda item: item.at)),
    )


def span_of(event: Mapping[str, Any], origin: float) -> Span:
    """Return a complete event; raise what Python raises where it is not torch.profiler's."""
    start = (event["ts"] - origin) * SECONDS
    end = start + event["dur"] * SECONDS
    if not (math.isfinite(end) and end >= start):
        raise ValueError(end)
    arguments = event.get("args", {})
    numbers = {name: arguments[name] for name in NUMBERS if isinstance(arguments.get(name), int)}
    return Span(str(event["name"]), event["cat"], start, end, f"{event['pid']}/{event['tid']}", numbers)


def allocation_of(event: Mapping[str, Any], origin: float) -> Allocation:
    """Return an instant at which memory was taken or given back."""
    told = event["args"]
    return Allocation(
        at=(event["ts"] - origin) * SECONDS,
        size=int(told["Bytes"]),
        address=int(told["Addr"]),
        device=(int(told["Device Type"]), int(told["Device Id"])),
        thread=f"{event['pid']}/{event['tid']}",
    )


def events_of(path: Path) -> list[Any]:
    """Return the events in a trace file."""
    text = text_of(path)
    try:
        found = json.loads(text)
    except ValueError as error:  # of the JSON, or of its encoding
        if text[:1] in (b"{", b"[") and (text[-1:] not in (b"}", b"]") or is_at_end(error)):
            cut_short(path)
        raise UserError(f"{path} is no trace: it is not JSON", "give a file that torch.profiler wrote") from None
    except RecursionError:
        foreign(path, "it is nested too deep")
    events = found.get("traceEvents") if isinstance(found, dict) else found
    if not isinstance(events, list):
        foreign(path, "it holds no traceEvents")
    return events


def text_of(path: Path) -> bytes:
    """Return the text of a trace, unpacked where it is packed."""
    try:
        with path.open("rb") as file:
            is_packed = file.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rb") if is_packed else path.open("rb") as opened:
            text: bytes = opened.read(MOST_BYTES + 1)  # no more, however much a small file unpacks to
    except (EOFError, zlib.error, gzip.BadGzipFile):
        cut_short(path)
    except IsADirectoryError:
        raise UserError(f"{path} is a folder", "give a file that torch.profiler wrote") from None
    if len(text) > MOST_BYTES:
        raise UserError(
            f"trace {path} holds more than {MOST_BYTES // 2**20} MiB",
            "trace fewer steps or a smaller model, or open it in https://ui.perfetto.dev",
        )
    if not text.strip():
        cut_short(path)
    return text.strip()


def is_at_end(error: ValueError) -> bool:
    """Tell whether JSON failed where its text ends."""
    return isinstance(error, json.JSONDecodeError) and not error.doc[error.pos :].strip()


def cut_short(path: Path) -> NoReturn:
    """Refuse a trace that ends too soon."""
    raise UserError(f"trace {path} is truncated", "copy it again from where it was made, or trace again") from None


def foreign(path: Path, why: str) -> NoReturn:
    """Refuse what is JSON but no trace of torch.profiler."""
    raise UserError(f"{path} is no trace of torch.profiler: {why}", "give a file that torch.profiler wrote") from None


def trace_files(folder: Path) -> Iterator[Path]:
    """Yield the traces in a folder of a case, the newest last."""
    yield from sorted(path for pattern in ("*.pt.trace.json", "*.pt.trace.json.gz") for path in folder.glob(pattern))
