"""The plan: complete, mirrored, seeded."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as draw

from harness.expected import expected_pretraining, expected_seconds, expected_step
from harness.plan import plan, turns
from harness.recipe import Recipe
from harness.spec import Block, Suite, Variant, Workload

WORK = Workload(task="pretraining/causal_lm", model="gpt")
names = draw.lists(draw.text("abcdefg+", min_size=1, max_size=5), min_size=1, max_size=6, unique=True)


def suite_of(variants, launches=2, rounds=4, seed=0) -> Suite:
    block = Block(workload=WORK, variants=[Variant(name=name) for name in variants])
    return Suite(name="s", question="?", blocks=[block], launches=launches, rounds=rounds, seed=seed)


@given(names, draw.integers(1, 4), draw.integers(1, 9), draw.integers(0, 5))
def test_every_case_comes_once_a_round(variants, launches, rounds, seed):
    suite = suite_of(variants, launches, rounds, seed)
    counts = Counter((turn.launch, turn.round, turn.case) for turn in plan(suite))
    assert set(counts.values()) == {1}
    assert len(counts) == launches * rounds * len(variants)


@given(names, draw.integers(0, 5))
def test_every_second_round_mirrors_the_one_before(variants, seed):
    suite = suite_of(variants, rounds=6, seed=seed)
    for launch in (1, 2):
        planned = turns(suite, suite.blocks, launch)
        rounds = [[turn.case for turn in planned if turn.round == number] for number in range(1, 7)]
        assert rounds[1::2] == [order[::-1] for order in rounds[::2]]


def test_the_order_depends_on_the_seed_and_nothing_else():
    suite = suite_of("abcdef")
    assert plan(suite) == plan(suite)
    assert plan(suite) != plan(replace(suite, seed=1))


def test_more_work_is_expected_to_take_longer():
    assert expected_seconds(suite_of("ab", launches=5)) > expected_seconds(suite_of("ab", launches=2))
    assert expected_seconds(suite_of("abc")) > expected_seconds(suite_of("ab"))
    absent = [suite_of("c").cases[0].id]
    assert expected_seconds(suite_of("abc"), unavailable=absent) == expected_seconds(suite_of("ab"))
    assert expected_seconds(replace(suite_of("a"), seeds=2)) > expected_seconds(suite_of("a"))


def test_a_step_is_expected_to_take_what_its_tokens_and_layers_take():
    tiny = {"dim": 128, "layers": 2}
    assert 0.02 < expected_step(WORK, tiny) < 0.05
    assert expected_step(WORK, {**tiny, "layers": 14}) == pytest.approx(7 * expected_step(WORK, tiny))
    assert expected_step(replace(WORK, batch=16, accumulate=2), tiny) == pytest.approx(4 * expected_step(WORK, tiny))
    assert expected_step(WORK, {"size": "own"}) == 0.05


def test_pretraining_and_scores_are_part_of_what_is_expected():
    recipe = Recipe(steps=1000, start="pretraining/masked_image", start_steps=2000)
    work = Workload(task="finetuning/image_classification", model="vit", recipe=recipe)
    suite = replace(suite_of("a"), blocks=[Block(workload=work, variants=[Variant(name="a")])])
    assert expected_pretraining(suite) == pytest.approx(2000 * 0.05, rel=0.1)
    assert expected_pretraining(suite_of("a")) == 0
    same = Block(workload=replace(work, recipe=replace(recipe, tune="lora")), variants=[Variant(name="a")], name="lora")
    assert expected_pretraining(replace(suite, blocks=[*suite.blocks, same])) == expected_pretraining(suite)
    often = replace(work, recipe=replace(recipe, score_every=100))
    more = replace(suite, blocks=[Block(workload=often, variants=[Variant(name="a")])])
    assert expected_seconds(more) - expected_seconds(suite) == pytest.approx(9 * 30 * 0.05)
