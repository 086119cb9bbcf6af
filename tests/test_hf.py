"""Models of transformers: run in their own class, with the attention asked for, beside the own models in one block."""

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch

from harness import load, names
from harness.errors import Unavailable, UserError
from harness.spec import Block, Suite, Variant, Workload
from harness.store import open_run
from harness.worker import weights
from suites.finetuning import speech
from suites.pretraining._windows import BOS, EOS, PAD
from suites.pretraining._work import require_vocabulary

pytestmark = pytest.mark.usefixtures("one_thread")

ROOT = Path(__file__).resolve().parent.parent
HF = names.find("model", "hf")
CONFIGURATIONS = {
    "bert": {
        "vocab_size": 320, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
        "intermediate_size": 128, "max_position_embeddings": 64, "hidden_dropout_prob": 0.3,
    },
    "gpt2": {
        "vocab_size": 320, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "bos_token_id": None,
        "eos_token_id": None,
    },
    "t5": {"vocab_size": 320, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4},
    "vit": {
        "image_size": 8, "patch_size": 2, "num_channels": 1, "hidden_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 4, "intermediate_size": 64, "hidden_dropout_prob": 0.3,
    },
    "whisper": {
        "vocab_size": 320, "d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 4,
        "decoder_attention_heads": 4, "encoder_ffn_dim": 128, "decoder_ffn_dim": 128, "max_source_positions": 50,
        "pad_token_id": 257, "bos_token_id": 258, "eos_token_id": 259, "decoder_start_token_id": 258,
    },
    "speech_to_text": {"d_model": 32, "encoder_layers": 1, "decoder_layers": 1},
}  # fmt: skip


@pytest.fixture(scope="module")
def transformers():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("transformers", reason="needs the extra hf: transformers is not installed")


@pytest.fixture(scope="module")
def folders(transformers, tmp_path_factory):
    """Return a folder with each configuration; bert and gpt2 have weights, too."""
    top = tmp_path_factory.mktemp("checkpoints")
    for family, fields in CONFIGURATIONS.items():
        config = transformers.AutoConfig.for_model(family, **fields)
        config.save_pretrained(top / family)
        torch.manual_seed(0)
        if family == "bert":
            transformers.BertForMaskedLM(config).save_pretrained(top / family)
        if family == "gpt2":
            transformers.GPT2LMHeadModel(config).save_pretrained(top / family)
    return top


def build(folder, attention="formula", **config):
    return HF.load()(names.find("attention", attention).load(), str(folder), **config)


@pytest.mark.parametrize(
    ("attention", "implementation"),
    [
        ("formula", "eager"),
        ("sdpa", "sdpa"),
        ("sdpa_flash", "sdpa"),
        ("sdpa_math", "sdpa"),
        ("sdpa_efficient", "sdpa"),
        ("sdpa_cudnn", "sdpa"),
        ("flex", "flex_attention"),
    ],
)
def test_the_attention_chooses_the_implementation(attention, implementation, folders):
    assert build(folders / "bert", attention).model.config._attn_implementation == implementation


@pytest.mark.parametrize(
    ("family", "kind", "given"), [("bert", "BertForMaskedLM", 3), ("gpt2", "GPT2LMHeadModel", 2), ("t5", "T5", 4)]
)
@torch.no_grad()
def test_a_model_is_called_as_the_tasks_call_it(family, kind, given, folders):
    model = build(folders / family, pretrained=family != "t5").train()
    assert type(model.model).__name__.startswith(kind)
    tokens = torch.randint(256, (2, 12))
    mask = torch.arange(12) < torch.tensor([[7], [12]])
    arguments = {2: (tokens, mask), 3: (tokens, (tokens > 9).long(), mask), 4: (tokens, tokens, mask, mask)}[given]
    logits = model(*arguments)
    assert logits.shape == (2, 12, 320)
    assert torch.equal(logits, model(*arguments))  # no dropout, though bert's configuration has some
    changed = (torch.where(mask, tokens, 300), *arguments[1:])
    assert torch.equal(logits[mask], model(*changed)[mask])  # the mask is heeded
    whole = tuple(None if tensor is mask else tensor for tensor in arguments)
    assert not torch.equal(logits[0], model(*whole)[0])


