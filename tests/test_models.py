"""Every model is what its file says: the published shapes, masks that mask, and the same with any attention."""

import inspect
import math
import re
import warnings
from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from harness import names
from harness.errors import UserError
from harness.worker import probes
from harness.worker.ability import refusal

MODELS = {named.name: named for named in names.listing("model") if not named.reads_weights}
BACKENDS = {named.name: named for named in names.listing("attention")}
FORMULA = BACKENDS["formula"].load()
PUBLISHED = {
    ("bert", "base"): 109_514_298,
    ("encoder_decoder", "base"): 63_084_544,
    ("gpt", "base"): 124_439_808,
    ("llama", "2-7b"): 6_738_415_616,
    ("llama", "3.1-8b"): 8_030_261_248,
    ("llama", "3.2-1b"): 1_235_814_400,
    ("t5", "v1.0-small"): 60_506_624,
    ("t5", "v1.0-base"): 222_903_552,
    ("t5", "v1.1-small"): 76_961_152,
    ("t5", "v1.1-base"): 247_577_856,
    ("vit", "base"): 86_567_656,
    ("vit", "large"): 304_326_632,
    ("whisper", "base"): 71_825_920,
    ("whisper", "tiny.en"): 37_184_256,
}
TWO_STACKS = ("encoder_decoder", "t5")
SOURCE, TARGET = 24, 16  # lengths
pytestmark = pytest.mark.usefixtures("one_thread")

every_model = pytest.mark.parametrize("name", MODELS)
models_of_text = pytest.mark.parametrize("name", [name for name in MODELS if name not in ("vit", "whisper")])
causal_models = pytest.mark.parametrize("name", ["gpt", "llama", "whisper", *TWO_STACKS])
torch_compiles = pytest.mark.filterwarnings("ignore:.*torch.jit.script_method.*:DeprecationWarning")  # Inductor's own


def build(name, attention=FORMULA, seed=0, **config):
    torch.manual_seed(seed)
    return MODELS[name].load()(attention, **config)


def inputs(name, batch=2):
    """Return the arguments of a padded forward pass by name; the first row is padded, the second is full."""
    generator = torch.Generator().manual_seed(1)

    def tokens(length):
        mask = torch.arange(length) < torch.tensor([[length - 5], [length]])
        return torch.randint(256, (batch, length), generator=generator), mask

    if name == "whisper":
        sound = torch.rand(batch, 3200, generator=generator, dtype=torch.float64).float() * 2 - 1  # a fifth of a second
        return {"sound": sound, "target": torch.randint(256, (batch, TARGET), generator=generator)}
    if name == "vit":
        return {"images": torch.randn(batch, 1, 8, 8, generator=generator, dtype=torch.float64).float()}
    source, source_mask = tokens(SOURCE)
    target, target_mask = tokens(TARGET)
    if name in TWO_STACKS:
        return {"source": source, "target": target, "mask": source_mask, "target_mask": target_mask}
    if name in ("gpt", "llama"):
        return {"tokens": target, "mask": target_mask}
    return {"tokens": source, "segments": (source > 128).long(), "mask": source_mask}


def train(model, arguments):
    """Return logits and the gradients of all parameters by name."""
    logits = model(**arguments)
    model.zero_grad()
    loss(logits).backward()
    return {"logits": logits.detach(), **{name: parameter.grad for name, parameter in model.named_parameters()}}


def loss(logits):
    """Return the loss of logits (..., classes) where other tokens are asked for than those given."""
    flat = logits.flatten(0, -2)
    return F.cross_entropy(flat, torch.arange(len(flat)) % min(256, flat.size(1)))


def assert_same(found, expected, tolerance=1e-12):
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=tolerance, atol=tolerance, msg=name)


@every_model
def test_the_sizes_give_every_field_of_build(name):
    sizes = MODELS[name].literal("SIZES", {})
    assert list(sizes) == ["tiny", "small", *(size for model, size in PUBLISHED if model == name)]
    for size in sizes.values():
        assert list(size) == MODELS[name].parameters()
    defaults = inspect.signature(MODELS[name].load()).parameters.values()
    assert {item.name: item.default for item in defaults if item.kind is item.KEYWORD_ONLY} == sizes["tiny"]


@pytest.mark.parametrize(("name", "size"), PUBLISHED)
def test_a_published_size_has_the_published_number_of_parameters(name, size):
    with torch.device("meta"):
        model = build(name, **MODELS[name].literal("SIZES", {})[size])
    assert sum(parameter.numel() for parameter in model.parameters()) == PUBLISHED[name, size]


@pytest.mark.parametrize("backend", BACKENDS)
@every_model
def test_a_model_agrees_with_itself_across_attention_backends(name, backend):
    expected = train(build(name).double(), inputs(name))
    refusing = {"sdpa_efficient", "sdpa_cudnn", "flex"} | ({"sdpa_flash"} if name == "t5" else set())  # its bias learns
    model = build(name, BACKENDS[backend].load()).double()
    with getattr(BACKENDS[backend].module(), "around", nullcontext)(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning)  # torch may warn why it refuses
        try:
            found = train(model, inputs(name))
        except Exception as error:
            if backend not in refusing or not refusal(error, []):
                raise
        else:
            assert backend not in refusing
            assert_same(found, expected)


