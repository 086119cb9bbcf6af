"""Text in words: what a word is, what is kept of the data, and the tasks that take words."""

import math

import numpy as np
import pytest
import torch

from harness import load, names
from harness.errors import UserError
from harness.spec import Block, Suite, Variant, Workload
from suites.data import words
from suites.pretraining._windows import EOS, FIRST, IGNORED, MASK

CPU = torch.device("cpu")
TABLE = "text,label\n" + "".join(f"{word} {count},{word}\n" for word in ("open", "close") for count in range(9))

NAMED = """
from suites.data._parts import kept, text_rows
def prepare(folder):
    rows = {**text_rows("source", [b"def NAME(url): return url"] * 8), **text_rows("target", [b"_get_URL"] * 8)}
    made = {part: rows for part in ("train", "validation", "test")}, {"source": "Own."}
    return kept("named", b"", lambda: made, folder)
"""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return load.manifest(names.find("data", "words:stdlib"), tmp_path_factory.mktemp("words"))


def prepare(task, data, **config):
    workload = {"task": task, "batch": 8, "length": 32, "padding": 0.0, "seed": 0, "data": data}
    model = torch.nn.Embedding(config.pop("vocabulary", words.VOCABULARY), 1)
    return names.find("task", task).load()(model, {**workload, **config}, CPU)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"readLine(self._x2)", ["read", "Line", "(", "self", ".", "x", "2", ")"]),
        (b"__read_line__", ["read", "line"]),
        (b"HTTPError  = 1.5", ["HTTP", "Error", "=", "1", ".", "5"]),
        (b"if x:\n    return\n\ny", ["if", "x", ":", "\n    ", "return", "\n", "\n", "y"]),
        ("Été à la mer".encode(), ["Été", "à", "la", "mer"]),
        (b" \t\r", []),
    ],
)
def test_a_word_is_a_run_of_letters_a_number_a_sign_or_the_start_of_a_line(text, told):
    assert [word.decode() for word in words.WORD.findall(text)] == told
    numbers = words.words(text)
    assert numbers.dtype == np.uint16
    assert ((numbers >= FIRST) & (numbers < words.VOCABULARY)).all()
    assert len({*numbers.tolist()}) == len({*told})


def test_the_number_of_a_word_is_the_same_everywhere():
    assert words.words(b"return self").tolist() == words.words(b"RETURN Self").tolist() == [1551, 995]


def test_samples_keep_their_labels_parts_and_facts(tmp_path):
    (tmp_path / "own.csv").write_text(TABLE)
    plain = load.manifest(names.find("data", "own.csv", [tmp_path]), tmp_path / "made")
    found = names.find("data", "words:own.csv", [tmp_path])
    assert found.argument == str(tmp_path / "own.csv")  # found from anywhere
    assert names.find("data", "words:glue:sst2").argument == "glue:sst2"
    assert names.find("data", "words:stdlib").argument == "stdlib"
    made = load.manifest(found, tmp_path / "made")
    assert (made["classes"], made["vocabulary"], made["name"]) == (2, 4096, "words own")
    for part in ("train", "validation", "test"):
        theirs, mine = ({name: np.load(path) for name, path in data[part].items()} for data in (plain, made))
        assert (theirs["labels"] == mine["labels"]).all()
        assert (mine["text_lengths"] == 2).all()
        for text, length, row in zip(theirs["text"], theirs["text_lengths"], mine["text"], strict=True):
            assert (words.words(text[:length].tobytes()) == row).all()
    assert load.manifest(found, tmp_path / "made") == made


def test_a_run_says_what_code_made_the_data_that_words_are_of():
    workload = Workload(task="pretraining/masked_lm", model="bert", size="tiny", data="words:packages_text")
    block = Block(workload=workload, variants=(Variant(name="a"),))
    found = load.files(Suite(name="own", question="?", blocks=(block,)), [])
    assert {found[f"data {name}"].name for name in ("words:packages_text", "packages_text")} == {
        "words.py", "packages_text.py",
    }  # fmt: skip


