"""Whether the faster ways of running still learn as well: fine-tuning tasks on every rung of the ladder; hours."""

from dataclasses import replace

from harness.recipe import Recipe
from harness.spec import Block, Suite, Workload
from suites.definitions._rungs import BF16, COMPILE, FUSED, SDPA, V1

RECIPE = Recipe(learning_rate=1e-3, schedule="cosine", warmup=50, score_every=100, weight_decay=0.05)
NAMES = Workload(
    task="finetuning/function_naming", model="encoder_decoder", size="tiny", data="words:functions", batch=16,
    settings={"vocabulary": 4096}, recipe=replace(RECIPE, steps=1000, score_every=250),
)  # fmt: skip
LANGUAGE = Workload(
    task="pretraining/causal_lm", model="gpt", size="tiny", batch=16,
    recipe=replace(RECIPE, steps=500, target="bits_per_byte:3.3"),
)  # fmt: skip
WORKLOADS = {
    "images": Workload(
        task="finetuning/image_classification", model="vit", size="tiny", data="digits", batch=32, length=17,
        recipe=replace(
            RECIPE, steps=900, start="pretraining/masked_image", start_steps=1500, target="accuracy:0.95",
        ),
    ),
    "texts": Workload(
        task="finetuning/text_classification", model="bert", size="tiny", data="packages", batch=32, length=128,
        settings={"classes": 6, "layers": 1, "pool": "mean_first_last", "ngrams": 2**18, "dropout": 0.5},
        recipe=replace(
            RECIPE, steps=600, learning_rate=2e-4, label_smoothing=0.1, start="pretraining/masked_lm",
            start_data="packages_text", start_steps=250, target="accuracy:0.75",
        ),
    ),
    "names, encoder_decoder": NAMES,
    "names, t5": replace(NAMES, model="t5"),
    "language, gpt": LANGUAGE,
    "language, llama": replace(LANGUAGE, model="llama"),
    "speech": Workload(
        task="finetuning/speech", model="whisper", size="tiny", data="spoken_words", batch=16, length=50,
        recipe=replace(RECIPE, steps=600, target="accuracy:0.95"),
    ),
}  # fmt: skip
"""Where a score is asked for, it is well below the one that training ends with; names are hardly learned."""


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