@torch_compiles
@every_model
@torch.no_grad()
def test_a_model_agrees_with_itself_on_flex_where_no_gradient_is_asked(name):
    torch._dynamo.reset()  # flex compiles anew for every shape, up to a limit
    found = build(name, BACKENDS["flex"].load())(**inputs(name))
    torch.testing.assert_close(found, build(name)(**inputs(name)), rtol=1e-4, atol=1e-4)


@every_model
def test_initial_weights_depend_on_the_seed_alone(name):
    weights = build(name).state_dict()
    again = build(name, BACKENDS["sdpa"].load()).state_dict()
    assert all(torch.equal(weights[key], again[key]) for key in weights)
    other = build(name, seed=1).state_dict()
    drawn = next(key for key in weights if "norm" not in key and "bias" not in key)
    assert not torch.equal(weights[drawn], other[drawn])


@every_model
def test_an_untrained_model_knows_nothing(name):
    model, arguments = build(name), inputs(name)
    logits = model(**arguments)
    assert abs(loss(logits).item() - math.log(logits.size(-1))) < (1.5 if name == "t5" else 1)  # its head has std 1


def test_gpt_draws_its_residual_outputs_smaller():
    layer = build("gpt", layers=8, dim=256).layers[0]
    assert layer.qkv.weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert layer.mlp_output.weight.std().item() == pytest.approx(0.02 / 4, rel=0.02)


@every_model
def test_the_gradient_reaches_every_parameter(name):
    gradients = train(build(name), inputs(name))
    for parameter, gradient in gradients.items():
        assert gradient is not None, parameter
        assert gradient.isfinite().all(), parameter
        if not parameter.endswith("key.bias"):  # adds the same to all scores of a query: softmax does not see it
            assert gradient.any(), parameter


@every_model
def test_layers_are_elements_of_module_lists(name):
    lists = [module for module in build(name, layers=3).modules() if isinstance(module, torch.nn.ModuleList)]
    assert [len(layers) for layers in lists] == ([3, 3] if name in (*TWO_STACKS, "whisper") else [3])


@every_model
def test_a_model_compiles_without_a_graph_break(name):
    model, arguments = build(name).double(), inputs(name)
    compiled = torch.compile(lambda model, arguments: model(**arguments), fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(model, arguments), model(**arguments))


@every_model
def test_without_dropout_a_model_is_deterministic_and_with_it_is_not(name):
    plain, dropping = build(name), build(name, dropout=0.5)
    assert torch.equal(plain(**inputs(name)), plain(**inputs(name)))
    assert not torch.equal(dropping(**inputs(name)), dropping(**inputs(name)))
    assert torch.equal(dropping.eval()(**inputs(name)), plain(**inputs(name)))


@pytest.mark.parametrize("name", [name for name, model in MODELS.items() if "positions" in model.parameters()])
def test_a_longer_input_than_the_positions_is_refused_with_what_to_do(name):
    arguments = {key: value for key, value in inputs(name).items() if value.dtype != torch.bool}
    needed = arguments[{"encoder_decoder": "source", "whisper": "target"}.get(name, "tokens")].size(1)
    with pytest.raises(UserError, match=f"^{needed} tokens .* 10 positions; --set positions={needed}$"):
        build(name, positions=10)(**arguments)


@causal_models
def test_a_causal_model_does_not_see_the_future(name):
    model, arguments = build(name), inputs(name)
    before = model(**arguments)
    arguments["tokens" if name in ("gpt", "llama") else "target"][:, 9] += 1
    after = model(**arguments)
    assert torch.equal(before[:, :9], after[:, :9])
    assert not torch.equal(before[1, 9], after[1, 9])


def test_bert_sees_both_ways_and_the_segments():
    model, arguments = build("bert"), inputs("bert")
    before = model(**arguments)
    for changed in ("tokens", "segments"):
        other = {**arguments, changed: arguments[changed].clone()}
        other[changed][1, 9] = 1 - other[changed][1, 9].clamp(max=1)
        assert not torch.equal(before[1, :9], model(**other)[1, :9])
    zeros = torch.zeros_like(arguments["tokens"])
    assert torch.equal(model(arguments["tokens"]), model(arguments["tokens"], segments=zeros))


@models_of_text
def test_what_the_padding_holds_changes_nothing_else(name):
    model, arguments = build(name), inputs(name)
    real = arguments["target_mask" if name in TWO_STACKS else "mask"]
    before = model(**arguments)
    assert before.isfinite().all()
    for tokens, mask in (("tokens", "mask"), ("source", "mask"), ("target", "target_mask")):
        if tokens in arguments:
            arguments[tokens] = torch.where(arguments[mask], arguments[tokens], 300)
    assert torch.equal(before[real], model(**arguments)[real])


