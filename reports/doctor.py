"""The doctor's report: whether to measure here, the machine, the power curve, the other faults."""

from collections.abc import Sequence

from harness.doctor import Diagnosis, Level
from harness.fitness import Check
from harness.looks import LOOKS
from harness.store import Run
from reports.document import Cell, Document, Note, Section, Table, exact, filled
from reports.frame import frame_of, result_of

QUESTION = "Is this machine fit to measure on, and does Tandem keep its promises here?"


def document_of(checks: Sequence[Check], found: Diagnosis, run: Run, seconds: float) -> Document:
    """Return the report; `seconds` is how long all of it took."""
    frame = frame_of(run)
    sections = (
        Section(title="Doctor", question=QUESTION, items=answers(checks, found, seconds)),
        Section(title="Machine", question="Is it fit to measure on?", items=(machine(checks),)),
        Section(title="Promises", question="What does the gate see here?", items=promises(found, frame.hardware(
            *run.suite.blocks[0].cases
        ))),
    )  # fmt: skip
    return Document(title="doctor", question=QUESTION, sections=sections, results=(result_of(frame),))


def answers(checks: Sequence[Check], found: Diagnosis, seconds: float) -> tuple[Note, ...]:
    """Return the verdict in a sentence, and a warning for all that is bad or broken."""
    bad = [check for check in checks if check.status == "bad"]
    warnings = [f"{check.name}: {check.seen}; {check.remedy}" for check in bad] + found.broken
    return (
        Note(parts=(verdict(checks, found),), kind="answer"),
        *(Note(parts=(warning,), kind="warning") for warning in warnings),
        Note(parts=("it took", exact(seconds))),
    )


def verdict(checks: Sequence[Check], found: Diagnosis) -> str:
    """Return the first line."""
    bad, notes = (sum(check.status == status for check in checks) for status in ("bad", "note"))
    counts = [f"{bad} bad"] * (bad > 0) + [f"{notes} note{'s' * (notes > 1)}"] * (notes > 0)
    said = ["not " * (bad > 0) + "fit to measure" + (f", with {' and '.join(counts)}" if counts else "")]
    if found.broken:
        said.append(f"{len(found.broken)} promises broken" if len(found.broken) > 1 else "1 promise broken")
    shown = [level for level in found.levels if level.nominal in (0.05, 0.10)]
    if shown:
        caught = ", ".join(f"{level.true:+.1%} in {level.first:.0%}" for level in shown)
        said.append(f"at {LOOKS[0]} launches this machine shows {caught} of gates")
    said.append(f"false alarms {alarms(found)}")
    return "; ".join(said)


def alarms(found: Diagnosis) -> str:
    """Return how many A/A gates raised an alarm."""
    if not found.gates:
        return "unknown: nothing could be judged"
    return f"{found.alarms} of {found.gates} resampled gates (at most {found.limits[1]:.1%} of such gates)"


def machine(checks: Sequence[Check]) -> Table:
    """Return a row a check."""
    rows = tuple((check.name, check.seen, check.status, check.remedy or None) for check in checks)
    return filled(Table(title="The machine", columns=("what", "seen", "status", "what to do"), rows=rows))


def promises(found: Diagnosis, hardware: tuple[str, ...]) -> tuple[Note | Table, ...]:
    """Return the power curve and the other faults."""
    power = Table(
        title="Slowdowns: share of gates that caught them",
        columns=("asked for", "measured", f"caught after {LOOKS[0]} launches", f"caught after up to {LOOKS[-1]}"),
        rows=tuple(row(level) for level in found.levels),
        hardware=hardware,
    )
    words = {True: "caught", False: "NOT CAUGHT", None: "not tried"}
    faults = Table(
        title="Other faults",
        columns=("fault", "", "seen"),
        rows=tuple((fault.name, words[fault.caught], fault.seen) for fault in found.faults),
    )
    caution = (
        f"these gates are resampled, with replacement, from {found.launches} launches of one session: they are not "
        f"independent, and a machine whose mood changes from hour to hour is noisier than they show"
    )
    return power, Note(parts=(f"false alarms, the same code twice: {alarms(found)}",)), Note(parts=(caution,)), faults


def row(level: Level) -> tuple[Cell, ...]:
    """Return a slowdown as cells."""
    return tuple(
        f"{value:{sign}}"
        for value, sign in (
            (level.nominal, "+.0%"), (level.true, "+.1%"), (level.first, ".0%"), (level.overall, ".0%")
        )
    )  # fmt: skip
