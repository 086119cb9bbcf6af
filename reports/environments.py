"""Environments as reports: all labels, or one."""

from collections.abc import Mapping

from harness.environments import Environment
from reports.document import Cell, Document, Note, Section, Table, exact


def listing(found: Mapping[str, Environment | None]) -> Document:
    """Return all labels; None stands for one that is not ready."""
    rows = tuple((label, *(held(item) if item else ("broken", None, None, None))) for label, item in found.items())
    table = Table(title="Known to every command", columns=("label", "torch", "Python", "NumPy", "size"), rows=rows)
    nothing = Note(parts=("no environments yet: make one with `tandem env create 1.13.1 --torch 1.13.1`",))
    return document("Environments", "Which interpreters were made here?", table if rows else nothing)


def description(item: Environment) -> Document:
    """Return what an environment holds, where it is and how it was made."""
    columns = ("torch", "Python", "NumPy", "size", "interpreter", "made", "by")
    rows = tuple(zip(columns, (*held(item), str(item.path), item.made, item.command), strict=True))
    table = Table(title="A worker starts in it", columns=("", item.label), rows=rows)
    return document(f"Environment {item.label}", "What is in it?", table)


def held(item: Environment) -> tuple[Cell, ...]:
    """Return what an environment holds and what it takes."""
    return item.torch, item.python, item.numpy, exact(item.bytes, "B")


def document(title: str, question: str, item: Table | Note) -> Document:
    """Return a document of one table or note."""
    return Document(title=title, question=question, sections=(Section(title=title, question=question, items=(item,)),))
