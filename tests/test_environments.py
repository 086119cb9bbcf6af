"""Environments: made and checked by a worker, known by their label, and nothing half-made left behind."""

import fcntl
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from test_run import WORKER

from harness import environments, install, labels, pythons
from harness.errors import UserError
from harness.spec import Block, Suite, Variant, Workload

ROOT = WORKER.parent.parent
SAYS = {"python": [3, 10, 4], "torch": "1.13.1", "numpy": "1.26.4"}
PYTHON = """#!/bin/sh
if [ "$1" = -c ]; then echo '{says}'; else exec {python} "$@"; fi
"""
UV = """#!/bin/sh
for folder in "$@"; do :; done
if [ "$1" = venv ]; then mkdir -p "$folder/bin" && cp {python} "$folder/bin/python"
else echo "$@" > {asked}; {install}
fi
"""
OWN = '''"""Own."""
from harness.spec import Block, Suite, Variant, Workload


def suite():
    """Return a suite that runs under another torch, too."""
    variants = [Variant(name=label, torch=label) for label in ("current", "1.13.1")]
    workload = Workload(task="pretraining/causal_lm", model="gpt", size="tiny", length=16)
    return Suite(name="own", question="?", blocks=[Block(workload=workload, variants=variants)], launches=1, rounds=1,
                 quality_steps=0)
'''


