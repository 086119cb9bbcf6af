"""Parts: arrays of training, validation and test data, one row a sample, written once as `.npy` files."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from suites.data.stdlib import write

PARTS = ("train", "validation", "test")
JOINT = b"\x1e"  # ASCII's record separator, between two texts in one
SEED = 0  # of what is drawn at random
SHARES = {"test": 0.2, "validation": 0.1}  # of each class; the rest is for training
Parts = Mapping[str, Mapping[str, NDArray[Any]]]
"""Part -> name of an array -> the array, whose first axis are the samples."""


def kept(name: str, state: bytes, make: Callable[[], tuple[Parts, dict[str, Any]]], folder: Path) -> dict[str, Any]:
    """Return the manifest of data `name` below `folder`; call `make` unless what it made of `state` is there, whole.

    `state` is what the data depend on, beside this file. `make` returns the parts and further facts, such as `source`.
    In the manifest each part leads from the names of its arrays to their files.
    """
    folder = folder.resolve()
    cached = folder / f"{name}-{hashlib.sha256(Path(__file__).read_bytes() + state).hexdigest()[:16]}.json"
    if not is_complete(cached):
        folder.mkdir(parents=True, exist_ok=True)
        parts, facts = make()
        content = json.dumps({"name": name, **written(name, parts, folder), **facts}, indent=1).encode()
        write(cached, lambda file: file.write(content))
    manifest: dict[str, Any] = json.loads(cached.read_bytes())
    located = {part: {key: str(folder / file) for key, file in manifest[part].items()} for part in parts_of(manifest)}
    return {**manifest, **located}


def parts_of(manifest: Mapping[str, Any]) -> list[str]:
    """Return the parts that data have."""
    return [name for name, files in manifest.items() if isinstance(files, Mapping)]


def is_complete(cached: Path) -> bool:
    """Tell whether the manifest and the files of all parts are there, whole."""
    if not cached.is_file():
        return False
    manifest = json.loads(cached.read_bytes())
    files = {part: [cached.parent / file for file in manifest[part].values()] for part in parts_of(manifest)}
    return all(
        all(path.is_file() for path in paths) and size(paths) == manifest[f"{part}_bytes"]
        for part, paths in files.items()
    )


def size(paths: list[Path]) -> int:
    """Return how many bytes the files have together."""
    return sum(path.stat().st_size for path in paths)


def written(name: str, parts: Parts, folder: Path) -> dict[str, Any]:
    """Write the arrays of all parts into `folder`; return their hash, and the files and bytes of each part."""
    sha = hashlib.sha256()
    for part, arrays in parts.items():
        for key, array in arrays.items():
            sha.update(f"{part} {key} {array.dtype.str} {array.shape}\n".encode() + array.tobytes())
    manifest: dict[str, Any] = {"sha256": sha.hexdigest()}
    for part, arrays in parts.items():
        files = {key: f"{name}-{sha.hexdigest()[:16]}-{part}-{key}.npy" for key in arrays}
        for key, file in files.items():
            write(folder / file, partial(np.save, arr=arrays[key], allow_pickle=False))
        manifest |= {part: files, f"{part}_bytes": size([folder / file for file in files.values()])}
    return manifest


def split(labels: NDArray[Any], shares: Mapping[str, float] = SHARES) -> dict[str, NDArray[np.int64]]:
    """Return the rows of the parts of `shares` and of the rest, `train`, sorted; each class is shared out alike.

    That is at random. A share is rounded, but one row at least: a class must have one for each part.
    """
    random = np.random.RandomState(SEED)
    rows: dict[str, list[NDArray[np.int64]]] = {part: [] for part in ("train", *shares)}
    for label in np.unique(labels):
        left = random.permutation(np.flatnonzero(labels == label))
        total = len(left)
        for part, share in shares.items():
            taken, left = np.split(left, [max(round(share * total), 1)])
            rows[part].append(taken)
        rows["train"].append(left)
    return {part: np.sort(np.concatenate(rows[part])) for part in PARTS if part in rows}


def text_rows(name: str, texts: Sequence[bytes]) -> dict[str, NDArray[Any]]:
    """Return texts as the array `name` (samples, bytes of the longest), uint8, filled up with 0, and `name_lengths`."""
    return rows_of(name, [np.frombuffer(text, dtype=np.uint8) for text in texts])


def rows_of(name: str, texts: Sequence[NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return texts, arrays of numbers, as the array `name` (samples, longest), filled up with 0, and `name_lengths`."""
    lengths = np.array([len(text) for text in texts], dtype=np.int32)
    rows = np.zeros((len(texts), lengths.max()), dtype=texts[0].dtype)
    rows[np.arange(rows.shape[1]) < lengths[:, None]] = np.concatenate(texts)
    return {name: rows, f"{name}_lengths": lengths}
