"""Files of pytest-benchmark: what Tandem's benchmarks are called in them, and reading them."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.spec import slugify

MACHINE = ("node", "machine", "system", "release", "python_version")
REMEDY = "give a file of `--benchmark-json` or `tandem report --format pytest-benchmark`"


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """What a file says of a benchmark: the quartiles of its values, in seconds."""

    name: str
    """The full name: two files hold the same benchmark where it is equal."""
    group: str
    rounds: int
    lower: float
    median: float
    upper: float
    hardware: str


@dataclass(frozen=True, kw_only=True)
class Session:
    """One file: its benchmarks by name, and what it says of the machine."""

    name: str
    machine: dict[str, Any]
    benchmarks: dict[str, Benchmark]


def full_name(*names: str) -> str:
    """Return the full name of a case from `tandem`, suite, block and variant, or a part of it."""
    return "::".join(map(slugify, names))


def read_session(path: Path) -> Session:
    """Read a file; raise UserError if it is not pytest-benchmark's, or holds no benchmark."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as JSON: {error}", REMEDY) from None
    try:
        found = [benchmark(item) for item in content["benchmarks"]]
        known = machine(content.get("machine_info") or {})
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        message = f"{path} is not as pytest-benchmark writes it: {type(error).__name__}: {error}"
        raise UserError(message, REMEDY) from None
    if not found:
        raise UserError(f"{path} holds no benchmark", "see in its session why none was measured")
    return Session(name=path.name, machine=known, benchmarks={item.name: item for item in found})


def benchmark(item: dict[str, Any]) -> Benchmark:
    """Return one entry; raise ValueError where its times are no times."""
    stats = item["stats"]
    lower, median, upper = (float(stats[name]) for name in ("q1", "median", "q3"))
    if not 0 < lower <= median <= upper < math.inf:
        raise ValueError(f"the quartiles of {item['fullname']!r} are {lower}, {median} and {upper}")
    return Benchmark(
        name=str(item["fullname"]),
        group=str(item.get("group") or ""),
        rounds=int(stats["rounds"]),
        lower=lower,
        median=median,
        upper=upper,
        hardware=str((item.get("extra_info") or {}).get("hardware") or ""),
    )


def machine(info: dict[str, Any]) -> dict[str, Any]:
    """Return the facts about a machine that change neither by the second nor with its load."""
    return {"cpu": (info.get("cpu") or {}).get("brand_raw"), **{name: info.get(name) for name in MACHINE}}
