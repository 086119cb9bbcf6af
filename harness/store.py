"""The run folder: create, append, seal, open, resume.

Format 1: run.json, plan.json, environments.json, outcomes.json, samples.parquet, events.jsonl, logs/ and traces/.
Format 2: a variant has a revision and an allocator, a suite has seeds.
Format 3: a suite has a retry, a workload has weights, a variant may have a model of its own.
Format 4: a suite has an explain, a fit and a memory_limit, a workload a recipe, a variant a loader with its workers.
Format 5: a workload has lengths, a variant dynamic and bucket.
Format 6: a workload may have no model, a recipe has start_learning_rate, a run ceilings.
A run is written as `.partial-<id>` with samples.jsonl and renamed when sealed. A complete run is never written again;
an interrupted one goes back to `.partial-<id>` when it is resumed.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import UserError
from harness.metrics import TABLE
from harness.outcome import FAILED_ONCE
from harness.spec import Case, Suite, slugify
from harness.stopwatch import Stopwatch
from harness.wire import encode, portable

if TYPE_CHECKING:
    import pandas

FORMAT = 6
PHASES = (
    "prepare", "startup", "build", "compile", "check", "warmup", "timed", "observe", "quality", "trace", "explain",
    "fit", "store",
)  # fmt: skip
CHECKED = ("samples.parquet", "events.jsonl", "plan.json")
COLUMNS = ("case", "launch", "round", "turn", "step", "metric", "value")
Row = tuple[str, int, int, int, int, str, float]


class Recorder:
    """A run being written. Every row is in the file before the next request goes out."""

    def __init__(self, path: Path, meta: dict[str, Any]) -> None:
        """Open the folder of a partial run for appending."""
        self.path = path
        self.meta = meta
        self.outcomes: dict[str, dict[str, Any]] = {}
        self.environments: dict[str, Any] = {}
        self.described: set[str] = set()
        for folder in (path / "logs", path / "traces", self.work):
            folder.mkdir(parents=True, exist_ok=True)
        self._samples = (path / "samples.jsonl").open("ab")
        self._events = (path / "events.jsonl").open("ab")

    @property
    def id(self) -> str:
        """The run's id."""
        return str(self.meta["id"])

    @property
    def work(self) -> Path:
        """A folder for what the run needs but does not keep: compile caches, the float64 reference."""
        return self.path.parent.resolve() / f".work-{self.id}"  # whole: a worker may have another current folder

    def rows(self, rows: Iterable[Row]) -> None:
        """Append observations."""
        for row in rows:
            self._samples.write((json.dumps(portable(list(row))) + "\n").encode())
        self._samples.flush()

    def event(self, event: dict[str, Any]) -> None:
        """Append a line of the wire, or another thing that happened."""
        self._events.write(encode({"at": datetime.now(timezone.utc).isoformat(timespec="milliseconds"), **event}))
        self._events.flush()

    def outcome(self, case: str, block: str, status: str, reason: str | None, launch: int) -> None:
        """Record how a case ended; the first failure stands."""
        fresh = {"case": case, "block": block, "status": "ok", "reason": None, "launch": launch}
        entry = self.outcomes.setdefault(case, {**fresh, "facts": {}, "warnings": []})
        if entry["status"] == "ok" and status != "ok":
            entry |= {"status": status, "reason": reason, "launch": launch}
        self.save()

    def retry(self, case: str) -> None:
        """Let a case that failed go on; that it did stays as a warning."""
        entry = self.outcomes[case]
        message = f"{entry['status']} in launch {entry['launch']}: {entry['reason']}"
        remedy = "read its log: what fails now and then gates nothing"
        self.warn(case, entry["launch"], FAILED_ONCE, message, remedy)
        entry |= {"status": "ok", "reason": None}

    def fact(self, case: str, facts: Mapping[str, Any]) -> None:
        """Keep text and other facts that are no figures."""
        self.outcomes[case]["facts"] |= facts

    def warn(self, case: str, launch: int, code: str, message: str, remedy: str) -> None:
        """Record a warning of a launch (0 for the whole run), once a code."""
        warnings = self.outcomes[case]["warnings"]
        if code not in [warning["code"] for warning in warnings]:
            warnings.append({"code": code, "message": message, "remedy": remedy, "launch": launch})

    def launch_done(self, blocks: Sequence[str], launch: int) -> None:
        """Mark a launch of blocks that were measured together as complete: `resume` will not measure it again."""
        for block in blocks:
            self.meta["launches"].setdefault(block, []).append(launch)
        self.save()

    def is_done(self, block: str, launch: int) -> bool:
        """Tell whether a launch of a block is complete."""
        return launch in self.meta["launches"].get(block, [])

    def launch_rows(self, cases: Container[str], launch: int) -> list[Row]:
        """Return what was written of some cases in one launch."""
        return [row for row in read_rows(self.path / "samples.jsonl") if row[0] in cases and row[1] == launch]

    def save(self) -> None:
        """Write everything but rows and events, each file at once."""
        write_json(self.path / "outcomes.json", list(self.outcomes.values()))
        write_json(self.path / "environments.json", self.environments)
        write_json(self.path / "run.json", self.meta)

    def close(self) -> None:
        """Close the files; what was written stays, and the run can be resumed."""
        self._samples.close()
        self._events.close()

    def interrupted(self, suite: Suite) -> None:
        """Give every case without a complete launch the outcome `interrupted`."""
        for block in suite.blocks:
            if not self.meta["launches"].get(block.name):
                for case in block.cases:
                    self.outcome(
                        case.id, block.name, "interrupted", "the run was interrupted before it was measured", 0
                    )

    def seal(self, status: str, watch: Stopwatch) -> Path:
        """Close the run and give it its final name."""
        with watch("store"):
            self.close()
            to_parquet(self.path / "samples.jsonl", self.path / "samples.parquet")
            checksums = {name: checksum(self.path / name) for name in CHECKED}
        earlier = self.meta["seconds"]  # of the run before it was interrupted
        spent = watch.seconds | {"total": watch.total()}
        total = {phase: earlier.get(phase, 0.0) + spent.get(phase, 0.0) for phase in {*PHASES, *earlier, *spent}}
        self.meta |= {"status": status, "seconds": total, "checksums": checksums}
        self.save()
        (self.path / "samples.jsonl").unlink()
        final = self.path.parent / self.id
        self.path.rename(final)
        if status == "complete":
            shutil.rmtree(self.work, ignore_errors=True)
        return final


