"""Ceilings: what a machine can do at most, one kind of work a file; `prepare(place, *, settings) -> Ceiling`."""
