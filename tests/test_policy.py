"""The gate's policy: the most specific margin counts, what has expired does not, every mistake names file and key."""

from datetime import date

import pytest

from harness.errors import UserError
from harness.metrics import METRICS
from harness.policy import Policy, read_policy

WHOLE = """
[tool.tandem.gate]
unsure = "fail"
budget = "20m"
[tool.tandem.gate.margins]
step_seconds = 0.05
"step_seconds @ bert-*" = 0.08
"step_seconds @ bert-tiny-*" = 0.1
[[tool.tandem.gate.allow]]
case = "gpt-*"
metric = "memory_*"
reason = "the larger cache of change 123"
expires = 2027-01-31
"""
ALLOW = '[[allow]]\ncase = "a"\nreason = "b"\nexpires = 2027-01-31\n'
DAY = date(2027, 1, 31)


@pytest.fixture
def policy(tmp_path):
    def read(text, name="gate.toml"):
        (tmp_path / name).write_text(text)
        return read_policy(tmp_path / name, tmp_path)

    return read


def test_a_whole_policy_is_read(policy):
    found = policy(WHOLE)
    assert (found.unsure, found.budget) == ("fail", 1200.0)
    assert found.margin("step_seconds", "gpt-tiny--v1--12345678") == 0.05
    assert found.margin("memory_peak_bytes", "gpt-tiny--v1--12345678") == METRICS["memory_peak_bytes"].margin


@pytest.mark.parametrize("order", [1, -1])
def test_the_most_specific_pattern_counts_in_any_order(policy, order):
    lines = ['"step_seconds @ bert-*" = 0.08', '"step_seconds @ bert-tiny-*" = 0.1', "step_seconds = 0.05"][::order]
    found = policy("[margins]\n" + "\n".join(lines))
    assert found.margin("step_seconds", "bert-tiny-b8--v1") == 0.1
    assert found.margin("step_seconds", "bert-base-b8--v1") == 0.08
    assert found.margin("step_seconds", "gpt") == 0.05


def test_of_equally_specific_patterns_the_last_counts(policy):
    found = policy('[margins]\n"step_seconds @ gpt*" = 0.1\n"step_seconds @ *v1*x" = 0.2\n')
    assert found.margin("step_seconds", "gpt-v1-x") == 0.2


def test_a_pattern_may_name_the_block(policy):
    found = policy('[margins]\n"step_seconds @ mine" = 0.1\n' + ALLOW.replace('"a"', '"mine"'))
    assert found.margin("step_seconds", "gpt--v1", "mine") == 0.1
    assert found.allowance("step_seconds", DAY, "gpt--v1", "mine")
    assert found.margin("step_seconds", "gpt--v1") == METRICS["step_seconds"].margin


def test_a_pattern_that_fits_nothing_is_found(policy):
    found = policy(WHOLE)
    assert found.idle(["bert-tiny-b8--v1"]) == ["gpt-*"]
    assert found.idle(["gpt-1", "bert-base", "bert-tiny-b8"]) == []


def test_an_allowance_counts_for_its_cases_and_metrics_until_its_day_is_over(policy):
    found = policy(WHOLE)
    assert found.allowance("memory_peak_bytes", DAY, "gpt-x").reason == "the larger cache of change 123"
    assert found.allowance("memory_peak_bytes", date(2027, 2, 1), "gpt-x") is None
    assert found.allowance("memory_peak_bytes", DAY, "bert-x") is None
    assert found.allowance("step_seconds", DAY, "gpt-x") is None


def test_a_failing_case_is_allowed_only_by_name(policy):
    entry = '[[allow]]\ncase = "*"\nreason = "r"\nexpires = 2999-01-01\n'
    assert policy(entry).allowance("outcome", DAY, "gpt-x") is None
    assert policy(entry).allowance("step_seconds", DAY, "gpt-x")
    assert policy(entry + 'metric = "outcome"\n').allowance("outcome", DAY, "gpt-x")


def test_the_nearest_pyproject_is_found_from_a_folder_below(tmp_path):
    (tmp_path / "pyproject.toml").write_text(WHOLE)
    (tmp_path / "a/b").mkdir(parents=True)
    assert read_policy(None, tmp_path / "a/b").unsure == "fail"
    (tmp_path / "a/pyproject.toml").write_text('[project]\nname = "other"\n')
    assert read_policy(None, tmp_path / "a/b") == Policy()


