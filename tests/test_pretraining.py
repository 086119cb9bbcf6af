"""The pretraining tasks: the same bits everywhere, the exact amount of work, the published corruption."""

import hashlib
import json
import math
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from task_checks import check_batches, check_compiles, check_loss_is_wide, same

from harness import names
from harness.errors import UserError
from suites.data import stdlib
from suites.pretraining import _windows, denoising, masked_lm
from suites.pretraining._windows import BOS, EOS, IGNORED, MASK, PAD, SENTINEL

MODELS = {"pretraining/causal_lm": "gpt", "pretraining/masked_lm": "bert", "pretraining/denoising": "encoder_decoder"}
CPU = torch.device("cpu")
every_task = pytest.mark.parametrize("task", MODELS)
every_model = pytest.mark.parametrize(
    ("task", "name"), [*MODELS.items(), ("pretraining/causal_lm", "llama"), ("pretraining/denoising", "t5")]
)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    return stdlib.prepare(tmp_path_factory.mktemp("corpus"))


@pytest.fixture
def prepare(corpus):
    """Prepare a task by name; the model is one of `vocabulary` tokens unless it is given."""

    def prepare(task, model=None, vocabulary=400, **config):
        workload = {"task": task, "batch": 8, "length": 128, "accumulate": 1, "padding": 0.0, "seed": 0, "data": corpus}
        model = model or torch.nn.Embedding(vocabulary, 1)
        return names.find("task", task).load()(model, {**workload, **config}, CPU)

    return prepare


def tiny(name):
    """Return the tiny model of that name, always with the same weights."""
    torch.manual_seed(0)
    model = names.find("model", name)
    return model.load()(names.find("attention", "formula").load(), **model.literal("SIZES", {})["tiny"])


def text_of(corpus, part):
    return np.load(corpus[part]).tobytes()


# ---- every task: batches


@every_task
def test_a_batch_depends_on_seed_and_index_only(prepare, task):
    check_batches(partial(prepare, task, padding=0.3))


@every_task
def test_batches_of_several_lengths_come_over_and_over_in_an_order_of_the_seeds(prepare, task):
    work = prepare(task, lengths=4, padding=0.3)
    widths = [work.batch(index)[0].shape[1] for index in range(8)]
    assert (work.lengths, widths[0], sorted(widths[:4])) == (4, 128, [32, 64, 96, 128])
    assert widths[:4] == widths[4:]
    orders = {
        tuple(prepare(task, lengths=4, seed=seed).batch(index)[0].shape[1] for index in range(4)) for seed in range(9)
    }
    assert len(orders) > 1
    one = [prepare(task, length=width, padding=0.3) for width in widths[:4]]
    assert work.amount == {"tokens": sum(other.amount["tokens"] for other in one) / 4, "samples": 8}
    assert prepare(task).lengths == 1


@pytest.mark.parametrize(("task", "name"), [*MODELS.items()][:2])
def test_filling_batches_up_to_a_bucket_changes_shapes_and_no_loss(prepare, task, name):
    model = tiny(name)
    plain, filled = prepare(task, model, lengths=5), prepare(task, model, lengths=5, bucket=64)
    assert filled.amount == plain.amount
    assert {filled.batch(index)[0].shape[1] for index in range(5)} == {64, 128}
    assert all(torch.equal(*pair) for pair in zip(plain.batch(0)[:2], filled.batch(0)[:2], strict=True))
    for index in range(5):
        expected = plain.loss(model, plain.batch(index))[0]
        assert torch.allclose(filled.loss(model, filled.batch(index))[0], expected, rtol=1e-5)


def test_every_length_is_scored_as_often_and_every_target_counts_as_much(prepare, corpus, tmp_path):
    path = tmp_path / "held_out.npy"
    np.save(path, np.frombuffer(b"H" * 5000, dtype=np.uint8))
    seen = []

    def knows_long_ones(tokens, *others):
        seen.append(tokens.shape[1])
        logits = torch.zeros(*tokens.shape, 320)
        logits[..., ord("H")] = 30.0 * (tokens.shape[1] == 128)
        return logits

    score = prepare("pretraining/causal_lm", lengths=3, data={**corpus, "held_out": str(path)}).score(knows_long_ones)
    assert sorted(map(seen.count, {*seen})) == [3, 3, 3]
    unknown = 1 - 128 / sum({*seen})
    assert score["held_out_loss"] == pytest.approx(math.log(320) * unknown, rel=0.02)


def test_denoising_has_no_buckets(prepare):
    with pytest.raises(UserError, match="pads to no bucket"):
        prepare("pretraining/denoising", lengths=4, bucket=64)


