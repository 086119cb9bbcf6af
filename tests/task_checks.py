"""What every task must keep, whatever it is of; the tests of texts, images, speech and pretraining check it here."""

from collections.abc import Callable
from typing import Any

import torch


def same(batch: Any, other: Any) -> bool:
    """Tell whether two batches are alike bit for bit."""
    return all((a is None and b is None) or torch.equal(a, b) for a, b in zip(batch, other, strict=True))


def check_batches(prepare: Callable[..., Any]) -> None:
    """Assert that a batch depends on seed and index only."""
    first, again = prepare(), prepare()
    forward = [first.batch(index) for index in range(4)]
    backward = [again.batch(index) for index in reversed(range(4))][::-1]
    assert all(same(batch, other) for batch, other in zip(forward, backward, strict=True))
    assert not any(same(forward[0], batch) for batch in forward[1:])
    assert not same(forward[0], prepare(seed=1).batch(0))


def check_compiles(model: Any, work: Any) -> None:
    """Assert that the loss compiles without a graph break, to the same numbers."""
    torch._dynamo.reset()
    compiled = torch.compile(work.loss, fullgraph=True, backend="eager")
    for index in range(2):
        batch = work.batch(index)
        assert torch.allclose(compiled(model, batch)[0], work.loss(model, batch)[0])


def check_loss_is_wide(make: Callable[[], Any], prepare: Callable[..., Any]) -> None:
    """Assert that the loss is taken in float32 or wider, and that the outputs are as they are, without a gradient."""
    for dtype, expected in ((torch.bfloat16, torch.float32), (torch.float64, torch.float64)):
        model = make().to(dtype)
        work = prepare(model)
        loss, outputs = work.loss(model, work.batch(0))
        assert (loss.dtype, outputs.dtype, outputs.requires_grad) == (expected, dtype, False)


def learned(model: Any, work: Any, steps: int, rate: float) -> tuple[dict[str, float], dict[str, float]]:
    """Train, and return the score before and after; assert that it repeats and that the loss has halved."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    before = work.score(model)
    for index in range(steps):
        work.loss(model, work.batch(index))[0].backward()
        optimizer.step()
        optimizer.zero_grad()
    after = work.score(model)
    assert after == work.score(model)
    assert after["held_out_loss"] < before["held_out_loss"] / 2
    return before, after
