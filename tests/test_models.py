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
from suites.models import bert, llama, t5

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


FORMS = [  # other published forms than those of the tiny sizes
    ("llama", {"key_heads": 4, "tied": False, "stretch": 8.0}),
    ("llama", {"key_heads": 1}),
    ("t5", {"gated": True, "tied": False, "head_dim": 16}),
]


@pytest.mark.parametrize(("name", "config"), FORMS)
def test_every_published_form_trains_alike_on_formula_and_sdpa(name, config):
    expected = train(build(name, **config).double(), inputs(name))
    assert_same(train(build(name, BACKENDS["sdpa"].load(), **config).double(), inputs(name)), expected)
    assert all(gradient.any() for gradient in expected.values())


def test_grouped_key_heads_are_full_ones_that_repeat():
    grouped, full = build("llama", key_heads=2).double(), build("llama", key_heads=4).double()
    weights = grouped.state_dict()
    for key in [key for key in weights if "qkv" in key]:
        q, k, v = weights[key].split([128, 64, 64])
        weights[key] = torch.cat([q, *(x.unflatten(0, (2, 32)).repeat_interleave(2, 0).flatten(0, 1) for x in (k, v))])
    full.load_state_dict(weights)
    torch.testing.assert_close(full(**inputs("llama")), grouped(**inputs("llama")))


@pytest.mark.parametrize("config", [{"heads": 3}, {"heads": 4, "key_heads": 3}])
def test_heads_that_do_not_divide_are_refused(config):
    with pytest.raises(UserError, match="make each a multiple of the next"):
        build("llama", **config)