@torch.no_grad()
def test_a_model_of_images_is_called_with_images(folders):
    model = build(folders / "vit", "sdpa", pretrained=False).train()
    images = torch.randn(3, 1, 8, 8)
    assert model(images).shape == (3, 2)
    assert torch.equal(model(images), model(images))  # no dropout


def test_from_a_configuration_the_seed_draws_the_weights(folders):
    def drawn(seed):
        torch.manual_seed(seed)
        return build(folders / "gpt2", pretrained=False).state_dict()["model.transformer.wte.weight"]

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))
    kept = [build(folders / "gpt2").state_dict()["model.transformer.wte.weight"] for _ in range(2)]
    assert torch.equal(*kept)


@torch.no_grad()
def test_a_model_that_hears_is_called_with_sound_and_computes_what_the_own_one_does(transformers, folders, tmp_path):
    torch.manual_seed(0)
    config = transformers.AutoConfig.from_pretrained(folders / "whisper")
    transformers.WhisperForConditionalGeneration(config).save_pretrained(tmp_path)
    sound, tokens = torch.randn(2, 16_000) / 10, torch.randint(256, (2, 12))
    own, drawn = weights.initial(
        names.find("model", "whisper"), names.find("attention", "sdpa").load(), {}, str(tmp_path)
    )
    assert drawn == []
    expected = own.eval()(sound, tokens)
    for attention in ("formula", "sdpa"):
        theirs = build(tmp_path, attention)
        torch.testing.assert_close(theirs(sound, tokens), expected, rtol=1e-4, atol=1e-5)
    assert theirs.double()(sound.double(), tokens).dtype == torch.float64
    require_vocabulary(theirs, 320, "speech")
    with pytest.raises(UserError, match="knows 320"):
        require_vocabulary(theirs, 321, "speech")
    assert speech.recognised(theirs.float(), sound, 5) == speech.recognised(own, sound, 5)


def test_an_attention_that_transformers_has_not_is_unavailable(folders):
    with pytest.raises(Unavailable, match=r"GPT2LMHeadModel does not support an attention .* flex_attention$"):
        build(folders / "gpt2", "flex")
    with pytest.raises(Unavailable, match=r"transformers runs formula, sdpa and flex, and no attention of test_hf$"):
        HF.load()(build, str(folders / "gpt2"))


