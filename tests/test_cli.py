"""The command line: bad input is one sentence and exit code 2; `list` and `--help` are instant."""

import os
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest
from made_run import made_run

from harness.commands.report import deliver
from reports.report import document_of

ROOT = Path(__file__).resolve().parent.parent
SUITE = '"""Own."""\nfrom harness.spec import *\n'


def tandem(*arguments: str, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "harness.cli", *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_list_names_everything_with_a_line():
    done = tandem("list")
    assert done.returncode == 0
    for word in ("suites:", "quick", "encoder_decoder", "sdpa_flash", "pretraining/denoising", "step_seconds", "html"):
        assert word in done.stdout


def test_a_list_of_nothing_known_is_a_sentence():
    done = tandem("list", "modles")
    assert done.returncode == 2
    assert "did you mean 'models'" in done.stderr


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("import no_such_module\n", "raises ModuleNotFoundError: No module named 'no_such_module'"),
        ("def suite(:\n", "SyntaxError"),
        ("def suite(): raise RuntimeError('mine')\n", "raises RuntimeError: mine"),
        ("def suite(): return 3\n", "returns int; return a harness.spec.Suite"),
        ("", "defines no function 'suite'"),
        ("def suite(): return Suite(name='s', question='?', blocks=[])\n", "has no blocks"),
    ],
)
def test_a_bad_suite_file_is_a_sentence(tmp_path, source, sentence):
    (tmp_path / "own.py").write_text(SUITE + source)
    done = tandem("run", "own.py", cwd=tmp_path)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["run", "quik"], "did you mean 'quick'"),
        (["run"], "SUITE is missing; known suites: attention"),
        (["run", "quick", "--vary", "attention=sdpa,flsh"], "no attention 'flsh'"),
        (["run", "quick", "--budget", "soon"], "--budget 'soon' is no time"),
        (["run", "quick", "--launches", "0"], "launches is 0"),
        (["run", "quick", "--python", "v1=nowhere"], "no program there"),
        (["run", "--resume", "nothing"], "no run 'nothing'"),
        (["report", "nothing"], "no run 'nothing'"),
        (["report", "latest", "--runs", "empty"], "no run in empty; make one with `tandem run quick`"),
        (["report", "."], "is not a run"),
        (["compare", "nothing"], "no run 'nothing'"),
        (["compare", "baseline:main"], "no baseline in baselines; save one with `tandem baseline save NAME RUN`"),
        (["baseline", "show", "../up"], "'../up' is no name of a baseline"),
        (["baseline", "save", "main", "nothing"], "no run 'nothing'"),
        (["run", "./quick"], "no suite './quick'"),
        (["run", "quick", "--set", "attention=../sdpa"], "no attention '../sdpa'"),
        (["run", "quick", "--set", "data=one,two.csv"], "no file 'one,two.csv' for data"),
        (["run", "quick", "--set", r"weights=own\weights", "--dry-run"], "no checkpoint"),
        (["run", "quick", "--budget", "inf"], "budget is inf"),
        (["doctor", "--format", "htlm"], "did you mean 'html'"),
        (["gate", "quick", "--format", "htlm"], "did you mean 'html'"),
        (["history", "step_secs", "gpt"], "did you mean 'step_seconds'"),
        (["history", "step_seconds", "gpt"], "no sealed run in runs"),
    ],
)
def test_bad_input_is_a_sentence_and_exit_2(tmp_path, arguments, sentence):
    done = tandem(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("runs", ["a-file/runs", "/proc/nowhere"])
def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path, runs):
    (tmp_path / "a-file").write_text("a file where the folder should be")
    done = tandem("run", "null", "--runs", runs, cwd=tmp_path)
    assert done.returncode == 2
    assert "check the path and its permissions" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_bug_is_told_with_its_traceback_and_has_a_code_of_its_own():
    code = "from harness import cli; cli.app = lambda: [][1]; cli.main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 70
    assert "IndexError" in done.stderr


def test_a_report_is_printed_in_a_locale_without_its_signs():
    code = "from harness import cli; cli.app = lambda: print('✓ better'); cli.main()"
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout) == (0, "? better\n")


def test_a_report_in_a_file_has_no_colours(tmp_path, monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(sys, "stdout", Terminal())
    deliver(document_of(made_run(tmp_path), ["comparison"]), "terminal", tmp_path / "report.txt")
    assert "\x1b" not in (tmp_path / "report.txt").read_text()
    deliver(document_of(made_run(tmp_path), ["comparison"]), "terminal", None)
    assert "\x1b" in sys.stdout.getvalue()


class Terminal(StringIO):
    """What says that it is a terminal."""

    def isatty(self):
        return True


def test_the_command_line_loads_nothing_slow():
    slow = "{'torch', 'pandas', 'pyarrow', 'scipy', 'numpy', 'rich'}"
    code = f"import sys, harness.cli; found = {slow} & set(sys.modules); assert not found, found"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_a_suite_in_the_clone_itself_is_found_by_its_path(tmp_path):
    folder = ROOT / "runs" / "own-test"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "own.py").write_text(SUITE + "def suite(): return 3\n")
    try:
        done = tandem("run", str(folder / "own.py"), cwd=tmp_path)
        assert "returns int" in done.stderr
    finally:
        (folder / "own.py").unlink()
        folder.rmdir()
