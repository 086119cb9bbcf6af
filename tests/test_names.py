"""Names lead to files, without importing them."""

import pytest

from harness import names
from harness.errors import UserError


def test_a_short_name_is_a_file():
    found = names.find("attention", "sdpa_flash")
    assert found.path.name == "sdpa_flash.py"
    assert "Flash" in found.summary
    assert found.literal("REQUIRES", {})["torch"] == "2.3"


def test_a_path_names_a_function_in_a_file(tmp_path):
    source = '"""Mine."""\nSIZES = {"big": {"dim": 4}}\ndef make(attention, *, dim, depth=2): return dim\n'
    (tmp_path / "mine.py").write_text(source)
    found = names.find("model", "mine.py:make", [tmp_path])
    assert found.summary == "Mine."
    assert found.literal("SIZES", {}) == {"big": {"dim": 4}}
    assert found.parameters() == ["dim", "depth"]
    assert found.load()(None, dim=3) == 3


def test_a_dotted_name_is_anything_importable():
    assert names.find("model", "json.decoder:JSONDecoder").load().__name__ == "JSONDecoder"


@pytest.mark.parametrize(
    ("kind", "name", "sentence"),
    [
        ("attention", "sdpa_flsh", "did you mean 'sdpa_flash'"),
        ("model", "gpd", "did you mean 'gpt'"),
        ("suite", "none/such.py", "no file 'none/such.py'"),
        ("task", "pretraining/causal_ml", "did you mean 'pretraining/causal_lm'"),
        ("model", "no.such.module", "no model 'no.such.module'"),
    ],
)
def test_an_unknown_name_is_answered_with_the_closest(kind, name, sentence):
    with pytest.raises(UserError) as caught:
        names.find(kind, name)
    assert sentence in str(caught.value)


def test_a_file_without_the_function_is_a_sentence(tmp_path):
    (tmp_path / "empty.py").write_text('"""Empty."""\n')
    with pytest.raises(UserError, match="defines no function 'build'"):
        names.find("model", "empty.py", [tmp_path]).load()


def test_a_file_that_does_not_parse_is_a_sentence(tmp_path):
    (tmp_path / "broken.py").write_text("def build(:\n")
    with pytest.raises(UserError, match="line 1"):
        _ = names.find("model", "broken.py", [tmp_path]).summary


def test_a_literal_that_is_computed_is_refused(tmp_path):
    (tmp_path / "clever.py").write_text("SIZES = dict(a=1)\n")
    with pytest.raises(UserError, match="not a plain literal"):
        names.find("model", "clever.py", [tmp_path]).literal("SIZES", {})


@pytest.mark.parametrize("kind", names.KINDS)
def test_every_listed_file_defines_its_function(kind):
    listed = names.listing(kind)
    assert listed
    for named in listed:
        assert callable(named.load())
