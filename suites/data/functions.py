"""The name of a function from its body: the functions of the standard library, without a download.

`source` is a function as `ast.unparse` writes it, so without comments and layout, and without decorators (one is
`@name.setter`) and docstrings; its own name reads NAME wherever it stands, and what is longer than 1,024 bytes is cut.
`target` is the name. Both are (samples, bytes of the longest), uint8, filled up with 0, with `source_lengths` and
`target_lengths` (samples,).

Left out are names between double underscores, which a protocol chose, names of more than 31 bytes, functions without a
body, and of functions that read alike all but the first. Every file lies in one part only. The test part is from the
files that `stdlib` holds out, so a model may be pretrained on `stdlib`.
"""

import ast
import re
import sysconfig
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from suites.data._parts import PARTS, Parts, kept, text_rows
from suites.data.stdlib import TOPICS, is_held_out, library_sources, state

WIDEST = 1024  # bytes of a function
LONGEST = 31  # bytes of a name: with EOS 32 tokens
DUNDER = re.compile(r"__\w+__")
Function = ast.FunctionDef | ast.AsyncFunctionDef


def prepare(folder: Path) -> dict[str, Any]:
    """Return the manifest of the functions below `folder`; make them unless they are there, of the same library."""
    sources = library_sources(Path(sysconfig.get_paths()["stdlib"]))
    depends = Path(__file__).read_bytes() + state(sources).encode()
    return kept("functions", depends, partial(make, sources), folder)


def make(sources: Mapping[str, Path]) -> tuple[Parts, dict[str, Any]]:
    """Return the three parts and what they are."""
    found: dict[str, dict[bytes, bytes]] = {part: {} for part in PARTS}
    seen: set[bytes] = set()
    for name, path in sources.items():
        if name != TOPICS:
            named = {source: target for source, target in functions(path.read_bytes()) if source not in seen}
            found[part_of(name)] |= named
            seen |= named.keys()
    parts = {
        part: {**text_rows("source", [*named]), **text_rows("target", [*named.values()])}
        for part, named in found.items()
    }
    return parts, {"source": f"{len(seen):,} functions of the standard library, split by file."}


def part_of(name: str) -> str:
    """Return the part of a file: what `stdlib` holds out is for testing, a tenth of the rest for validation."""
    if is_held_out(name):
        return "test"
    return "validation" if is_held_out(f"validation {name}") else "train"


def functions(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield each function of a source file, its name hidden, and that name."""
    tree = ast.parse(content)
    strip(tree)
    for node in ast.walk(tree):
        if isinstance(node, Function) and is_wanted(node):
            text = re.sub(rf"\b{node.name}\b", "NAME", ast.unparse(node))
            yield text.encode()[:WIDEST], node.name.encode()


def strip(tree: ast.Module) -> None:
    """Remove all decorators and docstrings of functions and classes."""
    for node in ast.walk(tree):
        if isinstance(node, Function | ast.ClassDef):
            node.decorator_list = []
            if ast.get_docstring(node, clean=False) is not None:
                node.body = node.body[1:] or [ast.Pass()]


def is_wanted(function: Function) -> bool:
    """Tell whether somebody chose the name of a function that does something."""
    first = function.body[0]
    does = not isinstance(first, ast.Pass) and not (
        isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    )
    return does and not DUNDER.fullmatch(function.name) and len(function.name.encode()) <= LONGEST
