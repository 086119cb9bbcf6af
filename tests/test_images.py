"""Images: the digits and their split, masked-image pretraining and image classification."""

import json
import math
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from task_checks import check_batches, check_compiles, check_loss_is_wide, learned

from harness import names
from harness.errors import UserError
from suites.data import digits
from suites.data._parts import PARTS, kept, split
from suites.pretraining import _rows, masked_image

TASKS = {"pretraining/masked_image": 0, "finetuning/image_classification": 4}  # task -> classes of its model
CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("one_thread")
every_task = pytest.mark.parametrize("task", TASKS)


def made(counts=(40, 16, 24)):
    """Return images of four classes that differ in which quarter is bright, and a little noise."""
    random, parts = np.random.RandomState(0), {}
    for part, count in zip(PARTS, counts, strict=True):
        labels = np.arange(count) % 4
        images = random.randint(0, 30, size=(count, 8, 8, 1)).astype(np.uint8)
        for row, label in enumerate(labels):
            images[row, label // 2 * 4 :, label % 2 * 4 :][:4, :4] += 150
        parts[part] = {"images": images, "labels": labels.astype(np.uint8)}
    return parts, {"classes": 4, "source": "made"}


@pytest.fixture(scope="module")
def quarters(tmp_path_factory):
    return kept("quarters", b"1", made, tmp_path_factory.mktemp("quarters"))


@pytest.fixture
def prepare(quarters):
    def prepare(task, model=None, **config):
        workload = {"task": task, "batch": 8, "length": 17, "padding": 0.0, "seed": 0, "data": quarters}
        return names.find("task", task).load()(model or vit(task), {**workload, **config}, CPU)

    return prepare


def vit(task, classes=None):
    """Return the tiny model of a task, always with the same weights."""
    torch.manual_seed(0)
    attention = names.find("attention", "formula").load()
    return names.find("model", "vit").load()(attention, classes=TASKS[task] if classes is None else classes)


# ---- the digits


@pytest.fixture
def scikit_learn(monkeypatch):
    """A stand-in for scikit-learn whose digits are 300 images, 30 of each class."""
    pixels, labels = np.random.RandomState(0).randint(0, 17, size=(300, 64)).astype(float), np.arange(300) % 10
    module = SimpleNamespace(load_digits=lambda *, return_X_y: (pixels, labels))
    monkeypatch.setitem(sys.modules, "sklearn", SimpleNamespace(datasets=module))
    monkeypatch.setitem(sys.modules, "sklearn.datasets", module)
    return pixels, labels


def test_every_digit_is_in_one_part_and_each_class_is_shared_out_alike(scikit_learn):
    _, labels = scikit_learn
    rows = split(labels)
    assert sorted(np.concatenate([*rows.values()])) == list(range(300))
    for part, count in {"train": 21, "validation": 3, "test": 6}.items():
        assert np.bincount(labels[rows[part]]).tolist() == [count] * 10


def test_the_digits_keep_their_pixels_and_labels(scikit_learn, tmp_path):
    pixels, labels = scikit_learn
    manifest = digits.prepare(tmp_path)
    rows = split(labels)
    for part in PARTS:
        images = np.load(manifest[part]["images"], allow_pickle=False)
        assert (images.dtype, images.shape[1:]) == (np.uint8, (8, 8, 1))
        assert (np.rint(images.reshape(-1, 64) * (16 / 255)) == pixels[rows[part]]).all()
        assert (np.load(manifest[part]["labels"]) == labels[rows[part]]).all()
    assert manifest.keys() == {
        "name", "sha256", "classes", "source", *PARTS, *(f"{part}_bytes" for part in PARTS)
    }  # fmt: skip


def test_the_real_digits_are_split_the_same_everywhere(tmp_path):
    pytest.importorskip("sklearn.datasets", reason="scikit-learn, which carries the digits, is not installed")
    manifest = digits.prepare(tmp_path)
    assert manifest["sha256"] == "6aff1ea9c3c3a5787b68484501e3abf1d5e3a6be38605ca243d39dc6bae178d9"
    assert [len(np.load(manifest[part]["labels"])) for part in PARTS] == [1259, 179, 359]


def test_without_scikit_learn_the_digits_are_refused_with_a_remedy(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(UserError, match=r"^the digits come with scikit-learn, .*; pip install scikit-learn$"):
        digits.prepare(tmp_path)


# ---- parts on disk


def test_parts_that_are_there_are_not_made_again(quarters):
    folder = Path(quarters["train"]["images"]).parent
    assert kept("quarters", b"1", lambda: pytest.fail("made again"), folder) == quarters
    assert all(Path(file).stat().st_mode & 0o222 == 0 for part in PARTS for file in quarters[part].values())


@pytest.mark.parametrize("damage", ["missing", "cut short"])
def test_a_damaged_array_is_made_again(tmp_path, damage):
    manifest = kept("quarters", b"1", made, tmp_path)
    file = Path(manifest["test"]["labels"])
    before = file.read_bytes()
    file.unlink()
    if damage == "cut short":
        file.write_bytes(before[:50])
    assert kept("quarters", b"1", made, tmp_path) == manifest
    assert file.read_bytes() == before


def test_the_hash_is_that_of_the_content_not_of_the_state(tmp_path, quarters):
    assert kept("quarters", b"2", made, tmp_path)["sha256"] == quarters["sha256"]
    other = kept("quarters", b"3", lambda: made((40, 16, 20)), tmp_path)
    assert other["sha256"] != quarters["sha256"]
    assert len(np.load(other["test"]["labels"])) == 20


# ---- both tasks


def test_every_row_is_drawn_once_an_epoch():
    config = {"seed": 0, "batch": 6}
    drawn = np.concatenate([_rows.draw_rows(config, "train", 10, index) for index in range(5)])  # three epochs
    epochs = drawn.reshape(3, 10)
    assert (np.sort(epochs) == np.arange(10)).all()
    assert len({tuple(epoch) for epoch in epochs}) == 3
    large = _rows.draw_rows({"seed": 0, "batch": 30}, "train", 10, 0)  # more than there are
    assert (large == drawn).all()


@every_task
def test_a_batch_depends_on_seed_and_index_only(prepare, task):
    check_batches(partial(prepare, task))


@every_task
def test_the_amount_is_every_patch_and_the_class_token(prepare, task):
    work = prepare(task)
    assert work.amount == {"tokens": 8 * 17, "samples": 8}
    images, _ = work.batch(0)
    assert (images.dtype, images.shape, images.is_contiguous()) == (torch.float32, (8, 1, 8, 8), True)
    assert -1 <= images.min() < 0 < images.max() <= 1


@every_task
def test_loss_compiles_without_a_graph_break(prepare, task):
    model = vit(task)
    check_compiles(model, prepare(task, model))


@every_task
def test_the_loss_is_taken_in_float32_or_wider(prepare, task):
    check_loss_is_wide(partial(vit, task), partial(prepare, task))


@every_task
def test_training_lowers_the_loss_on_held_out_images(prepare, task):
    model = vit(task)
    _, after = learned(model, prepare(task, model), steps=80, rate=1e-3)
    if task == "finetuning/image_classification":
        assert after["accuracy"] > 0.9


@every_task
def test_an_image_of_other_length_and_padding_are_refused_with_what_to_do(prepare, task):
    with pytest.raises(UserError, match="an image makes 17 tokens here, not 128; --set length=17"):
        prepare(task, length=128)
    with pytest.raises(UserError, match="no padding"):
        prepare(task, padding=0.1)


@every_task
def test_a_text_is_refused_as_images_and_images_as_a_text(prepare, task, quarters):
    with pytest.raises(UserError, match=rf"{task} takes images.*, and the train part of data 'stdlib' has none"):
        prepare(task, data={"name": "stdlib", "train": "stdlib.npy"})
    with pytest.raises(UserError, match="data 'quarters' are no text; give a text: --set data=stdlib"):
        prepare("pretraining/causal_lm", torch.nn.Embedding(320, 1), data=quarters)


# ---- masked images


def test_six_patches_in_ten_are_hidden_others_in_each_image(prepare):
    work = prepare("pretraining/masked_image")
    _, hidden = work.batch(0)
    assert hidden.shape == (8, 16)
    assert hidden.sum(1).tolist() == [10] * 8
    assert len({tuple(row) for row in hidden.tolist()}) > 4


def test_only_hidden_pixels_count():
    images = torch.zeros(2, 3, 8, 8)
    hidden = torch.zeros(2, 4, dtype=torch.bool)
    hidden[0, 1] = True  # the upper right quarter of the first image
    restored = torch.full_like(images, 5.0)
    restored[0, :, :4, 4:] = 2.0
    restored[0, 0, 0, 4] = 50.0
    loss, _ = masked_image.loss(lambda *_: restored, (images, hidden))
    assert loss.item() == pytest.approx(2 + 48 / 48)


def test_pretraining_scores_the_validation_part(prepare, quarters, tmp_path):
    dark = tmp_path / "dark.npy"
    np.save(dark, np.zeros((16, 8, 8, 1), dtype=np.uint8))
    score = prepare("pretraining/masked_image", data={**quarters, "validation": {"images": str(dark)}}).score
    assert score(lambda images, hidden: images + 0.25) == {"held_out_loss": pytest.approx(0.25)}
    assert score(lambda images, hidden: torch.full_like(images, -1.0)) == {"held_out_loss": 0.0}


# ---- classification


def test_accuracy_is_the_share_of_right_answers_on_the_test_part(prepare, monkeypatch):
    work = prepare("finetuning/image_classification")
    seen = []

    def always_two(images):
        assert not torch.is_grad_enabled()
        seen.append(len(images))
        return torch.eye(4)[2].expand(len(images), -1)

    monkeypatch.setitem(work.score.__wrapped__.__globals__, "SCORED", 10)
    assert work.score(always_two) == {
        "accuracy": 0.25,  # a quarter of the labels is 2
        "held_out_loss": pytest.approx(math.log(3 + math.e) - 0.25),
    }
    assert seen == [10, 10, 4]


def test_a_model_of_too_few_classes_is_refused_with_what_to_do(prepare):
    task = "finetuning/image_classification"
    model = vit(task, classes=3)
    work = prepare(task, model)
    with pytest.raises(UserError, match="the model tells 3 classes apart, not 4; --set classes=4"):
        work.loss(model, work.batch(0))


def test_the_pretrained_layers_fit_the_classifier():
    pretrained, classifier = (vit(task).state_dict() for task in TASKS)
    assert {*classifier} - {*pretrained} == {"head.weight", "head.bias"}
    assert {*pretrained} - {*classifier} == {"mask_token", "pixels.weight", "pixels.bias"}


def test_the_manifest_is_plain_json(quarters):
    assert json.loads(json.dumps(quarters)) == quarters
