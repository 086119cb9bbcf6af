"""The sentinel: how much of the machine others took while a case was stepping."""

import time
from dataclasses import dataclass, field
from typing import NamedTuple

import psutil

BUSY = 0.10  # share of the machine above which a case's figures carry a warning
STOLEN = 0.05


class Moment(NamedTuple):
    """CPU seconds since boot: all cores together, what the host took away, what was used, what this run used."""

    total: float
    steal: float
    used: float
    own: float


def look(pid: int, *, family: bool = False) -> Moment:
    """Return the counters now; a worker that is gone counts as having used nothing. With `family` its children count.

    What a turn costs the coordinator is this run's own: of a turn of 20 ms it is a tenth, and nobody's disturbance.
    """
    times = psutil.cpu_times()
    steal = getattr(times, "steal", 0.0)
    total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)  # guest is part of user
    idle = times.idle + getattr(times, "iowait", 0.0)
    try:
        worker = psutil.Process(pid)
        own = sum(worker.cpu_times()[:4]) if family else worker.cpu_times().user + worker.cpu_times().system
        own += sum(sum(child.cpu_times()[:2]) for child in worker.children(recursive=True)) if family else 0.0
    except psutil.Error:
        return Moment(total, steal, total - idle - steal, time.process_time())
    return Moment(total, steal, total - idle - steal, own + time.process_time())


@dataclass
class Watch:
    """Sums over the turns of a case; one turn alone is shorter than the kernel's clock ticks can tell."""

    total: float = field(default=0.0, init=False)
    steal: float = field(default=0.0, init=False)
    others: float = field(default=0.0, init=False)

    def add(self, before: Moment, after: Moment) -> None:
        """Add a turn."""
        self.total += after.total - before.total
        self.steal += after.steal - before.steal
        self.others += (after.used - before.used) - (after.own - before.own)

    def shares(self) -> dict[str, float]:
        """Return what others took, as shares of the machine's time."""
        if self.total <= 0:
            return {}
        return {"steal_share": self.steal / self.total, "others_share": max(0.0, self.others / self.total)}
