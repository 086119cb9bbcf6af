"""Whether the faster ways of running still learn as well: fine-tuning tasks on every rung of the ladder; hours."""

from harness.recipe import Recipe
from harness.spec import Block, Suite, Workload
from suites.definitions._rungs import BF16, COMPILE, FUSED, SDPA, V1

RECIPE = Recipe(learning_rate=1e-3, schedule="cosine", warmup=50, score_every=100, weight_decay=0.05)


def recipe(**changes: object) -> Recipe:
    """Return the recipe of all tasks with what one of them does otherwise."""
    return Recipe(**{**vars(RECIPE), **changes})


WORKLOADS = {
    "images": Workload(
        task="finetuning/image_classification", model="vit", size="tiny", data="digits", batch=32, length=17,
        recipe=recipe(steps=900, start="pretraining/masked_image", start_steps=1500),
    ),
    "texts": Workload(
        task="finetuning/text_classification", model="bert", size="tiny", data="packages", batch=32, length=128,
        settings={"classes": 6, "layers": 1, "pool": "mean_first_last", "ngrams": 2**18, "dropout": 0.5},
        recipe=recipe(
            steps=600, learning_rate=2e-4, label_smoothing=0.1, start="pretraining/masked_lm",
            start_data="packages_text", start_steps=250,
        ),
    ),
    "names, encoder_decoder": Workload(
        task="finetuning/function_naming", model="encoder_decoder", size="tiny", data="functions", batch=16,
        recipe=recipe(steps=1500, score_every=500),  # a score takes as long as a hundred steps
    ),
    "names, t5": Workload(
        task="finetuning/function_naming", model="t5", size="tiny", data="functions", batch=16,
        recipe=recipe(steps=1500, score_every=500),  # a score takes as long as a hundred steps
    ),
    "language, gpt": Workload(
        task="pretraining/causal_lm", model="gpt", size="tiny", batch=16, recipe=recipe(steps=500),
    ),
    "language, llama": Workload(
        task="pretraining/causal_lm", model="llama", size="tiny", batch=16, recipe=recipe(steps=500),
    ),
    "speech": Workload(
        task="finetuning/speech", model="whisper", size="tiny", data="spoken_words", batch=16, length=50,
        recipe=recipe(steps=600),
    ),
}  # fmt: skip


def suite() -> Suite:
    """Return a block a task, a variant a rung; the first five launches each train from a seed of their own."""
    return Suite(
        name="finetune",
        question="Does each step from PyTorch 1.x style to 2.x still learn every task as well?",
        blocks=tuple(
            Block(name=name, workload=workload, variants=(V1, SDPA, COMPILE, FUSED, BF16))
            for name, workload in WORKLOADS.items()
        ),
        seeds=5,
    )
