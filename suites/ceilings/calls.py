"""What one call of an operator costs, apart from its work; with `wait` until its result is there."""

import torch

from harness.work import Ceiling, Place

CALLS = 5000


def prepare(place: Place, *, wait: bool = False) -> Ceiling:
    """Return calls that add 1 to one number: without `wait` queued one behind the other (dispatch), else each alone."""
    number = torch.zeros(1, device=place.device)

    def step() -> None:
        for _ in range(CALLS):
            number.add_(1)
            if wait:
                number.item()

    return Ceiling(step=step, amount={"calls": float(CALLS)})
