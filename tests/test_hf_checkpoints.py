"""Checkpoints that transformers reads: what is missing, of another shape or cut short is said, and what was drawn."""

import json
import warnings
from dataclasses import asdict

import pytest
import torch

from harness import names
from harness.errors import UserError
from harness.recipe import Recipe
from harness.worker import weights
from harness.worker.tune import tune

safetensors = pytest.importorskip("safetensors.torch", reason="needs the extra hf")
HF = names.find("model", "hf")
BERT = {
    "vocab_size": 320, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64,
    "max_position_embeddings": 64,
}  # fmt: skip
LAST = "bert.encoder.layer.1.output.dense"


@pytest.fixture(scope="module")
def transformers():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("transformers", reason="needs the extra hf: transformers is not installed")


@pytest.fixture
def folder(transformers, tmp_path):
    torch.manual_seed(0)
    transformers.BertForMaskedLM(transformers.BertConfig(**BERT)).save_pretrained(tmp_path / "bert")
    return tmp_path / "bert"


def start(folder, **config):
    return weights.initial(HF, names.find("attention", "sdpa").load(), config, str(folder))


def change(folder, **changed):
    told = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**told, **changed}))


def drop(folder, *gone):
    path = folder / "model.safetensors"
    kept = {name: tensor for name, tensor in safetensors.load_file(path).items() if not name.startswith(gone)}
    safetensors.save_file(kept, path, metadata={"format": "pt"})


@pytest.mark.parametrize("classes", [0, 3])
def test_a_weight_of_another_shape_is_named_with_both(folder, classes):
    change(folder, max_position_embeddings=32)
    with pytest.raises(UserError) as caught:
        start(folder, classes=classes)
    assert str(caught.value) == (
        f"transformers cannot read {folder}: bert.embeddings.position_embeddings.weight is (64, 32) in the checkpoint "
        "and (32, 32) in the model; config.json must give its sizes"
    )


@pytest.mark.parametrize("classes", [0, 3])
def test_a_layer_that_is_missing_is_never_drawn(folder, classes):
    drop(folder, LAST)
    with pytest.raises(UserError, match=rf"bert: it has no {LAST}.bias \(with 1 more\); use one of the whole model$"):
        start(folder, classes=classes)


def test_no_weight_may_be_missing_of_a_model_that_was_saved_as_what_it_is_run_as(folder):
    drop(folder, "cls.predictions.transform")
    with pytest.raises(UserError, match=r"it has no cls.predictions.transform.* \(with 3 more\)"):
        start(folder)


def test_a_file_that_was_cut_short_is_a_sentence(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(
        UserError, match=f"transformers cannot read {folder}: .*; give a folder that save_pretrained made"
    ):
        start(folder)


def test_weights_of_a_new_head_are_said_to_be_drawn(folder):
    assert start(folder)[1] == []
    model, drawn = start(folder, classes=3)
    assert drawn == [
        "model.bert.pooler.dense.bias", "model.bert.pooler.dense.weight", "model.classifier.bias",
        "model.classifier.weight",
    ]  # fmt: skip
    assert model.heads == {*drawn}
    assert {*drawn} <= model.state_dict().keys()


@pytest.mark.parametrize("tuned", ["head", "lora"])
def test_a_new_head_is_trained_with_lora_and_alone(folder, tuned):
    model, drawn = start(folder, classes=3)
    tune(model, asdict(Recipe(tune=tuned)), model.heads)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained >= {*drawn}
    assert all(name.endswith((".down", ".up")) for name in trained - {*drawn})
    assert (trained == {*drawn}) == (tuned == "head")


def test_a_model_without_a_part_that_its_classes_share_has_no_head(transformers, tmp_path):
    config = transformers.T5Config(vocab_size=320, d_model=32, d_kv=8, d_ff=64, num_layers=1, num_heads=4)
    transformers.T5ForConditionalGeneration(config).save_pretrained(tmp_path)
    assert start(tmp_path)[0].heads == set()
