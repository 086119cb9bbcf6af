"""Tasks of GLUE by name, as `glue:sst2` (extra `hf`), or `glue:FOLDER`, files of the same form; nothing is downloaded.

A name is looked up in what the Hugging Face cache keeps of `nyu-mll/glue`. A folder has `train` and `validation` as
.parquet, .csv or .jsonl, in one file or in several (`train-00000-of-00002.parquet`), with the columns `label` and
`sentence`, or two of TEXTS. GLUE keeps the labels of its test split to itself: here its validation split is the test
part (of MNLI the matched one), and a tenth of each class of its training split, drawn at random from a fixed seed, the
validation part. Of two texts each is cut to half of WIDEST and both are joined by the byte 0x1E, which stands in none.
What each is scored by is GLUE's own: SCORES; a folder that is called like a task is scored as that one.

`text` is (samples, bytes of the longest), uint8, filled up with 0, `text_lengths` (samples,), `labels` (samples,),
int32, the place of the label among those of the training split, sorted.

Wang et al. 2018, https://arxiv.org/abs/1804.07461.
"""

import hashlib
import re
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness import checkpoint
from harness.errors import Unavailable, UserError, unknown
from harness.spec import slugify
from suites.data._parts import JOINT, SHARES, Parts, kept, split, text_rows

