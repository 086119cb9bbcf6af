"""What a worker says that it cannot do before it has tried a step, and what is not the case's fault."""

import json
import os
from dataclasses import asdict

import numpy as np
import pytest

from harness.errors import DISK, Unavailable
from harness.spec import Variant
from harness.worker.__main__ import attempt, disk_error
from harness.worker.ability import refusing
from harness.worker.session import hello


def unavailable(**fields: object) -> str | None:
    variant = asdict(Variant(name="v", device="cpu", **fields))
    return hello({"can": [variant]})["unavailable"][0]


@pytest.mark.filterwarnings("ignore")  # Dynamo and Inductor raise warnings among themselves
def test_an_attention_that_torch_refuses_is_known_before_a_run():
    assert unavailable(attention="sdpa_flash") is None
    assert unavailable(attention="formula", precision="bf16") is None
    assert unavailable(attention="flex").startswith("FlexAttention does not support backward on CPU")
    assert "cuda" in unavailable(attention="sdpa_cudnn")


def test_an_attention_that_fails_in_its_own_way_is_left_to_the_run(tmp_path, capsys):
    (tmp_path / "own.py").write_text("def attention(q, k, v, *, causal, mask=None):\n    raise ValueError('not yet')\n")
    assert unavailable(attention=f"{tmp_path}/own.py") is None
    assert "not yet" in capsys.readouterr().err


def test_an_attention_that_takes_no_bias_is_unavailable_to_a_model_that_has_one():
    def attention(q, k, v, *, causal, mask=None):
        return q

    with pytest.raises(Unavailable, match=r"attention\(\) got an unexpected keyword argument 'bias'"), refusing():
        attention(1, 2, 3, causal=False, bias=4)


@pytest.mark.parametrize("number", DISK)
def test_a_full_disk_is_told_from_a_failure_of_the_case(number):
    def compile_kernel(message: dict) -> dict:
        try:
            raise OSError(number, os.strerror(number))
        except OSError as error:
            raise RuntimeError("the compiler failed") from error

    reply = json.loads(attempt(compile_kernel, b"{}\n"))
    assert (reply["ok"], reply["errno"]) == (False, number)
    assert disk_error(RuntimeError(f"g++: fatal error: {os.strerror(number)}")) == number
    assert disk_error(ValueError("disk")) is None


def test_a_reply_that_cannot_be_written_is_a_failure_and_no_dead_worker():
    reply = json.loads(attempt(lambda message: {"metrics": {"tokens": np.int64(3)}}, b"{}\n"))
    assert (reply["ok"], reply["error"]) == (False, "TypeError")
    assert "int64" in reply["message"]
