"""What only a GPU can show: kernels, CUDA graphs, number formats, memory; skipped where there is none."""

import pytest
import torch
from test_real import metric, outcomes, run

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here")
CEILINGS = '''
"""Ceilings of a GPU, small."""
from harness.spec import Suite
from suites.definitions._ceilings import EVERY, PLAIN, ceiling

def suite():
    small = {"rows": 256, "inner": 256, "columns": 256}
    moved = [ceiling("transfer", [PLAIN], direction=way, size=2**20) for way in ("to_device", "to_host")]
    blocks = [ceiling("matmul", EVERY, **small), ceiling("memory", [PLAIN], size=2**24), ceiling("calls", [PLAIN])]
    return Suite(name="own", question="what can it do?", blocks=[*blocks, *moved])
'''
SMALL = ["--set", "device=cuda", "--set", "size=tiny", "--set", "quality_steps=5"]


@pytest.fixture(scope="module")
def modes(tmp_path_factory):
    return run(tmp_path_factory.mktemp("modes"), "compile", *SMALL, "--launches", "2", "--rounds", "4")


def test_every_compile_mode_is_measured_and_its_phases_sum_to_the_step(modes):
    assert {outcome["status"] for outcome in modes.outcomes} == {"ok"}
    for name in outcomes(modes):
        assert (metric(modes, name, "phases_share") - 1).abs().median() <= 0.1


def test_a_replayed_graph_has_no_allocated_peak_but_a_reserved_one(modes):
    assert metric(modes, "reduce-overhead", "memory_peak_bytes").empty
    assert not metric(modes, "reduce-overhead", "memory_reserved_bytes").empty
    assert not metric(modes, "none", "memory_peak_bytes").empty


def test_the_kernel_seen_is_the_one_forced(tmp_path):
    forced = ("formula", "sdpa_math", "sdpa_flash", "sdpa_efficient", "sdpa_cudnn", "flex")
    opened = run(
        tmp_path, "null", *SMALL, "--launches", "1", "--rounds", "2", "--set", "precision=bf16",
        "--vary", f"attention={','.join(forced)}",
    )  # fmt: skip
    for attention in forced:
        outcome = outcomes(opened)[f"a attention={attention}"]
        assert outcome["status"] in ("ok", "unavailable"), outcome["reason"]
        if outcome["status"] == "ok":
            assert outcome["facts"]["attention_actual"] == attention
            assert (metric(opened, f"a attention={attention}", "kernels_per_step") > 0).all()


def test_every_number_format_trains_within_its_tolerance(tmp_path):
    opened = run(tmp_path, "precision", *SMALL, "--launches", "1", "--rounds", "2", "--no-trace")
    for name, outcome in outcomes(opened).items():
        assert outcome["status"] in ("ok", "unavailable"), (name, outcome["reason"])


def test_ceilings_are_measured_in_every_format_and_none_is_wrong(tmp_path):
    own = tmp_path / "own.py"
    own.write_text(CEILINGS)
    opened = run(tmp_path, str(own), "--launches", "1", "--rounds", "2")
    for outcome in opened.outcomes:
        assert outcome["status"] in ("ok", "unavailable"), (outcome["case"], outcome["reason"])
    assert {name for name, outcome in outcomes(opened).items() if outcome["status"] == "ok"} >= {"fp32", "bf16", "int8"}
