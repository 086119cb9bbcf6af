"""Devices and the machine's description."""

import json
import os
import re
import socket

import pytest
import torch

from harness.errors import Unavailable
from harness.worker import device, machine

CPU = device.Device("cpu")


def test_auto_is_the_first_accelerator_else_the_cpu(monkeypatch):
    monkeypatch.setattr(device, "missing", lambda kind: "none here")
    assert device.resolve("auto") == CPU
    monkeypatch.setattr(device, "missing", lambda kind: None if kind in ("xpu", "mps") else "none here")
    assert device.resolve("auto").kind == "xpu"


def test_the_cpu_is_always_there():
    assert device.resolve("cpu").torch == torch.device("cpu")
    device.resolve("cpu").synchronize()


@pytest.mark.skipif(torch.version.cuda is not None, reason="this torch has CUDA")
def test_cuda_that_is_not_built_in_says_so():
    with pytest.raises(Unavailable, match=r"torch .* is built without CUDA: install a CUDA build of torch"):
        device.resolve("cuda")


def test_cuda_without_a_gpu_says_so(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(Unavailable, match="sees no CUDA GPU"):
        device.resolve("cuda")


@pytest.mark.parametrize("kind", ["mps", "xpu"])
def test_other_devices_that_are_missing_say_so(kind):
    if device.missing(kind) is None:
        pytest.skip(f"this machine has {kind}")
    with pytest.raises(Unavailable, match=f"GPU \\({kind}\\)"):
        device.resolve(kind)


def test_the_description_is_plain_data_without_names_of_people_or_hosts():
    facts = machine.describe(CPU)
    text = json.dumps(facts)
    assert json.loads(text) == facts
    assert facts["torch"] == str(torch.__version__)
    assert facts["threads"] == torch.get_num_threads()
    for private in (socket.gethostname(), os.environ.get("USER", ""), os.path.expanduser("~")):
        assert not private or not re.search(rf"\b{re.escape(private)}\b", text)


def test_the_fingerprint_follows_what_makes_times_comparable_and_nothing_else(monkeypatch):
    first = machine.describe(CPU)["fingerprint"]
    assert machine.describe(CPU)["fingerprint"] == first
    monkeypatch.setattr(machine.platform, "release", lambda: "0.1")
    assert machine.describe(CPU)["fingerprint"] == first
    monkeypatch.setattr(machine, "cpu_name", lambda: "another")
    assert machine.describe(CPU)["fingerprint"] != first


FACTS = {
    "cpu": "Intel Xeon", "cores_usable": 2, "memory_gib": 23, "system": "Linux 6.1.0-13-amd64",
    "python": "3.11.7", "torch": "2.13.0+cpu", "threads": 2,
}  # fmt: skip


def test_the_line_names_the_hardware_and_the_software():
    assert machine.line(FACTS) == (
        "Intel Xeon (2 cores), 23 GiB, Linux 6.1 · Python 3.11.7 · torch 2.13.0+cpu · 2 threads"
    )
    assert machine.line({**FACTS, "gpu": "NVIDIA H200", "gpu_memory_gib": 140}).startswith(
        "NVIDIA H200 (140 GiB), Intel Xeon (2 cores), 23 GiB"
    )


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("Intel(R) Xeon(R) CPU E5-2686 v4 @ 2.30GHz", "Intel Xeon E5-2686 v4"),
        ("AMD EPYC 7R13 Processor", "AMD EPYC 7R13"),
        ("Intel(R) Core(TM) i7-1185G7 @ 3.00GHz", "Intel Core i7-1185G7"),
    ],
)
def test_a_processor_is_named_without_trademarks(name, plain, monkeypatch):
    monkeypatch.setattr(machine, "read", lambda path: f"processor\t: 0\nmodel name\t: {name}\n")
    assert machine.cpu_name() == plain


def test_hyper_threads_are_not_cores(monkeypatch):
    blocks = [f"processor\t: {i}\nphysical id\t: 0\ncore id\t\t: {i % 2}" for i in range(4)]
    monkeypatch.setattr(machine, "read", lambda path: "\n\n".join(blocks))
    assert machine.physical_cores() == 2


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"cpu.max": "150000 100000"}, 1.5),
        ({"cpu.max": "max 100000"}, None),
        ({"cpu/cpu.cfs_quota_us": "200000", "cpu/cpu.cfs_period_us": "100000"}, 2.0),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ({}, None),
    ],
)
def test_a_containers_share_of_the_cpu_is_read(files, quota, tmp_path):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    assert machine.cpu_quota(tmp_path) == quota


def test_a_compiler_that_does_not_run_has_no_version(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert machine.compiler_version() is None


def test_calibration_times_four_probes():
    seconds = machine.calibrate(CPU)
    assert list(seconds) == ["gemm_seconds", "copy_seconds", "dispatch_seconds", "interpreter_seconds"]
    assert all(value > 0 for value in seconds.values())
