"""Runs made by a seeded generator: what reports and comparisons are tested on, without measuring anything."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from harness.compare import Between, between
from harness.figures import figures
from harness.policy import Policy
from harness.spec import Block, Case, Suite, Variant, Workload
from harness.store import COLUMNS, Run, checksum, write_json

RUNGS = {  # name -> what it adds, and a step's time, peak memory and output error, as factors of v1's
    "v1": ({}, 1.0, 1.0, 1e-6),
    "+sdpa": ({"attention": "sdpa"}, 0.80, 0.7, 2e-6),
    "+compile": ({"compile": "default"}, 0.62, 0.65, 3e-6),
    "+fused": ({"optimizer": "fused"}, 0.61, 0.65, 3e-6),
    "+bf16": ({"precision": "bf16"}, 0.70, 0.45, 8e-3),
}
GATED = {"base": ({}, 1.0, 1.0, 1e-6), "candidate": ({}, 1.12, 1.02, 1e-6), "control": ({}, 1.0, 1.0, 1e-6)}
HOSTILE = "<script>alert(1)</script>\"'&|`*_[x](http://evil)\x1b[31m\nsecond line</style>{{ 7 * 7 }}"
LINE = "Made CPU @ 2 cores, 8 GiB, Linux, Python 3.11, torch 2.13.0"
SECONDS = {"startup": 12.0, "build": 3.5, "compile": 80.25, "warmup": 30.0, "timed": 40.0, "total": 170.0}


def made_suite(lengths: Sequence[int] = (64, 128), launches: int = 5, name: str = "made") -> Suite:
    """Return a suite of one model at `lengths`, on five rungs, the last unavailable on the longest."""
    fields: dict[str, Any] = {}
    variants = tuple(Variant(name=rung, **(fields := fields | added)) for rung, (added, *_) in RUNGS.items())
    blocks = tuple(
        Block(
            workload=Workload(task="pretraining/causal_lm", model="gpt", size="tiny", batch=4, length=length),
            variants=variants,
        )
        for length in lengths
    )
    return Suite(
        name=name,
        question="What does each step to 2.x gain?",
        blocks=blocks,
        launches=launches,
        rounds=6,
        quality_steps=8,
    )


def made_run(
    folder: Path,
    suite: Suite | None = None,
    *,
    slower: float = 1.0,
    noise: float = 0.01,
    seed: int = 0,
    name: str = "made-run",
    fails: bool = True,
) -> Run:
    """Write a run's rows below `folder` and return it opened; `slower` multiplies every step time."""
    suite = suite or made_suite()
    draw = np.random.default_rng(seed)
    missing = suite.blocks[-1].cases[-1] if fails and len(suite.blocks) > 1 else None
    cases = [(block, case) for block in suite.blocks for case in block.cases]
    found = [row for block, case in cases if case != missing for row in rows(suite, case, draw, slower, noise)]
    folder.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(found, columns=list(COLUMNS)).to_parquet(folder / "samples.parquet")
    return Run(
        path=folder,
        id=name,
        meta={
            "format": 1,
            "id": name,
            "command": ["tandem", "run", suite.name],
            "status": "complete",
            "seconds": SECONDS,
            "data": {"stdlib": {"sha256": "a" * 64}},
        },
        suite=suite,
        environments={
            "current": {"line": LINE, "cpu": "Made", "cores": 2, "fingerprint": "f0", "calibration": {"gemm": 0.01}}
        },
        outcomes=[outcome(block, case, is_missing=case == missing) for block, case in cases],
    )


def sealed_run(folder: Path, suite: Suite | None = None, *, fingerprint: str = "f0", **made: Any) -> Path:
    """Write a run as `tandem run` seals it, with `made` as for `made_run`; return its folder, named after it."""
    made = {"name": folder.name, **made}
    meta = {key: made.pop(key) for key in ("status", "started", "commit") if key in made}
    run = made_run(folder, suite, **made)
    place = {**run.environments["current"], "fingerprint": fingerprint, "line": f"{LINE} {fingerprint}"}
    write_json(folder / "plan.json", [])
    write_json(folder / "environments.json", {"current": place})
    write_json(folder / "outcomes.json", run.outcomes)
    (folder / "events.jsonl").write_text("{}\n")
    checksums = {name: checksum(folder / name) for name in ("samples.parquet", "events.jsonl", "plan.json")}
    more = {"suite": run.suite.to_json(), "launches": {}, "checksums": checksums}
    write_json(folder / "run.json", {**run.meta, **more, **meta})
    return folder


