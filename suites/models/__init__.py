"""Models: each file defines `build(attention, **config) -> Module` and its `SIZES`."""
