"""Passports side by side: what machines have in common, what is no passport, those that are checked in."""

import json
import math

import pytest
from test_hardware import Machine, one_line

from harness import names, passport
from harness.commands import hardware
from harness.errors import UserError
from harness.stats import Estimate
from reports.document import Quantity
from reports.hardware import document_of, ratio


def made(identifier="one", measuring=1, rate=1e11, low=0.9e11, high=1.1e11, price=None, form=1, economy=None):
    figure = {"center": rate, "low": low, "high": high, "n": 3, "unit": "FLOP/s"}
    case = {"workload": {"task": "ceilings/matmul", "settings": {"rows": 8}}, "variant": {"name": "fp32"},
            "metrics": {"flop_per_second": figure}, "outcome": "ok", "facts": {}}  # fmt: skip
    tokens = {"center": rate / 1e8, "low": low / 1e8, "high": high / 1e8, "n": 3, "unit": "tokens/s"}
    model = {"workload": {"task": "pretraining/causal_lm", "model": "gpt"}, "variant": {"name": "best"},
             "metrics": {"tokens_per_second": tokens}, "outcome": "ok", "facts": {}}  # fmt: skip
    if economy:
        model["metrics"]["tokens_per_joule"] = {**tokens, "center": economy, "unit": "tokens/J"}
    run = {"id": identifier, "measuring": measuring, "price_per_hour": price}
    place = {"cpu": f"cpu of {identifier}", "cores_usable": 2, "line": f"line of {identifier}", "fingerprint": "f"}
    return {"format": form, "run": run, "cases": [case, model], "environments": {"current": place}}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{", "is no passport"),
        ("[]", "not the report of one run"),
        (json.dumps({"format": 1, "reports": []}), "not the report of one run"),
        (json.dumps({**made(), "format": "1"}), "not the report of one run"),
        (json.dumps({**made(), "run": []}), "not the report of one run"),
        (json.dumps(made(form=99)), "newer than 1; update torch-tandem"),
        (json.dumps({**made(), "run": {"id": "x"}}), "its run is not of `tandem hardware`"),
        (None, "No such file"),
    ],
)
def test_what_is_no_passport_is_a_sentence(tmp_path, content, sentence):
    path = tmp_path / "passport.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=sentence):
        passport.read(path)


@pytest.mark.parametrize("name", ["two", "two.json", "./two.json"])
def test_prices_of_today_stand_over_those_of_the_passports(tmp_path, name):
    for told, rate in (("one", 1e11), ("two", 2e11)):
        (tmp_path / f"{told}.json").write_text(json.dumps(made(told, rate=rate, price=1.0)))
    named = [str(tmp_path / "one.json"), str(tmp_path / "two.json")]
    found = dict([hardware.told_price(f"{tmp_path / name if '/' in name else name}=3.5", named)])
    assert found == {named[1]: 3.5}
    reports = [hardware.opened(one, found.get(one), tmp_path) for one in named]
    (chart,) = [item for item in document_of(reports).sections[0].items if hasattr(item, "marks")]
    assert {mark.name: mark.at for mark in chart.marks} == {"cpu of one, 2 cores": 1.0, "cpu of two, 2 cores": 3.5}


@pytest.mark.parametrize(
    ("price", "sentence"),
    [
        ("3.5", "'3.5' is not of the form PASSPORT=N"),
        ("three=3.5", "no passport 'three'; known: one, two"),
        ("two=much", "'two=much': 'much' is no number; give what an hour costs"),
        ("two=0", "--price-per-hour is 0; give what an hour costs, above 0"),
        ("two=inf", "--price-per-hour is inf; give what"),
    ],
)
def test_a_price_that_is_none_is_a_sentence(tmp_path, price, sentence):
    for told in ("one", "two"):
        (tmp_path / f"{told}.json").write_text(json.dumps(made(told)))
    done = Machine(tmp_path).call("hardware", "compare", "one.json", "two.json", f"--price-per-hour={price}")
    assert done.returncode == 2
    assert sentence in done.stderr


def test_passports_measured_in_different_ways_are_not_compared():
    with pytest.raises(UserError, match="measured in different ways: one by version 1, two by version 2"):
        document_of([made(), made("two", measuring=2)])


def test_machines_are_compared_with_what_they_have_in_common():
    document = document_of([made(price=1.0), made("two", rate=2e11, low=1.9e11, high=2.1e11, price=3.0)])
    notes = [item.parts[0] for item in document.sections[0].items if hasattr(item, "parts")]
    assert notes[0].startswith("cpu of two, 2 cores against cpu of one, 2 cores: better in 2 of 2 figures, worse in 0")
    chart = document.sections[0].items[-1]
    assert [(mark.at, mark.name) for mark in chart.marks] == [
        (1.0, "cpu of one, 2 cores"),
        (3.0, "cpu of two, 2 cores"),
    ]
    assert {mark.series for mark in chart.marks} == {"none better in both"}  # one is cheaper, the other faster


