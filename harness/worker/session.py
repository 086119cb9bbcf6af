"""A session: one case alive in this process, from build to release."""

import hashlib
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness import names
from harness.errors import Unavailable, UserError
from harness.worker import clock, compiler, energy, insights, machine, precision, probes, reference, weights
from harness.worker.ability import refusing, strays, try_attention, usable_device
from harness.worker.allocator import keep_memory, limit_memory
from harness.worker.loader import EPOCH, Loader
from harness.worker.saliency import agreement, saliency
from harness.worker.step import TrainingStep, checkpointed, clipper, layers, optimizer, scheduled, trained
from harness.worker.trace import trace
from harness.worker.tune import tune

Message = Mapping[str, Any]


class Session:
    """Answers verbs about one case; each method takes the message's fields and returns the reply's."""

    def __init__(self, message: Message) -> None:
        """Build the case that a `build` message describes."""
        workload, self.variant = message["workload"], message["variant"]
        if reason := message["data"].get("unavailable"):
            raise Unavailable(reason)
        folders = [Path(folder) for folder in message["folders"]]
        attention = attention_of(self.variant, message)
        self.device = usable_device(self.variant, attention)
        if self.variant["precision"] in precision.OF_PRODUCTS:
            raise Unavailable(f"{self.variant['precision']} is a format of matrix products; no model is trained in it")
        if workload["accumulate"] > 1 and graphs_on_gpu(self.variant, self.device):
            raise Unavailable("CUDA graphs overwrite gradients that are accumulated (pytorch issue 169545)")
        limit_memory(message.get("memory_limit", 0), self.device)
        self.around = getattr(attention.module(), "around", nullcontext)
        self.index = 0
        precision.switch_tf32(self.variant["precision"])

        torch.manual_seed(workload["seed"])  # initial weights are drawn on the CPU: the same bits everywhere
        model, self.drawn = initial_model(message)
        self.weights = digest(model.state_dict())
        self.recipe, self.fields = workload["recipe"], message["config"]
        self.named = names.find("model", workload["model"], folders)
        tune(model, self.recipe, getattr(model, "heads", getattr(self.named.module(), "HEAD", ())))
        model = model.to(self.device.torch, precision.PARAMETERS.get(self.variant["precision"]))
        if self.variant["checkpoint"]:
            for layer in layers(model, "checkpoint"):
                layer.forward = partial(checkpointed, layer.forward)
        prepare = names.find("task", workload["task"], folders).load()
        config = {**workload, "data": message["data"], "bucket": self.variant["bucket"]}
        work = prepare(model, config, self.device.torch)
        self.cycle = workload["lengths"]
        if work.lengths != self.cycle:
            raise UserError(f"{workload['task']} makes batches of one length", "--set lengths=1")
        fetch = work.batch
        if self.variant["loader"] != "none":  # a forked process may only touch the CPU
            on_cpu = work if self.device.kind == "cpu" else prepare(model, config, torch.device("cpu"))
            fetch = Loader(on_cpu.batch, self.variant, self.device.torch)
        self.step = TrainingStep(
            model=model.train(),
            work=work,
            fetch=fetch,
            evaluate=compiled(work.loss, model, self.variant["compile"], self.variant["dynamic"]),
            optimizer=optimizer(trained(model), self.variant["optimizer"], self.recipe),
            clip=clipper(self.variant["optimizer"], self.recipe["clip"]),
            autocast=precision.autocast(self.variant["precision"], self.device),
            scaler=precision.scaler(self.variant["precision"], self.device),
            device=self.device,
            accumulate=workload["accumulate"],
            rate=scheduled(self.recipe, message.get("steps", 0)),
        )
        self.tree = message.get("tree")
        self.unpadded = prepare(model, {**config, "bucket": 0}, self.device.torch).batch if config["bucket"] else fetch
        clock.settle_garbage()
        self.dropout = any(isinstance(module, torch.nn.Dropout) and module.p > 0 for module in model.modules())

    def facts(self) -> dict[str, Any]:
        """Return what was built: hashes of initial weights and first batch, amounts a step."""
        accumulate, first = self.step.accumulate, digest(self.unpadded(0))
        if isinstance(self.step.fetch, Loader):
            self.step.fetch.stop()  # or the first step would end these workers, too
        return {
            "metrics": {name: amount * accumulate for name, amount in self.step.work.amount.items()}
            | {"parameters": sum(parameter.numel() for parameter in trained(self.step.model))},
            "facts": {
                "device": self.device.kind,
                "threads": torch.get_num_threads(),
                "weights_sha256": self.weights,
                **({"weights_drawn": self.drawn} if self.drawn else {}),
                "batch_sha256": first,
            },
            "strays": strays(self.tree),
        }

    def check(self, message: Message) -> dict[str, Any]:
        """Run the first steps; write them as the reference, or compare them with it."""
        with self.first_step():
            seconds, found, peak = reference.first_steps(self.step, message["steps"])
        self.index = message["steps"]
        probes.give_back(self.device)
        reply = {"seconds": seconds, "losses": found["losses"].tolist(), "metrics": peak, **self.started()}
        if path := message.get("write"):
            reference.write(Path(path), found)
        elif message["against"] is None:
            pass
        elif self.dropout:
            reply["reference"] = "no reference: with dropout each variant draws other numbers"
        else:
            same_model = message.get("same_model", True)
            reply["errors"] = reference.errors(Path(message["against"]), found, same_model=same_model)
        return reply

    def measure(self, message: Message) -> dict[str, Any]:
        """Time `steps` after `drain` batches that are fetched for nothing and `settle` steps.

        `first` says that this process has stepped never before.
        """
        is_first = message.get("first", False)
        with self.first_step() if is_first else self.around():
            drain, settle = self.take(message.get("drain", 0)), self.take(message.get("settle", 0))
            steps = self.take(message["steps"])
            seconds, wall = clock.timed(self.step, steps, self.device, settle, partial(self.drain, drain))
        reply = {"seconds": seconds, "wall": wall, "loss": float(self.step.loss), "step": self.index - 1}
        return {**reply, "recompiles": compiler.recompiled(), **(self.started() if is_first else {})}

    def observe(self, message: Message) -> dict[str, Any]:
        """Return phases (of every second of twice `steps` steps), memory and counts, with `load` also of loading alone.

        Before them `drain` batches are fetched for nothing. Where lengths vary, phases and FLOP are means over all of
        them, and memory is that of the longest.
        """
        compiling, insight = compiler.counters(), insights.found()  # before the probes, which must not be counted
        epoch = -(-EPOCH // self.cycle) * self.cycle  # whole rounds through the lengths
        with self.around():
            self.drain(self.take(message.get("drain", 0)))
            self.step(self.take(1)[0])
            cycle = self.cycle * max(1, self.variant["workers"])  # workers that end together let every nth step wait
            phases = probes.phases(self.step, self.runs(message["steps"], cycle), self.device, cycle)
            if message.get("load"):
                settle = self.take(message["drain"])
                phases |= probes.loading(self.step, self.take(epoch), self.device, settle)
            with probes.memory_peak(self.device) as peak:
                for index in self.take(max(2, self.cycle)):
                    self.step(index)
            peak |= probes.loader_memory()
            self.take((-1 - self.index) % self.cycle)  # so that the second step is that of the longest batch
            peak |= probes.allocated_peak(self.step, self.take(2), self.device)
            parts, flop = probes.attribution(self.step), probes.flop(self.step, self.cycle)
            with suppress(Unavailable):  # the environment says why there is no counter
                parts |= energy.of_steps(lambda: self.step(self.take(1)[0]), self.device, lengths=self.cycle)
        if graphs_on_gpu(self.variant, self.device) and not compiler.skipped_graphs():
            # Replayed graphs use memory that no peak of the allocator shows.
            del peak["memory_peak_bytes"]
        counts = {name: compiling[name] for name in ("graphs", "graph_breaks", "recompiles") if compiling}
        reasons = {name: value for name, value in compiling.items() if name.endswith("_reasons")}
        metrics = {**phases, **peak, **parts, **flop, **counts, **insight["counts"]}
        return {"metrics": metrics, "facts": {**reasons, **insight["facts"]}, "strays": strays(self.tree)}

    def quality(self, message: Message) -> dict[str, Any]:
        """Train on to step `steps`, then score on each of `parts` of the data with the model uncompiled."""
        losses = []
        with self.around():
            for index in self.take(message["steps"] - self.index):
                self.step(index)
                losses.append(float(self.step.loss))
            self.step.model.eval()
            with torch.no_grad(), self.step.autocast, probes.uncompiled():
                scores = {part: score_of(self.step, part) for part in message["parts"]}
            self.step.model.train()
        probes.give_back(self.device)
        found = {part: {name: float(value) for name, value in score.items()} for part, score in scores.items()}
        return {"losses": losses, "scores": found}

    def write(self, message: Message) -> dict[str, Any]:
        """Write the model as a checkpoint into `folder`."""
        weights.write(Path(message["folder"]), self.named.name, self.fields, self.step.model)
        return {}

    def trace(self, message: Message) -> dict[str, Any]:
        """Profile `steps` steps into `folder`."""
        is_eager = self.variant["compile"] == "none"  # compiled code has no modules, and would compile again for marks
        modules = {name: module for name, module in self.step.model.named_modules() if name and is_eager}
        with self.around():
            return trace(self.step, self.take(message["steps"]), self.device, Path(message["folder"]), modules)

    def explain(self, message: Message) -> dict[str, Any]:
        """Write, before any step, the saliency of the input as the reference, or return how alike it ranks."""
        with self.first_step():
            found = saliency(self.step)
        if path := message.get("write"):
            np.save(path, found)
            return {}
        return {"metrics": {"saliency_agreement": agreement(np.load(message["against"]), found)}}

    def drain(self, steps: range) -> None:
        """Fetch, for nothing, what a loader may have made while others ran: it must not look like speed."""
        for index in steps:
            self.step.load(index)

    def take(self, steps: int) -> range:
        """Return the next `steps` step indices and move on; training never repeats a step."""
        self.index += max(steps, 0)
        return range(self.index - max(steps, 0), self.index)

    def runs(self, steps: int, cycle: int) -> Iterator[range]:
        """Yield runs of steps, together twice `steps` cycles; each step of a cycle is half the times at even places."""
        if cycle % 2:
            yield self.take(2 * steps * cycle)
        else:
            yield self.take(steps * cycle)
            self.step(self.take(1)[0])  # in no run: the next one begins with the second of a cycle
            yield self.take(steps * cycle)

    def started(self) -> dict[str, Any]:
        """Return what the first step has cost beside its time: compiling, in seconds."""
        clock.settle_garbage()
        stages = {name: value for name, value in compiler.counters().items() if name.endswith("_seconds")}
        return {"compile": stages}

    @contextmanager
    def first_step(self) -> Iterator[None]:
        """Turn what torch refuses in the first step into Unavailable."""
        with refusing(), self.around():
            yield


def hello(message: Message) -> dict[str, Any]:
    """Get ready: fix the threads and import what the case needs.

    With `describe`, a variant, also return what this machine and its device are and how fast they are just now;
    with `can`, a list of variants, also return why each cannot run here, or None; with `takes`, a case to build,
    also return why its model cannot start from its checkpoint or take its data, or None.
    """
    if threads := message.get("threads"):
        torch.set_num_threads(threads)
    if message.get("allocator") == "keep":
        keep_memory()
    if message.get("compiles") and hasattr(torch, "compile"):
        import_module("torch._dynamo")  # here, so that it counts as starting up and not as compiling
        insights.keep_records()
    reply: dict[str, Any] = {"torch": torch.__version__}
    if variant := message.get("describe"):
        device = usable_device(variant, attention_of(variant, message))
        reply["environment"] = {**machine.describe(device), "calibration": machine.calibrate(device)}
    if variants := message.get("can"):
        reply["unavailable"] = [why_not(variant, message) for variant in variants]
    if case := message.get("takes"):
        reply["misfit"] = misfit(case)
    return reply


def initial_model(message: Message) -> tuple[torch.nn.Module, list[str]]:
    """Return the model of a `build` message as it starts, and the names of weights that its checkpoint lacks."""
    workload, folders = message["workload"], [Path(folder) for folder in message["folders"]]
    model, attention = names.find("model", workload["model"], folders), attention_of(message["variant"], message)
    return weights.initial(model, attention.load(), message["config"], workload["weights"])


def misfit(message: Message) -> str | None:
    """Return why a model cannot start from its checkpoint or, where data are told, take the first batch, or None.

    Any other failure is left to the run.
    """
    try:
        if not message["data"]:
            initial_model(message)
            return None
        session = Session(message)
        step = session.step
        with session.first_step(), torch.no_grad(), step.autocast:
            step.work.loss(step.model, step.work.batch(0))
    except UserError as error:
        return str(error)
    except Exception:
        traceback.print_exc()
    return None


def score_of(step: TrainingStep, part: str) -> Mapping[str, float]:
    """Return the score on a part of the data; a task that knows no parts scores what it holds out."""
    return step.work.score(step.model) if part == "test" else step.work.score(step.model, part)


def attention_of(variant: Message, message: Message) -> names.Named:
    """Return where the variant's attention is defined."""
    return names.find("attention", variant["attention"], [Path(folder) for folder in message.get("folders", ())])


def why_not(variant: Message, message: Message) -> str | None:
    """Return why this interpreter and machine cannot run `variant`, or None; any other failure is left to the run."""
    attention = attention_of(variant, message)
    try:
        if variant["allocator"] == "keep":
            keep_memory()
        try_attention(variant, attention, usable_device(variant, attention))
    except Unavailable as error:
        return str(error)
    except Exception:
        traceback.print_exc()
    return None


def compiled(loss: Any, model: torch.nn.Module, mode: str, dynamic: bool | None = None) -> Any:
    """Return `loss` compiled as a whole, or as it is with each layer of `model` compiled (`regional`)."""
    if mode == "none":
        return loss
    if mode != "regional":
        return torch.compile(loss, mode=mode, dynamic=dynamic)
    for layer in layers(model, "compile one by one"):
        layer.forward = torch.compile(layer.forward, dynamic=dynamic)
    return loss


def graphs_on_gpu(variant: Message, device: Any) -> bool:
    """Tell whether the case replays CUDA graphs, in memory of their own."""
    return device.kind == "cuda" and variant["compile"] in ("reduce-overhead", "max-autotune")


def digest(value: Any) -> str:
    """Return a hash of all tensors in `value` (a mapping, a sequence, a tensor), bit for bit."""
    sha = hashlib.sha256()
    for tensor in tensors(value):
        flat = tensor.detach().cpu().contiguous().flatten()
        sha.update(flat.view(torch.uint8).numpy().tobytes())  # as bytes: NumPy has no bfloat16
    return sha.hexdigest()


def tensors(value: Any) -> Iterator[torch.Tensor]:
    """Yield the tensors in `value`, in order."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping):
        for key in sorted(value):
            yield from tensors(value[key])
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors(item)
