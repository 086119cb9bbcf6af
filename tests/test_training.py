"""Training to a score: recipes, learning curves, early stopping, what is trained, and pretrained starts."""

import json
import math
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from test_cli import tandem
from test_run import Bench, outcomes
from torch import nn

from harness import adjust, load, names, recipe, start
from harness.conditions import Conditions
from harness.errors import UserError
from harness.peer import CaseFailure
from harness.progress import Progress
from harness.recipe import Recipe
from harness.run import precise, started
from harness.spec import Block, Case, Suite, Variant, Workload
from harness.stopwatch import Stopwatch
from harness.store import open_run
from harness.worker.session import score_of
from harness.worker.step import scheduled, trained
from harness.worker.tune import LoRA, tune
from suites.pretraining._work import cross_entropy

DIGITS = Workload(task="finetuning/image_classification", model="vit", size="tiny", data="digits", batch=8, length=17)


def rates(steps: int = 10, **asked) -> list[float]:
    return [recipe.rate(asdict(Recipe(learning_rate=1.0, **asked)), steps, index) for index in range(steps)]


def test_the_learning_rate_rises_then_falls_to_nearly_nothing():
    assert rates() == [1.0] * 10
    assert rates(warmup=4)[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert rates(schedule="linear") == pytest.approx([1 - index / 10 for index in range(10)])
    cosine = rates(schedule="cosine", warmup=2)
    assert cosine[1] == cosine[2] == 1.0
    assert cosine[6] == pytest.approx(0.5)
    assert 0 < cosine[-1] < 0.05
    assert sorted(cosine[2:], reverse=True) == cosine[2:]


def test_after_the_last_step_the_rate_stays_and_without_an_end_it_does_not_fall():
    asked = asdict(Recipe(schedule="linear"))
    assert recipe.rate(asked, 10, 500) == recipe.rate(asked, 10, 9) > 0
    assert recipe.rate(asked, 0, 500) == asked["learning_rate"]
    assert scheduled(asdict(Recipe()), 10) is None


def test_scores_come_at_each_multiple_and_at_the_end():
    assert Recipe(score_every=20).points(50) == [20, 40, 50]
    assert Recipe(score_every=25).points(50) == [25, 50]
    assert Recipe().points(50) == [50]


def test_training_is_over_when_the_last_losses_bring_nothing_new():
    asked = Recipe(score_every=1, patience=2)
    assert not recipe.is_over(asked, [3.0, 2.0])
    assert not recipe.is_over(asked, [3.0, 2.0, 2.5])
    assert not recipe.is_over(asked, [3.0, 2.0, 2.5, 1.9])
    assert recipe.is_over(asked, [3.0, 2.0, 2.5, 2.0])
    assert not recipe.is_over(Recipe(), [1.0, 2.0, 3.0])


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"schedule": "cosin"}, "cosine"),
        ({"tune": "Lora"}, "lora"),
        ({"warmup": -1}, "warmup is -1"),
        ({"steps": 1.5}, "steps is 1.5"),
        ({"learning_rate": math.nan}, "learning_rate is nan"),
        ({"label_smoothing": 1.0}, "below 1"),
        ({"patience": 2}, "score_every"),
        ({"gap": 1}, "true or false"),
        ({"target": "acuracy:0.9"}, "accuracy"),
        ({"target": "accuracy"}, "accuracy:0.95"),
        ({"target": "accuracy:nan"}, "accuracy:0.95"),
        ({"target": 0.95}, "accuracy:0.95"),
        ({"target": "step_seconds:0.1"}, "accuracy"),
        ({"start": 3}, "start is 3"),
    ],
)
def test_a_recipe_that_cannot_be_followed_is_refused_in_a_sentence(fields, what):
    with pytest.raises(UserError, match=what):
        Recipe(**fields)


def test_a_recipe_travels_with_its_suite_and_changes_a_case_id_only_where_it_says_something():
    suite = adjust.set_value(
        Suite(name="s", question="?", blocks=(Block(workload=DIGITS, variants=(Variant(name="v1"),)),)),
        "learning_rate=0.001",
        lambda workload: set(),
    )
    assert suite.blocks[0].workload.recipe == Recipe(learning_rate=0.001)
    assert Suite.from_json(json.loads(json.dumps(suite.to_json()))) == suite
    ids = {Case(workload=workload, variant=Variant(name="v1")).id for workload in (DIGITS, suite.blocks[0].workload)}
    assert len(ids) == 2
    data = suite.to_json()
    del data["blocks"][0]["workload"]["recipe"]  # of a run made before there were recipes
    assert Suite.from_json(data).blocks[0].workload == DIGITS


def curve(losses, part="test"):
    return {part: {str(step): {"held_out_loss": loss} for step, loss in losses.items()}}


