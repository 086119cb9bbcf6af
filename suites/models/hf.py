"""Models of Hugging Face's transformers in their own classes, as `hf:FOLDER_OR_ID` (extra `hf`)."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from harness.errors import Unavailable, UserError
from harness.worker.weights import several
from suites.attention import flex, formula, sdpa, sdpa_cudnn, sdpa_efficient, sdpa_flash, sdpa_math
from suites.models.whisper import frames, mel_filters

IMPLEMENTATIONS = {
    formula.attention: "eager",
    flex.attention: "flex_attention",
    # The worker pins the kernel around a turn, and so that of transformers' SDPA, too.
    **{file.attention: "sdpa" for file in (sdpa, sdpa_cudnn, sdpa_efficient, sdpa_flash, sdpa_math)},
}
KINDS = {  # transformers' class -> its name for those that it has, and what it is called with, in the tasks' order
    "Seq2SeqLM": (
        "SEQ_TO_SEQ_CAUSAL_LM", ("input_ids", "decoder_input_ids", "attention_mask", "decoder_attention_mask"),
    ),
    "SpeechSeq2Seq": ("SPEECH_SEQ_2_SEQ", ("input_features", "decoder_input_ids")),
    "MaskedLM": ("MASKED_LM", ("input_ids", "token_type_ids", "attention_mask")),
    "CausalLM": ("CAUSAL_LM", ("input_ids", "attention_mask")),
    "ImageClassification": ("IMAGE_CLASSIFICATION", ("pixel_values",)),
    "MaskedImageModeling": ("MASKED_IMAGE_MODELING", ("pixel_values", "bool_masked_pos")),
    "SequenceClassification": ("SEQUENCE_CLASSIFICATION", ("input_ids",)),
}  # fmt: skip
LAYER = re.compile(r"\.\d+\.")  # of many; a head has one of each

Attention = Callable[..., Tensor]


def build(attention: Attention, folder: str, *, pretrained: bool = True, classes: int = 0) -> nn.Module:
    """Return the model in a checkpoint's folder; where `pretrained` is false, drawn as its config.json says.

    With `classes` it tells as many classes apart; a head that the checkpoint has not is drawn. Dropout is off,
    as it is in the other models unless asked for. Raise Unavailable where transformers is not there or cannot run the
    attention, UserError for a folder that it cannot read.
    """
    if attention not in IMPLEMENTATIONS:
        raise Unavailable(f"transformers runs formula, sdpa and flex, and no attention of {attention.__module__}")
    try:
        import transformers
        from safetensors import SafetensorError
    except ImportError:
        raise Unavailable("this model needs the package transformers: install torch-tandem[hf]") from None
    choice: dict[str, Any] = {"attn_implementation": IMPLEMENTATIONS[attention]}
    try:
        config = transformers.AutoConfig.from_pretrained(folder, use_cache=False)
        switch_dropout_off(config)
        kind = kind_of(config, classes)
        if classes:
            if pretrained:
                require_head(config, kind, classes, folder)
            config.num_labels = classes
        maker = getattr(transformers, f"AutoModelFor{kind}")
        if pretrained:
            saved = config.architectures or ()
            told = {"config": config, "use_safetensors": True, "output_loading_info": True}
            model, loaded = maker.from_pretrained(folder, **told, ignore_mismatched_sizes=True, **choice)
            drawn = lacking(loaded, type(model).__name__ in saved, folder)
        else:
            model, drawn = maker.from_config(config, **choice), []
    except (ImportError, OSError, ValueError, SafetensorError) as error:
        said = str(error).strip().splitlines()[0].split(". ")[0]
        if isinstance(error, ImportError) or "does not support an attention" in said:
            raise Unavailable(said) from error
        raise UserError(
            f"transformers cannot read {folder}: {said}", "give a folder that save_pretrained made"
        ) from None
    return Called(model.float(), KINDS[kind][1], config.num_labels if kind.endswith("Classification") else 0, drawn)


def kind_of(config: Any, classes: int = 0) -> str:
    """Return as what the model of a configuration is run: what was saved, or the first that transformers has for it."""
    from transformers.models.auto import modeling_auto

    if classes and type(config) in modeling_auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING:
        return "ImageClassification"
    if classes or saved_as(config, "SequenceClassification"):
        return "SequenceClassification"
    if saved_as(config, "MaskedImageModeling"):
        return "MaskedImageModeling"
    for kind, (name, _) in KINDS.items():
        if kind == "SpeechSeq2Seq" and config.model_type != "whisper":
            continue  # others hear in other ways
        is_known = type(config) in getattr(modeling_auto, f"MODEL_FOR_{name}_MAPPING")
        # Of some encoder-decoders transformers has the decoder alone, too: not what the checkpoint is for.
        if is_known and config.is_encoder_decoder == (kind in ("Seq2SeqLM", "SpeechSeq2Seq")):
            return kind
    raise UserError(f"no task here trains a {config.model_type}", "give a language model, a ViT or a Whisper")


def saved_as(config: Any, kind: str) -> bool:
    """Tell whether a configuration is that of a saved model of this kind."""
    return any(name.endswith(f"For{kind}") for name in config.architectures or ())


def require_head(config: Any, kind: str, classes: int, folder: str) -> None:
    """Raise UserError if a checkpoint has a head already, and it tells another number of classes apart."""
    if saved_as(config, kind) and config.num_labels != classes:
        remedy = f"--set classes={config.num_labels}, or give a checkpoint without a head for classes"
        raise UserError(f"{folder} tells {config.num_labels} classes apart, not {classes}", remedy)


def lacking(loaded: Mapping[str, Any], is_whole: bool, folder: str) -> list[str]:
    """Return which weights a checkpoint has not, which is a head's alone; raise UserError for any other, or a shape."""
    for name, found, needed in loaded["mismatched_keys"]:
        shapes = f"{tuple(found)} in the checkpoint and {tuple(needed)} in the model"
        raise UserError(f"transformers cannot read {folder}: {name} is {shapes}", "config.json must give its sizes")
    missing = sorted(loaded["missing_keys"])
    if needed := missing if is_whole else [name for name in missing if LAYER.search(name)]:
        raise UserError(f"transformers cannot read {folder}: it has no {several(needed)}", "use one of the whole model")
    return [f"model.{name}" for name in missing]


