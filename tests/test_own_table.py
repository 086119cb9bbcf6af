"""The user's own table of texts: read, split, and refused in one sentence."""

import numpy as np
import pytest
from test_cli import tandem
from test_texts import CLASSIFICATION, rows_of

from harness import load
from harness.errors import UserError
from harness.spec import Block, Suite, Variant, Workload
from suites.data import _table
from suites.data._parts import PARTS, split

ROWS = [(f"text {number}, with\na line", "good" if number % 3 else "bad") for number in range(60)]


def csv(rows, head="text,label"):
    return "\n".join([head, *(f'"{text}",{label}' for text, label in rows)]).encode()


def jsonl(rows):
    import json

    return "\n".join(json.dumps({"id": 1, "label": label, "text": text}) for text, label in rows).encode()


@pytest.mark.parametrize(("name", "write"), [("own.csv", csv), ("own.jsonl", jsonl)])
def test_an_own_table_is_split_class_by_class_and_nothing_is_lost(tmp_path, name, write):
    (tmp_path / name).write_bytes(write(ROWS + ROWS[:5]))
    manifest = _table.prepare(tmp_path / "made", tmp_path / name)
    found = []
    for part, (bad, good) in {"train": (14, 28), "validation": (2, 4), "test": (4, 8)}.items():
        labels = np.load(manifest[part]["labels"])
        assert np.bincount(labels).tolist() == [bad, good]
        found += zip(rows_of(manifest, part, "text"), labels, strict=True)
    assert sorted(found) == sorted((text.encode(), int(label == "good")) for text, label in ROWS)
    assert manifest["source"] == f"{name}: 60 texts of 2 classes."
    assert _table.prepare(tmp_path / "made", tmp_path / name) == manifest


def test_an_own_table_may_begin_with_a_byte_order_mark_and_be_of_any_language(tmp_path):
    rows = [("größer 大きい", "für"), ("kleiner", "wider")]
    (tmp_path / "own.csv").write_bytes(
        b"\xef\xbb\xbf" + csv([(f"{text}{n}", label) for text, label in rows for n in range(3)])
    )
    manifest = _table.prepare(tmp_path, tmp_path / "own.csv")
    assert {text[:-1].decode() for part in PARTS for text in rows_of(manifest, part, "text")} == {
        text for text, _ in rows
    }


def test_an_own_table_that_changed_is_read_anew(tmp_path):
    hashes = []
    for rows in (ROWS, ROWS[1:], ROWS):
        (tmp_path / "own.csv").write_bytes(csv(rows))
        hashes.append(_table.prepare(tmp_path / "made", tmp_path / "own.csv")["sha256"])
    assert hashes[0] == hashes[2] != hashes[1]


def test_a_long_own_text_is_cut(tmp_path):
    (tmp_path / "own.csv").write_bytes(csv([(f"{n}" * 3000, label) for label in "ab" for n in range(3)]))
    manifest = _table.prepare(tmp_path, tmp_path / "own.csv")
    assert np.load(manifest["train"]["text"]).shape == (2, 2048)


def test_texts_that_differ_beyond_what_is_read_are_one(tmp_path):
    rows = [("a" * 2048 + end, label) for label in "ab" for end in "xyz"]
    (tmp_path / "own.csv").write_bytes(csv(rows))
    with pytest.raises(UserError, match="comes with 1 different texts"):
        _table.prepare(tmp_path, tmp_path / "own.csv")


