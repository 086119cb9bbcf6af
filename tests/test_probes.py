"""Probes and the trace, on small training steps of the CPU."""

import json
import re
import subprocess
import sys
import time
from collections import Counter
from contextlib import nullcontext
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from harness.names import find
from harness.worker import clock, probes
from harness.worker.device import Device
from harness.worker.outside import outside
from harness.worker.session import Session
from harness.worker.trace import attention_seen, operators, trace

CPU = Device("cpu")
FLOAT = 4  # bytes
torch_may_warn = pytest.mark.filterwarnings("ignore")  # Dynamo and Inductor raise warnings among themselves


@dataclass
class FakeStep:
    """What the probes need of a training step."""

    model: nn.Module
    work: Any
    accumulate: int = 1
    autocast: Any = field(default_factory=nullcontext)
    evaluate: Any = None

    def __post_init__(self):
        self.evaluate = self.evaluate or self.work.loss
        self.optimizer = torch.optim.AdamW(self.model.parameters())

    def __call__(self, index):
        for _ in self.phases(index):
            pass

    def phases(self, index):
        for _ in range(self.accumulate):
            batch = self.work.batch(index)
            yield "data"
            with self.autocast:
                loss, _ = self.evaluate(self.model, batch)
            yield "forward"
            loss.backward()
            yield "backward"
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        yield "optimizer"


def mean_square(model, batch):
    output = model(*batch)
    return output.square().mean(), output.detach()


def step_of(model, *batch, **options):
    work = SimpleNamespace(batch=lambda index: batch, loss=mean_square)
    return FakeStep(model=model, work=work, **options)


class Attention(nn.Module):
    """Self-attention and nothing else."""

    def __init__(self, attend, heads=2, dim=8):
        super().__init__()
        self.project = nn.Linear(heads * dim, 3 * heads * dim)
        self.attend, self.heads, self.dim = attend, heads, dim

    def forward(self, x):  # (batch, length, heads * dim)
        q, k, v = (part.unflatten(-1, (self.heads, self.dim)).transpose(1, 2) for part in self.project(x).chunk(3, -1))
        return self.attend(q, k, v)


def formula(q, k, v):
    scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
    return scores.masked_fill(torch.ones_like(scores, dtype=torch.bool).triu(1), float("-inf")).softmax(-1) @ v


def sdpa(q, k, v):
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def sdpa_math(q, k, v):
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        return sdpa(q, k, v)


def attention_step(attend, **options):
    return step_of(Attention(attend), torch.ones(2, 16, 16), **options)


def run_python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


# memory


def test_the_peak_holds_a_temporary_and_forgets_an_earlier_one():
    with probes.memory_peak(CPU) as empty:
        pass
    with probes.memory_peak(CPU) as full:
        torch.ones(50 * 2**20)  # 200 MiB
    with probes.memory_peak(CPU) as after:
        pass
    peaks = [turn["memory_peak_bytes"] for turn in (empty, full, after)]
    assert peaks[1] - peaks[0] == pytest.approx(200 * 2**20, rel=0.1)
    assert abs(peaks[2] - peaks[0]) < 20 * 2**20


def test_the_cold_peak_forgets_nothing():
    code = (
        "import torch; from harness.worker import probes, device; cpu = device.Device('cpu')\n"
        "small = probes.memory_cold_peak(cpu); torch.ones(50 * 2**20); large = probes.memory_cold_peak(cpu)\n"
        "print(large['memory_cold_peak_bytes'] - small['memory_cold_peak_bytes'])"
    )
    assert int(run_python(code)) > 150 * 2**20


class Wasteful(nn.Linear):
    """A layer that makes 50 MiB and gives them back."""

    def forward(self, x):
        return super().forward(x) + 0 * torch.ones(50 * 2**18).sum()


def test_the_peak_of_tensors_repeats_to_the_byte():
    plain, wasteful = (step_of(layer(8, 4), torch.ones(32, 8)) for layer in (nn.Linear, Wasteful))

    def peak(step):
        return probes.allocated_peak(step, (1, 2), CPU)["memory_allocated_peak_bytes"]

    peaks = [peak(plain) for _ in range(3)]
    assert len({*peaks}) == 1
    assert peak(wasteful) - peaks[0] == pytest.approx(50 * 2**20, rel=0.01)


def test_the_peak_of_tensors_holds_what_a_settled_worker_keeps():
    step = step_of(nn.Linear(512, 512), torch.ones(4, 512))

    def peak():
        clock.settle_garbage()  # as a worker does, so that collections leave out what is alive
        return probes.allocated_peak(step, (1, 2), CPU)["memory_allocated_peak_bytes"]

    first = peak()
    assert first > 4 * sum(parameter.nbytes for parameter in step.model.parameters())  # gradients, AdamW's two averages
    kept = torch.ones(2**20)
    assert peak() == first + kept.nbytes


