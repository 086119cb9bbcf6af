"""Names: a short name is a file in `suites/`, `path/file.py:function` anything; read without importing."""

import ast
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from harness.errors import UserError, unknown

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of thing that is named: the folders it lives in and the function its file defines."""

    folders: tuple[str, ...]
    function: str


KINDS = {
    "model": Kind(folders=("suites/models",), function="build"),
    "attention": Kind(folders=("suites/attention",), function="attention"),
    "task": Kind(folders=("suites/pretraining", "suites/finetuning", "suites/kernels"), function="prepare"),
    "ceiling": Kind(folders=("suites/ceilings",), function="prepare"),
    "data": Kind(folders=("suites/data",), function="prepare"),
    "suite": Kind(folders=("suites/definitions",), function="suite"),
    "format": Kind(folders=("reports/formats",), function="render"),
    "view": Kind(folders=("reports/views",), function="view"),
}
TABLES = (".csv", ".jsonl")
"""Suffixes of the user's own data files, which suites/data/_table.py reads."""


@dataclass(frozen=True, kw_only=True)
class Named:
    """Where a name leads: a file and the function in it."""

    kind: str
    name: str
    path: Path
    function: str
    importable: str = ""
    """Dotted name of the module; empty for a file that was named by its path."""
    argument: str = ""
    """What the function is to read: data named by their path, what is behind a colon (`tiny` of `hf:tiny`)."""

    @property
    def summary(self) -> str:
        """The first line of the file's docstring."""
        return (ast.get_docstring(self._tree()) or "").split("\n")[0]

    def literal(self, name: str, default: Any) -> Any:
        """Return the value of the top-level literal `name` in the file, read without importing it."""
        for node in self._tree().body:
            target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
            if isinstance(target, ast.Name) and target.id == name and isinstance(node, ast.Assign | ast.AnnAssign):
                try:
                    return ast.literal_eval(node.value) if node.value else default
                except ValueError:
                    raise UserError(
                        f"{self.path.name}: {name} is not a plain literal", "write its values out"
                    ) from None
        return default

    def parameters(self) -> list[str] | None:
        """Return the keyword parameters of the function, or None if it takes any."""
        arguments = self._arguments()
        return None if not arguments or arguments.kwarg else [item.arg for item in arguments.kwonlyargs]

    @property
    def reads_weights(self) -> bool:
        """Tell whether a model reads its checkpoint itself: `build(attention, folder, *, fields)`."""
        return self.kind == "model" and self.takes_argument

    @property
    def is_own(self) -> bool:
        """Tell whether it is the user's, in whole or by what is behind its colon."""
        return not self.importable or bool(self.argument)

    @property
    def inner(self) -> str:
        """The name of the data that data are made of, or nothing."""
        told = self.literal("ARGUMENT", "")
        return self.argument.partition(":")[2] if told == "checkpoint:data" else self.argument if told else ""

    @property
    def takes_argument(self) -> bool:
        """Tell whether the function reads what is behind the colon of a name: its second positional parameter."""
        arguments = self._arguments()
        return self.kind in ("model", "data") and arguments is not None and len(arguments.args) > 1

    def load(self) -> Callable[..., Any]:
        """Import the file and return the function."""
        function = getattr(self.module(), self.function, None)
        if not callable(function):
            raise UserError(f"{self.path} defines no function {self.function!r}", f"a {self.kind} file needs one")
        return function  # type: ignore[no-any-return]

    def module(self) -> ModuleType:
        """Import the file."""
        if self.importable:
            return importlib.import_module(self.importable)
        name = f"own_{self.path.stem}_{hashlib.sha256(str(self.path).encode()).hexdigest()[:8]}"
        if name not in sys.modules:
            specification = importlib.util.spec_from_file_location(name, self.path)
            assert specification is not None, self.path
            assert specification.loader is not None, self.path
            sys.modules[name] = module = importlib.util.module_from_spec(specification)
            try:
                specification.loader.exec_module(module)
            except BaseException:
                del sys.modules[name]
                raise
        return sys.modules[name]

    def _arguments(self) -> ast.arguments | None:
        functions = (node for node in self._tree().body if isinstance(node, ast.FunctionDef))
        return next((node.args for node in functions if node.name == self.function), None)

    def _tree(self) -> ast.Module:
        try:
            return ast.parse(self.path.read_text(encoding="utf-8"))
        except SyntaxError as error:
            raise UserError(f"{self.path}: line {error.lineno}: {error.msg}", "mend the file") from None


