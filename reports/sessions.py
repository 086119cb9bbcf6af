"""Sessions: one file of pytest-benchmark against another, as a report that establishes nothing."""

import math
from collections.abc import Iterator

from harness.benchmark_files import Benchmark, Session
from harness.compare import Comparison, Difference
from harness.errors import UserError
from harness.stats import Caution, Estimate, Judgement, undecided
from reports.document import CaseResult, Document, Note, Quantity, Result, Section, Table, differing

TWO_FILES = Caution(
    code="two files",
    message="each file is one session: rounds of one process do not tell how far the next process or session strays",
    remedy="measure both as variants of one block with `tandem run`",
)
COLUMNS = ("benchmark", "base Q1", "base median", "base Q3", "Q1", "median", "Q3", "ratio of medians")
ANSWER = "unsure, all of them: two sessions cannot tell a change of the code from one of the machine"


def document_of_sessions(base: Session, candidate: Session) -> Document:
    """Return the benchmarks that both files hold, candidate against base, by full name."""
    shared = [name for name in base.benchmarks if name in candidate.benchmarks]
    if not shared:
        raise UserError(f"{base.name} and {candidate.name} share no benchmark", "give two files of the same tests")
    pairs = [(base.benchmarks[name], candidate.benchmarks[name]) for name in shared]
    differences = tuple(unlike(base, candidate, pairs))
    question = f"What has changed from {base.name} to {candidate.name}?"
    items = (
        Note(parts=(ANSWER,), kind="answer"),
        Table(title="Benchmark by benchmark", columns=COLUMNS, rows=tuple(row(*pair) for pair in pairs)),
        Note(parts=(f"{TWO_FILES.code}: {TWO_FILES.message}; {TWO_FILES.remedy}",), kind="warning"),
        *unlikeness(differences, base, candidate),
        *lacking(base, candidate),
        *lacking(candidate, base),
    )
    return Document(
        title=f"{base.name}, {candidate.name}",
        question=question,
        sections=(Section(title="Session against session", question=question, items=items),),
        results=(result(base, candidate, pairs, differences),),
    )


def row(base: Benchmark, candidate: Benchmark) -> tuple[str | Quantity, ...]:
    """Return a row of the table."""
    times = (base.lower, base.median, base.upper, candidate.lower, candidate.median, candidate.upper)
    ratio = Quantity(estimate=exactly(candidate.median / base.median), unit="1")
    return (base.name, *(Quantity(estimate=exactly(value), unit="s") for value in times), ratio)


def exactly(value: float, rounds: int = 1) -> Estimate:
    """Return a value without an interval: one session gives none."""
    return Estimate(center=value, low=math.nan, high=math.nan, n=rounds)


def judgement(base: Benchmark, candidate: Benchmark) -> Judgement:
    """Return the ratio of the medians; what it is worth is unknown, however many rounds there are."""
    return undecided(candidate.median / base.median, 1, (TWO_FILES,))


def unlike(base: Session, candidate: Session, pairs: list[tuple[Benchmark, Benchmark]]) -> Iterator[Difference]:
    """Yield what both files tell of the machine and do not tell alike."""
    told = [(name, value, candidate.machine.get(name)) for name, value in base.machine.items()]
    told += dict.fromkeys(("hardware", before.hardware, after.hardware) for before, after in pairs)
    for field, before, after in told:
        if before and after and before != after:
            yield Difference(field=field, base=str(before), candidate=str(after))


def unlikeness(differences: tuple[Difference, ...], base: Session, candidate: Session) -> Iterator[Note | Table]:
    """Yield how the machines differ, if they do."""
    if differences:
        yield Note(parts=("the machines or their software differ: the ratios may be theirs",), kind="warning")
        yield differing(differences, base.name, candidate.name)


def lacking(base: Session, candidate: Session) -> Iterator[Note]:
    """Yield which benchmarks only one file holds."""
    if names := [name for name in base.benchmarks if name not in candidate.benchmarks]:
        yield Note(parts=(f"only in {base.name}: {', '.join(names)}",))


def result(
    base: Session,
    candidate: Session,
    pairs: list[tuple[Benchmark, Benchmark]],
    differences: tuple[Difference, ...],
) -> Result:
    """Return the same for programs."""
    return Result(
        run={"id": candidate.name, "suite": candidate.name},
        environments={},
        cases=tuple(case(after) for _, after in pairs),
        comparisons=tuple(
            Comparison(
                block=after.group, case=after.name, baseline=base.name, candidate=candidate.name,
                metric="median_seconds", judgement=judgement(before, after),
            )
            for before, after in pairs
        ),
        base={"id": base.name, "suite": base.name},
        differences=differences,
    )  # fmt: skip


def case(side: Benchmark) -> CaseResult:
    """Return a benchmark as a case."""
    return CaseResult(
        case=side.name,
        block=side.group,
        workload={},
        variant={"name": side.name},
        outcome="ok",
        reason=None,
        metrics={"median_seconds": Quantity(estimate=exactly(side.median, side.rounds), unit="s")},
        facts={"lower_quartile_seconds": side.lower, "upper_quartile_seconds": side.upper, "hardware": side.hardware},
        warnings=(),
    )
