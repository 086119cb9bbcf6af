"""`tandem explain`: advice as sentences tied to figures, what it rests on, and one real run explained."""

import json
import math
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from made_run import made_run, made_suite

from harness.compare import BreakEven
from harness.errors import UserError
from harness.spec import Block, Variant, Workload
from harness.stats import judge
from harness.worker.compiler import missing_cpp
from reports.advice import Evidence, advice
from reports.document import Change, Table
from reports.explain import explanation_of, steadier
from reports.formats import json as json_format
from reports.formats._words import sentence
from reports.formats.terminal import render

ROOT = Path(__file__).resolve().parent.parent
BREAKS = ("print: unsupported (own/model.py:12 in forward)", "print: unsupported (own/model.py:31 in loss)")
COMPILATION = {
    "id": "0/0", "place": "own/model.py:4 in loss", "operators": 12, "guards": 9, "seconds": 2.5, "guard": "",
    "outcome": "compiled",
}  # fmt: skip
AGAIN = {**COMPILATION, "id": "0/1", "seconds": 1.5, "guard": "tensor 'x' size mismatch at index 1"}
TOO_OFTEN = {**AGAIN, "id": "0/2", "seconds": 0.0, "operators": 0, "outcome": "given up: compiled too often"}
FACTS = {
    "operators": [],
    "graph_break_reasons": [],
    "recompile_reasons": ["tensor 'x' size mismatch at index 1 (own/model.py:4 in loss)"],
    "compilations": [COMPILATION, AGAIN, TOO_OFTEN],
    "generated_kernels": [{"name": "cpp_fused_add_gelu", "calls": 4}],
    "library_kernels": [{"name": "mm", "calls": 6}],
    "outside_compiled": [{"name": "aten::softmax", "seconds": 2e-4, "calls": 2.0}],
}
FIGURES = {"recompiles": 1, "recompile_limits": 1, "outside_share": 0.2, "generated_share": 0.3, "library_share": 0.5}
FIGURES |= {"operators_before_fusion": 20, "generated_kernels": 4, "library_kernels": 6}


def said(**known) -> list[str]:
    return [sentence(note) for note in advice(Evidence(**known))]


def test_graph_breaks_are_bounded_by_what_no_library_kernel_takes():
    assert said(breaks=BREAKS, outside=0.14, generated=0.06) == [
        f"2 graph breaks, {'; '.join(BREAKS)}: removing them is worth at most 20 % of the step: 14 % run outside of "
        "compiled code, and 6 % in compiled code that may fuse across them; matrix products and attention stay"
    ]


def test_a_bound_that_is_not_known_is_not_made_up():
    unknown = "the run has no trace of it"
    assert said(breaks=BREAKS[:1], unknown=unknown) == [
        f"1 graph break, {BREAKS[0]}: what removing them is worth cannot be told: {unknown}"
    ]
    assert said(unknown=unknown) == [f"no graph break; what is left to gain cannot be told: {unknown}"]


def test_without_a_break_the_rest_is_bounded():
    assert said(outside=0.004, generated=0.306) == [
        "no graph break; what is left to fuse is at most 32 % of the step: 31 % in compiled code and 1 % outside of "
        "it; the rest are matrix products, attention, data and optimizer"
    ]


def test_the_recompile_limit_is_told_with_what_a_way_out_gives():
    given_up = ["own/model.py:4 in loss"]
    start = "torch.compile gave up own/model.py:4 in loss, compiled too often: further shapes run eagerly;"
    change = Change(judgement=judge([math.log(ratio) for ratio in (0.74, 0.75, 0.76)], 0.03, "lower", ()))
    assert said(given_up=given_up, steadier=("bucket 64", change)) == [
        f"{start} step time with bucket 64, which is not given up, against this one: 0.75x (0.73–0.78)"
    ]
    way = "(tandem run dynamic, or --vary dynamic=unset,true,false, tells what each way out gives)"
    assert said(given_up=given_up, outside=0.25, generated=0.25) == [
        f"{start} compiling all is worth at most 50 % of the step {way}"
    ]
    assert said(given_up=given_up, unknown="no trace") == [f"{start} what that costs cannot be told: no trace {way}"]


