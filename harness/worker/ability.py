"""Ability: whether this interpreter and machine can run a variant at all, and if not, why."""

import re
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from multiprocessing import get_all_start_methods
from pathlib import Path
from typing import Any

import torch

from harness.errors import Unavailable
from harness.names import Named
from harness.worker import precision
from harness.worker.device import Device, resolve

# How it is said where there is no exception type for it: a forced SDPA kernel on CUDA and on the CPU, a missing
# operator, either of them inside a compiled graph, and an attention of one's own in a model that has a bias.
NO_SUCH_KERNEL = (
    "No available kernel", "No viable backend", "not implemented for", "NotImplementedError",
    "unexpected keyword argument 'bias'",
)  # fmt: skip
DTYPES = {**precision.AUTOCAST, **precision.PARAMETERS}


def usable_device(variant: Mapping[str, Any], attention: Named, *, trains: bool = True) -> Device:
    """Return the variant's device; raise Unavailable if it, or what the variant asks of it, is missing here."""
    device = resolve(variant["device"])
    precision.refuse(variant["precision"], device, trains=trains)
    needs = {"device": [device.kind], **attention.literal("REQUIRES", {})}
    if older(torch.__version__, needs.get("torch", "0")):
        raise Unavailable(f"{attention.name} needs torch {needs['torch']} or newer; this is {torch.__version__}")
    if device.kind not in needs["device"]:
        raise Unavailable(
            f"{attention.name} runs on {' or '.join(needs['device'])} only; this case runs on {device.kind}"
        )
    if variant["pinned"] and device.kind != "cuda":
        raise Unavailable(f"pinned memory serves copies to a CUDA device; this case runs on {device.kind}")
    if variant["workers"] and "fork" not in get_all_start_methods():
        raise Unavailable("the loader's workers are forked, which this system cannot do")
    if variant["compile"] != "none" and not hasattr(torch, "compile"):
        raise Unavailable(f"torch.compile needs torch 2.0 or newer; this is {torch.__version__}")
    if variant["compile"] != "none" or needs.get("compiler"):
        from harness.worker.compiler import missing_compiler

        if reason := missing_compiler(device):
            raise Unavailable(reason)
    return device


@contextmanager
def refusing() -> Iterator[None]:
    """Turn what torch refuses inside into Unavailable, with what it warned as the reason."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield
        except Exception as error:
            warned = [str(item.message) for item in caught if issubclass(item.category, UserWarning)]
            if reason := refusal(error, [*dict.fromkeys(text.split("(Triggered")[0].strip() for text in warned)]):
                raise Unavailable(reason) from error
            raise


def try_attention(variant: Mapping[str, Any], attention: Named, device: Device) -> None:
    """Train a few elements through an attention alone; raise Unavailable if torch refuses even that.

    What it refuses only at a shape, a mask, a bias or grouped heads still shows in the case's first step.
    """
    dtype = DTYPES.get(variant["precision"], torch.float32)
    q, k, v = (torch.zeros(1, 2, 32, 16, device=device.torch, dtype=dtype, requires_grad=True) for _ in range(3))
    attend = attention.load()
    with refusing(), getattr(attention.module(), "around", nullcontext)():
        try:
            attend(q, k, v, causal=False).sum().backward()
        except Exception:  # one that is made for causal attention alone may do that
            attend(q, k, v, causal=True).sum().backward()


def strays(tree: Mapping[str, str] | None) -> list[str]:
    """Return the files of the working tree that were imported though the case's commit is checked out elsewhere."""
    if tree is None:
        return []
    top, checkout = Path(tree["top"]), Path(tree["checkout"])
    allowed = (checkout, Path(sys.base_prefix), Path(__file__).resolve().parents[1])  # this package is no side's
    found = []
    for module in list(sys.modules.values()):
        path = Path(getattr(module, "__file__", None) or "/").resolve()
        is_fine = "site-packages" in path.parts or any(map(path.is_relative_to, allowed))
        if path.is_relative_to(top) and not is_fine:
            found.append(str(path.relative_to(top)))
    return sorted(found)


def older(version: str, needed: str) -> bool:
    """Tell whether release `version` comes before `needed`."""
    return release(version) < release(needed)


def release(version: str) -> tuple[int, int]:
    """Return major and minor of a version such as `2.13.0+cpu`."""
    major, minor, *_ = (version + ".0").split(".")
    return int(major), int(minor)


def refusal(error: BaseException, notes: list[str]) -> str | None:
    """Return why torch cannot do this here, if that is what an exception of the first step says, else None."""
    cause: BaseException | None = error
    while cause is not None:
        lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
        said = next((line for line in lines if any(sign in line for sign in NO_SUCH_KERNEL)), None)
        if isinstance(cause, NotImplementedError) and 'missing the required "forward"' not in str(cause):
            said = said or (lines or ["not implemented"])[0]
        if said:
            quoted = re.search(r"\w+Error\((['\"])(.+)\1\)", said)  # Dynamo's way of naming what was raised
            return ". ".join([(quoted[2] if quoted else said).rstrip("."), *notes])
        cause = cause.__cause__ or cause.__context__
    return None
