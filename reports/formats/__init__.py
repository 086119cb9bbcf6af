"""Formats: `render(document) -> str`, one a file."""
