"""Merge: the shards of a suite -> one run, equal to the unsharded one in everything but times and environments."""

import re
import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from itertools import cycle
from operator import itemgetter
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.compute
import pyarrow.parquet

from harness import passport
from harness.calibration import strayed
from harness.errors import UserError
from harness.shard import Shard, parse
from harness.spec import Block, Suite, repeated
from harness.store import CHECKED, COLUMNS, Run, checksum, new_id, open_run, read_json, write_json

PEER = re.compile(rb'"(?:to|from)": "([^"]+)"')
SHOWN = 70  # characters: a SHA-256 is shown, a list of blocks is not


@dataclass(frozen=True, kw_only=True)
class Part:
    """A complete run of a shard, and the suite that it is a shard of."""

    shard: Shard
    whole: Suite
    run: Run

    def __str__(self) -> str:
        return f"shard {self.shard} ({self.run.id})"


def merge(paths: Sequence[Path], runs: Path, command: list[str]) -> Path:
    """Join all shards of a suite into a new run below `runs`, and return its folder; the shards are left alone.

    Raise UserError, with nothing written, unless they are complete, of one suite, and each is there once.
    """
    parts = sorted(map(opened, paths), key=lambda part: part.shard.number)
    check_alike(parts)
    check_complete(parts)
    meta = joined(parts, command)
    partial = runs / f".partial-{meta['id']}"
    partial.mkdir(parents=True)
    try:
        write(partial, parts, meta)
        return partial.rename(runs / meta["id"])
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def opened(path: Path) -> Part:
    """Return the run of a shard; raise UserError if it is none or not complete."""
    run = open_run(path)
    if "shard" not in run.meta:
        raise UserError(f"run {run.id} is no shard", "give runs that were made with `tandem run --shard`")
    if run.meta["status"] != "complete":
        raise UserError(f"run {run.id} was interrupted", f"finish it with `tandem run --resume {path}`")
    shard, whole = parse(run.meta["shard"]["part"]), Suite.from_json(run.meta["shard"]["whole"])
    if shard.part(whole) != run.suite:
        raise UserError(f"run {run.id} does not hold the blocks of shard {shard}", "measure that shard again")
    return Part(shard=shard, whole=whole, run=run)


def check_alike(parts: Sequence[Part]) -> None:
    """Raise UserError for the first shard that differs from those before it in what all must share."""
    known: dict[str, Any] = {}
    for part in parts:
        own = shared(part)
        if unlike := [name for name in own if known.get(name, own[name]) != own[name]]:
            fields = ", ".join(difference(name, own[name], known[name]) for name in unlike)
            raise UserError(
                f"{part} is not of one run with those before it: they differ in {fields}",
                "give shards of one suite, measured with the same options, data and code",
            )
        known |= own


def shared(part: Part) -> dict[str, Any]:
    """Return what all shards of a run have in common, by name; a data set only where the shard uses it."""
    meta = part.run.meta
    return {
        **{f"suite {name}": value for name, value in meta["shard"]["whole"].items()},
        "number of shards": part.shard.count,
        "--no-trace": not meta["shard"]["trace"],
        **{f"data {name}: sha256": manifest["sha256"] for name, manifest in meta["data"].items()},
        "commit": meta["commit"],
        **{f"file of {name}": digest for name, digest in meta["sources"].items()},
        "metrics": meta["metrics"],
    }


def difference(name: str, value: Any, expected: Any) -> str:
    """Return a field with both values, where they are short."""
    texts = str(value), str(expected)
    return f"{name} ({' and '.join(texts)})" if max(map(len, texts)) <= SHOWN else name


def check_complete(parts: Sequence[Part]) -> None:
    """Raise UserError unless each shard is there exactly once."""
    given = [str(part.shard) for part in parts]
    if twice := repeated(given):
        which = ", ".join(str(part.run.path) for part in parts if str(part.shard) == twice)
        raise UserError(f"shard {twice} is given twice: {which}", "give each shard once")
    count = parts[0].shard.count
    every = [str(Shard(number=number, count=count)) for number in range(1, count + 1)]
    if missing := [shard for shard in every if shard not in given]:
        remedy = f"give each, or measure it with --shard {missing[0]} and the options of the others"
        raise UserError(f"of {count} shards these are missing: {', '.join(missing)}", remedy)


def homes(parts: Sequence[Part]) -> Iterator[tuple[Block, Part]]:
    """Yield each block of the whole suite in order, with the shard that measured it."""
    yield from zip(parts[0].whole.blocks, cycle(parts), strict=False)


def joined(parts: Sequence[Part], command: list[str]) -> dict[str, Any]:
    """Return run.json of the merged run, without checksums."""
    whole, metas = parts[0].whole, [part.run.meta for part in parts]
    launches = {block.name: part.run.meta["launches"].get(block.name) for block, part in homes(parts)}
    phases = dict.fromkeys(phase for meta in metas for phase in meta["seconds"])
    return {
        **{name: value for name, value in metas[0].items() if name != "shard"},
        "id": new_id(whole, datetime.now(timezone.utc)),
        "started": min(meta["started"] for meta in metas),
        "command": command,
        "suite": whole.to_json(),
        "data": dict(sorted((name, manifest) for meta in metas for name, manifest in meta["data"].items())),
        "sources": {name: digest for meta in metas for name, digest in meta["sources"].items()},
        "launches": {block: numbers for block, numbers in launches.items() if numbers},
        "seconds": {phase: sum(meta["seconds"].get(phase, 0.0) for meta in metas) for phase in phases},
        **({"ceilings": found} if (found := highest(parts)) else {}),
        "shards": [origin(part) for part in parts],
    }


