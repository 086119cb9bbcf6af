"""Attention kernels: that the forced one runs and computes the formula, and what a report says of a grid of them."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from made_run import LINE, SECONDS

from harness import load, names
from harness.conditions import Conditions
from harness.correct import disagreement, is_as_asked
from harness.errors import UserError
from harness.spec import Block, Suite
from harness.store import COLUMNS, Run, open_run
from reports.document import Chart, Document, Note, Section, Status, Table
from reports.formats import _vega, terminal
from reports.frame import Frame, frame_of
from reports.report import BRIEF, document_of
from reports.views._kernels import Crossing, Family, crossings, families
from reports.views.kernels import view

ON_CPU = ("sdpa", "formula", "sdpa_math", "sdpa_flash")
Seconds = Callable[[str, int], float]


def grid(*settings: str, axes: tuple[str, ...] = ()) -> Suite:
    """Return the suite `attention` with settings, of the backends that a CPU has."""
    suite, _ = load.load("attention", settings=settings, axes=axes)
    blocks = [
        replace(block, variants=tuple(item for item in block.variants if item.attention in ON_CPU))
        for block in suite.blocks
    ]
    return replace(suite, blocks=tuple(blocks))


CROSSED = ("precision=fp32,bf16_pure", "heads=8,2", "causal=False,True", "padding=0,0.25")
FEW = ("precision=fp32", "heads=8", "causal=False", "padding=0.0", "batch=4")


def made(
    folder: Path, suite: Suite, seconds: Seconds, *, noise: float = 0.003, actual: Mapping[str, str] | None = None
) -> Run:
    """Return a run of `suite` in which backends take `seconds(backend, length)`, and SDPA takes flash."""
    shown = {"sdpa": "sdpa_flash", **(actual or {})}
    draw, rows, outcomes = np.random.default_rng(0), [], []
    for block in suite.blocks:
        for case in block.cases:
            name, length = case.variant.attention, case.workload.length
            for launch in range(1, suite.launches + 1):
                step = seconds(name, length) * np.exp(draw.normal(0, noise))
                rows += [(case.id, launch, number, number, 0, "step_seconds", step) for number in range(1, 5)]
                rows.append((case.id, launch, 0, 0, 0, "memory_allocated_peak_bytes", 2.0**20 * length))
            facts = {"attention_requested": name, "attention_actual": shown.get(name, name)}
            common = {"case": case.id, "block": block.name, "launch": 1, "warnings": []}
            outcomes.append({**common, "status": "ok", "reason": None, "facts": facts})
    folder.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows, columns=list(COLUMNS)).to_parquet(folder / "samples.parquet")
    meta = {"format": 1, "id": "made", "status": "complete", "seconds": SECONDS, "data": {}}
    environments = {"current": {"line": LINE, "fingerprint": "f0"}}
    return Run(path=folder, id="made", meta=meta, suite=suite, environments=environments, outcomes=outcomes)


def power(**exponents: float) -> Seconds:
    """Return times that grow as powers of length / 128, where all take the same; SDPA's are those of flash."""
    exponents = {"sdpa": exponents["sdpa_flash"], **exponents}
    return lambda name, length: 1e-3 * (length / 128) ** exponents[name]


def section(run: Run) -> Section:
    return view(frame_of(run))


def said(found: Section) -> list[str]:
    return [str(note.parts[0]) for note in found.items if isinstance(note, Note)]


def table(found: Section, title: str) -> Table:
    return next(item for item in found.items if isinstance(item, Table) and item.title.startswith(title))


def only(frame: Frame) -> Family:
    (family,) = families(frame)
    return family


# The attention itself.


@pytest.mark.usefixtures("one_thread")
def test_every_forced_kernel_of_the_grid_is_the_one_that_runs_and_computes_the_formula(tmp_path):
    pytest.importorskip("torch")
    from harness.worker.session import Session

    ran = set()
    for block in grid("length=64", "batch=2", axes=CROSSED).blocks:
        recipes = recipes_of(block)
        Session(recipes["reference"]).check({"steps": 1, "write": str(tmp_path / "reference.npz")})
        for variant in block.variants:
            session = Session(recipes[variant.name])
            found = session.check({"steps": 1, "against": str(tmp_path / "reference.npz")})
            assert disagreement(found["errors"], found["losses"], variant.precision) is None
            actual = session.trace({"steps": 2, "folder": str(tmp_path / "traces")})["attention_actual"]
            assert is_as_asked(variant, actual), f"{block.name}: {variant.attention} was forced and {actual} ran"
            ran.add((variant.precision, variant.attention, actual))
    assert {actual for _, name, actual in ran if name != "sdpa"} == {*ON_CPU} - {"sdpa"}
    assert len(ran) == 2 * len(ON_CPU), "each dtype ran each of them, and always the same"


