"""Ceilings in a worker: that each does the work it counts, and is stepped as the worker steps it."""

import math
import os
from dataclasses import asdict

import pytest
import torch

from harness import names
from harness.correct import TOLERANCE
from harness.errors import Unavailable, UserError
from harness.spec import Variant
from harness.work import Place
from harness.worker import ceilings as working
from harness.worker import precision
from harness.worker.device import Device
from suites.attention import sdpa
from suites.ceilings import calls, disk, matmul, memory, transfer

SMALL = {
    "ceilings/matmul": {"rows": 32, "inner": 48, "columns": 16},
    "ceilings/sustained": {"rows": 32, "inner": 48, "columns": 16},
    "ceilings/memory": {"size": 2**16},
    "ceilings/attention": {"length": 16},
}


def placed(precision="fp32", data=None):
    return Place(device=torch.device("cpu"), precision=precision, attention=sdpa.attention, data=data or {}, effort=1)


@pytest.fixture
def little_work(monkeypatch):
    for module in (matmul, memory):
        monkeypatch.setattr(module, "WORK", 1e5)
    monkeypatch.setattr(matmul, "COLD_BYTES", 2**16)
    monkeypatch.setattr(calls, "CALLS", 10)


@pytest.mark.parametrize("cold", [False, True])
@pytest.mark.parametrize("precision", ["fp64", "fp32", "bf16", "fp16", "int8"])
def test_a_product_is_right_and_its_flop_are_those_of_the_formula(precision, cold, little_work):
    made = matmul.prepare(placed(precision), rows=32, inner=48, columns=16, cold=cold)
    assert made.error() <= TOLERANCE[precision]
    assert made.amount["flop"] % (2 * 32 * 48 * 16) == 0
    assert made.step().shape == (32, 16)


@pytest.mark.parametrize(("cold", "pairs"), [(True, 3), (False, 1)])
def test_cold_products_take_another_pair_each_time(cold, pairs, little_work, monkeypatch):
    seen = []
    monkeypatch.setattr(torch, "mm", lambda a, b, out=None: seen.append(a.data_ptr()) or a)
    made = matmul.prepare(placed(), rows=32, inner=48, columns=16, cold=cold)
    seen.clear()
    made.step()
    assert (len(seen), len(set(seen))) == (3, pairs)


@pytest.mark.parametrize(("operation", "arrays"), memory.ARRAYS.items())
def test_memory_counts_each_array_once_a_pass(operation, arrays, little_work):
    made = memory.prepare(placed(), operation=operation, size=2**16)
    passes = math.ceil(1e5 / 2**16)
    assert made.amount["moved_bytes"] == pytest.approx(2**16 * passes, rel=1e-4)


def test_a_format_that_is_emulated_is_not_measured(little_work, monkeypatch):
    monkeypatch.setattr(matmul, "TOO_LONG", 0.0)
    with pytest.raises(Unavailable, match=r"fp16 is emulated here, at .* GFLOP/s: too slow for such a product"):
        matmul.prepare(placed("fp16"), rows=32, inner=48, columns=16)


def test_a_product_of_fp16_needs_no_gradient_scaler(monkeypatch):
    monkeypatch.delattr(torch.amp, "GradScaler")  # as before torch 2.3
    precision.refuse("fp16", Device("cpu"), trains=False)
    with pytest.raises(Unavailable, match="fp16 training on cpu needs torch"):
        precision.refuse("fp16", Device("cpu"))


def test_what_a_ceiling_cannot_be_asked_is_a_sentence():
    with pytest.raises(UserError, match="operation is 'scan'; one of copy, triad, read"):
        memory.prepare(placed(), operation="scan")
    with pytest.raises(UserError, match="to_device or to_host"):
        transfer.prepare(placed(), direction="up")
    with pytest.raises(Unavailable, match="a CPU computes in the host's own memory"):
        transfer.prepare(placed())


@pytest.mark.parametrize("name", [named.name for named in names.listing("ceiling")])
def test_every_ceiling_is_stepped_as_a_worker_steps_it(name, little_work, tmp_path):
    (tmp_path / "text").write_bytes(bytes(3 * 2**20))
    settings = {"direct": False, "fresh": True} if name == "ceilings/disk" else SMALL.get(name, {})
    variant = asdict(Variant(name="fp32", attention="sdpa", device="cpu"))
    message = {"case": "a", "task": name, "settings": settings, "variant": variant, "folders": [], "steps": 3}
    message |= {"data": {"train": str(tmp_path / "text")}}
    prepared = working.Prepared()
    if name == "ceilings/transfer":
        with pytest.raises(Unavailable, match="nothing is copied"):
            prepared.probe(message)
        return
    first, second = prepared.probe(message), prepared.probe({**message, "settle": 1})
    assert len(first["seconds"]) == len(second["seconds"]) == 3
    assert first["metrics"].keys() <= {"flop", "moved_bytes", "calls"}
    assert min(first["metrics"].values()) > 0
    assert "metrics" not in second
    assert second["wall"] >= sum(second["seconds"]) > 0


def test_a_fresh_copy_is_read_and_leaves_nothing_behind(tmp_path):
    path = tmp_path / "text"
    path.write_bytes(os.urandom(3 * 2**20))
    file = disk.opened(path, os.O_RDONLY, fresh=True)
    assert os.fstat(file).st_ino != path.stat().st_ino
    assert os.pread(file, 3 * 2**20, 0) == path.read_bytes()
    os.close(file)
    assert [*tmp_path.iterdir()] == [path]


def test_a_working_set_that_does_not_fit_is_unavailable(monkeypatch):
    monkeypatch.setattr(working, "free_bytes", lambda device: 2**30)
    working.room(2**29, None)
    with pytest.raises(Unavailable, match="1 GiB does not fit into the 1 GiB that are free"):
        working.room(2**30, None)
