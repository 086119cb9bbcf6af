"""Saliency: right by hand, unmoved by what must not move it, and telling where something has."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from test_run import Bench, outcomes
from torch import nn

from harness import names
from harness.errors import Unavailable
from harness.work import Work
from harness.worker.device import Device
from harness.worker.precision import autocast, scaler
from harness.worker.saliency import agreement, saliency

pytestmark = pytest.mark.usefixtures("one_thread")


def step(model, batch, loss, evaluate=None, precision="fp32"):
    work = Work(batch=lambda index: batch, loss=loss, amount={}, score=lambda model: {})
    device = Device("cpu")
    return SimpleNamespace(
        model=model, work=work, evaluate=evaluate or loss, device=device,
        autocast=autocast(precision, device), scaler=scaler(precision, device),
    )  # fmt: skip


def test_saliency_is_the_length_of_gradient_times_input():
    model = nn.Embedding(5, 3)
    tokens, factors = torch.tensor([[0, 1, 1], [4, 2, 0]]), torch.rand(2, 3, 3)
    found = saliency(step(model, tokens, lambda model, batch: ((model(batch) * factors).sum(), None)))
    by_hand = (model(tokens) * factors).norm(dim=-1)  # the gradient of the sum is the factors
    assert np.allclose(found, by_hand.detach().numpy())
    assert model.training


def test_of_images_the_patches_are_the_positions_and_of_a_shared_embedding_the_first_use():
    patches = nn.Conv2d(1, 4, kernel_size=2, stride=2)
    images = torch.rand(3, 1, 6, 6)
    assert saliency(step(patches, images, lambda model, batch: (model(batch).square().mean(), None))).shape == (3, 9)
    shared, tokens = nn.Embedding(5, 3), torch.tensor([[0, 1]])
    twice = step(shared, tokens, lambda model, batch: (model(batch).sum() + 7 * model(batch).sum(), None))
    assert np.allclose(saliency(twice), shared(tokens).norm(dim=-1).detach().numpy())


def test_a_model_without_an_embedding_is_refused_with_the_reason():
    with pytest.raises(Unavailable, match="no embedding or projection"):
        saliency(step(nn.Tanh(), torch.rand(2, 3, 4), lambda model, batch: (model(batch).sum(), None)))


def test_agreement_is_spearmans_over_the_positions_that_count():
    draw = np.random.default_rng(0)
    expected, found = draw.random((4, 30)), draw.integers(0, 5, (4, 30)).astype(float)  # with ties
    by_scipy = np.mean([spearmanr(*pair).statistic for pair in zip(found, expected, strict=True)])
    assert agreement(expected, found) == pytest.approx(by_scipy)
    padded = np.pad(expected, ((0, 0), (0, 9)))
    assert agreement(padded, np.pad(found, ((0, 0), (0, 9)), constant_values=3.0)) == pytest.approx(by_scipy)
    assert agreement(expected, expected**3) == pytest.approx(1.0)
    assert agreement(expected, -expected) == pytest.approx(-1.0)
    assert np.isnan(agreement(expected, np.where(found > 3, np.nan, found)))
    with pytest.raises(Unavailable, match="positions"):
        agreement(expected, found[:, 1:])


def real(model, precision="fp32", attention="sdpa", evaluate=None, seed=0):
    """Return the saliency of a tiny model of ours on random bytes."""
    torch.manual_seed(seed)
    named = names.find("model", model)
    built = named.load()(names.find("attention", attention).load(), **named.literal("SIZES", {})["tiny"])
    built = built.double() if precision == "fp64" else built
    tokens = torch.randint(0, 256, (4, 32), generator=torch.Generator().manual_seed(1))

    def loss(model, tokens):
        logits = model(tokens, None) if model_is_gpt else model(tokens, None, None)
        return nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten()), logits.detach()

    model_is_gpt = model == "gpt"
    return saliency(step(built, tokens, loss, evaluate and evaluate(loss), precision))


@pytest.mark.parametrize("model", ["gpt", "bert"])
def test_variants_of_our_models_agree_and_other_weights_do_not(model):
    reference = real(model, "fp64", "formula")
    assert agreement(reference, real(model)) > 0.9999
    assert 0.9 < agreement(reference, real(model, "bf16")) < 1
    assert agreement(reference, real(model, seed=1)) < 0.8


def test_compiled_code_is_observed_and_not_its_eager_twin():
    def wrong(loss):
        return torch.compile(lambda model, batch: (loss(model, batch)[0] * batch.numel(), None), backend="aot_eager")

    def falsified(loss):
        compiled = torch.compile(loss, backend="aot_eager")

        def evaluate(model, batch):
            assert not seen
            seen.append(batch)
            return compiled(model, batch)

        return evaluate

    seen: list = []
    eager = real("gpt")
    assert np.allclose(real("gpt", evaluate=falsified), eager, rtol=1e-3)
    assert len(seen) == 1
    assert np.allclose(real("gpt", evaluate=wrong), eager * 128, rtol=1e-3)
    torch._dynamo.reset()


def test_a_suite_that_asks_compares_in_each_scored_launch(tmp_path):
    script = {"a": {}, "b": {"agreement": 0.5}, "bad": {"fail": {"verb": "explain", "how": "RuntimeError"}}}
    done, run = Bench(tmp_path, script, launches=3).run("--set", "explain=true", "--set", "seeds=2")
    assert outcomes(run) == {"a": "ok", "b": "ok", "bad": "ok"}
    assert done.returncode == 0
    found = run.samples().query("metric == 'saliency_agreement'")
    by_name = {case.variant.name: found[found.case == case.id] for case in run.suite.cases}
    assert by_name["a"].launch.tolist() == by_name["b"].launch.tolist() == [1, 2]
    assert by_name["b"].value.tolist() == [0.5, 0.5]
    assert by_name["bad"].empty
    warnings = run.outcomes[2]["warnings"]
    assert "no saliency" in [item["code"] for item in warnings]
    events = [json.loads(line) for line in (run.path / "events.jsonl").read_text().splitlines()]
    asked = [event["to"] for event in events if event.get("verb") == "explain" and "to" in event]
    assert len(asked) == 2 * 4  # the reference too, and none of them a process that is timed
    assert not {*asked} & {case.id for case in run.suite.cases}
    assert "explains alike" in tmp_report(tmp_path, run)


def tmp_report(folder, run):
    from reports.report import document_of

    tables = [item for section in document_of(run, ["correctness"]).sections for item in section.items]
    return [column for table in tables if hasattr(table, "columns") for column in table.columns]


def test_a_suite_that_does_not_ask_is_not_slowed_down(tmp_path):
    _, run = Bench(tmp_path, {"a": {}}, launches=1).run()
    assert "explain" not in (run.path / "events.jsonl").read_text()


def test_a_reference_that_fails_leaves_every_case_measured_with_a_warning(tmp_path):
    script = {"a": {}, "b": {}, "reference": {"fail": {"verb": "explain", "how": "RuntimeError"}}}
    bench = Bench(tmp_path, script, launches=1)
    (tmp_path / "own.py").write_text((tmp_path / "own.py").read_text().replace(", 'reference'", ""))
    _, run = bench.run("--set", "explain=true")
    codes = [{item["code"] for item in outcome["warnings"]} - {"busy machine"} for outcome in run.outcomes]
    assert codes == [{"no saliency"}] * 2
    assert outcomes(run) == {"a": "ok", "b": "ok"}