class Place:
    """A folder with a cache, an installer (`install` is what it does) and a Python that says what it is told to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "cache/tandem/environments"
        (folder / "bin").mkdir()
        (folder / "own.py").write_text(OWN)
        (folder / "script.json").write_text("{}")
        self.python_says(SAYS)
        self.uv_does(":")

    def program(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text)
        path.chmod(0o755)
        return path

    def python_says(self, says: object) -> Path:
        return self.program("python", PYTHON.format(says=json.dumps(says), python=sys.executable))

    def uv_does(self, install: str) -> None:
        asked = self.folder / "asked.txt"
        self.program("bin/uv", UV.format(python=self.folder / "python", asked=asked, install=install))

    def tandem(self, *arguments: str) -> subprocess.CompletedProcess:
        path = f"{self.folder / 'bin'}:{os.environ['PATH']}"
        own = {"PATH": path, "XDG_CACHE_HOME": str(self.folder / "cache"), "PYTHONPATH": str(ROOT)}
        command = [sys.executable, str(WORKER), str(self.folder / "script.json"), "--cli", *arguments]
        return subprocess.run(
            command, cwd=self.folder, env={**os.environ, **own}, capture_output=True, text=True, timeout=60
        )

    def create(self, *options: str) -> subprocess.CompletedProcess:
        return self.tandem("env", "create", "1.13.1", "--torch", "1.13.1", *options)


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Place(tmp_path)


def test_an_environment_is_made_checked_and_known_to_every_command(place):
    made = place.create("--with", "safetensors", "--index-url", "https://me@corp.example:secret@index.example/cpu")
    assert made.returncode == 0, made.stderr
    assert "it takes up to 1.6 GiB; " in made.stderr
    assert re.search(r"is ready: 0\.0 GiB, made in \d+ s", made.stderr)
    asked = (place.folder / "asked.txt").read_text()
    assert asked.endswith(
        "--index-url https://me@corp.example:secret@index.example/cpu torch==1.13.1 numpy<2 setuptools<70 safetensors\n"
    )
    assert made.stdout.strip() == str(place.home / "1.13.1/bin/python")

    listed = place.tandem("env", "list").stdout
    assert re.search(r"1\.13\.1 +0\.0 +3\.10\.4 +1\.26\.4", listed)  # a scripted worker has torch 0.0
    shown = place.tandem("env", "show", "1.13.1").stdout
    assert "create 1.13.1 --torch 1.13.1 --index-url https://index.example/cpu" in " ".join(shown.split())
    assert "secret" not in shown

    run = place.tandem("run", "own.py", "--quiet", "--no-trace")
    assert run.returncode == 0, run.stderr
    events = (place.folder / run.stdout.splitlines()[-1] / "events.jsonl").read_text()
    assert '"from": "gpt-tiny-b8-l16--1.13.1' in events
    gate = place.tandem("gate", "own.py", "--base", "1.14")
    assert "known: 1.13.1, current" in gate.stderr

    assert place.tandem("env", "remove", "1.13.1").returncode == 0
    assert list(place.home.iterdir()) == []
    assert place.tandem("env", "show", "1.13.1").returncode == 2


def test_a_label_is_taken_once(place):
    assert place.create().returncode == 0
    again = place.create()
    assert again.returncode == 2
    assert "'1.13.1' is there already, with torch 0.0; remove it with `tandem env remove 1.13.1`" in again.stderr
    assert environments.labels() == ["1.13.1"]


@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        ("ERROR: No matching distribution found for torch==1.13.99", "its last lines above say why"),
        ("OSError: [Errno 28] No space left on device", "free some space"),
        ("Failed to establish a new connection: NewConnectionError", "connect to the network"),
    ],
)
def test_a_failed_installation_shows_its_last_lines_and_leaves_nothing(place, output, sentence):
    place.uv_does(f"seq 20; echo '{output}' >&2; exit 1")
    done = place.create()
    assert done.returncode == 2
    assert f"tandem: | 20\ntandem: | {output}\n" in done.stderr
    assert "tandem: | 2\n" not in done.stderr
    assert f"uv could not make environment '1.13.1', it was removed; {sentence}" in done.stderr.splitlines()[-1]
    assert list(place.home.iterdir()) == []


@pytest.mark.parametrize(
    ("says", "sentence"),
    [
        ({**SAYS, "torch": None, "error": "OSError: libcublas.so.11"}, "does not import: OSError: libcublas.so.11"),
        ({**SAYS, "error": "RuntimeError: Numpy is not available"}, "cannot use its NumPy 1.26.4"),
    ],
)
def test_an_environment_whose_torch_does_not_work_is_removed(place, says, sentence):
    place.python_says({key: value for key, value in says.items() if value})
    done = place.create()
    assert done.returncode == 2
    assert sentence in done.stderr
    assert list(place.home.iterdir()) == []


def test_an_environment_in_which_no_worker_starts_is_removed(place):
    place.program("python", PYTHON.format(says=json.dumps(SAYS), python="/bin/false"))
    done = place.create()
    assert done.returncode == 2
    assert "no worker starts in" in done.stderr
    assert list(place.home.iterdir()) == []


def test_an_interruption_leaves_nothing(place):
    place.uv_does("kill -INT $PPID; sleep 5")
    done = place.create()
    assert done.returncode == 130
    assert "interrupted; nothing is left of environment '1.13.1'" in done.stderr
    assert list(place.home.iterdir()) == []


def test_what_was_left_half_made_is_removed_but_not_while_it_is_made(place):
    for label in ("left", "making"):
        (place.home / label / "bin").mkdir(parents=True)
    handle = os.open(place.home / "making", os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    listed = place.tandem("env", "list")
    assert "removed 'left', which was half-made" in listed.stderr
    assert environments.labels() == ["making"]
    with pytest.raises(UserError, match="is being made by another process"), environments.new("making"):
        pass
    os.close(handle)
    with environments.new("making") as folder:
        assert list(folder.iterdir()) == []


def test_a_broken_environment_is_recognised_and_made_anew(place):
    assert place.create().returncode == 0
    (place.home / "1.13.1/bin/python").unlink()
    assert re.search(r"1\.13\.1 +broken", place.tandem("env", "list").stdout)
    for command in (("env", "show", "1.13.1"), ("run", "own.py")):
        done = place.tandem(*command)
        assert done.returncode == 2
        assert "`tandem env create 1.13.1 --torch 1.13.1`" in done.stderr
    assert place.create().returncode == 0
    assert list(environments.ready()) == ["1.13.1"]


def test_missing_environments_are_named_and_made_when_asked_for(place):
    missing = place.tandem("run", "own.py")
    assert missing.returncode == 2
    assert "make it with `tandem env create 1.13.1 --torch 1.13.1`, or map it with `--python" in missing.stderr
    planned = place.tandem("run", "own.py", "--dry-run", "--create-envs")
    assert "unavailable: no interpreter '1.13.1': `tandem env create 1.13.1 --torch 1.13.1` makes it" in planned.stdout
    misspelt = place.tandem("run", "own.py", "--create-envs", "--vary", "attention=sdpa,flsh")
    assert "no attention 'flsh'" in misspelt.stderr
    assert environments.labels() == []
    made = place.tandem("run", "own.py", "--create-envs", "--quiet", "--no-trace")
    assert made.returncode == 0, made.stderr
    assert environments.labels() == ["1.13.1"]


def test_a_given_interpreter_counts_more_than_an_environment(place):
    assert place.create().returncode == 0
    other = place.python_says({**SAYS, "python": [3, 8, 1]})
    done = place.tandem("run", "own.py", "--python", f"1.13.1={other}")
    assert done.returncode == 2
    assert f"interpreter '1.13.1' ({other}) is Python 3.8.1, and a worker needs 3.10 or newer" in done.stderr
    newer = place.python_says({**SAYS, "torch": "2.13.0+cpu"})
    misnamed = place.tandem("run", "own.py", "--python", f"1.13.1={newer}")
    assert misnamed.returncode == 2
    assert f"interpreter '1.13.1' ({newer}) holds torch 2.13.0+cpu" in misnamed.stderr
    twice = place.tandem("run", "own.py", "--python", f"1.13.1={other}", "--python", f"1.13.1={other}")
    assert "--python names '1.13.1' twice" in twice.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["../x", "--torch", "1.13.1"], "'../x' is no label"),
        (["current", "--torch", "1.13.1"], "is the interpreter that runs tandem"),
        (["2.0.1", "--torch", "1.13.1"], "would hold torch 1.13.1"),
        (["old", "--torch", "1.12.0"], "older than a worker can use"),
        (["old", "--torch", "nightly"], "is no release"),
        (["old", "--torch", "1.13.1", "--python", "3.9"], "a worker needs 3.10 or newer"),
        (["old", "--torch", "1.13.1", "--python", "three"], "is no version"),
        (["old", "--torch", "1.13.1", "--python", "3.10.99"], "no Python 3.10.99 on PATH or in pyenv"),
        (["old", "--torch", "1.13.1", "--python", "/bin/true"], "--python /bin/true is no Python"),
    ],
)
def test_what_cannot_be_made_is_a_sentence_before_anything_is_written(place, arguments, sentence):
    done = place.tandem("env", "create", *arguments)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1
    assert not place.home.exists()


def test_a_disk_too_full_for_any_torch_is_a_sentence(place, monkeypatch):
    monkeypatch.setattr(install.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 2**28})())
    with pytest.raises(UserError, match=r"only 0\.2 GiB are free at .*; free some space"):
        install.create("1.13.1", "1.13.1", lambda text: None)
    assert list(place.home.iterdir()) == []


@pytest.mark.parametrize(
    ("says", "sentence", "remedy"),
    [
        ({"error": pythons.UNSPEAKING}, "(/p) is no Python", "--python old=PATH"),
        ({"python": [2, 7, 18]}, "is Python 2.7.18", "tandem env create old --torch VERSION"),
        ({"python": [3, 11, 7], "error": "x", "lacks": "torch"}, "lacks torch", "/p -m pip install torch numpy"),
        ({"python": [3, 11, 7], "error": "x", "lacks": "numpy"}, "lacks numpy", "/p -m pip install torch numpy"),
        ({"python": [3, 11, 7], "error": "OSError: y", "lacks": None}, "does not import: OSError: y", "anew"),
    ],
)
def test_an_interpreter_without_a_worker_says_why_and_what_to_do(says, sentence, remedy):
    found = pythons.unfit("old", "/p", says)
    assert sentence in found[0]
    assert remedy in found[1]
    assert pythons.unfit("old", "/p", SAYS) is None


def test_a_torch_that_kills_its_python_is_told(place):
    program = place.program("python", """#!/bin/sh\necho '{"python": [3, 11, 7]}'; kill -SEGV $$\n""")
    reason, _ = pythons.unfit("old", "/p", pythons.ask(str(program)))
    assert reason == "has a torch that does not import: it dies of SIGSEGV"


