"""Hardware runs and passports: how ceilings are measured, and what follows from them."""

import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from test_run import Bench, alive_workers, outcomes

from harness import names, passport, stored
from harness.commands.hardware import measure
from harness.commands.report import rendered
from harness.errors import UserError
from harness.passport import Ceilings, ceilings
from harness.spec import Variant, Workload
from harness.stats import exactly
from harness.traces.read import trace_files
from reports.document import Quantity
from reports.frame import frame_of
from reports.report import document_of as report
from reports.views import distance, hardware, shares

SUITE = '''
"""Ceilings for scripted workers, then a model."""
from harness.spec import Block, Suite, Variant, Workload

def ceiling(task, names, **settings):
    variants = [Variant(name=name, threads=1 if name == "one thread" else None) for name in names]
    return Block(workload=Workload(task="ceilings/" + task, settings=settings), variants=variants)

def suite():
    model = Workload(task="pretraining/causal_lm", model="gpt", size="tiny", batch=2, length=16)
    product = dict(rows=64, inner=64, columns=64)
    how = dict(launches=2, rounds=4, timeout=20, quality_steps=0)
    return Suite(name="scripted", question="what can it do?", **how, blocks=[
        Block(workload=model, variants=[Variant(name="a")]),
        ceiling("matmul", ["product", "one thread"], **product),
        *(ceiling("memory", ["memory"], operation="triad", size=size) for size in (2**20, 2**28)),
        ceiling("sustained", ["sustained"], **product),
    ])
'''
SCRIPT = {
    "a": {"seconds": 0.1, "observed": {"flop": 2e9, "forward_flop": 0.7e9, "forward_seconds": 0.03,
          "backward_seconds": 0.06, "optimizer_seconds": 0.01, "memory_parameters_bytes": 1e6,
          "memory_gradients_bytes": 1e6, "memory_optimizer_bytes": 2e6, "memory_activations_bytes": 4e6}},
    "product": {"seconds": 0.02, "amount": {"flop": 2e9}},
    "one thread": {"seconds": 0.04, "amount": {"flop": 2e9}},
    "memory": {"seconds": 0.05, "amount": {"moved_bytes": 1e9}},
    "sustained": {"seconds": 0.02, "amount": {"flop": 2e9}},
}  # fmt: skip


class Machine(Bench):
    """A bench whose suite has ceilings."""

    def __init__(self, folder: Path, **changes: dict) -> None:
        super().__init__(folder, {**SCRIPT, **changes})
        (folder / "own.py").write_text(SUITE)

    def settings(self) -> dict:
        settings = super().settings()
        return {**settings, "env": {**settings["env"], "XDG_CACHE_HOME": str(self.folder / "cache")}}


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hardware")
    done, run = Machine(folder).run()
    assert done.returncode == 0, done.stderr
    return done, run


def center(run, name, metric):
    case = next(case for case in run.suite.cases if case.variant.name == name)
    return frame_of(run).center(case, metric)


def one_line(done):
    return " ".join(done.stdout.split())


def test_ceilings_are_rates_and_are_measured_before_the_models(measured):
    _, run = measured
    assert center(run, "product", "flop_per_second") == pytest.approx(1e11)
    assert center(run, "memory", "bytes_per_second") == pytest.approx(2e10)
    events = [json.loads(line) for line in (run.path / "events.jsonl").read_text().splitlines()]
    verbs = [event["verb"] for event in events if "to" in event]
    assert "build" in verbs
    assert max(place for place, verb in enumerate(verbs) if verb == "probe") < verbs.index("build")


def test_ceilings_of_one_environment_share_a_process_a_launch(measured):
    _, run = measured
    events = [json.loads(line) for line in (run.path / "events.jsonl").read_text().splitlines()]
    asked = {event["to"] for event in events if event.get("verb") == "probe" and "to" in event}
    assert len(asked) == 2  # all threads, and one
    hellos = [event["to"] for event in events if event.get("verb") == "hello" and event.get("to") in asked]
    assert len(hellos) == 2 * run.suite.launches