PRINT_DIGESTS = """
import hashlib, json, sys, torch
from harness import names
for config in json.loads(sys.argv[1]):
    work = names.find("task", config["task"]).load()(torch.nn.Embedding(400, 1), config, torch.device("cpu"))
    print(hashlib.sha256(b"".join(item.numpy().tobytes() for item in work.batch(5))).hexdigest())
"""


def test_another_process_draws_the_same_bits(prepare, corpus):
    shared = {"batch": 8, "length": 128, "accumulate": 1, "padding": 0.25, "seed": 3}
    configs = json.dumps([{**shared, "task": task, "data": corpus} for task in MODELS])
    environment = {**os.environ, "PYTHONHASHSEED": "11", "PYTHONPATH": str(names.ROOT)}
    command = [sys.executable, "-c", PRINT_DIGESTS, configs]
    printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()
    batches = [b"".join(item.numpy().tobytes() for item in prepare(task, **shared).batch(5)) for task in MODELS]
    assert printed == [hashlib.sha256(batch).hexdigest() for batch in batches]


def test_the_random_numbers_are_those_that_every_numpy_draws():
    random = _windows.random_numbers(0, "train", 0)  # the same with numpy 1.22 on Python 3.10
    assert random.randint(0, 1_000_000, size=4, dtype=np.int64).tolist() == [853132, 762219, 538103, 66264]
    assert random.permutation(6).tolist() == [2, 5, 1, 4, 3, 0]
    assert random.random_sample() == 0.5689788108283439


@every_task
def test_tokens_are_int64_and_without_padding_there_is_no_mask(prepare, task):
    batch = prepare(task).batch(0)
    tensors = [item for item in batch if item is not None]
    assert all(item.dtype == torch.int64 and item.is_contiguous() and len(item) == 8 for item in tensors)
    assert not any((item == PAD).any() or (item.dtype == torch.bool) for item in tensors)
    assert len(tensors) == 3 - (task == "pretraining/causal_lm")


@every_task
@pytest.mark.parametrize("padding", [0.1, 0.3, 0.5])
def test_with_padding_every_batch_holds_exactly_the_amount_said(prepare, task, padding):
    work = prepare(task, padding=padding)
    lengths = []
    for index in range(5):
        masks = [item for item in work.batch(index) if item is not None and item.dtype == torch.bool]
        assert sum(int(mask.sum()) for mask in masks) == work.amount["tokens"]
        assert int(masks[0].sum()) == round(8 * 128 * (1 - padding))
        lengths.append(masks[0].sum(1).tolist())
    assert len({tuple(sorted(row)) for row in lengths}) == 1
    assert len({tuple(row) for row in lengths}) > 1
    assert len(set(lengths[0])) > 1
    assert work.amount["samples"] == 8


@every_task
def test_without_padding_every_position_counts(prepare, task):
    positions = 128 + (denoising.sizes(128).target if task == "pretraining/denoising" else 0)
    assert prepare(task).amount == {"tokens": 8 * positions, "samples": 8}


# ---- causal_lm


def test_the_next_byte_is_the_target(prepare, corpus):
    text = text_of(corpus, "train")
    tokens, targets, _ = prepare("pretraining/causal_lm").batch(0)
    for row, target in zip(tokens.tolist(), targets.tolist(), strict=True):
        assert row[1:] == target[:-1]
        assert bytes([*row, target[-1]]) in text


def test_padded_targets_are_ignored_and_padded_tokens_are_pad(prepare):
    tokens, targets, mask = prepare("pretraining/causal_lm", padding=0.3).batch(0)
    assert (tokens[~mask] == PAD).all()
    assert (targets[~mask] == IGNORED).all()
    assert (tokens[mask] < 256).all()
    assert (targets[mask] >= 0).all()


# ---- masked_lm


@pytest.mark.parametrize("padding", [0.0, 0.3])
def test_two_segments_of_real_text_are_packed_between_markers(prepare, corpus, padding):
    text = text_of(corpus, "train")
    tokens, segments, targets, mask = prepare("pretraining/masked_lm", padding=padding).batch(0)
    rows = torch.where(targets == IGNORED, tokens, targets)
    ends = mask.sum(1).tolist() if padding else [128] * 8
    cuts = set()
    for row, segment, end in zip(rows.tolist(), segments.tolist(), ends, strict=True):
        cut = row.index(EOS)
        cuts.add(cut)
        assert (row[0], row[end - 1], row[:end].count(EOS), row[end:]) == (BOS, EOS, 2, [PAD] * (128 - end))
        assert segment == [0] * (cut + 1) + [1] * (end - cut - 1) + [0] * (128 - end)
        assert bytes(row[1:cut]) in text
        assert bytes(row[cut + 1 : end - 1]) in text
    assert len(cuts) > 1


