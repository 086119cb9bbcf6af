"""JUnit XML for CI: a test case for each case; a regression is a failure, what cannot be told is skipped with why."""

from collections.abc import Iterable, Iterator
from xml.etree import ElementTree

from harness.verdict import Ruling, Verdict
from reports.document import CaseResult, Document, Result, heading
from reports.formats._words import text, words
from reports.views.gate import because, cell

FAILED = {"wrong": "failure", "oom": "error", "timeout": "error", "error": "error", "unavailable": "skipped",
          "interrupted": "skipped"}  # fmt: skip


def render(document: Document) -> str:
    """Return one test suite a run: of the gate's verdicts, or of how the cases ended where it is no gate's."""
    root = ElementTree.Element("testsuites", name="tandem")
    for result in document.results:
        cases = list(of_gate(result.gate) if result.gate else of_outcomes(result.cases))
        suite = ElementTree.SubElement(root, "testsuite", name=text(str(result.run["suite"])), tests=str(len(cases)))
        for tag, name in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
            suite.set(name, str(sum(case.find(tag) is not None for case in cases)))
        suite.set("time", f"{seconds(result):.3f}")
        suite.extend(cases)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def of_gate(ruling: Ruling) -> Iterator[ElementTree.Element]:
    """Yield a test case for each case of a gate, with the worst of its verdicts."""
    cases: dict[tuple[str, str], list[Verdict]] = {}
    for verdict in ruling.verdicts:
        cases.setdefault((verdict.block, verdict.case), []).append(verdict)
    for (block, _), verdicts in cases.items():
        case = ElementTree.Element("testcase", classname=text(ruling.candidate), name=text(block))
        said = [(item, sentence(item)) for item in verdicts]
        for word, tag in (("fail", "failure"), ("error", "error"), ("unsure", "skipped")):
            found = [line for item, line in said if item.verdict == word and not item.allowed]
            if found:
                ElementTree.SubElement(case, tag, message=found[0]).text = "\n".join(found)
                break
        ElementTree.SubElement(case, "system-out").text = "\n".join(line for _, line in said)
        yield case


def of_outcomes(cases: Iterable[CaseResult]) -> Iterator[ElementTree.Element]:
    """Yield a test case for each case of a run, by how it ended."""
    for result in cases:
        name = f"{result.block} {result.variant['name']}"
        case = ElementTree.Element("testcase", classname=text(result.block), name=text(name))
        if tag := FAILED.get(result.outcome):
            ElementTree.SubElement(case, tag, message=text(f"{result.outcome}: {result.reason}"))
        yield case


def sentence(item: Verdict) -> str:
    """Return a verdict in a line: the metric, the figure, why."""
    return text(f"{item.verdict}: {heading(item.metric)} {words(cell(item))}: {because(item)}")


def seconds(result: Result) -> float:
    """Return how long a run took."""
    return float(result.run.get("seconds", {}).get("total", 0.0))