class Renewing(nn.Linear):
    """A layer that lets an old tensor go in each step, and makes a new one."""

    kept = None

    def forward(self, x):
        self.kept = None
        self.kept = torch.ones(2**20)
        return super().forward(x)


def test_the_peak_of_tensors_counts_what_each_step_renews_once():
    plain, renewing = (step_of(layer(8, 4), torch.ones(32, 8)) for layer in (nn.Linear, Renewing))
    peaks = [probes.allocated_peak(step, (1, 2), CPU)["memory_allocated_peak_bytes"] for step in (plain, renewing)]
    assert peaks[1] - peaks[0] == pytest.approx(4 * 2**20, rel=0.01)


def test_a_gpu_keeps_its_peak_of_tensors_itself():
    assert probes.allocated_peak(None, (0, 1), Device("cuda")) == {}


def test_where_the_peak_cannot_be_reset_the_key_says_so(monkeypatch):
    monkeypatch.setattr(probes, "forget_peak", lambda device: False)
    with probes.memory_peak(CPU) as peak:
        pass
    assert list(peak) == ["memory_peak_maxrss_bytes"]
    assert peak["memory_peak_maxrss_bytes"] > 50 * 2**20


def test_memory_of_a_small_network_is_attributed_to_the_byte():
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    step = step_of(model, torch.ones(32, 8))
    step(0)
    parameters = (8 * 16 + 16 + 16 * 4 + 4) * FLOAT
    assert probes.attribution(step) == {
        "memory_parameters_bytes": parameters,
        "memory_gradients_bytes": parameters,
        "memory_optimizer_bytes": 2 * parameters + 4 * FLOAT,  # two moments, and a step counter for each of 4 tensors
        # the ReLU's output, kept once for the ReLU and the second layer, and the output for its square
        "memory_activations_bytes": 32 * (16 + 4) * FLOAT,
    }
    assert all(parameter.grad is None for parameter in model.parameters())


def test_tied_weights_and_buffers_count_once():
    first = nn.Linear(8, 8, bias=False)
    second = nn.Linear(8, 8, bias=False)
    second.weight = first.weight
    model = nn.Sequential(first, second)
    model.register_buffer("table", torch.ones(10))
    found = probes.attribution(step_of(model, torch.ones(2, 8)))
    assert found["memory_parameters_bytes"] == (64 + 10) * FLOAT
    assert found["memory_gradients_bytes"] == 64 * FLOAT


def test_autocast_copies_of_weights_are_activations():
    step = step_of(nn.Linear(8, 4, bias=False), torch.ones(2, 8), autocast=torch.autocast("cpu", torch.bfloat16))
    # in bfloat16 the input, the weight (needed for no gradient here, so not kept), and the output in its square
    assert probes.attribution(step)["memory_activations_bytes"] == 2 * 8 * 2 + 2 * 4 * 2
    two = nn.Sequential(nn.Linear(8, 8, bias=False), nn.Linear(8, 4, bias=False))
    step = step_of(two, torch.ones(2, 8), autocast=torch.autocast("cpu", torch.bfloat16))
    assert probes.attribution(step)["memory_activations_bytes"] == (2 * 8 + 2 * 8 + 4 * 8 + 2 * 4) * 2


# phases


