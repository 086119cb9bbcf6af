"""How many gates catch a slowdown, no launch used twice: python docs/figures/power.py FOLDER LAUNCHES

Measures LAUNCHES launches of base, control and slowdowns side by side, adds them to those in FOLDER and gives all of
them to the gate's rule in order, each gate taking as many as it wants. A new FOLDER is calibrated first.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from harness import doctor, faults, gate, looks
from harness.commands.doctor import calibration, carried_out
from harness.figures import Figures, figures
from harness.metrics import METRICS
from harness.sides import ROUNDS
from harness.spec import Block, Suite
from harness.store import open_run

LEVELS = (0.05, 0.10, 0.20)
CALIBRATION = (2, 6)  # launches of the runs that correct the guess from the probe


def main(folder: Path, launches: int) -> None:
    """Measure, and print what the launches in `folder` say."""
    folder.mkdir(exist_ok=True)
    if not (folder / faults.FILE).exists():
        calibrate(folder)
    carried_out(suite(launches), folder, quiet=True)
    bank: dict[str, list[tuple[float, float]]] = {}  # slowdown -> launches, with the control of each
    for run in map(open_run, sorted((folder / "runs").glob("*-power-*"))):
        if run.meta["suite"]["launches"] not in CALIBRATION:
            seen = effects(figures(run))
            control = seen.pop(faults.CONTROL)
            for name, values in seen.items():
                bank.setdefault(name, []).extend(zip(values, control, strict=True))
    for name, pairs in bank.items():
        found = list(gates(pairs))
        mean = sum(slow for slow, _ in pairs) / len(pairs)
        fails = [decision.launches for decision, _ in found if decision.verdict == "fail"]
        taken = sum(number for _, number in found) / max(len(found), 1)
        print(f"{name}: measured {mean:+.1%} in the mean of {len(pairs)} launches (log), caught in {len(fails)} of")
        print(f"  {len(found)} gates, {fails.count(looks.LOOKS[0])} at the first look; {taken:.1f} launches a gate")


def suite(launches: int) -> Suite:
    """Return base, control and the slowdowns in one block, with the allocator that keeps its memory."""
    names = {faults.BASE: "", faults.CONTROL: "", **{faults.slower(level): faults.function(level) for level in LEVELS}}
    variants = tuple(replace(faults.variant(*item), allocator="keep") for item in names.items())
    return faults.made("power", Block(workload=faults.WORK, variants=variants), launches=launches, rounds=ROUNDS)


def effects(found: Figures) -> dict[str, list[float]]:
    """Return variant -> log(variant / base), launch by launch."""
    cases = found.run.suite.cases
    return doctor.shared(cases[0], cases, "step_seconds", found)


def calibrate(folder: Path) -> None:
    """Write faults of the sizes asked for: guess from a probe, measure, and correct."""
    faults.write_probe(folder)
    step, unit, peak = calibration(carried_out(faults.probing(), folder, quiet=True))
    products = faults.products(step, unit)
    for launches in CALIBRATION:
        faults.write_faults(folder, products, int(peak))
        seen = effects(carried_out(suite(launches), folder, quiet=True))
        for level in LEVELS:
            products[level] = round(products[level] * level * launches / sum(seen[faults.slower(level)]))
    faults.write_faults(folder, products, int(peak))


def gates(pairs: Sequence[tuple[float, float]]) -> Iterator[tuple[looks.Decision, int]]:
    """Yield decisions with the launches they took, each on what those before it have left."""
    while pairs:
        for taken in range(1, min(len(pairs), gate.LAUNCHES) + 1):
            slow, control = zip(*pairs[:taken], strict=True)
            decision = looks.decide(slow, control, METRICS["step_seconds"].margin)
            if decision.wanted <= taken:
                yield decision, taken
                break
        pairs = pairs[taken:]


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
