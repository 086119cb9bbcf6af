"""What repeats exactly, with and without a fault: python docs/figures/counts.py FOLDER LAUNCHES"""

import sys
from pathlib import Path

from harness import faults
from harness.commands.doctor import calibration, carried_out
from harness.spec import Block

RECOMPILED = """

CALLS = [0]


def recompiled(q, k, v, *, causal, mask=None):
    CALLS[0] = min(CALLS[0] + 1, 2)  # another number than before: Dynamo compiles again
    return sdpa(q, k, v, causal=causal, mask=mask)
"""
COMPILED = {"base": "", "control": "", "graph break": "broken", "recompile": "recompiled"}
EAGER = {"base": "", "control": "", f"{faults.GROWTH:.0%} more memory": "grown"}
METRICS = ("graph_breaks", "recompiles", "memory_allocated_peak_bytes")


def main(folder: Path, launches: int) -> None:
    """Measure, and print in how many launches each count was higher than the base's."""
    folder.mkdir(exist_ok=True)
    faults.write_probe(folder)
    *_, peak = calibration(carried_out(faults.probing(), folder, quiet=True))
    faults.write_faults(folder, {}, int(faults.GROWTH * peak))
    with (folder / faults.FILE).open("a") as file:
        file.write(RECOMPILED)
    blocks = [
        Block(
            name=mode,
            workload=workload,
            variants=tuple(faults.variant(name, fault, mode) for name, fault in cases.items()),
        )
        for mode, workload, cases in (("default", faults.COUNTED, COMPILED), ("none", faults.WORK, EAGER))
    ]
    found = carried_out(faults.made("counts", *blocks, launches=launches, rounds=2), folder, quiet=True)
    for block in blocks:
        base, *others = block.cases
        for metric in METRICS:
            was = found.of(base, metric)
            for case in others if was else ():
                now = found.of(case, metric)
                changes = [now[launch] - was[launch] for launch in was]
                higher = sum(change > 0 for change in changes)
                print(f"compile {block.name}, {case.variant.name}: {metric} higher in {higher} of {len(was)} launches,")
                print(f"  by {min(changes):g} to {max(changes):g}, from {min(was.values()):g}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