def rows_of(run, metric):
    samples = run.samples()
    chosen = samples[(samples.metric == metric) & (samples.launch == 1)]
    return dict(zip(chosen.step.tolist(), chosen.value.tolist(), strict=True))


def test_scores_along_the_way_make_a_curve_and_the_last_is_the_figure(tmp_path):
    bench = Bench(tmp_path, {"a": {"scores": curve({10: 3.0, 20: 2.0, 30: 1.0})}, "b": {}})
    _, run = bench.run("--set", "quality_steps=30", "--set", "score_every=10")
    losses = rows_of(run, "held_out_loss")
    assert len(run.samples().query("metric == 'held_out_loss' and launch == 1")) == 2 * 4
    assert {0, 10, 20, 30} == {*losses}
    own = run.samples().query(f"metric == 'held_out_loss' and launch == 1 and case == {run.suite.cases[0].id!r}")
    assert dict(zip(own.step, own.value, strict=True)) == {10: 3.0, 20: 2.0, 30: 1.0, 0: 1.0}
    report = json.loads(bench.call("report", "latest", "--format", "json").stdout)
    assert report["cases"][0]["metrics"]["held_out_loss"]["center"] == 1.0


def test_no_more_steps_are_checked_than_are_trained_so_that_all_seeds_train_alike(tmp_path):
    _, run = Bench(tmp_path, {"a": {}}).run("--set", "quality_steps=3", "--set", "seeds=2")
    asked = [json.loads(line) for line in (run.path / "events.jsonl").read_text().splitlines()]
    steps = {verb: [event["steps"] for event in asked if event.get("verb") == verb] for verb in ("check", "quality")}
    assert steps == {"check": [3, 3], "quality": [3, 3]}  # the reference and the case; a launch each


def test_with_patience_training_stops_and_the_score_is_that_of_the_best_validation(tmp_path):
    validation = curve({10: 3.0, 20: 1.0, 30: 1.5, 40: 1.2}, "validation")
    bench = Bench(
        tmp_path, {"a": {"scores": {**validation, **curve({10: 4.0, 20: 2.0, 30: 0.5, 40: 0.5})}}}, launches=1
    )
    _, run = bench.run("--set", "quality_steps=100", "--set", "score_every=10", "--set", "patience=2")
    assert rows_of(run, "held_out_loss") == {10: 4.0, 20: 2.0, 30: 0.5, 40: 0.5, 0: 2.0}
    assert rows_of(run, "steps_trained") == {0: 40}


def test_the_gap_scores_the_training_part_once(tmp_path):
    seen = {"train": {"20": {"accuracy": 0.9, "held_out_loss": 0.1}}}
    bench = Bench(tmp_path, {"a": {"scores": seen}}, launches=1)
    _, run = bench.run("--set", "quality_steps=20", "--set", "score_every=10", "--set", "gap=true")
    assert rows_of(run, "train_accuracy") == {0: 0.9}
    assert rows_of(run, "train_loss") == {0: 0.1}


def test_a_training_that_diverges_ends_with_the_step_where_it_did(tmp_path):
    bench = Bench(tmp_path, {"a": {"scores": curve({20: "nan"})}, "b": {}}, launches=1)
    done, run = bench.run("--set", "quality_steps=20", "--set", "score_every=10")
    assert done.returncode == 3
    assert outcomes(run) == {"a": "wrong", "b": "ok"}
    assert "its score after step 20 is not a number" in run.outcomes[0]["reason"]


def test_a_loss_that_is_no_number_ends_training_at_its_step(tmp_path):
    bench = Bench(tmp_path, {"a": {"trained": {"20": [2.0, 1.0, "nan", "nan"]}}, "b": {}}, launches=1)
    done, run = bench.run("--set", "quality_steps=20")
    assert done.returncode == 3
    assert outcomes(run) == {"a": "wrong", "b": "ok"}
    assert run.outcomes[0]["reason"] == "its training diverged: the loss of step 18 is not a number"


def test_a_long_training_is_asked_for_in_parts_that_no_deadline_ends(tmp_path):
    _, run = Bench(tmp_path, {"a": {}}, launches=1).run("--set", "quality_steps=250", "--set", "score_every=120")
    asked = [json.loads(line) for line in (run.path / "events.jsonl").read_text().splitlines()]
    steps = [(event["steps"], len(event["parts"])) for event in asked if event.get("verb") == "quality"]
    assert steps == [(100, 0), (120, 1), (220, 0), (240, 1), (250, 1)]


def vit():
    torch.manual_seed(0)
    return names.find("model", "vit").load()(torch.nn.functional.scaled_dot_product_attention, layers=2, dim=32)


def test_the_head_alone_is_trained():
    model = vit()
    tune(model, asdict(Recipe(tune="head")), ("head", "mask_token", "pixels"))
    assert {name for name, parameter in model.named_parameters() if parameter.requires_grad} == {
        "head.weight", "head.bias",
    }  # fmt: skip