@pytest.mark.parametrize("program", ["/bin/true", "/bin/false", "/nowhere", "/bin/cat"])
def test_a_program_that_is_no_python_is_told(program):
    assert pythons.ask(program) == {"error": pythons.UNSPEAKING}


def test_a_python_may_be_named_from_here(monkeypatch):
    program = Path(sys.executable)
    monkeypatch.chdir(program.parent.parent)
    assert install.chosen(f"./{program.parent.name}/{program.name}", (2, 0)) == str(program)


def test_this_python_says_what_it_has():
    said = pythons.ask(sys.executable)
    assert said["python"] == list(sys.version_info[:3])
    assert said.keys() == {"python", "torch", "numpy"}


def test_a_torch_that_fails_on_import_is_told(place, monkeypatch):
    for name, code in (("numpy", "__version__ = '1'"), ("torch", "raise OSError('libcublas.so.11: cannot open')")):
        (place.folder / f"{name}.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(place.folder))
    said = pythons.ask(sys.executable)
    assert said["error"] == "OSError: libcublas.so.11: cannot open"
    assert "torch that does not import" in pythons.unfit("old", "/p", said)[0]


def test_a_python_is_found_on_path_and_in_pyenv(place, monkeypatch):
    for folder, says in (("path", [3, 77, 1]), ("pyenv/versions/3.77.9/bin", [3, 77, 9])):
        (place.folder / folder).mkdir(parents=True)
        place.python_says({"python": says}).rename(place.folder / folder / "python3.77")
    monkeypatch.setenv("PATH", f"{place.folder / 'path'}:{os.environ['PATH']}")
    monkeypatch.setenv("PYENV_ROOT", str(place.folder / "pyenv"))
    assert pythons.find("3.77") == str(place.folder / "path/python3.77")
    assert pythons.find("3.77.9") == str(place.folder / "pyenv/versions/3.77.9/bin/python3.77")
    assert pythons.find("3.78") is None
    assert pythons.find("{}.{}".format(*sys.version_info)) == sys.executable


@pytest.mark.parametrize(
    ("release", "newest"), [((1, 13), "3.11"), ((2, 0), "3.10"), ((2, 5), "3.12"), ((2, 13), "3.14")]
)
def test_the_python_fits_the_release(monkeypatch, release, newest):
    """The one that runs tandem if it fits, so that releases differ in torch alone; else the newest that does."""
    tried = []
    monkeypatch.setattr(install.pythons, "find", tried.append)
    with pytest.raises(UserError, match="no Python 3"):
        install.chosen("", release)
    own = "{}.{}".format(*sys.version_info)
    fitting = sorted(tried, key=lambda version: int(version.split(".")[1]), reverse=True)
    assert fitting[0] == newest
    assert tried == ([own, *(one for one in fitting if one != own)] if own in fitting else fitting)


def test_without_uv_pip_installs(tmp_path, monkeypatch):
    monkeypatch.setattr(install.shutil, "which", lambda name: None)
    make, fill = install.commands(tmp_path, "python3.10", ["torch==2.4.1", "numpy"], "")
    assert make == ["python3.10", "-m", "venv", str(tmp_path)]
    assert fill[:4] == [str(tmp_path / "bin/python"), "-m", "pip", "install"]
    assert fill[-2:] == ["torch==2.4.1", "numpy"]


def test_all_that_a_suite_lacks_is_named_at_once():
    variants = [Variant(name=label, torch=label) for label in ("1.13.1", "current", "mine")]
    suite = Suite(
        name="s", question="?", blocks=[Block(workload=Workload(task="t", model="gpt", size="tiny"), variants=variants)]
    )
    labels.check(suite, ["1.13.1", "mine"])
    with pytest.raises(UserError) as error:
        labels.check(suite, [])
    for part in (
        "variant '1.13.1': no interpreter '1.13.1'; known: current",
        "env create mine --torch VERSION",
        "(all",
    ):
        assert part in str(error.value)
