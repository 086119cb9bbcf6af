"""Text in a checkpoint's own word pieces, as `pieces:FOLDER:own/reviews.csv`: any data with text, for its weights.

FOLDER, or the id of a model in the Hugging Face cache, has a `tokenizer.json`, which the library `tokenizers` (extra
`hf`) reads. It must mark a text's begin and end, as BERT's does: `markers` in the manifest are these pieces and the one
that fills up, so that a row to classify is as in pretraining.

`text` is (samples, pieces of the longest), filled up with 0, `text_lengths` (samples,), both without the markers; all
else is as it was. Between two texts in one stands the mark of an end. What is no UTF-8 is told as the replacement
character.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness import checkpoint
from harness.errors import Unavailable, UserError
from suites.data._parts import JOINT
from suites.data._retold import retold

ARGUMENT = "checkpoint:data"  # what is behind the colon
FILE = "tokenizer.json"


def prepare(folder: Path, source: Path) -> dict[str, Any]:
    """Return the manifest of data in pieces; raise UserError without such a tokenizer, or if the data have no text."""
    name, _, data = str(source).partition(":")
    path = checkpoint.find(name) / FILE
    tokenizer = opened(path)
    count, padding = tokenizer.get_vocab_size(), tokenizer.padding or {}
    tokenizer.no_truncation()
    tokenizer.no_padding()
    marks = tokenizer.encode("").ids
    if len(marks) != 2:
        raise UserError(f"{path} marks no begin and end of a text", "give the checkpoint of a model such as BERT")

    def pieces(text: bytes) -> NDArray[Any]:
        parts = text.decode("utf-8", "replace").split(JOINT.decode())
        first, *more = (tokenizer.encode(part, add_special_tokens=False).ids for part in parts)
        for ids in more:
            first += [marks[1], *ids]
        return np.array(first, dtype=np.uint16 if count <= 2**16 else np.uint32)

    markers = [*marks, padding.get("pad_id", marks[1])]
    state = Path(__file__).read_bytes() + path.read_bytes()
    return retold(data, folder, "pieces", state, pieces, {"vocabulary": count, "markers": markers})


def opened(path: Path) -> Any:
    """Return the tokenizer in a file."""
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise Unavailable("word pieces need the library tokenizers: pip install 'torch-tandem[hf]'") from None
    if not path.is_file():
        raise UserError(f"{path.parent} has no {FILE}", "give the folder of a checkpoint that has one")
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # whatever the library finds wrong with the file
        raise UserError(f"{path} is no tokenizer: {error}", "copy it again from where it was made") from None