def recipes_of(block: Block) -> dict[str, dict[str, Any]]:
    """Return what a worker builds each variant of a block from, and the float64 reference."""
    conditions = Conditions()
    reference = replace(block.variants[0], name="reference", attention="formula", precision="fp64")
    return {item.name: conditions.recipe(block, item, 0) for item in (*block.variants, reference)}


@pytest.mark.usefixtures("one_thread")
def test_a_step_is_one_attention_and_changes_nothing():
    torch = pytest.importorskip("torch")
    from harness.worker.session import Session

    block = grid("length=16", "batch=2", "heads=4", "padding=0.25", "causal=False", "precision=fp32").blocks[0]
    session = Session(recipes_of(block)["formula"])
    before = {name: value.clone() for name, value in session.step.model.state_dict().items()}
    assert {tuple(value.shape) for value in before.values()} == {(2, 16, 4, 64)}
    for index in range(3):
        session.step(index)
    assert all(torch.equal(value, before[name]) for name, value in session.step.model.state_dict().items())
    mask = session.step.fetch(0)
    assert (tuple(mask.shape), int(mask.sum())) == ((2, 1, 1, 16), session.step.work.amount["tokens"])
    flop = session.observe({"steps": 1})["metrics"]["flop"]
    assert flop == 3 * 2 * (2 * 2 * 4 * 16 * 16 * 64)  # two products forward, four backward


def test_heads_that_do_not_divide_are_refused_with_what_to_do():
    build = names.find("model", "suites.kernels.attention").load()
    with pytest.raises(UserError, match="256 does not divide into 3 heads; --set dim=258"):
        build(None, batch=1, length=8, heads=3)


def test_a_model_that_asks_for_them_is_given_the_workloads_batch_and_length():
    block = grid(*FEW, "length=64").blocks[0]
    conditions = Conditions()
    tried = replace(block, workload=replace(block.workload, batch=7, length=32))  # as the search for what fits does
    for asked, shape in ((block, (4, 64)), (tried, (7, 32))):
        config = conditions.recipe(asked, block.variants[0], 0)["config"]
        assert (config["batch"], config["length"]) == shape


# The grid.


def test_the_grid_changes_one_thing_at_a_time_and_vary_crosses_all():
    suite, crossed = grid(), grid(axes=CROSSED)
    assert len(suite.blocks) == 5 * 3
    assert {block.workload.batch * block.workload.length for block in suite.blocks} == {1024}
    assert [block.workload.length for block in suite.blocks[::5]] == [64, 256, 1024]
    assert len({json.dumps(block.workload.settings) for block in suite.blocks[::5]}) == 1, "a shard is a family"
    points = {
        (item.precision, *block.workload.settings.values(), block.workload.padding, block.workload.length)
        for block in crossed.blocks
        for item in block.variants
    }
    assert (len(crossed.blocks), len(points)) == (2 * 2 * 2 * 3, 2 * 2 * 2 * 2 * 3)


def test_an_axis_of_the_grid_can_be_set_and_spread_anew():
    suite = grid("batch=4", axes=("length=32,64,128,512", "heads=1,4"))
    assert len(suite.blocks) == (2 * 2 + 2 * 2) * 4  # both precisions of causal, and the two other masks
    assert {block.workload.length for block in suite.blocks} == {32, 64, 128, 512}
    assert {block.workload.settings["heads"] for block in suite.blocks} == {1, 4}
    for block in suite.blocks:
        assert block.name.startswith(block.workload.slug)
        assert block.name.count("heads=") == 1
        assert f"heads={block.workload.settings['heads']} " in block.name
    (block,) = grid(*FEW, "length=64").blocks
    assert block.name == "attention-b4-l64 precision=fp32 heads=8 causal=False padding=0.0"


def test_precisions_side_by_side_are_families_of_their_own(tmp_path):
    suite = grid(*FEW[1:], axes=("precision=fp32,bf16", "length=64,256"))
    assert [len(block.variants) for block in suite.blocks] == [8, 8]
    run = made(tmp_path, suite, power(formula=2, sdpa_math=2, sdpa_flash=1))
    assert [family.label for family in families(frame_of(run))] == [
        "fp32, head size 32, no mask", "bf16, head size 32, no mask"
    ]  # fmt: skip


