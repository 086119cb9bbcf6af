"""Joules: counters read, idle subtracted, and said where there are none."""

import pytest

from harness.errors import Unavailable
from harness.worker import energy
from harness.worker.device import Device


def zone(folder, name, joules, wraps_at=1000.0):
    package = folder / name
    package.mkdir(parents=True, exist_ok=True)
    (package / "name").write_text("package-0\n" if name.count(":") == 1 else "core\n")
    (package / "energy_uj").write_text(str(int(joules * 1e6)))
    (package / "max_energy_range_uj").write_text(str(int(wraps_at * 1e6)))


def test_energy_is_that_of_the_packages_less_idle_and_wraps(tmp_path, monkeypatch):
    zone(tmp_path, "intel-rapl:0", 990.0)
    zone(tmp_path, "intel-rapl:0:0", 5.0)
    zone(tmp_path, "intel-rapl-mmio:0", 990.0)  # the same package once more
    clock = iter([0.0, 0.5, 10.0, 10.0, 10.4, 10.8, 11.2, 11.2])
    monkeypatch.setattr(energy.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(energy.time, "sleep", lambda seconds: zone(tmp_path, "intel-rapl:0", 995.0))  # 10 W idle
    steps = iter([10.0, 25.0, 40.0])  # it wraps: 45 J in 1.2 s

    found = energy.of_steps(lambda: zone(tmp_path, "intel-rapl:0", next(steps)), Device("cpu"), tmp_path)
    assert found["idle_watts"] == pytest.approx(10.0)
    assert found["step_joules"] == pytest.approx((45.0 - 12.0) / 3)


def test_where_nothing_counts_energy_it_says_so(tmp_path):
    with pytest.raises(Unavailable, match="Linux shows none of the processor's"):
        energy.counter(Device("cpu"), tmp_path)
    with pytest.raises(Unavailable, match="no counter of energy is known for mps"):
        energy.counter(Device("mps"), tmp_path)
    zone(tmp_path, "intel-rapl:0", 1.0)
    (tmp_path / "intel-rapl:0/energy_uj").unlink()
    (tmp_path / "intel-rapl:0/energy_uj").mkdir()  # root reads everything, but no folder
    with pytest.raises(Unavailable, match="sudo chmod a"):
        energy.counter(Device("cpu"), tmp_path)
