"""The lengths of text that `attention` and `length` go through, and the step they time at each."""

from harness.spec import Workload

LENGTHS = (128, 256, 512, 1024, 2048)
TOKENS = 4096  # in a batch of any length, so that only attention's share of the work grows


def workload(length: int) -> Workload:
    """Return a training step of a gpt that has positions for the longest text: the same model at every length."""
    return Workload(
        task="pretraining/causal_lm",
        model="gpt",
        size="tiny",
        batch=TOKENS // length,
        length=length,
        settings={"positions": LENGTHS[-1]},
    )
