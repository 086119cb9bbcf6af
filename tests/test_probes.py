"""Probes, compile counters and the trace, on small training steps of the CPU."""

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
from harness.worker import clock, compiler, insights, probes
from harness.worker.device import Device
from harness.worker.outside import outside
from harness.worker.session import Session
from harness.worker.trace import attention_seen, operators, trace

CPU = Device("cpu")
FLOAT = 4  # bytes
needs_compiler = pytest.mark.skipif(compiler.missing_cpp() is not None, reason="no C++ compiler")
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
    seconds = probes.phases(step, range(1, 7), CPU)
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


# compile counters


@pytest.fixture
def fresh_counters():
    import torch._dynamo.utils as utils

    torch._dynamo.reset()
    utils.counters.clear()
    utils.compilation_time_metrics.clear()
    utils.clear_compilation_metrics()


def test_counting_imports_no_compiler():
    code = "import sys; from harness.worker import compiler\nprint(compiler.counters(), 'torch._dynamo' in sys.modules)"
    assert run_python(code).strip() == "{} False"


@pytest.mark.usefixtures("fresh_counters")
def test_a_process_that_compiled_nothing_counts_nothing():
    assert {name: value for name, value in compiler.counters().items() if value} == {}


@pytest.mark.usefixtures("fresh_counters")
def test_graph_breaks_are_counted_once_a_place_with_reason_and_line():
    def inner(x):
        y = x.sin()
        print(end="")
        return y.cos()

    def outer(x):
        return inner(x + 1) * 2

    torch.compile(outer, backend="eager")(torch.ones(3))
    found = compiler.counters()
    assert (found["graph_breaks"], found["graphs"], found["recompiles"]) == (1, 4, 0)
    [reason] = found["graph_break_reasons"]
    assert "print" in reason
    assert re.search(r"\(tests/test_probes\.py:\d+ in inner\)$", reason)


@pytest.mark.usefixtures("fresh_counters")
def test_a_function_that_runs_eagerly_as_a_whole_is_a_graph_break():
    def looping(x):
        for _ in range(3):
            x = x.sin()
            print(end="")
        return x

    torch.compile(looping, backend="eager")(torch.ones(3))
    found = compiler.counters()
    assert found["graph_breaks"] == 1
    assert re.search(
        r"\(tests/test_probes\.py:\d+ in looping: all of it runs eagerly\)$", found["graph_break_reasons"][0]
    )


@pytest.mark.usefixtures("fresh_counters")
def test_recompiles_are_counted_with_the_guard_that_failed():
    double = torch.compile(lambda x: x * 2, backend="eager", dynamic=False)
    for length in (4, 5, 5, 6):
        double(torch.ones(length))
    found = compiler.counters()
    assert (found["recompiles"], found["graphs"], found["graph_breaks"]) == (2, 3, 0)
    assert "size mismatch at index 0. expected 4, actual 5" in found["recompile_reasons"][0]
    assert re.search(r"\(tests/test_probes\.py:\d+ in <lambda>\)$", found["recompile_reasons"][0])


@pytest.mark.usefixtures("fresh_counters")
def test_each_compilation_has_its_size_its_place_and_the_guard_that_asked_for_it():
    double = torch.compile(lambda x: (x * 2).sin(), backend="eager", dynamic=False)
    for length in (4, 5):
        double(torch.ones(length))
    first, second = insights.found()["facts"]["compilations"]
    assert (first["operators"], first["guard"], first["outcome"]) == (2, "", "compiled")
    assert first["seconds"] > 0
    assert re.fullmatch(r"tests/test_probes\.py:\d+ in <lambda>", first["place"])
    assert second["guard"].endswith("size mismatch at index 0. expected 4, actual 5")


