"""Loading: every way gives the same batches in the same order, and leaves no process behind."""

import os
import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import asdict, replace
from multiprocessing import active_children
from pathlib import Path
from statistics import mean

import numpy as np
import pytest
import torch
from made_run import made_run, made_suite
from test_ability import unavailable
from test_real import SMALL, outcomes, run

from harness.errors import UserError
from harness.launch import Launch
from harness.spec import Variant
from harness.worker.device import Device
from harness.worker.loader import EPOCH, Loader
from harness.worker.probes import loader_memory
from harness.worker.session import Session
from reports.frame import frame_of
from reports.views.loading import view

pytestmark = [
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),  # more workers than this machine has cores
]
ROOT = Path(__file__).resolve().parent.parent
CPU = torch.device("cpu")
WAYS = (
    *({"loader": kind, "workers": count} for kind in ("map", "iterable") for count in (0, 1, 2, 3)),
    *({"loader": kind, "workers": 2, "persistent": True, "prefetch": 4} for kind in ("map", "iterable")),
)


def batch(index):
    draw = np.random.RandomState(index)
    return torch.from_numpy(draw.randint(0, 256, (2, 5))), None, torch.from_numpy(draw.random_sample(3))


def loader(**fields):
    return Loader(batch, asdict(Variant(name="v", **fields)), CPU)


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_every_loader_gives_the_same_batches_in_the_same_order(way):
    fetch = loader(**way)
    before = torch.random.get_rng_state()
    for index in [0, *range(EPOCH + 3), *range(7, 10)]:  # again, over the end of an epoch, back
        found, expected = fetch(index), batch(index)
        assert isinstance(found, tuple)
        assert found[1] is None
        assert all(torch.equal(found[place], expected[place]) for place in (0, 2))
        assert found[0].dtype == torch.int64
    assert torch.equal(torch.random.get_rng_state(), before)  # or dropout would differ


def test_workers_make_the_batches_elsewhere_and_persistent_ones_stay():
    def who(index):
        return torch.tensor(os.getpid())

    def pids(**fields):
        fetch = Loader(who, asdict(Variant(name="v", loader="map", **fields)), CPU)
        return {int(fetch(index)) for index in range(2 * EPOCH)}

    assert pids(workers=0) == {os.getpid()}
    assert len(pids(workers=2) - {os.getpid()}) == 4
    assert len(pids(workers=2, persistent=True) - {os.getpid()}) == 2


@pytest.mark.parametrize("persistent", [False, True])
def test_a_loader_that_is_dropped_or_starts_elsewhere_ends_its_workers_at_once(persistent):
    fetch = loader(loader="map", workers=2, persistent=persistent)
    fetch(0)
    first = workers()
    fetch(7)
    second = workers()
    began = time.monotonic()
    del fetch
    assert time.monotonic() - began < 5  # torch's patience with one worker
    assert (len(first), len(second), len(first & second), len(workers())) == (2, 2, 0, 0)


def workers():
    return {process.pid for process in active_children()}


@pytest.mark.skipif(sys.platform != "linux", reason="what a process has to itself is read from Linux's /proc")
def test_the_memory_of_workers_is_what_they_have_to_themselves():
    size = 2**25

    def filled(index):
        kept.append(np.full(size, index, dtype=np.uint8))
        return torch.zeros(1)

    kept, before = [], [np.ones(size, dtype=np.uint8)]  # what the fork shares does not count
    assert loader_memory() == {}
    fetch = Loader(filled, asdict(Variant(name="v", loader="map", workers=2, prefetch=1)), CPU)
    fetch(0), fetch(1)  # of each worker one
    assert 2 * size < loader_memory()["memory_loader_bytes"] < 8 * size
    assert kept == []
    assert before[0].any()


