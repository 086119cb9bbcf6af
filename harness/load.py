"""Loading a suite: by name or path, adjusted, and every name in it looked up before anything runs."""

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness import adjust, checkpoint, labels, names, start
from harness.errors import Unavailable, UserError, unknown
from harness.spec import Suite, Workload
from harness.store import checksum

FIRST = ("model", "loader", "memory_limit", "score_every")  # others need these, in whatever order they are given

SHAPE = ("batch", "length")
NAMED = ("task", "model", "data")  # the fields of a workload that are names


def load(name: str, *, settings: Iterable[str] = (), axes: Iterable[str] = ()) -> tuple[Suite, list[Path]]:
    """Return the suite, with `--set` and `--vary` applied, and the folders where its path names are looked up."""
    named = names.find("suite", name)
    folders = [named.path.parent] if name.partition(":")[0].endswith(".py") else []
    suite = made(named)

    def settings_of(workload: Workload) -> set[str]:
        return model_fields(workload, folders)

    for text in sorted(settings, key=lambda text: text.partition("=")[0] not in FIRST):
        key, _, value = text.partition("=")
        check_values(key, [value], folders)
        suite = adjust.set_value(suite, text, settings_of)
    for text in axes:
        key, _, values = text.partition("=")
        check_values(key, values.split(","), folders)
        suite = adjust.vary(suite, text, settings_of)
    return suite, folders


def check_values(key: str, values: Iterable[str], folders: Sequence[Path]) -> None:
    """Raise UserError for a value of `key` that should be a name and is none."""
    kind = {"start": "task", "start_data": "data"}.get(key, key)
    if kind in ("model", "attention", "task", "data"):
        for value in values:
            names.find(kind, value, folders)


def made(named: names.Named) -> Suite:
    """Call the suite file's function."""
    try:
        suite = named.load()()
    except UserError as error:
        raise UserError(f"suite {named.name!r}: {error}") from None
    except Exception as error:  # the file is the user's: whatever it raises is their mistake, told in one line
        raise UserError(f"suite {named.name!r} raises {type(error).__name__}: {error}", f"mend {named.path}") from error
    if not isinstance(suite, Suite):
        raise UserError(f"suite {named.name!r} returns {type(suite).__name__}", "return a harness.spec.Suite")
    return suite


def model_of(workload: Workload, folders: Sequence[Path]) -> names.Named:
    """Return where a workload's model is defined: whose fields its settings are. A ceiling is its own."""
    if workload.is_ceiling:
        return names.find("ceiling", workload.task, folders)
    return names.find("model", workload.model, folders)


def check_names(suite: Suite, folders: Sequence[Path], known: Iterable[str]) -> None:
    """Raise UserError for the first task, model, size, attention, data or interpreter that nobody knows."""
    labels.check(suite, known)
    for block in suite.blocks:
        if not block.workload.is_ceiling:
            names.find("task", block.workload.task, folders)
        names.find("data", block.workload.data, folders)
        for before in filter(None, [start.workload(block.workload)]):
            if names.find("model", before.model, folders).reads_weights or any(item.model for item in block.variants):
                raise UserError(f"block {block.name!r}: only own models are pretrained here", "give a checkpoint")
            if before.weights:
                raise UserError(f"block {block.name!r} has both weights and a start", "keep one of them")
            names.find("task", before.task, folders)
            names.find("data", before.data, folders)
        for workload in block.workloads:
            config(workload, folders)
        for variant in block.variants:
            names.find("attention", variant.attention, folders)
    checkpoints(suite, folders)


def config(workload: Workload, folders: Sequence[Path], moved: Callable[[Path], Path] = Path) -> dict[str, Any]:
    """Return the model's configuration: its size, then the workload's settings; `moved` gives where its file lies.

    A model that starts from a checkpoint has its size, which the worker reads. One whose `build` asks for them is also
    given the workload's batch and length.
    """
    named = model_of(workload, folders)
    named = replace(named, path=moved(named.path))
    sizes: Mapping[str, Mapping[str, Any]] = named.literal("SIZES", {})
    size = None if workload.weights or named.reads_weights or workload.is_ceiling else workload.size
    if size is not None and size not in sizes:
        raise unknown(f"size of model {workload.model!r}", size, sizes)
    known = fields_of(named)
    for key in workload.settings:
        if key not in known and named.parameters() is not None:
            raise unknown(f"setting of {named.kind} {named.name!r}", key, known)
    shape = {name: getattr(workload, name) for name in SHAPE if name in (named.parameters() or ())}
    return {**(sizes[size] if size else {}), **workload.settings, **shape}