TASKS = ("cola", "sst2", "mrpc", "qqp", "mnli", "qnli", "rte", "wnli")
REGRESSION = "a scale, not classes, and text classification tells classes apart"
REPOSITORY = "nyu-mll/glue"
TEXTS = (
    ("sentence1", "sentence2"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("premise", "hypothesis"),
    ("sentence",),
)
SCORES = {"cola": ["matthews_correlation", "accuracy"], "mrpc": ["accuracy", "f1"], "qqp": ["accuracy", "f1"]}
"""What tasks are scored by, their own metric first; all others by accuracy alone."""
SPLITS = {"train": ("train",), "validation": ("validation", "validation_matched")}
SUFFIXES = (".parquet", ".csv", ".jsonl")
WIDEST = 1024  # bytes of a sample
HIDDEN = -1  # the label of a row whose own is not public
Columns = Mapping[str, Sequence[Any]]


def prepare(folder: Path, task: Path) -> dict[str, Any]:
    """Return the manifest of a task or of a folder; raise Unavailable without datasets, UserError for what is wrong."""
    source = task if task.is_dir() else downloaded(str(task))
    name = source.name if task.is_dir() else f"GLUE {task}"
    scores = SCORES.get(source.name, ["accuracy"])
    files = {split: files_of(source, split) for split in SPLITS}
    sha = hashlib.sha256(Path(__file__).read_bytes() + name.encode())
    for path in (path for paths in files.values() for path in paths):
        sha.update(f"{path.name}\0".encode() + path.read_bytes())
    return kept(slugify(name) or "glue", sha.digest(), partial(make, name, files, scores), folder)


def downloaded(task: str) -> Path:
    """Return the folder of a task in the Hugging Face cache."""
    if task == "stsb":
        raise UserError(f"the labels of GLUE's stsb are {REGRESSION}", f"known: {', '.join(TASKS)}")
    if task not in TASKS:
        raise unknown("GLUE task or folder", task, TASKS)
    kept = checkpoint.cache() / f"datasets--{REPOSITORY.replace('/', '--')}"
    main = kept / "refs/main"  # what was last downloaded
    if main.is_file() and (source := kept / "snapshots" / main.read_text().strip() / task).is_dir():
        return source
    raise UserError(
        f"GLUE's {task} is not in the Hugging Face cache at {checkpoint.cache()}",
        f"fetch it once: hf download {REPOSITORY} --repo-type dataset --include '{task}/*'",
    )


def files_of(source: Path, split: str) -> list[Path]:
    """Return the files of a split, sorted, all of one suffix."""
    pattern = re.compile(rf"(?:{'|'.join(SPLITS[split])})(?:-\d+-of-\d+)?({'|'.join(map(re.escape, SUFFIXES))})")
    paths = sorted(path for path in source.iterdir() if pattern.fullmatch(path.name))
    if not paths:
        raise UserError(f"{source.name} has no {split} split", f"give it as {split}{f' or {split}'.join(SUFFIXES)}")
    if len({path.suffix for path in paths}) > 1:
        raise UserError(f"{source.name} has {' and '.join(path.name for path in paths)}", "leave files of one kind")
    return paths


def make(name: str, files: Mapping[str, Sequence[Path]], scores: Sequence[str]) -> tuple[Parts, dict[str, Any]]:
    """Return the three parts and what they are."""
    splits = {split: columns(paths) for split, paths in files.items()}
    labels = {split: labels_of(f"{name}: {split}", found) for split, found in splits.items()}
    known = sorted({*labels["train"]})
    check_labels(name, labels, known)
    if "f1" in scores and [*map(str, known)] != ["0", "1"]:
        raise UserError(f"{name}: its F1 is that of label 1, and the labels are {known}", "write them as 0 and 1")
    texts = {split: texts_of(f"{name}: {split}", found) for split, found in splits.items()}
    place = {label: index for index, label in enumerate(known)}
    places = {split: np.array([place[label] for label in labels[split]], dtype=np.int32) for split in splits}
    rows = split(places["train"], {"validation": SHARES["validation"]})
    parts = {
        **{part: part_of(texts["train"], places["train"], rows[part]) for part in ("train", "validation")},
        "test": part_of(texts["validation"], places["validation"], np.arange(len(texts["validation"]))),
    }
    source = (
        f"{name}: {len(known)} classes, {len(rows['train']):,} texts for training and {len(rows['validation']):,} for "
        f"validation, both of its training split, and its validation split of {len(texts['validation']):,} for testing."
    )
    joint = {"joint": JOINT[0]} if JOINT in texts["train"][0] else {}
    return parts, {"classes": len(known), "scores": [*scores], "source": source, **joint}


def part_of(texts: Sequence[bytes], labels: NDArray[Any], rows: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """Return some rows as arrays."""
    return {**text_rows("text", [texts[row] for row in rows]), "labels": labels[rows]}


def columns(paths: Sequence[Path]) -> Columns:
    """Return the columns of a split's files; raise Unavailable, or UserError for files that cannot be read."""
    try:
        import datasets
    except ImportError:
        raise Unavailable("GLUE tasks need the package datasets: install torch-tandem[hf]") from None
    datasets.disable_progress_bars()
    suffix, names = paths[0].suffix, [str(path) for path in paths]
    with tempfile.TemporaryDirectory() as cache:
        options: dict[str, Any] = {"cache_dir": cache, "keep_in_memory": True}
        try:
            if suffix == ".csv":
                # A text may be `null` or `NA`.
                found = datasets.Dataset.from_csv(names, keep_default_na=False, **options)
            elif suffix == ".jsonl":
                found = datasets.Dataset.from_json(names, **options)
            else:
                found = datasets.Dataset.from_parquet(names, **options)
        except Exception as error:  # whatever its readers raise: the file is the user's
            said = str(error.__cause__ or error).strip().split("\n")[0]
            raise UserError(f"{', '.join(path.name for path in paths)}: {said}", "mend the file") from None
        whole: Columns = found[:]
    return whole


def labels_of(where: str, found: Columns) -> list[Any]:
    """Return the labels, whole numbers or texts."""
    if "label" not in found:
        raise UserError(f"{where}: no column 'label' among {', '.join(found)}", "name the columns as GLUE does")
    labels = list(found["label"])
    if any(isinstance(label, float) for label in labels):
        raise UserError(f"{where}: the labels are {REGRESSION}", "give whole numbers or texts")
    for row, label in enumerate(labels, start=1):
        if label in (None, "", HIDDEN):
            raise UserError(f"{where}: row {row} has no label", "give each row of these two splits its label")
    return labels


def check_labels(name: str, labels: Mapping[str, Sequence[Any]], known: Sequence[Any]) -> None:
    """Raise UserError unless training has two classes, each with two rows, and validation no other."""
    if len(known) < 2:
        raise UserError(f"{name}: train: {len(known)} classes", "give rows of two or more")
    for label, count in Counter(labels["train"]).items():
        if count < 2:
            raise UserError(
                f"{name}: train: label {label!r} comes once, too little for two parts", "give more, or leave it out"
            )
    for row, label in enumerate(labels["validation"], start=1):
        if label not in known:
            raise UserError(
                f"{name}: validation: row {row}: label {label!r} does not come in training", "give it there, too"
            )


def texts_of(where: str, found: Columns) -> list[bytes]:
    """Return the text of each row, or two as one."""
    names = next((names for names in TEXTS if {*names} <= {*found}), None)
    if names is None:
        known = ", or ".join(" and ".join(names) for names in TEXTS)
        raise UserError(f"{where}: no texts among the columns {', '.join(found)}", f"name them as GLUE does: {known}")
    width = (WIDEST - (len(names) - 1) * len(JOINT)) // len(names)
    texts = []
    for row, several in enumerate(zip(*(found[name] for name in names), strict=True), start=1):
        if not all(isinstance(text, str) and text for text in several):
            raise UserError(f"{where}: row {row} lacks {' or '.join(names)}", "give each row its text")
        texts.append(JOINT.join(text.encode(errors="replace").replace(JOINT, b" ")[:width] for text in several))
    return texts
