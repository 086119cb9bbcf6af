"""Data with their text retold in other tokens than bytes; all else of them stays as it is."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness import load, names
from harness.errors import UserError
from harness.spec import slugify
from suites.data._parts import Parts, kept, parts_of, rows_of

PARTS = ("train", "held_out")
Tell = Callable[[bytes], NDArray[Any]]
"""The bytes of a text -> the numbers of its tokens."""


def retold(
    source: str, folder: Path, what: str, state: bytes, tell: Tell, facts: Mapping[str, Any],
    texts: Sequence[str] = ("text",),
) -> dict[str, Any]:  # fmt: skip
    """Return the manifest of the data `source` in tokens called `what`; raise UserError if these have no text.

    `state` is what the tokens depend on beside the data, `facts` (`vocabulary`) what there is to know of them. Of
    samples the arrays `texts` are told, as many of them as there are.
    """
    data = load.manifest(names.find("data", source), folder)
    if "unavailable" in data:
        return data
    is_corpus = isinstance(data["train"], str)
    found = [text for text in texts if is_corpus or text in data["train"]]
    if not found:
        raise UserError(f"data {data['name']!r} have no text", f"give a text: --set data={what}:stdlib")
    text = np.load(data["train"] if is_corpus else data["train"][found[0]], mmap_mode="r")
    if text.dtype != np.uint8:
        raise UserError(f"the text of data {data['name']!r} is no bytes, of which {what} are made", "give its bytes")
    said: dict[str, Any] = {name: data[name] for name in ("classes", "scores") if name in data}
    if "joint" in data:
        said["joint"] = int(tell(bytes([data["joint"]]))[0])
    told = {**said, **facts, "source": f"{data['source']} In {what}."}
    name, depends = f"{what} {data['name']}", Path(__file__).read_bytes() + state + data["sha256"].encode()
    make = partial(corpus, data, tell) if is_corpus else partial(samples, data, tell, found)
    made = kept(slugify(name), depends, lambda: (make(), told), folder)
    paths = {part: made[part]["text"] for part in PARTS} if is_corpus else {}
    return {**made, **paths, "name": name}


def corpus(data: Mapping[str, Any], tell: Tell) -> Parts:
    """Return a text as tokens, one row."""
    return {part: {"text": tell(np.load(data[part], mmap_mode="r").tobytes())} for part in PARTS}


def samples(data: Mapping[str, Any], tell: Tell, texts: Sequence[str]) -> Parts:
    """Return the parts of samples with each of their texts as tokens."""
    parts = {}
    for part in parts_of(data):
        arrays = {name: np.load(path) for name, path in data[part].items()}
        for text in texts:
            rows = zip(arrays[text], arrays[f"{text}_lengths"], strict=True)
            arrays |= rows_of(text, [tell(row[:length].tobytes()) for row, length in rows])
        parts[part] = arrays
    return parts
