"""The one table of metrics: unit, which way is better, how it varies, how it is derived."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A figure of a case, in base units (seconds, bytes, FLOP, nats)."""

    name: str
    unit: str
    better: Literal["lower", "higher", "neither"]
    noise: Literal["timed", "exact", "sampled"]
    summary: str
    margin: float = 0.0
    """By how much it may get worse: relative, or of a difference as it is (0.01 of a share is a percentage point)."""
    scale: Literal["ratio", "difference"] = "ratio"
    """How two values are compared; a share may be zero, and its ratio says little near 0 and near 1."""
    derive: Callable[[Mapping[str, float]], float] | None = None
    """From a launch's observed metrics; raises KeyError where one of them is missing."""


def timed(name: str, summary: str) -> Metric:
    """Return a metric in seconds that the machine's mood moves; margin 3 % (docs/measuring.md)."""
    return Metric(name=name, unit="s", better="lower", noise="timed", summary=summary, margin=0.03)


def memory(name: str, summary: str) -> Metric:
    """Return a metric in bytes; margin 1 %."""
    return Metric(name=name, unit="B", better="lower", noise="sampled", summary=summary, margin=0.01)


def count(name: str, unit: str, summary: str) -> Metric:
    """Return a metric that repeats exactly."""
    return Metric(name=name, unit=unit, better="neither", noise="exact", summary=summary)


def share(name: str, better: Literal["lower", "higher"], summary: str) -> Metric:
    """Return a score between 0 and 1, compared by difference; margin one percentage point."""
    return Metric(
        name=name, unit="share", better=better, noise="sampled", summary=summary, margin=0.01, scale="difference"
    )


def reached(name: str, unit: str, noise: Literal["timed", "sampled"], summary: str) -> Metric:
    """Return what it takes to reach the recipe's target; margin 3 %. There is none of a launch that does not."""
    return Metric(name=name, unit=unit, better="lower", noise=noise, summary=summary, margin=0.03)


def gap(name: str, unit: str, one: str, other: str, summary: str) -> Metric:
    """Return a score less another of the same launch: how much better a model is at what it has seen."""
    return Metric(
        name=name, unit=unit, better="lower", noise="sampled", summary=summary, scale="difference",
        derive=lambda values: values[one] - values[other],
    )  # fmt: skip


def error(name: str, summary: str) -> Metric:
    """Return a relative error against float64: ||x - ref|| / ||ref||."""
    return Metric(name=name, unit="1", better="lower", noise="sampled", summary=summary)


def rate(name: str, unit: str, amount: str, summary: str, seconds: str = "step_seconds") -> Metric:
    """Return work over time: `amount` of a step over the seconds of a step."""
    return Metric(
        name=name, unit=unit, better="higher", noise="timed", summary=summary, margin=0.03,
        derive=lambda values: values[amount] / values[seconds],
    )  # fmt: skip


def part(name: str, summary: str) -> Metric:
    """Return a share of the time of forward and backward in the trace of a compiled case."""
    return Metric(
        name=name, unit="share", better="neither", noise="sampled", scale="difference",
        summary=f"share of forward and backward, from the trace: {summary}",
    )  # fmt: skip


def fitting(name: str, unit: str) -> Metric:
    """Return a size that is known to a sixteenth."""
    summary = f"{name.replace('_', ' ')} that trains within the suite's memory_limit, to a sixteenth"
    return Metric(name=name, unit=unit, better="higher", noise="sampled", summary=summary, margin=1 / 16)


