"""Every attention backend computes the formula, forward and backward, or refuses; none falls back to another."""

import ast
import subprocess
import sys
import warnings
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace

import pytest
import torch

from harness import names
from harness.worker.ability import refusal
from suites.attention import flex
from suites.attention.sdpa import takes_groups

BACKENDS = {named.name: named for named in names.listing("attention")}
RUN_ON_CPU = {"formula", "sdpa", "sdpa_math", "sdpa_flash"}
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 3e-2}


@dataclass(frozen=True, kw_only=True)
class Case:
    """What an attention is asked to do; there are 4 heads."""

    q_length: int = 24
    k_length: int = 24
    causal: bool = False
    padded: bool = False
    key_heads: int = 4
    bias: tuple[int, ...] = ()
    """Shape; without one there is no bias."""


CASES = {
    "plain": Case(),
    "causal": Case(causal=True),
    "padding": Case(padded=True),
    "causal and padding": Case(causal=True, padded=True),
    "cross": Case(q_length=16),
    "cross and padding": Case(q_length=16, padded=True),
    "grouped": Case(key_heads=2),
    "one key head, causal": Case(key_heads=1, causal=True),
    "grouped, causal and padding": Case(key_heads=2, causal=True, padded=True),
    "bias": Case(bias=(1, 4, 24, 24)),
    "bias, causal": Case(bias=(1, 4, 24, 24), causal=True),
    "bias, causal and padding": Case(bias=(1, 4, 24, 24), causal=True, padded=True),
    "cross, a bias of each row, padding": Case(q_length=16, bias=(2, 1, 16, 24), padded=True),
    "grouped, a bias of each key": Case(key_heads=2, bias=(1, 1, 1, 24)),
}

every_backend = pytest.mark.parametrize("name", BACKENDS)
every_case = pytest.mark.parametrize("case", CASES)
every_device = pytest.mark.parametrize("device", DEVICES)
torch_compiles = pytest.mark.filterwarnings("ignore:.*torch.jit.script_method.*:DeprecationWarning")  # Inductor's own


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Tensors this small are slower on many threads, and far slower where others use the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def attend(name, case, dtype=torch.float64, device="cpu", wrap=lambda attention: attention, gradients=True):
    """Return output and gradients of q, k, v and the bias, in float64 on the CPU."""
    case = CASES[case]
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    shapes = (case.q_length, 4), (case.k_length, case.key_heads), (case.k_length, case.key_heads)
    drawn = [draw(2, *shape, 32).transpose(1, 2) for shape in shapes]  # as a model lays them out
    drawn += [draw(*case.bias)] if case.bias else []
    q, k, v, *bias = inputs = [tensor.to(device, dtype).requires_grad_(gradients) for tensor in drawn]
    real = torch.tensor([case.k_length - 5, case.k_length])[:, None, None, None]
    options = {"causal": case.causal, "mask": (torch.arange(case.k_length) < real).to(device) if case.padded else None}
    options |= {"bias": bias[0]} if bias else {}
    module = BACKENDS[name].module()
    with getattr(module, "around", nullcontext)(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning)  # on CUDA torch warns why it refuses
        output = wrap(module.attention)(q, k, v, **options)
        weights = torch.linspace(-1, 1, output.numel(), device=device, dtype=dtype).view_as(output)
        found = [output, *(torch.autograd.grad((output * weights).sum(), inputs) if gradients else ())]
    return [tensor.detach().to("cpu", torch.float64) for tensor in found]


def runs_on_cpu(name, case, gradients=True):
    """Tell whether torch has a kernel; FlashAttention's gives a bias no gradient."""
    return name in RUN_ON_CPU and not (name == "sdpa_flash" and CASES[case].bias and gradients)


def assert_close(found, expected, tolerance):
    for tensor, reference in zip(found, expected, strict=True):
        assert (tensor - reference).norm() <= tolerance * reference.norm()


def written_out(q, k, v, causal, mask, bias):
    """Return attention one query at a time, straight from its definition."""
    output = torch.zeros_like(q)
    for batch, head, query in torch.cartesian_prod(*map(torch.arange, q.shape[:3])).tolist():
        group = head // (q.size(1) // k.size(1))
        keys = [key for key in range(k.size(2)) if (key <= query or not causal) and mask[batch, 0, 0, key]]
        scores = torch.stack([q[batch, head, query] @ k[batch, group, key] for key in keys]) / q.size(3) ** 0.5
        weights = (scores + bias[0, head, query, keys]).exp()
        output[batch, head, query] = (weights / weights.sum()) @ v[batch, group, keys]
    return output


@pytest.mark.parametrize("key_heads", [1, 2, 4])
@pytest.mark.parametrize("causal", [False, True])
def test_the_formula_is_the_definition(causal, key_heads):
    generator = torch.Generator().manual_seed(0)
    q, k, v, bias = (
        torch.randn(shape, dtype=torch.float64, generator=generator)
        for shape in ((2, 4, 5, 8), (2, key_heads, 5, 8), (2, key_heads, 5, 8), (1, 4, 5, 5))
    )
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])[:, None, None, :]
    found = BACKENDS["formula"].load()(q, k, v, causal=causal, mask=mask, bias=bias)
    torch.testing.assert_close(found, written_out(q, k, v, causal, mask, bias))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@every_device
@every_case
@every_backend
def test_a_backend_agrees_with_the_formula_or_refuses(name, case, device, dtype):
    try:
        found = attend(name, case, dtype, device)
    except Exception as error:
        if not refusal(error, []):  # then the worker would not take it for one
            raise
        found = []
    if device == "cpu":
        assert bool(found) == runs_on_cpu(name, case), "else it fell back to another kernel"
    if found:
        assert_close(found, attend("formula", case), TOLERANCE[dtype])