def find(kind: str, name: str, folders: Sequence[Path] = ()) -> Named:
    """Return where `name` leads; a relative path is looked up in `folders`, then in the current one.

    The short name of a model that reads its checkpoint itself may have that behind a colon, as that of data may have
    what to read: other data, where its file says so, or a path or name of its own. Data may be a folder, too.
    """
    rule = KINDS[kind]
    path_text, _, function = name.partition(":")
    if path_text.endswith(".py"):
        path = located(kind, path_text, folders)
        return Named(kind=kind, name=name, path=path, function=function or rule.function)
    listed = listing(kind)
    for named in listed:
        if named.name == name.replace("-", "_"):  # `pytest-benchmark` is what it is called, but no module's name
            if kind == "data" and named.takes_argument:
                start = f"{name}:FOLDER" if named.literal("ARGUMENT", "") == "checkpoint:data" else name
                raise UserError(f"{name!r} alone does not say which data", f"write {start}:NAME or {start}:PATH")
            return named
        if function and named.name == path_text and named.takes_argument:
            if named.literal("ARGUMENT", ""):
                return replace(named, name=name, argument=retelling(named, function, folders))
            folder = located_folder(function, folders) if kind == "data" else None
            return replace(named, name=name, argument=str(folder or function))
    if kind == "data" and name.endswith(TABLES):
        table = find(kind, "suites.data._table")
        return replace(table, name=name, argument=str(located(kind, name, folders)))
    if kind == "data" and (images := image_folder(name, folders)):
        return replace(find(kind, "suites.data._image_folder"), name=name, argument=images)
    if "." in path_text and (specification := _specification(path_text)) and specification.origin:
        path = Path(specification.origin)
        return Named(kind=kind, name=name, path=path, function=function or rule.function, importable=path_text)
    raise unknown(kind, name, [named.name for named in listed])


def located(kind: str, name: str, folders: Sequence[Path]) -> Path:
    """Return the file at a path in one of the folders or the current one."""
    for folder in (*folders, Path()):
        if (folder / name).is_file():
            return (folder / name).resolve()
    raise UserError(f"no file {name!r} for {kind}", "a path starts at the suite's folder or at this one")


def image_folder(name: str, folders: Sequence[Path]) -> str:
    """Return where FOLDER or FOLDER@SIZE leads, or nothing; raise UserError for a path where nothing is."""
    plain, _, size = name.rpartition("@")
    if folder := located_folder(name, folders):
        return str(folder)
    if folder := located_folder(plain, folders):
        return f"{folder}@{size}"
    if "/" in name:
        raise UserError(f"no folder {name!r} for data", "a path starts at the suite's folder or at this one")
    return ""


def absolute(data: Named) -> str:
    """Return a name by which data are found from any folder."""
    if not data.importable:
        return f"{data.path}:{data.function}"
    short = "" if data.path.stem.startswith("_") else f"{data.path.stem}:"  # those have no name but their path
    return f"{short}{data.argument}" if data.argument else data.name


def retelling(named: Named, argument: str, folders: Sequence[Path]) -> str:
    """Return by which argument data find, from any folder, what they retell: `ARGUMENT` says what that is."""
    checkpoint, _, data = argument.partition(":") if named.literal("ARGUMENT", "") != "data" else ("", "", argument)
    if not data:
        raise UserError(f"{named.name}:{argument} does not say which data", f"write {named.name}:{argument}:NAME")
    inner = absolute(find("data", data, folders))
    return f"{located_folder(checkpoint, folders) or checkpoint}:{inner}" if checkpoint else inner


def located_folder(name: str, folders: Sequence[Path]) -> Path | None:
    """Return the folder at a path in one of the folders or the current one, or None."""
    found = (folder / name for folder in (*folders, Path()) if name and (folder / name).is_dir())
    return next((path.resolve() for path in found), None)


def listing(kind: str) -> list[Named]:
    """Return every short name of `kind`, sorted; a task's or a ceiling's name holds its folder."""
    rule = KINDS[kind]
    paths = [path for folder in rule.folders for path in (ROOT / folder).glob("*.py") if not path.stem.startswith("_")]
    named = (
        Named(
            kind=kind,
            name=f"{path.parent.name}/{path.stem}" if kind in ("task", "ceiling") else path.stem,
            path=path,
            function=rule.function,
            importable=".".join(path.relative_to(ROOT).with_suffix("").parts),
        )
        for path in paths
    )
    return sorted(named, key=lambda one: one.name)


def _specification(dotted: str) -> Any:
    try:
        return importlib.util.find_spec(dotted)
    except (ImportError, ValueError):  # not there, or no name of a module, such as `./own`
        return None
