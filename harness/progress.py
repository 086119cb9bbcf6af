"""Progress on stderr: live on a terminal, plain lines elsewhere, nothing when quiet."""

import math
import sys
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Any

from harness.expected import expected_launch, expected_seconds
from harness.plan import together
from harness.spec import Block, Case, Suite
from harness.stats import estimate


class Progress:
    """Says what is being measured, what the figures are so far and how long it will still take."""

    def __init__(self, suite: Suite, *, quiet: bool = False) -> None:
        self.suite = suite
        self.quiet = quiet
        self.started = monotonic()
        self.expected_done = 0.0
        self.figures: dict[str, str] = {}
        self.line: Any = None
        if not quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.live import Live

            # Drawn between two requests only: a spinner's thread would take turns with the step that is timed.
            self.line = Live("starting", console=Console(stderr=True), auto_refresh=False, transient=True)
            self.line.start()

    def doing(self, block: Block, launch: int, case: Case, what: str) -> None:
        """Show which case is at work; on a terminal only."""
        if self.line:
            from rich.text import Text

            where = f"{block.name} · launch {launch}/{self.suite.launches} · {case.variant.name} · {what}"
            figures = self.figures.get(block.name, "")
            self.line.update(Text(" · ".join(filter(None, [where, self.time_left(), figures]))), refresh=True)

    def failed(self, case: Case, status: str, reason: str) -> None:
        """Say how a case ended."""
        self.say(f"{case.id}: {status}: {reason}")

    def launch_done(self, block: Block, launch: int, ratios: Mapping[str, Sequence[float]]) -> None:
        """Say what the block's figures are after one more launch."""
        self.expected_done += expected_launch(self.suite, block, launch)
        names = {case.id: case.variant.name for case in block.cases}
        figures = [f"{names[case]} {ratio_text(values)}" for case, values in ratios.items() if values]
        self.figures[block.name] = f"time against {block.baseline}: {', '.join(figures) or 'none'}"
        heading = f"{block.name} · launch {launch}/{self.suite.launches}"
        self.say(f"{heading} · {self.figures[block.name]} · {self.time_left()}")

    def ceilings_done(self, blocks: Sequence[Block], launch: int) -> None:
        """Say that a launch of all ceilings is over."""
        self.expected_done += sum(expected_launch(self.suite, block, launch) for block in blocks)
        self.say(f"ceilings · launch {launch}/{self.suite.launches} · {self.time_left()}")

    def block_done(self, block: Block) -> None:
        """Count launches that were not needed as done."""
        ordered = [other for blocks in together(self.suite) for other in blocks]
        until = ordered[: [other.name for other in ordered].index(block.name) + 1]
        self.expected_done = sum(
            expected_launch(self.suite, done, launch) for done in until for launch in range(1, self.suite.launches + 1)
        )

    def say(self, text: str) -> None:
        """Print a line that stays."""
        if self.line:
            self.line.console.print(text, markup=False, highlight=False)
        elif not self.quiet:
            print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self.line:
            self.line.stop()

    def time_left(self) -> str:
        """Return the time left, from the time that the launches so far took against what was expected of them.

        Of a search for what fits nothing: its length is not known.
        """
        if self.suite.fit:
            return ""
        spent = monotonic() - self.started
        pace = spent / self.expected_done if self.expected_done else 1.0
        left = (expected_seconds(self.suite) - self.expected_done) * pace
        if self.suite.budget:
            left = min(left, self.suite.budget - spent)
        return f"about {duration(left)} left"


def ratio_text(log_ratios: Sequence[float]) -> str:
    """Return a ratio with its interval: `0.81 (0.79-0.84)`, without one after the first launch."""
    found = estimate(log_ratios)
    center = f"{math.exp(found.center):.3f}"
    return center if len(log_ratios) < 2 else f"{center} ({math.exp(found.low):.3f}-{math.exp(found.high):.3f})"


def duration(seconds: float) -> str:
    """Return seconds for people: `45 s`, `3 min`, `1 h 20 min`."""
    if seconds < 90:
        return f"{max(0, seconds):.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
