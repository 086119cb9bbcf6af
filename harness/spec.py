"""The nouns of a suite: Suite, Block, Workload, Variant and Case, to and from JSON."""

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from typing import Any, TypeVar

from harness.errors import UserError, unknown
from harness.recipe import Recipe

Scalar = str | int | float | bool | None

CHOICES: dict[str, tuple[str, ...]] = {
    "compile": ("none", "default", "reduce-overhead", "max-autotune", "regional"),
    "precision": ("fp32", "tf32", "bf16", "fp16", "bf16_pure", "fp64", "int8", "fp8"),  # the last two of ceilings only
    "optimizer": ("loop", "foreach", "fused", "none"),
    "allocator": ("default", "keep"),
    "loader": ("none", "map", "iterable"),
    "device": ("auto", "cpu", "cuda", "mps", "xpu"),
}


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What is done: the same bits (data, initial weights) for every variant of a block."""

    task: str
    model: str = ""
    """Empty for a ceiling: what the machine can do at most, apart from any model."""
    size: str | None = None
    batch: int = 8
    length: int = 128
    accumulate: int = 1
    padding: float = 0.0
    lengths: int = 1
    """How many lengths batches have, one after the other and over again, from `length` down to a quarter of it."""
    data: str = "stdlib"
    weights: str = ""
    """Checkpoint to start from, a folder or an id in the local Hugging Face cache; empty draws from the seed."""
    seed: int = 0
    settings: Mapping[str, Scalar] = field(default_factory=dict)
    recipe: Recipe = Recipe()  # noqa: RUF009 it is frozen

    def __post_init__(self) -> None:
        where = f"workload of {self.model or self.task!r}"
        need_text(where, self, "task", "data")
        if not isinstance(self.model, str):
            raise UserError(f"{where}: model is {self.model!r}", "give a name")
        if not isinstance(self.weights, str):
            raise UserError(f"{where}: weights is {self.weights!r}", "give the folder of a checkpoint")
        for name in ("batch", "length", "accumulate"):
            value = getattr(self, name)
            if not is_whole(value) or value < 1:
                raise UserError(f"{where}: {name} is {value!r}", "give a whole number of 1 or more")
        if not is_whole(self.seed) or self.seed < 0:
            raise UserError(f"{where}: seed is {self.seed!r}", "give a whole number of 0 or more")
        if not is_whole(self.lengths) or not 1 <= self.lengths <= max(1, self.length // 2):
            raise UserError(f"{where}: lengths is {self.lengths!r}", "give 1, or at most half as many as length")
        if not isinstance(self.padding, int | float) or not 0 <= self.padding <= 0.5:
            raise UserError(f"{where}: padding is {self.padding!r}", "give a share between 0 and 0.5")

    @property
    def is_ceiling(self) -> bool:
        """Tell whether this is a probe of the machine, in `suites/ceilings`, rather than a model's work."""
        return not self.model

    @property
    def slug(self) -> str:
        """A short readable name: model, size or checkpoint, batch and length; of a ceiling, its settings."""
        if self.is_ceiling:
            return slugify("-".join([stem(self.task), *(f"{key}={value}" for key, value in self.settings.items())]))
        weights = checkpoint_in(self.model) or self.weights
        size = weights.rstrip("/").split("/")[-1] or self.size
        return slugify("-".join(filter(None, (stem(self.model), size, f"b{self.batch}", f"l{self.length}"))))