@pytest.mark.usefixtures("fresh_counters")
@pytest.mark.filterwarnings("ignore")
def test_a_function_compiled_too_often_is_given_up_and_is_no_graph_break():
    double = torch.compile(lambda x: x * 2, backend="eager", dynamic=False)
    for length in range(2, 12):
        double(torch.ones(length))
    counted, found = compiler.counters(), insights.found()
    assert (counted["graphs"], counted["graph_breaks"]) == (8, 0)
    assert found["counts"]["recompile_limits"] == 1
    assert [row["outcome"] for row in found["facts"]["compilations"]] == ["compiled"] * 8 + [
        "given up: compiled too often"
    ]


def test_what_was_not_compiled_has_no_insights():
    code = "from harness.worker import insights\nprint(insights.found())"
    assert run_python(code).strip() == "{'counts': {}, 'facts': {}}"


def test_kernels_are_counted_by_what_they_fuse():
    code = """
cpp_fused_add_gelu_0 = async_compile.cpp_pybinding(['const float*'], r'''
''')
cpp_fused_add_gelu_3 = async_compile.cpp_pybinding(['const float*'], r'''
''')
triton_poi_fused_sin_1 = async_compile.triton('triton_poi_fused_sin_1', '''
''', device_str='cuda')
async_compile.wait(globals())
aten = torch.ops.aten
    def call(self, args):
        # [Provenance debug handles] extern_kernels.mm:4
        extern_kernels.mm(arg0, arg1, out=buf0)
        cpp_fused_add_gelu_0(buf0, arg2)
        cpp_fused_add_gelu_0(buf1, arg2)
        cpp_fused_add_gelu_3(buf1, arg2)
        buf5 = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default(buf2, buf3, buf4, 0.0, True)
        triton_poi_fused_sin_1.run(buf1, buf2, 4, stream=stream0)
"""
    generated, libraries = insights.kernels([code])
    assert generated == {"cpp_fused_add_gelu": 3, "triton_poi_fused_sin": 1}
    assert libraries == {"mm": 1, "_scaled_dot_product_flash_attention_for_cpu": 1}


@pytest.fixture(scope="module")
def compiled_twice(tmp_path_factory):
    """Train an attention compiled by Inductor with a cold cache, and with the same cache again."""
    import torch._dynamo.utils as utils

    counted = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        for _ in range(2):
            torch._dynamo.reset()
            utils.counters.clear()
            utils.compilation_time_metrics.clear()
            step = attention_step(sdpa, evaluate=torch.compile(mean_square))
            start = time.perf_counter()
            step(0)
            counted.append({"wall": time.perf_counter() - start, **compiler.counters()})
    return step, *counted


@pytest.mark.alone
@needs_compiler
@torch_may_warn
def test_compile_stages_sum_to_the_whole_and_lie_within_the_first_step(compiled_twice):
    _, cold, warm = compiled_twice
    for counted in (cold, warm):
        stages = [counted[f"{stage}_seconds"] for stage in ("dynamo", "aot", "inductor")]
        assert all(stage > 0 for stage in stages)
        assert sum(stages) == pytest.approx(counted["compile_seconds"], rel=1e-6)
        assert 0.5 * counted["wall"] < counted["compile_seconds"] < counted["wall"]
        assert (counted["graphs"], counted["graph_breaks"], counted["recompiles"]) == (1, 0, 0)


@pytest.mark.alone
@needs_compiler
@torch_may_warn
def test_a_filled_cache_saves_inductor_time(compiled_twice):
    _, cold, warm = compiled_twice
    assert warm["inductor_seconds"] < 0.5 * cold["inductor_seconds"]


@pytest.mark.alone
@needs_compiler
@torch_may_warn
def test_a_compiled_step_is_observed_without_compiling_again(compiled_twice, tmp_path):
    step = compiled_twice[0]
    before = compiler.counters()["recompiles"]
    found = probes.attribution(step)
    traced = trace(step, range(1, 4), CPU, tmp_path)
    eager = probes.attribution(attention_step(sdpa))
    assert 0 < found["memory_activations_bytes"] <= eager["memory_activations_bytes"]
    assert traced["attention_actual"] == "sdpa_flash"
    assert "CompiledFxGraph (fused kernels)" in [row["name"] for row in traced["operators"]]
    assert compiler.counters()["recompiles"] == before
    assert sum(traced["shares"].values()) == pytest.approx(1)
    assert min(traced["shares"].values()) > 0
    assert "aten::addmm" not in [row["name"] for row in traced["outside_compiled"]]
    kernels = {row["name"]: row["calls"] for row in insights.found()["facts"]["library_kernels"]}
    assert {"mm", "addmm", "_scaled_dot_product_flash_attention_for_cpu"} <= kernels.keys()


