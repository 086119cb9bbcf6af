"""Ceilings against independent measurements, in turns: python docs/figures/ceilings.py [ROUNDS]

Matrix products against NumPy's BLAS and against torch.utils.benchmark, the triad against one written in C (OpenMP).
Prints each ratio, ceiling over other, with its 95 % interval over rounds.
"""

import ctypes
import math
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from torch.utils.benchmark import Timer

from harness.stats import estimate
from harness.work import Place
from suites.attention import sdpa
from suites.ceilings import matmul, memory

SIDE, SIZE = 2048, 2**28
TRIAD = """
#include <stdlib.h>
static float *restrict a, *restrict b, *restrict c;
void make(size_t n) {
    a = malloc(n * sizeof *a); b = malloc(n * sizeof *b); c = malloc(n * sizeof *c);
    for (size_t i = 0; i < n; i++) { a[i] = 0; b[i] = i; c[i] = n - i; }
}
void triad(size_t n) {
    #pragma omp parallel for simd schedule(static)
    for (size_t i = 0; i < n; i++) a[i] = b[i] + 3.0f * c[i];
}
"""


def place(precision: str) -> Place:
    """Return where the ceilings are measured here: the CPU."""
    return Place(device=torch.device("cpu"), precision=precision, attention=sdpa.attention, data={}, effort=1)


def seconds(step: Callable[[], object]) -> float:
    """Return the seconds of one call, after one that is not timed: the threads of the way before still spin."""
    step()
    began = perf_counter()
    step()
    return perf_counter() - began


def compiled(folder: Path) -> ctypes.CDLL:
    """Return the triad in C, built with the compiler's own parallel loop."""
    (folder / "triad.c").write_text(TRIAD)
    options = ["-O3", "-march=native", "-fopenmp", "-shared", "-fPIC"]
    subprocess.run(["gcc", *options, "-o", folder / "triad.so", folder / "triad.c"], check=True)
    return ctypes.CDLL(str(folder / "triad.so"))


def product(precision: str, dtype: str) -> dict[str, Callable[[], float]]:
    """Return what measures FLOP/s of a square product: the ceiling, NumPy, and torch.utils.benchmark."""
    ceiling = matmul.prepare(place(precision), rows=SIDE, inner=SIDE, columns=SIDE)
    draw = np.random.default_rng(0)
    a, b = (draw.standard_normal((SIDE, SIDE)).astype(dtype) for _ in range(2))
    timer = Timer("torch.mm(a, b)", globals={"a": torch.from_numpy(a), "b": torch.from_numpy(b), "torch": torch},
                  num_threads=torch.get_num_threads())  # fmt: skip
    flop = 2.0 * SIDE**3
    return {
        "ceiling": lambda: ceiling.amount["flop"] / seconds(ceiling.step),
        "NumPy": lambda: flop / seconds(lambda: a @ b),
        "torch.utils.benchmark": lambda: flop / timer.timeit(1).mean,
    }


def bandwidth(library: ctypes.CDLL) -> dict[str, Callable[[], float]]:
    """Return what measures bytes/s of a triad: the ceiling, and C."""
    ceiling = memory.prepare(place("fp32"), operation="triad", size=SIZE)
    length = SIZE // (3 * memory.ELEMENT)
    library.make(ctypes.c_size_t(length))  # as torch has its memory: NumPy asks for huge pages, which are 15 % faster
    moved = 3.0 * memory.ELEMENT * length
    return {
        "ceiling": lambda: ceiling.amount["moved_bytes"] / seconds(ceiling.step),
        "C": lambda: moved / seconds(lambda: library.triad(ctypes.c_size_t(length))),
    }


def compare(what: str, ways: dict[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """Measure in turns, print and return the ratio of the ceiling to each other way."""
    for way in ways.values():
        way()
    found: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        for name in list(ways)[:: 1 if number % 2 else -1]:
            found[name].append(math.log(ways[name]()))
    ratios = {}
    for name in list(ways)[1:]:
        told = estimate(np.subtract(found["ceiling"], found[name]))
        ratios[name] = math.exp(told.center)
        ends = f"{math.exp(told.low):.3f} to {math.exp(told.high):.3f}"
        rate = math.exp(float(np.median(found["ceiling"])))
        print(f"{what}: {rate:.4g}/s, ceiling over {name}: {ratios[name]:.3f} ({ends})", flush=True)
    return ratios


def main(rounds: int = 20) -> dict[str, dict[str, float]]:
    """Compare everything."""
    with tempfile.TemporaryDirectory() as folder:
        return {
            "float32 products": compare("float32 products", product("fp32", "float32"), rounds),
            "float64 products": compare("float64 products", product("fp64", "float64"), rounds),
            "triad": compare("triad", bandwidth(compiled(Path(folder))), rounds),
        }


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