@pytest.mark.parametrize("padding", [0.0, 0.3])
def test_of_each_row_15_percent_of_the_bytes_are_targets_80_10_10(prepare, padding):
    work = prepare("pretraining/masked_lm", batch=32, padding=padding)
    masked = kept = swapped = 0
    for index in range(10):
        tokens, _, targets, mask = work.batch(index)
        chosen = targets != IGNORED
        ends = mask.sum(1) if padding else torch.full((32,), 128)
        assert chosen.sum(1).tolist() == [round(0.15 * (end - 3)) for end in ends.tolist()]
        assert (targets[chosen] < 256).all()
        assert (tokens[chosen] <= MASK).all()
        masked += int((tokens == MASK).sum())
        kept += int((tokens == targets).sum())
        swapped += int((chosen & (tokens != targets) & (tokens != MASK)).sum())
    total = masked + kept + swapped
    assert abs(masked / total - 0.8) < 0.025  # 4 standard deviations of 4,000 draws
    assert abs(kept / total - 0.1) < 0.02
    assert abs(swapped / total - 0.1) < 0.02


def test_the_shortest_row_still_has_two_segments_and_a_target(prepare):
    _, segments, targets, _ = prepare("pretraining/masked_lm", length=5).batch(0)
    assert ((targets != IGNORED).sum(1) == 1).all()
    assert (segments == torch.tensor([0, 0, 0, 1, 1])).all()


# ---- denoising


def test_lengths_are_those_that_t5_computes():
    # T5's random_spans_helper gives 568 and 114 for 512
    assert denoising.sizes(512) == denoising.Sizes(kept=568 - 85, noise=85, spans=28)
    assert denoising.sizes(512).target == 114
    assert all(denoising.sizes(length).source == length for length in range(3, 3000))


def restore(source, target):
    """Put the spans of a target back into its source; both are lists that end with EOS."""
    spans = {}
    for token in target[: target.index(EOS)]:
        if token >= SENTINEL:
            spans[token] = []
            last = token
        else:
            spans[last].append(token)
    restored = [spans.pop(token) if token >= SENTINEL else [token] for token in source[: source.index(EOS)]]
    assert not spans
    return bytes(byte for span in restored for byte in span)


@pytest.mark.parametrize(("length", "padding"), [(128, 0.0), (128, 0.4), (3, 0.0), (32, 0.4), (300, 0.2)])
def test_span_corruption_can_be_undone(prepare, corpus, length, padding):
    text = text_of(corpus, "train")
    source, target_input, target, *masks = prepare("pretraining/denoising", length=length, padding=padding).batch(0)
    for row in range(8):
        end = int(masks[0][row].sum()) if padding else length
        expected = denoising.sizes(end)
        answer = [token for token in target[row].tolist() if token != IGNORED]
        assert source[row].tolist()[end:] == [PAD] * (length - end)
        assert target_input[row].tolist()[: len(answer)] == [BOS, *answer[:-1]]
        assert [token for token in answer if token >= SENTINEL] == list(range(SENTINEL, SENTINEL + expected.spans))
        assert len(answer) == expected.target
        restored = restore(source[row].tolist(), answer)
        assert len(restored) == expected.kept + expected.noise
        assert restored in text


def test_spans_divide_in_every_way_alike():
    random = np.random.RandomState(0)
    drawn = denoising.spans(random, np.full(6000, 5), np.full(6000, 3))
    ways, counts = np.unique(drawn, axis=0, return_counts=True)
    assert sorted(map(tuple, ways)) == [(1, 1, 3), (1, 2, 2), (1, 3, 1), (2, 1, 2), (2, 2, 1), (3, 1, 1)]
    assert (abs(counts - 1000) < 120).all()  # 4 standard deviations


# ---- every task: loss, score, training


@every_model
@pytest.mark.parametrize("padding", [0.0, 0.3])
def test_the_first_loss_is_near_that_of_knowing_nothing(prepare, task, name, padding):
    model = tiny(name)
    work = prepare(task, model, padding=padding)
    loss, logits = work.loss(model, work.batch(0))
    assert loss.shape == ()
    assert not logits.requires_grad
    limit = 1.0 if name == "t5" else 0.75  # logits of deviation s add about s * s / 2, and t5's is 1
    assert abs(loss.item() - math.log(logits.shape[-1])) < limit


