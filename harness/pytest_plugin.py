"""The plug-in for pytest: `--tandem-suite SUITE` makes each case of a suite a test; without it nothing happens."""

from collections.abc import Generator

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("tandem")
    group.addoption(
        "--tandem-suite",
        metavar="SUITE",
        help="Measure each case of a suite with pytest-benchmark: a name, or a path to a file with `suite()`.",
    )
    group.addoption(
        "--tandem-set",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="Set a field of the suite everywhere; repeatable.",
    )


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Add the blocks of the suite to what the session has found."""
    report = yield
    suite = collector.config.getoption("tandem_suite")
    if suite is not None and isinstance(collector, pytest.Session):
        from harness.pytest_cases import blocks  # here, so that a session without a suite loads none of it

        report.result.extend(blocks(collector, suite, collector.config.getoption("tandem_set")))
    return report