def test_of_two_batches_each_has_its_own_family(tmp_path):
    suite = grid(*FEW[:-1], axes=("batch=1,4", "length=64,256"))
    run = made(tmp_path, suite, power(formula=2, sdpa_math=2, sdpa_flash=1))
    found = families(frame_of(run))
    assert [(family.more, len(family.points)) for family in found] == [("batch 1", 2), ("batch 4", 2)]


# Where kernels cross.


def crossing_of(tmp_path: Path, seconds: Seconds, lengths: str, noise: float = 0.003) -> list[Crossing]:
    frame = frame_of(made(tmp_path, grid(*FEW, axes=(f"length={lengths}",)), seconds, noise=noise))
    return crossings(frame, only(frame), "formula", "sdpa_flash")


def test_a_crossing_is_interpolated_between_the_lengths_where_the_verdict_turns(tmp_path):
    (found,) = crossing_of(tmp_path, power(formula=2, sdpa_math=2, sdpa_flash=1), "32,64,256,1024")
    assert (found.before, found.after, found.lengths) == ("formula", "sdpa_flash", (64, 256))
    assert found.low < 128 < found.high
    assert found.at == pytest.approx(128, rel=0.02)
    assert 64 < found.low < found.at < found.high < 256
    assert found.seconds == pytest.approx(1e-3, rel=0.05)


def test_a_crossing_the_other_way_round_is_the_same(tmp_path):
    (found,) = crossing_of(tmp_path, power(formula=1, sdpa_math=2, sdpa_flash=2), "32,64,256,1024")
    assert (found.before, found.after, found.lengths) == ("sdpa_flash", "formula", (64, 256))
    assert found.at == pytest.approx(128, rel=0.02)


def test_where_a_length_in_between_is_undecided_the_bracket_is_all_that_is_known(tmp_path):
    (found,) = crossing_of(tmp_path, power(formula=2, sdpa_math=2, sdpa_flash=1), "64,128,256")
    assert found.lengths == (found.low, found.high) == (64, 256)
    assert found.at == pytest.approx(128, rel=0.02)


def test_kernels_that_do_not_cross_have_no_crossing(tmp_path):
    assert crossing_of(tmp_path, power(formula=2, sdpa_math=2, sdpa_flash=1), "256,1024") == []
    assert crossing_of(tmp_path / "same", power(formula=1, sdpa_math=1, sdpa_flash=1), "64,256") == []


def test_overlapping_intervals_cannot_tell(tmp_path):
    (found,) = crossing_of(tmp_path, power(formula=1.1, sdpa_math=1, sdpa_flash=1), "64,256", noise=0.2)
    assert math.isnan(found.at)
    assert found.lengths == (64, 256)


def test_kernels_may_cross_twice(tmp_path):
    def seconds(name: str, length: int) -> float:
        return 2e-3 if name == "formula" and length == 256 else 1e-3 if name == "formula" else 1.5e-3

    assert [found.after for found in crossing_of(tmp_path, seconds, "64,256,1024")] == ["sdpa_flash", "formula"]


# What the report says.


def test_a_choice_that_is_the_fastest_everywhere_is_said_in_a_sentence(tmp_path):
    suite = grid("precision=fp32", "heads=8", "batch=4", axes=("length=256,1024",))
    found = section(made(tmp_path, suite, power(formula=2, sdpa_math=3, sdpa_flash=1)))
    assert said(found)[:3] == [
        "SDPA chose sdpa_flash at 6 of 6 points",
        "at none of them a forced kernel is established to be faster than SDPA's choice",
        "everywhere: fastest at every length: sdpa_flash",
    ]
    assert not [item for item in found.items if isinstance(item, Note) and item.kind == "warning"]


def test_what_cannot_be_told_apart_is_not_called_fastest(tmp_path):
    suite, alike = grid(*FEW, "length=64"), power(formula=1, sdpa_math=1, sdpa_flash=1)
    noisy, quiet = (said(section(made(tmp_path / str(noise), suite, alike, noise=noise)))[2] for noise in (0.2, 0.001))
    assert noisy == "fp32, head size 32, no mask: fastest at 64: cannot tell"
    assert {*quiet.removeprefix("fp32, head size 32, no mask: fastest at 64: ").split(" or ")} == {*ON_CPU[1:]}


