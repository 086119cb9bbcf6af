"""The user's own texts with labels: a CSV or JSON-lines file, as in `--set data=reviews.csv`.

A CSV file names its columns in its first line, a JSON-lines file (.jsonl) has an object in each. `text` and `label` are
read, all else is not; a text and a label that come twice are kept once, and of a text the first 2,048 bytes. Each class
is shared out to the three parts by itself, so none can be unseen in training.

`text` is (samples, bytes of the longest), uint8, filled up with 0, `text_lengths` (samples,), `labels` (samples,),
int32, the place of the label among all, sorted.
"""

import codecs
import csv
import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from harness.errors import UserError
from harness.spec import slugify
from suites.data._parts import PARTS, Parts, kept, split, text_rows

KEYS = ("text", "label")
WIDEST = 2048  # bytes of a text
Rows = Iterator[tuple[int, Mapping[Any, Any]]]
"""Line and fields of each row."""


def prepare(folder: Path, file: Path) -> dict[str, Any]:
    """Return the manifest of the texts in `file` below `folder`; raise UserError, with file and line, for a bad row."""
    content = file.read_bytes()
    depends = Path(__file__).read_bytes() + file.name.encode() + b"\0" + content
    return kept(slugify(file.stem) or "table", depends, partial(make, file.name, content), folder)


def make(name: str, content: bytes) -> tuple[Parts, dict[str, Any]]:
    """Return the three parts and what they are."""
    lines = read(name, content)
    check_classes(name, lines)
    known = sorted({label for _, label in lines})
    labels = np.array([known.index(label) for _, label in lines], dtype=np.int32)
    texts = [text for text, _ in lines]
    parts = {
        part: {**text_rows("text", [texts[row] for row in rows]), "labels": labels[rows]}
        for part, rows in split(labels).items()
    }
    return parts, {"classes": len(known), "source": f"{name}: {len(texts):,} texts of {len(known)} classes."}


def read(name: str, content: bytes) -> dict[tuple[bytes, str], int]:
    """Return each text, as far as it is read, and its label, in order, with the line where it comes first."""
    rows = csv_rows if name.endswith(".csv") else json_rows
    found: dict[tuple[bytes, str], int] = {}
    for line, row in rows(name, decoded(name, content)):
        for key in KEYS:
            if row.get(key) in (None, ""):
                raise bad(name, line, f"no {key}", "give each row a text and a label")
        text, label = (row[key] for key in KEYS)
        if not isinstance(text, str):
            raise bad(name, line, f"text is {text!r}", "give a text, in quotes")
        if not isinstance(label, str | int):
            raise bad(name, line, f"label is {label!r}", "give a text or a whole number")
        found.setdefault((text.encode(errors="replace")[:WIDEST], str(label)), line)
    return found


def csv_rows(name: str, text: str) -> Rows:
    """Yield the rows of a CSV file, whose first line has the columns' names."""
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        for key in KEYS:
            if key not in (reader.fieldnames or KEYS):
                columns = ", ".join(reader.fieldnames or ())
                raise bad(name, 1, f"no column {key!r} among {columns}", "name the columns `text` and `label` there")
        for row in reader:
            if None in row:
                raise bad(name, reader.line_num, "more cells than columns", "put a text that has commas in quotes")
            yield reader.line_num, row
    except csv.Error as error:
        hint = "write it with a CSV writer, such as Python's"
        raise bad(name, reader.line_num + 1, f"no CSV: {error}", hint) from None


def json_rows(name: str, text: str) -> Rows:
    """Yield the objects of a JSON-lines file; empty lines are none."""
    for line, content in enumerate(text.split("\n"), start=1):
        if not content.strip():
            continue
        try:
            row = json.loads(content)
        except json.JSONDecodeError as error:
            raise bad(name, line, f"no JSON: {error.msg}", "give each line an object of its own") from None
        if not isinstance(row, Mapping):
            raise bad(name, line, "no JSON object", 'write lines such as {"text": "...", "label": "..."}')
        yield line, row


def decoded(name: str, content: bytes) -> str:
    """Return the content as text, without the byte order mark that some programs begin it with."""
    content = content.removeprefix(codecs.BOM_UTF8)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise bad(name, line, f"byte 0x{content[error.start]:02x} is not UTF-8", "save the file as UTF-8") from None


def check_classes(name: str, lines: Mapping[tuple[bytes, str], int]) -> None:
    """Raise UserError unless there are two classes, each with a text for each part."""
    counts = Counter(label for _, label in lines)
    if not counts:
        raise UserError(f"{name} is empty: it has no row", "give it texts and their labels")
    if len(counts) == 1:
        raise UserError(f"{name}: every label is {next(iter(counts))!r}", "give rows of another class, too")
    for (_, label), line in lines.items():
        if counts[label] < len(PARTS):
            raise bad(
                name, line, f"label {label!r} comes with {counts[label]} different texts, too few for three parts",
                "give three or more, or leave it out",
            )  # fmt: skip


def bad(name: str, line: int, what: str, hint: str) -> UserError:
    """Return the error for a line of the file."""
    return UserError(f"{name}: line {line}: {what}", hint)
