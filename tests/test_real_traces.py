"""Traces of a real run, against its timed steps and torch-tb-profiler."""

import os
import subprocess
import sys

import pytest
from test_traces import MICRO, ROOT

from harness.store import open_run
from harness.traces.account import OUTSIDE, account_of
from harness.traces.memory import curve_of
from reports.frame import frame_of
from reports.plugin import profile_of
from reports.traced import traced_case

pytestmark = pytest.mark.alone
SUITE = """
from harness.spec import Block, Suite, Variant, Workload

def suite():
    work = Workload(task="pretraining/causal_lm", model="gpt", size="tiny", batch=4, length=64, settings={"layers": 2})
    variants = [
        Variant(name="v1", device="cpu", threads=1),
        Variant(name="more", attention="more.py", device="cpu", threads=1),
        Variant(name="again", device="cpu", threads=1, checkpoint=True),
    ]
    block = Block(workload=work, variants=variants)
    return Suite(name="own", question="?", blocks=[block], launches=1, rounds=6, quality_steps=0)
"""
MORE = """
import torch
from suites.attention import formula

def attention(q, k, v, **more):
    x = torch.full((200_000,), 0.5)
    for _ in range(40):
        x.erfinv_()  # work that nothing else does, in a cache
    return formula.attention(q, k, v, **more)
"""


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    folder = tmp_path_factory.mktemp("real")
    (folder / "own.py").write_text(SUITE)
    (folder / "more.py").write_text(MORE)
    done = subprocess.run(
        [sys.executable, "-m", "harness.cli", "run", "own.py", "--quiet"],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=150,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    frame = frame_of(open_run(folder / done.stdout.splitlines()[-1]))
    return {case.variant.name: traced_case(frame, case) for case in frame.run.suite.cases}


def test_phases_operators_and_modules_of_real_traces_sum_to_the_timed_step(real):
    for item in real.values():
        assert len(item.trace.steps) == 3
        for table in (item.operators, item.phases, item.modules):
            assert sum(table.values()) == pytest.approx(item.timed)
        assert {"data", "forward", "backward", "optimizer"} <= item.phases.keys()
        assert item.phases[OUTSIDE] < 0.05 * item.timed
        assert {"layers.*.qkv", "layers.*.mlp", "token"} <= item.modules.keys()


def test_phases_of_real_traces_are_those_of_turns_of_their_own(real):
    """Within what a busy machine strays: a phase taken for another would be far off."""
    for item in real.values():
        for phase, observed in item.observed.items():
            assert abs(item.phases[phase] - observed) < 0.4 * item.timed, phase


def test_work_that_one_case_has_more_is_what_differs(real):
    base, more = real["v1"], real["more"]
    names = base.operators.keys() | more.operators.keys()
    differs = {name: more.operators.get(name, 0.0) - base.operators.get(name, 0.0) for name in names}
    assert max(differs, key=differs.get) == "aten::erfinv_"
    assert sum(differs.values()) == pytest.approx(more.timed - base.timed)
    where = {place: spent.calls for place, spent in more.account.spent.items() if place.operator == "aten::erfinv_"}
    assert {(place.phase, place.module) for place in where} == {("forward", "layers.0"), ("forward", "layers.1")}
    assert sum(where.values()) == 2 * 40


def test_what_checkpointing_computes_again_is_of_the_backward_pass_and_of_its_module(real):
    def mm(item, phase):
        spent = item.account.by_module(phase)
        return spent["layers.*.mlp"].calls

    assert mm(real["again"], "forward") == mm(real["v1"], "forward")
    assert mm(real["again"], "backward") > mm(real["v1"], "backward")
    assert real["again"].modules.keys() == real["v1"].modules.keys()


def test_torch_tb_profiler_gives_the_same_times_for_real_traces(real):
    """It names no compiled graph anew, rounds to microseconds, and counts only operators within steps."""
    for item in real.values():
        table = profile_of(item.trace.path).operation_table_by_name["data"]
        theirs = {row["name"]: (row["host_self_duration"], row["calls"]) for row in table}
        ours = [account_of(item.trace, step).by_operator() for step in item.trace.steps]
        for name in ours[0].keys() & theirs.keys():
            seconds, calls = theirs[name]
            assert sum(step[name].calls for step in ours) == calls, name
            own = sum(step[name].seconds for step in ours) / MICRO
            assert own == pytest.approx(seconds, rel=0.01, abs=2), name


def test_the_memory_of_a_real_step_ends_where_it_began(real):
    curve = curve_of(real["v1"].trace, real["v1"].account)
    assert curve.peak.point.phase in ("forward", "backward")
    assert curve.peak.point.size > 2**20
    assert abs(curve.points[-1].size) < 2**16
    assert sum(curve.peak.alive.values()) - curve.peak.given_back == curve.peak.point.size
    at_most = max(point.size for point in curve.points)
    assert curve.peak.point.size == at_most