BAD = {
    "nothing.csv": (b"", "nothing.csv is empty: it has no row; give it"),
    "head.csv": (b"text,label\n", "head.csv is empty"),
    "blank.jsonl": (b"\n\n", "blank.jsonl is empty"),
    "column.csv": (b"text,sentiment\nfine,1\n", "column.csv: line 1: no column 'label' among text, sentiment; name"),
    "cell.csv": (b"text,label\nfine,1\nbad\n", "cell.csv: line 3: no label; give"),
    "comma.csv": (b"text,label\nfine, really,1\n", "comma.csv: line 2: more cells than columns; put a text"),
    "quote.csv": (b'text,label\nfine,1\n"bad,2\n', "quote.csv: line 3: no CSV: unexpected end of data; write"),
    "latin.csv": (
        "text,label\nfine,1\ngro\xdf,2\n".encode("latin-1"),
        "latin.csv: line 3: byte 0xdf is not UTF-8; save",
    ),
    "comma.jsonl": (
        b'{"text": "a", "label": 1}\n{"text": "b" "label": 1}\n',
        "comma.jsonl: line 2: no JSON: Expecting",
    ),
    "list.jsonl": (b'\n["a", 1]\n', "list.jsonl: line 2: no JSON object; write lines such as"),
    "key.jsonl": (b'{"text": "a", "class": 1}\n', "key.jsonl: line 1: no label"),
    "number.jsonl": (b'{"text": 5, "label": 1}\n', "number.jsonl: line 1: text is 5; give a text, in quotes"),
    "list_label.jsonl": (b'{"text": "a", "label": [1]}\n', r"list_label.jsonl: line 1: label is \[1\]; give"),
    "one.csv": (b"text,label\na,1\nb,1\nc,1\n", "one.csv: every label is '1'; give rows of another class"),
    "once.csv": (
        b"text,label\na,1\nb,1\nc,1\nd,2\n",
        "once.csv: line 5: label '2' comes with 1 different texts, too few for three parts; give three",
    ),
    "twice.csv": (b"text,label\na,1\nb,1\nc,1\nd,2\nd,2\nd,2\n", "line 5: label '2' comes with 1 different"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_table_is_refused_in_one_sentence(tmp_path, name):
    content, sentence = BAD[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=sentence) as caught:
        _table.prepare(tmp_path, tmp_path / name)
    assert "\n" not in str(caught.value)


SETTINGS = [f"--set={text}" for text in (f"task={CLASSIFICATION}", "model=bert", "classes=2")]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [("comma.csv", "comma.csv: line 2: more cells than columns"), ("none.csv", "no file 'none.csv' for data")],
)
def test_a_bad_table_on_the_command_line_is_one_sentence_and_exit_2(tmp_path, name, sentence):
    (tmp_path / "comma.csv").write_bytes(BAD["comma.csv"][0])
    done = tandem("run", "null", *SETTINGS, f"--set=data={name}", cwd=tmp_path, XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert done.returncode == 2
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_model_that_the_users_data_do_not_fit_is_refused_before_anything_is_measured(tmp_path):
    (tmp_path / "own.csv").write_bytes(csv(ROWS))
    settings = [*SETTINGS[:2], "--set=classes=1", "--set=data=own.csv"]
    for more, sentence in (
        ("positions=128", "tandem: the model tells 1 classes apart, not 2; --set classes=2\n"),
        ("positions=9", "tandem: 128 tokens are too many for 9 positions; --set positions=128\n"),
    ):
        done = tandem(
            "run", "null", *settings, f"--set={more}", "--set=device=cpu", cwd=tmp_path,
            XDG_CACHE_HOME=str(tmp_path / "cache"),
        )  # fmt: skip
        assert (done.returncode, done.stderr, done.stdout) == (2, sentence, "")
    assert not (tmp_path / "runs").exists()


def test_an_own_table_is_found_beside_the_suite_and_named_by_its_path(tmp_path):
    (tmp_path / "own.csv").write_bytes(csv(ROWS))
    work = Workload(task=CLASSIFICATION, model="bert", data="own.csv", settings={"classes": 2})
    suite = Suite(name="own", question="?", blocks=(Block(workload=work, variants=(Variant(name="formula"),)),))
    load.check_names(suite, [tmp_path], [])
    (manifest,) = load.prepare_data(suite, tmp_path / "cache", [tmp_path]).values()
    assert manifest["classes"] == 2
    assert load.files(suite, [tmp_path])["data own.csv"].name == "_table.py"


def test_each_class_of_three_or_more_is_in_every_part():
    labels = np.array([0] * 3 + [1] * 4 + [2] * 50)
    rows = split(labels)
    assert sorted(np.concatenate([*rows.values()])) == [*range(57)]
    found = {part: np.bincount(labels[rows[part]]).tolist() for part in PARTS}
    assert found == {"train": [1, 2, 35], "validation": [1, 1, 5], "test": [1, 1, 10]}
    assert all((rows[part] == again).all() for part, again in split(labels).items())