def highest(parts: Sequence[Part]) -> dict[str, Any]:
    """Return the ceilings of each environment of the merged run, the highest that any shard in it knew."""
    found: dict[str, passport.Ceilings] = {}
    for part, names in zip(parts, environment_names(parts), strict=True):
        for place in part.run.meta.get("ceilings", {}):
            own = passport.of_run(part.run.meta, place)
            found[names[place]] = own.merged(found.get(names[place], passport.NONE))
    return {place: asdict(ceilings) for place, ceilings in found.items()}


def origin(part: Part) -> dict[str, Any]:
    """Return what the merged run keeps of where a shard came from."""
    kept = {name: part.run.meta[name] for name in ("id", "started", "command")}
    machines = [found["line"] for found in part.run.environments.values()]
    return {"part": str(part.shard), **kept, "machines": list(dict.fromkeys(machines))}


def write(folder: Path, parts: Sequence[Part], meta: Mapping[str, Any]) -> None:
    """Write the files of the merged run; run.json last, so that half a merge is no run."""
    names = environment_names(parts)
    environments: dict[str, Any] = {}
    for part, own_names in zip(parts, names, strict=True):
        for name, found in part.run.environments.items():
            environments.setdefault(own_names[name], found)
        for kept in ("logs", "traces"):
            copy_files(part.run.path / kept, folder / kept)
    pyarrow.parquet.write_table(samples(parts), folder / "samples.parquet")
    (folder / "events.jsonl").write_bytes(b"".join(events(parts)))
    write_json(folder / "plan.json", plan(parts))
    write_json(folder / "outcomes.json", outcomes(parts, names))
    write_json(folder / "environments.json", environments)
    write_json(folder / "run.json", {**meta, "checksums": {name: checksum(folder / name) for name in CHECKED}})


def environment_names(parts: Sequence[Part]) -> list[dict[str, str]]:
    """Return for each shard the names of its environments -> those in the merged run.

    They are those of the unsharded run, with a mark of the first shard on a machine where the machines differ.
    """
    whole = parts[0].whole
    labels = [
        {part.run.suite.environment(case.variant): whole.environment(case.variant) for case in part.run.suite.cases}
        for part in parts
    ]
    machines: dict[str, list[tuple[Shard, Any]]] = defaultdict(list)
    for part, own_labels in zip(parts, labels, strict=True):
        for name, found in part.run.environments.items():
            known = machines[own_labels[name]]
            if not any(is_same(found, other) for _, other in known):
                known.append((part.shard, found))

    def marked(label: str, found: Any, own: Shard) -> str:
        if found is None:  # nobody knows that machine: it is none of the others
            return f"{label} (shard {own})" if machines[label] else label
        first = next(shard for shard, other in machines[label] if is_same(found, other))
        return f"{label} (shard {first})" if len(machines[label]) > 1 else label

    return [
        {name: marked(label, part.run.environments.get(name), part.shard) for name, label in own_labels.items()}
        for part, own_labels in zip(parts, labels, strict=True)
    ]


def is_same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Tell whether absolute times of two environments compare: equal fingerprints, and probes that agree."""
    return bool(one["fingerprint"] == other["fingerprint"]) and not strayed(one, other)


def outcomes(parts: Sequence[Part], names: Sequence[Mapping[str, str]]) -> list[dict[str, Any]]:
    """Return the outcomes in the order of the whole suite, each with the new name of its environment."""
    found = {}
    for part, own_names in zip(parts, names, strict=True):
        for entry in part.run.outcomes:
            facts = dict(entry["facts"])
            if "environment" in facts:
                facts["environment"] = own_names[facts["environment"]]
            found[entry["case"]] = {**entry, "facts": facts}
    return [found[case.id] for case in parts[0].whole.cases if case.id in found]


def plan(parts: Sequence[Part]) -> list[dict[str, Any]]:
    """Return the turns in the order of the whole suite."""
    plans = {part.run.id: read_json(part.run.path / "plan.json") for part in parts}
    return [turn for block, part in homes(parts) for turn in plans[part.run.id] if turn["block"] == block.name]


def samples(parts: Sequence[Part]) -> Any:
    """Return the rows as a table, in the order of the whole suite."""
    tables = {
        part.run.id: pyarrow.parquet.read_table(part.run.path / "samples.parquet", columns=list(COLUMNS))
        for part in parts
    }
    column = pyarrow.compute.field("case")
    return pyarrow.concat_tables(
        tables[part.run.id].filter(column.isin([case.id for case in block.cases])) for block, part in homes(parts)
    )


def events(parts: Sequence[Part]) -> list[bytes]:
    """Return the lines of all events, block by block in the order of the whole suite."""
    blocks = {case.id: number for number, block in enumerate(parts[0].whole.blocks) for case in block.cases}
    placed = []
    for part in parts:
        block = part.shard.number - 1
        for line in (part.run.path / "events.jsonl").read_bytes().splitlines(keepends=True):
            if peer := PEER.search(line):  # a line that names no case of the suite stays behind the one before it
                block = blocks.get(peer[1].decode().removesuffix("--reference").removesuffix("--environment"), block)
            placed.append((block, line))
    return [line for _, line in sorted(placed, key=itemgetter(0))]


def copy_files(source: Path, target: Path) -> None:
    """Copy the files below a folder; shards name theirs by case, so none meets another."""
    target.mkdir(exist_ok=True)
    for file in source.rglob("*"):
        if file.is_file():
            place = target / file.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, place)