def test_a_machine_that_is_slower_and_dearer_is_not_on_the_front():
    document = document_of([made(price=1.0), made("two", rate=5e10, price=3.0)])
    marks = document.sections[0].items[-1].marks
    assert [mark.series for mark in marks] == ["none better in both", "another is better in both"]


def test_machines_of_unlike_sizes_share_the_best_of_each_kind():
    small, large = made(), made("two", rate=2e11, low=1.9e11, high=2.1e11)
    large["cases"][0]["workload"]["settings"]["rows"] = 16
    slower = json.loads(json.dumps(large["cases"][0]).replace('"rows": 16', '"rows": 32'))
    slower["metrics"]["flop_per_second"]["center"] = 1.0
    large["cases"] = [slower, *large["cases"]]
    large["cases"][2]["workload"]["batch"] = 64
    document = document_of([small, large])
    assert (
        document.sections[0]
        .items[0]
        .parts[0]
        .startswith("cpu of two, 2 cores against cpu of one, 2 cores: better in 2 of 2")
    )
    tables = {item.title: item for item in document.sections[0].items if hasattr(item, "rows")}
    first, *others = tables["Products and attention"].rows
    assert first[:2] == ("products", "the best, fp32")
    assert first[4].estimate.center == pytest.approx(2.0)
    assert others == []
    assert "5 more figures are of a size that one machine alone measured" in document.sections[0].items[1].parts[0]
    assert tables["Models"].rows[0][1] == "the best"


def test_speed_is_set_against_energy_where_machines_count_it():
    document = document_of([made(economy=4.0), made("two", rate=2e11, economy=3.0), made("three")])
    chart = document.sections[0].items[-1]
    assert chart.title == "Speed against energy: gpt None, the best"
    assert [(mark.at, mark.value) for mark in chart.marks] == [(4.0, 1000.0), (3.0, 2000.0)]
    tables = {item.title: item for item in document.sections[0].items if hasattr(item, "rows")}
    assert [row[:2] for row in tables["Energy"].rows] == [("gpt None", "the best"), ("gpt-b8-l128", "best")]
    assert not [
        item for item in document_of([made(economy=4.0), made("two")]).sections[0].items if hasattr(item, "marks")
    ]


def test_the_interval_of_a_ratio_of_two_sessions_holds_both_of_theirs():
    def value(center, half):
        ends = math.exp(math.log(center) - half), math.exp(math.log(center) + half)
        return Quantity(estimate=Estimate(center=center, low=ends[0], high=ends[1], n=3), unit="FLOP/s")

    found = ratio(value(1.0, 0.03), value(2.0, 0.04)).estimate
    assert found.center == pytest.approx(2.0)
    assert math.log(found.high / 2) == pytest.approx(0.05)
    assert math.log(2 / found.low) == pytest.approx(0.05)


def test_two_runs_and_the_report_of_one_are_compared(tmp_path):
    machine = Machine(tmp_path)
    runs = [machine.call("hardware", "--quick", "--quiet").stdout.splitlines()[-1] for _ in range(2)]
    assert machine.call("report", runs[0], "--format", "json", "-o", "passport.json").returncode == 0
    done = machine.call("hardware", "compare", "passport.json", runs[1])
    assert done.returncode == 0, done.stderr
    assert "scripted, 2 cores (2) against scripted, 2 cores (1): better in 0 of" in done.stdout


def test_passports_that_are_checked_in_can_be_read_and_compared(tmp_path):
    checked_in = [*(names.ROOT / "reports/hardware").glob("*.json")]
    assert checked_in
    for path in checked_in:
        report = passport.read(path)
        assert report["run"]["measuring"] == passport.MEASURING
        shares = [case["metrics"]["mfu"]["center"] for case in report["cases"] if "mfu" in case["metrics"]]
        assert shares
        assert all(0 < share <= 1 for share in shares)
    done = Machine(tmp_path).call("hardware", "compare", str(names.ROOT / "reports/hardware"))
    assert done.returncode == 0, done.stderr
    assert "NVIDIA H200 against AMD EPYC, 2 cores: better in" in one_line(done)
    assert "gpt-base-b1-l32, compiled cold" in one_line(done)


def test_a_passport_that_lacks_something_is_a_sentence(tmp_path):
    for name, told in {"one": made(), "two": {**made(), "cases": [{"workload": {}}]}}.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(told))
    done = Machine(tmp_path).call("hardware", "compare", "one.json", "two.json")
    assert done.returncode == 2
    assert done.stderr.startswith("tandem: a passport lacks what it should have: ")


def test_one_passport_alone_compares_with_nothing(tmp_path):
    done = Machine(tmp_path).call("hardware", "compare", "x.json")
    assert done.returncode == 2
    assert done.stderr.strip() == "tandem: one passport alone compares with nothing; give two or more"