def test_a_slower_choice_is_a_warning_with_a_remedy(tmp_path):
    suite = grid(*FEW, axes=("length=32,64,256",))
    found = section(made(tmp_path, suite, power(formula=2, sdpa_math=2.5, sdpa_flash=1)))
    assert "fp32, head size 32, no mask: fastest from 32 to 64: sdpa_math, at 256: sdpa_flash" in said(found)
    (warning,) = [item for item in found.items if isinstance(item, Note) and item.kind == "warning"]
    before, change, remedy = warning.parts
    assert before == "SDPA chose sdpa_flash where sdpa_math is faster and takes as little as"
    assert change.judgement.ratio == pytest.approx(1 / 8, rel=0.02)
    assert "fp32, head size 32, no mask, length 32, 64: " in str(remedy)
    assert "SDPBackend.MATH" in str(remedy)


def test_a_statement_that_holds_for_all_of_a_dtype_names_the_dtype_alone(tmp_path):
    suite = grid("heads=8", "batch=4", "padding=0.0", axes=("causal=False,True", "length=64,256"))
    found, other = (made(tmp_path / name, suite, power(formula=2, sdpa_math=1.5, sdpa_flash=1)) for name in "ab")
    slow = {
        case.id
        for case in suite.cases
        if case.variant.precision == "bf16_pure" and not case.workload.settings["causal"]
    }
    rows = other.samples().astype({"case": str, "metric": str})
    is_slow = rows["case"].isin(slow) & (rows["metric"] == "step_seconds") & rows["case"].str.contains("--formula")
    rows.loc[is_slow, "value"] *= 16
    rows.to_parquet(other.path / "samples.parquet")
    assert "everywhere: fastest at 64: formula, at 256: sdpa_flash" in said(section(found))
    changed = said(section(other))
    assert "bf16_pure, head size 32, no mask: fastest at 64: sdpa_math, at 256: sdpa_flash" in changed
    (most,) = [sentence for sentence in changed if sentence.endswith("fastest at 64: formula, at 256: sdpa_flash")]
    assert most.startswith("everywhere in fp32; bf16_pure, head size 32, causal mask: ")


def test_another_kernel_than_the_forced_one_is_a_warning(tmp_path):
    suite = grid(*FEW, "length=64")
    run = made(tmp_path, suite, power(formula=1, sdpa_math=1, sdpa_flash=1), actual={"sdpa_flash": "sdpa_math"})
    found = said(section(run))
    assert "the kernel that ran is the one asked for in 3 of 4 traced cases" in found
    assert any("sdpa_flash was forced and sdpa_math ran" in sentence for sentence in found)


def test_every_point_stands_in_the_table_beside_each_forced_kernel(tmp_path):
    suite = grid(axes=CROSSED)
    found = section(made(tmp_path, suite, power(formula=2, sdpa_math=2, sdpa_flash=1)))
    for precision in ("fp32", "bf16_pure"):
        times = table(found, f"Time: {precision}")
        assert times.columns == (
            "head size", "mask", "length", "batch", "SDPA chose", "its time",
            "formula, of its time", "sdpa_math, of its time", "sdpa_flash, of its time",
        )  # fmt: skip
        assert len(times.rows) == 8 * 3
        assert {row[1] for row in times.rows} == {"none", "causal", "25% padding", "causal and 25% padding"}
        assert times.rows[0][6].judgement.ratio == pytest.approx(0.5, rel=0.02)
        assert times.rows[0][8].judgement.verdict == "same"
        assert len(table(found, f"Peak memory: {precision}").rows) == 8 * 3
    assert len(table(found, "Fastest").rows) == 2 * 8
    assert {row[-1] for row in table(found, "Where").rows} == {"sdpa_flash"}


def test_the_chart_has_a_line_a_kernel_on_logarithmic_scales_and_its_crossings(tmp_path):
    suite = grid(*FEW, axes=("length=32,64,256,1024",))
    found = section(made(tmp_path, suite, power(formula=2, sdpa_math=2.5, sdpa_flash=1)))
    (chart,) = [item for item in found.items if isinstance(item, Chart)]
    assert chart.kind == "crossings"
    lines = [mark for mark in chart.marks if not mark.name]
    assert {(mark.series, mark.at) for mark in lines} == {
        (name, length) for name in ON_CPU[1:] for length in (32, 64, 256, 1024)
    }
    crossed = [mark for mark in chart.marks if mark.name]
    assert all(mark.at_low < mark.at < mark.at_high for mark in crossed)
    assert {mark.name.split()[0] for mark in crossed} == {"sdpa_flash", "formula"}
    drawn = _vega.specification(chart)
    assert [layer["encoding"]["y"]["scale"]["type"] for layer in drawn["layer"]] == ["log"] * 3
    assert drawn["layer"][0]["encoding"]["x"]["axis"]["values"] == [32, 64, 256, 1024]