class Slow(nn.Module):
    """Does nothing, slowly."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x):
        until = time.perf_counter() + 0.02
        while time.perf_counter() < until:
            pass
        return x * self.weight


def test_phases_sum_to_the_step_and_find_the_slow_one():
    step = step_of(Slow(), torch.ones(1), accumulate=2)
    step(0)
    seconds = probes.phases(step, [range(1, 7)], CPU)
    share = seconds.pop("phases_share")
    assert list(seconds) == ["data_seconds", "forward_seconds", "backward_seconds", "optimizer_seconds"]
    assert 0.9 <= share <= 1.1
    assert seconds["forward_seconds"] >= 0.04
    assert seconds["forward_seconds"] == max(seconds.values())


def test_a_phase_lasts_from_mark_to_mark_over_all_micro_batches(monkeypatch):
    now = iter(range(100))
    monkeypatch.setattr(clock, "perf_counter", lambda: float(next(now)))
    turns = clock.split(lambda index: iter(["data", "forward", "data", "forward", "optimizer"]), range(4), CPU)
    whole, apart = {"step": 1.0}, {"data": 2.0, "forward": 2.0, "optimizer": 1.0}  # each look at the clock takes 1 s
    assert turns == [whole, apart, whole, apart]


# FLOP


def test_flop_of_a_matrix_product_is_exact():
    step = step_of(nn.Linear(8, 16, bias=False), torch.ones(4, 8), accumulate=3)
    forward, weight_gradient = 2 * 4 * 8 * 16, 2 * 4 * 8 * 16  # the input needs no gradient
    assert probes.flop(step) == {
        "flop": 3 * (forward + weight_gradient),
        "forward_flop": 3 * forward,
        "fused_attention_flop": 0,
    }


def test_every_attention_backend_has_the_same_flop():
    found = {attend.__name__: probes.flop(attention_step(attend))["flop"] for attend in (formula, sdpa, sdpa_math)}
    projection = 2 * (2 * 32 * 16 * 48)
    attention = 3 * (2 * 2 * (2 * 2 * 16 * 16 * 8))  # forward two products of full length, backward four
    assert found == dict.fromkeys(("formula", "sdpa", "sdpa_math"), projection + attention)


def test_grouped_heads_have_the_flop_of_as_many_heads_as_the_queries():
    def grouped(attend):
        return lambda q, k, v: attend(q, k[:, :1], v[:, :1], causal=True)

    kept = [find("attention", name).load() for name in ("formula", "sdpa", "sdpa_math")]
    found = [probes.flop(attention_step(grouped(attend)))["flop"] for attend in kept]
    assert found == [probes.flop(attention_step(formula))["flop"]] * 3
    assert probes.attention_forward((2, 4, 16, 8), (2, 1, 16, 8), (2, 1, 16, 8)) == 2 * (2 * 4 * 16 * 16 * 8) * 2


@torch_may_warn
def test_a_compiled_function_is_counted_as_it_is_written():
    step = attention_step(torch.compile(sdpa, backend="aot_eager"))
    step(0)
    assert probes.flop(step) == probes.flop(attention_step(sdpa))


def test_what_the_counter_cannot_run_has_no_flop():
    def refuse(q, k, v):
        raise NotImplementedError("no rule registered for HOP flex_attention")

    assert probes.flop(attention_step(refuse)) == {}


# trace


@pytest.mark.parametrize(("attend", "seen"), [(formula, "formula"), (sdpa, "sdpa_flash"), (sdpa_math, "sdpa_math")])
def test_the_trace_names_the_attention_that_ran(attend, seen, tmp_path):
    found = trace(attention_step(attend), range(3), CPU, tmp_path / "traces")
    assert found["attention_actual"] == seen
    assert found["file"] == next((tmp_path / "traces").iterdir()).name
    assert re.fullmatch(r"cpu\.\d+\.pt\.trace\.json", found["file"])
    assert "kernels_per_step" not in found


def test_a_trace_without_a_kernel_of_its_device_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(Device, "synchronize", lambda self: None)
    found = trace(attention_step(sdpa), range(3), Device("mps"), tmp_path)  # which torch.profiler does not record
    assert found == {"kernels_per_step": 0.0}
    assert not [*tmp_path.iterdir()]


def test_the_operator_table_is_a_step_and_falls(tmp_path):
    found = trace(step_of(nn.Linear(64, 64), torch.ones(64, 64)), range(4), CPU, tmp_path)
    operators = found["operators"]
    seconds = [row["seconds"] for row in operators]
    assert len(operators) == 20
    assert seconds == sorted(seconds, reverse=True)
    assert min(seconds) > 0
    assert {row["name"]: row["calls"] for row in operators}["aten::addmm"] == 1
    events = json.loads((tmp_path / found["file"]).read_text())["traceEvents"]
    assert sum(event["name"] == "aten::addmm" for event in events) == 3


def test_on_a_gpu_an_operator_has_the_time_of_its_kernels():
    def event(key, device, own, on_device, count):
        return SimpleNamespace(
            key=key, device_type=f"DeviceType.{device}", count=count,
            self_cpu_time_total=own, self_device_time_total=on_device,
        )  # fmt: skip

    events = [
        event("aten::mm", "CPU", 10, 3e6, 4),
        event("aten::empty", "CPU", 99, 0, 4),
        event("## Call CompiledFxGraph fabc ##", "CPU", 10, 4e6, 2),
        event("## Call CompiledFxGraph fdef ##", "CPU", 10, 4e6, 2),
        event("sm90_gemm", "CUDA", 0, 3e6, 4),
        event("ProfilerStep*", "CPU", 10, 1e6, 2),
    ]
    assert operators(events, steps=2) == [
        {"name": "CompiledFxGraph (fused kernels)", "seconds": 4.0, "calls": 2.0},
        {"name": "aten::mm", "seconds": 1.5, "calls": 2.0},
    ]


def test_what_forward_and_backward_spend_is_divided_into_library_kernels_generated_code_and_the_rest():
    def event(name, parent, total, own):
        return SimpleNamespace(name=name, cpu_parent=parent, cpu_time_total=total, self_cpu_time_total=own)

    forward, optimizer = event("tandem: forward", None, 100.0, 10.0), event("tandem: optimizer", None, 50.0, 0.0)
    graph = event("## Call CompiledFxGraph fabc ##", event("CompiledFunction", forward, 45.0, 5.0), 40.0, 25.0)
    events = [
        forward, optimizer, graph, graph.cpu_parent,
        event("aten::mm", graph, 15.0, 15.0),
        event("aten::mm", forward, 20.0, 20.0),
        event("aten::softmax", forward, 8.0, 8.0),
        event("aten::mm", optimizer, 50.0, 50.0),
    ]  # fmt: skip
    found = outside(events, steps=2)
    assert found["shares"] == pytest.approx({"library_share": 0.35, "generated_share": 0.25, "outside_share": 0.40})
    assert [(row["name"], row["calls"]) for row in found["outside_compiled"]] == [
        ("aten::mm", 0.5), ("Python that the trace does not name", 0.5), ("aten::softmax", 0.5),
        ("calling compiled graphs: guards, wrappers", 0.5),
    ]  # fmt: skip
    assert outside([forward, optimizer, events[-2]], steps=2) == {}  # no graph is marked: nothing can be told


def test_the_trace_tells_no_host_and_no_folder(tmp_path):
    found = trace(step_of(nn.Linear(2, 2), torch.ones(2, 2)), range(2), CPU, tmp_path)
    written = json.loads((tmp_path / found["file"]).read_text())
    assert written.get("host_name", "") == ""
    assert str(tmp_path) not in json.dumps(written)


@pytest.mark.parametrize(
    ("names", "seen"),
    [
        (["aten::mm"], "formula"),
        (["void pytorch_flash::flash_fwd_kernel<Flash_fwd_kernel_traits<64>>"], "sdpa_flash"),
        (["fmha_cutlassF_bf16_aligned_64x64_rf_sm80(PyTorchMemEffAttention)"], "sdpa_efficient"),
        (["cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16_knob_7_64x128x128"], "sdpa_cudnn"),
        (["aten::_scaled_dot_product_cudnn_attention_backward"], "sdpa_cudnn"),
        (["aten::_scaled_dot_product_efficient_attention"], "sdpa_efficient"),
        (["triton_tem_fused_flex_attention_0"], "flex"),
        (
            ["aten::_scaled_dot_product_flash_attention", "aten::_scaled_dot_product_attention_math"],
            "sdpa_flash+sdpa_math",
        ),
        (["aten::scaled_dot_product_attention", "aten::_softmax"], "formula"),
    ],
)
def test_kernels_on_a_gpu_are_told_apart_by_name(names, seen):
    assert attention_seen(names) == seen


def test_a_tensor_that_only_a_trace_has_holds_no_bytes():
    kept = []
    torch.func.vmap(lambda row: (kept.append(row), row)[1])(torch.ones(3, 2))
    assert isinstance(kept[0], torch.Tensor)
    assert not probes.has_storage(kept[0])
    assert probes.has_storage(torch.ones(2))
    assert probes.held_by_tensors() > 0


# lengths that vary


@pytest.mark.parametrize("lengths", [2, 3, 12])
@pytest.mark.parametrize("start", [0, 5])
def test_each_length_is_observed_whole_and_in_phases_equally_often(lengths, start):
    session = object.__new__(Session)
    session.index, session.step = start, lambda index: None
    runs = session.runs(5, lengths)
    places = Counter((index % lengths, number % 2) for run in runs for number, index in enumerate(run))
    assert set(places.values()) == {5}
    assert len(places) == 2 * lengths


@pytest.mark.alone
def test_phases_of_several_lengths_are_means_over_the_lengths():
    work = SimpleNamespace(batch=lambda index: time.sleep(0.02 * (index % 2)), loss=None)
    step = FakeStep(model=nn.Linear(1, 1), work=work, evaluate=lambda model, batch: (model.weight.sum(), None))
    order = [0, 1, 1, 0, 0, 1, 1, 0]  # short, long, ...: each once whole and once in phases
    found = probes.phases(step, [[number + (number - index) % 2 for number, index in enumerate(order)]], CPU, cycle=2)
    assert found["data_seconds"] == pytest.approx(0.01, rel=0.5)
    assert found["phases_share"] == pytest.approx(1, rel=0.5)