def test_lora_begins_as_the_model_it_is_put_into_and_trains_little_of_it():
    from suites.attention.sdpa import attention

    torch.manual_seed(0)
    model = names.find("model", "vit").load()(attention, layers=2, dim=32)
    images = torch.randn(2, 1, 8, 8)
    before, whole = model(images), len(trained(model))
    tune(model, asdict(Recipe(tune="lora", lora_rank=2)), ("head",))
    assert torch.equal(model(images), before)
    adapters = [module for module in model.modules() if isinstance(module, LoRA)]
    assert adapters
    assert all(isinstance(adapter.linear, nn.Linear) for adapter in adapters)
    assert len(trained(model)) == 2 * len(adapters) + 2 != whole
    assert sum(one.numel() for one in trained(model)) < sum(one.numel() for one in model.parameters()) / 3
    model(images).square().mean().backward()
    assert all(adapter.up.grad.abs().sum() > 0 for adapter in adapters)
    assert adapters[0].linear.weight.grad is None


def test_lora_needs_no_head_of_its_own():
    model = names.find("model", "gpt").load()(torch.nn.functional.scaled_dot_product_attention, layers=2, dim=32)
    tune(model, asdict(Recipe(tune="lora", lora_rank=2)), ())
    found = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert found
    assert all(name.endswith((".down", ".up")) for name in found)


def test_lora_is_not_taken_for_the_head_alone():
    model = vit()
    for layer in model.layers:
        layer.register_module("only", torch.nn.Conv1d(4, 4, 1))
        for name in [name for name, _ in layer.named_children() if name != "only"]:
            delattr(layer, name)
    with pytest.raises(UserError, match=r"no nn\.Linear to put LoRA beside; --set tune=head"):
        tune(model, asdict(Recipe(tune="lora")), ("head",))


def test_a_model_that_names_no_head_cannot_train_it_alone():
    with pytest.raises(UserError, match="HEAD"):
        tune(vit(), asdict(Recipe(tune="head")), ())


def test_label_smoothing_is_spread_over_all_classes():
    logits, target = torch.randn(5, 3), torch.randint(3, (5,))
    expected = 0.9 * cross_entropy(logits, target) - 0.1 * logits.log_softmax(-1).mean()
    assert cross_entropy(logits, target, 0.1).item() == pytest.approx(expected.item())


def test_a_start_is_the_same_model_without_classes_on_its_own_task():
    asked = replace(
        DIGITS,
        settings={"classes": 10, "dim": 64},
        recipe=Recipe(start="pretraining/masked_image", start_steps=7, learning_rate=1e-3, label_smoothing=0.1),
    )
    before = start.workload(asked)
    assert before is not None
    assert (before.task, before.data, before.settings) == ("pretraining/masked_image", "digits", {"dim": 64})
    assert before.recipe == Recipe(steps=7, learning_rate=1e-3)
    assert start.workload(DIGITS) is None


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"weights": "folder", "recipe": Recipe(start="pretraining/masked_image")}, "both weights and a start"),
        ({"model": "hf:folder", "recipe": Recipe(start="pretraining/masked_image")}, "only own models"),
    ],
)
def test_a_start_that_cannot_be_made_is_refused_before_anything_runs(fields, what):
    block = Block(workload=replace(DIGITS, **fields), variants=(Variant(name="v1"),))
    with pytest.raises(UserError, match=what):
        load.check_names(Suite(name="s", question="?", blocks=(block,)), [], [])


def test_a_pretraining_that_diverges_is_not_kept(tmp_path):
    def ask(verb, **fields):
        return {"losses": [1.0, "nan"]} if verb == "quality" else pytest.fail("a broken start was written")

    with pytest.raises(CaseFailure, match="the loss of step 8 is not a number"):
        start.make(ask, 9, tmp_path / "start", lambda what: None)
    assert not [*tmp_path.iterdir()]


def test_another_torch_device_or_first_batch_makes_another_start():
    told = {"workload": {}, "variant": {}, "config": {}, "data": {"sha256": "a"}}
    replies = [
        ({"torch": torch}, {"facts": {"device": device}})
        for torch, device in (("2", "cpu"), ("3", "cpu"), ("2", "cuda"))
    ]
    keys = {start.key(told, {}, *pair) for pair in (*replies, replies[0])}
    assert len(keys) == 3
    assert start.key({**told, "data": {"sha256": "b"}}, {}, *replies[0]) not in keys


