"""How to load data: in process, or by workers beside the training step, which may want the same cores."""

from harness.spec import Block, Suite, Variant, Workload

WORKLOADS = (
    Workload(task="pretraining/masked_lm", model="bert", size="tiny", batch=32),
    Workload(task="finetuning/image_classification", model="vit", size="tiny", batch=32, length=17, data="digits"),
)
VARIANTS = (
    Variant(name="in process", attention="sdpa"),
    *(Variant(name=f"map {count}", attention="sdpa", loader="map", workers=count) for count in (0, 1, 2, 4)),
    *(Variant(name=f"iterable {count}", attention="sdpa", loader="iterable", workers=count) for count in (1, 2, 4)),
    Variant(name="map 2 persistent", attention="sdpa", loader="map", workers=2, persistent=True),
    Variant(name="map 2 prefetch 8", attention="sdpa", loader="map", workers=2, prefetch=8),
    Variant(name="map 2 pinned", attention="sdpa", loader="map", workers=2, pinned=True),
)


def suite() -> Suite:
    """Return a text and an image workload, a variant a way of loading."""
    return Suite(
        name="input_pipeline",
        question="Which way of loading keeps training from waiting for its data?",
        blocks=tuple(Block(workload=workload, variants=VARIANTS) for workload in WORKLOADS),
        quality_steps=0,
    )
