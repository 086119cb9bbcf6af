"""Baselines: what is saved opens again, the first is kept, the newest counts, and creep is seen."""

import json
import subprocess

import pytest
from made_run import compared, made_suite, sealed_run

from harness.baseline import find, names, newest, save
from harness.commands.options import run_path
from harness.errors import UserError
from harness.store import open_run
from reports.baselines import creep, listing
from reports.formats import json as json_format
from reports.formats import terminal

SUITE = made_suite(lengths=(64,))


@pytest.fixture
def make(tmp_path):
    def make(name, suite=SUITE, **made):
        return open_run(sealed_run(tmp_path / "runs" / name, suite, **made))

    return make


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "baselines"


def shown(name, folder):
    saved = find(name, folder)
    return creep(saved, *(open_run(item.place(folder)) for item in (saved[0], saved[-1])))


def test_a_baseline_is_the_run_without_its_logs_traces_and_events(make, folder):
    run = make("one", commit="c0ffee")
    (run.path / "logs").mkdir()
    saved = save(run, "main", folder)
    kept = open_run(newest("main", folder))
    assert compared(run, kept).differences == ()
    assert kept.samples().equals(run.samples())
    assert {path.name for path in kept.path.iterdir()} == {
        "baseline.json", "environments.json", "outcomes.json", "plan.json", "run.json", "samples.parquet"
    }  # fmt: skip
    assert (saved.number, saved.run, saved.commit) == (1, "one", "c0ffee")
    assert "Made CPU" in saved.machine
    assert [path.name for path in folder.iterdir()] == ["main"]


def test_a_truncated_baseline_is_refused(make, folder):
    save(make("one"), "main", folder)
    (newest("main", folder) / "samples.parquet").write_bytes(b"cut")
    with pytest.raises(UserError, match="truncated or was changed"):
        open_run(newest("main", folder))


def test_a_name_is_replaced_only_explicitly_and_its_first_run_is_kept(make, folder):
    save(make("one"), "main", folder)
    with pytest.raises(UserError, match=r"'main' exists since .*--update"):
        save(make("two"), "main", folder)
    save(make("two"), "main", folder, update=True)
    save(make("three"), "main", folder, update=True)
    assert [(item.number, item.run) for item in find("main", folder)] == [(1, "one"), (2, "two"), (3, "three")]
    assert open_run(newest("main", folder)).id == "three"


def test_the_tenth_comes_after_the_ninth(make, folder):
    run = make("one")
    for _ in range(11):
        save(run, "main", folder, update=True)
    assert newest("main", folder).name == "11"


def test_a_failed_copy_leaves_nothing(make, folder):
    run = make("one")
    (run.path / "outcomes.json").unlink()
    with pytest.raises(OSError, match="No such file"):
        save(run, "main", folder)
    assert names(folder) == []
    assert not list(folder.glob(".partial*"))


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a/b", "../up", "-x", "a b", "a\n", "naïve"])
def test_a_name_that_is_a_path_or_hidden_is_refused(make, folder, name):
    with pytest.raises(UserError, match="is no name of a baseline"):
        save(make("one"), name, folder)
    with pytest.raises(UserError, match="is no name of a baseline"):
        run_path(f"baseline:{name}", folder, folder)


def test_what_is_not_complete_or_of_another_suite_is_refused(make, folder):
    with pytest.raises(UserError, match="is interrupted; finish it"):
        save(make("half", status="interrupted"), "main", folder)
    save(make("one"), "main", folder)
    with pytest.raises(UserError, match="holds suite 'made', not 'other'"):
        save(make("two", made_suite(lengths=(64,), name="other")), "main", folder, update=True)


def test_an_unknown_name_is_a_sentence(make, folder):
    with pytest.raises(UserError, match=r"no baseline in .*tandem baseline save"):
        find("main", folder)
    save(make("one"), "main", folder)
    with pytest.raises(UserError, match="no baseline 'mian'; did you mean 'main'"):
        run_path("baseline:mian", folder, folder)


def test_a_baseline_stands_where_a_run_is_expected(make, folder):
    save(make("one"), "main", folder)
    assert run_path("baseline:main", folder, folder) == folder / "main/1"


def test_who_saved_it_is_gits_user_or_nobody(make, folder, monkeypatch, tmp_path):
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.chdir(tmp_path)
    assert save(make("one"), "main", folder).who is None
    subprocess.run(["git", "config", "--global", "user.name", "Ada"], check=True)
    assert save(make("two"), "main", folder, update=True).who == "Ada"


def test_many_small_losses_are_seen_against_the_anchor(make, folder):
    for step in range(5):  # each 2 % slower than the one before, which is within the margin
        save(make(f"run{step}", slower=1.02**step, noise=0.001, seed=step), "main", folder, update=True)
    one_step = compared(*(open_run(folder / "main" / number) for number in ("4", "5"))).comparisons
    assert {item.judgement.verdict for item in one_step if item.metric == "step_seconds"} == {"same"}
    document = shown("main", folder)
    text = terminal.render(document, width=160, color=False)
    assert "speed: 5 worse" in text
    assert "✗ 0.92" in text
    (report,) = [json.loads(json_format.render(document))]
    assert report["base"]["id"] == "run0"


def test_a_newest_of_another_machine_says_what_differs(make, folder):
    save(make("one"), "main", folder)
    save(make("two", fingerprint="f1"), "main", folder, update=True)
    text = terminal.render(shown("main", folder), width=160, color=False)
    assert "not comparable" in text
    assert "fingerprint" in text


def test_one_save_has_no_creep_yet(make, folder):
    save(make("one"), "main", folder)
    assert "saved once" in terminal.render(shown("main", folder), width=160, color=False)


def test_the_list_says_where_the_newest_is_from(make, folder):
    assert "no baselines yet" in terminal.render(listing([]), width=200, color=False)
    save(make("one"), "main", folder)
    save(make("two", commit="c0ffee"), "main", folder, update=True)
    text = terminal.render(listing([find(name, folder) for name in names(folder)]), width=200, color=False)
    for word in ("main", "2", "two", "c0ffee", "Made CPU"):
        assert word in text


def test_a_baseline_file_with_a_missing_field_is_a_sentence(make, folder):
    save(make("one"), "main", folder)
    (folder / "main/1/baseline.json").write_text("{}")
    with pytest.raises(UserError, match="is not complete"):
        find("main", folder)