def test_the_chart_is_drawn(tmp_path):
    import vl_convert

    suite = grid(*FEW, axes=("length=32,64,256,1024",))
    found = section(made(tmp_path, suite, power(formula=2, sdpa_math=2.5, sdpa_flash=1)))
    (chart,) = [item for item in found.items if isinstance(item, Chart)]
    drawn = vl_convert.vegalite_to_svg(_vega.specification(chart))
    assert drawn.count("sdpa_flash from about") >= 1
    assert "NaN" not in drawn


def test_a_run_ends_with_the_kernels_and_not_with_a_table_a_block(tmp_path):
    suite = grid(*FEW, axes=("length=64,256",))
    run = made(tmp_path, suite, power(formula=2, sdpa_math=2, sdpa_flash=1))
    text = terminal.render(document_of(run, BRIEF), width=160, color=False)
    assert "SDPA chose sdpa_flash at 2 of 2 points" in text
    assert "Where one kernel overtakes another" in text
    assert "speed against" not in text


def test_what_failed_is_told_and_the_rest_is_shown(tmp_path):
    suite = grid(*FEW, axes=("length=64,256",))
    run = made(tmp_path, suite, power(formula=2, sdpa_math=2, sdpa_flash=1))
    failing = {"status": "oom", "reason": "no memory", "facts": {}}
    outcomes = [
        {**item, **failing} if item["facts"]["attention_requested"] in ("sdpa", "formula") else item
        for item in run.outcomes
    ]
    found = section(replace(run, outcomes=outcomes))
    rows = table(found, "Time").rows
    assert [cell.outcome for row in rows for cell in row if isinstance(cell, Status)] == ["oom"] * 2
    document = Document(title="t", question="q?", sections=(found,))
    text = terminal.render(document, width=160, color=False)
    assert "oom" in text
    assert "SDPA chose" not in said(found)[0]


def test_the_view_says_where_it_stands_and_what_it_answers(tmp_path):
    assert isinstance(names.find("view", "kernels").literal("ORDER", None), int)
    assert (
        section(made(tmp_path, grid(*FEW, "length=64"), power(formula=2, sdpa_math=2, sdpa_flash=1))).question[-1]
        == "?"
    )


def test_a_run_without_an_attention_alone_has_no_such_section(tmp_path):
    from made_run import made_run

    assert section(made_run(tmp_path)).items == ()


# With real workers.

SUITE = '''
from dataclasses import replace
from suites.definitions.attention import suite as grid

def suite():
    """Return two lengths: SDPA's choice, the formula and one kernel."""
    whole = grid()
    has = ("sdpa", "formula", "sdpa_flash")
    blocks = [replace(block, variants=tuple(item for item in block.variants if item.attention in has))
              for block in whole.blocks[:10:5]]
    return replace(whole, blocks=tuple(blocks), launches=1, rounds=2)
'''


def test_a_real_run_attests_every_kernel(tmp_path):
    (tmp_path / "suite.py").write_text(SUITE)
    command = [sys.executable, "-m", "harness.cli", "run", "suite.py", "--set", "device=cpu", "--set", "threads=1"]
    environment = {**os.environ, "PYTHONPATH": str(names.ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "SDPA chose sdpa_flash at 2 of 2 points" in done.stdout
    assert "the one asked for in 6 of 6 traced cases" in " ".join(done.stdout.split())
    run = open_run(tmp_path / done.stdout.strip().splitlines()[-1])
    assert {outcome["status"] for outcome in run.outcomes} == {"ok"}
    assert {outcome["facts"]["reference"] for outcome in run.outcomes} == {"float64 formula"}
    rows = run.samples()
    assert (rows[rows.metric == "optimizer_seconds"].value < rows[rows.metric == "step_seconds"].value.median()).all()
    assert set(rows[rows.metric == "flop"].value) == {3 * 2 * 2 * 1024 * length * 256 for length in (64, 256)}