def test_without_transformers_the_model_is_unavailable(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(Unavailable, match=r"needs the package transformers: install torch-tandem\[hf\]"):
        build(tmp_path)


@pytest.mark.parametrize(
    ("family", "sentence"),
    [
        ("t5", "no file named model.safetensors"),
        ("speech_to_text", "no task here trains a speech_to_text"),
        ("unheard", "unheard` but Transformers does not recognize this architecture"),
    ],
)
def test_a_folder_that_transformers_cannot_run_is_a_sentence(family, sentence, folders):
    (folders / "unheard").mkdir(exist_ok=True)
    (folders / "unheard/config.json").write_text('{"model_type": "unheard"}')
    with pytest.raises(UserError) as caught:
        build(folders / family)
    assert sentence in str(caught.value)
    assert str(folders / family) in str(caught.value) or family == "speech_to_text"
    assert "\n" not in str(caught.value)


def test_the_name_says_which_checkpoint():
    found = names.find("model", "hf:own/tiny")
    assert (found.name, found.argument, found.path) == ("hf:own/tiny", "own/tiny", HF.path)
    work = Workload(task="pretraining/causal_lm", model="hf:own/tiny", size="base")
    assert work.slug == "hf-tiny-b8-l128"
    assert load.config(work, []) == {}  # the size is the checkpoint's
    with pytest.raises(UserError, match="no model 'gpt:own/tiny'"):  # it draws its weights: there is no folder to read
        names.find("model", "gpt:own/tiny")


def suite_of(*variants, **workload):
    work = Workload(**{"task": "pretraining/masked_lm", "model": "bert", **workload})
    return Suite(name="own", question="?", blocks=[Block(workload=work, variants=variants)])


@pytest.mark.parametrize(
    ("suite", "sentence"),
    [
        (suite_of(Variant(name="a"), model="hf"), "model 'hf' needs a checkpoint; write hf:FOLDER_OR_ID"),
        (suite_of(Variant(name="a"), model="hf:none/such"), "no checkpoint 'none/such'"),
        (suite_of(Variant(name="a"), weights="none/such"), "no checkpoint 'none/such'"),
        (suite_of(Variant(name="a"), Variant(name="b", model="brt")), "did you mean 'bert'"),
        (suite_of(Variant(name="a"), Variant(name="b", model="hf")), "model 'hf' needs a checkpoint"),
    ],
)
def test_a_wrong_name_is_a_sentence(suite, sentence, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError) as caught:
        load.check_names(suite, [], ())
    assert sentence in str(caught.value)


def tandem(folder: Path, *arguments: str, script: bool = False) -> subprocess.CompletedProcess:
    start = [str(ROOT / "tests/scripted_worker.py"), "script.json", "--cli"] if script else ["-m", "harness.cli"]
    return subprocess.run(
        [sys.executable, *start, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )


def outcomes(folder: Path, done: subprocess.CompletedProcess) -> dict[str, dict]:
    """Return the outcome of each variant of the run that was just made."""
    assert done.stdout, done.stderr[-3000:]
    run = open_run(folder / done.stdout.split()[-1])
    by_case = {outcome["case"]: outcome for outcome in run.outcomes}
    rows = run.samples()
    errors = rows[rows.metric.isin(["output_error", "gradient_error", "losses_error"])]
    return {
        case.variant.name: {**by_case[case.id], "errors": errors[errors.case == case.id].value.tolist()}
        for case in run.suite.cases
    }


CLASSIFYING = {
    "bert": ("BertForSequenceClassification", "bert"),
    "gpt2": ("GPT2ForSequenceClassification", "gpt"),
    "llama": ("LlamaForSequenceClassification", "llama"),
    "t5": ("T5ForSequenceClassification", "t5"),
}
CONFIGURED = {
    **CONFIGURATIONS,
    "llama": {
        "vocab_size": 320, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
        "num_key_value_heads": 2, "max_position_embeddings": 64, "rms_norm_eps": 1e-5,
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def classifiers(transformers, tmp_path_factory):
    """Return a folder with a checkpoint of each class for sequence classification, of three classes."""
    top = tmp_path_factory.mktemp("classifiers")
    for family, (kind, _) in CLASSIFYING.items():
        config = transformers.AutoConfig.for_model(family, **CONFIGURED[family], num_labels=3)
        torch.manual_seed(0)
        getattr(transformers, kind)(config).save_pretrained(top / family)
    return top


def classifier(folder, attention="formula", **config):
    """Return a model that looks for the markers of `texts`."""
    model = build(folder, attention, **config).eval()
    model.mark(BOS, EOS, PAD)
    return model


def texts(shortest=9):
    """Return rows as text_classification makes them, two of them padded, and their mask."""
    mask = torch.arange(16) < torch.tensor([[shortest], [16], [12]])
    tokens = torch.randint(256, (3, 16), generator=torch.Generator().manual_seed(0))
    tokens[:, 0] = BOS
    tokens[torch.arange(3), mask.sum(1) - 1] = EOS
    return torch.where(mask, tokens, PAD), mask


@pytest.mark.parametrize("family", CLASSIFYING)
@torch.no_grad()
def test_a_classifier_of_transformers_computes_what_the_own_model_does(family, classifiers):
    kind, name = CLASSIFYING[family]
    theirs, (tokens, mask) = classifier(classifiers / family), texts()
    assert type(theirs.model).__name__ == kind
    model, drawn = weights.initial(
        names.find("model", name), names.find("attention", "sdpa").load(), {}, str(classifiers / family)
    )
    assert drawn == []
    assert model.eval()(tokens, mask=mask).shape == (3, 3)
    for attention in ("formula", "sdpa"):
        theirs = classifier(classifiers / family, attention)
        torch.testing.assert_close(theirs(tokens, mask=mask), model(tokens, mask=mask), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(theirs(tokens[1:2]), model(tokens[1:2]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_what_was_pretrained_becomes_a_classifier_with_a_head_of_its_own(family, folders):
    def drawn(seed):
        torch.manual_seed(seed)
        return classifier(folders / family, classes=6)

    model, again, other = (drawn(seed) for seed in (1, 1, 2))
    assert type(model.model).__name__ == CLASSIFYING[family][0]
    tokens, mask = texts()
    assert model(tokens, mask=mask).shape == (3, 6)
    differing = [
        name for name, tensor in model.state_dict().items() if not torch.equal(tensor, other.state_dict()[name])
    ]
    assert {name.split(".")[-2] for name in differing} <= {"classifier", "dense", "score"}
    assert any(name.split(".")[-2] in ("classifier", "score") for name in differing)
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in model.state_dict().items())


def test_a_head_of_another_number_of_classes_is_refused_with_what_to_do(classifiers):
    for pretrained, classes in ((True, 3), (False, 6)):
        assert build(classifiers / "bert", classes=classes, pretrained=pretrained).classes == classes
    with pytest.raises(UserError, match=r"/bert tells 3 classes apart, not 6; --set classes=3, or give a checkpoint "):
        build(classifiers / "bert", classes=6)


def test_a_model_that_restores_images_is_called_with_what_is_hidden(transformers, tmp_path):
    config = transformers.ViTConfig(**CONFIGURATIONS["vit"], encoder_stride=2)
    config.architectures = ["ViTForMaskedImageModeling"]
    config.save_pretrained(tmp_path)
    model = build(tmp_path, "sdpa", pretrained=False)
    images, hidden = torch.randn(3, 1, 8, 8), torch.rand(3, 16) < 0.6
    restored = model(images, hidden)
    assert (restored.shape, model.classes) == (images.shape, 0)
    assert not torch.equal(restored, model(images, ~hidden))


def test_a_model_of_images_tells_as_many_classes_apart_as_are_asked_for(folders):
    model = build(folders / "vit", pretrained=False, classes=10)
    assert (type(model.model).__name__, model.classes) == ("ViTForImageClassification", 10)
    assert build(folders / "bert").classes == 0
    assert model.length == 1 + (8 // 2) ** 2  # tokens of an image


SUITE = """
from harness.spec import Block, Suite, Variant, Workload
def suite():
    how = {{"device": "cpu", "threads": 1}}
    work = Workload(task="pretraining/{task}", model="{model}", weights="{weights}", batch=2, length=32, padding=0.25)
    variants = [Variant(name=name, **how, **fields) for name, fields in {variants}.items()]
    return Suite(name="own", question="?", blocks=[Block(workload=work, variants=variants)], launches=1, rounds=1,
                 quality_steps=2)
"""
BESIDE = {
    "own": {},
    "own sdpa": {"attention": "sdpa"},
    "theirs": {"model": "hf"},
    "theirs sdpa": {"model": "hf", "attention": "sdpa"},
}


@pytest.mark.parametrize(("task", "model", "family"), [("masked_lm", "bert", "bert"), ("causal_lm", "gpt", "gpt2")])
def test_own_and_transformers_model_stand_in_one_block(task, model, family, folders, tmp_path):
    variants = {**BESIDE, "other weights": {"model": "hf:other"}}
    other = load.checkpoint.configuration(folders / family)
    (tmp_path / "other").mkdir()
    (tmp_path / "other/config.json").write_text(json.dumps(other))
    copied = (folders / family / "model.safetensors").read_bytes()
    half = len(copied) // 2  # in the midst of the numbers; the largest two bytes of one float change
    (tmp_path / "other/model.safetensors").write_bytes(copied[:half] + b"\x80\x40" * 400 + copied[half + 800 :])
    text = SUITE.format(task=task, model=model, weights=folders / family, variants=variants)
    (tmp_path / "own.py").write_text(text)
    found = outcomes(tmp_path, tandem(tmp_path, "run", "own.py", "--no-trace", "--quiet"))
    assert found.pop("other weights")["status"] == "wrong"
    for name, outcome in found.items():
        assert outcome["status"] == "ok", (name, outcome["reason"])
        assert len(outcome["errors"]) == 3
        assert max(outcome["errors"]) < 1e-4
    hashes = {name: outcome["facts"]["weights_sha256"] for name, outcome in found.items()}
    assert hashes["own"] == hashes["own sdpa"] != hashes["theirs"] == hashes["theirs sdpa"]
    assert len({outcome["facts"]["batch_sha256"] for outcome in found.values()}) == 1


def test_own_and_transformers_classifier_stand_in_one_block(classifiers, tmp_path):
    rows = [f"{word} {number} text,{word}" for word in ("red", "green", "blue") for number in range(9)]
    (tmp_path / "own.csv").write_text("text,label\n" + "\n".join(rows))
    text = SUITE.format(task="causal_lm", model="bert", weights=classifiers / "bert", variants=BESIDE)
    text = text.replace("pretraining/causal_lm", "finetuning/text_classification")
    (tmp_path / "own.py").write_text(text.replace("padding=0.25", "data='own.csv'"))
    found = outcomes(tmp_path, tandem(tmp_path, "run", "own.py", "--no-trace", "--quiet"))
    for name, outcome in found.items():
        assert outcome["status"] == "ok", (name, outcome["reason"])
        assert max(outcome["errors"]) < 1e-4


def test_a_model_of_transformers_is_a_workload_of_its_own(folders, tmp_path):
    variants = {"formula": {}, "sdpa": {"attention": "sdpa"}, "flex": {"attention": "flex"}}
    model = f"hf:{folders / 'gpt2'}"
    (tmp_path / "own.py").write_text(SUITE.format(task="causal_lm", model=model, weights="", variants=variants))
    found = outcomes(tmp_path, tandem(tmp_path, "run", "own.py", "--no-trace", "--quiet"))
    assert {name: outcome["status"] for name, outcome in found.items()} == {
        "formula": "ok", "sdpa": "ok", "flex": "unavailable",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("hashes", "expected"),
    [
        (("w", "w", "v", "v"), ("ok", "ok", "ok", "ok")),  # another implementation has names and layouts of its own
        (("w", "v", "v", "v"), ("ok", "wrong", "ok", "ok")),
        (("w", "w", "v", "u"), ("ok", "ok", "ok", "wrong")),
    ],
)
def test_initial_weights_are_compared_among_the_cases_of_one_model(hashes, expected, tmp_path):
    script = {name: {"facts": {"weights_sha256": sha}} for name, sha in zip(BESIDE, hashes, strict=True)}
    (tmp_path / "script.json").write_text(json.dumps(script))
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/config.json").write_text("{}")
    text = SUITE.format(task="causal_lm", model="gpt", weights="kept", variants=BESIDE)
    (tmp_path / "own.py").write_text(text)
    found = outcomes(tmp_path, tandem(tmp_path, "run", "own.py", "--quiet", script=True))
    assert tuple(outcome["status"] for outcome in found.values()) == expected
    wrong = [outcome["reason"] for outcome in found.values() if outcome["status"] == "wrong"]
    assert all("its initial weights are not those of" in reason for reason in wrong)


def test_another_model_is_held_to_the_length_of_the_gradient(tmp_path):
    from harness.worker import reference

    expected = {"gradient/a": torch.tensor([3.0, 4.0]).numpy(), "output": torch.ones(2).numpy()}
    expected |= {"loss": torch.ones(()).numpy(), "losses": torch.ones(3).numpy()}
    reference.write(tmp_path / "expected.npz", expected)

    def error(gradients, *, same_model):
        found = {name: value for name, value in expected.items() if not name.startswith("gradient/")} | gradients
        return reference.errors(tmp_path / "expected.npz", found, same_model=same_model)["gradient_error"]

    moved = {"gradient/b": torch.tensor([4.0]).numpy(), "gradient/c": torch.tensor([[3.0]]).numpy()}
    assert error(moved, same_model=False) == 0
    assert error({"gradient/b": torch.tensor([10.0]).numpy()}, same_model=False) == 1
    assert error(moved, same_model=True) == float("inf")


@torch.no_grad()
def test_a_classifier_looks_for_the_markers_that_the_rows_have(transformers, tmp_path):
    sizes = {"encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 4, "decoder_attention_heads": 4}
    config = transformers.BartConfig(vocab_size=320, d_model=32, encoder_ffn_dim=64, decoder_ffn_dim=64, **sizes)
    torch.manual_seed(0)
    transformers.BartForSequenceClassification(config).save_pretrained(tmp_path)
    model = build(tmp_path, classes=3).eval()
    rows = torch.tensor([[101, 9, 8, 102], [101, 7, 6, 102]])  # as BERT's pieces mark them
    model.mark(101, 102, 0)
    assert model(rows).shape == (2, 3)
    assert not torch.equal(model(rows)[0], model(rows)[1])
    model.mark(BOS, EOS, PAD)
    with pytest.raises(ValueError, match="at least one <eos> token"):
        model(rows)
