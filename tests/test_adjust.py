"""`--set` and `--vary` on any suite."""

import pytest

from harness import load
from harness.errors import UserError


def adjusted(*, name="quick", settings=(), axes=()):
    suite, folders = load.load(name, settings=settings, axes=axes)
    load.check_names(suite, folders, ())
    return suite


@pytest.mark.parametrize(
    ("setting", "read"),
    [
        ("batch=2", lambda suite: suite.blocks[0].workload.batch == 2),
        ("threads=1", lambda suite: all(case.variant.threads == 1 for case in suite.cases)),
        ("dropout=0.1", lambda suite: suite.blocks[1].workload.settings["dropout"] == 0.1),
        ("compile=none", lambda suite: {case.variant.compile for case in suite.cases} == {"none"}),
        ("checkpoint=true", lambda suite: all(case.variant.checkpoint for case in suite.cases)),
        ("rounds=3", lambda suite: suite.rounds == 3),
        ("seed=4", lambda suite: suite.seed == 4 and suite.blocks[0].workload.seed == 4),
    ],
)
def test_set_changes_a_field_everywhere(setting, read):
    assert read(adjusted(settings=[setting]))


def test_varying_the_workload_repeats_the_blocks():
    before, after = adjusted(), adjusted(axes=["length=64,256"])
    assert len(after.blocks) == 2 * len(before.blocks)
    assert {block.workload.length for block in after.blocks} == {64, 256}
    assert all(block.baseline == "v1" for block in after.blocks)


def test_varying_the_variant_compares_the_values_with_each_other():
    after = adjusted(name="null", axes=["precision=fp32,bf16"])
    block = after.blocks[0]
    assert {variant.precision for variant in block.variants} == {"fp32", "bf16"}
    assert block.baseline_case.variant.precision == "fp32"


def test_what_torch_compile_takes_as_none_is_unset():
    (block,) = adjusted(name="null", axes=["dynamic=unset,true,false"]).blocks
    assert [variant.dynamic for variant in block.variants[:3]] == [None, True, False]


def test_varying_a_field_of_the_model_names_the_blocks_by_it():
    names = [block.name for block in adjusted(name="null", axes=["dropout=0.0,0.1"]).blocks]
    assert names[0].endswith("dropout=0.0")
    assert names[1].endswith("dropout=0.1")


def test_another_model_keeps_the_settings_that_it_knows():
    def settings(*asked):
        (block,) = adjusted(name="fit", settings=asked).blocks
        return block.workload.settings

    assert settings("model=gpt") == settings() == {"positions": 2**17}
    assert settings("model=t5") == {}
    assert settings("positions=64", "model=gpt") == {"positions": 64}
    models = [block.workload.settings for block in adjusted(name="fit", axes=["model=llama,t5"]).blocks]
    assert models == [{"positions": 2**17}, {}]


def test_two_axes_multiply():
    assert len(adjusted(name="null", axes=["batch=2,4", "length=64,128"]).blocks) == 4


@pytest.mark.parametrize(
    ("settings", "axes", "sentence"),
    [
        (["bacth=2"], (), "did you mean 'batch'"),
        ((), ["atention=sdpa,flex"], "did you mean 'attention'"),
        ((), ["attention=sdpa,flsh"], "no attention 'flsh'"),
        ((), ["precision=fp32,bf61"], "did you mean 'bf16'"),
        ((), ["launches=3,5"], "use `--set launches=VALUE`"),
        ((), ["batch=2,2"], "a value comes twice"),
        (["size=huge"], (), "no size of model 'gpt' 'huge'"),
        (["model=gtp"], (), "did you mean 'gpt'"),
        (["batch=0"], (), "batch is 0"),
        (["batch"], (), "not of the form key=value"),
        (["torch=v1"], (), "--python v1=PATH"),
        (["data=wikipedia"], (), "no data 'wikipedia'"),
    ],
)
def test_a_wrong_axis_or_value_is_a_sentence(settings, axes, sentence):
    with pytest.raises(UserError) as caught:
        adjusted(settings=settings, axes=axes)
    assert sentence in str(caught.value)
