"""Which of six packages of the standard library a piece of source is from: real classes without a download.

A piece is 126 bytes: with the two markers that go about it, the default length of 128. In each part all classes have
as many pieces, and every file lies in one part only. Left out is what would give the answer away or tell it twice: what
stands before a file's first statement (licence, authors, docstring), the six names, which all read `package` wherever
they stand, and of files that share a quarter of their longer lines all but the largest.

`text` is (samples, 126), uint8, `text_lengths` (samples,) always 126, `labels` (samples,), uint8, the place of the
package in PACKAGES. Chance is 1 in 6: 16.7 %. The text `packages_text` is to pretrain on: it has nothing of the files
that are scored here, unlike `stdlib`.
"""

import ast
import re
import sysconfig
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from suites.data._parts import PARTS, SEED, Parts, kept, text_rows
from suites.data.stdlib import library_sources, state

PACKAGES = ("asyncio", "email", "importlib", "multiprocessing", "unittest", "xml")  # 13 files or more, in every Python
NAMES = re.compile("|".join(PACKAGES).encode(), re.IGNORECASE)
PIECE = 126  # bytes
LONG = 20  # bytes of a line that is more than an idiom such as `return None`
ALIKE = 0.25  # share of such lines


def prepare(folder: Path) -> dict[str, Any]:
    """Return the manifest of the pieces below `folder`; make them unless they are there, of the same library."""
    sources = of_packages(library_sources(Path(sysconfig.get_paths()["stdlib"])))
    depends = Path(__file__).read_bytes() + state(sources).encode()
    return kept("packages", depends, partial(make, sources), folder)


def of_packages(sources: Mapping[str, Path]) -> dict[str, Path]:
    """Return the source files of the six packages by name."""
    return {name: path for name, path in sources.items() if name.split("/")[0] in PACKAGES}


def make(sources: Mapping[str, Path]) -> tuple[Parts, dict[str, Any]]:
    """Return the three parts and what they are."""
    contents = {name: code(path.read_bytes()) for name, path in sources.items()}
    files = shared_out(contents)
    parts = {
        part: balanced([[piece for name in mine for piece in pieces(contents[name])] for mine in files[part]])
        for part in PARTS
    }
    count = sum(len(mine) for part in PARTS for mine in files[part])
    return parts, {"classes": len(PACKAGES), "source": f"Pieces of {count} files of {', '.join(PACKAGES)}."}


def code(content: bytes) -> bytes:
    """Return a source file from its first statement after the docstring on, with the six names hidden."""
    tree = ast.parse(content)
    body = tree.body[ast.get_docstring(tree) is not None :]
    lines = content.splitlines(keepends=True)
    return NAMES.sub(b"package", b"".join(lines[body[0].lineno - 1 :])) if body else b""


def shared_out(contents: Mapping[str, bytes]) -> dict[str, list[list[str]]]:
    """Return the files of each part, a list a package: by size a fifth of them for testing, a tenth for validation."""
    chosen = unlike({name: content for name, content in contents.items() if len(content) >= PIECE})
    files: dict[str, list[list[str]]] = {part: [] for part in PARTS}
    for package in PACKAGES:
        mine = [name for name in chosen if name.startswith(f"{package}/")]
        places = {"test": mine[2::5], "validation": mine[4::10]}
        places["train"] = [name for name in mine if name not in places["test"] + places["validation"]]
        for part in PARTS:
            files[part].append(sorted(places[part]))
    return files


def unlike(contents: Mapping[str, bytes]) -> list[str]:
    """Return the files, the largest first, without those that are much like a larger one."""
    chosen: dict[str, set[bytes]] = {}
    for name in sorted(contents, key=lambda name: (-len(contents[name]), name)):
        lines = {line for line in map(bytes.strip, contents[name].splitlines()) if len(line) >= LONG}
        if not any(len(lines & others) > ALIKE * min(len(lines), len(others)) for others in chosen.values()):
            chosen[name] = lines
    return list(chosen)


def pieces(content: bytes) -> list[bytes]:
    """Return the content in pieces, without the rest at its end."""
    return [content[start : start + PIECE] for start in range(0, len(content) - PIECE + 1, PIECE)]


def balanced(classes: Sequence[Sequence[bytes]]) -> dict[str, NDArray[Any]]:
    """Return as many pieces of each class as the smallest has, drawn at random and left in order, and their labels."""
    count, random = min(map(len, classes)), np.random.RandomState(SEED)
    chosen = [mine[row] for mine in classes for row in np.sort(random.permutation(len(mine))[:count])]
    return {**text_rows("text", chosen), "labels": np.repeat(np.arange(len(classes), dtype=np.uint8), count)}
