"""Traces: every second counts once, two steps are told apart, bad files are refused; TensorBoard gets them all."""

import gzip
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_run import made_suite, sealed_run
from made_trace import gpu_events, mark, op, step_events, write_trace

from harness import cli
from harness.chosen import chosen
from harness.errors import UserError
from harness.figures import figures
from harness.store import open_run
from harness.tensorboard import scalars, write_folder
from harness.traces import read
from harness.traces.account import BETWEEN, IDLE, NO_MODULE, OUTSIDE, WAITING, account_of
from harness.traces.gaps import END, gaps_of
from harness.traces.memory import curve_of
from harness.traces.read import read_trace
from reports.document import Table
from reports.frame import frame_of
from reports.plugin import profile_of
from reports.traced import traced
from reports.traces import document_of_case, document_of_difference

ROOT = Path(__file__).resolve().parent.parent
MICRO = 1e-6


def seconds(found):
    """Return a table of an account in microseconds."""
    return {name: pytest.approx(spent.seconds / MICRO) for name, spent in found.items()}


@pytest.fixture
def cpu(tmp_path):
    return read_trace(write_trace(tmp_path / "cpu.json", [*step_events(), *step_events(1000, 2)]))


@pytest.fixture
def gpu(tmp_path):
    return read_trace(write_trace(tmp_path / "gpu.json", gpu_events()))


# where the time went


def test_an_operator_has_the_time_that_no_operator_in_it_has(cpu):
    account = account_of(cpu)
    assert seconds(account.by_operator()) == {
        BETWEEN: 485, "aten::mm": 300, "aten::linear": 100, "aten::gelu": 50, "aten::sqrt": 30,
        "autograd::engine::evaluate_function: MmBackward0": 20, WAITING: 15,
    }  # fmt: skip
    assert account.by_operator()["aten::mm"].calls == 2
    assert account.seconds == pytest.approx(cpu.step.seconds) == pytest.approx(1000 * MICRO)


def test_of_three_steps_the_middle_one_counts(tmp_path):
    events = [
        event
        for number, slower in enumerate((1.0, 9.0, 1.1))
        for event in step_events(number * 10_000, number, slower=slower)
    ]
    account = account_of(read_trace(write_trace(tmp_path / "t.json", events)))
    assert account.seconds == pytest.approx(1030 * MICRO)
    assert account.by_operator()["aten::mm"].seconds == pytest.approx(330 * MICRO)


def test_phases_sum_to_the_step(cpu):
    assert seconds(account_of(cpu).by_phase()) == {
        "backward": 400, "forward": 360, OUTSIDE: 140, "optimizer": 80, "data": 20,
    }  # fmt: skip


def test_the_backward_pass_is_that_of_the_module_that_ran_forward(cpu):
    account = account_of(cpu)
    assert seconds(account.by_module("forward")) == {"layers.*.mlp": 220, "layers.*": 80, NO_MODULE: 60}
    assert seconds(account.by_module("backward")) == {"layers.*.mlp": 220, NO_MODULE: 180}
    assert sum(spent.seconds for spent in account.by_module().values()) == pytest.approx(account.seconds)


def test_on_a_gpu_a_second_is_that_of_the_operator_whose_kernel_runs(gpu):
    account = account_of(gpu)
    assert seconds(account.by_operator()) == {"aten::mm": 700, IDLE: 240, "aten::relu": 50, "Memcpy DtoH": 10}
    assert seconds(account.by_phase()) == {"backward": 400, "forward": 350, OUTSIDE: 250}
    assert seconds(account.by_module("backward")) == {"head": 400}


def test_what_the_profiler_adds_to_a_step_on_a_gpu_is_gaps(gpu):
    busy = 760e-6  # kernels of 300, 50, 400 and 10 microseconds; the step is of 1,000
    read = traced("case", gpu.path, timed=900e-6)
    assert (read.scale, read.gap_scale) == (1.0, pytest.approx(140 / 240))
    assert read.operators["aten::mm"] == pytest.approx(700e-6)
    assert read.operators["no kernel running"] == pytest.approx(900e-6 - busy)
    assert sum(read.operators.values()) == pytest.approx(900e-6)
    assert sum(read.phases.values()) == pytest.approx(900e-6)
    shorter = traced("case", gpu.path, timed=500e-6)  # less than its kernels took: then all is scaled alike
    assert shorter.scale == shorter.gap_scale == pytest.approx(0.5)
    assert sum(shorter.operators.values()) == pytest.approx(500e-6)


