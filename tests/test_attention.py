"""Every attention backend computes the formula, forward and backward, or refuses; none falls back to another."""

import ast
import subprocess
import sys
import warnings
from contextlib import nullcontext

import pytest
import torch

from harness import names
from harness.worker.ability import refusal

BACKENDS = {named.name: named for named in names.listing("attention")}
RUN_ON_CPU = {"formula", "sdpa", "sdpa_math", "sdpa_flash"}
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 3e-2}
CASES = {  # Lq, Lk, causal, padded
    "plain": (24, 24, False, False),
    "causal": (16, 16, True, False),
    "padding": (24, 24, False, True),
    "causal and padding": (16, 16, True, True),
    "cross": (16, 24, False, False),
    "cross and padding": (16, 24, False, True),
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
    """Return output and gradients of q, k and v, in float64 on the CPU."""
    q_length, k_length, causal, padded = CASES[case]
    generator = torch.Generator().manual_seed(0)
    q, k, v = (  # as a model lays them out
        torch.randn(2, length, 4, 32, generator=generator, dtype=torch.float64).transpose(1, 2)
        .to(device, dtype).requires_grad_(gradients)
        for length in (q_length, k_length, k_length)
    )  # fmt: skip
    mask = torch.arange(k_length)[None, None, None, :] < torch.tensor([k_length - 5, k_length])[:, None, None, None]
    module = BACKENDS[name].module()
    with getattr(module, "around", nullcontext)(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning)  # on CUDA torch warns why it refuses
        output = wrap(module.attention)(q, k, v, causal=causal, mask=mask.to(device) if padded else None)
        weights = torch.linspace(-1, 1, output.numel(), device=device, dtype=dtype).view_as(output)
        found = [output, *(torch.autograd.grad((output * weights).sum(), (q, k, v)) if gradients else ())]
    return [tensor.detach().to("cpu", torch.float64) for tensor in found]


def assert_close(found, expected, tolerance):
    for tensor, reference in zip(found, expected, strict=True):
        assert (tensor - reference).norm() <= tolerance * reference.norm()


def written_out(q, k, v, causal, mask):
    """Return attention one query at a time, straight from its definition."""
    output = torch.zeros_like(q)
    for batch, head, query in torch.cartesian_prod(*map(torch.arange, q.shape[:3])).tolist():
        keys = [key for key in range(k.size(2)) if (key <= query or not causal) and mask[batch, 0, 0, key]]
        weights = torch.stack([q[batch, head, query] @ k[batch, head, key] for key in keys]).div(q.size(3) ** 0.5).exp()
        output[batch, head, query] = (weights / weights.sum()) @ v[batch, head, keys]
    return output


@pytest.mark.parametrize("causal", [False, True])
def test_the_formula_is_the_definition(causal):
    q, k, v = torch.randn(3, 2, 2, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])[:, None, None, :]
    found = BACKENDS["formula"].load()(q, k, v, causal=causal, mask=mask)
    torch.testing.assert_close(found, written_out(q, k, v, causal, mask))


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
        assert bool(found) == (name in RUN_ON_CPU), "else it fell back to another kernel"
    if found:
        assert_close(found, attend("formula", case), TOLERANCE[dtype])


@torch_compiles
@pytest.mark.parametrize("case", ["padding", "causal and padding", "cross and padding"])
def test_flex_agrees_with_the_formula_where_no_gradient_is_asked(case):
    assert_close(attend("flex", case, torch.float32, gradients=False), attend("formula", case)[:1], 1e-5)


@every_case
@pytest.mark.parametrize("name", sorted(RUN_ON_CPU))
def test_a_backend_compiles_without_a_graph_break(name, case):
    found = attend(name, case, wrap=lambda attention: torch.compile(attention, fullgraph=True, backend="eager"))
    assert_close(found, attend("formula", case), 1e-12)


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


@pytest.mark.parametrize("name", sorted(RUN_ON_CPU))
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_a_backend_runs_under_autocast(name, dtype):
    with torch.autocast("cpu", dtype=dtype):
        found = attend(name, "causal and padding", dtype)
    assert_close(found, attend("formula", "causal and padding"), TOLERANCE[torch.bfloat16])


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
assert not [name for name in set(sys.modules) - loaded if not name.startswith("suites.")]
assert torch.backends.cuda.flash_sdp_enabled() and torch.backends.cuda.math_sdp_enabled()
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=names.ROOT, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (0, ""), result.stderr