def switch_dropout_off(config: Any) -> None:
    """Set every probability of dropping something to 0, whatever the family calls it."""
    for name, value in config.to_dict().items():
        if "drop" in name and isinstance(value, float | int):
            setattr(config, name, 0.0)


class Called(nn.Module):
    """A model of transformers called as the tasks call a model: tensors in the order of `inputs` -> logits.

    One that hears is given the spectrogram of the sound, made as in the own Whisper: transformers leaves that to a
    feature extractor, in NumPy, outside of the model.
    """

    def __init__(self, model: nn.Module, inputs: tuple[str, ...], classes: int, drawn: list[str]) -> None:
        super().__init__()
        self.model, self.inputs, self.classes, self.drawn = model, inputs, classes, drawn
        if model.config.model_type == "vit":
            self.length = 1 + (model.config.image_size // model.config.patch_size) ** 2
        self.register_buffer("filters", mel_filters() if "input_features" in inputs else None, persistent=False)

    @property
    def token(self) -> nn.Module:
        """The embedding of the tokens, which Whisper has after that of the places."""
        return self.model.get_input_embeddings()

    @property
    def heads(self) -> set[str]:
        """The parameters that the classes of a family do not share, or that the checkpoint had not."""
        if self.model.base_model is self.model:
            return {*self.drawn}
        shared = f"model.{self.model.base_model_prefix}."
        return {*self.drawn, *(name for name, _ in self.named_parameters() if not name.startswith(shared))}

    def mark(self, begin: int, end: int, filler: int) -> None:
        """Say which tokens mark a row: a class that tells texts apart looks for them, to find the place that counts."""
        self.model.config.update({"decoder_start_token_id": begin, "eos_token_id": end, "pad_token_id": filler})

    def forward(self, *tensors: Tensor | None, mask: Tensor | None = None) -> Tensor:
        """Return the logits, (batch, length, vocabulary) or (batch, classes), or images; without a mask all is real."""
        named = dict(zip(self.inputs, tensors, strict=False))
        if self.filters is not None:
            named["input_features"] = frames(named["input_features"], self.filters, self.model.dtype)
        found = self.model(**(named if mask is None else {**named, "attention_mask": mask}))
        return found.logits if "logits" in found else found.reconstruction