def made_gate(folder: Path, policy: Policy) -> Run:
    """Return a run of the gate on two blocks, whose candidate takes 12 % more time and 2 % more memory."""
    blocks = tuple(
        replace(
            block, name=f"{block.name} v1", baseline="", variants=tuple(Variant(name=f"v1 {role}") for role in GATED)
        )
        for block in made_suite().blocks
    )
    suite = replace(made_suite(name="gate-made", launches=10), blocks=blocks)
    run = made_run(folder, suite, name="made-gate", fails=False)
    gate = {"base": "v1", "candidate": "+sdpa", "policy": policy.to_json()}
    return replace(run, meta=run.meta | {"started": "2026-11-24T12:00:00+00:00", "gate": gate})


def hostile(run: Run) -> Run:
    """Return the run with a hostile text wherever one can come from outside."""
    block = run.suite.blocks[1]
    variants = (block.variants[0], *(replace(item, name=item.name + HOSTILE) for item in block.variants[1:]))
    suite = replace(
        run.suite, name=HOSTILE, question=HOSTILE, blocks=(replace(block, name=HOSTILE, variants=variants),)
    )
    renamed = dict(zip((case.id for case in block.cases), (case.id for case in suite.cases), strict=True))
    samples = run.samples().astype({"case": str, "metric": str})
    samples = samples[samples["case"].isin(renamed)]
    samples.assign(case=samples["case"].map(renamed)).to_parquet(run.path / "samples.parquet")
    facts = dict.fromkeys(("attention_requested", "attention_actual", "reference"), HOSTILE)
    facts |= {"operators": [{"name": HOSTILE, "seconds": 1.0, "calls": 1}], "graph_break_reasons": [HOSTILE]}
    outcomes = [
        outcome | {"case": renamed[outcome["case"]], "block": HOSTILE, "facts": facts, "reason": HOSTILE,
                   "warnings": [{"code": HOSTILE, "message": HOSTILE, "remedy": HOSTILE}]}
        for outcome in run.outcomes if outcome["case"] in renamed
    ]  # fmt: skip
    environments = {"current": run.environments["current"] | {"line": HOSTILE}}
    meta = run.meta | {"command": ["tandem", HOSTILE]}
    return replace(run, id=HOSTILE, suite=suite, outcomes=outcomes, environments=environments, meta=meta)


