"""The user's own data: a folder of images by class, and tasks of GLUE from the Hugging Face cache or a folder."""

import csv
import json
import re
import shutil
import sys
import warnings

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from PIL import Image
from test_cli import tandem

from harness import load, names
from harness.errors import Unavailable, UserError
from harness.metrics import QUALITY
from harness.store import open_run
from suites.data import _image_folder, glue
from suites.data._parts import PARTS, split
from suites.finetuning._classification import SCORES

COLOURS = {"blue": (0, 0, 255), "red": (255, 0, 0)}


def save(path, colour, size=(8, 8), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = options.pop("mode", "L" if isinstance(colour, int) else "RGB")
    Image.new(mode, size, colour).save(path, **options)


@pytest.fixture
def photos(tmp_path):
    """A folder of 20 blue and 20 red squares, of slightly different shades."""
    for name, colour in COLOURS.items():
        for shade in range(20):
            save(tmp_path / f"photos/{name}/{shade:02}.png", tuple(max(value - shade, 0) for value in colour))
    return tmp_path / "photos"


def rows_of(manifest, key):
    """Return an array of all parts together."""
    return np.concatenate([np.load(manifest[part][key]) for part in PARTS])


# ---- a folder of images


def test_a_folder_of_images_is_split_class_by_class_and_nothing_is_lost(photos, tmp_path):
    manifest = _image_folder.prepare(tmp_path / "made", photos)
    for part, count in {"train": 14, "validation": 2, "test": 4}.items():
        images, labels = (np.load(manifest[part][key]) for key in ("images", "labels"))
        assert (images.dtype, images.shape, labels.dtype) == (np.uint8, (2 * count, 8, 8, 3), np.int32)
        assert np.bincount(labels).tolist() == [count, count]
        assert (images.argmax(3) == np.where(labels == 0, 2, 0)[:, None, None]).all()
    assert len(np.unique(rows_of(manifest, "images"), axis=0)) == 40
    assert manifest["classes"] == 2
    assert manifest["source"] == "photos: 40 images of 2 classes, 8 pixels a side, colour."
    assert _image_folder.prepare(tmp_path / "made", photos) == manifest


def test_a_folder_that_changed_is_read_anew(photos, tmp_path):
    before = _image_folder.prepare(tmp_path / "made", photos)["sha256"]
    kept = (photos / "red/00.png").read_bytes()
    save(photos / "red/00.png", (255, 128, 0))
    assert _image_folder.prepare(tmp_path / "made", photos)["sha256"] != before
    (photos / "red/00.png").write_bytes(kept)
    assert _image_folder.prepare(tmp_path / "made", photos)["sha256"] == before


def test_an_image_that_comes_twice_in_a_class_cannot_be_in_two_parts(photos, tmp_path):
    for path in sorted((photos / "red").iterdir())[:5]:
        shutil.copy(path, path.with_name(f"copy-{path.name}"))
    shutil.copy(photos / "red/00.png", photos / "blue/red.png")  # in another class it stays: the labels are the user's
    manifest = _image_folder.prepare(tmp_path, photos)
    assert np.bincount(rows_of(manifest, "labels")).tolist() == [21, 20]


def test_hidden_files_and_those_that_are_no_images_are_left_out(photos, tmp_path):
    before = _image_folder.prepare(tmp_path / "made", photos)
    for name in ("red/.DS_Store", "red/._00.png", "red/notes.txt", "README.md", ".cache/x.png"):
        (photos / name).parent.mkdir(exist_ok=True)
        (photos / name).write_bytes(b"no image")
    assert _image_folder.prepare(tmp_path / "made", photos) == before


def test_a_size_cuts_every_image_to_its_central_square(tmp_path):
    for label in ("a", "b"):
        for shade in range(3):
            wide = np.zeros((8, 24), dtype=np.uint8)
            wide[:, 4:20] = 100 + 10 * shade + (label == "b")
            (tmp_path / "wide" / label).mkdir(parents=True, exist_ok=True)
            Image.fromarray(wide).save(tmp_path / "wide" / label / f"{shade}.png")
    manifest = _image_folder.prepare(tmp_path / "made", tmp_path / "wide@4")
    images = rows_of(manifest, "images")
    assert images.shape == (6, 4, 4, 1)
    assert sorted(images[:, 0, 0, 0].tolist()) == [100, 101, 110, 111, 120, 121]
    assert (images == images[:, :1, :1]).all()
    assert manifest["source"] == "wide: 6 images of 2 classes, 4 pixels a side, greyscale."


def test_a_photo_is_turned_as_its_camera_was_held(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: to be turned by a quarter
    image = Image.new("L", (16, 8), 0)
    image.paste(255, (0, 0, 8, 8))  # its left half is bright
    image.save(tmp_path / "turned.png", exif=exif)
    found = _image_folder.pixels("turned.png", tmp_path / "turned.png", 0)
    assert found.shape == (16, 8, 1)
    assert (found[:8] == 255).all()
    assert not found[8:].any()


@pytest.mark.parametrize(
    ("mode", "colour", "channels"),
    [("1", 1, 1), ("L", 255, 1), ("LA", (255, 9), 1), ("RGBA", (255, 255, 255, 9), 3), ("P", 5, 3)],
)
def test_greyscale_has_one_channel_and_all_else_three(tmp_path, mode, colour, channels):
    save(tmp_path / "image.png", colour, mode=mode)
    assert _image_folder.pixels("image.png", tmp_path / "image.png", 0).shape == (8, 8, channels)


def test_one_image_in_colour_gives_all_three_channels(photos, tmp_path):
    save(photos / "red/grey.png", 7)
    images = rows_of(_image_folder.prepare(tmp_path, photos), "images")
    assert images.shape[1:] == (8, 8, 3)
    assert (images == 7).all((1, 2, 3)).sum() == 1


def spoil(photos, name):
    """Make the folder bad in the way that `name` says."""
    red = photos / "red"
    if name == "empty":
        shutil.rmtree(photos)
        photos.mkdir()
    elif name == "one class":
        shutil.rmtree(red)
    elif name == "no image":
        (photos / "green/deeper").mkdir(parents=True)
    elif name == "two":
        for path in sorted(red.iterdir())[2:]:
            path.unlink()
        shutil.copy(red / "00.png", red / "copy.png")
    elif name == "no PNG":
        (red / "07.png").write_text("Not found")
    elif name == "truncated":
        random = np.random.RandomState(0).randint(0, 255, size=(8, 8, 3)).astype(np.uint8)
        Image.fromarray(random).save(red / "07.png")
        (red / "07.png").write_bytes((red / "07.png").read_bytes()[:-100])
    elif name == "other size":
        save(red / "07.png", (255, 0, 0), size=(9, 8))
    elif name == "not square":
        for path in photos.rglob("*.png"):
            save(path, (255, 0, 0), size=(9, 8))
    elif name == "deep":
        save(red / "07.png", 40_000, mode="I;16")


BAD = {
    "empty": "photos has no folder of a class; give a folder for each class, with its images: FOLDER/CLASS/IMAGE.png",
    "one class": "photos has one class, 'blue'; give images of another class, too",
    "no image": "photos/green has no image: .bmp, .gif, .jpeg, .jpg, .png, .tif, .tiff, .webp; give a folder for each",
    "two": "photos/red has 2 different images, too few for three parts; give three or more, or leave the class out",
    "no PNG": "photos/red/07.png does not open as an image; mend it, or leave it out",
    "truncated": "photos/red/07.png does not open as an image: ",
    "other size": "photos/red/07.png, 9 x 8 pixels, differs from blue/00.png; photos@32 cuts all to squares of 32",
    "not square": "photos/blue/00.png, 9 x 8 pixels, is not square; photos@32 cuts",
    "deep": "photos/red/07.png has more than 8 bits a pixel; save it with 8",
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_folder_of_images_is_refused_in_one_sentence(photos, tmp_path, name):
    spoil(photos, name)
    with pytest.raises(UserError, match=f"^{re.escape(BAD[name])}") as caught:
        _image_folder.prepare(tmp_path / "made", photos)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("size", ["", "0", "big", "-4"])
def test_a_size_that_is_none_is_refused(photos, tmp_path, size):
    sentence = f"{size!r} is no size of images; give the pixels of a side: photos@32"
    with pytest.raises(UserError, match=f"^{re.escape(sentence)}$"):
        _image_folder.prepare(tmp_path, photos.with_name(f"photos@{size}"))


def test_a_folder_is_found_beside_the_suite_and_a_short_name_is_no_folder(photos, tmp_path, monkeypatch):
    for name, leads in {
        "photos": "photos",
        "photos@4": "photos@4",
        "photos/": "photos",
        "photos/@4": "photos@4",
    }.items():
        found = names.find("data", name, [tmp_path])
        assert (found.name, found.argument, found.path.name) == (name, str(tmp_path / leads), "_image_folder.py")
        assert load.manifest(found, tmp_path / "made")["classes"] == 2
    photos.rename(tmp_path / "photos@home")
    assert load.manifest(names.find("data", "photos@home", [tmp_path]), tmp_path / "made")["classes"] == 2
    (tmp_path / "digits").mkdir()
    monkeypatch.chdir(tmp_path)
    assert names.find("data", "digits").path.name == "digits.py"
    assert names.find("data", "./digits").path.name == "_image_folder.py"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("", "no data ''; known: "),
        ("photo", "no data 'photo'; "),
        ("own/photos", "no folder 'own/photos' for data; a path starts"),
        ("glue", "'glue' alone does not say which data; write glue:NAME or glue:PATH"),
    ],
)
def test_data_that_are_nowhere_are_a_sentence(name, sentence):
    with pytest.raises(UserError, match=re.escape(sentence)):
        names.find("data", name)


IMAGES = [
    f"--set={text}"
    for text in (
        "task=finetuning/image_classification", "model=vit", "data=photos@8", "channels=3", "classes=2", "length=17",
        "layers=1", "dim=32", "batch=4", "device=cpu", "threads=1", "quality_steps=60",
    )
]  # fmt: skip


def test_a_model_learns_the_users_images(photos, tmp_path):
    done = tandem(
        "run", "null", *IMAGES, "--launches=1", "--rounds=1", "--no-trace", cwd=tmp_path,
        XDG_CACHE_HOME=str(tmp_path / "cache"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    opened = open_run(tmp_path / done.stdout.strip().splitlines()[-1])
    assert opened.meta["data"]["photos@8"]["source"] == "photos: 40 images of 2 classes, 8 pixels a side, colour."
    rows = opened.samples()
    assert rows[rows.metric == "accuracy"].value.tolist() == [1.0, 1.0]


def test_a_bad_image_on_the_command_line_is_one_sentence_and_exit_2(photos, tmp_path):
    (photos / "red/07.png").write_text("Not found")
    done = tandem("run", "null", *IMAGES, cwd=tmp_path, XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert done.returncode == 2
    assert "photos/red/07.png does not open as an image; mend it" in done.stderr
    assert done.stderr.count("\n") == 1


# ---- GLUE


@pytest.fixture(scope="module")
def datasets():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("datasets", reason="needs the extra hf: datasets is not installed")


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """Make a look at the network an error, where datasets and huggingface_hub are asked to."""
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


TRAIN = [(f"it is wet, {number}", f"it rains {number}", number % 2) for number in range(40)]
SCORED = [("null", 'a "quoted", text\nof two lines', 0), ("größer", "大きい", 1)]
HIDDEN = [("what", "ever", -1)]
COLUMNS = ("sentence1", "sentence2", "label")


def write(path, rows, columns=COLUMNS):
    """Write rows with an index, as a file of the kind that its suffix says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    records = [{**dict(zip(columns, row, strict=True)), "idx": index} for index, row in enumerate(rows)]
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(records), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, records[0])
            writer.writeheader()
            writer.writerows(records)


def write_all(folder, suffix, **others):
    for name, rows in {"train": TRAIN, "validation": SCORED, "test": HIDDEN, **others}.items():
        write(folder / f"{name}{suffix}", rows)


def texts_of(manifest, part):
    rows, lengths = (np.load(manifest[part][key]) for key in ("text", "text_lengths"))
    return [row[:length].tobytes() for row, length in zip(rows, lengths, strict=True)]


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_glues_validation_split_is_the_test_part_and_validation_comes_from_training(datasets, tmp_path, suffix):
    write_all(tmp_path / "wet", suffix)
    manifest = glue.prepare(tmp_path / "made", tmp_path / "wet")
    assert texts_of(manifest, "test") == ["\x1e".join(row[:2]).encode() for row in SCORED]
    assert np.load(manifest["test"]["labels"]).tolist() == [0, 1]
    known = {"\x1e".join(row[:2]).encode(): row[2] for row in TRAIN}
    for part, count in {"train": 18, "validation": 2}.items():
        labels = np.load(manifest[part]["labels"]).tolist()
        assert (labels.count(0), labels.count(1)) == (count, count)
        for text, label in zip(texts_of(manifest, part), labels, strict=True):
            assert known.pop(text) == label
    assert not known
    assert manifest["classes"] == 2
    assert manifest["source"] == (
        "wet: 2 classes, 36 texts for training and 4 for validation, both of its training split, and its validation "
        "split of 2 for testing."
    )
    assert not {"datasets", "hub"} & {path.name for path in (tmp_path / "made").iterdir()}


def test_a_task_is_found_in_the_hugging_face_cache(datasets, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    kept = tmp_path / "datasets--nyu-mll--glue"
    named = names.find("data", "glue:mnli")
    with pytest.raises(
        UserError, match=r"GLUE's mnli is not in .*; fetch it once: hf download nyu-mll/glue --repo-type"
    ):
        load.manifest(named, tmp_path / "made")
    task = kept / "snapshots/1234/mnli"
    columns = ("premise", "hypothesis", "label")
    for number in (0, 1):
        rows = [(*row[:2], index % 3) for index, row in enumerate(TRAIN[20 * number : 20 * number + 20])]
        write(task / f"train-0000{number}-of-00002.parquet", rows, columns)
    write(task / "validation_matched-00000-of-00001.parquet", SCORED, columns)
    write(task / "validation_mismatched-00000-of-00001.parquet", HIDDEN, columns)
    write(task / "test_matched-00000-of-00001.parquet", HIDDEN, columns)
    (kept / "refs").mkdir()
    (kept / "refs/main").write_text("1234")
    manifest = load.manifest(named, tmp_path / "made")
    assert manifest["classes"] == 3
    assert sum(len(texts_of(manifest, part)) for part in ("train", "validation")) == 40
    assert len(texts_of(manifest, "test")) == 2
    assert manifest["source"].startswith("GLUE mnli: 3 classes")


@pytest.mark.parametrize(
    ("task", "scores"),
    [
        ("cola", ["matthews_correlation", "accuracy"]),
        ("mrpc", ["accuracy", "f1"]),
        ("qqp", ["accuracy", "f1"]),
        ("rte", ["accuracy"]),
        ("wet", ["accuracy"]),
    ],
)
def test_a_task_is_scored_as_glue_scores_it(datasets, tmp_path, task, scores):
    write_all(tmp_path / task, ".csv")
    assert glue.prepare(tmp_path / "made", tmp_path / task)["scores"] == scores
    assert {*scores} <= {*SCORES} & {*QUALITY}


def test_one_text_and_labels_that_are_words(datasets, tmp_path):
    for name, rows in {"train": TRAIN, "validation": SCORED}.items():
        words = [(first, ("no", "yes")[label]) for first, _, label in rows]
        write(tmp_path / f"own/{name}.csv", words, ("sentence", "label"))
    manifest = glue.prepare(tmp_path, tmp_path / "own")
    assert texts_of(manifest, "test") == [b"null", "größer".encode()]
    assert np.load(manifest["test"]["labels"]).tolist() == [0, 1]


def test_f1_is_of_label_1_and_of_no_word(datasets, tmp_path):
    for name, rows in {"train": TRAIN, "validation": SCORED}.items():
        words = [(first, second, ("yes", "no")[label]) for first, second, label in rows]
        write(tmp_path / f"mrpc/{name}.csv", words)
    with pytest.raises(
        UserError, match=r"F1 is that of label 1, and the labels are \['no', 'yes'\]; write them as 0 and 1"
    ):
        glue.prepare(tmp_path, tmp_path / "mrpc")


@pytest.mark.parametrize("what", ["", "words:"])
def test_a_row_must_have_room_for_the_second_text_too(datasets, tmp_path, what):
    pairs = [("a " * 40, f"b {row}", row % 2) for row in range(8)]
    write_all(tmp_path / "pair", ".jsonl", train=pairs, validation=pairs)
    data = load.manifest(names.find("data", f"{what}glue:pair", [tmp_path]), tmp_path / "made")
    task, model = names.find("task", "finetuning/text_classification").load(), torch.nn.Embedding(4096, 1)
    config = {"task": "x", "batch": 4, "padding": 0.0, "seed": 0, "data": data}
    needed = {"": 84, "words:": 44}[what]  # both marks, the first text, what joins them and one more
    with pytest.raises(UserError, match=f"--set length={needed} or more"):
        task(model, {**config, "length": needed - 1}, torch.device("cpu"))
    task(model, {**config, "length": needed}, torch.device("cpu"))


def test_of_two_long_texts_both_are_seen(datasets, tmp_path):
    write_all(tmp_path / "wet", ".jsonl", train=[("a" * 3000, "b" * 3000 + str(row), row % 2) for row in range(8)])
    assert set(texts_of(glue.prepare(tmp_path, tmp_path / "wet"), "train")) == {b"a" * 511 + b"\x1e" + b"b" * 511}


BAD_TASKS = {
    "no validation": ({"validation": None}, "own has no validation split; give it as validation.parquet or "),
    "two kinds": ({}, "own has train.csv and train.jsonl; leave files of one kind"),
    "unseen": ({"validation": [("a", "b", 7)]}, "own: validation: row 1: label 7 does not come in training; give"),
    "hidden": ({"validation": HIDDEN}, "own: validation: row 1 has no label; give each row"),
    "one class": ({"train": [("a", "b", 1)] * 9}, "own: train: 1 classes; give rows of two or more"),
    "once": ({"train": [*TRAIN, ("a", "b", 7)]}, "own: train: label 7 comes once, too little for two parts"),
    "no text": ({"train": [("", "b", 1), *TRAIN]}, "own: train: row 1 lacks sentence1 or sentence2; give"),
    "regression": ({"train": [("a", "b", 2.5)] * 9}, "own: train: the labels are a scale, not classes"),
}


@pytest.mark.parametrize("name", BAD_TASKS)
def test_a_bad_task_is_refused_in_one_sentence(datasets, tmp_path, name):
    others, sentence = BAD_TASKS[name]
    write_all(tmp_path / "own", ".csv", **{part: rows for part, rows in others.items() if rows})
    if name == "no validation":
        (tmp_path / "own/validation.csv").unlink()
    if name == "two kinds":
        write(tmp_path / "own/train.jsonl", TRAIN)
    with pytest.raises(UserError, match=f"^{re.escape(sentence)}") as caught:
        glue.prepare(tmp_path, tmp_path / "own")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        (
            ("text", "label"),
            "own: train: no texts among the columns text, label, idx; name them as GLUE does: sentence1",
        ),
        (
            ("sentence", "class"),
            "own: train: no column 'label' among sentence, class, idx; name the columns as GLUE does",
        ),
    ],
)
def test_columns_that_are_missing_are_named(datasets, tmp_path, columns, sentence):
    for name in ("train", "validation"):
        write(tmp_path / f"own/{name}.parquet", [(text, label) for text, _, label in TRAIN], columns)
    with pytest.raises(UserError, match=f"^{re.escape(sentence)}"):
        glue.prepare(tmp_path, tmp_path / "own")


@pytest.mark.parametrize(
    ("suffix", "content"),
    [
        (".parquet", b"PAR1 and no more"),
        (".csv", b"sentence,label\nfine,1\nbad,2,3,4\n"),
        (".csv", b""),
        (".csv", b"sentence,label\ngro\xdf,2\n"),
        (".jsonl", b'{"sentence": "a", "label": 1}\n{"sentence": "b" "label": 1}\n'),
    ],
)
def test_a_file_that_cannot_be_read_is_named(datasets, tmp_path, capfd, suffix, content):
    write_all(tmp_path / "own", suffix)
    (tmp_path / f"own/train{suffix}").write_bytes(content)
    with pytest.raises(UserError, match=rf"^train\{suffix}: .*; mend the file$") as caught:
        glue.prepare(tmp_path, tmp_path / "own")
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("task", "sentence"),
    [
        (
            "stsb",
            "the labels of GLUE's stsb are a scale, not classes, and text classification tells classes apart; known",
        ),
        ("sst3", "no GLUE task or folder 'sst3'; did you mean 'sst2'"),
    ],
)
def test_a_task_that_is_none_here_is_refused(tmp_path, task, sentence):
    with pytest.raises(UserError, match=re.escape(sentence)):
        load.manifest(names.find("data", f"glue:{task}"), tmp_path)


def test_without_datasets_its_cases_are_unavailable(tmp_path, monkeypatch):
    write_all(tmp_path / "own", ".csv")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(Unavailable, match=r"GLUE tasks need the package datasets: install torch-tandem\[hf\]$"):
        glue.prepare(tmp_path, tmp_path / "own")
    found = load.manifest(names.find("data", "glue:own", [tmp_path]), tmp_path)
    assert "install" in found["unavailable"]


def test_a_share_for_one_part_leaves_the_rest_for_training():
    labels = np.array([0] * 2 + [1] * 30)
    rows = split(labels, {"validation": 0.1})
    assert {part: np.bincount(labels[mine]).tolist() for part, mine in rows.items()} == {
        "train": [1, 27],
        "validation": [1, 3],
    }
