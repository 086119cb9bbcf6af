"""What gates say of the same code, and what one figure after the other would: python docs/figures/alarms.py RUN..."""

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from harness.figures import figures
from harness.gate import ruling
from harness.store import open_run

THRESHOLD = 0.05


def main(names: Sequence[str]) -> None:
    """Print the verdicts of the gates, and the alarms of a candidate held against the base of the launch before."""
    verdicts, words, alarms = [], Counter(), []
    for found in (figures(open_run(Path(name))) for name in names):
        ruled = ruling(found)
        words[ruled.verdict] += 1
        verdicts += ruled.verdicts
        for block in found.run.suite.blocks:
            base, candidate = (found.of(case, "step_seconds") for case in block.cases[:2])
            alarms += [candidate[launch + 1] > (1 + THRESHOLD) * base[launch] for launch in (1, 3)]
    print(f"{len(names)} gates: {dict(words)}")
    for metric in dict.fromkeys(item.metric for item in verdicts):
        looked = Counter(f"{item.verdict} after {item.launches}" for item in verdicts if item.metric == metric)
        print(f"  {metric}: {dict(looked)}")
    print(f"one after the other: {sum(alarms)} of {len(alarms)} pairs are beyond {THRESHOLD:.0%}")


if __name__ == "__main__":
    main(sys.argv[1:])