def rows(suite: Suite, case: Case, draw: np.random.Generator, slower: float, noise: float) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a case."""
    _, speed, memory, error = {**RUNGS, **GATED}[case.variant.name.split()[-1]]
    step = 0.012 * speed * slower * case.workload.length / 64
    tokens = case.workload.batch * case.workload.length
    is_compiled = case.variant.compile != "none"

    def once(launch: int, metric: str, value: float, step: int = 0) -> tuple[Any, ...]:
        return (case.id, launch, 0, 0, step, metric, float(value))

    for launch in range(1, suite.launches + 1):
        mood = step * np.exp(draw.normal(0, noise))
        for number in range(1, suite.rounds + 1):
            for index in range(2):
                yield (
                    case.id,
                    launch,
                    number,
                    number,
                    index,
                    "step_seconds",
                    float(mood * np.exp(draw.normal(0, noise))),
                )
        for phase, share in (("data", 0.05), ("forward", 0.3), ("backward", 0.45), ("optimizer", 0.2)):
            yield once(launch, f"{phase}_seconds", mood * share)
        yield once(launch, "phases_share", 1.0)
        if suite.fit:
            yield once(launch, "largest_batch", 96)
        if case.variant.loader != "none":
            yield once(launch, "load_seconds", mood * 0.02)
            yield once(launch, "samples", case.workload.batch)
        yield once(launch, "tokens", tokens)
        yield once(launch, "flop", tokens * 6e6)
        yield once(launch, "memory_peak_bytes", 2**28 * memory * (1 + draw.normal(0, 1e-4)))
        yield once(launch, "memory_parameters_bytes", 2**22)
        yield once(launch, "memory_activations_bytes", 2**25 * memory)
        if is_compiled:
            yield once(launch, "graphs", 1)
            yield once(launch, "graph_breaks", 0)
            yield once(launch, "recompiles", 0)
        if launch > 1:
            yield once(launch, "warm_first_step_seconds", 4.0 if is_compiled else 0.05)
    yield once(1, "cold_first_step_seconds", 24.0 if is_compiled else 0.05)
    yield once(1, "cold_start_seconds", 24.0 if is_compiled else 0.05)
    if is_compiled:
        for stage, seconds in (("compile", 23.0), ("dynamo", 3.0), ("aot", 2.5), ("inductor", 17.5)):
            yield once(1, f"cold_{stage}_seconds", seconds)
    for metric, factor in (("output", 1.0), ("loss", 0.1), ("gradient", 3.0), ("losses", 0.2)):
        yield once(1, f"{metric}_error", error * factor)
    for index in range(suite.quality_steps):
        yield once(1, "training_loss", 5.5 - 0.2 * index + error, index)
    yield once(1, "held_out_loss", 4.1 + error)


def outcome(block: Block, case: Case, *, is_missing: bool) -> dict[str, Any]:
    """Return how a case ended."""
    warning = {"code": "recompiled", "message": "it compiled again between timed steps", "remedy": "fix the shapes"}
    operators = [
        {"name": "aten::mm", "seconds": 0.004, "calls": 40},
        {"name": "aten::add", "seconds": 0.001, "calls": 9},
    ]
    facts = {
        "weights_sha256": "a" * 64,
        "attention_requested": case.variant.attention,
        "attention_actual": "formula" if case.variant.attention == "formula" else "sdpa_flash",
        "reference": "float64 formula",
        "operators": operators,
        "graph_break_reasons": [],
    }
    return {
        "case": case.id,
        "block": block.name,
        "launch": 1,
        "status": "unavailable" if is_missing else "ok",
        "reason": "bf16 needs a CPU with AVX512" if is_missing else None,
        "facts": {} if is_missing else facts,
        "warnings": [warning] if case.variant.name == "+compile" and not is_missing else [],
    }


def compared(base: Run, candidate: Run) -> Between:
    """Return one run against another."""
    return between(figures(base), figures(candidate))


def made_machine(folder: Path) -> Run:
    """Return a run of a product, a copy on two working sets and a model, with the ceilings that they amount to."""

    def ceiling(task: str, **settings: Any) -> Block:
        variant = Variant(name="v1")
        return Block(workload=Workload(task=f"ceilings/{task}", settings=settings), variants=(variant,))

    blocks = (
        ceiling("matmul", rows=64, inner=64, columns=64),
        *(ceiling("memory", operation="copy", size=2**power) for power in (20, 28)),
        made_suite((64,)).blocks[0],
    )
    suite = replace(made_suite((64,)), name="hardware", blocks=blocks)
    run = made_run(folder, suite)
    rows, amounts = run.samples(), ("flop", "moved_bytes", "moved_bytes")
    for block, amount in zip(blocks, amounts, strict=False):
        row = {"case": block.cases[0].id, "launch": 1, "round": 0, "turn": 0, "step": 0, "metric": amount, "value": 2e9}
        rows = pd.concat([rows.astype({"case": str, "metric": str}), pd.DataFrame([row])])
    parts = {"flop": 2e9, "forward_flop": 0.7e9, "peak_flop_per_second": 1e12}
    parts |= {f"memory_{part}_bytes": 1e6 for part in ("parameters", "gradients", "optimizer", "activations")}
    for case in blocks[-1].cases:
        found = [{**row, "case": case.id, "metric": name, "value": value} for name, value in parts.items()]
        rows = pd.concat([rows, pd.DataFrame(found)])
    rows.to_parquet(folder / "samples.parquet")
    place = {"peaks": {"fp32": 1e12, "bf16": 2e12}, "bandwidths": [[2**20, 9e10], [2**28, 1e10]], "passport": "made"}
    run.meta["ceilings"] = {run.place(case): place for case in suite.cases}
    return run
