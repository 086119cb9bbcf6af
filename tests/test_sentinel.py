"""What others took of the machine, from made-up counters."""

import os
import subprocess
import sys
from collections import namedtuple
from types import SimpleNamespace

import pytest

from harness import sentinel

Times = namedtuple("Times", ["user", "idle", "steal"])


@pytest.mark.parametrize(
    ("used", "shares"),
    [
        ({"user": 1.0, "worker": 1.0}, (0.0, 0.0)),
        ({"user": 1.2, "worker": 1.0, "coordinator": 0.2}, (0.0, 0.0)),  # this run's own work is nobody's disturbance
        ({"user": 1.5, "worker": 1.0, "coordinator": 0.1}, (0.2, 0.0)),
        ({"user": 1.0, "worker": 1.0, "steal": 0.5}, (0.0, 0.25)),
        ({"user": 0.9, "worker": 1.0}, (0.0, 0.0)),  # the machine's counters tick more coarsely than a process's
    ],
)
def test_what_the_run_itself_uses_is_not_taken_by_others(monkeypatch, used, shares):
    def moment(*, user=0.0, steal=0.0, worker=0.0, coordinator=0.0, total=0.0):
        monkeypatch.setattr(sentinel.psutil, "cpu_times", lambda: Times(user, total - user - steal, steal))
        process = SimpleNamespace(cpu_times=lambda: SimpleNamespace(user=worker, system=0.0))
        monkeypatch.setattr(sentinel.psutil, "Process", lambda pid: process)
        monkeypatch.setattr(sentinel.time, "process_time", lambda: coordinator)
        return sentinel.look(1)

    watch = sentinel.Watch()
    watch.add(moment(), moment(**used, total=2.0))
    found = watch.shares()
    assert (found["others_share"], found["steal_share"]) == pytest.approx(shares)


def test_a_machine_without_counters_has_no_shares():
    assert sentinel.Watch().shares() == {}


def test_what_the_workers_own_children_use_is_not_taken_by_others_either():
    code = "import time; end = time.process_time() + 0.3\nwhile time.process_time() < end: pass"
    before = sentinel.look(os.getpid(), family=True).own
    subprocess.run([sys.executable, "-c", code], check=True)
    assert sentinel.look(os.getpid(), family=True).own - before > 0.25
