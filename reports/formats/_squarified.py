"""Squarified: rectangles whose areas are given, as near to squares as can be (Bruls, Huizing and van Wijk, 2000)."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Rectangle:
    """A place: its corner and its sides."""

    x: float
    y: float
    width: float
    height: float


def squarified(values: Sequence[float], place: Rectangle) -> list[Rectangle]:
    """Return a rectangle for each of the values, which fall and are above zero; together they fill the place."""
    if not values:
        return []
    per_value = place.width * place.height / sum(values)
    areas = [value * per_value for value in values]
    side = min(place.width, place.height)
    count = 1
    while count < len(areas) and worst(areas[: count + 1], side) <= worst(areas[:count], side):
        count += 1
    thick = sum(areas[:count]) / side
    row, offset = [], 0.0
    for area in areas[:count]:
        long = area / thick
        is_wide = place.width >= place.height
        row.append(
            Rectangle(x=place.x, y=place.y + offset, width=thick, height=long)
            if is_wide
            else Rectangle(x=place.x + offset, y=place.y, width=long, height=thick)
        )
        offset += long
    if place.width >= place.height:
        rest = Rectangle(x=place.x + thick, y=place.y, width=place.width - thick, height=place.height)
    else:
        rest = Rectangle(x=place.x, y=place.y + thick, width=place.width, height=place.height - thick)
    return [*row, *squarified(values[count:], rest)]


def worst(areas: Sequence[float], side: float) -> float:
    """Return how far from a square the worst rectangle is, if these areas share a row along `side`."""
    thick = sum(areas) / side
    return max(max(thick * thick / area, area / (thick * thick)) for area in areas)
