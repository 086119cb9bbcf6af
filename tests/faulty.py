"""Attention functions that each go wrong in their own way."""

import os
import signal
import time

import torch

from suites.attention.formula import attention as formula


def prints(q, k, v, *, causal, mask=None):
    os.write(1, b'{"ok": true, "seconds": [0.0]}\n' * 1000)  # would be taken for replies
    print("a library that prints\n" * 1000)
    return formula(q, k, v, causal=causal, mask=mask)


def raises(q, k, v, *, causal, mask=None):
    raise RuntimeError("the model has a bug")


def crashes(q, k, v, *, causal, mask=None):
    os.kill(os.getpid(), signal.SIGSEGV)


def hangs(q, k, v, *, causal, mask=None):
    time.sleep(600)


def runs_out_of_memory(q, k, v, *, causal, mask=None):
    return torch.empty(1 << 50)


def gives_nan(q, k, v, *, causal, mask=None):
    return formula(q, k, v, causal=causal, mask=mask) * float("nan")


def is_wrong(q, k, v, *, causal, mask=None):
    return formula(q, k, v, causal=False, mask=mask)


def refuses(q, k, v, *, causal, mask=None):
    raise NotImplementedError("no such kernel on this device")


def takes_no_bf16(q, k, v, *, causal, mask=None):
    if q.dtype != torch.float64:
        return formula(q, k, v, causal=causal, mask=mask)
    raise TypeError("no float64 here")