@dataclass(frozen=True, kw_only=True)
class Variant:
    """How it is done; the defaults are the PyTorch 1.x way."""

    name: str
    model: str = ""
    """Another implementation of the workload's model, which must compute the same; empty is the workload's own."""
    attention: str = "formula"
    compile: str = "none"
    dynamic: bool | None = None
    """torch.compile's: None compiles for one shape, and for any once it changes; False for each; True for any."""
    bucket: int = 0
    """Pad batches of varied lengths to the next multiple of so many tokens; 0 leaves them as long as they are."""
    precision: str = "fp32"
    optimizer: str = "loop"
    device: str = "auto"
    torch: str = "current"
    revision: str = ""
    """Commit whose files the worker imports; empty is the working tree."""
    checkpoint: bool = False
    allocator: str = "default"
    threads: int | None = None
    loader: str = "none"
    """Which kind of dataset torch's DataLoader draws batches from; `none` makes them in process."""
    workers: int = 0
    prefetch: int = 2
    """Batches that each worker makes ahead."""
    pinned: bool = False
    persistent: bool = False
    """Whether workers outlive an epoch."""

    @property
    def ahead(self) -> int:
        """How many batches may be ready before they are asked for."""
        return self.workers * self.prefetch

    def __post_init__(self) -> None:
        if not self.name:
            raise UserError("a variant has an empty name", "name it after what it changes, such as '+sdpa'")
        need_text(f"variant {self.name!r}", self, "attention", "torch")
        if not isinstance(self.model, str):
            raise UserError(f"variant {self.name!r}: model is {self.model!r}", "give a name, or leave it out")
        for name in ("checkpoint", "pinned", "persistent"):
            if not isinstance(getattr(self, name), bool):
                raise UserError(f"variant {self.name!r}: {name} is {getattr(self, name)!r}", "give true or false")
        if self.dynamic is not None and not isinstance(self.dynamic, bool):
            raise UserError(f"variant {self.name!r}: dynamic is {self.dynamic!r}", "give true, false or unset")
        if not is_whole(self.bucket) or self.bucket < 0:
            raise UserError(f"variant {self.name!r}: bucket is {self.bucket!r}", "give tokens, or 0 for none")
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                error = unknown(f"value of {name}", str(getattr(self, name)), choices)
                raise UserError(f"variant {self.name!r}: {error}")
        if self.threads is not None and (not is_whole(self.threads) or self.threads < 1):
            raise UserError(f"variant {self.name!r}: threads is {self.threads!r}", "give 1 or more, or leave it out")
        for name, least in (("workers", 0), ("prefetch", 1)):
            if not is_whole(value := getattr(self, name)) or value < least:
                raise UserError(
                    f"variant {self.name!r}: {name} is {value!r}", f"give a whole number of {least} or more"
                )
        if self.loader == "none" and (self.workers or self.pinned):
            raise UserError(f"variant {self.name!r} has no loader for workers or pinned memory", "--set loader=map")
        if self.persistent and not self.workers:
            raise UserError(f"variant {self.name!r} has no workers to be persistent", "give workers of 1 or more")


@dataclass(frozen=True, kw_only=True)
class Case:
    """A workload done one way."""

    workload: Workload
    variant: Variant

    @property
    def model(self) -> str:
        """The model's name: the variant's own, or else the workload's."""
        return self.variant.model or self.workload.model

    @cached_property
    def id(self) -> str:
        """Readable slug and a hash of the content, without defaults: a field added later changes no id."""
        text = json.dumps([differing(self.workload), differing(self.variant)], sort_keys=True)
        return f"{self.workload.slug}--{slugify(self.variant.name)}--{hashlib.sha256(text.encode()).hexdigest()[:8]}"


