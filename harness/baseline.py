"""Baselines: sealed runs kept by name; the first under a name is its anchor, the newest is what counts.

`baselines/NAME/1`, `/2`, ... are runs as `harness.store.open_run` reads them, without events, logs and traces, each
with a baseline.json: who saved it and when.
"""

import os
import re
import shutil
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

from harness.errors import UserError, unknown
from harness.revisions import git
from harness.spec import construct
from harness.store import Run, open_run, read_json, write_json

KEPT = ("run.json", "plan.json", "environments.json", "outcomes.json", "samples.parquet")
NAME = r"[A-Za-z0-9_][A-Za-z0-9._-]*"  # no path, nothing hidden, no option


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """A run kept under a name: its number there, when (UTC) and by whom it was saved, and what it measured on."""

    name: str
    number: int
    run: str
    saved: str
    who: str | None
    commit: str | None
    machine: str

    def place(self, folder: Path) -> Path:
        """Return its run folder below the folder of the baselines."""
        return folder / self.name / str(self.number)


def save(run: Run, name: str, folder: Path, *, update: bool = False) -> Baseline:
    """Keep a copy of a complete run under a name; under one that exists only to `update` it."""
    check(name)
    if run.meta["status"] != "complete":
        raise UserError(f"run {run.id} is {run.meta['status']}", f"finish it with `tandem run --resume {run.path}`")
    saved = versions(folder / name)
    if saved and not update:
        raise UserError(f"baseline {name!r} exists since {saved[0].saved}", "replace it with --update, or name another")
    if saved and (suite := open_run(saved[0].place(folder)).suite.name) != run.suite.name:
        raise UserError(f"baseline {name!r} holds suite {suite!r}, not {run.suite.name!r}", "save under another name")
    baseline = Baseline(
        name=name,
        number=saved[-1].number + 1 if saved else 1,
        run=run.id,
        saved=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        who=user(),
        commit=run.meta.get("commit"),
        machine="; ".join(dict.fromkeys(place.get("line", "unknown") for place in run.environments.values())),
    )
    copy(run, baseline, folder)
    return baseline


def copy(run: Run, baseline: Baseline, folder: Path) -> None:
    """Write a baseline aside, then give it its place: nobody sees half of one."""
    place = baseline.place(folder)
    place.parent.mkdir(parents=True, exist_ok=True)
    aside = folder / f".partial-{baseline.name}-{os.getpid()}"
    shutil.rmtree(aside, ignore_errors=True)
    try:
        aside.mkdir()
        for name in KEPT:
            shutil.copyfile(run.path / name, aside / name)
        checksums = {name: known for name, known in run.meta.get("checksums", {}).items() if name in KEPT}
        write_json(aside / "run.json", {**run.meta, "checksums": checksums})
        write_json(aside / "baseline.json", asdict(baseline))
        open_run(aside)  # its checksums hold after copying
        aside.rename(place)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def find(name: str, folder: Path) -> list[Baseline]:
    """Return what was saved under a name, the anchor first; raise UserError where there is nothing."""
    check(name)
    found = versions(folder / name)
    if not found and (known := names(folder)):
        raise unknown("baseline", name, known)
    if not found:
        raise UserError(f"no baseline in {folder}", "save one with `tandem baseline save NAME RUN`")
    return found


def names(folder: Path) -> list[str]:
    """Return the names under which something was saved."""
    return sorted({path.parent.parent.name for path in folder.glob("[!.]*/*/baseline.json")})


def versions(place: Path) -> list[Baseline]:
    """Return what was saved in a name's folder, the anchor first."""
    numbers = sorted(int(path.parent.name) for path in place.glob("*/baseline.json") if path.parent.name.isdecimal())
    return [read(place / str(number) / "baseline.json") for number in numbers]


def read(path: Path) -> Baseline:
    """Return a baseline.json; its folders, which may have been renamed, give name and number."""
    data = read_json(path)
    try:
        return construct(Baseline, {**data, "name": path.parent.parent.name, "number": int(path.parent.name)})
    except TypeError as error:
        raise UserError(f"{path} is not complete: {error}", "save the baseline again") from None


def newest(name: str, folder: Path) -> Path:
    """Return the run folder that a name stands for: what was saved last."""
    return find(name, folder)[-1].place(folder)


def check(name: str) -> None:
    """Refuse a name that would be a path, hidden, or an option."""
    if not re.fullmatch(NAME, name):
        raise UserError(f"{name!r} is no name of a baseline", "use letters, digits, dash, dot and underscore")


def user() -> str | None:
    """Return git's user name, or None where there is none."""
    return git("config", "user.name") or None
