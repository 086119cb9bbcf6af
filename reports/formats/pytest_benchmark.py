"""For `pytest-benchmark compare` and its histogram: a benchmark a case, a value a launch, in seconds."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from harness.benchmark_files import full_name
from harness.wire import portable
from reports.document import CaseResult, Document, Result

VALUE = "one value a launch: the median over its rounds of the median over a round's steps"


def render(document: Document) -> str:
    """Return the cases that have step times as pytest-benchmark's JSON; what has none is listed under `tandem`."""
    from pytest_benchmark import __version__

    results = document.results
    first = results[0].run if results else {}
    data = {
        "machine_info": machine(results),
        "commit_info": commit(first.get("commit")),
        "benchmarks": [benchmark(result, case) for result in results for case in result.cases if is_measured(case)],
        "datetime": first.get("started"),
        "version": __version__,
        "tandem": {
            "runs": [result.run for result in results],
            "unmeasured": [
                {"run": result.run["id"], "case": case.case, "outcome": case.outcome, "reason": case.reason}
                for result in results
                for case in result.cases
                if not is_measured(case)
            ],
            "differences": [asdict(item) for result in results for item in result.differences],
        },
    }
    return json.dumps(portable(data), indent=1) + "\n"


def is_measured(case: CaseResult) -> bool:
    """Tell whether a case has step times that count."""
    is_sound = all(0 < seconds < math.inf for seconds in case.launches)
    return case.outcome == "ok" and bool(case.launches) and is_sound


def benchmark(result: Result, case: CaseResult) -> dict[str, Any]:
    """Return a case as pytest-benchmark's plug-in would have recorded it: same name, same group."""
    name = full_name(case.variant["name"])
    return {
        "group": case.block,
        "name": name,
        "fullname": full_name("tandem", result.run["suite"], case.block, name),
        "params": None,
        "param": None,
        "extra_info": extra(result, case),
        "options": {"timer": "worker_clock"},
        "stats": statistics(case.launches),
    }


def extra(result: Result, case: CaseResult) -> dict[str, Any]:
    """Return what the plug-in keeps of a case, the other metrics, and what a value is."""
    environment = result.environments.get(case.facts.get("environment", case.variant["torch"]), {})
    metrics = {name: quantity.estimate.center for name, quantity in case.metrics.items()}
    return {
        "run": result.run["id"],
        "case": case.case,
        "workload": case.workload,
        "variant": case.variant,
        "device": case.facts.get("device"),
        "torch": environment.get("torch"),
        "tokens_per_step": metrics.get("tokens"),
        "hardware": environment.get("line"),
        "reference": case.facts.get("reference"),
        "warnings": list(case.warnings),
        "metrics": metrics,
        "data": VALUE,
    }


def statistics(values: Sequence[float]) -> dict[str, Any]:
    """Return what pytest-benchmark computes of its rounds, by its own code."""
    from pytest_benchmark.stats import Stats

    stats = Stats()
    for seconds in values:
        stats.update(seconds)
    return {**stats.as_dict(), "data": list(values), "iterations": 1}


def machine(results: Sequence[Result]) -> dict[str, Any]:
    """Return the machine of the first run under pytest-benchmark's names."""
    facts: Mapping[str, Any] = next((place for result in results for place in result.environments.values()), {})
    return {
        "cpu": {"brand_raw": facts.get("cpu"), "count": facts.get("cores_logical")},
        "system": facts.get("system"),
        "python_version": facts.get("python"),
    }


def commit(described: str | None) -> dict[str, Any]:
    """Return the commit that a run was started in, whose `+` says that there were changes."""
    return {"id": (described or "unversioned").rstrip("+"), "dirty": (described or "").endswith("+")}