def new_id(suite: Suite, now: datetime) -> str:
    """Return an id for a run that begins at `now`, in UTC: it sorts by time and says which suite it is of."""
    digest = hashlib.sha256(json.dumps([suite.to_json(), now.isoformat()]).encode()).hexdigest()[:6]
    return f"{now:%Y%m%d-%H%M%S}-{slugify(suite.name)}-{digest}"


def create(
    runs: Path, suite: Suite, command: list[str], data: Mapping[str, Any], plan: list[dict[str, Any]]
) -> Recorder:
    """Start a new run below `runs`."""
    now = datetime.now(timezone.utc)
    meta = {
        "format": FORMAT,
        "id": new_id(suite, now),
        "started": now.isoformat(timespec="seconds"),
        "status": "running",
        "command": command,
        "suite": suite.to_json(),
        "data": dict(data),
        "metrics": [{key: value for key, value in asdict(metric).items() if key != "derive"} for metric in TABLE],
        "launches": {},
        "seconds": {},
    }
    recorder = Recorder(runs / f".partial-{meta['id']}", meta)
    write_json(recorder.path / "plan.json", plan)
    recorder.save()
    return recorder


def resume(path: Path) -> Recorder:
    """Reopen an interrupted or abandoned run, dropping the rows of launches that were not complete."""
    path = path.resolve()
    meta = read_meta(path)
    if meta["status"] == "complete" and path.name.startswith(".partial-"):  # it ended between sealing and renaming
        path.rename(path.parent / meta["id"])
    if meta["status"] == "complete":
        raise UserError(f"run {meta['id']} is complete", "start a new one with `tandem run`")
    partial = path.parent / f".partial-{meta['id']}"
    if not path.name.startswith(".partial-"):
        from_parquet(path / "samples.parquet", path / "samples.jsonl")
        path.rename(partial)
    done = meta["launches"]
    suite = Suite.from_json(meta["suite"])
    blocks = {case.id: block.name for block in suite.blocks for case in block.cases}
    rows = [row for row in read_rows(partial / "samples.jsonl") if row[1] in done.get(blocks[row[0]], [])]
    temporary = partial / "samples.new"
    temporary.write_text("".join(json.dumps(portable(list(row))) + "\n" for row in rows))
    os.replace(temporary, partial / "samples.jsonl")
    recorder = Recorder(partial, {**meta, "status": "running"})
    for case, block in blocks.items():
        if block not in done:  # its cold compile is still to come
            shutil.rmtree(recorder.work / "cache" / case, ignore_errors=True)
    recorder.environments = read_json(partial / "environments.json")
    for entry in read_json(partial / "outcomes.json"):
        complete = done.get(entry["block"], [])
        if complete and entry["launch"] not in complete:  # it failed in a launch that is measured again
            entry |= {"status": "ok", "reason": None, "launch": complete[0]}
        entry["warnings"] = [warning for warning in entry["warnings"] if warning.get("launch") in complete]
        if complete:
            recorder.outcomes[entry["case"]] = entry
    recorder.save()
    return recorder


