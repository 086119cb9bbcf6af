"""The suites that come with Tandem: valid, only data, and asking what they say they ask."""

import json
import subprocess
import sys
from dataclasses import asdict, replace

import pytest

from harness import names, start
from harness.spec import CHOICES, Suite

SUITES = {named.name: named for named in names.listing("suite")}
every_suite = pytest.mark.parametrize("name", SUITES)


def load(name):
    return SUITES[name].load()()


def changes(variant, other):
    """Return the fields in which two variants differ, their names apart."""
    return {field for field, value in asdict(variant).items() if asdict(other)[field] != value} - {"name"}


def test_every_question_of_the_design_has_its_suite():
    assert set(SUITES) >= {
        "quick", "ladder", "attention", "length", "precision", "compile", "null",
        "finetune", "transfer", "regularisation",
    }  # fmt: skip


@every_suite
def test_a_suite_is_named_as_its_file_and_asks_one_question(name):
    suite = load(name)
    assert isinstance(suite, Suite)
    assert suite.name == name
    assert suite.question.endswith("?")
    assert suite.question.count("?") == 1
    assert SUITES[name].summary.endswith(".")


@every_suite
def test_a_suite_comes_back_from_json_with_the_same_cases(name):
    suite = load(name)
    again = Suite.from_json(json.loads(json.dumps(suite.to_json())))
    assert again == suite
    assert [case.id for case in again.cases] == [case.id for case in suite.cases]


@every_suite
def test_every_name_in_a_suite_leads_somewhere(name):
    for case in load(name).cases:
        if case.workload.is_ceiling:
            assert set(case.workload.settings) <= set(names.find("ceiling", case.workload.task).parameters())
            continue
        model = names.find("model", case.workload.model)
        assert case.workload.size in {**model.literal("SIZES", {}), None: {}}
        assert set(case.workload.settings) <= set(model.parameters())
        names.find("task", case.workload.task)
        names.find("data", case.workload.data)
        if before := start.workload(case.workload):
            names.find("task", before.task)
            names.find("data", before.data)
        names.find("attention", case.variant.attention)


def test_definitions_load_without_torch_and_numpy():
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('torch', 'numpy', 'pandas')))\n"
        "from harness import names\n"
        "print(*(named.load()().name for named in names.listing('suite')))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=names.ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == list(SUITES)


@pytest.mark.parametrize(("name", "rungs"), [("quick", 4), ("ladder", 5)])
def test_each_rung_of_the_ladder_adds_one_thing(name, rungs):
    added = [{"attention"}, {"compile"}, {"optimizer"}, {"precision"}]
    for block in load(name).blocks:
        assert [variant.name for variant in block.variants] == ["v1", "+sdpa", "+compile", "+fused", "+bf16"][:rungs]
        pairs = zip(block.variants, block.variants[1:], strict=False)
        assert [changes(*pair) for pair in pairs] == added[: rungs - 1]
        assert block.baseline == "v1"


def test_quick_is_a_first_look_at_two_tiny_models():
    suite = load("quick")
    workloads = [block.workload for block in suite.blocks]
    assert [(workload.model, workload.size) for workload in workloads] == [("gpt", "tiny"), ("bert", "tiny")]
    assert (suite.launches, suite.rounds, suite.quality_steps) == (4, 24, 30)


def test_ladder_climbs_on_each_kind_of_transformer():
    assert [block.workload.model for block in load("ladder").blocks] == ["gpt", "bert", "encoder_decoder"]


def test_lengths_are_the_same_model_and_as_many_tokens():
    workloads = [block.workload for block in load("length").blocks]
    assert [workload.length for workload in workloads] == [128, 256, 512, 1024, 2048]
    assert len({workload.batch * workload.length for workload in workloads}) == 1
    rest = [replace(workload, batch=1, length=1) for workload in workloads]
    assert all(workload == rest[0] for workload in rest)
    assert workloads[0].settings["positions"] == 2048


def test_attention_compares_every_backend_with_the_choice_of_sdpa():
    for block in load("attention").blocks:
        assert {variant.attention for variant in block.variants} == {named.name for named in names.listing("attention")}
        assert block.baseline_case.variant.attention == "sdpa"
        assert len({variant.precision for variant in block.variants}) == 1


def test_dynamic_has_more_lengths_than_torch_compiles_a_function_for():
    for block in load("dynamic").blocks:
        assert block.workload.lengths > 8
        assert block.baseline_case.variant.compile == "none"
        assert {variant.dynamic for variant in block.variants} == {None, True, False}
        compiled = next(variant for variant in block.variants if variant.name == "+compile")
        assert all(changes(variant, compiled) <= {"dynamic", "bucket", "compile"} for variant in block.variants)
        for variant in block.variants:
            assert variant.bucket == 0 or block.workload.length / variant.bucket <= 8
    assert load("dynamic").check_steps == block.workload.lengths


@pytest.mark.parametrize(("name", "left_out"), [("compile", set()), ("precision", {"fp64", "int8", "fp8"})])
def test_an_axis_is_gone_through_with_nothing_else_changed(name, left_out):
    (block,) = load(name).blocks
    assert {getattr(variant, name) for variant in block.variants} == {*CHOICES[name]} - left_out
    assert all(changes(variant, block.variants[0]) <= {name} for variant in block.variants)
    assert getattr(block.baseline_case.variant, name) == CHOICES[name][0]


@pytest.mark.parametrize("name", ["hardware", "hardware_quick"])
def test_a_gpu_is_asked_the_same_at_sizes_that_keep_it_busy(name):
    suite, larger = load(name), SUITES[name].module().accelerated()
    assert {block.workload.task for block in suite.blocks} == {block.workload.task for block in larger.blocks}
    assert {block.workload.model for block in suite.blocks} == {block.workload.model for block in larger.blocks}
    tokens = {block.workload.model: block.workload.batch * block.workload.length for block in larger.blocks}
    for block in suite.blocks:
        if block.workload.model:
            assert tokens[block.workload.model] >= 64 * block.workload.batch * block.workload.length
    assert json.dumps(larger.to_json())


def test_null_is_the_same_variant_twice():
    (block,) = load("null").blocks
    a, b = block.variants
    assert (a.name, b.name, changes(a, b)) == ("a", "b", set())


def test_families_are_all_models_of_text_with_as_many_parameters():
    pytest.importorskip("torch")
    attention = names.find("attention", "formula").load()
    suite, counts = load("families"), {}
    for block in suite.blocks:
        work = block.workload
        model = names.find("model", work.model)
        built = model.load()(attention, **{**model.literal("SIZES", {})[work.size], **work.settings})
        counts[block.name] = sum(parameter.numel() for parameter in built.parameters())
        assert (work.task, work.data, work.batch) == ("finetuning/text_classification", "packages", 16)
        assert [variant.name for variant in block.variants] == ["+sdpa"]
    assert list(counts) == ["gpt", "llama", "bert", "encoder_decoder", "t5"]
    assert max(counts.values()) < 1.02 * min(counts.values()), counts
    assert suite.seeds == suite.launches == 5
