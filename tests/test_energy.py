"""Joules: counters read, idle subtracted, and said where there are none."""

import sys
from types import SimpleNamespace

import pytest
import torch

from harness.errors import Unavailable
from harness.worker import ceilings, energy
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


class Nvml:
    """NVML with two GPUs, of which the second has the UUID `b`."""

    def __init__(self, refuses=""):
        self.refuses, self.millijoules, self.reasons = refuses, 5000, 0

    def nvmlInit(self):
        pass

    def nvmlDeviceGetCount(self):
        return 2

    def nvmlDeviceGetHandleByUUID(self, uuid):
        return {"GPU-b": 1}[uuid]

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):
        assert handle == 1
        if self.refuses:
            raise RuntimeError(self.refuses)
        return self.millijoules

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle):
        assert handle == 1
        return self.reasons


@pytest.fixture
def gpu(monkeypatch):
    def install(uuid, **told):
        monkeypatch.setitem(sys.modules, "pynvml", Nvml(**told))
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(uuid=uuid))
        return sys.modules["pynvml"]

    return install


def test_a_gpu_counts_the_joules_of_the_one_that_torch_uses(gpu):
    nvml = gpu("b")
    read, ranges = energy.counter(Device("cuda"))
    assert (read(), ranges) == ([5.0], [float("inf")])
    nvml.millijoules = 7500
    assert read() == [7.5]


@pytest.mark.parametrize(
    ("reasons", "power", "heat"), [(0x0, 0, 0), (0x1, 0, 0), (0x4, 1, 0), (0x20, 0, 1), (0x40 | 0x80, 1, 1)]
)
def test_what_holds_the_clock_of_a_gpu_is_told(gpu, reasons, power, heat):
    gpu("b").reasons = reasons
    assert energy.held_by() == {"held_by_power": power, "held_by_heat": heat}
    assert ceilings.state(Device("cuda")).items() >= energy.held_by().items()


def test_a_gpu_that_counts_nothing_says_why_and_what_to_do(gpu, monkeypatch):
    gpu("b", refuses="Insufficient Permissions")
    with pytest.raises(Unavailable, match=r"no energy: Insufficient Permissions; Volta .*CAPABILITIES=utility"):
        energy.counter(Device("cuda"))
    gpu(None)
    with pytest.raises(Unavailable, match="does not tell which of several GPUs it uses"):
        energy.counter(Device("cuda"))
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(Unavailable, match="pip install nvidia-ml-py"):
        energy.counter(Device("cuda"))


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
