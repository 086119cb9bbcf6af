"""Faults: attention files with known defects, and the suites in which the doctor runs them beside the base."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from harness.sides import ROUNDS
from harness.spec import Block, Suite, Variant, Workload

FILE = "faults.py"
LEVELS = (0.02, 0.05, 0.10, 0.20)
SIDE = 96
"""Of the matrices that a slowdown multiplies: so large that computing them takes most of it, as in the step itself, and
not starting them; a machine that turns slower for a while then slows both alike."""
PROBE = 100
"""Matrix products in each attention of the probe: as many as can be told from the base's own step, and not so many that
one of them costs more or less than one of a slowdown's few."""
GROWTH = 0.02  # of the base's peak memory: twice the margin
SCALED = 1.01
BASE, CONTROL, AGAIN, PROBED, GROWN, WRONG = "base", "control", "again", "probe", "more memory", "wrong numbers"
WHOLE, BROKEN = "compiled", "graph break"
COMPILED = "compiled tiny gpt"
QUESTION = "Does Tandem keep its promises on this machine?"
WORK = Workload(task="pretraining/causal_lm", model="gpt", size="tiny", batch=4)
COUNTED = replace(WORK, settings={"layers": 1})  # a graph break shows in one layer, which compiles in half the time

HEAD = f'''"""Attention with defects of known size, written by `tandem doctor`."""

import torch

from suites.attention.sdpa import attention as sdpa

KEPT = []


def slowed(y, products):
    """Return `y` after some matrix products, whose result is used: every entry stays 1/{SIDE}."""
    with torch.no_grad():
        product = torch.full(({SIDE}, {SIDE}), 1 / {SIDE}, device=y.device)
        for _ in range(products):
            product = product @ product
    return y + 0 * product[0, 0]


def scaled(q, k, v, *, causal, mask=None):
    return {SCALED} * sdpa(q, k, v, causal=causal, mask=mask)


def broken(q, k, v, *, causal, mask=None):
    torch._dynamo.graph_break()
    return sdpa(q, k, v, causal=causal, mask=mask)
'''
SLOWED = """

def {name}(q, k, v, *, causal, mask=None):
    return slowed(sdpa(q, k, v, causal=causal, mask=mask), {products})
"""
GREW = """

def grown(q, k, v, *, causal, mask=None):
    if not KEPT:
        KEPT.append(torch.ones({size}, dtype=torch.uint8, device=q.device))  # zeros would touch no page
    return sdpa(q, k, v, causal=causal, mask=mask)
"""


def write_probe(folder: Path) -> None:
    """Write the file of the probe."""
    (folder / FILE).write_text(HEAD + SLOWED.format(name="probe", products=PROBE), encoding="utf-8")


def write_faults(folder: Path, products: Mapping[float, int], growth: int) -> None:
    """Write the file of all faults: slowdown -> matrix products in each attention, and bytes that are kept alive."""
    slower = [SLOWED.format(name=function(level), products=number) for level, number in products.items()]
    (folder / FILE).write_text(HEAD + "".join(slower) + GREW.format(size=growth), encoding="utf-8")


def function(level: float) -> str:
    """Return the name of a slowdown's function."""
    return f"slower_{level * 100:.0f}"


def slower(level: float) -> str:
    """Return the name of a slowdown's variant."""
    return f"+{level:.0%}"


def products(base: float, probe: float) -> dict[float, int]:
    """Return slowdown -> matrix products in each attention, from seconds of a step of the base and of the probe.

    The products of the probe ran in every layer, as those of the faults will: the number of layers cancels.
    """
    unit = (probe - base) / PROBE
    return {level: max(1, round(level * base / unit)) for level in LEVELS}


def variant(name: str, fault: str = "", compile: str = "none") -> Variant:
    """Return a variant with a fault of the file, or with none."""
    return Variant(name=name, attention=f"{FILE}:{fault}" if fault else "sdpa", compile=compile)


def probing() -> Suite:
    """Return the short suite that says what a matrix product costs here."""
    pair = Block(workload=WORK, variants=(variant(BASE), variant(PROBED, "probe")))
    return made("doctor-probe", pair, launches=1, rounds=ROUNDS // 2)


def faulty(*, launches: int, rounds: int) -> Suite:
    """Return the suite of base, control, the base once more and every fault, in turns; then the compiled pair."""
    eager = (
        *(variant(name) for name in (BASE, CONTROL, AGAIN)),
        *(variant(slower(level), function(level)) for level in LEVELS),
        variant(GROWN, "grown"),
        variant(WRONG, "scaled"),
    )
    pair = (variant(WHOLE, compile="default"), variant(BROKEN, "broken", compile="default"))
    blocks = Block(workload=WORK, variants=eager), Block(name=COMPILED, workload=COUNTED, variants=pair)
    return made("doctor", *blocks, launches=launches, rounds=rounds)


def made(name: str, *blocks: Block, launches: int, rounds: int) -> Suite:
    """Return a suite of the doctor, which trains nothing to an end."""
    return Suite(name=name, question=QUESTION, blocks=blocks, launches=launches, rounds=rounds, quality_steps=0)
