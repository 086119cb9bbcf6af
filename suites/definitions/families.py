"""Which kind of Transformer tells texts apart best, and at what speed and memory, all of one size."""

from harness.recipe import Recipe
from harness.spec import Block, Suite, Workload
from suites.definitions._rungs import SDPA

CLASSES, LENGTH = 6, 128  # of `packages`
RECIPE = Recipe(steps=300, learning_rate=1e-3, schedule="cosine", warmup=30, score_every=50)
SHARED = {"classes": CLASSES, "dim": 128, "heads": 4}
MODELS = {  # parameters: within 2 % of each other, as `hidden` of llama and t5 makes up for the biases they lack
    "gpt": {**SHARED, "layers": 7, "positions": LENGTH},
    "llama": {**SHARED, "layers": 7, "positions": LENGTH, "key_heads": 2, "hidden": 395},
    "bert": {**SHARED, "layers": 7, "positions": LENGTH},
    "encoder_decoder": {**SHARED, "layers": 3, "positions": LENGTH},  # so many in each of two stacks
    "t5": {**SHARED, "layers": 3, "head_dim": 32, "hidden": 518},
}


def suite() -> Suite:
    """Return a block a model, each trained from scratch and scored with five seeds."""
    return Suite(
        name="families",
        question="Which family of Transformers classifies texts best, and how fast, at an equal number of parameters?",
        blocks=tuple(
            Block(
                name=model,
                workload=Workload(
                    task="finetuning/text_classification",
                    model=model,
                    size="tiny",
                    batch=16,
                    length=LENGTH,
                    data="packages",
                    settings=settings,
                    recipe=RECIPE,
                ),
                variants=(SDPA,),
            )
            for model, settings in MODELS.items()
        ),
        launches=5,
        seeds=5,
    )
