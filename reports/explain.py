"""Explain: a run's compiled cases -> what torch.compile made of each, and advice."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from harness.chosen import meant
from harness.compare import changed, contrast
from harness.errors import UserError
from harness.spec import Block, Case
from harness.store import Run
from reports.advice import Evidence, advice
from reports.document import Change, Document, Note, Section, Table, exact, filled
from reports.frame import Frame, frame_of, result_of

STAGES = {"first step": "first_step", "compile": "compile", "Dynamo": "dynamo", "AOT": "aot", "Inductor": "inductor"}
QUESTION = "What did torch.compile make of it, and what would help?"
TOO_OFTEN = "given up: compiled too often"  # as the worker says it
NO_TRACE = "the run has no trace of it: run it without --no-trace, or see its warnings"
NO_MARKS = "only the trace of a CPU, of torch 2.1 or newer, marks where compiled code runs; see `tandem report`"


def explanation_of(run: Run, name: str | None = None) -> Document:
    """Return the explanation of the compiled cases of a run, or of those that `name` means."""
    frame = frame_of(run)
    cases = explained(frame, name)
    told = {case.id: advice_on(frame, block, case) for block, case in cases}
    return Document(
        title=run.suite.name,
        question=QUESTION,
        sections=tuple(
            Section(
                title=f"{block.name}, {case.variant.name}",
                question=QUESTION,
                items=(*told[case.id], *basis(frame, case)),
            )
            for block, case in cases
        ),
        results=(replace(result_of(frame), advice=told),),
    )


def explained(frame: Frame, name: str | None) -> list[tuple[Block, Case]]:
    """Return the cases with their blocks: of a name (variant, id, a part of it, or a pattern), or all that compiled."""
    named = None if name is None else [case.id for case in meant(frame.run.suite.cases, name)]
    found = [
        (block, case)
        for block in frame.run.suite.blocks
        for case in block.cases
        if (case.variant.compile != "none" if named is None else case.id in named)
    ]
    if not found:
        raise UserError(f"run {frame.run.id} compiles nothing", "explain one of `tandem run compile`")
    return found


def advice_on(frame: Frame, block: Block, case: Case) -> tuple[Note, ...]:
    """Return the advice on a case, or why there is none."""
    if not frame.figures.is_measured(case):
        outcome = frame.outcome(case)
        return (Note(parts=(f"{outcome['status']}: {outcome['reason'] or 'nothing was measured'}",), kind="answer"),)
    if case.variant.compile == "none":
        return (Note(parts=("it is not compiled: explain a variant that is (compile=default)",), kind="answer"),)
    return advice(evidence(frame, block, case))


def basis(frame: Frame, case: Case) -> tuple[Note | Table, ...]:
    """Return what the advice on a compiled case rests on."""
    if case.variant.compile == "none" or not frame.figures.is_measured(case):
        return ()
    facts = frame.outcome(case)["facts"]
    tables = (
        graphs(facts), stages(frame, case), outside(facts),
        kernels(facts, "generated_kernels", "Generated kernels, by what they fuse, and their calls in all graphs"),
        kernels(facts, "library_kernels", "Library kernels, and their calls in all graphs"),
    )  # fmt: skip
    hardware = frame.hardware(case)
    shown = [filled(Table(**table, hardware=hardware)) for table in tables if table["rows"]]
    return (*reasons(facts), *fusions(frame, case), *shown)


def evidence(frame: Frame, block: Block, case: Case) -> Evidence:
    """Return what the run knows of a compiled case."""
    facts = frame.outcome(case)["facts"]
    records = facts.get("compilations")
    again = [record for record in records or () if record["guard"] and record["outcome"] != TOO_OFTEN]
    shares = trained_share(frame, case), frame.center(case, "outside_share"), frame.center(case, "generated_share")
    trained, outside, generated = shares
    optimizer = phase_share(frame, case, "optimizer_seconds") if case.variant.optimizer == "loop" else None
    return Evidence(
        breaks=facts.get("graph_break_reasons", ()),
        guards=[f"{record['guard']} ({record['place']})" for record in again] or facts.get("recompile_reasons", ()),
        recompiles=len(again) or int(frame.center(case, "recompiles") or 0),
        recompile_seconds=sum(record["seconds"] for record in again) if again else None,
        given_up=given_up(records or ()),
        outside=None if None in shares else (trained or 0) * (outside or 0),
        generated=None if None in shares else (trained or 0) * (generated or 0),
        unknown=NO_MARKS if "operators" in facts else NO_TRACE,
        optimizer=optimizer,
        cold=frame.center(case, "cold_compile_seconds"),
        warm=frame.center(case, "warm_compile_seconds"),
        break_even=frame.break_even(block, case),
        steadier=against(frame, block, case, steadier(frame, block, case)),
    )


def given_up(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the functions that were compiled too often."""
    places = (record["place"] for record in records if record["outcome"] == TOO_OFTEN)
    return list(dict.fromkeys(places))


