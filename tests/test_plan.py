"""The plan: complete, mirrored, seeded."""

from collections import Counter
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as draw

from harness.plan import expected_seconds, plan, turns
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
        planned = turns(suite, suite.blocks[0], launch)
        rounds = [[turn.case for turn in planned if turn.round == number] for number in range(1, 7)]
        assert rounds[1::2] == [order[::-1] for order in rounds[::2]]


def test_the_order_depends_on_the_seed_and_nothing_else():
    suite = suite_of("abcdef")
    assert plan(suite) == plan(suite)
    assert plan(suite) != plan(replace(suite, seed=1))


def test_more_work_is_expected_to_take_longer():
    assert expected_seconds(suite_of("ab", launches=5)) > expected_seconds(suite_of("ab", launches=2))
    assert expected_seconds(suite_of("abc")) > expected_seconds(suite_of("ab"))
    assert expected_seconds(suite_of("abc"), [suite_of("c").cases[0].id]) == expected_seconds(suite_of("ab"))
    assert expected_seconds(replace(suite_of("a"), seeds=2)) > expected_seconds(suite_of("a"))
