"""Compile counters: what torch.compile has cost so far, and what it could not compile.

Seconds come from Dynamo's own timers, which nest: a frame contains the backend's call, which contains Inductor; a
backward graph is compiled lazily, in the first backward pass. Taken apart here into stages that do not overlap:

- dynamo: tracing Python and building guards;
- aot: AOTAutograd, forward and backward graphs, and looking up its cache;
- inductor: generating, building or loading kernels, forward and backward.

What a compiled graph does in its first run on a GPU (autotuning, recording CUDA graphs) is in the first step's time.
"""

import os
import re
import shutil
import sys
import sysconfig
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from harness.worker.ability import older

# Dynamo's timers by stage; the later names are those of older releases (2.0 to 2.12 looked up in their sources).
FRAME = ("_compile.compile_inner", "_compile.<locals>.compile_inner", "_compile")
BACKEND = ("OutputGraph.call_user_compiler",)
LAZY_BACKWARD = ("backward._backward_impl",)
INDUCTOR_BACKWARD = ("compile_fx.<locals>.bw_compiler",)
INDUCTOR = (
    "compile_fx.<locals>.fw_compiler_base",
    "compile_fx.<locals>.fw_compiler",
    *INDUCTOR_BACKWARD,
    "AOTAutogradCache.inductor_load",
)
ANOTHER = "another graph break occurred: ***"  # before the reason why a break costs the whole function
LONGEST_REASON = 300  # characters; Dynamo's own run to a page


def counters() -> dict[str, Any]:
    """Return what compiling has cost this process so far: seconds by stage, counts, reasons.

    Empty where torch._dynamo was never imported: it is not imported here, for that takes a second.
    """
    utils = sys.modules.get("torch._dynamo.utils")
    if utils is None:
        return {}
    breaks = graph_breaks(utils)
    return {
        **seconds(utils),
        "graphs": utils.counters.get("stats", {}).get("unique_graphs", 0),
        "graph_breaks": len(breaks),
        "recompiles": recompiles(utils),
        "graph_break_reasons": breaks,
        "recompile_reasons": recompile_reasons(utils),
    }


def skipped_graphs() -> bool:
    """Tell whether Inductor left CUDA graphs out that were asked for, as it does where an operator runs on the CPU."""
    utils = sys.modules.get("torch._dynamo.utils")
    return bool(utils and utils.counters.get("inductor", {}).get("cudagraph_skips"))


def recompiled() -> int:
    """Return how many compilations so far were not the first of their code; cheap enough for every turn."""
    utils = sys.modules.get("torch._dynamo.utils")
    return recompiles(utils) if utils else 0


def seconds(utils: Any) -> dict[str, float]:
    """Return the seconds of compiling in total and by stage; the stages sum to the total."""
    timers = getattr(utils, "compilation_time_metrics", None) or getattr(utils, "compilation_metrics", {})

    def total(names: Iterable[str]) -> float:
        return sum(sum(timers.get(name, ())) for name in names)

    frames, backend, inductor = total(FRAME), total(BACKEND), total(INDUCTOR)
    backward = total(INDUCTOR_BACKWARD if older(torch.__version__, "2.6") else LAZY_BACKWARD)
    return {
        "compile_seconds": frames + backward,
        "dynamo_seconds": max(0.0, frames - backend),
        "aot_seconds": max(0.0, backend + backward - inductor),
        "inductor_seconds": inductor,
    }


def graph_breaks(utils: Any) -> list[str]:
    """Return a line for each place where compiled code fell back to Python.

    Those are graph breaks, counted once however many frames run through them, and functions that Dynamo gave up as
    a whole, which it counts nowhere: a break inside a loop runs everything around it eagerly.
    """
    breaks = [
        reason_line(reason.reason, place(reason.user_stack[-1]) if reason.user_stack else "")
        for reason in getattr(utils, "graph_break_reasons", ())
    ]
    given_up = [
        reason_line(metrics.fail_reason.split(ANOTHER)[-1], f"{beginning(metrics)}: all of it runs eagerly")
        for metrics in getattr(utils, "get_compilation_metrics", list)()
        if metrics.fail_reason and not hit_limit(metrics)
    ]
    in_torch_2_0 = (
        [] if hasattr(utils, "graph_break_reasons") else list(map(reason_line, utils.counters["graph_break"]))
    )
    return list(dict.fromkeys(breaks + given_up + in_torch_2_0))