def test_recompilations_are_bounded_by_the_seconds_they_took():
    [told, _] = said(recompiles=2, guards=["x is None", "y == 3"], recompile_seconds=4.5)
    assert told == (
        "2 recompilations because x is None; y == 3: one compilation for all is worth at most 4.500 s of each cold "
        "start: pad to buckets, set dynamic, or keep what changes out of compiled code"
    )
    assert "is not known" in said(recompiles=1)[0]


def test_long_lists_are_cut_in_a_sentence():
    assert "a; b; c; and 2 more: what" in said(breaks=["a", "b", "c", "d", "e"], unknown="?")[0]


@pytest.mark.parametrize(
    ("known", "told"),
    [
        ({"optimizer": 0.22}, "optimizer=fused is worth at most 22 % of the step"),
        ({"cold": 20.0, "warm": 4.0}, "it saves 16 s of the 20 s that compiling takes at each"),
        ({"break_even": BreakEven(steps=450, low=400, high=520)}, "compiling pays after: 450 steps (400–520)"),
        ({"break_even": BreakEven(steps=math.inf, low=math.inf, high=math.inf)}, "compiling never pays here"),
        ({"break_even": BreakEven(steps=math.nan, low=90, high=math.inf)}, "cannot tell; not before 90 steps"),
    ],
)
def test_each_other_sentence_has_its_figure(known, told):
    assert any(told in text for text in said(**known))


@pytest.mark.parametrize("known", [{"optimizer": 0.005}, {"cold": 4.0, "warm": 5.0}, {"cold": 4.0}])
def test_what_is_worth_nothing_is_not_said(known):
    assert said(**known) == said()


@pytest.fixture
def run(tmp_path):
    """A made run whose compiled variant has insights, beside one that pads to buckets."""
    whole = made_suite((64,))
    block = whole.blocks[0]
    compiled = replace(block.variants[2], optimizer="loop")
    workload = replace(block.workload, lengths=4)
    variants = (*block.variants[:2], compiled)
    suite = replace(whole, blocks=(Block(workload=workload, variants=variants, name=block.name),))
    made = made_run(tmp_path, suite)
    case = suite.cases[2].id
    rows = made.samples()
    more = [(case, 1, 0, 0, 0, name, float(value)) for name, value in FIGURES.items() if name != "recompiles"]
    rows = rows[(rows.metric != "recompiles") | (rows.case != case)]
    rows = [*rows.itertuples(index=False, name=None), *more, (case, 1, 0, 0, 0, "recompiles", 1.0)]
    import pandas as pd

    pd.DataFrame(rows, columns=made.samples().columns).to_parquet(tmp_path / "samples.parquet")
    outcomes = [
        {**outcome, "facts": outcome["facts"] | FACTS} if outcome["case"] == case else outcome
        for outcome in made.outcomes
    ]
    return replace(made, outcomes=outcomes)


def test_a_case_is_explained_with_advice_and_what_it_rests_on(run):
    document = explanation_of(run)
    [section] = document.sections
    assert section.title.endswith(", +compile")
    tables = {item.title: item for item in section.items if isinstance(item, Table)}
    compilations = tables["Compilations, in order"]
    assert [row[2] for row in compilations.rows] == [12, 12, 0]
    assert compilations.rows[1][-1] == AGAIN["guard"]
    text = " ".join(render(document, width=200, color=False).split())
    assert "gave up own/model.py:4 in loss" in text
    assert "1 recompilation because" in text
    assert "worth at most 1.500 s" in text
    assert "fused: 20 operators of all graphs, forward and backward, became 4 calls of generated kernels" in text
    assert "aten::softmax" in text
    assert "cpp_fused_add_gelu" in text
    [case] = [outcome["case"] for outcome in run.outcomes if outcome["facts"].get("compilations")]
    [told] = json.loads(json_format.render(document))["advice"].items()
    assert told == (case, [sentence(note) for note in section.items if getattr(note, "kind", "") == "answer"])


@pytest.mark.parametrize("name", ["+compile", "gpt-tiny-b4-l64--+compile", "*compile*"])
def test_a_case_is_named_by_its_variant_its_id_or_a_pattern(run, name):
    assert len(explanation_of(run, name).sections) == 1


