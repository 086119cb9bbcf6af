"""Whether pretraining pays, how much of it, and how much of the model must be trained afterwards."""

from dataclasses import replace

from harness.recipe import Recipe
from harness.spec import Block, Suite, Workload
from suites.definitions._rungs import SDPA

RECIPE = Recipe(steps=900, learning_rate=1e-3, schedule="cosine", warmup=50, weight_decay=0.05, score_every=100)
START = replace(RECIPE, start="pretraining/masked_image")
RECIPES = {
    "from scratch": RECIPE,
    **{f"after {steps} steps": replace(START, start_steps=steps) for steps in (250, 500, 1000, 1500)},
    "LoRA after 1500 steps": replace(START, start_steps=1500, tune="lora"),
    "head alone after 1500 steps": replace(START, start_steps=1500, tune="head"),
}


def suite() -> Suite:
    """Return a block a start, each fine-tuned on the digits from five seeds."""
    work = Workload(
        task="finetuning/image_classification", model="vit", size="tiny", data="digits", batch=32, length=17,
        settings={"dropout": 0.1},
    )  # fmt: skip
    return Suite(
        name="transfer",
        question="What does pretraining gain over a start from scratch, and how many steps of it pay?",
        blocks=tuple(
            Block(name=name, workload=replace(work, recipe=recipe), variants=(SDPA,))
            for name, recipe in RECIPES.items()
        ),
        seeds=5,
    )
