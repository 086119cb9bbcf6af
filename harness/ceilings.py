"""Ceilings: what a machine can do at most, measured launch by launch, those of one environment in one process."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from statistics import median
from time import perf_counter
from typing import Any

from harness import names, pace, passport, sentinel
from harness.conditions import Conditions
from harness.correct import disagreement
from harness.launch import Launch, out_of_budget
from harness.peer import CaseFailure, Peer
from harness.plan import turns
from harness.progress import Progress
from harness.spec import Block, Case, Suite, Variant, Workload, slugify
from harness.stopwatch import Stopwatch
from harness.store import Recorder, read_rows

LASTING_TURN_SECONDS = 1.0
RATES = {"flop": "flop_per_second", "moved_bytes": "bytes_per_second"}
Action = Callable[[Launch, Case], None]
Place = tuple[str, str, str]
"""Environment, revision and allocator: what a process has once and for all."""


def measure(
    suite: Suite, blocks: Sequence[Block], recorder: Recorder, conditions: Conditions, progress: Progress,
    watch: Stopwatch,
) -> None:  # fmt: skip
    """Measure ceilings launch after launch; each failure is an outcome, never an exception."""
    began, longest = perf_counter(), 0.0
    for number in range(1, suite.launches + 1):
        if all(recorder.is_done(block.name, number) for block in blocks):
            continue
        if not pace.fits_budget(perf_counter() - began, longest, suite.budget):
            for block in blocks:
                out_of_budget(block, number - 1, recorder)
            break
        start = perf_counter()
        Visits(suite, [Launch(suite, block, number, recorder, conditions, progress, watch) for block in blocks]).run()
        longest = max(longest, perf_counter() - start)
    for place in {suite.environment(case.variant) for block in blocks for case in block.cases}:
        found = passport.ceilings(figures_of(suite, blocks, recorder, place), recorder.id)
        found = replace(found, calibration=passport.calibration(recorder.environments.get(place, {})))
        known = passport.of_run(recorder.meta, place)  # what a kept passport says
        recorder.meta.setdefault("ceilings", {})[place] = asdict(found.merged(known))


def figures_of(
    suite: Suite, blocks: Sequence[Block], recorder: Recorder, place: str
) -> Iterator[tuple[Workload, Variant, dict[str, float]]]:
    """Yield the ceilings of an environment with their rates, from the rows written so far."""
    values: dict[tuple[str, str], dict[int, list[float]]] = {}
    for name, launch, _, _, _, metric, value in read_rows(recorder.path / "samples.jsonl"):
        values.setdefault((name, metric), {}).setdefault(launch, []).append(value)
    for block in blocks:
        for case in block.cases:
            alike = suite.environment(case.variant) == place and recorder.outcomes[case.id]["status"] == "ok"
            if alike and (times := values.get((case.id, "step_seconds"))):
                seconds = median(map(median, times.values()))
                amounts = {
                    name: median(values[case.id, name].popitem()[1]) for name in RATES if (case.id, name) in values
                }
                yield block.workload, case.variant, {RATES[name]: amount / seconds for name, amount in amounts.items()}


class Visits:
    """One launch of ceilings: a fresh process for each environment, whose ceilings take turns with all others."""

    def __init__(self, suite: Suite, launches: Sequence[Launch]) -> None:
        self.suite, self.launches = suite, launches
        self.lasting = {launch.block.name: lasting(launch) for launch in launches}
        """Block -> turns on end that its ceilings are kept busy, once; 0 for those that take turns with the others."""
        self.peers: dict[Place, Peer] = {}
        self.refused: dict[Place, CaseFailure] = {}
        self.stepped: dict[int, float] = {}
        """Process -> seconds that it has warmed ceilings up: its device is warm for the next one."""
        self.warm: set[str] = set()
        """Ceilings that have warmed up in the process that is alive."""
        self.steps: dict[str, int] = {}

    def run(self) -> None:
        """Measure; whatever happens, no worker is left alive."""
        try:
            self.each("start", self.start)
            self.each("warm up", self.warm_up)
            for launch in self.launches:  # steps further from the switch are faster: the same for all of a block
                own = launch.cases.keys() & self.steps.keys()
                self.steps |= dict.fromkeys(own, max((self.steps[case] for case in own), default=1))
            self.rounds()
            self.each("keep busy", self.keep_busy)
        finally:
            for peer in self.peers.values():
                peer.kill()
        for launch in self.launches:
            for case in launch.cases:
                launch.judge_quiet(case, launch.sentinels[case].shares())
        last = self.launches[-1]
        last.recorder.launch_done([launch.block.name for launch in self.launches], last.number)
        last.progress.ceilings_done([launch.block for launch in self.launches], last.number)

    def each(self, what: str, action: Action) -> None:
        """Do something with every ceiling in turn; one that fails ends, the others go on."""
        for launch in self.launches:
            for case in list(launch.cases.values()):
                self.attempt(what, launch, case, action)

    def attempt(self, what: str, launch: Launch, case: Case, action: Action) -> None:
        """Do something with one ceiling, unless it has ended."""
        if case.id not in launch.cases or (self.lasting[launch.block.name] and not launch.is_first):
            return
        launch.progress.doing(launch.block, launch.number, case, what)
        try:
            action(launch, case)
        except CaseFailure as failure:
            little = CaseFailure("unavailable", f"this machine has too little memory free for it: {failure}")
            launch.end(case, little if failure.status == "oom" else failure)
            place = self.place(case)
            if "CUDA error" in str(failure) and place in self.peers:  # its process can do nothing more on the GPU
                self.peers[place].kill()

    def start(self, launch: Launch, case: Case) -> None:
        """Prepare a ceiling, and check its result, where it has one, against float64."""
        launch.recorder.outcome(case.id, launch.block.name, "ok", None, launch.number)
        with launch.watch("startup"):
            launch.describe(case)
        with launch.watch("build"):
            reply = self.ask(launch, case, steps=1)
        launch.put_all(case.id, reply["metrics"])
        launch.recorder.fact(case.id, {"device": reply["device"]})
        errors = {name: float(value) for name, value in reply.get("errors", {}).items()}
        launch.put_all(case.id, errors)
        if reason := disagreement(errors, [], case.variant.precision):
            raise CaseFailure("wrong", reason)

    def warm_up(self, launch: Launch, case: Case) -> None:
        """Step until two windows of turns agree, or for as long as warming up may take."""
        seconds: list[float] = []
        device, process = launch.facts(case.id)["device"], self.peer(launch, case).process.pid
        before = self.stepped.get(process, 0.0)
        with launch.watch("warmup"):
            while not pace.is_steady(seconds, device, before):
                if pace.is_exhausted(seconds, device):
                    remedy = "close what else runs on this machine, or read it as no more than a lower bound"
                    launch.warn(case.id, "no steady state", "its time never settled", remedy)
                    break
                reply = self.ask(launch, case, steps=pace.next_warm_up(seconds))
                seconds += map(float, reply["seconds"])
        self.warm.add(case.id)
        self.stepped[process] = before + sum(seconds)
        self.steps.setdefault(case.id, pace.steps_per_turn(median(seconds[-pace.WINDOW :])))

    def rounds(self) -> None:
        """Visit the ceilings in the planned order, one untimed step after each switch."""
        owners = {case.id: (launch, case) for launch in self.launches for case in launch.block.cases}
        for turn in turns(self.suite, [launch.block for launch in self.launches], self.launches[0].number):
            launch, case = owners[turn.case]
            if not self.lasting[launch.block.name]:
                self.attempt(f"round {turn.round}", launch, case, partial(self.visit, number=turn.round))

    def keep_busy(self, launch: Launch, case: Case) -> None:
        """Give a ceiling that is to last its turns on end; once, in the first launch."""
        if count := self.lasting[launch.block.name]:
            steps = self.steps[case.id]
            wall = float(self.ask(launch, case, steps=steps)["wall"])
            self.steps[case.id] = max(1, math.ceil(steps * LASTING_TURN_SECONDS / wall))
            for number in range(1, count + 1):
                self.visit(launch, case, number=number, settle=0)

    def visit(self, launch: Launch, case: Case, *, number: int, settle: int = 1) -> None:
        """Take one turn."""
        peer = self.peer(launch, case)
        if case.id not in self.warm:  # another ceiling ended the process that it was warm in
            self.warm_up(launch, case)
        before = sentinel.look(peer.process.pid)
        reply = self.ask(launch, case, settle=settle, steps=self.steps[case.id])
        launch.sentinels[case.id].add(before, sentinel.look(peer.process.pid))
        launch.watch.add("timed", float(reply["wall"]))
        launch.turn += 1
        seen = [("step_seconds", step, seconds) for step, seconds in enumerate(reply["seconds"])]
        seen += [(name, 0, value) for name, value in reply["state"].items()]
        launch.write(
            [(case.id, launch.number, number, launch.turn, step, metric, float(value)) for metric, step, value in seen]
        )

    def ask(self, launch: Launch, case: Case, **fields: Any) -> dict[str, Any]:
        """Return the reply of the process that a ceiling lives in; it is told all, in case it has to begin anew."""
        block, variant = launch.block, case.variant
        told = {"case": case.id, "task": block.workload.task, "settings": dict(block.workload.settings)}
        recipe = launch.conditions.recipe(block, variant, block.workload.seed)
        told |= {name: recipe[name] for name in ("variant", "data", "folders")}
        return self.peer(launch, case).ask("probe", self.suite.timeout, **told, **fields)

    def place(self, case: Case) -> Place:
        """Return what the process is that a ceiling lives in."""
        return self.suite.environment(case.variant), case.variant.revision, case.variant.allocator

    def peer(self, launch: Launch, case: Case) -> Peer:
        """Return the process that a ceiling lives in: the one that is alive, or a new one."""
        variant, place = case.variant, self.place(case)
        if place in self.refused:
            raise CaseFailure(self.refused[place].status, str(self.refused[place]))
        alive = self.peers.get(place)
        if alive is None or alive.process.returncode is not None:
            self.warm -= {other.id for one in self.launches for other in one.block.cases}
            self.peers[place] = launch.peer(
                f"{self.launches[0].block.cases[0].id}--{slugify('-'.join(place))}", variant
            )
            try:
                self.peers[place].ask("hello", self.suite.timeout, **launch.conditions.greeting(variant))
            except CaseFailure as failure:
                self.peers[place].kill()
                self.refused[place] = failure
                raise
        return self.peers[place]


def lasting(launch: Launch) -> int:
    """Return how many turns on end the ceilings of a block are to be kept busy, 0 where they take turns with others."""
    named = names.find("ceiling", launch.block.workload.task, launch.conditions.folders)
    turns_on_end: int = named.literal("TURNS", 0)
    return turns_on_end