@dataclass(frozen=True, kw_only=True)
class Run:
    """A stored run, opened for reading."""

    path: Path
    id: str
    meta: dict[str, Any]
    suite: Suite
    environments: dict[str, Any]
    outcomes: list[dict[str, Any]]

    def place(self, case: Case) -> str:
        """Return the name of the environment that a case ran in."""
        return str(self.facts(case).get("environment", case.variant.torch))

    def facts(self, case: Case) -> dict[str, Any]:
        """Return what is known of a case beside its figures; empty where it never started."""
        return next((outcome["facts"] for outcome in self.outcomes if outcome["case"] == case.id), {})

    def environment(self, case: Case) -> dict[str, Any]:
        """Return what machine and torch a case ran on; empty where it never started."""
        return dict(self.environments.get(self.place(case), {}))

    def samples(self) -> "pandas.DataFrame":
        """Return all rows; `case` and `metric` are categories."""
        import pyarrow.parquet

        columns = pyarrow.parquet.read_table(self.path / "samples.parquet", read_dictionary=["case", "metric"])
        return columns.to_pandas()  # type: ignore[no-any-return]


def open_run(path: Path) -> Run:
    """Open a sealed run; raise UserError if it is none, truncated, of a newer format or still being written."""
    meta = read_meta(path)
    if meta["status"] == "running":
        raise UserError(f"run {meta['id']} is not finished", f"finish it with `tandem run --resume {path}`")
    for name, expected in meta.get("checksums", {}).items():
        if not (path / name).is_file() or checksum(path / name) != expected:
            raise UserError(f"{path / name} is truncated or was changed", "copy the run again from where it was made")
    return Run(
        path=path,
        id=meta["id"],
        meta=meta,
        suite=Suite.from_json(meta["suite"]),
        environments=read_json(path / "environments.json"),
        outcomes=read_json(path / "outcomes.json"),
    )


def read_meta(path: Path) -> dict[str, Any]:
    """Return run.json; raise UserError if `path` is no run or of a newer format."""
    if not (path / "run.json").is_file():
        raise UserError(f"{path} is not a run: it holds no run.json", "give a folder that `tandem run` made")
    meta = read_json(path / "run.json")
    if not isinstance(meta, dict) or not isinstance(meta.get("format"), int):
        raise UserError(f"{path} is not a run: its run.json names no format", "give a folder that `tandem run` made")
    if meta["format"] > FORMAT:
        raise UserError(f"run {path} has format {meta['format']}, newer than {FORMAT}", "update torch-tandem")
    if absent := {"id", "status", "suite", "launches"} - meta.keys():
        lacking = ", ".join(sorted(absent))
        raise UserError(f"{path / 'run.json'} lacks {lacking}", "copy the run again from where it was made")
    return meta


def read_json(path: Path) -> Any:
    """Return the JSON in a run's file; raise UserError if it is missing or cut short."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}", "copy the run again from where it was made") from None


def write_json(path: Path, value: Any) -> None:
    """Write JSON so that a reader, or a crash, never sees half of it."""
    temporary = path.with_name(path.name + ".new")
    temporary.write_text(json.dumps(portable(value), indent=1))
    os.replace(temporary, path)


def read_rows(path: Path) -> list[Row]:
    """Return the rows of samples.jsonl; a last line that a crash cut short is left out."""
    rows = []
    for line in path.read_text().splitlines():
        try:
            *keys, value = json.loads(line)
        except ValueError:
            break
        rows.append((*keys, float(value)))
    return rows


def to_parquet(source: Path, target: Path) -> None:
    """Write the rows of a JSON-lines file as Parquet."""
    import pyarrow
    import pyarrow.parquet

    kinds = dict.fromkeys(COLUMNS, pyarrow.int32())
    kinds |= {"case": pyarrow.string(), "metric": pyarrow.string(), "value": pyarrow.float64()}
    rows = read_rows(source)
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(COLUMNS)
    arrays = [pyarrow.array(column, kinds[name]) for name, column in zip(COLUMNS, columns, strict=True)]
    pyarrow.parquet.write_table(pyarrow.table(arrays, names=list(COLUMNS)), target)


def from_parquet(source: Path, target: Path) -> None:
    """Write the rows of a Parquet file as JSON lines."""
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(source)
    columns = [table[name].to_pylist() for name in COLUMNS]
    target.write_text("".join(json.dumps(portable(list(row))) + "\n" for row in zip(*columns, strict=True)))


def checksum(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        sha = hashlib.sha256()
        while chunk := file.read(1 << 20):
            sha.update(chunk)
    return sha.hexdigest()
