"""A matrix product, (rows, inner) x (inner, columns), in any precision that the device multiplies in."""

from collections.abc import Callable
from itertools import cycle
from math import ceil
from time import perf_counter

import torch
from torch import Tensor

from harness.errors import Unavailable
from harness.work import Ceiling, Place

DTYPES = {
    "fp64": torch.float64, "fp32": torch.float32, "tf32": torch.float32, "fp16": torch.float16,
    "bf16": torch.bfloat16, "bf16_pure": torch.bfloat16, "int8": torch.int8,
}  # fmt: skip
WORK = 2e9
"""FLOP of a step on a CPU, at least: some 10 ms, beside which calling and timing count for nothing."""
COLD_BYTES = 2**28  # more than the caches of most processors hold
TRIAL, TRIALS, TOO_LONG = 256, 5, 2.0  # side of a product that tells, how often, seconds
CHECKED = 16  # rows whose result is computed in float64, too


def prepare(place: Place, *, rows: int, inner: int, columns: int, cold: bool = False) -> Ceiling:
    """Return products of one pair of random matrices, or with `cold` of as many as no cache holds."""
    multiply, dtype = product(place), dtype_of(place)
    size = torch.empty((), dtype=dtype).element_size() * (rows * inner + inner * columns)
    count = ceil(COLD_BYTES / size) + 1 if cold else 1
    pairs = [operands(place.device, dtype, rows, inner, columns) for _ in range(count)]
    if place.device.type == "cpu":
        refuse_emulated(place, multiply, dtype, 2.0 * rows * inner * columns)
    following, repeats = cycle(pairs), ceil(WORK * place.effort / (2 * rows * inner * columns))
    result = multiply(*pairs[0])  # written over from here on: what is new is mapped and zeroed first

    def step() -> Tensor:
        for _ in range(repeats):
            multiply(*next(following), out=result)
        return result

    def error() -> float:
        a, b = pairs[0]
        found = multiply(a, b, out=result)[:CHECKED].cpu().double()
        expected = a[:CHECKED].cpu().double() @ b.cpu().double()
        return float((found - expected).norm() / expected.norm())

    return Ceiling(step=step, amount={"flop": 2.0 * rows * inner * columns * repeats}, error=error)


def refuse_emulated(place: Place, multiply: Callable[..., Tensor], dtype: torch.dtype, flop: float) -> None:
    """Raise Unavailable where a format is multiplied so slowly that one product would take `TOO_LONG` seconds.

    A CPU without instructions for float16 takes half a minute for what float32 has in a fifth of a second.
    """
    trial, seconds = operands(place.device, dtype, TRIAL, TRIAL, TRIAL), []
    for _ in range(TRIALS):  # no figure: it only tells emulation from instructions, whatever else the machine does
        began = perf_counter()
        multiply(*trial)
        seconds.append(perf_counter() - began)
    rate = 2.0 * TRIAL**3 / min(seconds)
    if flop / rate > TOO_LONG:
        raise Unavailable(
            f"{place.precision} is emulated here, at {rate / 1e9:.2g} GFLOP/s: too slow for such a product"
        )


def dtype_of(place: Place) -> torch.dtype:
    """Return the number format of a precision's operands; raise Unavailable where it is not multiplied in."""
    if place.precision != "fp8":
        return DTYPES[place.precision]
    if not hasattr(torch, "float8_e4m3fn"):
        raise Unavailable(f"float8 needs torch 2.1 or newer; this is {torch.__version__}")
    if place.device.type != "cuda" or torch.cuda.get_device_capability(place.device) < (8, 9):
        raise Unavailable("float8 is multiplied by NVIDIA GPUs of compute capability 8.9 or newer")
    return torch.float8_e4m3fn


def operands(device: torch.device, dtype: torch.dtype, rows: int, inner: int, columns: int) -> tuple[Tensor, Tensor]:
    """Return two matrices to multiply, each laid out as the device takes it fastest."""
    a, b = drawn((rows, inner), dtype, device), drawn((inner, columns), dtype, device)
    if device.type == "cuda" and b.element_size() == 1:  # tensor cores take the second one column by column
        b = b.t().contiguous().t()
    return a, b


def drawn(shape: tuple[int, int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return random numbers: zeros, or the same numbers again, would let a processor save power."""
    if dtype == torch.int8:
        return torch.randint(-128, 128, shape, dtype=dtype, device=device)
    return torch.randn(shape, device=device).to(dtype)


def product(place: Place) -> Callable[..., Tensor]:
    """Return what multiplies two matrices, into `out` if it is given; int8 into int32, fp8 into bfloat16."""
    if place.precision == "int8":
        if not hasattr(torch, "_int_mm"):
            raise Unavailable(f"int8 products need torch 2.1 or newer; this is {torch.__version__}")
        return torch._int_mm
    return scaled if place.precision == "fp8" else torch.mm


def scaled(a: Tensor, b: Tensor, out: Tensor | None = None) -> Tensor:
    """Return the product of two float8 matrices, both with a scale of 1."""
    one = torch.ones((), device=a.device)
    found = torch._scaled_mm(a, b, scale_a=one, scale_b=one, out_dtype=torch.bfloat16, out=out)
    return found[0] if isinstance(found, tuple) else found  # a pair before torch 2.5
