"""What the doctor makes of values read from a machine; no special machine is needed."""

import os
from pathlib import Path

import pytest

from harness import fitness

GIB = fitness.GIB


@pytest.mark.parametrize(
    ("check", "status"),
    [
        (fitness.of_cores(4, None), "ok"),
        (fitness.of_cores(4, 4.0), "ok"),
        (fitness.of_cores(1, None), "note"),
        (fitness.of_cores(4, 2.5), "bad"),
        (fitness.of_load(0.3, 0.02, 4), "ok"),
        (fitness.of_load(3.0, 0.02, 4), "note"),
        (fitness.of_load(None, 0.2, 4), "note"),
        (fitness.of_load(0.1, 0.6, 4), "bad"),
        (fitness.of_steal(0.001), "ok"),
        (fitness.of_steal(0.04), "note"),
        (fitness.of_steal(0.3), "bad"),
        (fitness.of_processes([]), "ok"),
        (fitness.of_processes(["cc1plus"]), "note"),
        (fitness.of_governor(None), "ok"),
        (fitness.of_governor("performance"), "ok"),
        (fitness.of_governor("powersave"), "note"),
        (fitness.of_turbo("1", None), "ok"),
        (fitness.of_turbo(None, "0"), "ok"),
        (fitness.of_turbo(None, None), "ok"),
        (fitness.of_turbo("0", None), "note"),
        (fitness.of_turbo(None, "1"), "note"),
        (fitness.of_throttling(None, None), "ok"),
        (fitness.of_throttling(0, 0), "ok"),
        (fitness.of_throttling(7, 7), "note"),
        (fitness.of_throttling(7, 8), "bad"),
        (fitness.of_memory(16 * GIB), "ok"),
        (fitness.of_memory(3 * GIB), "note"),
        (fitness.of_memory(GIB), "bad"),
        (fitness.of_swap(0, 0), "ok"),
        (fitness.of_swap(GIB, 0), "note"),
        (fitness.of_swap(GIB, 4096), "bad"),
        (fitness.of_disk("runs", 50 * GIB), "ok"),
        (fitness.of_disk("runs", 2 * GIB), "note"),
        (fitness.of_disk("runs", GIB // 2), "bad"),
        (fitness.of_compiler("no-such-compiler"), "note"),
        (fitness.of_allocator(["PATH", "HOME"]), "ok"),
        (fitness.of_allocator(["PATH", "LD_PRELOAD", "MALLOC_ARENA_MAX"]), "note"),
    ],
)
def test_each_check_has_its_grade_and_what_is_not_well_says_what_to_do(check, status):
    assert check.status == status
    assert bool(check.remedy) == (status != "ok")
    assert check.seen


def test_only_a_device_that_is_there_is_judged():
    assert fitness.of_device(None, None) == []
    assert [check.status for check in fitness.of_device([], "Default")] == ["ok", "ok"]
    assert [check.status for check in fitness.of_device([], "Exclusive_Process")] == ["ok", "bad"]
    assert [check.status for check in fitness.of_device([], "[N/A]")] == ["ok", "ok"]
    assert [(check.status, check.seen) for check in fitness.of_device(["python3"], None)] == [("bad", "python3")]


def test_counters_and_limits_are_read_where_the_kernel_has_them(tmp_path):
    assert fitness.throttles(tmp_path) is None
    for core, count in enumerate(["3", "4"]):
        folder = tmp_path / f"cpu{core}/thermal_throttle"
        folder.mkdir(parents=True)
        (folder / "core_throttle_count").write_text(f"{count}\n")
    assert fitness.throttles(tmp_path) == 7
    assert fitness.quota(tmp_path) is None
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert fitness.quota(tmp_path) is None
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    assert fitness.quota(tmp_path) == 1.5


def test_names_of_programs_are_shown_and_no_command_lines(monkeypatch):
    listed = "/usr/bin/python3 --token secret\n/opt/trainer\n"
    monkeypatch.setattr(fitness.subprocess, "run", lambda *_, **__: type("Done", (), {"stdout": listed}))
    assert fitness.device_processes() == ["python3", "trainer"]


@pytest.mark.parametrize(("listed", "mode"), [("Exclusive_Process\n", "Exclusive_Process"), ("\n", None)])
def test_the_driver_says_how_many_processes_a_device_lets_in(listed, mode, monkeypatch):
    def run(command, **_):
        assert command == ["nvidia-smi", "--id=GPU-1", "--query-gpu=compute_mode", "--format=csv,noheader"]
        return type("Done", (), {"stdout": listed})

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-1,GPU-0")
    monkeypatch.setattr(fitness.subprocess, "run", run)
    assert fitness.compute_mode() == mode


def test_this_machine_is_looked_at_without_a_mistake(monkeypatch, tmp_path):
    monkeypatch.setattr(fitness, "LOOK_SECONDS", 0.01)
    found = fitness.checks({"runs": tmp_path / "not/yet/made", "caches": Path(os.sep)})
    names = [check.name for check in found if check.name not in ("GPU", "compute mode")]
    assert len(set(names)) == len(names) == 13