@dataclass(frozen=True, kw_only=True)
class Block:
    """A workload and the variants compared with each other on it."""

    workload: Workload
    variants: tuple[Variant, ...]
    baseline: str = ""
    name: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.name or self.workload.slug)
        object.__setattr__(self, "variants", tuple(self.variants))
        if not self.variants:
            raise UserError(f"block {self.name!r} has no variants", "give at least one")
        object.__setattr__(self, "baseline", self.baseline or self.variants[0].name)
        names = [variant.name for variant in self.variants]
        if twice := repeated(names):
            raise UserError(f"block {self.name!r} names variant {twice!r} twice", "give each variant its own name")
        if self.baseline not in names:
            error = unknown("variant", self.baseline, names)
            raise UserError(f"block {self.name!r}: its baseline is not among its variants: {error}")

        for variant in self.variants:
            if variant.bucket and (self.workload.lengths == 1 or self.workload.length % variant.bucket):
                raise UserError(
                    f"block {self.name!r}: variant {variant.name!r} pads to buckets of {variant.bucket} tokens",
                    "give the workload more lengths than 1, and a length that is a multiple of it",
                )

    def workload_of(self, variant: Variant) -> Workload:
        """Return the workload as a variant does it: with a model of its own, if it names one."""
        return replace(self.workload, model=variant.model or self.workload.model)

    @property
    def workloads(self) -> tuple[Workload, ...]:
        """The workload, then as each variant with a model of its own does it."""
        return (self.workload, *(self.workload_of(variant) for variant in self.variants if variant.model))

    @property
    def cases(self) -> tuple[Case, ...]:
        """One case a variant, in order."""
        return tuple(Case(workload=self.workload, variant=variant) for variant in self.variants)

    @property
    def baseline_case(self) -> Case:
        """The case that the others are compared with."""
        return next(case for case in self.cases if case.variant.name == self.baseline)


@dataclass(frozen=True, kw_only=True)
class Suite:
    """A question, the blocks that answer it, and how carefully to measure."""

    name: str
    question: str
    blocks: tuple[Block, ...]
    launches: int = 5
    rounds: int = 10
    budget: float | None = None
    check_steps: int = 5  # of CUDA graphs the second step is recorded and the third replayed: later losses depend on it
    quality_steps: int = 50
    seeds: int = 1
    """In how many launches quality is scored: the first with the workload's seed, each further one with the next."""
    explain: bool = False
    """Whether each scored launch also compares what a variant's inputs count for its loss with float64."""
    fit: str = ""
    """What to find the largest of, `batch` or `length`, instead of measuring; empty measures."""
    memory_limit: int = 0
    """Bytes that a case may take: of its process's data on the CPU, of the device's memory on CUDA; 0 is no limit."""
    retry: bool = False
    """Whether a case that fails is given one fresh launch more, as the gate does; not one that is wrong."""
    timeout: float = 600.0
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "blocks", tuple(self.blocks))
        if not self.blocks:
            raise UserError(f"suite {self.name!r} has no blocks", "give at least one")
        for name in ("launches", "rounds", "check_steps", "seeds"):
            if not is_whole(getattr(self, name)) or getattr(self, name) < 1:
                raise UserError(f"suite {self.name!r}: {name} is {getattr(self, name)!r}", "give 1 or more")
        if not is_whole(self.quality_steps) or self.quality_steps < 0:
            raise UserError(f"suite {self.name!r}: quality_steps is {self.quality_steps!r}", "give 0 or more")
        if self.fit not in ("", "batch", "length"):
            raise UserError(f"suite {self.name!r}: {unknown('fit', str(self.fit), ('batch', 'length'))}")
        if not is_whole(self.memory_limit) or self.memory_limit < 0:
            raise UserError(f"suite {self.name!r}: memory_limit is {self.memory_limit!r}", "give bytes, or 0 for none")
        if self.fit and not self.memory_limit:
            raise UserError(f"suite {self.name!r} looks for what fits and has no memory_limit", "give it in bytes")
        if self.fit and any(block.workload.lengths > 1 for block in self.blocks):
            raise UserError(
                f"suite {self.name!r} looks for what fits", "--set lengths=1: it tries batches of one length"
            )
        if not isinstance(self.explain, bool):
            raise UserError(f"suite {self.name!r}: explain is {self.explain!r}", "give true or false")
        for name in ("timeout", "budget"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int | float) or not 0 < value < math.inf):
                raise UserError(f"suite {self.name!r}: {name} is {value!r}", "give seconds above 0")
        for block in self.blocks:
            if 0 < block.workload.recipe.score_every < self.check_steps:
                raise UserError(
                    f"block {block.name!r}: score_every is less than the {self.check_steps} steps of the check",
                    f"score every {self.check_steps} steps or less often",
                )
        if twice := repeated(block.name for block in self.blocks):
            raise UserError(f"suite {self.name!r} names block {twice!r} twice", "give each block its own name")
        if twice := repeated(case.id for case in self.cases):
            raise UserError(f"suite {self.name!r} holds case {twice} in two blocks", "keep it in one of them")

    def steps_of(self, workload: Workload) -> int:
        """Return how many steps a workload is trained before its score; 0 scores none."""
        return self.quality_steps if workload.recipe.steps is None else workload.recipe.steps

    def checked_steps(self, workload: Workload) -> int:
        """Return how many first steps are compared with float64: in the launch that does, no more than are trained."""
        return min(self.check_steps, self.steps_of(workload) or self.check_steps)

    def seed_of(self, workload: Workload, launch: int) -> int:
        """Return the seed of weights and data: one of its own for each launch that is scored."""
        return workload.seed + (launch - 1 if launch <= self.seeds else 0)

    @property
    def cases(self) -> tuple[Case, ...]:
        """Every case of every block, in order."""
        return tuple(case for block in self.blocks for case in block.cases)

    def environment(self, variant: Variant) -> str:
        """Name where a variant runs: its interpreter, and device or threads where those of the suite differ in them."""
        alike = [case.variant for case in self.cases if case.variant.torch == variant.torch]
        marks = [
            f"{name}={getattr(variant, name)}"
            for name in ("device", "threads")
            if len({getattr(other, name) for other in alike}) > 1
        ]
        return " ".join([variant.torch, *marks])

    def to_json(self) -> dict[str, Any]:
        """Return the suite as plain data; `Suite.from_json` gives it back."""
        return asdict(self)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> "Suite":
        """Return the suite that `data` describes."""
        blocks = [
            {
                **block,
                "workload": workload_from(block["workload"]),
                "variants": [construct(Variant, variant) for variant in block["variants"]],
            }
            for block in data["blocks"]
        ]
        return construct(Suite, {**data, "blocks": [construct(Block, block) for block in blocks]})


