"""A launch: fresh workers for one block, asked in turn; each failure is an outcome, never an exception."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from harness import pace, passport, sentinel
from harness.conditions import Conditions
from harness.correct import is_as_asked
from harness.errors import UserError
from harness.first_steps import first_steps, reference_of, write_reference
from harness.outcome import is_owed
from harness.peer import CaseFailure, Peer
from harness.plan import turns
from harness.progress import Progress
from harness.ratios import Ratios
from harness.spec import Block, Case, Suite, Variant, slugify
from harness.stopwatch import Stopwatch
from harness.store import Recorder, Row
from harness.training import train

OBSERVED_STEPS = 5
TRACED_STEPS = 4  # the first to warm the profiler up; of the others the middle one is read
UNEXPLAINED = "whether it explains itself alike is not known; read its log"


class Launch:
    """One launch of a block: fresh processes, one for each variant that still works."""

    def __init__(
        self,
        suite: Suite,
        block: Block,
        number: int,
        recorder: Recorder,
        conditions: Conditions,
        progress: Progress,
        watch: Stopwatch,
    ) -> None:
        self.suite = suite
        self.block = block
        self.number = number
        self.recorder = recorder
        self.conditions = conditions
        self.progress = progress
        self.watch = watch
        self.cases = {case.id: case for case in block.cases if self.still_works(case)}
        self.unchecked = {case for case in self.cases if "reference" not in self.facts(case)}
        """Cases that no launch has compared with the reference yet: all in launch 1, later what failed before it."""
        self.peers: dict[str, Peer] = {}
        self.built: dict[str, Mapping[str, Any]] = {}
        self.cycle = block.workload.lengths * max(1, *(variant.workers for variant in block.variants))
        """Steps in which each length of batch, and each worker of a loader, has its turn: timed and paced whole."""
        self.turn_steps: dict[str, int] = {}
        self.recompiles: dict[str, int] = {}
        self.sentinels = {case: sentinel.Watch() for case in self.cases}
        self.ahead = max(variant.ahead for variant in block.variants)
        """Batches that a loader may have made while others ran: fetched untimed, by all variants alike."""
        self.loads = any(variant.loader != "none" for variant in block.variants)
        self.turn = 0
        self.rows: list[Row] = []

    @property
    def is_first(self) -> bool:
        """Tell whether this launch compiles with empty caches."""
        return self.number == 1

    def facts(self, case: str) -> Mapping[str, Any]:
        """Return what earlier launches have found out about a case, beside figures."""
        found: Mapping[str, Any] = self.recorder.outcomes.get(case, {}).get("facts", {})
        return found

    def still_works(self, case: Case) -> bool:
        """Tell whether the case has not failed in an earlier launch, or is owed a fresh one."""
        outcome = self.recorder.outcomes.get(case.id)
        if outcome and self.suite.retry and is_owed(outcome):
            self.recorder.retry(case.id)
        return outcome is None or outcome["status"] == "ok"

    def run(self, ratios: Ratios) -> None:
        """Measure; whatever happens, no worker is left alive."""
        for case in self.cases:
            self.recorder.outcome(case, self.block.name, "ok", None, self.number)
        try:
            self.start()
            self.build()
            self.compare_builds()
            reference = write_reference(self) if self.unchecked & self.cases.keys() else None
            self.each("first steps", lambda case, peer: first_steps(self, case, peer, reference))
            if self.number <= self.suite.seeds:
                train(self)
            self.each("warm up", self.warm_up)
            self.rounds()
            self.each("observe", self.observe)
            if self.conditions.trace:
                self.each("trace", self.trace)
            with self.watch("startup"):
                for peer in self.peers.values():
                    peer.leave()
            if self.suite.explain and self.number <= self.suite.seeds:
                self.explain()
        finally:
            for peer in self.peers.values():
                peer.kill()
        self.recorder.launch_done([self.block.name], self.number)
        ratios.add([row for row in self.rows if row[0] in self.cases])  # what failed has no full launch
        self.progress.launch_done(self.block, self.number, ratios.by_case)

    def each(self, what: str, action: Callable[[Case, Peer], None]) -> None:
        """Do something with every living case in turn; one that fails ends, the others go on."""
        for case in list(self.cases.values()):
            self.attempt(what, case, action)

    def attempt(self, what: str, case: Case, action: Callable[[Case, Peer], None]) -> None:
        """Do something with one case, unless it has ended."""
        if case.id not in self.cases:
            return
        self.progress.doing(self.block, self.number, case, what)
        try:
            action(case, self.peers[case.id])
        except CaseFailure as failure:
            self.end(case, failure)

    def end(self, case: Case, failure: CaseFailure) -> None:
        """Record how a case failed and let its worker go."""
        self.recorder.outcome(case.id, self.block.name, failure.status, str(failure), self.number)
        self.progress.failed(case, failure.status, str(failure))
        del self.cases[case.id]
        if peer := self.peers.pop(case.id, None):
            peer.kill()

    def start(self) -> None:
        """Start all workers side by side; only they import at the same time, nothing is timed yet."""
        with self.watch("startup"):
            for case in self.cases.values():
                self.describe(case)
            began = {}
            for case in self.cases.values():
                began[case.id] = perf_counter()
                self.peers[case.id] = self.peer(case.id, case.variant)
                self.peers[case.id].send("hello", **self.conditions.greeting(case.variant))

            def greet(case: Case, peer: Peer) -> None:
                peer.receive("hello", self.suite.timeout)
                self.put(case.id, "startup_seconds", perf_counter() - began[case.id])

            self.each("start", greet)

    def peer(self, name: str, variant: Variant) -> Peer:
        """Start a worker for this launch."""
        return self.conditions.peer(
            variant,
            name=name,
            work=self.recorder.work,
            log=self.recorder.path / "logs" / f"{name}.{self.number}.txt",
            record=self.recorder.event,
        )

    def describe(self, case: Case) -> None:
        """Learn what interpreter and machine are, once for each that the suite has, in a process of its own.

        The probes would be part of the first steps, and of the memory, of a case that ran them.
        """
        place = self.suite.environment(case.variant)
        self.recorder.fact(case.id, {"environment": place})
        if place in self.recorder.described:
            return
        greeting = {**self.conditions.greeting(case.variant), "compiles": False, "describe": asdict(case.variant)}
        peer = self.peer(f"{case.id}--environment", case.variant)
        try:
            found = peer.ask("hello", self.suite.timeout, **greeting)["environment"]
        except CaseFailure as failure:
            message = f"this machine could not be described: {failure}"
            self.warn(
                case.id, "unknown machine", message, "mend that, then measure again: no other run compares with it"
            )
            return
        finally:
            peer.kill()
        if known := self.conditions.passports.get(found["fingerprint"]):
            self.recorder.meta.setdefault("ceilings", {}).setdefault(place, asdict(known))
        earlier = self.recorder.environments.get(place, found)
        if earlier["fingerprint"] != found["fingerprint"]:
            message = f"interpreter {place!r} or its machine is not the one this run began with: {found['line']}"
            raise UserError(message, f"finish it where it began ({earlier['line']}), or start a new run")
        self.recorder.environments[place] = earlier
        self.recorder.described.add(place)

    def build(self) -> None:
        """Build all models, optimizers and data side by side: importing what they need takes most of it."""
        began = perf_counter()
        for case, peer in self.peers.items():
            peer.send("build", **self.recipe(self.cases[case].variant))

        def receive(case: Case, peer: Peer) -> None:
            reply = peer.receive("build", self.suite.timeout)
            refuse_strays(case, reply)
            self.put(case.id, "build_seconds", perf_counter() - began)
            self.put_all(case.id, reply["metrics"])
            self.built[case.id] = reply["facts"]
            if case.id in self.unchecked:
                self.recorder.fact(case.id, {**reply["facts"], "attention_requested": case.variant.attention})
                if folder := self.conditions.starts.get(self.block.name):
                    self.recorder.fact(case.id, {"start": Path(folder).name})

        with self.watch("build"):
            self.each("build", receive)

    def recipe(self, variant: Variant) -> dict[str, Any]:
        """Return what a worker needs to build a variant of this block's workload."""
        workload = self.block.workload
        seed, steps = self.suite.seed_of(workload, self.number), self.suite.steps_of(workload)
        recipe = self.conditions.recipe(self.block, variant, seed, steps)
        return {**recipe, "memory_limit": self.suite.memory_limit}

    def compare_builds(self) -> None:
        """End every case whose first batch or initial weights are not the baseline's, bit for bit.

        Another implementation of the model has other names and layouts: its cases compare weights with one another,
        and what they compute with the float64 reference, as all do.
        """
        baseline = self.block.baseline_case
        if baseline.id not in self.cases:
            return
        first = {baseline.model: baseline}
        for case in list(self.cases.values()):
            twin = first.setdefault(case.model, case)
            for key, what, other in (
                ("batch_sha256", "first batch", baseline),
                ("weights_sha256", "initial weights", twin),
            ):
                if case.id in self.cases and self.built[case.id][key] != self.built[other.id][key]:
                    reason = f"its {what} are not those of {other.variant.name}, bit for bit"
                    self.end(case, CaseFailure("wrong", reason))

    def apart(self, purpose: str, variant: Variant, verb: str, **fields: Any) -> dict[str, Any]:
        """Return the reply to one request of a process of its own, which builds a variant for it."""
        peer = self.peer(f"{self.block.baseline_case.id}--{slugify(purpose)}", variant)
        try:
            peer.ask("hello", self.suite.timeout, **self.conditions.greeting(variant))
            peer.ask("build", self.suite.timeout, **self.recipe(variant))
            return peer.ask(verb, self.suite.timeout, **fields)
        finally:
            peer.kill()

    def explain(self) -> None:
        """Compare how each case and float64 rank the input's positions; at the weights that this launch began with.

        In processes of their own: these weights are gone after the first step, and a case that compiles is compiled
        once more for it, which would count as its own compiling.
        """
        path = str(self.recorder.work / f"{self.block.baseline_case.id}.npy")
        with self.watch("explain"):
            try:
                self.apart("reference", reference_of(self), "explain", write=path)
            except CaseFailure as failure:
                for name in self.cases:
                    self.warn(name, "no saliency", f"of the reference: {failure}", UNEXPLAINED)
                return
            for case in self.cases.values():
                self.progress.doing(self.block, self.number, case, "explain")
                try:
                    reply = self.apart(f"explain {case.variant.name}", case.variant, "explain", against=path)
                    self.put_all(case.id, reply["metrics"])
                except CaseFailure as failure:
                    self.warn(case.id, "no saliency", str(failure), UNEXPLAINED)

    def warm_up(self, case: Case, peer: Peer) -> None:
        """Step until two windows of turns agree, or for as long as warming up may take."""
        device = self.built[case.id]["device"]
        seconds: list[float] = []
        fresh: list[float] = []  # since the last compilation
        while not pace.is_steady(fresh, device):
            if pace.is_exhausted(seconds, device):
                remedy = "close what else runs on this machine, or read its verdicts as unsure"
                self.warn(case.id, "no steady state", "its step time never settled", remedy)
                break
            with self.watch("warmup"):
                reply = peer.ask("measure", self.suite.timeout, steps=pace.next_warm_up(fresh) * self.cycle)
            compiled_again = reply.get("recompiles", 0) > self.recompiles.get(case.id, 0)
            self.recompiles[case.id] = reply.get("recompiles", 0)
            steps = cycles(reply["seconds"], self.cycle)
            seconds += steps
            fresh = steps if compiled_again else fresh + steps
            self.check_loss(reply)
        self.turn_steps[case.id] = pace.steps_per_turn(median(seconds[-pace.WINDOW :]))

    def rounds(self) -> None:
        """Visit the cases in the planned order, one untimed step after each switch."""
        most = max((self.turn_steps[case] for case in self.cases), default=1)
        self.turn_steps = dict.fromkeys(self.cases, most)  # steps further from the switch are faster: the same for all
        for turn in turns(self.suite, [self.block], self.number):
            if case := self.cases.get(turn.case):
                self.attempt(f"round {turn.round}", case, partial(self.visit, turn.round))
        for name in self.cases:
            self.judge_quiet(name, self.sentinels[name].shares())

    def visit(self, number: int, case: Case, peer: Peer) -> None:
        """Take one turn."""
        began, before = perf_counter(), sentinel.look(peer.process.pid, family=self.loads)
        steps = self.turn_steps[case.id] * self.cycle
        reply = peer.ask("measure", self.suite.timeout, drain=self.ahead, settle=1, steps=steps)
        self.sentinels[case.id].add(before, sentinel.look(peer.process.pid, family=self.loads))
        wall = float(reply["wall"])
        self.watch.add("timed", wall)
        self.watch.add("warmup", perf_counter() - began - wall)
        self.record_turn(case, number, reply)
        self.watch_recompiles(case, reply)

    def judge_quiet(self, case: str, shares: Mapping[str, float]) -> None:
        """Record what others took of the machine, and warn if it was much."""
        self.put_all(case, shares)
        if shares.get("others_share", 0) > sentinel.BUSY or shares.get("steal_share", 0) > sentinel.STOLEN:
            others, steal = shares["others_share"], shares["steal_share"]
            message = f"while it ran, other processes took {others:.0%} of the machine and its host {steal:.0%}"
            remedy = "measure again on a quieter machine, or with more launches"
            self.warn(case, "busy machine", message, remedy)

    def record_turn(self, case: Case, number: int, reply: Mapping[str, Any]) -> None:
        """Write down the steps of a turn; where lengths vary, the mean of each cycle of them."""
        self.turn += 1
        rows: list[Row] = [
            (case.id, self.number, number, self.turn, step, "step_seconds", seconds / self.cycle)
            for step, seconds in enumerate(cycles(reply["seconds"], self.cycle))
        ]
        self.write(rows)
        self.check_loss(reply)

    def watch_recompiles(self, case: Case, reply: Mapping[str, Any]) -> None:
        """Warn of a compilation inside the rounds."""
        if reply.get("recompiles", 0) > self.recompiles.get(case.id, 0):
            remedy = "look at its recompile reasons, then fix the shapes or the code that changes"
            self.warn(case.id, "recompiled", "it compiled again between timed steps", remedy)

    def check_loss(self, reply: Mapping[str, Any]) -> None:
        """End a case whose loss is no number."""
        if not math.isfinite(float(reply["loss"])):
            raise CaseFailure("wrong", f"its training loss is {reply['loss']} in step {reply['step']:,}, or before")

    def observe(self, case: Case, peer: Peer) -> None:
        """Record phases, memory and counts, in turns of their own."""
        with self.watch("observe"):
            reply = peer.ask("observe", self.suite.timeout, steps=OBSERVED_STEPS, drain=self.ahead, load=self.loads)
        refuse_strays(case, reply)
        self.put_all(case.id, reply["metrics"])
        if (peak := self.peak(case)) and not self.block.workload.task.startswith("kernels/"):  # which are no products
            self.put(case.id, "peak_flop_per_second", peak)
        if case.id in self.unchecked:
            self.recorder.fact(case.id, reply.get("facts", {}))
        if case.variant.compile != "none" and reply["metrics"].get("graphs") == 0:
            remedy = "read its figures as those of eager code; its graph break reasons may say why"
            self.warn(case.id, "not compiled", "torch.compile made no graph", remedy)
        if reply["metrics"].get("recompile_limits"):
            message = "torch.compile gave up code that it had compiled too often: further shapes run eagerly"
            self.warn(case.id, "recompile limit", message, "pad to buckets, or set dynamic; see `tandem explain`")

    def peak(self, case: Case) -> float | None:
        """Return the FLOP/s of products in a case's precision, as its run or its machine's passport has them."""
        return passport.of_run(self.recorder.meta, self.suite.environment(case.variant)).peak(case.variant.precision)

    def trace(self, case: Case, peer: Peer) -> None:
        """Record a profile, and which attention kernel it shows; once for each case."""
        if case.id not in self.unchecked:
            return
        folder = self.recorder.path.resolve() / "traces" / case.id
        with self.watch("trace"):
            steps = 1 + math.ceil((TRACED_STEPS - 1) / self.cycle) * self.cycle
            reply = peer.ask("trace", self.suite.timeout, steps=steps, folder=str(folder))
        if reply.get("kernels_per_step") == 0:
            message = "torch.profiler saw nothing on the device, so there is no trace"
            self.warn(case.id, "no kernels seen", message, "on NVIDIA let it use CUPTI; the timed figures stand")
            return
        actual = reply["attention_actual"]
        if "kernels_per_step" in reply:
            self.put(case.id, "kernels_per_step", reply["kernels_per_step"])
        self.put_all(case.id, reply.get("shares", {}))
        found: dict[str, Any] = {name: reply[name] for name in ("operators", "outside_compiled") if name in reply}
        self.recorder.fact(case.id, {**found, "attention_actual": actual})
        if not is_as_asked(case.variant, actual):
            message = f"asked for {case.variant.attention}, the trace shows {actual}"
            self.warn(case.id, "other kernel", message, "read its figures as those of the kernel shown")

    def warn(self, case: str, code: str, message: str, remedy: str) -> None:
        """Record a warning of this launch."""
        self.recorder.warn(case, self.number, code, message, remedy)

    def put(self, case: str, metric: str, value: float, step: int = 0) -> None:
        """Write one observation outside the rounds."""
        self.write([(case, self.number, 0, self.turn, step, metric, value)])

    def put_all(self, case: str, metrics: Mapping[str, Any], step: int = 0) -> None:
        """Write observations outside the rounds."""
        self.write([(case, self.number, 0, self.turn, step, name, float(value)) for name, value in metrics.items()])

    def write(self, rows: list[Row]) -> None:
        """Write rows down, and keep them for the ratios of this launch."""
        self.rows += rows
        self.recorder.rows(rows)


def out_of_budget(block: Block, launches: int, recorder: Recorder) -> None:
    """Record that a block was measured less often than planned, or not at all."""
    for case in block.cases:
        if launches:
            recorder.warn(case.id, 0, "budget", f"stopped after launch {launches}", "give a larger --budget")
        else:
            recorder.outcome(case.id, block.name, "interrupted", "the --budget was used up before it", 0)


def cycles(seconds: Sequence[float | str], size: int) -> list[float]:
    """Return the seconds of each `size` steps on end."""
    numbers = [float(value) for value in seconds]
    return [math.fsum(numbers[start : start + size]) for start in range(0, len(numbers), size)]


def refuse_strays(case: Case, reply: Mapping[str, Any]) -> None:
    """Raise UserError if a case of a commit imports files of the working tree: it would measure those."""
    if strays := reply.get("strays"):
        message = f"{case.variant.name}, of a commit, imports {strays[0]} from the working tree"
        raise UserError(message, "name your own files by path, or start where your packages lie")