def trained_share(frame: Frame, case: Case) -> float | None:
    """Return forward and backward as a share of a step."""
    parts = [phase_share(frame, case, f"{phase}_seconds") for phase in ("forward", "backward")]
    return None if None in parts else sum(part or 0 for part in parts)


def phase_share(frame: Frame, case: Case, metric: str) -> float | None:
    """Return a phase as a share of the sum of all, which were observed in the same turns."""
    phases = {name: frame.center(case, name) for name in ("data_seconds", "forward_seconds", "backward_seconds")}
    phases["optimizer_seconds"] = frame.center(case, "optimizer_seconds")
    if None in phases.values():
        return None
    return (phases[metric] or 0) / sum(value or 0 for value in phases.values())


def steadier(frame: Frame, block: Block, case: Case) -> Case | None:
    """Return the fastest case that differs in `dynamic` and `bucket` alone and was not given up."""
    others = [
        (time, other)
        for other in block.cases
        if other.id != case.id
        and set(changed(vars(case.variant), vars(other.variant))) <= {"dynamic", "bucket"}
        and frame.center(other, "recompile_limits") == 0
        and (time := frame.center(other, "step_seconds"))
    ]
    return min(others, key=lambda item: item[0], default=(0.0, None))[1]


def against(frame: Frame, block: Block, case: Case, other: Case | None) -> tuple[str, Change] | None:
    """Return another case's name and its step time over a case's own, if there is one and both were measured."""
    if other is None:
        return None
    found = next(contrast(block, case, other, frame.figures, ("step_seconds",)), None)
    return (other.variant.name, Change(judgement=found.judgement)) if found else None


def reasons(facts: Mapping[str, Any]) -> list[Note]:
    """Return a line for each graph break, and for each guard that failed where the table of compilations has none."""
    lines = [f"graph break: {reason}" for reason in facts.get("graph_break_reasons", ())]
    if "compilations" not in facts:
        lines += [f"recompiled: {reason}" for reason in facts.get("recompile_reasons", ())]
    return [Note(parts=(line,)) for line in lines]


def graphs(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return each compilation: where, how large, how long, why again."""
    rows = [
        (
            record["id"],
            record["place"],
            record["operators"],
            record["guards"],
            exact(record["seconds"]) if record["seconds"] else None,
            record["outcome"],
            record["guard"] or None,
        )
        for record in facts.get("compilations", ())
    ]
    columns = ("graph", "function", "operators", "guards", "compile time", "outcome", "compiled again because")
    return {"title": "Compilations, in order", "columns": columns, "rows": tuple(rows)}


def stages(frame: Frame, case: Case) -> dict[str, Any]:
    """Return what starting costs by stage, with an empty and with a filled cache."""
    rows = [
        (when, *(frame.quantity(case, f"{when}_{stage}_seconds") for stage in STAGES.values()))
        for when in ("cold", "warm")
    ]
    measured = tuple(row for row in rows if any(row[1:]))
    return {"title": "Compile time by stage", "columns": ("cache", *STAGES), "rows": measured}


def outside(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the operators of forward and backward that ran outside of compiled code."""
    rows = tuple(
        (item["name"], exact(item["seconds"]), f"{item['calls']:g}") for item in facts.get("outside_compiled", ())
    )
    title = "Forward and backward outside of compiled code, a step, from the trace"
    return {"title": title, "columns": ("operator", "own time", "calls"), "rows": rows}


def kernels(facts: Mapping[str, Any], name: str, title: str) -> dict[str, Any]:
    """Return kernels with how often compiled code calls them."""
    rows = tuple((item["name"], item["calls"]) for item in facts.get(name, ()))
    return {"title": title, "columns": ("kernel", "calls"), "rows": rows}


def fusions(frame: Frame, case: Case) -> list[Note]:
    """Return how many operators became how many kernels."""
    counts = [frame.center(case, name) for name in ("operators_before_fusion", "generated_kernels", "library_kernels")]
    if None in counts:
        return []
    before, generated, library = (int(count or 0) for count in counts)
    became = f"{generated} calls of generated kernels and {library} of library kernels"
    return [Note(parts=(f"fused: {before} operators of all graphs, forward and backward, became {became}",))]
