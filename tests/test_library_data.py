"""Packages and functions: what is told of the standard library's source, and how it is split."""

import re
import sysconfig
from pathlib import Path

import numpy as np
import pytest
from test_texts import CLASSIFICATION, CPU, NAMING, rows_of, tiny

from harness import names
from suites.data import functions, packages, packages_text, stdlib
from suites.data._parts import PARTS

pytestmark = pytest.mark.usefixtures("one_thread")


# ---- packages


@pytest.fixture(scope="module")
def library():
    return stdlib.library_sources(Path(sysconfig.get_paths()["stdlib"]))


@pytest.fixture(scope="module")
def contents(library):
    return {name: packages.code(path.read_bytes()) for name, path in packages.of_packages(library).items()}


@pytest.fixture(scope="module")
def pieces(tmp_path_factory):
    return packages.prepare(tmp_path_factory.mktemp("packages"))


def long_lines(content):
    return {line.strip() for line in content.splitlines() if len(line.strip()) >= 20}


def test_no_file_of_a_package_is_in_two_parts_nor_much_like_one_of_another_part(contents):
    files = {part: [name for mine in found for name in mine] for part, found in packages.shared_out(contents).items()}
    everything = [name for part in PARTS for name in files[part]]
    assert len(everything) == len(set(everything)) > 100
    lines = {name: long_lines(contents[name]) for name in everything}
    for part in ("validation", "test"):
        for name in files[part]:
            for other in {*everything} - {*files[part]}:
                alike = len(lines[name] & lines[other])
                assert alike <= min(len(lines[name]), len(lines[other])) / 4, (name, other)


def test_every_class_has_as_many_pieces_in_each_part_and_they_are_of_its_files(pieces, contents):
    files = packages.shared_out(contents)
    for part, least in {"train": 1000, "validation": 60, "test": 150}.items():
        labels, texts = np.load(pieces[part]["labels"]), rows_of(pieces, part, "text")
        counts = np.bincount(labels)
        assert len(counts) == pieces["classes"] == 6
        assert (counts == counts[0]).all()
        assert counts[0] > least
        for label, mine in enumerate(files[part]):
            own = b"\xff".join(contents[name] for name in mine)
            assert all(text in own for text in np.array(texts, dtype=object)[labels == label][::7])


def test_all_pieces_are_of_one_length_and_none_names_a_package(pieces):
    for part in PARTS:
        texts = rows_of(pieces, part, "text")
        assert {len(text) for text in texts} == {126}
        assert not re.search(rb"(?i)asyncio|email|importlib|multiprocessing|unittest|xml", b"\n".join(texts))


def test_a_file_counts_from_its_first_statement_on():
    content = (
        b"#!/bin/python\n# Licensed to Emil\n\n'''The email package.\n'''\n# parts\nimport Email.xml # ok\nx = 1\n"
    )
    assert packages.code(content) == b"import package.package # ok\nx = 1\n"
    assert packages.code(b"# nothing\n'''here'''\n") == b""


def test_of_files_that_are_much_alike_the_largest_is_left():
    lines = [b"a line that is long enough %d" % number for number in range(40)]
    files = {
        "a": b"\n".join(lines[:8]),
        "b": b"\n".join(lines[:20]),
        "c": b"\n".join(lines[18:30]),  # 2 of its 12 lines are those of b
        "d": b"return None\n" * 50,
        "e": b"return None\n" * 60,
    }
    assert packages.unlike(files) == ["e", "d", "b", "c"]


def test_packages_are_made_once_and_again_if_the_library_changes(library, tmp_path, monkeypatch):
    first = packages.prepare(tmp_path)
    again = packages.make(packages.of_packages(library))[0]
    for part in PARTS:
        assert all((np.load(file) == again[part][key]).all() for key, file in first[part].items())
    monkeypatch.setattr(packages, "make", lambda *_: pytest.fail("made again"))
    assert packages.prepare(tmp_path) == first
    monkeypatch.setattr(packages, "state", lambda _: "other")
    with pytest.raises(pytest.fail.Exception, match="made again"):
        packages.prepare(tmp_path)


def test_the_text_for_packages_has_no_file_that_is_scored(contents, library, tmp_path):
    manifest = packages_text.prepare(tmp_path)
    assert manifest["name"] == "packages_text"
    text = b"".join(np.load(manifest[part]).tobytes() for part in ("train", "held_out"))
    files = packages.shared_out(contents)
    training = {name for mine in files["train"] for name in mine}
    for name in contents:
        if content := library[name].read_bytes():
            assert (content in text) == (name in training), name
    assert len(text) > 4_000_000


