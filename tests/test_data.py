"""The corpus: real text, split by file, made once and never stale."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from harness.errors import UserError
from harness.names import ROOT
from suites.data import stdlib

MODULES = sorted(sys.stdlib_module_names - stdlib.BULK)
HELD_OUT = [name for name in MODULES if stdlib.is_held_out(f"{name}.py")][:3]
LEFT_OUT = ("json/tests/decoder.py", "test/support.py", "idlelib/run.py", "site-packages/own.py", "html/entities.py")
TRAIN = [name for name in MODULES if not stdlib.is_held_out(f"{name}.py")][:20]


@pytest.fixture
def library(tmp_path):
    """A standard library in little, in a folder whose own name must not matter."""
    files = {f"{name}.py": f"# the source of {name}\n" for name in TRAIN + HELD_OUT}
    files["json/decoder.py"] = "# deep\n"
    files[stdlib.TOPICS] = "# made\ntopics = {'if': 'The \"if\"\\n'\n 'statement', 'or': 'Or'}\n"
    for name, text in {**files, **dict.fromkeys(LEFT_OUT, "# left out\n")}.items():
        path = tmp_path / "test" / "lib" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "test" / "lib"


def content(manifest, part):
    return np.load(manifest[part], mmap_mode="r").tobytes()


def test_the_corpus_is_the_library_of_the_running_python(tmp_path):
    manifest = stdlib.prepare(tmp_path)
    train, held_out = (np.load(manifest[part], mmap_mode="r") for part in ("train", "held_out"))
    assert train.dtype == held_out.dtype == np.uint8
    assert (train.size, held_out.size) == (manifest["train_bytes"], manifest["held_out_bytes"])
    assert train.size > 4_000_000
    assert 0.05 < held_out.size / (train.size + held_out.size) < 0.2
    assert set(manifest) == {"name", "sha256", "train", "held_out", "train_bytes", "held_out_bytes", "source"}
    for part in ("train", "held_out"):
        assert Path(manifest[part]).is_absolute()
        assert manifest["sha256"][:16] in manifest[part]


def test_tests_site_packages_bulk_and_generated_files_are_left_out(library):
    assert sorted(stdlib.library_sources(library)) == sorted(
        [f"{name}.py" for name in TRAIN + HELD_OUT] + ["json/decoder.py", stdlib.TOPICS]
    )


def test_each_file_lies_whole_in_one_part_only(library, tmp_path):
    sources = stdlib.library_sources(library)
    manifest = stdlib.corpus(sources, tmp_path)
    parts = {part: content(manifest, part) for part in ("train", "held_out")}
    for name, path in sources.items():
        found = [part for part, content in parts.items() if stdlib.text(name, path) in content]
        assert found == ["held_out" if stdlib.is_held_out(name) else "train"]


def test_topics_are_read_as_the_texts_they_hold(library):
    assert stdlib.text(stdlib.TOPICS, library / stdlib.TOPICS) == b'The "if"\nstatement\nOr'


def test_the_hash_covers_both_parts_and_their_border(library, tmp_path):
    hashes = []
    for name in (None, TRAIN[0], HELD_OUT[0]):
        if name:
            (library / f"{name}.py").write_text("# changed\n")
        hashes.append(stdlib.corpus(stdlib.library_sources(library), tmp_path)["sha256"])
    assert len(set(hashes)) == 3


def test_another_process_and_folder_give_the_same_corpus(library, tmp_path):
    here = stdlib.corpus(stdlib.library_sources(library), tmp_path / "here")
    code = (
        "import sys, pathlib; from suites.data import stdlib\n"
        "print(stdlib.corpus(stdlib.library_sources(pathlib.Path(sys.argv[1])), pathlib.Path(sys.argv[2]))['sha256'])"
    )
    command = [sys.executable, "-c", code, str(library), str(tmp_path / "there")]
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": str(ROOT)}
    there = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert there.strip() == here["sha256"]


def test_a_second_call_reads_no_source(library, tmp_path, monkeypatch):
    sources = stdlib.library_sources(library)
    first = stdlib.corpus(sources, tmp_path)
    monkeypatch.setattr(stdlib, "text", lambda *_: pytest.fail("read again"))
    assert stdlib.corpus(sources, tmp_path) == first


def test_a_file_changed_behind_an_unchanged_size_and_time_is_noticed(library, tmp_path):
    sources = stdlib.library_sources(library)
    first = stdlib.corpus(sources, tmp_path)
    path = library / f"{TRAIN[0]}.py"
    before = path.stat()
    path.write_text(path.read_text().upper())
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert stdlib.corpus(sources, tmp_path)["sha256"] != first["sha256"]


@pytest.mark.parametrize("damage", ["missing", "cut short"])
def test_a_damaged_part_is_made_again(library, tmp_path, damage):
    sources = stdlib.library_sources(library)
    manifest = stdlib.corpus(sources, tmp_path)
    before = content(manifest, "train")
    part = Path(manifest["train"])
    part.unlink()
    if damage == "cut short":
        part.write_bytes(b"\x93NUMPY")
    assert stdlib.corpus(sources, tmp_path) == manifest
    assert content(manifest, "train") == before


def test_a_write_that_fails_leaves_nothing_behind(tmp_path):
    def fill(file):
        file.write(b"half")
        raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space left"):
        stdlib.write(tmp_path / "corpus.npy", fill)
    assert list(tmp_path.iterdir()) == []


def test_a_python_without_library_sources_is_refused_with_a_remedy(tmp_path):
    (tmp_path / "site-packages").mkdir()
    (tmp_path / "site-packages" / "own.py").write_text("# not the library\n")
    with pytest.raises(UserError, match=r"no library sources, .* start Tandem with a Python that has them"):
        stdlib.library_sources(tmp_path)


def test_the_parts_cannot_be_written_to(library, tmp_path):
    manifest = stdlib.corpus(stdlib.library_sources(library), tmp_path)
    assert all(Path(manifest[part]).stat().st_mode & 0o222 == 0 for part in ("train", "held_out"))
