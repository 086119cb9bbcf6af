"""What each model has of its own: grouped heads, rotations, relative positions, patches, spectra, n-grams."""

import math

import pytest
import torch
from test_models import BACKENDS, MODELS, SOURCE, TARGET, assert_same, build, inputs, text, train

from harness.errors import UserError
from suites.models import bert, llama, t5

pytestmark = pytest.mark.usefixtures("one_thread")
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