def test_a_block_stops_only_when_all_seeds_are_scored():
    block = Block(workload=DIGITS, variants=(Variant(name="a"), Variant(name="b")))
    ratios = SimpleNamespace(launches=5, by_case={"b": [0.1, 0.1001, 0.0999, 0.1, 0.1]})
    suite = Suite(name="s", question="?", blocks=(block,))
    assert precise(suite)(block, ratios)
    assert not precise(replace(suite, seeds=6))(block, ratios)
    assert precise(replace(suite, seeds=6, quality_steps=0))(block, ratios)


def test_scores_closer_than_the_checked_steps_are_refused():
    block = Block(workload=replace(DIGITS, recipe=Recipe(score_every=4)), variants=(Variant(name="v1"),))
    with pytest.raises(UserError, match="score every 5 steps or less often"):
        Suite(name="s", question="?", blocks=(block,))


def test_settings_may_be_given_in_any_order(tmp_path):
    (tmp_path / "own.py").write_text(SUITE)
    asked, _ = load.load(str(tmp_path / "own.py"), settings=["patience=2", "workers=1", "score_every=6", "loader=map"])
    assert asked.blocks[0].workload.recipe.patience == 2
    assert asked.blocks[0].variants[0].workers == 1


def test_a_task_that_knows_no_parts_is_scored_as_before():
    step = SimpleNamespace(model=None, work=SimpleNamespace(score=lambda model: {"held_out_loss": 1.0}))
    assert score_of(step, "test") == {"held_out_loss": 1.0}


SUITE = """
from harness.recipe import Recipe
from harness.spec import Block, Suite, Variant, Workload

def suite():
    work = Workload(task="finetuning/image_classification", model="vit", size="tiny", data="digits", batch=8, length=17,
                    settings={"layers": 1, "dim": 32}, recipe=Recipe(start="pretraining/masked_image", start_steps=4))
    return Suite(name="own", question="?", launches=1, rounds=2, quality_steps=8,
                 blocks=[Block(workload=work, variants=[Variant(name="v1"), Variant(name="s", attention="sdpa")])])
"""


def test_a_pretrained_start_is_made_once_and_every_case_begins_with_it(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "own.py").write_text(SUITE)
    small = ("--no-trace", "--rounds", "1", "--set", "threads=1", "--set", "device=cpu")
    done = tandem("run", "own.py", *small, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "pretraining for 4 steps, once" in done.stderr
    run = open_run(tmp_path / done.stdout.strip().splitlines()[-1])
    (made,) = (tmp_path / "cache/tandem/starts").iterdir()
    assert {item["facts"]["start"] for item in run.outcomes} == {made.name}
    assert len({item["facts"]["weights_sha256"] for item in run.outcomes}) == 1
    assert run.outcomes[0]["facts"]["weights_drawn"] == ["head.weight", "head.bias"]
    assert '"verb": "write"' in (run.path / "events.jsonl").read_text()

    again = ["device=cpu", "label_smoothing=0.1", "tune=lora", "score_every=6"]  # what the start does not depend on
    asked, folders = load.load(str(tmp_path / "own.py"), settings=again)
    block, events = asked.blocks[0], []
    conditions = Conditions(
        data=load.prepare_data(asked, load.cache() / "data", folders),
        folders=folders,
    )
    (tmp_path / "logs").mkdir()
    recorder = SimpleNamespace(is_done=lambda *_: False, path=tmp_path, work=tmp_path, event=events.append)
    found = started(asked, block, recorder, conditions, Progress(asked, quiet=True), Stopwatch())
    assert found.starts == {block.name: str(made)}
    assert {event["verb"] for event in events if "verb" in event} == {"hello", "build"}


@pytest.mark.parametrize(
    ("setting", "what"),
    [
        ("start=pretraining/masked_imag", "masked_image"),
        ("schedule=cosin", "cosine"),
        ("start_data=digit", "digits"),
        ("learning_rates=1", "learning_rate"),
    ],
)
def test_a_setting_of_training_that_nobody_knows_gives_the_closest(setting, what, tmp_path):
    (tmp_path / "own.py").write_text(SUITE)
    done = tandem("run", "own.py", "--dry-run", "--set", setting, cwd=tmp_path)
    assert done.returncode == 2
    assert what in done.stderr


def test_a_task_whose_data_have_no_validation_part_says_what_to_do(tmp_path):
    work = Workload(task="pretraining/causal_lm", model="gpt", size="tiny", batch=2, length=16)
    config = {**asdict(work), "data": load.prepare_data(
        Suite(name="s", question="?", blocks=(Block(workload=work, variants=(Variant(name="v1"),)),)),
        Path(load.cache() / "data"), [],
    )["stdlib"]}  # fmt: skip
    model = names.find("model", "gpt").load()(torch.nn.functional.scaled_dot_product_attention)
    work = names.find("task", "pretraining/causal_lm").load()(model, config, torch.device("cpu"))
    with pytest.raises(UserError, match="patience=0"):
        work.score(model, "validation")