def test_gaps_are_between_kernels_or_between_operators(cpu, gpu):
    on_gpu = gaps_of(gpu, account_of(gpu))
    assert on_gpu.count == 4
    assert on_gpu.longest == pytest.approx(100 * MICRO)
    assert {name: pytest.approx(value / MICRO) for name, value in on_gpu.before.items()} == {
        "sm90_gemm": 150, END: 70, "Memcpy DtoH": 20,
    }  # fmt: skip
    on_cpu = gaps_of(cpu, account_of(cpu))
    assert on_cpu.seconds == pytest.approx(485 * MICRO)
    assert max(on_cpu.before, key=on_cpu.before.get) == "aten::sqrt"  # from the end of the backward pass's to it


def test_the_peak_of_each_phase_is_of_what_is_alive_by_where_it_was_made(cpu):
    curve = curve_of(cpu, account_of(cpu))
    peaks = {peak.point.phase: peak for peak in curve.peaks}
    assert {phase: peak.point.size for phase, peak in peaks.items()} == {
        "forward": 5120, "backward": 13312, "optimizer": 0,
    }  # fmt: skip
    alive = {(place.operator, place.phase, place.module): size for place, size in curve.peak.alive.items()}
    assert alive == {
        ("aten::mm", "backward", "layers.0.mlp"): 8192,
        ("aten::mm", "forward", "layers.0.mlp"): 4096,
        ("aten::gelu", "forward", "layers.0"): 1024,
    }
    assert [point.size for point in curve.points] == [4096, 5120, 13312, 12288, 8192, 0]


def test_the_peak_tells_what_was_alive_before(tmp_path):
    made = [event for event in step_events() if event["args"].get("Addr") != 0xA or event["args"]["Bytes"] < 0]
    moved = [{**event, "ts": 415} if event["args"].get("Addr") == 0xA else event for event in made]
    trace = read_trace(write_trace(tmp_path / "t.json", moved))
    peak = curve_of(trace, account_of(trace)).peak
    assert (peak.point.size, peak.given_back) == (1024 - 4096 + 8192, 4096)


def test_a_trace_without_steps_and_memory_is_one_step(tmp_path):
    trace = read_trace(write_trace(tmp_path / "t.json", [op("aten::mm", 5, 10), op("aten::add", 20, 5)]))
    account = account_of(trace)
    assert seconds(account.by_operator()) == {"aten::mm": 10, BETWEEN: 5, "aten::add": 5}
    assert account.seconds == pytest.approx(trace.step.seconds)
    assert curve_of(trace, account) is None


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 990), st.integers(0, 300), st.booleans()), max_size=25))
def test_every_second_of_a_step_counts_once(tmp_path_factory, drawn):
    """However spans lie in each other, also where rounding lets one end after the one that holds it."""
    spans = [
        mark(f"nn.Module: {start}", start, min(took, 1000 - start))
        if is_mark
        else op(f"op{start}", start, min(took, 1000 - start))
        for start, took, is_mark in drawn
    ]
    path = tmp_path_factory.mktemp("drawn") / "t.json"
    account = account_of(read_trace(write_trace(path, [mark("ProfilerStep#1", 0, 1000), op("first", 0, 1), *spans])))
    for table in (account.by_operator(), account.by_phase(), account.by_module()):
        assert sum(spent.seconds for spent in table.values()) == pytest.approx(1000 * MICRO)
        assert min(spent.seconds for spent in table.values()) >= -1e-12


