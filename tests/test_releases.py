"""PyTorch 1.13 and this one in one run, for real: the same bits at the start, the same numbers, and what 1.13 lacks."""

import re
import subprocess
import sys
from dataclasses import replace

import pytest
from test_real import tandem

from harness import environments, labels, names, store
from suites.definitions.releases import suite

OLD = "1.13.1"
SMALL = (
    "--set", "size=tiny", "--set", "length=32", "--set", "threads=1", "--set", "quality_steps=0", "--launches", "1",
    "--rounds", "1", "--no-trace",
)  # fmt: skip
OWN = '''"""The suite `releases` without what compiles for long, and with what torch 1.13 has not."""
from dataclasses import replace

from suites.definitions import releases


def suite():
    """Return v1 under both releases, and for one model v2 under the old one."""
    whole = releases.suite()
    kept = [variant for variant in whole.blocks[0].variants if variant.name in ("v1 1.13.1", "v1 current")]
    first, *others = (replace(block, variants=kept) for block in whole.blocks)
    return replace(whole, blocks=[replace(first, variants=[*kept, replace(releases.V2, torch="1.13.1")]), *others])
'''


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    if OLD not in environments.ready():
        pytest.skip(f"no environment {OLD!r}: `{labels.making(OLD)}` makes it, in about 2 minutes and 3.3 GiB")
    folder = tmp_path_factory.mktemp("releases")
    (folder / "own.py").write_text(OWN)
    done = tandem(folder, "run", "own.py", *SMALL)
    assert done.returncode == 0, done.stderr[-3000:]
    return store.open_run(folder / done.stdout.splitlines()[-1])


def outcomes(run, variant):
    return [outcome for outcome in run.outcomes if f"--{variant}--" in outcome["case"]]


def test_both_releases_measure_in_one_run(run):
    assert [outcome["status"] for outcome in outcomes(run, "v1-1.13.1") + outcomes(run, "v1-current")] == ["ok"] * 6
    assert run.environments[OLD]["torch"].startswith(OLD)
    assert not run.environments["current"]["torch"].startswith("1.")


def test_n_grams_fall_into_the_same_rows_under_both(run):
    code = (
        "import torch; from suites.models.bert import hashed; print(hashed(torch.arange(20).view(2, 10), 999).tolist())"
    )
    known = environments.interpreters()
    before, now = (
        subprocess.run([python, "-c", code], capture_output=True, text=True, check=True, cwd=names.ROOT).stdout
        for python in (known[OLD], sys.executable)
    )
    assert before == now
    assert len(set(re.findall(r"\d+", now))) > 100


def test_data_and_weights_are_the_same_bits_under_both(run):
    for before, now in zip(outcomes(run, "v1-1.13.1"), outcomes(run, "v1-current"), strict=True):
        for fact in ("weights_sha256", "batch_sha256"):
            assert len(before["facts"][fact]) == 64
            assert before["facts"][fact] == now["facts"][fact]


def test_outputs_losses_and_gradients_agree_with_one_reference(run):
    rows = run.samples()
    for name in ("output_error", "loss_error", "gradient_error", "losses_error"):
        found = rows[rows["metric"] == name]
        assert len(found) == 6
        assert found["value"].max() < 1e-5
    checked = outcomes(run, "v1-1.13.1") + outcomes(run, "v1-current")
    assert {outcome["facts"]["reference"] for outcome in checked} == {"float64 formula"}


def test_what_the_old_release_lacks_is_unavailable_with_the_reason(run):
    (outcome,) = outcomes(run, "v2")
    assert outcome["status"] == "unavailable"
    assert outcome["reason"] == "sdpa needs torch 2.0 or newer; this is " + run.environments[OLD]["torch"]


def test_the_suite_asks_for_each_style_where_it_is():
    names = [variant.name for variant in suite().blocks[0].variants]
    assert names == ["v1 1.13.1", "v1 2.0.1", "v1 current", "v2 2.0.1", "v2 current"]
    for block in suite().blocks:
        by_style = {}
        for variant in block.variants:
            style, label = variant.name.split()
            assert variant.torch == label
            by_style.setdefault(style, set()).add(replace(variant, name=style, torch="current"))
        assert [len(variants) for variants in by_style.values()] == [1, 1]
