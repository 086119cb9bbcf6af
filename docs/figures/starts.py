"""Whether a pretrained start beats none, whoever has computed it: python docs/figures/starts.py FOLDER

Pretrains on the masked digits, below FOLDER and by one recipe, the own `vit` and transformers' class of the same shape,
each written by its own library. Fine-tunes the own `vit` from either and from scratch with five seeds each, and holds
the accuracies against each other, paired by seed. Minutes; exit code 1 unless both starts beat none.
"""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from harness import load, stats
from harness.commands.doctor import carried_out
from harness.conditions import Conditions
from harness.spec import Block, Suite, Workload
from suites.definitions._rungs import SDPA
from suites.definitions.transfer import RECIPE

SEEDS, PRETRAINED, TRAINED = 5, 1500, 300
"""Seeds, steps of pretraining and of fine-tuning: so few that the start shows."""
CONFIGURATION = "configuration"
THEIRS = {
    "hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 512, "image_size": 8,
    "patch_size": 2, "encoder_stride": 2, "num_channels": 1, "architectures": ["ViTForMaskedImageModeling"],
}  # fmt: skip
STARTS = {"scratch": "", "own weights": "own", "transformers' weights": "transformers"}
"""Start -> the folder of its checkpoint."""
WORK = Workload(
    task="finetuning/image_classification", model="vit", size="tiny", data="digits", batch=32, length=17,
    settings={"classes": 10}, recipe=replace(RECIPE, steps=TRAINED, score_every=0),
)  # fmt: skip


def main(folder: Path, steps: int = PRETRAINED) -> int:
    """Make both checkpoints in a process of their own, fine-tune, print what each gives, and return the exit code."""
    subprocess.run([sys.executable, __file__, "--make", str(folder), str(steps)], check=True)
    blocks = tuple(
        Block(name=name, workload=replace(WORK, weights=weights), variants=(replace(SDPA, name=name),))
        for name, weights in STARTS.items()
    )
    suite = Suite(
        name="starts", question="Does a pretrained start pay?", blocks=blocks, launches=SEEDS, seeds=SEEDS, rounds=2
    )
    found = carried_out(suite, folder, quiet=False)
    scores = {block.name: found.of(block.cases[0], "accuracy") for block in blocks}
    for name, by_seed in scores.items():
        accuracy = stats.estimate([*by_seed.values()])
        print(f"{name}: accuracy {accuracy.center:.1%} ({accuracy.low:.1%} to {accuracy.high:.1%}), {accuracy.n} seeds")
    scratch, *pretrained = scores
    better = [beats(name, scores[name], scores[scratch]) for name in pretrained]
    return 0 if all(better) else 1


def beats(name: str, start: dict[int, float], scratch: dict[int, float]) -> bool:
    """Print by how many points a start is better, paired by seed; tell whether the whole interval is above 0."""
    gain = stats.estimate([100 * (start[seed] - scratch[seed]) for seed in start.keys() & scratch.keys()])
    is_better = gain.low > 0
    print(
        f"{name} less scratch: {gain.center:+.1f} points ({gain.low:+.1f} to {gain.high:+.1f}), "
        f"{'better' if is_better else 'not shown to be better'}"
    )
    return is_better


def make(folder: Path, steps: int) -> None:
    """Pretrain both models by one recipe, and write each as its own library does."""
    import transformers

    from harness.worker.session import Session

    transformers.ViTConfig(**THEIRS).save_pretrained(folder / CONFIGURATION)
    recipe = replace(RECIPE, steps=steps, score_every=0)
    for model, settings in (("vit", {"classes": 0}), (f"hf:{CONFIGURATION}", {"pretrained": False})):
        work = replace(WORK, task="pretraining/masked_image", model=model, settings=settings, recipe=recipe)
        block = Block(workload=work, variants=(SDPA,))
        suite = Suite(name="start", question="?", blocks=(block,))
        data = load.prepare_data(suite, load.cache() / "data", [folder])
        conditions = Conditions(data=data, folders=[folder])
        session = Session(conditions.recipe(block, SDPA, work.seed, steps))
        session.quality({"steps": steps, "parts": []})
        if model == "vit":
            session.write({"folder": str(folder / STARTS["own weights"])})
        else:
            session.step.model.model.save_pretrained(folder / STARTS["transformers' weights"])


if __name__ == "__main__":
    if sys.argv[1] == "--make":
        make(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        sys.exit(main(Path(sys.argv[1])))
