"""Text in words instead of bytes, as `words:packages`, `words:stdlib` or `words:own/reviews.csv`: any data with text.

A word is a run of letters of one case, of which the first may be a capital, a number, any other character, or the start
of a line with its indent; what else is white counts for nothing. Letters beyond ASCII are small ones. Words have no
list: each has the number FIRST or more that a checksum of it in small letters gives, so two may share one (Weinberger
et al. 2009, https://arxiv.org/abs/0902.2206). Below are the numbers of bytes and markers. A model of them takes
`vocabulary=4096`.

`text` is (samples, words of the longest), uint16, filled up with 0, `text_lengths` (samples,); all else is as it was. A
text that is not in samples is one row of words.
"""

import re
import zlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness import load, names
from harness.errors import UserError
from harness.spec import slugify
from suites.data._parts import Parts, kept, parts_of, rows_of
from suites.pretraining._windows import FIRST

ARGUMENT = "data"  # what is behind the colon
VOCABULARY = 4096
WORD = re.compile(rb"[A-Z]+(?![a-z\x80-\xff])|[A-Z]?[a-z\x80-\xff]+|[0-9]+|\n *|\S")
TEXTS = ("train", "held_out")


def prepare(folder: Path, source: Path) -> dict[str, Any]:
    """Return the manifest of the data `source` in words; raise UserError if these have no text."""
    data = load.manifest(names.find("data", str(source)), folder)
    if "unavailable" in data:
        return data
    is_corpus = isinstance(data["train"], str)
    if not is_corpus and "text" not in data["train"]:
        raise UserError(f"data {data['name']!r} have no text", "give a text: --set data=words:stdlib")
    text = np.load(data["train"] if is_corpus else data["train"]["text"], mmap_mode="r")
    if text.dtype != np.uint8:
        raise UserError(f"the text of data {data['name']!r} is no bytes, of which words are made", "give its bytes")
    name, state = f"words {data['name']}", Path(__file__).read_bytes() + f"{FIRST} {data['sha256']}".encode()
    make = partial(corpus if is_corpus else samples, data)
    made = kept(slugify(name), state, lambda: (make(), facts(data)), folder)
    paths = {part: made[part]["text"] for part in TEXTS} if is_corpus else {}
    return {**made, **paths, "name": name}


def facts(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return what stays true of data in words, and how many numbers there are."""
    said = {name: data[name] for name in ("classes", "scores") if name in data}
    return {**said, "vocabulary": VOCABULARY, "source": f"{data['source']} In words."}


def corpus(data: Mapping[str, Any]) -> Parts:
    """Return a text as words."""
    return {part: {"text": words(np.load(data[part], mmap_mode="r").tobytes())} for part in TEXTS}


def samples(data: Mapping[str, Any]) -> Parts:
    """Return the parts of samples with each text as words."""
    parts = {}
    for part in parts_of(data):
        arrays = {name: np.load(path) for name, path in data[part].items()}
        texts = zip(arrays["text"], arrays["text_lengths"], strict=True)
        parts[part] = {**arrays, **rows_of("text", [words(row[:length].tobytes()) for row, length in texts])}
    return parts


def words(text: bytes) -> NDArray[np.uint16]:
    """Return the numbers of a text's words."""
    checksums = (zlib.crc32(found[0].lower()) for found in WORD.finditer(text))
    return np.fromiter((FIRST + checksum % (VOCABULARY - FIRST) for checksum in checksums), dtype=np.uint16)