def hit_limit(metrics: Any) -> bool:
    """Tell whether a compilation was refused because its function has been compiled too often."""
    return bool(re.search(r"recompile.limit|cache.size.limit", metrics.fail_reason or "", re.IGNORECASE))


def beginning(metrics: Any) -> str:
    """Return where the function begins that a record of Dynamo's is about."""
    name = function_name(metrics.co_name or "a function")
    file = getattr(metrics, "co_filename", None)
    return f"{short(file)}:{metrics.co_firstlineno} in {name}" if file else name


def recompiles(utils: Any) -> int:
    """Return how many compilations were not the first of their code."""
    compiled = getattr(sys.modules["torch._dynamo.convert_frame"], "FRAME_COMPILE_COUNTER", None)
    if compiled is None:  # torch 2.0 keeps one failure a recompilation
        return sum(map(len, utils.guard_failures.values()))
    return sum(count - 1 for count in compiled.values())


def recompile_reasons(utils: Any) -> list[str]:
    """Return a line for each way in which a guard failed."""
    lines = (
        reason_line(str(failure), place_of(code))
        for code, failures in utils.guard_failures.items()
        for failure in failures
    )
    return list(dict.fromkeys(lines))


def reason_line(text: str, where: str = "") -> str:
    """Return Dynamo's reason as one line: its title, its explanation, where; no address, no path of this machine."""
    title, *rest = text.strip().split("\n")
    explanation = next((line.split("Explanation:")[1].strip() for line in rest if "Explanation:" in line), "")
    line = ": ".join(part for part in (title.split("  # ")[0].strip(), explanation) if part)
    line = re.sub(r"^\d+/\d+: ", "", line)  # the compile id
    line = re.sub(r" at 0x[0-9a-f]+", "", line)
    line = re.sub(r"(?:/[^\s/'\"]+)+/([^\s/'\"]+/[^\s/'\"]+)", r"\1", line)
    line = line if len(line) <= LONGEST_REASON else line[: LONGEST_REASON - 3] + "..."
    return f"{line} ({where})" if where else line


def place(frame: Any) -> str:
    """Return a stack frame as `folder/file.py:12 in function`."""
    return f"{short(frame.filename)}:{frame.lineno} in {function_name(frame.name)}"


def place_of(code: Any) -> str:
    """Return where a code object begins."""
    return f"{short(code.co_filename)}:{code.co_firstlineno} in {function_name(code.co_name)}"


def short(path: str) -> str:
    """Return the last folder and the file of a path."""
    return "/".join(Path(path).parts[-2:])


def function_name(name: str) -> str:
    """Return the user's function behind a name that Dynamo made for its continuation after a break."""
    return re.sub(r"^torch_dynamo_resume_in_(.+)_at_\d+$", r"\1", name)


def missing_compiler(device: Any) -> str | None:
    """Return why torch.compile cannot build kernels for `device` here, or None if it can."""
    try:
        from torch._dynamo.eval_frame import check_if_dynamo_supported

        check_if_dynamo_supported()
    except RuntimeError as error:
        return f"torch.compile of torch {torch.__version__}: {error}"
    if device.kind == "mps":
        return None  # Metal's shader compiler is part of macOS
    if not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        return "no Python headers, which compiled kernels include: install python3-dev"
    return missing_cpp() if device.kind == "cpu" else missing_triton()


def missing_cpp() -> str | None:
    """Return why Inductor finds no C++ compiler, or None; it runs $CXX, else g++ (macOS: clang++)."""
    compiler = cpp_compiler()
    if shutil.which(compiler):
        return None
    return f"no C++ compiler: {compiler} is not there; install g++, or set CXX to a C++ compiler"


def cpp_compiler() -> str:
    """Return the name of the C++ compiler that Inductor runs."""
    return os.environ.get("CXX") or {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")


def missing_triton() -> str | None:
    """Return why Inductor cannot build GPU kernels, or None: it needs Triton, and Triton a C compiler."""
    if find_spec("triton") is None:
        return "no Triton, which torch.compile needs on a GPU: install triton"
    if not any(shutil.which(name) for name in (os.environ.get("CC"), "gcc", "clang", "cc") if name):
        return "no C compiler, which Triton needs: install gcc"
    return None
