"""The wire: one JSON object a line, NaN and infinity as strings that `float` reads."""

import json
import math
from typing import Any


def encode(message: dict[str, Any]) -> bytes:
    """Return `message` as one line of UTF-8 JSON, its line feed included."""
    return (json.dumps(portable(message), allow_nan=False) + "\n").encode()


def decode(line: bytes) -> dict[str, Any]:
    """Return the object on `line`; raise ValueError if it is anything else."""
    message = json.loads(line)
    if not isinstance(message, dict):
        raise ValueError(f"not a JSON object: {line[:80]!r}")
    return message


def portable(value: Any) -> Any:
    """Return `value` with every float that JSON lacks as "nan", "inf" or "-inf"."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: portable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [portable(item) for item in value]
    return value