def test_a_lasting_ceiling_has_its_turns_on_end_and_once(measured):
    _, run = measured
    rows = run.samples()
    case = next(case for case in run.suite.cases if case.variant.name == "sustained").id
    timed = rows[(rows["case"] == case) & (rows["metric"] == "step_seconds")]
    turns = names.find("ceiling", "ceilings/sustained").literal("TURNS", 0)
    assert sorted(timed["round"].unique()) == [*range(1, turns + 1)]
    assert set(timed["launch"]) == {1}
    assert len(timed) == turns * 50  # a second of steps of 20 ms


def test_a_lasting_ceiling_is_held_against_the_same_products_in_short_turns(measured):
    done, _ = measured
    words = "after 30 s of load it has 100% of the rate that it began with and 100% of that of short turns, 40 °C"
    assert words in one_line(done)


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({}, "it throttles, by heat or by its limit of power, or its host gave less"),
        ({"held_by_power": 1.0, "held_by_heat": 0.1}, "its clock is held down by its limit of power, so"),
        ({"held_by_power": 0.9, "held_by_heat": 0.8}, "its clock is held down by its limit of power and by heat"),
        ({"held_by_power": 0.0, "held_by_heat": 0.0}, "neither its limit of power nor heat holds its clock"),
    ],
)
def test_what_takes_the_rate_under_load_is_told_where_the_device_tells(told, words):
    assert hardware.cause(SimpleNamespace(center=lambda case, metric: told.get(metric)), "a").startswith(words)


def test_ceilings_of_one_process_share_the_least_time_of_warming_up(measured):
    _, run = measured
    events = [json.loads(line) for line in (run.path / "events.jsonl").read_text().splitlines()]
    asked = [event for event in events if event.get("verb") == "probe" and "to" in event and "settle" not in event]
    steps = {}
    for event in asked:
        steps[event["case"]] = steps.get(event["case"], 0) + event["steps"]
    by_name = {case.variant.name: steps[case.id] / run.suite.launches for case in run.suite.cases if case.id in steps}
    assert by_name["product"] == 1 + 28  # half a second of steps of 20 ms, looked at after 3, 13, 18, 23 and 28
    assert by_name["one thread"] == 1 + 13  # of 40 ms, in a process of its own
    assert by_name["memory"] == pytest.approx(2 * (1 + 13) / 2)  # its process has stepped for half a second


def test_a_model_without_figures_leaves_the_others_theirs(tmp_path):
    machine = Machine(tmp_path, b={"fail": {"verb": "build", "how": "crash"}})
    first = 'Block(workload=model, variants=[Variant(name="a")]),'
    (tmp_path / "own.py").write_text(
        SUITE.replace(first, first + 'Block(name="second", workload=model, variants=[Variant(name="b")]),')
    )
    done, run = machine.run()
    assert done.returncode == 3, done.stderr
    assert outcomes(run)["b"] == "error"
    assert "20 % of the rate of fp32 matrix products" in done.stdout
    for format in names.listing("format"):
        assert rendered(report(run), format.name)


def test_a_case_has_a_share_of_the_peak_that_its_own_run_measured(measured):
    done, run = measured
    assert center(run, "a", "peak_flop_per_second") == pytest.approx(1e11)
    assert center(run, "a", "mfu") == pytest.approx(2e9 / 0.1 / 1e11)
    assert "20 % of the rate of fp32 matrix products" in done.stdout


def test_the_roofline_is_what_the_ceilings_allow_phase_by_phase(measured):
    _, run = measured
    frame = frame_of(run)
    case = next(case for case in run.suite.cases if case.variant.name == "a")
    found = {bound.phase: bound for bound in shares.bounds(frame, case)}
    assert found["forward"].seconds == pytest.approx(0.7e9 / 1e11)
    assert found["backward"].seconds == pytest.approx(1.3e9 / 1e11)
    assert found["optimizer"].seconds == pytest.approx((1e6 + 2 * (1e6 + 2e6)) / 2e10)
    assert [found[phase].by for phase in ("forward", "backward", "optimizer")] == ["products", "products", "memory"]