@torch_compiles
@pytest.mark.parametrize("name", ["flex", "sdpa_flash"])
@pytest.mark.parametrize("case", [name for name, case in CASES.items() if case.padded or case.bias])
def test_a_backend_agrees_with_the_formula_where_no_gradient_is_asked(name, case):
    torch._dynamo.reset()  # which counts how often it compiled for another shape, and gives up
    assert_close(attend(name, case, torch.float32, gradients=False), attend("formula", case)[:1], 1e-5)


@pytest.mark.parametrize("name", ["flex", "sdpa_cudnn", "sdpa_flash"])
def test_a_kernel_without_a_gradient_for_a_bias_says_so(name, monkeypatch):
    monkeypatch.setattr(flex, "LEARNS_BIAS", False)  # as before torch 2.6
    q, bias = torch.zeros(1, 2, 8, 16), torch.zeros(1, 2, 8, 8, requires_grad=True)
    with pytest.raises(NotImplementedError, match="has no gradient for a bias"):
        BACKENDS[name].load()(q, q, q, causal=True, bias=bias)


def test_heads_that_do_not_divide_are_refused():
    q, k = torch.zeros(1, 4, 8, 16), torch.zeros(1, 3, 8, 16)
    for name in sorted(RUN_ON_CPU):
        with pytest.raises(RuntimeError):
            BACKENDS[name].load()(q, k, k, causal=True)


@pytest.mark.parametrize("device", ["cpu", "cuda", "xpu"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_grouped_heads_go_as_they_are_only_to_a_kernel_that_knows_them(device, dtype):
    q = SimpleNamespace(device=torch.device(device), dtype=dtype)
    assert takes_groups(q, None) == (device == "cpu" or (device == "cuda" and dtype == torch.bfloat16))
    assert takes_groups(q, torch.ones(1)) == (device == "cpu")


@every_case
@pytest.mark.parametrize("name", sorted(RUN_ON_CPU))
def test_a_backend_compiles_without_a_graph_break(name, case):
    gradients = runs_on_cpu(name, case)
    torch._dynamo.reset()
    wrap = partial(torch.compile, fullgraph=True, backend="eager")
    found = attend(name, case, wrap=wrap, gradients=gradients)
    assert_close(found, attend("formula", case, gradients=gradients), 1e-12)


@pytest.mark.parametrize("backend", [None, "aot_eager"], ids=["eager", "compiled"])
@pytest.mark.parametrize(
    ("name", "present", "absent"),
    [("sdpa_flash", "_flash_attention_for_cpu", "bmm"), ("sdpa_math", "bmm", "_flash_attention_for_cpu")],
)
def test_a_pinned_kernel_is_the_one_that_runs(name, present, absent, backend):
    torch._dynamo.reset()
    wrap = (lambda attention: torch.compile(attention, backend=backend)) if backend else (lambda attention: attention)
    with torch.profiler.profile() as profile:
        attend(name, "causal", wrap=wrap)
    operators = " ".join(event.key for event in profile.key_averages())
    assert present in operators
    assert absent not in operators


@pytest.mark.parametrize("name", ["formula", "sdpa", "sdpa_math", "sdpa_flash"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("case", ["causal and padding", "grouped, causal and padding", "bias, causal and padding"])
def test_a_backend_runs_under_autocast(case, name, dtype):
    gradients = runs_on_cpu(name, case)
    with torch.autocast("cpu", dtype=dtype):
        found = attend(name, case, dtype, gradients=gradients)
    assert_close(found, attend("formula", case, gradients=gradients), TOLERANCE[torch.bfloat16])


def test_under_autocast_a_bias_may_be_wider_than_the_queries():
    generator = torch.Generator().manual_seed(0)
    q, bias = torch.randn(1, 2, 8, 16, generator=generator), torch.randn(1, 2, 8, 8, generator=generator)
    expected = BACKENDS["formula"].load()(q, q, q, causal=True, bias=bias)
    for name in ("formula", "sdpa"):
        with torch.autocast("cpu", torch.bfloat16):
            found = BACKENDS[name].load()(*[q.bfloat16()] * 3, causal=True, bias=bias)
        assert_close([found.float()], [expected], TOLERANCE[torch.bfloat16])


@every_backend
def test_what_a_backend_requires_is_read_without_importing(name):
    requires = BACKENDS[name].literal("REQUIRES", {})
    assert set(requires) <= {"torch", "device", "compiler"}
    assert (name == "formula") == (requires == {}), "formula alone runs everywhere"


@pytest.mark.parametrize("folder", ["attention", "models"])
def test_every_file_says_in_one_line_what_it_is(folder):
    for path in (names.ROOT / "suites" / folder).glob("*.py"):
        first, *_ = (ast.get_docstring(ast.parse(path.read_text())) or "").split("\n")
        assert first.endswith("."), path


def test_importing_does_nothing():
    code = """
import pkgutil, sys, torch, suites.attention, suites.models
before = torch.get_rng_state(), set(vars(torch.backends.cuda)), torch.is_grad_enabled(), torch.get_default_dtype()
loaded = set(sys.modules)
for package in suites.attention, suites.models:
    for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        __import__(module.name)
after = torch.get_rng_state(), set(vars(torch.backends.cuda)), torch.is_grad_enabled(), torch.get_default_dtype()
assert torch.equal(before[0], after[0]) and before[1:] == after[1:]
assert not [name for name in set(sys.modules) - loaded if not name.startswith(("suites.", "harness"))]
assert torch.backends.cuda.flash_sdp_enabled() and torch.backends.cuda.math_sdp_enabled()
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=names.ROOT, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (0, ""), result.stderr