@pytest.mark.parametrize(
    ("version", "attribute", "timers"),
    [
        ("2.0.1", "compilation_metrics", {"_compile": [5.0], "compile_fx.<locals>.fw_compiler": [2.0]}),
        (
            "2.4.1",
            "compilation_time_metrics",
            {"_compile.<locals>.compile_inner": [5.0], "compile_fx.<locals>.fw_compiler_base": [2.0]},
        ),
        (
            "2.9.1",
            "compilation_time_metrics",
            {
                "_compile.compile_inner": [4.0, 1.0],
                "compile_fx.<locals>.fw_compiler_base": [2.0],
                "backward._backward_impl": [1.0],
            },
        ),
    ],
)
def test_seconds_are_found_under_each_releases_names(version, attribute, timers, monkeypatch):
    monkeypatch.setattr(torch, "__version__", version)
    timers |= {"OutputGraph.call_user_compiler": [3.0, 1.0], "compile_fx.<locals>.bw_compiler": [1.0]}
    assert compiler.seconds(SimpleNamespace(**{attribute: timers})) == {
        "compile_seconds": 6.0,
        "dynamo_seconds": 1.0,
        "aot_seconds": 2.0,
        "inductor_seconds": 3.0,
    }


def test_torch_2_0_names_its_graph_breaks_without_their_places():
    utils = SimpleNamespace(counters={"graph_break": {"call_function print": 2}})
    assert compiler.graph_breaks(utils) == ["call_function print"]


def test_a_missing_compiler_is_named(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert compiler.missing_compiler(CPU) == (
        "no C++ compiler: no-such-compiler is not there; install g++, or set CXX to a C++ compiler"
    )
    monkeypatch.setattr(compiler, "find_spec", lambda name: None)
    assert "install triton" in compiler.missing_compiler(Device("cuda"))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("title\n  Explanation: why it is\n  Hint: do", "title: why it is"),
        ("3/1: x == 2     # return x  # home/me/model.py:3 in f", "x == 2"),
        ("call <function f at 0x7f40636fcf40>", "call <function f>"),
        ("in /home/me/project/model.py, line 3", "in project/model.py, line 3"),
        ("x" * 400, "x" * 297 + "..."),
    ],
)
def test_reasons_are_one_short_line_without_addresses_or_paths(text, line):
    assert compiler.reason_line(text) == line


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


# lengths that vary


@pytest.mark.parametrize("lengths", [2, 3, 12])
@pytest.mark.parametrize("start", [0, 5])
def test_each_length_is_observed_whole_and_in_phases_equally_often(lengths, start):
    session = object.__new__(Session)
    session.cycle, session.index = lengths, start
    places = Counter((index % lengths, number % 2) for number, index in enumerate(session.alternating(5)))
    assert set(places.values()) == {5}
    assert len(places) == 2 * lengths


@pytest.mark.alone
def test_phases_of_several_lengths_are_means_over_the_lengths():
    work = SimpleNamespace(batch=lambda index: time.sleep(0.02 * (index % 2)), loss=None)
    step = FakeStep(model=nn.Linear(1, 1), work=work, evaluate=lambda model, batch: (model.weight.sum(), None))
    order = [0, 1, 1, 0, 0, 1, 1, 0]  # short, long, ...: each once whole and once in phases
    found = probes.phases(step, [number + (number - index) % 2 for number, index in enumerate(order)], CPU, lengths=2)
    assert found["data_seconds"] == pytest.approx(0.01, rel=0.5)
    assert found["phases_share"] == pytest.approx(1, rel=0.5)