# ---- functions


SOURCE = b"""
import os

class Reader:
    '''Reads.'''

    @property
    def size(self):
        '''Return the size.'''
        return self._size  # bytes

    @size.setter
    def size(self, size):
        self._size = size

    def __init__(self):
        self.size = 0

    async def readLine(self, *, again=True):
        def strip(line):
            return line
        return strip(await readLine(readLines))

    def nothing(self):
        '''Do nothing.'''

    def later(self): ...

    def a_name_that_is_far_too_long_to_write(self):
        return 1
"""


def test_a_function_is_told_without_its_name_docstring_comments_and_decorators():
    assert [*functions.functions(SOURCE)] == [
        (b"def NAME(self):\n    return self._size", b"size"),
        (b"def NAME(self, NAME):\n    self._size = NAME", b"size"),
        (
            b"async def NAME(self, *, again=True):\n\n    def strip(line):\n        return line\n"
            b"    return strip(await NAME(readLines))",
            b"readLine",
        ),
        (b"def NAME(line):\n    return line", b"strip"),
    ]


@pytest.fixture(scope="module")
def named(tmp_path_factory):
    return functions.prepare(tmp_path_factory.mktemp("functions"))


def test_no_function_is_in_two_parts_or_shows_its_name(named):
    sources = {part: rows_of(named, part, "source") for part in PARTS}
    everything = [source for part in PARTS for source in sources[part]]
    assert len(everything) == len(set(everything)) > 8000
    assert len(sources["train"]) > 8 * len(sources["validation"])
    for part in PARTS:
        for source, name in zip(sources[part], rows_of(named, part, "target"), strict=True):
            whole = source if len(source) < 1024 else source[:-31]  # a longer word may have been cut to the name
            assert not re.search(rb"\b" + name + rb"\b", whole)
            assert 1 <= len(name) <= 31
            assert len(source) <= 1024


def test_the_test_part_of_functions_is_from_files_that_the_corpus_holds_out(named, library):
    held_out = {name: path for name, path in library.items() if stdlib.is_held_out(name) and name != stdlib.TOPICS}
    theirs = {source for path in held_out.values() for source, _ in functions.functions(path.read_bytes())}
    assert {*rows_of(named, "test", "source")} <= theirs


def test_functions_that_read_alike_are_told_once_whatever_their_file(tmp_path):
    train = next(f"{number}.py" for number in range(99) if functions.part_of(f"{number}.py") == "train")
    test = next(f"{number}.py" for number in range(99) if functions.part_of(f"{number}.py") == "test")
    validation = next(f"{number}.py" for number in range(99) if functions.part_of(f"{number}.py") == "validation")
    for name, body in ((train, "1"), (test, "2"), (validation, "3")):
        (tmp_path / name).write_text(f"def one(): return 0\ndef two():\n    return   0\ndef own(): return {body}\n")
    parts, _ = functions.make({name: tmp_path / name for name in (train, validation, test)})
    assert [len(parts[part]["source"]) for part in PARTS] == [2, 1, 1]


# ---- both


def test_packages_and_functions_serve_their_tasks(pieces, named):
    for task, manifest, model in (
        (CLASSIFICATION, pieces, tiny(CLASSIFICATION, classes=6)),
        (NAMING, named, tiny(NAMING)),
    ):
        config = {"task": task, "batch": 4, "length": 128, "padding": 0.0, "seed": 0, "data": manifest}
        work = names.find("task", task).load()(model, config, CPU)
        assert work.loss(model, work.batch(0))[0].isfinite()
        if task == CLASSIFICATION:
            assert work.batch(0)[1] is None
            assert work.amount["tokens"] == 4 * 128


def test_the_pieces_are_of_classes_that_bytes_alone_do_not_tell(pieces):
    counts, labels = {}, {}
    for part in ("train", "test"):
        text = np.load(pieces[part]["text"])
        counts[part] = np.array([np.bincount(row, minlength=256) for row in text]) / 126
        labels[part] = np.load(pieces[part]["labels"])
    means = np.array([counts["train"][labels["train"] == label].mean(0) for label in range(6)])
    nearest = ((counts["test"][:, None] - means) ** 2).sum(2).argmin(1)
    assert 1 / 6 < (nearest == labels["test"]).mean() < 0.5
