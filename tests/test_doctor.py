"""The doctor: power and false alarms on made effects, the fault file, and the whole command with scripted workers."""

import json
import math
import runpy
import signal
import sys

import numpy as np
import pytest

from harness import cli, conditions, doctor, faults, fitness
from harness.doctor import Diagnosis, Fault, Level
from harness.names import ROOT
from reports.doctor import verdict

STEP = {"seconds": 0.05, "noise": 0.003}
SCRIPT = {
    **dict.fromkeys(("base", "control", "again"), STEP),
    "probe": {"seconds": 0.15},
    **{faults.slower(level): {**STEP, "seconds": 0.05 * (1 + level)} for level in faults.LEVELS},
    "more memory": {**STEP, "observed": {"memory_peak_bytes": 1.03e8}},
    "wrong numbers": {"errors": {"output_error": 0.01}},
    "compiled": {"observed": {"graph_breaks": 0}},
    "graph break": {"observed": {"graph_breaks": 2}},
}


@pytest.fixture
def run_doctor(tmp_path, monkeypatch, capsys):
    """Carry out `tandem doctor` with scripted workers; return its exit code and what it printed."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(fitness, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(fitness, "checks", lambda folders: [fitness.of_cores(2, None), fitness.of_steal(0.02)])
    monkeypatch.setattr(conditions, "WORKER", (str(ROOT / "tests/scripted_worker.py"), str(tmp_path / "script.json")))
    monkeypatch.chdir(tmp_path)

    def carry_out(script: dict, *options: str) -> tuple[int, str]:
        (tmp_path / "script.json").write_text(json.dumps(script))
        monkeypatch.setattr(sys, "argv", ["tandem", "doctor", "--quick", "--quiet", *options])
        with pytest.raises(SystemExit) as left:
            cli.main()
        printed = capsys.readouterr()
        return left.value.code, printed.out + printed.err

    return carry_out


def test_a_machine_that_shows_all_faults_is_fit(run_doctor, tmp_path):
    code, out = run_doctor(SCRIPT)
    said = " ".join(out.split())
    assert code == 0, out
    assert "fit to measure, with 1 note" in said
    assert "of gates; false alarms 0 of 400 resampled gates (at most 0.9%" in said
    assert "NOT CAUGHT" not in said
    assert [path.name for path in tmp_path.iterdir()] == ["script.json"]  # no run is left behind


def test_faults_that_go_unseen_are_broken_promises(run_doctor):
    script = SCRIPT | {
        "+20%": STEP,
        "again": {**STEP, "seconds": 0.06},
        "more memory": STEP,
        "wrong numbers": STEP,
        "graph break": SCRIPT["compiled"],
    }
    code, out = run_doctor(script)
    said = " ".join(out.split())
    assert code == 3
    assert "5 promises broken" in said
    assert said.count("NOT CAUGHT") == 3


def test_a_fault_that_this_machine_cannot_run_is_not_tried(run_doctor):
    script = SCRIPT | {"compiled": {"fail": {"verb": "build", "how": "Unavailable"}}}
    code, out = run_doctor(script, "--format", "markdown")
    assert code == 0, out
    assert "not tried" in out


def test_a_probe_that_costs_nothing_is_a_mistake_in_one_sentence(run_doctor):
    code, out = run_doctor(SCRIPT | {"probe": STEP | {"seconds": 0.04}})
    assert code == 2
    assert out == "tandem: extra work took no time: this machine is too busy to measure on; close what else runs\n"


def test_power_grows_with_the_effect_and_falls_with_the_noise():
    def caught(effect: float, noise: float) -> float:
        draw = np.random.default_rng(3)
        effects = math.log1p(effect) + noise * np.array([-1.2, -0.6, 0.0, 0.6, 1.2])
        control = noise * np.array([0.6, -1.2, 1.2, 0.0, -0.6])
        return doctor.judged(effect, effects, doctor.gates(effects, control, draw)).overall

    assert [caught(effect, 0.005) for effect in (0.0, 0.02, 0.05, 0.2)] == [0, 0, 1, 1]
    assert 0 < caught(0.05, 0.015) < 1
    assert caught(0.05, 0.05) < 0.05


def test_a_catch_at_the_first_look_is_told_from_one_at_a_later_look():
    draw = np.random.default_rng(0)
    effects = draw.normal(0.042, 0.012, 11)
    level = doctor.judged(0.04, effects, doctor.gates(effects, draw.normal(0, 0.012, 11), draw))
    assert 0.1 < level.first < level.overall < 1
    assert level.true == pytest.approx(math.expm1(effects.mean()))


def test_resampled_launches_vary_as_the_launches_do():
    effects = [0.01, 0.03, 0.02, 0.05]
    wide = doctor.widened(effects)
    assert wide.mean() == pytest.approx(np.mean(effects))
    assert wide.var() == pytest.approx(np.var(effects, ddof=1))  # of draws with replacement, the plain variance


def diagnosis(**changes: object) -> Diagnosis:
    level = Level(nominal=0.2, true=0.19, first=1.0, overall=1.0)
    return Diagnosis(**{"launches": 5, "alarms": 0, "gates": 400, "levels": (level,), "faults": (), **changes})


def test_promises_are_broken_by_alarms_beyond_chance_a_missed_slowdown_or_an_unseen_fault():
    weak = Level(nominal=0.2, true=0.19, first=0.5, overall=0.94)
    assert diagnosis().broken == []
    assert diagnosis(alarms=20).broken == []
    assert diagnosis(alarms=40).broken == ["false alarms in 40 of 400 resampled gates, more than 5%"]
    assert diagnosis(levels=(weak,)).broken == ["+19.0% was caught in 94% of gates, not in 95%"]
    assert "could be judged" in diagnosis(levels=()).broken[0]
    assert diagnosis(faults=(Fault(name="x", caught=None, seen="no compiler"),)).broken == []
    assert diagnosis(faults=(Fault(name="x", caught=False, seen="y"),)).broken == ["x: not caught, y"]


def test_the_first_line_says_how_fit_the_machine_is():
    assert verdict([], diagnosis()).startswith("fit to measure; false alarms 0 of 400")
    checks = [fitness.of_steal(0.3), fitness.of_steal(0.02), fitness.of_steal(0.03)]
    assert verdict(checks, diagnosis()).startswith("not fit to measure, with 1 bad and 2 notes; ")
    assert "nothing could be judged" in verdict([], diagnosis(alarms=0, gates=0))


def test_the_matrix_products_are_as_many_as_the_slowdown_asks_for():
    assert faults.products(0.02, 0.02 + 1e-5 * faults.PROBE) == {0.02: 40, 0.05: 100, 0.10: 200, 0.20: 400}
    assert min(faults.products(0.001, 10.0).values()) == 1


def test_the_fault_file_does_what_it_is_for(tmp_path):
    import torch

    faults.write_faults(tmp_path, faults.products(0.01, 0.02), growth=2**20)
    written = runpy.run_path(str(tmp_path / faults.FILE))
    q = torch.randn(1, 2, 8, 4, generator=torch.Generator().manual_seed(0))
    right = written["sdpa"](q, q, q, causal=True)
    for level in faults.LEVELS:
        assert torch.equal(written[faults.function(level)](q, q, q, causal=True), right)
    assert torch.equal(written["scaled"](q, q, q, causal=True), faults.SCALED * right)
    assert torch.equal(written["grown"](q, q, q, causal=True), right)
    assert sum(block.nbytes for block in written["KEPT"]) == 2**20
