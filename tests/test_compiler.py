"""What torch.compile did: breaks, recompilations, sizes, kernels and seconds, counted in a worker."""

import re
import time
from types import SimpleNamespace

import pytest
import torch
from test_probes import CPU, attention_step, mean_square, run_python, sdpa, torch_may_warn

from harness.worker import compiler, insights, probes
from harness.worker.device import Device
from harness.worker.trace import trace

needs_compiler = pytest.mark.skipif(compiler.missing_cpp() is not None, reason="no C++ compiler")


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
    assert re.search(r"\(tests/test_compiler\.py:\d+ in inner\)$", reason)


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
        r"\(tests/test_compiler\.py:\d+ in looping: all of it runs eagerly\)$", found["graph_break_reasons"][0]
    )


@pytest.mark.usefixtures("fresh_counters")
def test_recompiles_are_counted_with_the_guard_that_failed():
    double = torch.compile(lambda x: x * 2, backend="eager", dynamic=False)
    for length in (4, 5, 5, 6):
        double(torch.ones(length))
    found = compiler.counters()
    assert (found["recompiles"], found["graphs"], found["graph_breaks"]) == (2, 3, 0)
    assert "size mismatch at index 0. expected 4, actual 5" in found["recompile_reasons"][0]
    assert re.search(r"\(tests/test_compiler\.py:\d+ in <lambda>\)$", found["recompile_reasons"][0])


@pytest.mark.usefixtures("fresh_counters")
def test_each_compilation_has_its_size_its_place_and_the_guard_that_asked_for_it():
    double = torch.compile(lambda x: (x * 2).sin(), backend="eager", dynamic=False)
    for length in (4, 5):
        double(torch.ones(length))
    first, second = insights.found()["facts"]["compilations"]
    assert (first["operators"], first["guard"], first["outcome"]) == (2, "", "compiled")
    assert first["seconds"] > 0
    assert re.fullmatch(r"tests/test_compiler\.py:\d+ in <lambda>", first["place"])
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