@pytest.mark.parametrize(("text", "seconds"), [("90", 90.0), ("1.5", 1.5), ('"90s"', 90.0), ('"10m"', 600.0)])
def test_a_budget_is_seconds_or_a_text(policy, text, seconds):
    assert policy(f"budget = {text}").budget == seconds


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("marign = 3", "gate.toml: gate: no key 'marign'; did you mean 'margins'"),
        ("[tool.tandem.gaet]", "gate.toml: tool.tandem: no key 'gaet'; did you mean 'gate'"),
        ("[tool.other]", "gate.toml holds no [tool.tandem.gate]"),
        ("tool = 3", "gate.toml: tool is 3; write it as [tool]"),
        ("margins = 0.1", "gate.toml: margins is 0.1; write it as [margins]"),
        ("allow = 3", "gate.toml: allow is 3; write it as [[allow]]"),
        ("allow = [3]", "gate.toml: allow 1 is 3"),
        ("a = 1\nb = = 2", "gate.toml is no TOML: Invalid value (at line 2"),
        ("unsure = 'maybe'", "gate.toml: gate: no value of unsure 'maybe'; known: fail, warn"),
        ("unsure = ['warn']", "gate.toml: gate: no value of unsure"),
        ("budget = 'soon'", "gate.toml: budget: 'soon' is no time"),
        ("budget = true", "gate.toml: budget: True is no time"),
        ("budget = -3", "gate.toml: gate: budget is -3.0; give a time above 0"),
        ("budget = nan", "gate.toml: gate: budget is nan"),
        ("[margins]\nstep_secs = 0.1", "margins: 'step_secs': no metric 'step_secs'; did you mean 'step_seconds'"),
        ("[margins]\nstep_seconds = -0.1", "margins: 'step_seconds': the margin is -0.1; give a share"),
        ("[margins]\nstep_seconds = 5", "margins: 'step_seconds': the margin is 5; give a share"),
        ("[margins]\nstep_seconds = nan", "the margin is nan"),
        ("[margins]\nstep_seconds = true", "the margin is True"),
        ("[margins]\nstep_seconds = '5%'", "the margin is '5%'"),
        ("[margins]\n'step_seconds @ ' = 0.1", "the pattern after @ is empty"),
        ("[margins]\ngraph_breaks = 0.1", "margins: 'graph_breaks': graph_breaks repeats exactly, its margin is 0"),
        (
            "[margins]\ntokens_per_second = 0.1",
            "a gate does not judge tokens_per_second; give the margin of",
        ),
        (
            "[margins]\nstep_seconds = 0.1\n'step_seconds@*' = 0.2",
            "gate.toml: gate: step_seconds @ * has two margins, 0.1 and 0.2; keep one",
        ),
        (ALLOW.replace('reason = "b"\n', ""), "gate.toml: allow 1 has no reason"),
        (ALLOW.replace("expires = 2027-01-31\n", ""), "gate.toml: allow 1 has no expires"),
        (ALLOW.replace('case = "a"\n', ""), "gate.toml: allow 1 has no case"),
        (ALLOW.replace('"b"', '" "'), "gate.toml: allow 1: reason is ' '"),
        (ALLOW.replace("2027-01-31", "'soon'"), "gate.toml: allow 1: expires is 'soon'; give a day without quotes"),
        (ALLOW.replace("2027-01-31", "2027-01-31T10:00:00"), "give a day"),
        (ALLOW + "metric = 'memroy_*'", "gate.toml: allow 1: no metric 'memroy_*'"),
        (ALLOW + "until = 3", "gate.toml: allow 1: no key 'until'"),
    ],
)
def test_a_mistake_is_a_sentence_with_file_and_key(policy, text, sentence):
    with pytest.raises(UserError) as caught:
        policy(text)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_project_without_the_table_are_sentences(policy, tmp_path):
    with pytest.raises(UserError, match=r"no policy .*none.toml'"):
        read_policy(tmp_path / "none.toml", tmp_path)
    with pytest.raises(UserError, match="holds no"):
        policy('[project]\nname = "x"\n', "pyproject.toml")
    (tmp_path / "latin.toml").write_bytes(b'unsure = "\xe9"')
    with pytest.raises(UserError, match="is no TOML"):
        read_policy(tmp_path / "latin.toml", tmp_path)


def test_a_margin_of_0_for_what_repeats_exactly_is_fine(policy):
    assert policy("[margins]\ngraph_breaks = 0").margin("graph_breaks", "x") == 0