def test_bytes_are_those_of_all_micro_batches_and_of_lengths_that_vary_unknown(measured):
    _, run = measured
    frame = frame_of(run)
    case = next(case for case in run.suite.cases if case.variant.name == "a")
    found = SimpleNamespace(center=frame.center)
    for changes, expected in (({"accumulate": 4}, (4 * 4e6, 4e6)), ({"lengths": 2}, None)):
        asked = SimpleNamespace(id=case.id, variant=case.variant, workload=replace(case.workload, **changes))
        moved = shares.fewest_bytes(found, asked)
        assert (moved and moved["forward"]) == expected


@pytest.mark.parametrize(("settings", "needed"), [({}, 0.5), ({"causal": False}, 1.0)])
def test_an_attention_has_the_share_of_the_flop_that_its_mask_leaves(monkeypatch, settings, needed):
    reached = Quantity(estimate=exactly(4e10), unit="FLOP/s")
    monkeypatch.setattr(hardware, "rate", lambda frame, case: reached)
    ceilings = {"here": {"peaks": {"fp32": 1e11}, "bandwidths": [], "passport": "p"}}
    frame = SimpleNamespace(run=SimpleNamespace(meta={"ceilings": ceilings}, place=lambda case: "here"))
    case = SimpleNamespace(variant=Variant(name="a"), workload=SimpleNamespace(settings=settings))
    assert hardware.share(frame, case).estimate.center == pytest.approx(0.4 * needed)


def test_a_model_that_failed_has_no_part_in_the_answers(tmp_path):
    done, _ = Machine(tmp_path, a={**SCRIPT["a"], "fail": {"verb": "measure", "how": "crash", "from_launch": 2}}).run()
    assert done.returncode == 3
    assert "of the rate of fp32 matrix products" not in done.stdout
    assert "nothing was shown to be faster" not in done.stdout


def test_the_distance_to_the_peak_is_explained_by_the_trace_and_sums_to_the_step():
    operators = {"aten::mm": 4.0, "aten::sqrt": 2.0, "flash_attention": 1.0, "aten::copy_": 1.5, "idle": 1.5}
    traced = SimpleNamespace(step=10.0, operators=operators, account=SimpleNamespace(rest="idle"))
    found = distance.parts_of(traced, least=3.0)
    assert found == pytest.approx((0.3, 0.2, 0.35, 0.15))
    assert sum(found) == pytest.approx(1.0)
    assert distance.dearest(traced) == "aten::sqrt, 20%"
    block = SimpleNamespace(workload=SimpleNamespace(padding=0.0))
    case = SimpleNamespace(variant=SimpleNamespace(name="a"))
    assert distance.row(block, case, traced, 6.0)[2:5] == (None, None, None)  # of products that have other names


@pytest.mark.parametrize(("on_device", "idle", "told"), [(True, 6.5, 1), (True, 1.5, 0), (False, 6.5, 0)])
def test_of_a_gpu_that_waits_for_its_host_the_remedy_is_told(on_device, idle, told):
    account = SimpleNamespace(rest="idle", on_device=on_device)
    notes = list(distance.waits("block, a", SimpleNamespace(step=10.0, operators={"idle": idle}, account=account)))
    assert len(notes) == told
    assert all("no kernel runs in 65% of a step" in note.parts[0] for note in notes)


