"""A run for TensorBoard: its traces where the profiler's plug-in looks, loss and throughput as scalars."""

import shutil
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path

from harness.errors import UserError
from harness.figures import Figures
from harness.spec import Case
from harness.traces.read import trace_files

HOST = "127.0.0.1"
Scalars = Mapping[str, Sequence[tuple[int, float]]]
"""Tag -> (step, value)."""


def write_folder(found: Figures, folder: Path, put: Callable[[Path, Path], object] = shutil.copy2) -> None:
    """Make a folder for TensorBoard, all of it or none: for each case its traces, by `put`, and its scalars."""
    if folder.exists():
        raise UserError(f"{folder} exists", "name a folder that does not")
    partial = folder.with_name(f".partial-{folder.name}")
    try:
        partial.mkdir(parents=True)
        for case in found.run.suite.cases:
            (partial / case.id).mkdir()
            for path in trace_files(found.run.path / "traces" / case.id):
                put(path.resolve(), partial / case.id / path.name)
            write_scalars(partial / case.id, scalars(found, case))
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def scalars(found: Figures, case: Case) -> Scalars:
    """Return a case's curves: training loss and scores over training steps, times and throughput over launches."""
    curves: dict[str, list[tuple[int, float]]] = {"loss/training": sorted(found.losses.get(case.id, {}).items())}
    for metric, launches in found.curves.get(case.id, {}).items():
        curves[f"quality/{metric}"] = sorted(launches[min(launches)].items()) if launches else []
    for metric in ("tokens_per_second", "samples_per_second"):
        curves[f"throughput/{metric}"] = sorted(found.of(case, metric).items())
    curves["time/step_seconds"] = sorted(found.of(case, "step_seconds").items())
    return {tag: points for tag, points in curves.items() if points}


def write_scalars(folder: Path, curves: Scalars) -> None:
    """Write scalars as TensorBoard's events."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    if not curves:
        return
    with closing(EventFileWriter(str(folder))) as writer:
        for tag, points in curves.items():
            for step, value in points:
                summary = Summary(value=[Summary.Value(tag=tag, simple_value=value)])
                writer.add_event(Event(step=step, wall_time=float(step), summary=summary))


def serve(folder: Path, port: int) -> str:
    """Start TensorBoard, for this machine alone, in threads of this process, and return its address."""
    from tensorboard import default, program

    server = program.TensorBoard(default.get_plugins())
    options = {"--logdir": str(folder), "--host": HOST, "--port": str(free_port(port)), "--load_fast": "false"}
    server.configure(argv=["tensorboard", *(f"{name}={value}" for name, value in options.items())])
    return str(server.launch())


def free_port(port: int) -> int:
    """Return a port that is free: the one asked for, or for 0 any; raise UserError if it is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError) as error:
            remedy = "give another with --port, 0 for any free one"
            raise UserError(f"port {port} cannot be had: {error}", remedy) from None
        return int(probe.getsockname()[1])