@every_model
def test_what_stands_in_the_padding_changes_nothing(prepare, task, name):
    model = tiny(name)
    work = prepare(task, model, padding=0.3)
    batch = work.batch(0)
    other = tuple(item if item.dtype == torch.bool else torch.where(item == PAD, 65, item) for item in batch)
    assert not same(batch, other)
    assert torch.allclose(work.loss(model, batch)[0], work.loss(model, other)[0], rtol=1e-6)


@every_model
@pytest.mark.parametrize("padding", [0.0, 0.3])
def test_loss_compiles_without_a_graph_break(prepare, task, name, padding):
    model = tiny(name)
    check_compiles(model, prepare(task, model, padding=padding))


@every_model
def test_the_loss_is_taken_in_float32_or_wider(prepare, task, name):
    check_loss_is_wide(partial(tiny, name), partial(prepare, task))


@every_model
def test_training_lowers_the_loss_on_held_out_text(prepare, task, name):
    model = tiny(name)
    work = prepare(task, model, length=64)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    before = work.score(model)
    for index in range(20):
        work.loss(model, work.batch(index))[0].backward()
        optimizer.step()
        optimizer.zero_grad()
    after = work.score(model)
    assert after["held_out_loss"] < before["held_out_loss"] - 1
    assert after == work.score(model)


@every_task
def test_score_looks_at_held_out_text_only(prepare, task, corpus, tmp_path):
    data = dict(corpus)
    for part, byte in (("train", b"T"), ("held_out", b"H")):
        data[part] = str(tmp_path / f"{part}.npy")
        np.save(data[part], np.frombuffer(byte * 5000, dtype=np.uint8))
    seen = []

    def spy(tokens, *others):
        assert not torch.is_grad_enabled()
        seen.append(tokens)
        width = others[0].shape[1] if task == "pretraining/denoising" else tokens.shape[1]
        return torch.zeros(len(tokens), width, 320)

    score = prepare(task, data=data).score(spy)
    bits = {"bits_per_byte": pytest.approx(math.log2(320))} if task == "pretraining/causal_lm" else {}
    assert score == {"held_out_loss": pytest.approx(math.log(320)), **bits}
    assert len(seen) == 8
    shown = torch.cat([tokens.flatten() for tokens in seen])
    assert (shown == ord("H")).sum() > len(shown) / 2
    assert (shown == ord("T")).sum() < len(shown) / 50  # masked_lm swaps in random bytes


# ---- mistakes


@every_task
@pytest.mark.parametrize("part", ["train", "held_out"])
def test_a_text_shorter_than_a_batch_is_refused(prepare, task, corpus, tmp_path, part):
    np.save(tmp_path / "short.npy", np.zeros(900, dtype=np.uint8))
    with pytest.raises(UserError, match=rf"the {part} text of data 'stdlib' has 900 tokens, a batch takes \d+; make"):
        prepare(task, data={**corpus, part: str(tmp_path / "short.npy")})


@every_task
def test_a_vocabulary_too_small_is_refused_with_what_to_set(prepare, task):
    with pytest.raises(UserError, match=r"different tokens, but .* knows 255; give it more: --set vocabulary=\d+"):
        prepare(task, vocabulary=255)


@every_model
def test_a_model_that_tells_classes_apart_is_refused_with_what_to_set(prepare, task, name):
    attention = names.find("attention", "formula").load()
    model = names.find("model", name).load()(attention, classes=6, dim=32, heads=2, layers=1)
    said = f"{task.split('/')[1]} asks for tokens, and this model tells 6 classes apart; --set classes=0"
    with pytest.raises(UserError, match=f"^{said}$"):
        prepare(task, model)


def test_a_long_text_needs_a_sentinel_for_each_span(prepare):
    spans = denoising.sizes(2048).spans
    with pytest.raises(UserError, match=f"--set vocabulary={SENTINEL + spans}"):
        prepare("pretraining/denoising", length=2048, vocabulary=320)
    prepare("pretraining/denoising", length=2048, vocabulary=SENTINEL + spans)


@every_task
def test_rows_too_short_for_the_task_are_refused(prepare, task):
    with pytest.raises(UserError, match="a row of 0 tokens is too short for pretraining/"):
        prepare(task, batch=64, length=8, padding=0.5)


def test_masked_counts_never_exceed_the_bytes_there_are():
    ends = np.arange(5, 200)
    counts = masked_lm.masked_counts(ends)
    assert (counts >= 1).all()
    assert (counts <= ends - 3).all()


def test_the_corpus_is_mapped_not_read(corpus):
    config = {"batch": 1, "data": corpus}
    assert isinstance(_windows.open_text(config, "train", 1).base, np.memmap)
    assert Path(corpus["train"]).is_file()
