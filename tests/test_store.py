"""The run folder: what is refused, and that nothing is lost."""

import json

import pytest

from harness.errors import UserError
from harness.spec import Block, Suite, Variant, Workload
from harness.stopwatch import Stopwatch
from harness.store import create, open_run, read_rows, resume

WORK = Workload(task="pretraining/causal_lm", model="gpt")
SUITE = Suite(name="s", question="?", blocks=[Block(workload=WORK, variants=[Variant(name="v")])])
CASE = SUITE.cases[0].id


def sealed(folder, status="complete"):
    recorder = create(folder, SUITE, ["tandem", "run", "s"], {}, [])
    recorder.outcome(CASE, SUITE.blocks[0].name, "ok", None, 1)
    recorder.rows([(CASE, 1, 1, 1, 0, "step_seconds", 0.5), (CASE, 1, 1, 1, 1, "training_loss", float("nan"))])
    recorder.launch_done([SUITE.blocks[0].name], 1)
    return recorder.seal(status, Stopwatch())


def test_a_sealed_run_reads_back(tmp_path):
    run = open_run(sealed(tmp_path))
    samples = run.samples()
    assert samples.case.tolist() == [CASE, CASE]
    assert samples.value[0] == 0.5
    assert samples.value.isna().tolist() == [False, True]
    assert run.suite == SUITE
    assert not list(tmp_path.glob(".*"))


def test_rows_are_on_disk_before_the_run_is_sealed(tmp_path):
    recorder = create(tmp_path, SUITE, [], {}, [])
    recorder.rows([(CASE, 1, 1, 1, 0, "step_seconds", 0.5)])
    assert read_rows(recorder.path / "samples.jsonl") == [(CASE, 1, 1, 1, 0, "step_seconds", 0.5)]
    recorder.close()


def edit(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_run_of_the_format_before_still_opens(tmp_path):
    path = sealed(tmp_path)
    suite = json.loads((path / "run.json").read_text())["suite"]
    for block in suite["blocks"]:
        del block["workload"]["lengths"]
        for variant in block["variants"]:
            del variant["dynamic"], variant["bucket"]
    edit(path / "run.json", format=4, suite=suite)
    run = open_run(path)
    assert run.suite == SUITE
    assert [case.id for case in run.suite.cases] == [CASE]


def cut(path):
    path.write_bytes(path.read_bytes()[:-20])


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda run: (run / "run.json").unlink(), "is not a run: it holds no run.json"),
        (lambda run: (run / "run.json").write_text("[]"), "is not a run: its run.json names no format"),
        (lambda run: cut(run / "run.json"), "cannot be read"),
        (lambda run: edit(run / "run.json", format=99), "newer than 6; update torch-tandem"),
        (lambda run: edit(run / "run.json", status="running"), "is not finished; finish it with `tandem run --resume"),
        (lambda run: cut(run / "samples.parquet"), "is truncated or was changed"),
        (lambda run: (run / "samples.parquet").unlink(), "is truncated or was changed"),
        (lambda run: (run / "outcomes.json").unlink(), "cannot be read"),
    ],
)
def test_a_damaged_run_is_a_sentence(tmp_path, damage, sentence):
    path = sealed(tmp_path)
    damage(path)
    with pytest.raises(UserError) as caught:
        open_run(path)
    assert sentence in str(caught.value)


def test_resuming_keeps_complete_launches_and_drops_the_rest(tmp_path):
    recorder = create(tmp_path, SUITE, [], {}, [])
    recorder.outcome(CASE, SUITE.blocks[0].name, "ok", None, 1)
    recorder.warn(CASE, 1, "code", "message", "remedy")
    recorder.rows([(CASE, 1, 1, 1, 0, "step_seconds", 0.5)])
    recorder.launch_done([SUITE.blocks[0].name], 1)
    recorder.rows([(CASE, 2, 1, 1, 0, "step_seconds", 0.7)])
    path = recorder.seal("interrupted", Stopwatch())
    again = resume(path)
    again.close()
    assert again.path.name.startswith(".partial-")
    assert [row[1] for row in read_rows(again.path / "samples.jsonl")] == [1]
    assert again.outcomes[CASE]["warnings"]
    assert again.is_done(SUITE.blocks[0].name, 1)
    assert not again.is_done(SUITE.blocks[0].name, 2)
