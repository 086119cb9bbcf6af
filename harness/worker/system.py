"""What the system tells in its files: one line of text each."""

from pathlib import Path


def read(path: Path) -> str | None:
    """Return the stripped text of a file, or None where there is none to read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None
