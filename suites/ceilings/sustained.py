"""Half a minute of matrix products on end: whether the machine keeps its rate, or grows hot and slow."""

from harness.work import Ceiling, Place
from suites.ceilings import matmul

TURNS = 30
"""Turns of a second each, on end, nothing else in between."""


def prepare(place: Place, *, rows: int, inner: int, columns: int) -> Ceiling:
    """Return the products of `matmul`."""
    return matmul.prepare(place, rows=rows, inner=inner, columns=columns)
