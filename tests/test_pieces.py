"""Text in a checkpoint's word pieces: which pieces and markers, and what refuses them."""

import json

import numpy as np
import pytest
import torch

from harness import load, names
from harness.errors import UserError

tokenizers = pytest.importorskip("tokenizers", reason="needs the extra hf")
VOCABULARY = {name: number for number, name in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "open", "##ed", "close"])}
TABLE = "text,label\n" + "".join(f"{'opened ' * (count % 3 + 1)}{word}{count},{word}\n" for word in ("open", "close")
                                 for count in range(9))  # fmt: skip


def tokenizer(**changes):
    made = tokenizers.Tokenizer(tokenizers.models.WordPiece(VOCABULARY, unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.post_processor = changes.get("marks", tokenizers.processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2)))
    made.enable_truncation(4)
    made.enable_padding(pad_id=0, length=8)
    return made


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "own.csv").write_text(TABLE)
    (tmp_path / "model").mkdir()
    tokenizer().save(str(tmp_path / "model/tokenizer.json"))
    return tmp_path


def manifest(folder, name="pieces:model:own.csv"):
    return load.manifest(names.find("data", name, [folder]), folder / "made")


def test_a_text_is_in_pieces_without_markers_and_whole(folder):
    made = manifest(folder)
    assert (made["vocabulary"], made["markers"]) == (7, [2, 3, 0])
    assert (made["name"], made["classes"]) == ("pieces own", 2)
    text, lengths = (np.load(made["train"][name]) for name in ("text", "text_lengths"))
    assert text.dtype == np.uint16
    assert {*lengths.tolist()} == {3, 5, 7}  # opened, once to three times, is two pieces, and the last word one
    assert text[lengths == 5][0].tolist()[:5] == [4, 5, 4, 5, 1]
    assert manifest(folder) == made


def test_a_row_to_classify_is_as_the_checkpoint_saw_its_texts(folder):
    config = {"task": "x", "batch": 8, "length": 6, "padding": 0.0, "seed": 0, "data": manifest(folder)}
    model = torch.nn.Embedding(7, 1)
    tokens, mask, _ = (
        names.find("task", "finetuning/text_classification").load()(model, config, torch.device("cpu")).batch(0)
    )
    for row, real in zip(tokens.tolist(), mask.tolist(), strict=True):
        count = sum(real)
        assert row[:count] in ([2, 4, 5, 1, 3], [2, 4, 5, 4, 5, 3])
        assert row[count:] == [0] * (6 - count)
    with pytest.raises(UserError, match="uses 7 different tokens"):
        names.find("task", "finetuning/text_classification").load()(
            torch.nn.Embedding(6, 1), config, torch.device("cpu")
        )


def test_between_two_texts_stands_the_mark_of_an_end(folder):
    rows = "".join(f"open\x1eclose {word * count},{word}\n" for word in ("open", "close") for count in range(1, 5))
    (folder / "own.csv").write_text(f"text,label\n{rows}")
    text = np.load(manifest(folder)["train"]["text"])
    assert text[:, :3].tolist() == [[4, 3, 6]] * len(text)


def test_a_model_that_looks_for_markers_is_told_those_of_the_pieces(folder):
    class Looking(torch.nn.Embedding):
        def mark(self, *markers):
            self.markers = markers

    task = names.find("task", "finetuning/text_classification").load()
    config = {"task": "x", "batch": 8, "length": 6, "padding": 0.0, "seed": 0}
    told = {"pieces": Looking(320, 1), "bytes": Looking(320, 1)}
    task(told["pieces"], {**config, "data": manifest(folder)}, torch.device("cpu"))
    task(told["bytes"], {**config, "data": manifest(folder, "own.csv")}, torch.device("cpu"))
    assert {name: model.markers for name, model in told.items()} == {"pieces": (2, 3, 0), "bytes": (258, 259, 257)}


def test_where_pieces_come_from_is_found_from_anywhere(folder):
    found = names.find("data", "pieces:model:own.csv", [folder])
    assert found.argument == f"{folder / 'model'}:{folder / 'own.csv'}"
    assert found.inner == str(folder / "own.csv")
    named = names.find("data", "pieces:some/id:glue:sst2")
    assert (named.argument, named.inner) == ("some/id:glue:sst2", "glue:sst2")
    assert names.find("data", "words:glue:sst2").inner == "glue:sst2"
    assert names.find("data", "digits").inner == ""


def test_what_has_no_pieces_is_a_sentence(folder):
    with pytest.raises(UserError, match="pieces:model does not say which data; write pieces:model:NAME"):
        manifest(folder, "pieces:model")
    with pytest.raises(UserError, match=r"'pieces' alone .*; write pieces:FOLDER:NAME or pieces:FOLDER:PATH"):
        manifest(folder, "pieces")
    with pytest.raises(UserError, match="no checkpoint 'nowhere'"):
        manifest(folder, "pieces:nowhere:own.csv")
    with pytest.raises(UserError, match="data 'digits' have no text"):
        manifest(folder, "pieces:model:digits")
    file = folder / "model/tokenizer.json"
    tokenizer(marks=tokenizers.processors.ByteLevel()).save(str(file))
    with pytest.raises(UserError, match="marks no begin and end of a text; give the checkpoint of a model such as"):
        manifest(folder)
    file.write_text(json.dumps({"version": "1.0"}))
    with pytest.raises(UserError, match=r"tokenizer\.json is no tokenizer: "):
        manifest(folder)
    file.unlink()
    with pytest.raises(UserError, match=r"model has no tokenizer\.json; give the folder of a checkpoint that has one"):
        manifest(folder)


def test_pretraining_has_markers_of_its_own(folder):
    data = manifest(folder, "pieces:model:stdlib")
    config = {"task": "pretraining/causal_lm", "batch": 2, "length": 8, "padding": 0.0, "seed": 0, "data": data}
    with pytest.raises(UserError, match="causal_lm has markers of its own, and data 'pieces stdlib' have others"):
        names.find("task", "pretraining/causal_lm").load()(torch.nn.Embedding(400, 1), config, torch.device("cpu"))