def weights(workload: Workload, folders: Sequence[Path]) -> str:
    """Return the name of the checkpoint that a workload's model starts from, or nothing."""
    named = model_of(workload, folders)
    if named.reads_weights and not (named.argument or workload.weights):
        raise UserError(f"model {workload.model!r} needs a checkpoint", f"write {workload.model}:FOLDER_OR_ID")
    return named.argument or workload.weights


def model_fields(workload: Workload, folders: Sequence[Path]) -> set[str]:
    """Return the fields that a workload's model can be configured by, without importing it."""
    return fields_of(model_of(workload, folders))


def fields_of(named: names.Named) -> set[str]:
    """Return the fields of a model: its parameters, and those that a size sets."""
    sizes: Mapping[str, Mapping[str, Any]] = named.literal("SIZES", {})
    return {*(named.parameters() or ()), *(key for size in sizes.values() for key in size)}


def sources(suite: Suite, folders: Sequence[Path]) -> dict[str, str]:
    """Return the SHA-256 of each file that the suite names, and of Tandem's code: what a run has measured."""
    named = {**files(suite, folders), **checkpoints(suite, folders)}
    return {"tandem": own_code(), **{name: checksum(path) for name, path in named.items()}}


def own_code() -> str:
    """Return the SHA-256 of all Python files of Tandem, which those that a suite names import from."""
    paths = sorted(path for folder in ("harness", "suites") for path in (names.ROOT / folder).rglob("*.py"))
    return hashlib.sha256("".join(map(checksum, paths)).encode()).hexdigest()


def checkpoints(suite: Suite, folders: Sequence[Path]) -> dict[str, Path]:
    """Return each file of each checkpoint that the suite names."""
    found = dict.fromkeys(weights(workload, folders) for block in suite.blocks for workload in block.workloads)
    return {
        f"weights {name}/{path.name}": path
        for name in filter(None, found)
        for path in checkpoint.files(checkpoint.find(name, folders))
    }


def files(suite: Suite, folders: Sequence[Path]) -> dict[str, Path]:
    """Return each file that the suite names, by kind and name."""
    named = [
        names.find(kind, name, folders)
        for block in suite.blocks
        for kind, name in (
            *named_by(block.workload),
            *(
                (kind, getattr(one, kind))
                for one in filter(None, [start.workload(block.workload)])
                for kind in ("task", "data")
            ),
            *(("attention", variant.attention) for variant in block.variants),
            *(("model", variant.model) for variant in block.variants if variant.model),
        )
    ]
    inner = [names.find("data", one.inner, folders) for one in named if one.inner]
    return {f"{one.kind} {one.name}": one.path for one in (*named, *inner)}


def named_by(workload: Workload) -> list[tuple[str, str]]:
    """Return kind and name of what a workload names."""
    kinds = {"ceiling": "task", "data": "data"} if workload.is_ceiling else {name: name for name in NAMED}
    return [(kind, getattr(workload, field)) for kind, field in kinds.items()]


def prepare_data(suite: Suite, folder: Path, folders: Sequence[Path]) -> dict[str, dict[str, Any]]:
    """Make the data of all workloads, or find them made; return data name -> manifest."""
    starts = [start.workload(block.workload) for block in suite.blocks]
    wanted = {block.workload.data for block in suite.blocks} | {one.data for one in starts if one}
    return {name: manifest(names.find("data", name, folders), folder) for name in sorted(wanted)}


def manifest(named: names.Named, folder: Path) -> dict[str, Any]:
    """Return the manifest of data, or of what cannot be made on this machine one that tells the workers why."""
    argument = [Path(named.argument)] if named.argument else []
    try:
        made: dict[str, Any] = named.load()(folder, *argument)
    except Unavailable as error:
        return {"name": named.name, "sha256": "", "source": "", "unavailable": str(error)}
    return made


def with_limits(suite: Suite, launches: int | None, rounds: int | None, budget: float | None) -> Suite:
    """Return the suite with the measuring options of the command line."""
    given = {"launches": launches, "rounds": rounds, "budget": budget}
    return replace(suite, **{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]


def cache() -> Path:
    """Return the folder for what is worth keeping between runs."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tandem"
