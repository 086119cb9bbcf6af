"""Text in words instead of bytes, as `words:stdlib`, `words:functions` or `words:own/reviews.csv`: any text.

A word is a run of letters of one case, of which the first may be a capital, a number, any other character, or the start
of a line with its indent; `_` and what else is white count for nothing. Letters beyond ASCII are small ones. Words have
no list: each has the number FIRST or more that a checksum of it in small letters gives, so two may share one
(Weinberger et al. 2009, https://arxiv.org/abs/0902.2206). Below are the numbers of bytes and markers. A model of
them takes `vocabulary=4096`.

`text`, or `source` and `target`, are (samples, words of the longest), uint16, filled up with 0, their lengths
(samples,); all else is as it was. A text that is not in samples is one row of words.
"""

import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from suites.data._retold import retold
from suites.pretraining._windows import FIRST

ARGUMENT = "data"  # what is behind the colon
VOCABULARY = 4096
TEXTS = ("text", "source", "target")  # each told in words where samples have it
WORD = re.compile(rb"[A-Z]+(?![a-z\x80-\xff])|[A-Z]?[a-z\x80-\xff]+|[0-9]+|\n *|[^\s_]")


def prepare(folder: Path, source: Path) -> dict[str, Any]:
    """Return the manifest of the data `source` in words; raise UserError if these have no text."""
    state = Path(__file__).read_bytes() + str(FIRST).encode()
    return retold(str(source), folder, "words", state, words, {"vocabulary": VOCABULARY}, TEXTS)


def words(text: bytes) -> NDArray[np.uint16]:
    """Return the numbers of a text's words."""
    checksums = (zlib.crc32(found[0].lower()) for found in WORD.finditer(text))
    return np.fromiter((FIRST + checksum % (VOCABULARY - FIRST) for checksum in checksums), dtype=np.uint16)
