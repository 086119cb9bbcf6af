import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# What pytest-xdist tells its workers, and what they start must not see: a width, and that they are one of several.
for name in [name for name in os.environ if name == "COLUMNS" or name.startswith("PYTEST_XDIST")]:
    del os.environ[name]

# A shell lets what it starts in the background ignore Ctrl-C, and so would everything that tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

GOLDEN = Path(__file__).parent / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write what came out to tests/golden")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compare a text with tests/golden/NAME, or write it there with --update-golden."""

    def check(name: str, text: str) -> None:
        path = GOLDEN / name
        if request.config.getoption("--update-golden"):
            GOLDEN.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert text == path.read_text(encoding="utf-8"), f"differs from {path}; if it should, run --update-golden"

    return check


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Tensors as small as those of most tests are slower on many threads, and far slower where others use the cores."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