def test_seventy_thousand_events_take_two_seconds_at_most(tmp_path):
    events = [event for number in range(3500) for event in step_events(number * 1000.0, number)]
    path = write_trace(tmp_path / "many.json", events)
    assert len(events) == 70_000
    best = float("inf")
    for _ in range(2):
        start = time.process_time()
        trace = read_trace(path)
        account = account_of(trace)
        gaps_of(trace, account)
        curve_of(trace, account)
        best = min(best, time.process_time() - start)
    assert best <= 2.0


def test_torch_tb_profiler_reads_the_same(tmp_path):
    for name, events in (("cpu", step_events()), ("gpu", gpu_events())):
        path = write_trace(tmp_path / f"{name}.json", events)
        table = profile_of(path).operation_table_by_name["data"]
        column = "host_self_duration" if name == "cpu" else "device_self_duration"
        theirs = {row["name"]: row[column] for row in table if row[column]}
        ours = account_of(read_trace(path)).by_operator()
        known = {row: ours[row].seconds / MICRO for row in theirs if row in ours}
        overlap = 50 if name == "gpu" else 0  # which it counts for both kernels
        assert sum(known.values()) == pytest.approx(sum(theirs.values()) - overlap)
        assert known["aten::mm"] == pytest.approx(theirs["aten::mm"])


# files that are no traces


def event(**fields):
    return json.dumps([{**op("aten::mm", 0, 1), **fields}]).encode()


