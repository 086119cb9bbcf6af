"""Insights: what torch.compile made: each compilation with its guard, the kernels and what they fuse.

From Dynamo's records of its compilations (torch 2.1) and from the code that Inductor wrote. An older release leaves out
what it does not know; nothing here imports what was not imported to compile.
"""

import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from harness.worker.compiler import beginning, hit_limit, reason_line

RECORDS = 1024  # compilations; Dynamo itself forgets all but the last 64
KERNELS = 40  # kernels listed; the counts hold all of them
TOO_OFTEN = "given up: compiled too often"
DEFINED = re.compile(r"^(\w+) = async_compile\.\w+\(", re.MULTILINE)
CALLED = re.compile(r"^[^#\n]*?\b(?:extern_kernels\.(\w+)|torch\.ops\.\w+\.(\w+)(?:\.\w+)?)\(", re.MULTILINE)


def keep_records() -> None:
    """Let Dynamo remember every compilation of a session."""
    utils = sys.modules["torch._dynamo.utils"]
    if hasattr(utils, "set_compilation_metrics_limit"):
        utils.set_compilation_metrics_limit(RECORDS)


def found() -> dict[str, Any]:
    """Return counts, and facts for `tandem explain`; both empty where nothing was compiled."""
    utils = sys.modules.get("torch._dynamo.utils")
    records = getattr(utils, "get_compilation_metrics", list)()
    sources = [*generated_code(sys.modules.get("torch._inductor.codecache"))]
    if not records and not sources:
        return {"counts": {}, "facts": {}}
    compiled, (generated, libraries) = compilations(records), kernels(sources)
    # Before its records told, torch counted it among what it cannot do (2.0: "cache_size_limit reached").
    refused = int(any("limit reached" in text for text in utils.counters.get("unimplemented", ()))) if utils else 0
    counts = {
        "recompile_limits": max(len({row["place"] for row in compiled if row["outcome"] == TOO_OFTEN}), refused),
        "generated_kernels": sum(generated.values()),
        "library_kernels": sum(libraries.values()),
    }
    before = getattr(sys.modules.get("torch._inductor.metrics"), "ir_nodes_pre_fusion", 0)
    facts = {
        "compilations": compiled,
        "generated_kernels": listed(generated),
        "library_kernels": listed(libraries),
    }
    return {"counts": {**counts, **({"operators_before_fusion": before} if before else {})}, "facts": facts}


def compilations(records: Iterable[Any]) -> list[dict[str, Any]]:
    """Return for each compilation where, how large its graph is, its seconds, and which guard had failed before it.

    The seconds of the backward graph, which is compiled later and has a record of its own, are added to it. A
    compilation that was refused names no function: it is known by the first number of its id.
    """
    table: list[dict[str, Any]] = []
    places: dict[str, str] = {}
    for record in records:
        number = getattr(record, "compile_id", None) or ""
        if getattr(record, "is_forward", True) is False:
            seconds = (getattr(record, "duration_us", None) or 0) / 1e6
            for row in table:
                row["seconds"] += seconds * (row["id"] == number)
        elif record.co_name or hit_limit(record):
            function = number.split("/")[0] or str(record.co_firstlineno)
            place = places.setdefault(function, beginning(record))
            table.append(
                {
                    "id": number,
                    "place": place,
                    "operators": record.graph_op_count or 0,
                    "guards": record.guard_count or 0,
                    "seconds": record.entire_frame_compile_time_s or 0.0,
                    "guard": reason_line(getattr(record, "recompile_reason", None) or ""),
                    "outcome": outcome(record),
                }
            )
    return table


def outcome(record: Any) -> str:
    """Return what became of a compilation."""
    if hit_limit(record):
        return TOO_OFTEN
    if record.fail_reason:
        return "given up"
    return "compiled" if record.graph_op_count else "no graph"


def generated_code(codecache: Any) -> Iterator[str]:
    """Yield the code of each graph that Inductor compiled or loaded; its kernels' own files are left out."""
    cache = getattr(codecache, "PyCodeCache", None)
    modules = getattr(cache, "modules", None) or getattr(cache, "cache", None) or ()
    for module in modules.values() if isinstance(modules, dict) else modules:
        path = Path(getattr(module, "__file__", None) or "")
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        if "\ndef call(" in text or "def call(self" in text:
            yield text


def kernels(sources: Iterable[str]) -> tuple[Counter[str], Counter[str]]:
    """Return how often the graphs call each generated kernel, named after what it fuses, and each of a library."""
    generated: Counter[str] = Counter()
    libraries: Counter[str] = Counter()
    for text in sources:
        for name in DEFINED.findall(text):
            calls = len(re.findall(rf"^(?!{name} =)[^#\n]*\b{name}(?:\.run)?\(", text, re.MULTILINE))
            generated[re.sub(r"_\d+$", "", name)] += calls
        libraries.update(extern or operator for extern, operator in CALLED.findall(text))
    return generated, libraries


def listed(counts: Counter[str]) -> list[dict[str, Any]]:
    """Return names with their calls, most first."""
    return [{"name": name, "calls": calls} for name, calls in counts.most_common(KERNELS)]