def test_a_text_is_one_row_of_words(corpus):
    assert (corpus["name"], corpus["vocabulary"]) == ("words stdlib", 4096)
    train = np.load(corpus["train"])
    assert (train.ndim, train.dtype) == (1, np.uint16)
    assert train.size > 1_000_000
    assert (train >= FIRST).all()


def test_of_words_others_are_drawn_and_masked_and_never_a_byte(corpus):
    tokens, _, targets = prepare("pretraining/masked_lm", corpus).batch(0)[:3]
    chosen = targets != IGNORED
    assert (targets[chosen] >= FIRST).all()
    assert ((tokens[chosen] == MASK) | (tokens[chosen] >= FIRST)).all()
    assert (tokens[chosen] == MASK).sum() > chosen.sum() / 2


def test_bits_a_byte_are_told_of_bytes_alone(corpus):
    score = prepare("pretraining/causal_lm", corpus).score
    uniform = score(lambda tokens, mask: torch.zeros(*tokens.shape, words.VOCABULARY))
    assert uniform == {"held_out_loss": pytest.approx(math.log(words.VOCABULARY))}


def test_a_row_to_classify_is_of_words(tmp_path):
    (tmp_path / "own.csv").write_text(TABLE)
    data = load.manifest(names.find("data", "words:own.csv", [tmp_path]), tmp_path / "made")
    tokens = prepare("finetuning/text_classification", data, length=4).batch(0)[0]
    assert (tokens[:, 1:3] >= FIRST).all()


def test_a_function_and_its_name_are_in_words_and_scored_by_them(tmp_path):
    (tmp_path / "named.py").write_text(NAMED)
    data = load.manifest(names.find("data", "words:named.py", [tmp_path]), tmp_path / "made")
    source, target, lengths = (np.load(data["train"][name]) for name in ("source", "target", "target_lengths"))
    assert (source == words.words(b"def NAME(url): return url")).all()
    assert (target == words.words(b"get url")).all()
    assert (lengths == 2).all()
    work = prepare("finetuning/function_naming", data, length=16)

    def writing(name):
        answer = torch.tensor([*words.words(name).tolist(), EOS])

        def model(source, target, *_):
            logits = torch.zeros(*target.shape, words.VOCABULARY)
            for place, token in enumerate(answer):
                logits[:, place, token] = 1e3
            return logits

        return work.score(model)

    assert writing(b"_get_url") == {"f1": 1.0, "accuracy": 1.0, "held_out_loss": 0.0}
    assert writing(b"url_get")["accuracy"] == 0
    assert writing(b"url_get")["f1"] == 1
    assert writing(b"get")["f1"] == pytest.approx(2 / 3)
    with pytest.raises(UserError, match="knows 320; give it more: --set vocabulary=4096"):
        prepare("finetuning/function_naming", data, vocabulary=320)


def test_what_cannot_be_in_words_is_a_sentence(tmp_path, corpus):
    with pytest.raises(UserError, match="data 'digits' have no text; give a text: --set data=words:stdlib"):
        load.manifest(names.find("data", "words:digits"), tmp_path)
    with pytest.raises(UserError, match="'words' alone does not say which data; write words:NAME or words:PATH"):
        names.find("data", "words")
    with pytest.raises(UserError, match="no data 'nothing'"):
        names.find("data", "words:nothing")
    with pytest.raises(UserError, match="the text of data 'words stdlib' is no bytes, of which words are made"):
        load.manifest(names.find("data", "words:words:stdlib"), load.cache() / "data")
    with pytest.raises(UserError, match="denoising takes bytes, and data 'words stdlib' are words"):
        prepare("pretraining/denoising", corpus)
    for task in ("pretraining/masked_lm", "pretraining/causal_lm"):
        with pytest.raises(UserError, match="knows 400; give it more: --set vocabulary=4096"):
            prepare(task, corpus, vocabulary=400)