WHOLE = json.dumps({"traceEvents": step_events()}).encode()
BAD = {
    "truncated": (WHOLE[: len(WHOLE) // 2], "is truncated; copy it again"),
    "truncated behind an event": (WHOLE[: WHOLE.rindex(b"}, {") + 1], "is truncated"),
    "truncated gzip": (gzip.compress(WHOLE)[:-20], "is truncated"),
    "broken gzip": (b"\x1f\x8b" + b"x" * 50, "is truncated"),
    "empty": (b"", "is truncated"),
    "text": (b"hello", "it is not JSON"),
    "binary": (bytes(range(256)), "it is not JSON"),
    "other JSON": (b'{"a": 1}', "it holds no traceEvents"),
    "a number": (b"1", "it holds no traceEvents"),
    "of a browser": (b'{"traceEvents": [{"ph": "X", "cat": "v8", "name": "f", "ts": 1, "dur": 1}]}', "no operator"),
    "no events": (b'{"traceEvents": []}', "no operator"),
    "no time": (b'[{"ph": "X", "cat": "cpu_op", "name": "f"}]', "its event 1 has not the fields"),
    "numbers for events": (b"[1, 2]", "its event 1 has not the fields"),
    "a time that is text": (event(ts="now"), "has not the fields"),
    "a time that is none": (event(dur=None), "has not the fields"),
    "a time that is infinite": (event(dur=float("inf")), "has not the fields"),
    "a time beyond floats": (event(dur=10**400), "has not the fields"),
    "an end before its start": (event(dur=-1), "has not the fields"),
    "arguments that are a list": (event(args=[]), "has not the fields"),
    "a step without time": (event(dur=0), "takes no time"),
    "too deep": (b"[" * 100_000, "nested too deep"),
}


@pytest.mark.parametrize(("data", "reason"), BAD.values(), ids=BAD)
def test_what_is_no_trace_is_refused_in_a_sentence(data, reason, tmp_path):
    (tmp_path / "t.json").write_bytes(data)
    with pytest.raises(UserError, match=reason) as refused:
        read_trace(tmp_path / "t.json")
    assert str(tmp_path / "t.json") in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_trace_that_is_too_large_is_refused_before_it_is_unpacked(pack, tmp_path, monkeypatch):
    monkeypatch.setattr(read, "MOST_BYTES", 2**20)
    (tmp_path / "t.json").write_bytes(pack(b" " * (2**20 + 2)))
    with pytest.raises(UserError, match=r"holds more than 1 MiB; trace fewer steps .* https://ui.perfetto.dev"):
        read_trace(tmp_path / "t.json")


def test_a_packed_trace_is_read_like_a_plain_one(cpu, tmp_path):
    (tmp_path / "cpu.json.gz").write_bytes(gzip.compress((tmp_path / "cpu.json").read_bytes()))
    assert read_trace(tmp_path / "cpu.json.gz").spans == cpu.spans


# commands


@pytest.fixture
def folder(tmp_path):
    """Write a run of two variants with traces: `+sdpa` has half as much of `aten::mm`, and is timed at 0.8."""
    path = sealed_run(tmp_path / "runs/made-run", made_suite(lengths=[64]))
    for case in open_run(path).suite.cases[:2]:
        slower = 0.5 if case.variant.name == "+sdpa" else 1.0
        events = [*step_events(slower=slower), *step_events(1000, 2, slower=slower)]
        longer = [event | {name: 13 * event[name] for name in ("ts", "dur") if name in event} for event in events]
        write_trace(path / "traces" / case.id / "cpu.1.pt.trace.json", longer)
    return path


@pytest.fixture
def tandem(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder.parent.parent)

    def carry_out(*arguments, code=0):
        monkeypatch.setattr(sys, "argv", ["tandem", *arguments])
        with pytest.raises(SystemExit) as left:
            cli.main()
        printed = capsys.readouterr()
        assert left.value.code == code, printed.err
        return printed.out if code == 0 else printed.err

    return carry_out


def test_the_tables_of_a_case_and_of_a_difference(tandem, golden):
    golden("trace.txt", tandem("trace", "made-run", "v1"))
    golden("trace-difference.txt", tandem("trace", "made-run", "v1", "+sdpa"))
    golden("trace-run.txt", tandem("trace", "made-run"))


def test_a_difference_sums_to_that_of_the_step_times(tandem, folder):
    report = json.loads(tandem("trace", "made-run", "v1", "+sdpa", "--format", "json"))
    run = open_run(folder)
    was, now = (frame_of(run).center(case, "step_seconds") for case in run.suite.cases[:2])
    tables = report["sections"][0]["tables"]
    assert [table["title"] for table in tables] == ["By operator", "By phase", "By module"]
    for table in tables:
        *rows, step = [row[-1]["center"] for row in table["rows"]]
        assert sum(rows) == pytest.approx(step) == pytest.approx(now - was)


def test_a_trace_that_says_the_opposite_of_the_timing_is_a_warning(tandem, folder):
    slow = folder / "traces" / open_run(folder).suite.cases[1].id / "cpu.1.pt.trace.json"
    write_trace(slow, step_events(slower=200.0))
    assert "the other way round than as timed" in tandem("trace", "made-run", "v1", "+sdpa")


def test_what_many_rows_leave_out_is_one_row(tmp_path):
    many = [op(f"op{number}", number * 10, 1 + number % 7) for number in range(90)]
    path = write_trace(tmp_path / "t.json", [mark("ProfilerStep#1", 0, 1000), *many])
    found = traced("t", path)
    for document in (document_of_case(found), document_of_difference(found, found)):
        tables = [item for section in document.sections for item in section.items if isinstance(item, Table)]
        table = next(item for item in tables if item.title == "By operator")
        assert "71 others" in [row[0] for row in table.rows]
        values = [row[1].estimate.center for row in table.rows]
        assert sum(values[:-1]) == pytest.approx(values[-1]) == pytest.approx(1000 * MICRO)


@pytest.mark.parametrize("format", ["markdown", "html", "json"])
def test_a_trace_is_shown_in_each_form(format, tandem):
    assert "aten::gelu" in tandem("trace", "latest", "v1", "--format", format)


def test_an_operators_name_is_escaped(tandem, tmp_path):
    write_trace(tmp_path / "t.json", [op("<script>alert(1)</script>\x1b[31m", 0, 1)])
    page = tandem("trace", str(tmp_path / "t.json"), "--format", "html")
    assert "<script>alert(1)" not in page
    assert "\x1b" not in tandem("trace", str(tmp_path / "t.json"))


def test_a_trace_of_a_gpu_shows_its_kernels_with_what_torch_tb_profiler_knows(tandem, tmp_path, golden):
    golden("trace-gpu.txt", tandem("trace", str(write_trace(tmp_path / "gpu.json", gpu_events()))))


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["made-run", "+sdp"], "'+sdp'"),
        (["made-run", "gpt"], "'gpt' means 5 cases; say which: gpt-tiny"),
        (["made-run", "nothing-like-it"], "no case 'nothing-like-it'; known: +bf16, +compile"),
        (["made-run", "+compil"], "has no trace: the run kept none; choose another case"),
        (["made-run", "v1", "--format", "junit"], "a trace has no form in junit; choose one of terminal"),
        (["no-run", "v1"], "no run 'no-run'"),
        (["t.json"], "t.json is truncated"),
        (["t.json", "v1"], "a trace file is shown alone or against another"),
        (["made-run", "--tensorboard", "-o", "runs"], "runs exists; name a folder"),
        (["made-run", "+sdpa", "--tensorboard"], "--tensorboard shows all cases"),
        (["made-run", "--tensorboard", "--port", "99999"], "port 99999 cannot be had"),
    ],
)
def test_a_mistake_is_one_sentence(arguments, reason, tandem, folder):
    if arguments[1:] == ["+sdp"]:
        assert chosen(open_run(folder).suite.cases, "+sdp").variant.name == "+sdpa"  # a unique part
        return
    Path("t.json").write_text('{"traceEvents": [')
    before = sorted(Path.cwd().rglob("*"))
    told = tandem("trace", *arguments, code=2)
    assert reason in told
    assert told.count("\n") == 1
    assert sorted(Path.cwd().rglob("*")) == before