TABLE = (
    timed("step_seconds", "time of a training step, median"),
    timed("step_p90_seconds", "time of a training step, 90th percentile"),
    rate("tokens_per_second", "tokens/s", "tokens", "tokens trained on a second, padding apart"),
    rate("samples_per_second", "samples/s", "samples", "samples trained on a second"),
    rate("flop_per_second", "FLOP/s", "flop", "floating-point operations a second, model's own count"),
    count("peak_flop_per_second", "FLOP/s", "the most FLOP/s of matrix products in its precision, from the passport"),
    Metric(
        name="mfu",
        unit="share",
        better="higher",
        noise="timed",
        margin=0.01,
        scale="difference",
        summary="model FLOP utilisation: flop_per_second over peak_flop_per_second",
        derive=lambda values: values["flop"] / values["step_seconds"] / values["peak_flop_per_second"],
    ),
    count("moved_bytes", "B", "bytes that a step reads and writes, of a ceiling"),
    rate("bytes_per_second", "B/s", "moved_bytes", "bytes read and written a second"),
    count("calls", "1", "calls of operators in a step, of a ceiling"),
    Metric(
        name="call_seconds",
        unit="s",
        better="lower",
        noise="timed",
        margin=0.03,
        summary="time of one call of an operator",
        derive=lambda values: values["step_seconds"] / values["calls"],
    ),
    Metric(name="clock_hertz", unit="Hz", better="higher", noise="sampled", summary="clock of the cores or of the GPU"),
    Metric(
        name="step_joules",
        unit="J",
        better="lower",
        noise="timed",
        margin=0.03,
        summary="energy of a step by the device's own counter, less what it takes doing nothing",
    ),
    Metric(
        name="joules_per_token",
        unit="J",
        better="lower",
        noise="timed",
        margin=0.03,
        summary="energy above idle for a token trained on",
        derive=lambda values: values["step_joules"] / values["tokens"],
    ),
    Metric(
        name="tokens_per_joule",
        unit="tokens/J",
        better="higher",
        noise="timed",
        margin=0.03,
        summary="tokens trained on for a joule above idle",
        derive=lambda values: values["tokens"] / values["step_joules"],
    ),
    Metric(name="idle_watts", unit="W", better="lower", noise="sampled", summary="power of the device doing nothing"),
    Metric(name="celsius", unit="°C", better="lower", noise="sampled", summary="the hottest sensor's temperature"),
    Metric(name="held_by_power", unit="share", better="lower", noise="sampled", summary="a limit of power slows it"),
    Metric(name="held_by_heat", unit="share", better="lower", noise="sampled", summary="heat slows it"),
    timed("data_seconds", "phase of a step: making the batch and moving it to the device"),
    timed("forward_seconds", "phase of a step: forward pass and loss"),
    timed("backward_seconds", "phase of a step: backward pass"),
    timed("optimizer_seconds", "phase of a step: clipping and optimizer"),
    Metric(
        name="phases_share",
        unit="share",
        better="neither",
        noise="sampled",
        summary="sum of the phases over an undivided step, taken in turns: how well they tell where its time goes",
    ),
    timed("load_seconds", "the batches of a step alone, mean over an epoch, its start included, nothing else going on"),
    rate("loader_samples_per_second", "samples/s", "samples", "samples loaded a second, alone", "load_seconds"),
    Metric(
        name="wait_share",
        unit="share",
        better="lower",
        noise="timed",
        summary="share of a step that training waits for its batch: data_seconds over step_seconds",
        derive=lambda values: values["data_seconds"] / values["step_seconds"],
    ),
    timed("startup_seconds", "starting the worker: interpreter and imports"),
    timed("build_seconds", "building model, optimizer and data"),
    timed("cold_first_step_seconds", "first step with an empty compile cache"),
    timed("cold_start_seconds", "the first steps, those that are checked, with an empty compile cache"),
    timed("warm_first_step_seconds", "first step of a fresh process with a filled compile cache"),
    timed("cold_compile_seconds", "compiling with an empty cache, all stages"),
    timed("warm_compile_seconds", "compiling with a filled cache, all stages"),
    timed("cold_dynamo_seconds", "of the cold compile: tracing Python (Dynamo)"),
    timed("cold_aot_seconds", "of the cold compile: deriving the backward graph (AOTAutograd)"),
    timed("cold_inductor_seconds", "of the cold compile: generating and building kernels (Inductor)"),
    timed("warm_dynamo_seconds", "of the warm compile: tracing Python (Dynamo)"),
    timed("warm_aot_seconds", "of the warm compile: deriving the backward graph (AOTAutograd)"),
    timed("warm_inductor_seconds", "of the warm compile: generating and building kernels (Inductor)"),
    count("graphs", "1", "graphs that torch.compile made"),
    count("graph_breaks", "1", "places where torch.compile fell back to Python"),
    count("recompiles", "1", "compilations after the first of the same code"),
    count("recompile_limits", "1", "functions that torch.compile gave up, compiled too often for the shapes they saw"),
    count("generated_kernels", "1", "kernels that torch.compile generated, calls of them in all its graphs"),
    count("library_kernels", "1", "calls of library kernels, such as matrix products, in all compiled graphs"),
    count("operators_before_fusion", "1", "operators in all compiled graphs before they were fused into kernels"),
    part("library_share", "matrix products and attention, wherever they are called from"),
    part("generated_share", "compiled graphs, but for matrix products and attention"),
    part("outside_share", "outside of compiled graphs, but for matrix products and attention"),
    count("kernels_per_step", "1", "GPU kernels of a step, from the trace"),
    memory("memory_peak_bytes", "highest memory of a steady step (CUDA: allocated; CPU: resident, VmHWM)"),
    memory("memory_allocated_peak_bytes", "highest memory that tensors took in a step (CPU; CUDA: memory_peak_bytes)"),
    memory("memory_peak_maxrss_bytes", "highest resident memory of the process so far, where it cannot be reset"),
    memory("memory_cold_peak_bytes", "highest memory up to the first backward pass, compiling included"),
    memory("memory_reserved_bytes", "highest memory that CUDA's caching allocator reserved"),
    memory("memory_parameters_bytes", "memory of the parameters and buffers"),
    memory("memory_gradients_bytes", "memory of the gradients"),
    memory("memory_optimizer_bytes", "memory of the optimizer's state"),
    memory("memory_activations_bytes", "memory that the forward pass saves for the backward pass"),
    memory("memory_loader_bytes", "memory that the loader's processes have beside the main one (Linux)"),
    count("tokens", "tokens", "tokens in a step, padding apart"),
    count("samples", "samples", "samples in a step"),
    count("parameters", "1", "trained parameters"),
    count("flop", "FLOP", "floating-point operations of a step, forward and backward, causal attention counted full"),
    count("forward_flop", "FLOP", "floating-point operations of a step's forward pass"),
    count(
        "fused_attention_flop", "FLOP", "of flop, that of fused attention kernels; a causal one leaves half of it out"
    ),
    error("output_error", "first step's outputs against float64"),
    error("loss_error", "first step's loss against float64"),
    error("gradient_error", "first step's gradients against float64"),
    error("losses_error", "losses of the first steps of training against float64"),
    Metric(
        name="saliency_agreement",
        unit="1",
        better="higher",
        noise="sampled",
        margin=0.01,
        summary="rank correlation of what each input position counts for the loss with that in float64",
    ),
    Metric(
        name="held_out_loss",
        unit="nats",
        better="lower",
        noise="sampled",
        margin=0.01,
        summary="loss on held-out data after the suite's quality_steps of training",
    ),
    share("accuracy", "higher", "share of right answers on held-out data after the suite's quality_steps of training"),
    share("f1", "higher", "F1 on held-out data after training: of the sub-tokens of names, or of the second class"),
    share(
        "matthews_correlation",
        "higher",
        "correlation of answers and true classes on held-out data after training; 0 is chance, in % as GLUE tells it",
    ),
    Metric(
        name="bits_per_byte",
        unit="bits",
        better="lower",
        noise="sampled",
        margin=0.01,
        summary="held_out_loss of a model that predicts byte after byte, in bits",
    ),
    share(
        "character_error_rate",
        "lower",
        "letters to insert, drop or change in the answers to held-out data, over the letters there are",
    ),
    share("train_accuracy", "higher", "accuracy on as much of the training data, of the recipe's gap"),
    Metric(
        name="train_loss",
        unit="nats",
        better="lower",
        noise="sampled",
        margin=0.01,
        summary="loss on as much of the training data, of the recipe's gap",
    ),
    gap("accuracy_gap", "share", "train_accuracy", "accuracy", "train_accuracy less accuracy"),
    gap("loss_gap", "nats", "held_out_loss", "train_loss", "held_out_loss less train_loss"),
    Metric(name="steps_trained", unit="steps", better="neither", noise="sampled", summary="steps trained until scored"),
    reached("steps_to_quality", "steps", "sampled", "steps trained until a score reached the recipe's target"),
    reached("time_to_quality_seconds", "s", "timed", "steps_to_quality times step_seconds; start and compiling apart"),
    fitting("largest_batch", "samples"),
    fitting("longest_sequence", "tokens"),
    Metric(name="training_loss", unit="nats", better="lower", noise="sampled", summary="loss of a training step"),
    Metric(
        name="steal_share",
        unit="1",
        better="lower",
        noise="sampled",
        summary="share of the machine's time that its host gave to others, during a turn",
    ),
    Metric(
        name="others_share",
        unit="1",
        better="lower",
        noise="sampled",
        summary="share of the machine's time that processes outside this run took, during a turn",
    ),
)

METRICS = {metric.name: metric for metric in TABLE}
SPREAD = (  # what is compared and varies from launch to launch
    "step_seconds",
    "memory_allocated_peak_bytes",
    "memory_peak_bytes",
    "memory_peak_maxrss_bytes",
    "memory_reserved_bytes",
    "held_out_loss",
    "accuracy",
    "f1",
    "matthews_correlation",
    "character_error_rate",
    "bits_per_byte",
)
# What a task may score.
QUALITY = ("accuracy", "f1", "matthews_correlation", "character_error_rate", "bits_per_byte", "held_out_loss")
TO_QUALITY = ("time_to_quality_seconds", "steps_to_quality")  # derived from the learning curve
COMPILED = ("graphs", "graph_breaks", "recompiles")  # what is compared and repeats exactly