Noun = TypeVar("Noun")


def construct(noun: type[Noun], values: Mapping[str, Any]) -> Noun:
    """Return `noun(**values)`, refusing a field it does not have."""
    known = [item.name for item in fields(noun)]  # type: ignore[arg-type]
    for name in values:
        if name not in known:
            raise unknown(f"{noun.__name__} field", name, known)
    return noun(**values)


def workload_from(values: Mapping[str, Any]) -> Workload:
    """Return the workload that plain data describe."""
    return construct(Workload, {**values, "recipe": construct(Recipe, values.get("recipe", {}))})


def differing(noun: Workload | Variant | Recipe) -> dict[str, Any]:
    """Return the fields that are not at their default, as plain data."""
    values = {item.name: (getattr(noun, item.name), item.default) for item in fields(noun)}
    return {
        name: differing(value) if isinstance(value, Recipe) else value
        for name, (value, default) in values.items()
        if value != default and value != {}
    }


def need_text(where: str, noun: object, *names: str) -> None:
    """Raise UserError for a field that is not a text."""
    for name in names:
        if not isinstance(getattr(noun, name), str) or not getattr(noun, name):
            raise UserError(f"{where}: {name} is {getattr(noun, name)!r}", "give a name")


def is_whole(value: object) -> bool:
    """Tell whether `value` is an int and not a bool."""
    return isinstance(value, int) and not isinstance(value, bool)


def repeated(names: Iterable[str]) -> str | None:
    """Return the first name that comes twice, or None."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def slugify(text: str) -> str:
    """Return `text` with everything that a file name should not hold as a dash."""
    return re.sub(r"[^A-Za-z0-9._+=,-]+", "-", text).strip("-")


def stem(name: str) -> str:
    """Return the last part of a name: `gpt` of `own/gpt.py:build` and of `gpt`."""
    return name.split(":")[0].removesuffix(".py").split("/")[-1].split(".")[-1]


def checkpoint_in(name: str) -> str:
    """Return the checkpoint in a model's name: `own/tiny` of `hf:own/tiny`, nothing of `own/gpt.py:build`."""
    path, _, rest = name.partition(":")
    return "" if "." in path else rest
