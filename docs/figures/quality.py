"""Whether the tasks are learned as well as they should be: python docs/figures/quality.py FOLDER [TASK...]

Trains images and texts of the suite `finetune`, each from its pretrained start with five seeds, and holds the mean
against a reference. Half an hour; exit code 1 if one falls short.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from harness import stats
from harness.commands.doctor import carried_out
from harness.spec import Block, Suite
from suites.definitions._rungs import SDPA
from suites.definitions.finetune import WORKLOADS

SEEDS = 5
LEAST = {"images": 0.97, "texts": 0.763}
"""Held-out accuracy asked of a task: of `texts` that of a linear SVM on the same split (docs/quality.md)."""


def main(folder: Path, tasks: Sequence[str] = ()) -> int:
    """Train, print each task's accuracy with its interval over seeds, and return the exit code."""
    short = 0
    for task in tasks or LEAST:
        block = Block(name=task, workload=WORKLOADS[task], variants=(SDPA,))
        suite = Suite(
            name="quality", question="Is the task learned?", blocks=(block,), launches=SEEDS, seeds=SEEDS, rounds=2
        )
        found = carried_out(suite, folder, quiet=False)
        accuracy = stats.estimate([*found.of(block.cases[0], "accuracy").values()])
        short += not (accuracy.n == SEEDS and accuracy.center >= LEAST[task])  # what failed has no figure
        interval = f"{accuracy.low:.1%} to {accuracy.high:.1%}"
        print(f"{task}: accuracy {accuracy.center:.1%} ({interval}) over {accuracy.n} seeds, asked {LEAST[task]:.1%}")
    return min(short, 1)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
