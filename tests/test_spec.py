"""Suites as data: validation, stable ids, to and from JSON."""

import json
import math
from dataclasses import replace

import pytest

from harness.errors import UserError
from harness.spec import Block, Case, Suite, Variant, Workload

WORK = Workload(task="pretraining/causal_lm", model="gpt", size="tiny")
BLOCK = Block(workload=WORK, variants=[Variant(name="v1"), Variant(name="+sdpa", attention="sdpa")])
SUITE = Suite(name="own", question="?", blocks=[BLOCK])


def test_a_suite_survives_json():
    assert Suite.from_json(json.loads(json.dumps(SUITE.to_json()))) == SUITE


def test_a_case_id_is_readable_stable_and_tells_contents_apart():
    case = BLOCK.cases[1]
    assert case.id.startswith("gpt-tiny-b8-l128--+sdpa--")
    assert case.id == "gpt-tiny-b8-l128--+sdpa--25c4135f"
    assert case.id != Case(workload=replace(WORK, settings={"dropout": 0.1}), variant=case.variant).id


def test_a_checkpoint_takes_the_place_of_the_size_in_the_name():
    assert replace(WORK, weights="own/MiniLM-v2.1/").slug == "gpt-MiniLM-v2.1-b8-l128"


def test_a_variant_may_run_another_model_of_the_same_work():
    block = replace(BLOCK, variants=[*BLOCK.variants, Variant(name="other", model="own.py")])
    assert [case.model for case in block.cases] == ["gpt", "gpt", "own.py"]
    assert block.workloads == (WORK, replace(WORK, model="own.py"))


def test_the_first_variant_is_the_baseline_unless_named():
    assert BLOCK.baseline == "v1"
    assert replace(BLOCK, baseline="+sdpa").baseline_case.variant.attention == "sdpa"


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: replace(WORK, batch=0), "batch is 0"),
        (lambda: replace(WORK, length=1.5), "length is 1.5"),
        (lambda: replace(WORK, padding=0.9), "padding is 0.9"),
        (lambda: replace(WORK, seed=-1), "seed is -1"),
        (lambda: replace(WORK, lengths=0), "lengths is 0; give 1, or at most half as many as length"),
        (lambda: replace(WORK, lengths=65), "lengths is 65"),
        (lambda: Variant(name="v", dynamic="yes"), "dynamic is 'yes'; give true, false or unset"),
        (lambda: Variant(name="v", bucket=-1), "bucket is -1"),
        (
            lambda: Block(workload=WORK, variants=[Variant(name="v", bucket=64)]),
            "give the workload more lengths than 1",
        ),
        (
            lambda: Block(workload=replace(WORK, lengths=4), variants=[Variant(name="v", bucket=48)]),
            "a length that is a multiple of it",
        ),
        (
            lambda: replace(
                SUITE, blocks=[replace(BLOCK, workload=replace(WORK, lengths=4))], fit="batch", memory_limit=9
            ),
            "looks for what fits; --set lengths=1",
        ),
        (lambda: Variant(name=""), "empty name"),
        (lambda: Variant(name="v", compile="defualt"), "did you mean 'default'"),
        (lambda: Variant(name="v", threads=0), "threads is 0"),
        (lambda: Variant(name="v", checkpoint="maybe"), "give true or false"),
        (lambda: Variant(name="v", attention=3), "attention is 3"),
        (lambda: Variant(name="v", model=3), "model is 3"),
        (lambda: replace(WORK, weights=3), "weights is 3; give the folder of a checkpoint"),
        (lambda: Block(workload=WORK, variants=[]), "no variants"),
        (lambda: Block(workload=WORK, variants=[Variant(name="v"), Variant(name="v")]), "names variant 'v' twice"),
        (lambda: replace(BLOCK, baseline="v2"), "did you mean 'v1'"),
        (lambda: Suite(name="s", question="?", blocks=[]), "no blocks"),
        (lambda: Suite(name="s", question="?", blocks=[BLOCK, BLOCK]), "twice"),
        (lambda: Suite(name="s", question="?", blocks=[BLOCK, replace(BLOCK, name="other")]), "in two blocks"),
        (lambda: replace(SUITE, launches=0), "launches is 0"),
        (lambda: replace(SUITE, timeout=-1), "timeout is -1"),
        (lambda: replace(SUITE, budget=math.inf), "budget is inf"),
        (lambda: replace(SUITE, budget=math.nan), "budget is nan"),
        (lambda: Suite.from_json({**SUITE.to_json(), "lunches": 3}), "did you mean 'launches'"),
    ],
)
def test_a_mistake_is_a_sentence(make, sentence):
    with pytest.raises(UserError, match=r"[;:]") as caught:
        make()
    assert sentence in str(caught.value)


def test_an_environment_is_named_after_what_the_variants_differ_in() -> None:
    variants = [
        Variant(name="a", threads=1),
        Variant(name="b", threads=2),
        Variant(name="c", torch="old", threads=1),
    ]
    suite = Suite(name="s", question="?", blocks=(Block(workload=Workload(task="t", model="m"), variants=variants),))
    assert list(map(suite.environment, variants)) == ["current threads=1", "current threads=2", "old"]
