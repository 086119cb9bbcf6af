"""Data with their text retold in other tokens than bytes; all else of them stays as it is."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness import load, names
from harness.errors import UserError
from harness.spec import slugify
from suites.data._parts import Parts, kept, parts_of, rows_of

TEXTS = ("train", "held_out")
Tell = Callable[[bytes], NDArray[Any]]
"""The bytes of a text -> the numbers of its tokens."""


def retold(source: str, folder: Path, what: str, state: bytes, tell: Tell, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the manifest of the data `source` in tokens called `what`; raise UserError if these have no text.

    `state` is what the tokens depend on beside the data, `facts` (`vocabulary`) what there is to know of them.
    """
    data = load.manifest(names.find("data", source), folder)
    if "unavailable" in data:
        return data
    is_corpus = isinstance(data["train"], str)
    if not is_corpus and "text" not in data["train"]:
        raise UserError(f"data {data['name']!r} have no text", f"give a text: --set data={what}:stdlib")
    text = np.load(data["train"] if is_corpus else data["train"]["text"], mmap_mode="r")
    if text.dtype != np.uint8:
        raise UserError(f"the text of data {data['name']!r} is no bytes, of which {what} are made", "give its bytes")
    said: dict[str, Any] = {name: data[name] for name in ("classes", "scores") if name in data}
    told = {**said, **facts, "source": f"{data['source']} In {what}."}
    name, depends = f"{what} {data['name']}", Path(__file__).read_bytes() + state + data["sha256"].encode()
    make = partial(corpus if is_corpus else samples, data, tell)
    made = kept(slugify(name), depends, lambda: (make(), told), folder)
    paths = {part: made[part]["text"] for part in TEXTS} if is_corpus else {}
    return {**made, **paths, "name": name}


def corpus(data: Mapping[str, Any], tell: Tell) -> Parts:
    """Return a text as tokens, one row."""
    return {part: {"text": tell(np.load(data[part], mmap_mode="r").tobytes())} for part in TEXTS}


def samples(data: Mapping[str, Any], tell: Tell) -> Parts:
    """Return the parts of samples with each text as tokens."""
    parts = {}
    for part in parts_of(data):
        arrays = {name: np.load(path) for name, path in data[part].items()}
        texts = zip(arrays["text"], arrays["text_lengths"], strict=True)
        parts[part] = {**arrays, **rows_of("text", [tell(row[:length].tobytes()) for row, length in texts])}
    return parts
