"""Texts: classifying them, and naming functions."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from task_checks import check_batches, check_compiles, check_loss_is_wide, learned

from harness import names
from harness.errors import UserError
from suites.data._parts import PARTS, kept, text_rows
from suites.finetuning import _classification, _writing, function_naming
from suites.finetuning.function_naming import SCORED
from suites.pretraining._rows import scored_rows
from suites.pretraining._windows import BOS, EOS, IGNORED, PAD

CLASSIFICATION, NAMING = "finetuning/text_classification", "finetuning/function_naming"
MODELS = {CLASSIFICATION: "bert", NAMING: "encoder_decoder"}
CLASSIFIERS = ("bert", "gpt", "llama", "encoder_decoder", "t5")
CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("one_thread")
every_task = pytest.mark.parametrize("task", MODELS)
every_writer = pytest.mark.parametrize("model", ["encoder_decoder", "t5"])


# ---- data of both tasks in little


def made(counts=(90, 9, 30)):
    """Return texts of three classes, told apart by their letter; the last class is the longest."""
    random, parts = np.random.RandomState(0), {}
    for part, count in zip(PARTS, counts, strict=True):
        labels = (np.arange(count) % 3).astype(np.uint8)
        letters = [b"xyz" + b"abc"[label : label + 1] * 3 for label in labels]
        texts = [
            bytes(random.permutation([*word * 2])[: 8 + 2 * label].tolist())
            for word, label in zip(letters, labels, strict=True)
        ]
        parts[part] = {**text_rows("text", texts), "labels": labels}
    return parts, {"classes": 3, "source": "made"}


NAMES = {b"0": b"get_url", b"1": b"close", b"2": b"setURL"}


def made_functions(counts=(60, 6, 20)):
    """Return functions whose names are told by their first byte."""
    random, parts = np.random.RandomState(0), {}
    for part, count in zip(PARTS, counts, strict=True):
        keys = [b"%d" % (row % 3) for row in range(count)]
        sources = [key + bytes(random.choice([*b"xyz"], size=random.randint(3, 9)).tolist()) for key in keys]
        parts[part] = {**text_rows("source", sources), **text_rows("target", [NAMES[key] for key in keys])}
    return parts, {"source": "made"}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    return {CLASSIFICATION: kept("letters", b"", made, folder), NAMING: kept("short", b"", made_functions, folder)}


@pytest.fixture
def prepare(data):
    def prepare(task, model=None, **config):
        workload = {"task": task, "batch": 8, "length": 14, "padding": 0.0, "seed": 0, "data": data[task]}
        return names.find("task", task).load()(model or tiny(task), {**workload, **config}, CPU)

    return prepare


def tiny(task, classes=3, model=None, attention="formula"):
    """Return a small model for a task, always with the same weights."""
    torch.manual_seed(0)
    settings = {"classes": classes} if task == CLASSIFICATION else {}
    attention = names.find("attention", attention).load()
    return names.find("model", model or MODELS[task]).load()(attention, dim=64, heads=2, layers=1, **settings)


def rows_of(manifest, part, name):
    """Return the texts of an array as bytes."""
    rows, lengths = (np.load(manifest[part][key]) for key in (name, f"{name}_lengths"))
    return [row[:length].tobytes() for row, length in zip(rows, lengths, strict=True)]


# ---- both tasks


@every_task
def test_a_batch_depends_on_seed_and_index_only(prepare, task):
    check_batches(partial(prepare, task))


@every_task
def test_the_amount_is_the_mean_of_the_real_positions_over_the_training_part(prepare, task):
    rows = {CLASSIFICATION: 90, NAMING: 60}[task]
    work = prepare(task, batch=rows)  # all of it
    tokens = work.batch(0)[0]
    real = (tokens != PAD).sum() + ((work.batch(0)[2] != IGNORED).sum() if task == NAMING else 0)
    assert work.amount == {"tokens": int(real), "samples": rows}
    assert prepare(task, batch=1).amount["tokens"] == round(int(real) / rows)


@every_task
def test_loss_compiles_without_a_graph_break(prepare, task):
    model = tiny(task)
    check_compiles(model, prepare(task, model))


@every_task
def test_the_loss_is_taken_in_float32_or_wider(prepare, task):
    check_loss_is_wide(partial(tiny, task), partial(prepare, task))


@pytest.mark.parametrize(
    ("task", "model"),
    [*((CLASSIFICATION, model) for model in CLASSIFIERS), (NAMING, "encoder_decoder"), (NAMING, "t5")],
)
def test_a_model_learns_the_test_part_from_the_training_part(prepare, task, model):
    model = tiny(task, model=model)
    before, after = learned(model, prepare(task, model, batch=16), steps=100, rate=3e-3)
    assert before["accuracy"] < 0.7  # the padding tells an untrained model something: classes differ in length
    assert after["accuracy"] > 0.9


@every_task
def test_data_of_another_kind_padding_and_short_rows_are_refused(prepare, task, data):
    with pytest.raises(UserError, match=f"{task} takes .*, and the train part of data 'stdlib' has none"):
        prepare(task, data={"name": "stdlib", "train": "stdlib.npy"})
    with pytest.raises(UserError, match=f"{task} pads as its texts are long; --set padding=0"):
        prepare(task, padding=0.1)
    with pytest.raises(UserError, match=f"a row of 1 tokens is too short for {task}"):
        prepare(task, length=1)
    with pytest.raises(UserError, match="knows 255; give it more: --set vocabulary=260"):
        prepare(task, torch.nn.Embedding(255, 1))


# ---- classification


def test_a_row_is_a_text_between_markers(prepare, data):
    tokens, mask, labels = prepare(CLASSIFICATION).batch(0)
    texts = dict(
        zip(
            rows_of(data[CLASSIFICATION], "train", "text"),
            np.load(data[CLASSIFICATION]["train"]["labels"]),
            strict=True,
        )
    )
    for row, real, label in zip(tokens.tolist(), mask.tolist(), labels.tolist(), strict=True):
        end = row.index(EOS)
        assert (row[0], row[end + 1 :]) == (BOS, [PAD] * (13 - end))
        assert texts[bytes(row[1:end])] == label
        assert real == [True] * (end + 1) + [False] * (13 - end)


def test_a_text_that_does_not_fit_is_cut_and_where_all_fill_their_rows_there_is_no_mask(prepare, data):
    tokens, mask, _ = prepare(CLASSIFICATION, length=10).batch(0)
    assert mask is None
    assert (tokens[:, 9] == EOS).all()
    starts = {text[:8] for text in rows_of(data[CLASSIFICATION], "train", "text")}
    assert {bytes(row[1:9]) for row in tokens.tolist()} <= starts


class Knowing:
    """Answers each row by the class of the letter that is not x, y or z, as surely as it can."""

    def __call__(self, tokens, mask):
        assert not torch.is_grad_enabled()
        letters = torch.stack([(tokens == ord(letter)).sum(1) for letter in "abc"], dim=1)
        return 1e3 * torch.nn.functional.one_hot(letters.argmax(1), 3).float()


def test_accuracy_is_exact_on_all_of_the_test_part(prepare, monkeypatch):
    work = prepare(CLASSIFICATION)
    monkeypatch.setitem(work.score.__wrapped__.__globals__, "SCORED", 7)
    assert work.score(Knowing()) == {"accuracy": 1.0, "held_out_loss": 0.0}
    always_one = torch.eye(3)[1]
    assert work.score(lambda tokens, mask: always_one.expand(len(tokens), -1)) == {
        "accuracy": pytest.approx(1 / 3),
        "held_out_loss": pytest.approx(math.log(2 + math.e) - 1 / 3),
    }


def test_data_may_say_what_they_are_scored_by(prepare, data):
    scored = {**data[CLASSIFICATION], "scores": ["matthews_correlation", "accuracy", "f1"]}
    work = prepare(CLASSIFICATION, data=scored)
    found = work.score(Knowing())
    assert [*found] == ["matthews_correlation", "accuracy", "f1", "held_out_loss"]
    assert found == pytest.approx({"matthews_correlation": 1.0, "accuracy": 1.0, "f1": 1.0, "held_out_loss": 0.0})
    always_one = torch.eye(3)[1]
    found = work.score(lambda tokens, mask: always_one.expand(len(tokens), -1))
    assert (found["matthews_correlation"], found["f1"]) == (0.0, pytest.approx(2 * 10 / (30 + 10)))


@pytest.mark.parametrize("classes", [2, 3])
def test_scores_are_those_of_scikit_learn(classes):
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn, which has them too, is not installed")
    random = np.random.RandomState(0)
    truth = random.randint(classes, size=200)
    answers = np.where(random.random_sample(200) < 0.6, truth, random.randint(classes, size=200))
    found = {name: score(truth, answers) for name, score in _classification.SCORES.items()}
    expected = {
        "accuracy": metrics.accuracy_score(truth, answers),
        "f1": metrics.f1_score(truth == 1, answers == 1),
        "matthews_correlation": metrics.matthews_corrcoef(truth, answers),
    }
    assert found == pytest.approx(expected)
    assert 0.3 < found["matthews_correlation"] < found["accuracy"] < 0.9


@pytest.mark.parametrize("model", CLASSIFIERS)
def test_every_model_of_text_takes_the_same_step_on_formula_and_sdpa(prepare, model):
    losses = []
    for attention in ("formula", "sdpa"):
        classifier = tiny(CLASSIFICATION, model=model, attention=attention)
        work = prepare(CLASSIFICATION, classifier)
        optimizer = torch.optim.SGD(classifier.parameters(), lr=0.1)
        for _ in range(2):
            loss, logits = work.loss(classifier, work.batch(0))
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
        assert logits.shape == (8, 3)
        assert work.score(classifier).keys() == {"accuracy", "held_out_loss"}
    assert losses[1] < losses[0]
    assert losses[2:] == pytest.approx(losses[:2], rel=1e-4)


@pytest.mark.parametrize("classes", [0, 2])
def test_a_model_of_too_few_classes_is_refused_with_what_to_do(prepare, classes):
    model = tiny(CLASSIFICATION, classes)
    work = prepare(CLASSIFICATION, model)
    with pytest.raises(UserError, match=f"the model tells {classes} classes apart, not 3; --set classes=3"):
        work.loss(model, work.batch(0))


def test_bert_pools_its_first_token_and_padding_says_nothing():
    model = tiny(CLASSIFICATION, classes=5).eval()
    tokens = torch.randint(256, (2, 9))
    mask = torch.arange(9) < torch.tensor([[6], [9]])
    logits = model(tokens, None, mask)
    assert logits.shape == (2, 5)
    torch.testing.assert_close(model(torch.where(mask, tokens, 7), None, mask), logits)
    torch.testing.assert_close(model(tokens[:1, :6]), logits[:1])


def test_the_pretrained_layers_fit_the_classifier():
    pretrained, classifier = (tiny(CLASSIFICATION, classes).state_dict() for classes in (0, 3))
    assert {name.split(".")[0] for name in {*classifier} - {*pretrained}} == {"pooler", "head"}
    assert {name.split(".")[0] for name in {*pretrained} - {*classifier}} == {"transform", "transform_norm", "bias"}


# ---- naming


def test_the_encoder_reads_the_function_and_the_decoder_writes_the_name(prepare, data):
    source, target_input, target, mask = prepare(NAMING).batch(0)
    assert source.shape == (8, 14)
    assert target.shape == target_input.shape == (8, 8)
    known = dict(zip(*(rows_of(data[NAMING], "train", name) for name in ("source", "target")), strict=True))
    for row, real, given, asked in zip(*(item.tolist() for item in (source, mask, target_input, target)), strict=True):
        end, stop = row.index(EOS), asked.index(EOS)
        assert row[end + 1 :] == [PAD] * (13 - end)
        assert real == [True] * (end + 1) + [False] * (13 - end)
        assert known[bytes(row[:end])] == bytes(asked[:stop])
        assert given[: stop + 1] == [BOS, *asked[:stop]]
        assert asked[stop + 1 :] == [IGNORED] * (7 - stop)


class Writer:
    """Writes, byte after byte, the name that `name` gives for the first byte of a function; counts its calls."""

    def __init__(self, name):
        self.name, self.calls = name, 0

    def __call__(self, source, target, source_mask, target_mask):
        assert not torch.is_grad_enabled()
        assert source_mask.any(1).all()
        assert target_mask is None
        self.calls += 1
        logits = torch.zeros(*target.shape, 320)
        for row, first in enumerate(source[:, 0].tolist()):
            for place, token in enumerate([*self.name(bytes([first])), EOS][: target.size(1)]):
                logits[row, place, token] = 1e3
        return logits


def test_scores_are_exact_for_who_knows_every_name_and_for_who_knows_one(prepare, monkeypatch):
    work = prepare(NAMING)
    knowing = Writer(NAMES.__getitem__)
    assert work.score(knowing) == {"f1": 1.0, "accuracy": 1.0, "held_out_loss": 0.0}
    assert knowing.calls == 1 + 8  # the loss, and `get_url` with EOS
    lazy = Writer(lambda first: b"url")
    found = work.score(lazy)
    assert lazy.calls == 1 + 4
    # of 20 names 7 are get_url, 7 close and 6 setURL: 13 of the 20 words written are right, of the 33 that there are
    assert (found["f1"], found["accuracy"]) == (pytest.approx(2 * 13 / (20 + 33)), 0.0)
    monkeypatch.setattr(function_naming, "AT_ONCE", 3)
    assert prepare(NAMING).score(lazy) == pytest.approx(found)


def test_the_loss_of_the_score_is_that_of_every_target_alike(prepare, monkeypatch):
    monkeypatch.setattr(function_naming, "AT_ONCE", 3)

    def even(source, target, *_):
        return torch.zeros(*target.shape, 320)

    assert prepare(NAMING).score(even)["held_out_loss"] == pytest.approx(math.log(320), rel=1e-6)


def test_no_more_functions_are_scored_than_said_and_always_the_same():
    rows = scored_rows("test", {"test": 1000}, SCORED)
    assert len({*rows.tolist()}) == len(rows) == 256
    assert (rows == scored_rows("test", {"test": 1000}, SCORED)).all()
    assert sorted(scored_rows("test", {"test": 20}, SCORED)) == [*range(20)]
    assert len(scored_rows("train", {"train": 1000, "test": 20})) == 20


@every_writer
def test_writing_is_what_a_decoder_with_a_growing_target_writes(model):
    model = tiny(NAMING, model=model).eval()
    source = torch.randint(256, (3, 14))
    mask = torch.arange(14) < torch.tensor([[5], [14], [9]])
    with torch.no_grad():
        tokens = torch.full((3, 1), BOS)
        for _ in range(6):
            likeliest = model(source, tokens, mask, None)[:, -1].argmax(1)
            tokens = torch.cat([tokens, likeliest[:, None]], dim=1)
        found = function_naming.written(model, source, mask, 6)
    assert (tokens != EOS).all()  # else the two would part company where a row ended
    assert found == tokens[:, 1:].tolist()


def test_tokens_are_read_up_to_the_end_and_what_is_no_byte_spells_nothing():
    rows = [[*b"ab", EOS, 99, PAD], [*b"c", PAD, BOS, 300, EOS], [*b"abcde"], [EOS, 0, 0, 0]]
    assert [function_naming.spelled(_writing.ended(row)) for row in rows] == ["ab", "c", "abcde", ""]
    assert function_naming.spelled([*b"ab", EOS, IGNORED]) == "ab"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("read_HTTPHeader", "read http header"),
        ("_readHttpHeader2", "read http header 2"),
        ("x", "x"),
        ("ABC", "abc"),
        ("getURL", "get url"),
        ("__", ""),
        ("", ""),
    ],
)
def test_a_name_is_split_into_its_words(name, words):
    assert function_naming.sub_tokens(name) == words.split()


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([("get_name", "get_name")], 1.0),
        ([("name_get", "getName")], 1.0),  # in any order, in any style
        ([("get", "get_name")], 2 / 3),  # precision 1, recall 1 / 2
        ([("get_get", "get_name")], 1 / 2),  # a word counts as often as the name has it
        ([("set", "get_name")], 0.0),
        ([("", "get_name")], 0.0),
        ([("", "")], 0.0),
        ([("get_name", "get_name"), ("a_b_c_d", "run")], 4 / 9),  # over all words, not the mean of 1 and 0
    ],
)
def test_f1_is_that_of_the_words_of_all_names_together(pairs, expected):
    named = [tuple(map(function_naming.sub_tokens, pair)) for pair in pairs]
    assert function_naming.f1(named) == pytest.approx(expected)
