"""Outside: how much of forward and backward ran outside compiled graphs, from the profiler's events of a CPU."""

import re
from collections.abc import Iterable, Iterator
from typing import Any

TOP = 20
TRAINED = ("tandem: forward", "tandem: backward")
GRAPH = re.compile(r"^## Call \w+ \w+ ##$")  # Inductor's own mark around a call of a compiled graph (torch 2.1)
GRAPH_FUNCTIONS = ("CompiledFunction", "CompiledFunctionBackward")
MACHINERY = re.compile(
    r"^(CompiledFunction(Backward)?|autograd::engine::evaluate_function: CompiledFunctionBackward|Pregraph bytecode"
    r"|TorchDynamo Cache Lookup|Torch-Compiled Region.*|AOTDispatcher Runtime Wrapper.*)$"
)
CALLING, PYTHON = "calling compiled graphs: guards, wrappers", "Python that the trace does not name"
# Products and attention: library kernels, the same in eager and in compiled code.
LIBRARY = re.compile(
    r"^(aten|mkldnn|mkl|onednn)::_?(mm|addmm\w*|bmm|baddbmm|mkl_linear|linear_pointwise\w*|\w*convolution\w*"
    r"|scaled_dot_product_(flash|efficient|cudnn)\w*|flash_attention\w*|efficient_attention\w*)$"
)


def outside(events: Iterable[Any], steps: int) -> dict[str, Any]:
    """Return the shares of forward and backward, and the operators that took most outside; empty without a graph.

    Of the time of both phases, Python included, `library_share` is in matrix products and attention, wherever they are
    called from; the rest is inside (`generated_share`) or outside (`outside_share`) of compiled graphs. The profiler
    makes small operators dearer, and most of these are outside: that share is high rather than low.
    """
    whole = graphs = library = library_in_graphs = 0.0
    table: dict[str, dict[str, Any]] = {}
    for event in events:
        if event.name in TRAINED:
            whole += event.cpu_time_total
        above = [parent.name for parent in ancestors(event)]
        if event.name not in TRAINED and not any(name in TRAINED for name in above):
            continue
        is_inside = any(map(GRAPH.match, above))
        if GRAPH.match(event.name):
            graphs += 0.0 if is_inside else event.cpu_time_total
        elif LIBRARY.match(event.name):
            library += event.self_cpu_time_total
            library_in_graphs += event.self_cpu_time_total * is_inside
        if not is_inside and not GRAPH.match(event.name):
            name = CALLING if MACHINERY.match(event.name) else PYTHON if event.name in TRAINED else event.name
            row = table.setdefault(name, {"name": name, "seconds": 0.0, "calls": 0.0})
            row["seconds"] += event.self_cpu_time_total / 1e6 / steps
            row["calls"] += (name != CALLING or event.name in GRAPH_FUNCTIONS) / steps
    if not graphs:
        return {}
    generated = graphs - library_in_graphs
    shares = {
        "library_share": library / whole,
        "generated_share": generated / whole,
        "outside_share": (whole - library - generated) / whole,
    }
    rows = [row for row in table.values() if row["seconds"] > 0]
    return {"shares": shares, "outside_compiled": sorted(rows, key=lambda row: -row["seconds"])[:TOP]}


def ancestors(event: Any) -> Iterator[Any]:
    """Yield what an event was called in, the nearest first."""
    while event := event.cpu_parent:
        yield event