def test_rotary_scores_depend_on_the_distance_alone():
    q, k = torch.randn(2, 1, 1, 1, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    turns = llama.rotations(64, 32, theta=10000.0, stretch=1.0).double()
    scores = llama.rotated(q.expand(1, 1, 64, 32), turns)[0, 0] @ llama.rotated(k.expand(1, 1, 64, 32), turns)[0, 0].T
    for distance in (-40, -1, 0, 3):
        first, *others = scores.diagonal(distance).tolist()
        assert others == pytest.approx([first] * len(others), abs=1e-5)
    assert scores[0, 0].item() == pytest.approx((q * k).sum().item(), abs=1e-5)


def test_pair_i_turns_by_theta_to_the_minus_2i_over_dim_a_position():
    pairs = torch.tensor([[1.0, 0.0]]).repeat_interleave(16, dim=1).expand(1, 1, 8, 32)  # (1, 0) in each pair
    turned = llama.rotated(pairs, llama.rotations(8, 32, theta=10000.0, stretch=1.0))[0, 0]
    for position, pair in ((0, 0), (1, 0), (7, 3), (5, 15)):
        angle = position / 10000 ** (2 * pair / 32)
        found = turned[position, pair].item(), turned[position, pair + 16].item()
        assert found == pytest.approx((math.cos(angle), math.sin(angle)), abs=1e-6)


def test_stretching_slows_down_only_the_pairs_that_turn_slowly():
    def speed(stretch):  # of a head of 128 as in Llama 3.1 8B; the sine of a small angle is the angle
        return llama.rotations(2, 128, theta=500000.0, stretch=stretch)[1, 1, 64:].asin()

    ratio = speed(1.0) / speed(8.0)
    turns = 8192 * speed(1.0) / (2 * math.pi)
    assert ratio[turns > 4].tolist() == pytest.approx([1.0] * int((turns > 4).sum()), rel=1e-4)
    assert ratio[turns < 1].tolist() == pytest.approx([8.0] * int((turns < 1).sum()), rel=1e-4)
    assert ((ratio > 1.001) & (ratio < 7.999)).sum() == ((turns > 1) & (turns < 4)).sum() > 3


@pytest.mark.parametrize("norm", [llama.RMSNorm(64, 1e-5), t5.RMSNorm(64)])
def test_rms_norm_is_computed_in_float32_or_wider(norm):
    x = 100 * torch.randn(4, 64, generator=torch.Generator().manual_seed(0))
    expected = x.double() / x.double().square().mean(-1, keepdim=True).sqrt()
    torch.testing.assert_close(norm(x).double(), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(norm.bfloat16()(x.bfloat16()).double(), expected, rtol=1e-2, atol=1e-5)
    assert norm(x.bfloat16()).dtype == torch.bfloat16
    torch.testing.assert_close(norm.double()(x.double()), expected, rtol=1e-6, atol=0)


def test_distances_share_buckets_that_widen_up_to_128():
    before = t5.buckets(-torch.arange(300), causal=True).tolist()  # a key before the query: a negative distance
    assert before[:16] == list(range(16))
    assert before[16:20] == [16, 16, 16, 17]
    assert before[127:] == [31] * 173
    assert before == sorted(before)
    both = t5.buckets(torch.tensor([-300, -128, -16, -8, -1, 0, 1, 8, 16, 128, 300]), causal=False)
    assert both.tolist() == [15, 15, 10, 8, 1, 0, 17, 24, 26, 31, 31]


@pytest.mark.parametrize("causal", [False, True])
def test_the_bias_of_query_and_key_is_that_of_the_bucket_of_their_distance(causal):
    bias = t5.RelativeBias(4, causal=causal)
    found = bias(20)
    assert found.shape == (1, 4, 20, 20)
    for query, key in ((0, 0), (3, 1), (1, 3), (19, 0), (0, 19)):
        bucket = t5.buckets(torch.tensor(key - query), causal)
        assert torch.equal(found[0, :, query, key], bias.bucket.weight[bucket])


def test_t5_does_not_scale_its_scores():
    seen = []

    def spy(q, k, v, **options):
        seen.append(q @ k.transpose(-2, -1) / math.sqrt(q.size(-1)))
        return q

    attention = t5.MultiHeadAttention(spy, 64, 1, 16)
    x = torch.randn(1, 5, 64, generator=torch.Generator().manual_seed(0))
    attention(x, x)
    torch.testing.assert_close(seen[0][0, 0], (attention.query(x) @ attention.key(x).transpose(1, 2))[0])


def test_the_layers_of_a_stack_share_one_bias_and_cross_attention_has_none():
    seen = []

    def spy(q, k, v, *, causal, bias=None, **options):
        seen.append((causal, bias))
        return q

    build("t5", spy)(**inputs("t5"))
    encoder, decoder = seen[:2], seen[2:]
    assert [causal for causal, _ in seen] == [False, False, True, False, True, False]
    assert [bias is None for _, bias in decoder] == [False, True, False, True]
    assert encoder[0][1] is encoder[1][1]
    assert decoder[0][1] is decoder[2][1]
    assert (encoder[0][1].shape, decoder[0][1].shape) == ((1, 4, SOURCE, SOURCE), (1, 4, TARGET, TARGET))


def test_the_embedding_is_scaled_and_the_positions_are_those_of_the_paper():
    model, tokens = build("encoder_decoder"), inputs("encoder_decoder")["source"]
    positions = (model.embed(tokens) - math.sqrt(128) * model.token.weight[tokens])[0]  # (24, 128)
    for position, i in ((0, 0), (1, 0), (7, 3), (23, 63)):
        angle = position / 10000 ** (2 * i / 128)
        found = positions[position, 2 * i : 2 * i + 2].tolist()
        assert found == pytest.approx([math.sin(angle), math.cos(angle)], abs=1e-5)


def from_torch(weights):
    """Return the weights of a torch.nn.Transformer under the names that encoder_decoder's layers have."""
    renamed = {}
    for key, value in weights.items():
        stack, *rest = key.split(".")
        if rest[0] == "norm":
            renamed[f"{stack}_norm.{rest[1]}"] = value
            continue
        _, index, part, *leaf = rest
        cross = "multihead" in part or (stack == "decoder" and part == "norm2")
        last = part == ("norm3" if stack == "decoder" else "norm2")
        block = "cross_attention" if cross else "feed_forward" if last else "self_attention"
        at = f"{stack}.{index}"
        if leaf[0].startswith("in_proj"):
            kind = leaf[0].removeprefix("in_proj_")
            names_of_thirds = (f"{at}.{block}.{third}.{kind}" for third in ("query", "key", "value"))
            renamed.update(zip(names_of_thirds, value.chunk(3), strict=True))
        elif leaf[0] == "out_proj":
            renamed[f"{at}.{block}.output.{leaf[1]}"] = value
        elif part.startswith("linear"):
            renamed[f"{at}.feed_forward.{'inner' if part == 'linear1' else 'outer'}.{leaf[0]}"] = value
        else:
            renamed[f"{at}.{block}_norm.{leaf[0]}"] = value
    return renamed


@pytest.mark.parametrize("padded", [False, True])
def test_encoder_decoder_is_torch_nn_transformer(padded):
    torch.manual_seed(2)
    layers = {"num_encoder_layers": 2, "num_decoder_layers": 2, "dim_feedforward": 512}
    reference = torch.nn.Transformer(128, 4, **layers, dropout=0.0, batch_first=True, dtype=torch.float64)
    for parameter in reference.parameters():  # biases and norms too
        torch.nn.init.normal_(parameter, std=0.1)
    model = build("encoder_decoder").double()
    token = {"token.weight": model.token.weight.detach()}
    model.load_state_dict({**from_torch(reference.state_dict()), **token})

    arguments = inputs("encoder_decoder")
    if not padded:
        arguments = {key: value for key, value in arguments.items() if "mask" not in key}
    ignored = {key: ~value for key, value in arguments.items() if "mask" in key}
    output = reference(
        model.embed(arguments["source"]),
        model.embed(arguments["target"]),
        tgt_mask=torch.ones(TARGET, TARGET, dtype=torch.bool).triu(1),  # True: may not attend
        src_key_padding_mask=ignored.get("mask"),
        memory_key_padding_mask=ignored.get("mask"),
        tgt_key_padding_mask=ignored.get("target_mask"),
    )
    torch.testing.assert_close(model(**arguments), output @ model.token.weight.T)


def restoring(name="vit", **config):
    """Return a ViT with the head of pixels, images and which of their patches are masked: every second."""
    masked = torch.arange(16).expand(2, -1) % 2 == 0
    return build(name, classes=0, **config).double(), inputs("vit")["images"].double(), masked


def test_a_masked_patch_is_not_seen_and_the_others_are():
    model, images, masked = restoring()
    before = model(images, masked)
    assert before.shape == images.shape
    images[0, 0, 1, 1] += 1  # in patch 0, which is masked
    assert torch.equal(model(images, masked), before)
    images[0, 0, 1, 2] += 1  # in patch 1
    after = model(images, masked)
    assert not torch.equal(after[0], before[0])
    assert torch.equal(after[1], before[1])


def test_restored_pixels_lie_in_the_patch_they_are_of():
    model, images, masked = restoring(patch=4, channels=3, image=8)
    model.pixels.weight.data.zero_()
    model.pixels.bias.data = torch.arange(48.0, dtype=torch.float64)  # channel, row, column
    restored = model(images.expand(-1, 3, -1, -1), masked[:, :4])
    assert torch.equal(restored, model.pixels.bias.view(3, 4, 4).repeat(2, 1, 2, 2))


def test_each_patch_is_read_at_its_own_position():
    model = build("vit")
    images = inputs("vit")["images"]
    swapped = images.clone()
    swapped[..., :2, :2], swapped[..., :2, 2:4] = images[..., :2, 2:4], images[..., :2, :2]
    assert not torch.allclose(model(swapped), model(images))
    model.position.data[1:3] = model.position.data[1]
    torch.testing.assert_close(model(swapped), model(images))


def test_the_head_of_pixels_learns_too():
    model, images, masked = restoring()
    (model(images, masked) - images).abs().sum().backward()
    assert all(parameter.grad.any() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("config", "size", "masked", "sentence"),
    [
        ({"image": 9}, 9, False, "--set patch="),
        ({}, 10, False, "--set image=10 --set channels=1"),
        ({}, 8, True, "--set classes=0"),
        ({"classes": 0}, 8, False, "--set classes=N"),
    ],
)
def test_images_that_do_not_fit_a_vit_are_refused_with_what_to_do(config, size, masked, sentence):
    with pytest.raises(UserError, match=sentence):
        build("vit", **config)(torch.zeros(1, 1, size, size), torch.ones(1, 16, dtype=torch.bool) if masked else None)


def test_whisper_hears_all_of_the_sound_in_each_letter():
    model, arguments = build("whisper"), inputs("whisper")
    before = model(**arguments)
    arguments["sound"][1, -300:] = 0.0
    after = model(**arguments)
    assert torch.equal(after[0], before[0])
    assert (after[1] != before[1]).any(-1).all()


def test_more_sound_than_half_a_minute_is_refused():
    with pytest.raises(UserError, match="3002 frames are too many for 1500 places of two"):
        build("whisper")(torch.zeros(1, 3002 * 160), torch.zeros(1, 1, dtype=torch.int64))


def spectrum_by_definition(sound, frame):
    """Return the power in each Fourier bin of a frame, summed up one by one in float64."""
    padded = torch.cat([sound[1:201].flip(0), sound, sound[-201:-1].flip(0)]).double()
    place = torch.arange(400, dtype=torch.float64)
    weighted = padded[frame * 160 : frame * 160 + 400] * (0.5 - 0.5 * torch.cos(2 * math.pi * place / 400))
    angle = 2 * math.pi * torch.arange(201, dtype=torch.float64)[:, None] * place / 400
    return (weighted * angle.cos()).sum(1) ** 2 + (weighted * angle.sin()).sum(1) ** 2


def slaney(hertz):
    """Return the mel of a frequency, as the Auditory Toolbox has it."""
    return hertz * 3 / 200 if hertz < 1000 else 15 + math.log(hertz / 1000) * 27 / math.log(6.4)


@pytest.mark.parametrize("kind", ["noise", "chirp", "quiet"])
def test_the_log_mel_spectrum_is_that_of_its_definition(kind):
    module, time = MODELS["whisper"].module(), torch.arange(3200) / 16_000
    noise = torch.randn(3200, generator=torch.Generator().manual_seed(3))
    sound = {"noise": 0.1 * noise, "chirp": torch.sin(2 * math.pi * (300 + 9000 * time) * time), "quiet": 1e-4 * noise}
    sound = torch.cat([torch.zeros(800), sound[kind][800:]])  # digital silence first: the floor of the logarithm
    found = module.log_mel(sound[None], module.mel_filters())[0]
    assert found.shape == (80, 20)

    width = slaney(8000) / 81  # of a band, in mel
    mels = torch.tensor([slaney(40.0 * bin) for bin in range(201)], dtype=torch.float64)
    corners = [1000 * 6.4 ** ((width * n - 15) / 27) for n in (30, 31, 32)]  # of band 30, above 1000 Hz
    bins = torch.arange(201, dtype=torch.float64) * 40
    low, middle, high = corners
    weights = torch.where(bins < middle, (bins - low) / (middle - low), (high - bins) / (high - middle)).clamp(min=0)
    assert (
        weights.nonzero().flatten().tolist() == ((mels > 30 * width) & (mels < 32 * width)).nonzero().flatten().tolist()
    )
    power = [weights @ spectrum_by_definition(sound, frame) * 2 / (high - low) for frame in range(20)]
    band = torch.tensor([math.log10(max(value, 1e-10)) for value in power])
    top = (found.max() * 4 - 4).item()  # the loudest band, from which the floor is reckoned
    torch.testing.assert_close(found[30], (band.clamp(min=top - 8) + 4) / 4, rtol=0, atol=1e-4)


def test_the_loudest_of_each_row_sets_its_own_floor():
    module = MODELS["whisper"].module()
    sounds = torch.stack([inputs("whisper")["sound"][0], torch.zeros(3200)])
    both = module.log_mel(sounds, module.mel_filters())
    assert both[1].unique().tolist() == [-1.5]  # (log10(1e-10) + 4) / 4
    torch.testing.assert_close(both[:1], module.log_mel(sounds[:1], module.mel_filters()))


def test_under_autocast_the_spectrum_keeps_its_precision():
    model, sound = build("whisper"), inputs("whisper")["sound"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(model.frames(sound), build("whisper").frames(sound))
    found = model.bfloat16().frames(sound).float()
    torch.testing.assert_close(found, build("whisper").frames(sound), rtol=0, atol=0.02)
    assert build("whisper").double().frames(sound).dtype == torch.float64


def test_the_encoders_places_are_whispers_sinusoids():
    places = build("whisper").places
    assert places.shape == (1500, 128)
    for place, i in ((0, 0), (1, 0), (7, 3), (1499, 63)):
        angle = place / 10_000 ** (i / 63)
        assert places[place, [i, 64 + i]].tolist() == pytest.approx([math.sin(angle), math.cos(angle)], abs=1e-6)


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


@pytest.mark.parametrize(("pool", "ngrams"), [("mean", 0), ("mean_first_last", 64)])
def test_a_mean_over_positions_leaves_padding_out(pool, ngrams):
    model, arguments = build("bert", classes=3, pool=pool, ngrams=ngrams).double(), text()
    if ngrams:
        torch.nn.init.normal_(model.ngram.weight)
    other = arguments["tokens"].clone()
    other[0, -5:] = 7
    torch.testing.assert_close(model(other, mask=arguments["mask"]), model(**arguments))
    assert not torch.equal(model(**arguments), build("bert", classes=3).double()(**arguments))


def test_an_unknown_pool_is_refused():
    with pytest.raises(UserError, match="--set pool=first, mean or mean_first_last"):
        build("bert", classes=3, pool="last")


def test_n_grams_are_hashed_by_their_tokens_alone():
    tokens = torch.tensor([[1, 2, 3, 1, 2, 3, 9], [5, 1, 2, 3, 4, 2, 3]])
    found = bert.hashed(tokens, 2**20)  # (2, 7, seven sizes)
    assert found.shape == (2, 7, len(bert.NGRAMS))
    assert found.unique().numel() > 50, "different runs seldom share a bucket"
    torch.testing.assert_close(found[0, 5, :2], found[0, 2, :2])  # 2 3 and 1 2 3 once more
    torch.testing.assert_close(found[1, 3, :2], found[0, 2, :2])
    assert (found[0, 5, 2:] != found[0, 2, 2:]).all()  # longer ones have another beginning
    assert (found[1, 6, :2] == found[0, 2, :2]).tolist() == [True, False]  # 4 2 3 is not 1 2 3
    assert bert.hashed(tokens, 10).max() < 10
    compiled = torch.compile(bert.hashed, backend="eager", fullgraph=True)
    assert torch.equal(compiled(tokens, 2**20), found)


def test_n_grams_and_the_embedding_reach_what_tells_classes():
    plain, whole = (build("bert", classes=3, pool="mean_first_last", ngrams=buckets) for buckets in (0, 64))
    assert whole.ngram.weight.shape == (64, 128)
    whole.load_state_dict(plain.state_dict(), strict=False)
    tokens = text()["tokens"]
    whole(tokens).sum().backward()
    assert torch.equal(whole(tokens), plain(tokens)), "n-grams begin at 0"
    assert whole.ngram.weight.grad.norm() > 0
    torch.nn.init.normal_(whole.ngram.weight)
    assert not torch.equal(whole(tokens), plain(tokens))
    assert not torch.equal(plain(tokens), build("bert", classes=3, pool="mean")(tokens))
