"""Real text without a download: documentation and source of the Python standard library, as bytes."""

import ast
import hashlib
import json
import os
import platform
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np

from harness.errors import UserError

TOPICS = "pydoc_data/topics.py"  # the language reference as one dict of texts
TESTS = {"test", "tests", "idle_test"}
BULK = {"idlelib", "lib2to3", "turtledemo", "encodings"}  # applications, a frozen copy of 2to3, generated tables
GENERATED = {"html/entities.py", "re/_casefix.py", "_opcode_metadata.py"}
HELD_OUT = 10  # every tenth file
NPY_HEADER_BYTES = 128  # what np.save writes before a one-dimensional array


def prepare(folder: Path) -> dict[str, Any]:
    """Return the manifest of the corpus below `folder`; make it unless it is there."""
    return corpus(library_sources(Path(sysconfig.get_paths()["stdlib"])), folder)


def library_sources(library: Path) -> dict[str, Path]:
    """Return the source files of the standard library in `library` by relative name, sorted."""
    found = [
        path
        for module in sys.stdlib_module_names
        for path in (library / f"{module}.py", *(library / module).rglob("*.py"))
        if module not in BULK and path.is_file()
    ]
    named = {path.relative_to(library).as_posix(): path for path in found}
    chosen = {name: named[name] for name in sorted(named) if not (TESTS & {*name.split("/")} or name in GENERATED)}
    if {is_held_out(name) for name in chosen} != {True, False}:
        raise UserError(
            f"the Python at {library} has no library sources, zipped or stripped as it is; they are the training text",
            "start Tandem with a Python that has them, such as python.org's, Debian's or uv's",
        )
    return chosen


def corpus(sources: Mapping[str, Path], folder: Path) -> dict[str, Any]:
    """Return the manifest of the corpus that `sources` make, read again only if one of them may have changed."""
    folder = folder.resolve()
    cached = folder / f"stdlib-{state(sources)[:16]}.json"
    if not is_complete(cached):
        folder.mkdir(parents=True, exist_ok=True)
        content = json.dumps(make(sources, folder), indent=1).encode()
        write(cached, lambda file: file.write(content))
    manifest: dict[str, Any] = json.loads(cached.read_bytes())
    return {**manifest, "train": str(folder / manifest["train"]), "held_out": str(folder / manifest["held_out"])}


def state(sources: Mapping[str, Path]) -> str:
    """Return a hash of what the corpus depends on, from the files' states without reading them.

    The change time is in it because, unlike size and modification time, no tool that writes a file can keep it.
    """
    sha = hashlib.sha256(Path(__file__).read_bytes())  # a corpus made by other rules is another one
    for name, path in sources.items():
        seen = path.stat()
        sha.update(f"{path}\0{name}\0{seen.st_size}\0{seen.st_mtime_ns}\0{seen.st_ctime_ns}\n".encode())
    return sha.hexdigest()


def is_complete(cached: Path) -> bool:
    """Tell whether the manifest and both of its files are there, whole."""
    if not cached.is_file():
        return False
    manifest = json.loads(cached.read_bytes())
    files = {part: cached.parent / manifest[part] for part in ("train", "held_out")}
    sizes = {part: NPY_HEADER_BYTES + manifest[f"{part}_bytes"] for part in files}
    return all(file.is_file() and file.stat().st_size == sizes[part] for part, file in files.items())


def make(sources: Mapping[str, Path], folder: Path) -> dict[str, Any]:
    """Write both parts of the corpus into `folder` and return the manifest, its paths relative to `folder`."""
    parts: dict[str, list[bytes]] = {"train": [], "held_out": []}
    for name, path in sources.items():
        parts["held_out" if is_held_out(name) else "train"].append(text(name, path))
    joined = {part: b"\n".join(texts) for part, texts in parts.items()}
    sizes = {f"{part}_bytes": len(content) for part, content in joined.items()}
    sha = hashlib.sha256(f"{sizes}".encode() + joined["train"] + joined["held_out"]).hexdigest()
    files = {part: f"stdlib-{sha[:16]}-{part}.npy" for part in joined}
    for part, content in joined.items():
        write(folder / files[part], partial(np.save, arr=np.frombuffer(content, dtype=np.uint8)))
    source = f"The standard library of Python {platform.python_version()}: docs and source, {len(sources)} files."
    return {"name": "stdlib", "sha256": sha, **files, **sizes, "source": source}


def text(name: str, path: Path) -> bytes:
    """Return the bytes of a source file; of pydoc's topics the texts, without the quoting around them.

    The topics stay one document: chapters such as `compound` repeat the sections that are topics of their own.
    """
    content = path.read_bytes()
    if name != TOPICS:
        return content
    topics = next(node.value for node in ast.parse(content).body if isinstance(node, ast.Assign))
    return "\n".join(ast.literal_eval(topics).values()).encode()


def is_held_out(name: str) -> bool:
    """Tell whether the file belongs to the held-out part; by its name, so that each release splits alike."""
    return int(hashlib.sha256(name.encode()).hexdigest(), 16) % HELD_OUT == 0


def write(path: Path, fill: Callable[[IO[bytes]], Any]) -> None:
    """Write a file that is there whole or not at all, even if two processes make it at once."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            fill(file)
        os.chmod(temporary, 0o444)  # workers map it: writing to it would change a running benchmark
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
