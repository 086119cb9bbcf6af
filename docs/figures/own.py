"""Own models against those of transformers, same weights, same attention: python docs/figures/own.py FOLDER [MODE...]

Makes a checkpoint of each family below FOLDER, then times a training step of both in turns, eager (`none`) and compiled
(`default`), or in the named modes of torch.compile. Twenty minutes for each mode.
"""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from harness.commands.doctor import carried_out
from harness.compare import against_baselines
from harness.spec import Block, Suite, Variant, Workload
from suites.data._parts import PARTS, kept

MODES = ("none", "default")
GPT = {"vocab_size": 320, "n_embd": 256, "n_layer": 4, "n_head": 4, "n_positions": 512}
BERT = {"vocab_size": 320, "hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4}
LLAMA = {**BERT, "intermediate_size": 688, "num_key_value_heads": 2, "rms_norm_eps": 1e-5}
VIT = {**BERT, "image_size": 8, "patch_size": 2, "num_channels": 1, "intermediate_size": 1024, "num_labels": 10}
# Of version 1.1, whose GELU is smooth. The ReLU of 1.0 has a kink: where one of its five million inputs is so near to 0
# that float32 and float64 disagree about its sign, the gradients of both models differ from float64's by 4e-4.
T5 = {
    "vocab_size": 320, "d_model": 256, "d_kv": 64, "d_ff": 1024, "num_layers": 4, "num_heads": 4,
    "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False,
}  # fmt: skip
WHISPER = {
    "vocab_size": 320, "d_model": 256, "encoder_layers": 4, "decoder_layers": 4, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 1024, "decoder_ffn_dim": 1024, "max_source_positions": 50,
    "pad_token_id": 257, "bos_token_id": 258, "eos_token_id": 259, "decoder_start_token_id": 258,
}  # fmt: skip
FAMILIES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "gpt": ("GPT2LMHeadModel", {**GPT, "bos_token_id": 0, "eos_token_id": 0}, {"task": "pretraining/causal_lm"}),
    "llama": ("LlamaForCausalLM", LLAMA, {"task": "pretraining/causal_lm"}),
    "bert": ("BertForMaskedLM", {**BERT, "intermediate_size": 1024}, {"task": "pretraining/masked_lm"}),
    "t5": ("T5ForConditionalGeneration", T5, {"task": "pretraining/denoising"}),
    "vit": (
        "ViTForImageClassification",
        VIT,
        {"task": "finetuning/image_classification", "data": "digits", "length": 17, "batch": 64},
    ),
    "whisper": (
        "WhisperForConditionalGeneration",
        WHISPER,
        {"task": "finetuning/speech", "data": f"{Path(__file__).resolve()}:noise", "length": 50},
    ),
}
"""Own model -> class of transformers, its configuration, the workload."""


def main(folder: Path, modes: Sequence[str] = ()) -> None:
    """Make the checkpoints in a process of their own, measure, and print own / transformers."""
    subprocess.run([sys.executable, __file__, "--make", str(folder)], check=True)
    for mode in modes or MODES:
        blocks = tuple(
            Block(
                name=model,
                workload=Workload(model=model, weights=model, **fields),
                variants=(
                    Variant(name="transformers", model=f"hf:{model}", attention="sdpa", compile=mode),
                    Variant(name="own", attention="sdpa", compile=mode),
                ),
            )
            for model, (_, _, fields) in FAMILIES.items()
        )
        suite = Suite(name="own", question="Are own models as fast as those of transformers?", blocks=blocks,
                      quality_steps=0, rounds=20)  # fmt: skip
        found = carried_out(suite, folder, quiet=False)
        times = [item for item in against_baselines(found) if item.metric == "step_seconds"]
        for item in times:
            own = item.judgement
            print(f"compile {mode}, {item.block}: {own.ratio:.3f} ({own.low:.3f} to {own.high:.3f}), {own.verdict}")
        for name in [name for name in FAMILIES if name not in {item.block for item in times}]:
            print(f"compile {mode}, {name}: not timed; {found.run.path}/outcomes.json says why")
        ratios = [item.judgement.ratio for item in times]
        if ratios:
            print(f"compile {mode}: median {median(ratios):.3f}, highest {max(ratios):.3f} of {len(ratios)} families")


def make(folder: Path) -> None:
    """Write a checkpoint of each family with drawn weights."""
    import torch
    import transformers

    for model, (name, fields, _) in FAMILIES.items():
        torch.manual_seed(0)
        kind = getattr(transformers, name)
        kind(kind.config_class(**fields)).save_pretrained(folder / model)


def noise(folder: Path) -> dict[str, Any]:
    """Return the manifest of sounds that say nothing, a second each: how long a step takes does not depend on it."""
    random = np.random.RandomState(0)

    def spoken() -> dict[str, Any]:
        sounds = random.randint(-3000, 3000, size=(64, 16_000)).astype(np.int16)
        return {"sounds": sounds, "words": random.randint(97, 123, size=(64, 8)).astype(np.uint8)}

    return kept("noise", b"1", lambda: ({part: spoken() for part in PARTS}, {"source": "noise"}), folder)


if __name__ == "__main__":
    if sys.argv[1] == "--make":
        make(Path(sys.argv[2]))
    else:
        main(Path(sys.argv[1]), sys.argv[2:])