def test_a_step_of_scripted_workers_is_taken_apart_and_a_broken_trace_is_told(measured):
    _, run = measured
    table = next(item for item in distance.view(frame_of(run)).items if hasattr(item, "rows"))
    assert table.rows[0][0] == "a"
    assert table.columns[1] == "products at the peak, at least"
    found = next(trace_files(run.path / "traces" / next(c.id for c in run.suite.cases if c.variant.name == "a")))
    content = found.read_bytes()
    found.write_bytes(content[: len(content) // 2])
    try:
        notes = [item for item in distance.view(frame_of(run)).items if hasattr(item, "parts")]
    finally:
        found.write_bytes(content)
    assert len(notes) == 1
    assert notes[0].kind == "warning"
    block = run.suite.blocks[0]
    several = replace(block, workload=replace(block.workload, lengths=2))
    assert distance.seconds_at_peak(frame_of(run), block, block.cases[0])
    assert distance.seconds_at_peak(frame_of(run), several, block.cases[0]) is None


def test_no_batch_is_larger_than_what_the_end_of_the_forward_pass_leaves_room_for(measured):
    _, run = measured
    case = next(case for case in run.suite.cases if case.variant.name == "a")
    block = next(block for block in run.suite.blocks if case in block.cases)
    assert shares.largest_batch(frame_of(run), block, case) is None  # nobody knows the memory
    limited = replace(run, suite=replace(run.suite, memory_limit=103_000_000))
    assert shares.largest_batch(frame_of(limited), block, case) == 50  # 2 MB a text, beside 3 MB


def test_a_ceiling_that_fails_ends_alone_and_a_dead_process_is_started_again(tmp_path):
    done, run = Machine(tmp_path, memory={"fail": {"verb": "probe", "how": "crash"}}).run()
    assert done.returncode == 3
    assert outcomes(run) == {"a": "ok", "product": "ok", "one thread": "ok", "memory": "error", "sustained": "ok"}
    assert center(run, "product", "flop_per_second") == pytest.approx(1e11)
    assert alive_workers(tmp_path) == []


def test_a_gpu_error_ends_one_ceiling_and_its_process_and_no_other(tmp_path):
    how = "CUDA error: an illegal memory access was encountered"
    done, run = Machine(tmp_path, memory={"fail": {"verb": "probe", "how": how}}).run()
    assert done.returncode == 3
    assert outcomes(run) == {"a": "ok", "product": "ok", "one thread": "ok", "memory": "error", "sustained": "ok"}
    events = [json.loads(line) for line in (run.path / "events.jsonl").read_text().splitlines()]
    place = next(event["to"] for event in events if event.get("verb") == "probe" and "to" in event)
    hellos = [event for event in events if event.get("verb") == "hello" and event.get("to") == place]
    assert len(hellos) >= run.suite.launches + 1


def test_a_ceiling_for_which_memory_is_too_little_is_unavailable(tmp_path):
    done, run = Machine(tmp_path, memory={"fail": {"verb": "probe", "how": "OutOfMemoryError"}}).run()
    assert done.returncode == 0
    assert outcomes(run)["memory"] == "unavailable"
    assert "this machine has too little memory free for it" in one_line(done)


def test_a_ceiling_with_a_wrong_result_is_wrong(tmp_path):
    done, run = Machine(tmp_path, product={"errors": {"output_error": 0.5}}).run()
    assert done.returncode == 3
    assert outcomes(run)["product"] == "wrong"
    assert center(run, "a", "mfu") is None  # no product of all threads, no peak


def test_a_ceiling_whose_process_another_one_ended_warms_up_again(tmp_path):
    _, run = Machine(tmp_path, memory={"fail": {"verb": "probe", "how": "crash", "from_probe": 18}}).run()
    assert outcomes(run)["memory"] == "error"
    events = [json.loads(line) for line in (run.path / "events.jsonl").read_text().splitlines()]
    asked = [event for event in events if event.get("verb") == "probe" and "to" in event]
    product = next(case.id for case in run.suite.cases if case.variant.name == "product")
    steps = [event["steps"] for event in asked if event["case"] == product]
    assert steps.count(3) >= run.suite.launches + 1  # warming up begins with three


def test_what_a_device_lacks_is_unavailable(tmp_path):
    done, run = Machine(tmp_path, memory={"fail": {"verb": "probe", "how": "Unavailable"}}).run()
    assert done.returncode == 0
    assert outcomes(run)["memory"] == "unavailable"


def test_a_kept_passport_tells_later_runs_their_share_and_another_machine_nothing(tmp_path):
    machine = Machine(tmp_path)
    bench = machine.call("hardware", "--quick", "--price-per-hour", "2.5")
    assert bench.returncode == 0, bench.stderr
    assert "kept as this machine's passport" in bench.stderr
    later = (
        '"""A model."""\nfrom harness.spec import *\ndef suite():\n    work = Workload(task="pretraining/causal_lm",'
        ' model="gpt", size="tiny")\n    return Suite(name="own", question="?", launches=1, quality_steps=0,'
        ' blocks=[Block(workload=work, variants=[Variant(name="a")])])\n'
    )
    (tmp_path / "own.py").write_text(later)
    _, run = machine.run()
    assert center(run, "a", "mfu") is not None
    kept = tmp_path / "cache/tandem/passports/scripted-hardware_quick.json"
    text = kept.read_text()
    assert '"gemm_seconds": 0.001' in text
    kept.write_text(text.replace('"gemm_seconds": 0.001', '"gemm_seconds": 0.0005'))
    _, run = machine.run()
    told = [note.parts[0] for note in shares.changed(frame_of(run), run.suite.blocks)]
    assert len(told) == 1
    assert "not as its passport found it: gemm takes 2.00 times as long: read its shares with care" in told[0]
    kept.write_text(text)
    kept.rename(kept.with_name("other.json"))
    text = kept.with_name("other.json").read_text()
    kept.with_name("other.json").write_text(text.replace('"fingerprint": "scripted"', '"fingerprint": "other"'))
    _, run = machine.run()
    assert center(run, "a", "mfu") is None
    kept.with_name("other.json").write_text("{")
    assert machine.run()[0].returncode == 0


def test_a_peak_is_the_best_product_and_bandwidth_the_most_that_such_a_working_set_may_have():
    def product(precision, rate, rows):
        return (
            Workload(task="ceilings/matmul", settings={"rows": rows}),
            Variant(name=precision, precision=precision),
            {"flop_per_second": rate},
        )

    def memory(size, rate):
        return Workload(task="ceilings/memory", settings={"size": size}), Variant(name="x"), {"bytes_per_second": rate}

    products = [product("fp32", 1e11, 8), product("fp32", 2e11, 64), product("bf16", 5e11, 8)]
    moved = [memory(2**30, 1e10), memory(2**20, 9e10), memory(2**20, 8e10), memory(2**25, 2e10)]
    found = ceilings([*products, *moved], "run")
    assert found.peak("fp32") == 2e11
    assert found.peak("bf16_pure") == found.peak("bf16") == 5e11
    assert found.peak("fp64") is None
    assert found.bandwidth(1000) is None  # smaller than all: who knows how fast
    assert found.bandwidth(2**24) == 9e10  # a cache may hold it
    assert found.bandwidth(2**25) == 2e10
    assert found.bandwidth(2**40) == 1e10
    assert passport.NONE.bandwidth(1) is None


def test_passports_of_one_machine_are_merged_to_the_higher_of_each():
    old, new = {"gemm_seconds": 1.0, "copy_seconds": 3.0}, {"gemm_seconds": 2.0}
    one = Ceilings(peaks={"fp32": 2.0, "fp64": 1.0}, bandwidths=[(1.0, 5.0)], passport="a", calibration=old)
    other = Ceilings(peaks={"fp32": 3.0}, bandwidths=[(1.0, 4.0), (2.0, 1.0)], passport="b, a", calibration=new)
    both = Ceilings(
        peaks={"fp32": 3.0, "fp64": 1.0}, bandwidths=[(1.0, 5.0), (2.0, 1.0)], passport="a, b", calibration=old
    )
    assert one.merged(other) == both


def test_a_machine_that_is_not_as_its_passport_found_it_is_told():
    seen = {"gemm_seconds": 1.0, "copy_seconds": 2.0, "dispatch_seconds": 1.0}
    known = Ceilings(peaks={}, bandwidths=[], passport="a", calibration=seen)
    now = {"gemm_seconds": 1.3, "copy_seconds": 2.05, "dispatch_seconds": 0.5}
    changes = known.changes({"calibration": now})
    assert changes == {"gemm": pytest.approx(1.3), "dispatch": pytest.approx(0.5)}
    assert passport.told(changes) == (
        "this machine is not as its passport found it: gemm takes 1.30 times as long, dispatch takes 0.50 times as long"
    )
    assert passport.NONE.changes({"calibration": now}) == known.changes({}) == {}
    assert known.changes({"calibration": {**seen, "gemm_seconds": "nan"}}) == {}
    told = {"gemm_seconds": 1.0, "copy_seconds": "nan", "dispatch_seconds": 1.0}
    assert passport.calibration({"calibration": told}) == {"gemm_seconds": 1.0}  # the others bound no ceiling


def test_the_gate_says_which_of_two_runs_found_its_machine_changed():
    known = {"peaks": {}, "bandwidths": [], "passport": "a", "calibration": {"gemm_seconds": 1.0}}

    def run(name, seconds):
        place = {"calibration": {"gemm_seconds": seconds}}
        return SimpleNamespace(
            id=name,
            place=lambda case: "current",
            meta={"ceilings": {"current": known}},
            environments={"current": place},
        )

    told = "; in two this machine is not as its passport found it: gemm takes 1.50 times as long"
    assert stored.changed([run("one", 1.01), run("two", 1.5)], [None]) == told
    assert stored.changed([SimpleNamespace(id="old", place=lambda case: "x", meta={}, environments={})], [None]) == ""


def test_the_copies_that_autocast_makes_do_not_grow_with_the_batch(monkeypatch):
    bytes_of = {"memory_parameters_bytes": 4.0, "memory_optimizer_bytes": 8.0, "memory_activations_bytes": 6.0}
    frame = SimpleNamespace(center=lambda case, name: bytes_of[name])
    monkeypatch.setattr(shares, "memory_of", lambda *_: 60.0)
    block = SimpleNamespace(workload=SimpleNamespace(batch=1))
    for name, batch in (("fp32", 8), ("bf16", 12), ("bf16_pure", 8)):  # 48 bytes, 6 a text; 2 of these are copies
        case = SimpleNamespace(variant=SimpleNamespace(precision=name))
        assert shares.largest_batch(frame, block, case) == batch


def test_a_gpu_in_use_is_refused_and_its_user_named(tmp_path, monkeypatch):
    monkeypatch.setattr("harness.run.described", lambda *_: {"device": "cuda"})
    monkeypatch.setattr("harness.fitness.device_processes", lambda: ["python3", "trainer"])
    with pytest.raises(UserError, match="the GPU is in use by python3, trainer; a ceiling beside that is too low"):
        measure("cuda", None, tmp_path, quick=True, quiet=True)


@pytest.mark.parametrize("price", [math.inf, math.nan])
def test_a_price_that_is_no_number_ends_it_at_once(tmp_path, price):
    with pytest.raises(UserError, match="give what an hour costs"):
        measure("cpu", price, tmp_path, quick=True, quiet=True)


def test_a_price_below_nothing_ends_it_at_once(tmp_path):
    done = Machine(tmp_path).call("hardware", "--price-per-hour", "-1")
    assert done.returncode == 2
    assert "--price-per-hour is -1" in done.stderr


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="this machine has the device")
def test_a_device_that_is_not_there_ends_it_at_once(tmp_path):
    found = subprocess.run(
        [sys.executable, "-m", "harness.cli", "hardware", "--device", "mps"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(names.ROOT)}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert found.returncode == 2
    assert "sees no Apple GPU (mps); give another device, or auto" in found.stderr


def test_the_passport_says_what_to_train_by_and_what_gains_nothing(measured):
    done, _ = measured
    assert "one thread is 0.500x as fast as all of them" in one_line(done)
    assert "train gpt by a: nothing was shown to be faster" in one_line(done)
    frame = SimpleNamespace(run=SimpleNamespace(environments={"here": {"device": "cpu", "instructions": "avx2"}}))
    assert hardware.reason(frame, "bf16") == ", as this processor has no amx_bf16 or avx512_bf16 or sve"
    assert hardware.reason(frame, "tf32") == ""
    frame.run.environments["here"]["instructions"] = "avx2 amx_bf16"
    assert hardware.reason(frame, "bf16") == ""
