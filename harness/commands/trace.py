"""`tandem trace`: where the time and memory of a traced step went, what differs between two, TensorBoard on them."""

import threading
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Optional

import typer

from harness.commands.options import Format, Output, Runs, end_by_interrupt, run_path
from harness.commands.report import deliver
from harness.errors import UserError

PERFETTO = "https://ui.perfetto.dev"
FORMATS = ("terminal", "markdown", "html", "json")
Name = Annotated[Optional[str], typer.Argument(metavar="[CASE]", help="A case: its variant, id or a part of it.")]


def trace(
    run: Annotated[
        str,
        typer.Argument(metavar="RUN", help="A run: path, id or `latest`; or a file that torch.profiler wrote."),
    ],
    case: Name = None,
    other: Annotated[
        Optional[str],
        typer.Argument(metavar="[CASE]", help="A second one: where its step takes more or less time than the first's."),
    ] = None,
    tensorboard: Annotated[
        bool,
        typer.Option("--tensorboard", help="Start TensorBoard on 127.0.0.1 over the run; with -o, write its folder."),
    ] = False,
    port: Annotated[int, typer.Option(metavar="N", help="TensorBoard's port, 0 for any free one.")] = 6006,
    format: Format = "terminal",
    output: Output = None,
    runs: Runs = Path("runs"),
) -> None:
    """Show where the time of a traced step went, or what differs between the steps of two cases."""
    if tensorboard:
        if case is not None or format != "terminal":
            raise UserError("--tensorboard shows all cases, and in TensorBoard", "leave CASE and --format out")
        open_tensorboard(run_path(run, runs), port, output)
        return
    if format not in FORMATS and not format.endswith(".py"):
        raise UserError(f"a trace has no form in {format}", f"choose one of {', '.join(FORMATS)}")
    deliver(document(run, case, other, runs), format, output)


def document(run: str, case: Optional[str], other: Optional[str], runs: Path) -> Any:
    """Return the report that is asked for."""
    from harness.chosen import chosen
    from harness.store import open_run
    from reports.frame import frame_of
    from reports.traced import traced, traced_case
    from reports.traces import document_of_case, document_of_difference, document_of_run

    if Path(run).is_file():
        if other is not None or (case is not None and not Path(case).is_file()):
            raise UserError("a trace file is shown alone or against another", "give one or two files")
        found = [traced(Path(name).name, Path(name)) for name in (run, case) if name]
    else:
        frame = frame_of(open_run(run_path(run, runs)))
        cases = [chosen(frame.run.suite.cases, name) for name in (case, other) if name]
        if len(cases) > 1 and any(item.workload.lengths > 1 for item in cases):
            raise UserError(
                "a trace of varied lengths shows one of them", "compare cases of a run with --set lengths=1"
            )
        found = [traced_case(frame, item) for item in cases]
        if not found:
            return document_of_run(frame)
    return document_of_case(found[0]) if len(found) == 1 else document_of_difference(*found)


def open_tensorboard(path: Path, port: int, output: Optional[Path]) -> None:
    """Serve a run's traces and scalars until interrupted, or write them to a folder of the user's."""
    from harness.figures import figures
    from harness.store import open_run
    from harness.tensorboard import free_port, serve, write_folder

    found = figures(open_run(path))
    if output is not None:
        write_folder(found, output)
        print(output)
        return
    free_port(port)
    end_by_interrupt()
    with TemporaryDirectory(prefix="tandem-") as temporary:
        folder = Path(temporary) / found.run.id
        write_folder(found, folder, put=lambda source, target: target.symlink_to(source))
        try:
            print(f"TensorBoard: {serve(folder, port)}#pytorch_profiler; Ctrl-C ends it")
            print(f"Perfetto: open {PERFETTO}, choose `Open trace file`, and one of those in {path / 'traces'};")
            print("the browser reads it, and sends it nowhere", flush=True)
            threading.Event().wait()
        except KeyboardInterrupt:
            return