@pytest.mark.parametrize("how", ["group", "lifeline"])
def test_no_loader_outlives_its_worker(how):
    code = (
        "import os, sys, threading, time, torch\n"
        "from dataclasses import asdict\n"
        "from harness.spec import Variant\n"
        "from harness.worker.__main__ import end_with\n"
        "from harness.worker.loader import Loader\n"
        "threading.Thread(target=end_with, args=(0,), daemon=True).start()\n"
        "variant = asdict(Variant(name='v', loader='map', workers=2))\n"
        "fetch = Loader(lambda index: torch.tensor(os.getpid()), variant, torch.device('cpu'))\n"
        "print(int(fetch(0)), int(fetch(1)), flush=True)\n"
        "time.sleep(60)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", code], start_new_session=True, env=environment,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    workers = [int(pid) for pid in process.stdout.readline().split()]
    assert len({*workers}) == 2
    assert all(alive(pid) for pid in workers)
    if how == "group":
        os.killpg(process.pid, 9)
    process.stdin.close()  # the coordinator is gone
    process.wait(timeout=20)
    process.stdout.close()
    deadline = time.monotonic() + 20
    while any(map(alive, workers)):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def alive(pid):
    """Tell whether a process runs: one that nobody has waited for does not."""
    status = Path(f"/proc/{pid}/stat")
    try:
        return status.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_pinned_memory_needs_cuda():
    assert unavailable(loader="map", workers=2) is None
    assert unavailable(loader="map", pinned=True).startswith("pinned memory serves copies to a CUDA device")


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"loader": "mapp"}, "map"),
        ({"workers": 2}, "no loader"),
        ({"pinned": True}, "no loader"),
        ({"loader": "map", "workers": -1}, "workers is -1"),
        ({"loader": "map", "prefetch": 0}, "prefetch is 0"),
        ({"loader": "map", "persistent": True}, "no workers"),
    ],
)
def test_a_mistake_is_a_sentence(fields, sentence):
    with pytest.raises(UserError, match=sentence):
        Variant(name="v", **fields)


def test_what_a_loader_made_ahead_is_used_up_by_all_variants_alike(tmp_path):
    variants = (Variant(name="a"), Variant(name="b", loader="map", workers=4, prefetch=3))
    block = replace(made_suite((64,)).blocks[0], variants=variants, baseline="a")
    recorder = type("Nothing", (), {"outcomes": {}})
    launch = Launch(made_suite((64,)), block, 1, recorder, *[None] * 3)
    assert (launch.ahead, launch.loads) == (12, True)
    block = replace(block, variants=variants[:1])
    launch = Launch(made_suite((64,)), block, 1, recorder, *[None] * 3)
    assert (launch.ahead, launch.loads) == (0, False)


@pytest.mark.alone
def test_batches_that_were_made_ahead_do_not_look_like_speed():
    """A worker takes 60 ms for a batch, the step 20: a step lasts 60 ms, though 8 batches wait from the pause."""
    slow = Variant(name="v", loader="map", workers=1, prefetch=8, persistent=True)
    fetch = Loader(lambda index: time.sleep(0.06), asdict(slow), CPU)

    def step(index):
        fetch(index)
        time.sleep(0.02)

    step.load, step.loss = fetch, 0.0
    session = object.__new__(Session)
    session.index, session.step, session.device, session.around = 0, step, Device("cpu"), nullcontext
    session.measure({"steps": 1})
    time.sleep(0.8)
    assert mean(session.measure({"drain": slow.ahead, "settle": 1, "steps": 4})["seconds"]) > 0.05
    fetch.stop()


def test_the_view_is_silent_about_runs_without_loaders(tmp_path):
    assert view(frame_of(made_run(tmp_path))).items == ()


@pytest.mark.alone
def test_each_way_trains_the_same_and_says_how_long_it_waits(tmp_path):
    (tmp_path / "own.py").write_text(
        "from dataclasses import replace\n"
        "from suites.definitions.input_pipeline import suite as whole\n"
        "def suite():\n"
        "    block = whole().blocks[0]\n"
        "    names = ('in process', 'map 2', 'iterable 2', 'map 2 pinned')\n"
        "    ways = [way for way in block.variants if way.name in names]\n"
        "    return replace(whole(), name='own', blocks=[replace(block, variants=ways)])\n"
    )
    opened = run(tmp_path, "own.py", *SMALL, "--launches", "1", "--rounds", "2", "--set", "accumulate=2", "--no-trace")
    found = outcomes(opened)
    assert [outcome["status"] for outcome in found.values()] == ["ok", "ok", "ok", "unavailable"]
    assert "CUDA" in found["map 2 pinned"]["reason"]
    losses = opened.samples().query("metric == 'training_loss'")
    curves = [curve.value.tolist() for _, curve in losses.groupby("case", observed=True)]
    assert curves[0] == curves[1] == curves[2]
    table, is_linux = view(frame_of(opened)).items[0], sys.platform == "linux"
    shared = ("variant", "loading alone", "training", "waits, of a step", "data", "step")
    assert table.columns == (*shared, *["memory of workers"] * is_linux)
    assert [row[0] for row in table.rows] == ["in process", "map 2", "iterable 2"]
    for row in table.rows:
        assert row[1].estimate.center > row[2].estimate.center > 0
        assert 0 < row[3].estimate.center < 1
    if is_linux:
        in_process, *elsewhere = (row[6] for row in table.rows)
        assert in_process is None
        assert all(2**20 < memory.estimate.center < 2**32 for memory in elsewhere)