@models_of_text
def test_a_padded_row_reads_as_the_same_row_cut_short(name):
    model, arguments = build(name).double(), inputs(name)
    cut = {key: value[:1, : value.size(1) - 5] for key, value in arguments.items() if "mask" not in key}
    alone = model(**cut)
    torch.testing.assert_close(model(**arguments)[:1, : alone.size(1)], alone)


CLASSIFIERS = ("bert", "gpt", "llama", *TWO_STACKS)
every_classifier = pytest.mark.parametrize("name", CLASSIFIERS)


def text(name="bert"):
    """Return texts to classify, by name; the first row is padded, the second is full."""
    arguments = inputs("bert")
    first = "source" if name in TWO_STACKS else "tokens"
    return {first: arguments["tokens"], "mask": arguments["mask"]}


@every_classifier
def test_a_classifier_trains_alike_on_formula_and_sdpa_in_all_its_parameters(name):
    expected = train(build(name, classes=5).double(), text(name))
    assert expected["logits"].shape == (2, 5)
    assert_same(train(build(name, BACKENDS["sdpa"].load(), classes=5).double(), text(name)), expected)
    for parameter, gradient in expected.items():
        if not parameter.endswith("key.bias"):
            assert gradient.any(), parameter


@every_classifier
def test_padding_says_nothing_about_a_class_and_every_real_token_does(name):
    model = build(name, classes=5).double()
    tokens, mask = text()["tokens"], text()["mask"]
    logits = model(tokens, mask=mask)
    assert torch.equal(model(torch.where(mask, tokens, 300), mask=mask), logits)
    torch.testing.assert_close(model(tokens[:1, :-5]), logits[:1])
    torch.testing.assert_close(model(tokens[1:]), logits[1:])
    for place in (0, 9, SOURCE - 1):
        changed = tokens.clone()
        changed[1, place] += 1
        assert not torch.allclose(model(changed, mask=mask)[1], logits[1], rtol=0, atol=1e-9)


@every_classifier
def test_a_classifier_compiles_without_a_graph_break(name):
    model, arguments = build(name, classes=5).double(), text(name)
    compiled = torch.compile(lambda model, arguments: model(**arguments), fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(model, arguments), model(**arguments))


@pytest.mark.parametrize("name", TWO_STACKS)
def test_a_model_of_two_stacks_writes_a_target_or_tells_classes_apart(name):
    tokens = text()["tokens"]
    with pytest.raises(UserError, match="--set classes=N"):
        build(name)(tokens)
    with pytest.raises(UserError, match="--set classes=0"):
        build(name, classes=5)(tokens, tokens)


@pytest.mark.parametrize("name", TWO_STACKS)
def test_the_decoder_of_a_classifier_reads_the_text_one_place_later(name):
    model, tokens, seen = build(name, classes=5), text()["tokens"], []
    model.token.register_forward_hook(lambda module, given, output: seen.append(given[0]))
    model(tokens)
    source, target = seen
    assert torch.equal(source, tokens)
    assert torch.equal(target[:, 1:], tokens[:, :-1])
    assert torch.equal(target[:, 0], tokens[:, 0])


def flop_told(name, size, **places):
    """Return the FLOP of a forward pass that the formula in the model's docstring gives."""
    formula = re.search(r"^FLOP .*?:\n\n((?:    .+\n)+)", MODELS[name].module().__doc__, re.MULTILINE | re.DOTALL)
    known = {**MODELS[name].literal("SIZES", {})[size], **places}
    if name == "t5":
        known |= {"inner": known["heads"] * known["head_dim"]}
        known |= {"feed": (4 + 2 * known["gated"]) * known["dim"] * known["hidden"]}
    return eval(" ".join(formula[1].split()), known)


@pytest.mark.parametrize(
    ("name", "changes"), [*((name, {}) for name in MODELS), ("t5", {"gated": True, "tied": False}),
                          ("llama", {"tied": False})]
)  # fmt: skip
@pytest.mark.parametrize("backend", ["formula", "sdpa"])
def test_the_flop_counted_are_those_of_the_formula_in_the_docstring(name, changes, backend):
    arguments = {field: value for field, value in inputs(name).items() if "mask" not in field}
    places = {"length": 17 if name == "vit" else TARGET if name in ("gpt", "llama") else SOURCE}
    places |= {"source": SOURCE, "target": TARGET, "places": 3200 // 160 // 2}
    counter = FlopCounterMode(display=False, custom_mapping=probes.attention_formulas())
    with counter:
        logits = build(name, BACKENDS[backend].load(), **changes)(**arguments)
        forward = counter.get_total_flops()
        logits.sum().backward()
    assert forward == pytest.approx(2 * flop_told(name, "tiny", **places, **changes), rel=0.01)
    spared = 2 * places["places"] * 80 * (2 * 4 * 201 + 12 * 128) * (name == "whisper")
    assert counter.get_total_flops() == pytest.approx(3 * forward - spared, rel=0.01)
