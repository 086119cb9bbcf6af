"""Cases as tests of pytest: one worker a test, timed by the worker's clock, recorded by pytest-benchmark."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from harness import environments, load, pythons, store
from harness.benchmark_files import full_name
from harness.conditions import Conditions
from harness.errors import UserError
from harness.first_steps import check, write_reference
from harness.launch import Launch
from harness.peer import CaseFailure, Peer
from harness.progress import Progress
from harness.run import started
from harness.spec import Block, Case, Suite
from harness.stopwatch import Stopwatch


def blocks(session: pytest.Session, name: str, settings: Sequence[str]) -> "list[BlockOfTests]":
    """Return a collector for each block of a suite; a user's mistake is a usage error."""
    try:
        suite, folders = load.load(name, settings=settings)
        known = environments.interpreters()
        load.check_names(suite, folders, known)
        pythons.refuse(suite, known)
    except UserError as error:
        raise pytest.UsageError(f"--tandem-suite {name}: {error}") from None
    return [
        BlockOfTests.from_parent(
            session,
            name=block.name,
            nodeid=full_name("tandem", suite.name, block.name),
            suite=suite,
            block=block,
            folders=folders,
        )
        for block in suite.blocks
    ]


class BlockOfTests(pytest.Collector):
    """The cases of a block, and the folder that their workers share while they are tested."""

    def __init__(self, *, suite: Suite, block: Block, folders: Sequence[Path], **node: Any) -> None:
        super().__init__(**node)
        self.suite = suite
        self.block = block
        self.folders = folders
        self.reference: tuple[Path, str | None] | None = None

    def collect(self) -> Iterator[pytest.Item]:
        """Yield a test a case."""
        for case in self.block.cases:
            timed = TimedCase(self, case)
            test = pytest.Function.from_parent(self, name=full_name(case.variant.name), callobj=timed.test)
            test.add_marker(pytest.mark.benchmark(group=self.block.name, timer=timed.worker_clock))
            yield test

    def setup(self) -> None:
        """Make the data, and a folder for what the workers write."""
        self.folder = TemporaryDirectory(prefix="tandem-")
        self.recorder = store.create(Path(self.folder.name), self.suite, sys.argv, {}, [])
        try:
            plain = Conditions(
                data=load.prepare_data(self.suite, load.cache() / "data", self.folders),
                interpreters=environments.interpreters(),
                folders=[*self.folders, Path.cwd()],
            )
            progress = Progress(self.suite, quiet=True)
            self.conditions = started(self.suite, self.block, self.recorder, plain, progress, Stopwatch())
        except (UserError, CaseFailure) as error:
            pytest.fail(str(error), pytrace=False)

    def teardown(self) -> None:
        """Leave nothing behind."""
        if hasattr(self, "recorder"):
            self.recorder.close()
            self.folder.cleanup()

    def launch(self, case: Case) -> Launch:
        """Return a launch of this case alone."""
        launch = Launch(
            self.suite, self.block, 1, self.recorder, self.conditions, Progress(self.suite, quiet=True), Stopwatch()
        )
        launch.cases = {case.id: case}
        self.recorder.outcome(case.id, self.block.name, "ok", None, 1)
        return launch

    def reference_of(self, launch: Launch) -> tuple[Path, str | None]:
        """Return the first steps in float64, computed once a block."""
        self.reference = self.reference or write_reference(launch)
        return self.reference


class TimedCase:
    """A case as a test: a worker that steps when it is told to, and the seconds that its clock has counted."""

    def __init__(self, tests: BlockOfTests, case: Case) -> None:
        self.tests = tests
        self.case = case
        self.launch: Launch | None = None
        self.seconds = 0.0

    def worker_clock(self) -> float:
        """Return the sum of all timed steps; pytest-benchmark reads it before and after each round."""
        return self.seconds

    def test(self, request: pytest.FixtureRequest, benchmark: Any) -> None:
        """Measure the case; one that ends otherwise than well is skipped or fails, with its reason."""
        if failure := self.measure(benchmark):
            for log in sorted((self.tests.recorder.path / "logs").glob(f"{self.case.id}*")):
                request.node.add_report_section("call", f"stderr of {log.stem}", log.read_text(errors="replace"))
            if failure.status == "unavailable":
                pytest.skip(f"unavailable: {failure}")
            pytest.fail(f"{failure.status}: {failure}", pytrace=False)

    def measure(self, benchmark: Any) -> CaseFailure | None:
        """Let pytest-benchmark take the suite's rounds; return why there are none; leave no worker alive."""
        try:
            benchmark.pedantic(self.step, setup=self.prepare, rounds=self.tests.suite.rounds)
            benchmark.extra_info.update(self.facts())
        except CaseFailure as failure:
            return failure
        finally:
            for peer in self.launch.peers.values() if self.launch else ():
                peer.kill()
            self.launch = None
        return None

    def prepare(self) -> None:
        """Before the first round, start the worker, check its numbers and let it warm up."""
        if self.launch is None:
            self.launch = launch = self.tests.launch(self.case)
            launch.start()
            launch.build()
            launch.each("check", self.check)
            launch.each("warm up", launch.warm_up)
            launch.turn_steps[self.case.id] = 1
            if self.case.id not in launch.cases:
                ended = self.tests.recorder.outcomes[self.case.id]
                raise CaseFailure(ended["status"], ended["reason"])

    def check(self, case: Case, peer: Peer) -> None:
        """Compare the first steps with float64."""
        assert self.launch
        check(self.launch, case, peer, self.tests.reference_of(self.launch))

    def step(self) -> None:
        """Take one turn: a step untimed, then one by whose seconds, as its worker measured them, the clock goes on."""
        assert self.launch
        self.launch.visit(self.launch.turn + 1, self.case, self.launch.peers[self.case.id])
        *_, seconds = self.launch.rows[-1]
        self.seconds += seconds

    def facts(self) -> dict[str, Any]:
        """Return what was measured, on what, and the warnings about it."""
        assert self.launch
        recorder, case = self.tests.recorder, self.case
        self.launch.judge_quiet(case.id, self.launch.sentinels[case.id].shares())
        outcome = recorder.outcomes[case.id]
        environment = recorder.environments[outcome["facts"]["environment"]]
        observed = {metric: value for *_, metric, value in recorder.launch_rows({case.id}, launch=1)}
        return {
            "case": case.id,
            "workload": asdict(case.workload),
            "variant": asdict(case.variant),
            "device": outcome["facts"]["device"],
            "torch": environment.get("torch"),
            "tokens_per_step": observed.get("tokens"),
            "hardware": environment["line"],
            "reference": outcome["facts"]["reference"],
            "warnings": outcome["warnings"],
        }
