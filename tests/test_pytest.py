"""pytest and pytest-benchmark: cases as tests, files for its command line, and files that it wrote compared."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from made_run import made_run
from test_run import ROOT, SUITE, WORKER, alive_workers, wait_until

from harness import names
from harness.benchmark_files import read_session
from harness.errors import UserError
from harness.pytest_cases import blocks
from reports.document import Table
from reports.report import document_of
from reports.sessions import document_of_sessions

CONFTEST = f"import harness.conditions\nharness.conditions.WORKER = ({str(WORKER)!r}, 'script.json')\n"
RECORDING = """
import json
from harness.store import Recorder
def event(self, event):
    with open("events.jsonl", "a") as file:
        file.write(json.dumps(event) + "\\n")
Recorder.event = event
"""
SLOW_AND_FAST = {"slow": {"seconds": 0.04, "noise": 0.01}, "fast": {"seconds": 0.02, "noise": 0.01}}
QUIET = ("-q", "-p", "no:cacheprovider", "-W", "error", "-W", "ignore::pytest_benchmark.logger.PytestBenchmarkWarning")
PAGE = (ROOT / "docs/pytest.md").read_text(encoding="utf-8")


class Bench:
    """A folder with a suite for scripted workers, and pytest in it."""

    def __init__(self, folder: Path, script: dict, timeout: float = 20) -> None:
        self.folder = folder
        self.write_script(script)
        (folder / "conftest.py").write_text(CONFTEST)
        (folder / "own.py").write_text(SUITE.format(names=list(script), launches=2, rounds=4, timeout=timeout))

    def write_script(self, script: dict) -> None:
        (self.folder / "script.json").write_text(json.dumps(script))

    def settings(self) -> dict:
        temporary = self.folder / "tmp"
        temporary.mkdir(exist_ok=True)
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(temporary)}
        return {"cwd": self.folder, "env": environment, "text": True}

    def python(self, *arguments: str) -> subprocess.CompletedProcess:
        command = [sys.executable, *arguments]
        return subprocess.run(command, capture_output=True, timeout=60, **self.settings())

    def pytest(self, *arguments: str) -> subprocess.CompletedProcess:
        return self.python("-m", "pytest", *QUIET, "--tandem-suite", "own.py", *arguments)

    def measured(self, *arguments: str) -> dict:
        done = self.pytest("--benchmark-json", "found.json", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads((self.folder / "found.json").read_text())


@pytest.fixture(scope="module")
def two_files(tmp_path_factory):
    """Write two runs as files of pytest-benchmark, the second 1.2 times as slow, of another torch."""
    folder = tmp_path_factory.mktemp("files")
    render = names.find("format", "pytest-benchmark").load()
    for name, slower in (("base", 1.0), ("slower", 1.2)):
        run = made_run(folder / name, slower=slower, name=f"run-{name}")
        (folder / f"{name}.json").write_text(render(document_of(run)))
    return folder


def compare(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "harness.cli", "compare", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "160"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)


def test_two_files_are_a_report_for_a_ci_job(two_files):
    done = compare(two_files, "base.json", "slower.json", "--format", "junit")
    assert done.returncode == 0, done.stderr
    assert "<testsuite" in done.stdout


# The plug-in.


def test_a_suite_becomes_tests_that_are_timed_by_their_workers_clock(tmp_path):
    bench = Bench(tmp_path, {"slow": {"seconds": 40.0}, "fast": {"seconds": 20.0}})  # no call takes that long
    found = {item["name"]: item for item in bench.measured()["benchmarks"]}
    assert list(found) == ["slow", "fast"]
    assert found["slow"]["stats"]["data"] == [40.0] * 4  # the suite's rounds
    assert found["fast"]["stats"]["data"] == [20.0] * 4
    assert {item["group"] for item in found.values()} == {"gpt-tiny-b2-l16"}
    assert found["fast"]["fullname"] == "tandem::scripted::gpt-tiny-b2-l16::fast"
    assert found["fast"]["options"]["timer"] == "worker_clock"
    extra = found["fast"]["extra_info"]
    assert extra["case"].startswith("gpt-tiny-b2-l16--fast--")
    assert (extra["workload"]["batch"], extra["variant"]["attention"], extra["device"]) == (2, "formula", "cpu")
    assert (extra["tokens_per_step"], extra["hardware"]) == (1024, "scripted machine · torch 0.0")
    assert extra["reference"] == "float64 formula"
    assert "no steady state" in [
        warning["code"] for warning in extra["warnings"]
    ]  # 40 s are all that warming up may take
    assert alive_workers(tmp_path) == []
    assert list((tmp_path / "tmp").iterdir()) == []


def test_each_case_has_the_machine_for_itself_and_warms_up_as_in_a_run(tmp_path):
    bench = Bench(tmp_path, SLOW_AND_FAST)
    (tmp_path / "conftest.py").write_text(CONFTEST + RECORDING)
    assert bench.pytest().returncode == 0
    events = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    asked = [(event["to"].split("--")[1:], event) for event in events if "to" in event]
    order = [name[0] for name, _ in asked if name[-1] != "reference"]
    assert order == sorted(order, reverse=True)  # all of `slow`, then all of `fast`
    assert [event["verb"] for name, event in asked if name[-1] == "reference"] == ["hello", "build", "check"]
    steps = [event for name, event in asked if name[0] == "fast" and event["verb"] == "measure"]
    timed = [event for event in steps if "settle" in event]
    assert [(event["settle"], event["steps"]) for event in timed] == [(1, 1)] * 4
    assert steps[-4:] == timed
    assert sum(event["steps"] for event in steps[:-4]) * 0.02 > 0.4  # half a second of warming up


ENDINGS = {  # how a case goes wrong -> how its test ends
    "refuses": ({"fail": {"how": "Unavailable", "verb": "build"}}, "skipped", "unavailable: scripted Unavailable"),
    "is-wrong": ({"errors": {"output_error": 0.5}}, "failure", "wrong: output_error against float64 is 0.5"),
    "is-nan": ({"loss": float("nan")}, "failure", "wrong: its loss in step 0 is nan"),
    "fills": ({"fail": {"how": "OutOfMemoryError", "verb": "check"}}, "failure", "oom: scripted OutOfMemoryError"),
    "hangs": ({"fail": {"how": "hang", "verb": "measure"}}, "failure", "timeout: no reply to 'measure' within 1.5 s"),
    "crashes": ({"fail": {"how": "crash", "verb": "measure"}}, "failure", "error: the worker died of SIGSEGV"),
    "leaves": ({"fail": {"how": "exit", "verb": "build"}}, "failure", "error: the worker exited with 7"),
}


def test_a_case_that_cannot_be_measured_is_skipped_or_fails_with_its_reason(tmp_path):
    bench = Bench(tmp_path, {"good": {}} | {name: line for name, (line, *_) in ENDINGS.items()}, timeout=1.5)
    done = bench.pytest("--junitxml", "found.xml", "--benchmark-json", "found.json")
    assert "6 failed, 1 passed, 1 skipped" in done.stdout
    assert "Traceback" not in done.stdout
    assert "During handling" not in done.stdout
    assert "the script says so" in done.stdout.split("Captured stderr of gpt-tiny-b2-l16--leaves")[1]
    cases = {case.get("name"): case for case in ElementTree.parse(tmp_path / "found.xml").iter("testcase")}
    for name, (_, tag, reason) in ENDINGS.items():
        (ending,) = cases[name]
        assert ending.tag == tag
        assert reason in ending.get("message")
    assert [item["name"] for item in json.loads((tmp_path / "found.json").read_text())["benchmarks"]] == ["good"]
    assert alive_workers(tmp_path) == []


def test_a_session_is_compared_with_the_saved_one_and_fails_where_it_is_slower(tmp_path):
    bench = Bench(tmp_path, SLOW_AND_FAST)
    assert bench.pytest("--benchmark-autosave").returncode == 0
    gate = ("--benchmark-compare", "--benchmark-compare-fail=median:10%")
    same = bench.pytest(*gate)
    assert same.returncode == 0, same.stdout
    assert "fast (NOW)" in same.stdout
    bench.write_script(SLOW_AND_FAST | {"fast": {"seconds": 0.03}})
    slower = bench.pytest(*gate)
    assert slower.returncode != 0
    assert "Performance has regressed" in slower.stdout + slower.stderr


def test_settings_and_selection_reach_the_suite(tmp_path):
    found = Bench(tmp_path, SLOW_AND_FAST).measured("--tandem-set", "rounds=2", "--tandem-set", "batch=3", "-k", "fast")
    assert [(item["group"], item["stats"]["rounds"]) for item in found["benchmarks"]] == [("gpt-tiny-b3-l16", 2)]


def test_a_mistake_is_a_usage_error_in_one_sentence(tmp_path):
    done = Bench(tmp_path, {}).python("-m", "pytest", *QUIET, "--tandem-suite", "quik")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    (line,) = done.stderr.strip().splitlines()
    assert "--tandem-suite quik: no suite 'quik'; did you mean 'quick'" in line
    with pytest.raises(pytest.UsageError, match="did you mean 'batch'"):
        blocks(None, "quick", ["bach=2"])
    with pytest.raises(pytest.UsageError, match="no interpreter 'old'"):
        blocks(None, "quick", ["torch=old"])


def test_data_that_cannot_be_made_fails_in_one_sentence(tmp_path):
    bench = Bench(tmp_path, SLOW_AND_FAST)
    (tmp_path / "data.py").write_text(
        "def prepare(folder):\n"
        "    from harness.errors import UserError\n"
        "    raise UserError('my text is empty', 'write some')\n"
    )
    done = bench.pytest("--tandem-set", "data=data.py")
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert "my text is empty" in done.stdout
    assert "Traceback" not in done.stdout
    assert "load.prepare_data" not in done.stdout


def test_a_session_without_a_suite_loads_next_to_nothing(tmp_path):
    (tmp_path / "test_own.py").write_text(
        "import sys\n"
        "def test_own():\n"
        "    names = [name.partition('.') for name in sys.modules]\n"
        "    assert {rest for top, _, rest in names if top == 'harness'} == {'', 'pytest_plugin'}\n"
        "    assert not {'torch', 'pandas', 'numpy', 'suites', 'reports'} & {top for top, _, _ in names}\n"
    )
    command = [sys.executable, "-m", "pytest", *QUIET]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_no_worker_outlives_the_session(tmp_path, how):
    bench = Bench(tmp_path, {"a": {"fail": {"how": "hang", "verb": "measure"}}}, timeout=60)
    command = [sys.executable, "-m", "pytest", *QUIET, "--tandem-suite", "own.py"]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdout=pipe, stderr=pipe, start_new_session=True, **bench.settings())
    wait_until(lambda: alive_workers(tmp_path))
    process.send_signal(how)
    process.communicate(timeout=20)
    wait_until(lambda: not alive_workers(tmp_path))


def test_the_documented_commands_run(tmp_path):
    bench = Bench(tmp_path, SLOW_AND_FAST)
    lines = "\n".join(re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
    commands = [[*QUIET, *shlex.split(found)] for found in re.findall(r"^pytest (.*?)(?: +#.*)?$", lines, re.MULTILINE)]
    assert len(commands) == 8
    done = bench.python("-c", f"import pytest\nfor line in {commands!r}: assert pytest.main(line) == 0, line")
    assert done.returncode == 0, done.stdout + done.stderr
    drawn = re.search(r"^pytest-benchmark (.*)$", lines, re.MULTILINE)
    assert drawn
    done = bench.python("-m", "pytest_benchmark", *shlex.split(drawn[1]))  # today.json is there by now
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("drawn-*.svg"))) == 2


# The format.


def test_pytest_benchmarks_own_command_compares_and_draws_what_runs_are_written_as(two_files, tmp_path):
    command = [sys.executable, "-W", "error", "-m", "pytest_benchmark", "compare", "base.json", "slower.json"]
    command += ["--columns=median,rounds", f"--histogram={tmp_path}/drawn"]
    done = subprocess.run(command, cwd=two_files, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "benchmark 'gpt-tiny-b4-l64': 10 tests" in done.stdout
    assert "benchmark 'gpt-tiny-b4-l128': 8 tests" in done.stdout  # one is unavailable
    assert "v1 (base)" in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "drawn-gpt-tiny-b4-l128.svg",
        "drawn-gpt-tiny-b4-l64.svg",
    ]


def test_a_value_is_a_launch_and_what_was_not_measured_is_named(two_files):
    found = json.loads((two_files / "base.json").read_text())
    for item in found["benchmarks"]:
        estimate = item["extra_info"]["metrics"]["step_seconds"]
        assert len(item["stats"]["data"]) == item["stats"]["rounds"] == 5
        assert item["stats"]["mean"] == pytest.approx(estimate)
    (missing,) = found["tandem"]["unmeasured"]
    assert (missing["outcome"], missing["reason"]) == ("unavailable", "bf16 needs a CPU with AVX512")


def test_a_run_and_the_plug_in_call_a_case_by_the_same_name(tmp_path):
    bench = Bench(tmp_path, SLOW_AND_FAST)
    plugged = bench.measured()["benchmarks"]
    done = bench.python(str(WORKER), "script.json", "--cli", "run", "own.py", "--quiet")
    assert done.returncode == 0, done.stderr
    done = bench.python("-m", "harness.cli", "report", "latest", "--format", "pytest-benchmark")
    written = json.loads(done.stdout)["benchmarks"]
    for key in ("fullname", "name", "group"):
        assert [item[key] for item in written] == [item[key] for item in plugged]
    assert written[0]["extra_info"].keys() > plugged[0]["extra_info"].keys()
    assert written[0]["stats"].keys() == plugged[0]["stats"].keys()


# Files compared.


def test_two_files_show_ratios_and_quartiles_and_never_a_verdict(two_files):
    done = compare(two_files, "base.json", "slower.json")
    assert done.returncode == 0, done.stderr
    assert "unsure, all of them" in done.stdout
    assert "two files: each file is one session" in done.stdout
    (line,) = [line for line in done.stdout.splitlines() if "gpt-tiny-b4-l64::v1 " in line]
    assert line.split()[-1] == "1.200"
    values = [float(value) for value in line.split()[1:-1]]
    assert values[:3] == sorted(values[:3])
    assert values[3:] == sorted(values[3:])
    found = json.loads(compare(two_files, "base.json", "slower.json", "--format", "json").stdout)
    assert {item["verdict"] for item in found["comparisons"]} == {"unsure"}
    assert {item["low"] for item in found["comparisons"]} == {None}
    assert [item["ratio"] for item in found["comparisons"]] == pytest.approx([1.2] * 9)


def edited(path: Path, target: str, edit) -> None:
    content = json.loads(path.read_text())
    edit(content)
    path.with_name(target).write_text(json.dumps(content))


def test_another_machine_and_what_only_one_file_holds_are_named(two_files):
    def edit(content: dict) -> None:
        content["machine_info"]["python_version"] = "3.99"
        content["benchmarks"][0]["fullname"] = "own::name"
        content["benchmarks"][1]["extra_info"]["hardware"] = "Other CPU"

    edited(two_files / "base.json", "other.json", edit)
    edited(two_files / "base.json", "told.json", lambda content: content["machine_info"].update(python_version="3.11"))
    done = compare(two_files, "told.json", "other.json")
    assert "the machines or their software differ" in done.stdout
    assert "3.99" in done.stdout
    assert "Other CPU" in done.stdout
    assert "only in told.json: tandem::made::gpt-tiny-b4-l64::v1" in done.stdout
    assert "only in other.json: own::name" in done.stdout


def test_files_of_anybodys_benchmarks_compare(tmp_path):
    (tmp_path / "test_own.py").write_text("def test_sorting(benchmark): benchmark(sorted, range(100))\n")
    command = [sys.executable, "-m", "pytest", *QUIET, "--benchmark-json=one.json", "--benchmark-max-time=0.01"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout
    session = read_session(tmp_path / "one.json")
    (table,) = [item for item in document_of_sessions(session, session).sections[0].items if isinstance(item, Table)]
    assert table.rows[0][0] == "test_own.py::test_sorting"
    assert table.rows[0][-1].estimate.center == 1.0


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("not JSON", "cannot be read as JSON"),
        ("[]", "is not as pytest-benchmark writes it"),
        ('{"benchmarks": [{"fullname": "a", "stats": {}}]}', "KeyError: 'q1'"),
        ('{"benchmarks": [{"fullname": "a", "stats": {"q1": 0, "median": 0, "q3": NaN}}]}', "are 0.0, 0.0 and nan"),
        ('{"benchmarks": [], "machine_info": []}', "holds no benchmark"),
        ('{"benchmarks": [{"fullname": "a", "stats": {"q1": 1, "median": 1, "q3": 1, "rounds": 1}}]}', "share no"),
    ],
)
def test_a_bad_file_is_a_sentence(two_files, content, sentence):
    (two_files / "bad.json").write_text(content)
    with pytest.raises(UserError, match=sentence):
        document_of_sessions(read_session(two_files / "bad.json"), read_session(two_files / "base.json"))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["base.json"], "give two files that end in .json"),
        (["base.json", "latest"], "give two files that end in .json"),
        (["base.json", "nowhere.json"], "cannot be read"),
        (["base.json", "slower.json", "--format", "pytest-benchmark"], "in that format already"),
    ],
)
def test_a_file_is_compared_with_nothing_but_a_file(two_files, arguments, sentence):
    done = compare(two_files, *arguments)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1