def test_the_closest_case_is_named(tandem):
    assert "did you mean '+sdpa'" in tandem("trace", "made-run", "+sdap", code=2)


# TensorBoard


def test_tensorboard_gets_traces_loss_and_throughput(folder, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = figures(open_run(folder))
    write_folder(found, tmp_path / "board")
    case = found.run.suite.cases[0]
    assert (tmp_path / "board" / case.id / "cpu.1.pt.trace.json").is_file()
    events = EventAccumulator(str(tmp_path / "board" / case.id)).Reload()
    assert set(events.Tags()["scalars"]) >= {"loss/training", "throughput/tokens_per_second", "time/step_seconds"}
    loss = [(item.step, pytest.approx(item.value)) for item in events.Scalars("loss/training")]
    assert loss == list(scalars(found, case)["loss/training"])


def test_a_board_that_cannot_be_finished_leaves_nothing(folder, tmp_path):
    def fail(source, target):
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_folder(figures(open_run(folder)), tmp_path / "board", put=fail)
    assert not list(tmp_path.glob("*board*"))


def until(address, is_there):
    """Return what an address gives once it is there: TensorBoard reads its folder in the background."""
    end, told = time.monotonic() + 60, None
    while time.monotonic() < end:
        with urllib.request.urlopen(address, timeout=10) as answer:
            told = json.load(answer)
        if is_there(told):
            return told
        time.sleep(0.1)
    raise AssertionError(told)


@pytest.fixture
def temporary():
    """A folder with a short path: the profiler's plug-in has sockets in it, whose paths have 108 bytes at most."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def test_tensorboard_is_served_on_this_machine_alone_until_interrupted(folder, temporary):
    server = subprocess.Popen(
        [sys.executable, "-m", "harness.cli", "trace", str(folder), "--tensorboard", "--port", "0"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        address = re.search(r"http://127\.0\.0\.1:\d+/", server.stdout.readline())[0]
        assert "https://ui.perfetto.dev" in server.stdout.readline()
        listening = [item for item in psutil.Process(server.pid).net_connections() if item.status == "LISTEN"]
        assert {item.laddr.ip for item in listening} == {"127.0.0.1"}
        cases = {path.name for path in (folder / "traces").iterdir()}
        tags = until(f"{address}data/plugin/scalars/tags", lambda tags: tags.keys() >= cases)
        assert "loss/training" in tags[min(cases)]
        assert until(f"{address}data/plugin/pytorch_profiler/runs", lambda told: set(told["runs"]) == cases)
        server.send_signal(signal.SIGINT)
        assert server.wait(20) == 0, server.stderr.read()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)  # its plug-in has processes of its own, which hold the pipes
        server.communicate()
    assert not list(temporary.glob("tandem-*"))
