"""What torch-tb-profiler makes of a trace, in process: a second reading, and what it knows more of a GPU's kernels.

Its tensor-core columns are not shown: it does not know the names of newer kernels.
"""

import json
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.traces.read import text_of
from reports.document import Cell, Note, exact

RUNTIME = ("cuda_runtime", "cuda_driver", "xpu_runtime", "privateuse1_runtime")  # names that it does not know yet
MORE = {  # its column -> ours
    "Mean Blocks Per SM": ("blocks per multiprocessor", 1.0, "1"),
    "Mean Est. Achieved Occupancy (%)": ("achieved occupancy, estimated", 0.01, "share"),
}


def profile_of(path: Path) -> Any:
    """Return torch-tb-profiler's profile of a trace, as its views get it."""
    from torch_tb_profiler.profiler import trace
    from torch_tb_profiler.profiler.data import RunProfileData
    from torch_tb_profiler.profiler.run_generator import RunGenerator

    trace.EventTypeMap.update(dict.fromkeys(RUNTIME, trace.EventTypes.RUNTIME))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it calls pandas in ways of before
        found = json.loads(text_of(path))
        events = {"traceEvents": found} if isinstance(found, list) else found
        data = RunProfileData.from_json("worker", "span", events)
        return RunGenerator("worker", "span", data).generate_run_profile()


def second_reading(path: Path) -> Any | None:
    """Return torch-tb-profiler's profile, or None of a trace that it cannot read though it is one."""
    try:
        return profile_of(path)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError):
        return None


def kernel_columns(profile: Any) -> tuple[tuple[str, ...], Mapping[str, tuple[Cell, ...]]]:
    """Return the headings of what it knows more of kernels, and kernel -> cells."""
    if not profile.kernel_table:  # a GPU that only copied
        return (), {}
    table = profile.kernel_table["data"]
    names = [column["name"] for column in table["columns"]]
    known = [(names.index(name), *more) for name, more in MORE.items() if name in names]
    cells = {
        row[0]: tuple(exact(row[number] * factor, unit) for number, _, factor, unit in known) for row in table["rows"]
    }
    return tuple(heading for _, heading, _, _ in known), cells


def device_notes(profile: Any) -> Iterator[Note]:
    """Yield how busy it finds each GPU."""
    summary = profile.gpu_summary or []
    told = [f"{item['title']} {item['value']}" for item in summary if item["title"] in SUMMARY]
    if told:
        yield Note(parts=(f"torch-tb-profiler: {', '.join(told)}",))


SUMMARY = ("GPU Utilization", "Est. SM Efficiency", "Est. Achieved Occupancy")
