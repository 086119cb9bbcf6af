"""What keeps a model from learning its training part by heart: the scores there and held out, and their difference."""

from dataclasses import replace

from harness.recipe import Recipe
from harness.spec import Block, Suite, Workload
from suites.definitions._rungs import SDPA

PLAIN = Recipe(
    steps=900, learning_rate=1e-3, schedule="cosine", warmup=50, weight_decay=0.0, clip=0.0, score_every=100, gap=True
)
RECIPES = {
    "none": (PLAIN, 0.0),
    "dropout": (PLAIN, 0.1),
    "weight decay": (replace(PLAIN, weight_decay=0.1), 0.0),
    "label smoothing": (replace(PLAIN, label_smoothing=0.1), 0.0),
    "clipping": (replace(PLAIN, clip=1.0), 0.0),
    "early stopping": (replace(PLAIN, patience=2), 0.0),
    "all": (replace(PLAIN, weight_decay=0.1, label_smoothing=0.1, clip=1.0, patience=2), 0.1),
}
"""Name -> recipe and dropout."""


def suite() -> Suite:
    """Return a block a way to regularise, each trained on the digits from five seeds."""
    work = Workload(
        task="finetuning/image_classification", model="vit", size="tiny", data="digits", batch=32, length=17
    )
    return Suite(
        name="regularisation",
        question="Which regularisation narrows the gap between the score in training and the one held out?",
        blocks=tuple(
            Block(name=name, workload=replace(work, settings={"dropout": share}, recipe=recipe), variants=(SDPA,))
            for name, (recipe, share) in RECIPES.items()
        ),
        seeds=5,
    )