def test_what_is_not_compiled_says_so(run):
    [section] = explanation_of(run, "+sdpa").sections
    assert "is not compiled" in sentence(section.items[0])


def test_a_wrong_name_and_a_run_that_compiles_nothing_are_sentences(run):
    with pytest.raises(UserError, match="did you mean '\\+compile'"):
        explanation_of(run, "+comple")
    block = replace(run.suite.blocks[0], variants=run.suite.blocks[0].variants[:2])
    with pytest.raises(UserError, match="compiles nothing"):
        explanation_of(replace(run, suite=replace(run.suite, blocks=(block,))))


def test_the_way_out_of_the_limit_is_the_fastest_that_differs_in_shapes_alone_and_is_not_given_up():
    static = Variant(name="static", compile="default", dynamic=False)
    others = {  # name -> variant, step time, given up
        "eager": (Variant(name="eager"), 0.1, 0),
        "fused": (replace(static, name="fused", optimizer="fused"), 0.2, 0),
        "unset": (replace(static, name="unset", dynamic=None), 0.9, 0),
        "bucket": (replace(static, name="bucket", bucket=32), 0.8, 0),
        "little": (replace(static, name="little", bucket=4), 0.7, 1),
    }
    work = Workload(task="t", model="m", length=64, lengths=12)
    block = Block(workload=work, variants=(static, *(variant for variant, *_ in others.values())))
    known = {"static": (static, 1.0, 1), **others}

    def center(case, metric):
        return known[case.variant.name][("step_seconds", "recompile_limits").index(metric) + 1]

    frame = SimpleNamespace(center=center)
    assert steadier(frame, block, block.cases[0]).variant.name == "bucket"
    assert steadier(frame, replace(block, variants=(static, *block.variants[1:3])), block.cases[0]) is None


def test_an_old_run_without_insights_is_explained_as_far_as_it_goes(tmp_path):
    [section] = explanation_of(made_run(tmp_path, made_suite((64,))), "+compile").sections
    told = [sentence(item) for item in section.items if not isinstance(item, Table)]
    assert "no graph break; what is left to gain cannot be told: only the trace of a CPU" in told[0]


MODEL = """
import torch
from torch import nn
SIZES = {}
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.token = nn.Embedding(256, 8)
    def forward(self, tokens, mask=None):
        x = self.token(tokens)
        torch._dynamo.graph_break()
        return x @ self.token.weight.t()
def build(attention):
    return Model()
"""
SUITE = """
from harness.spec import Block, Suite, Variant, Workload
def suite():
    work = Workload(task="pretraining/causal_lm", model="model.py", batch=2, length=16, lengths=3)
    block = Block(workload=work, variants=[Variant(name="compiled", compile="default", device="cpu", threads=1)])
    return Suite(name="own", question="?", blocks=[block], launches=1, rounds=1, check_steps=3, quality_steps=0)
"""


@pytest.mark.skipif(missing_cpp() is not None, reason="no C++ compiler")
def test_a_real_break_is_told_with_its_line_and_real_lengths_with_their_guard(tmp_path):
    (tmp_path / "model.py").write_text(MODEL)
    (tmp_path / "own.py").write_text(SUITE)

    def tandem(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "harness.cli", *arguments], cwd=tmp_path, capture_output=True, text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    tandem("run", "own.py", "--quiet")
    said = " ".join(tandem("explain", "latest").split())
    place = f"{tmp_path.name}/model.py:{MODEL.splitlines().index('        torch._dynamo.graph_break()') + 1} in forward"
    assert place in said
    bound = re.search(r"removing them is worth at most ([\d.]+) % of the step: ([\d.]+) % run outside", said)
    assert bound
    assert 0 < float(bound[2]) <= float(bound[1]) < 100
    assert re.search(r"\d recompilations? because .*size mismatch at index 1. expected 16, actual", said)
    assert re.search(r"is worth at most [\d.]+ m?s of each cold start", said)
    assert "cpp_fused" in said
    [case] = json.loads(tandem("report", "latest", "--format", "json"))["cases"]
    assert case["metrics"]["tokens"]["center"] == 2 * (16 + 10 + 4) / 3
    assert case["metrics"]["recompiles"]["center"] >= 1
