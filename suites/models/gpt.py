"""GPT-2: decoder-only Transformer, pre-norm, learned positions, tied head (Radford et al. 2019).

`base` is the published small GPT-2: 124,439,808 parameters, the head being the token embedding's own matrix. Dropout,
where `dropout` is not 0, follows the embedding and each residual branch; attention has none.

With `classes` the model has, instead of that head, one that tells classes apart by the last real token, which has seen
all the others; padding stands to the right. Transformers' GPT2ForSequenceClassification does the same.

FLOP of a row forward, without `classes`; three times as many in training:

    length * (layers * (24 * dim**2 + 4 * length * dim) + 2 * dim * vocabulary)
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.errors import UserError
from suites.models import _checkpoint
from suites.models._checkpoint import need, renamed

SIZES = {
    "tiny": {"vocabulary": 320, "positions": 512, "classes": 0, "dim": 128, "heads": 4, "layers": 2, "dropout": 0.0},
    "small": {"vocabulary": 320, "positions": 512, "classes": 0, "dim": 256, "heads": 4, "layers": 4, "dropout": 0.0},
    "base": {
        "vocabulary": 50257, "positions": 1024, "classes": 0, "dim": 768, "heads": 12, "layers": 12, "dropout": 0.0,
    },
}  # fmt: skip
HEAD = ("head",)
NAMES = {  # in Hugging Face's checkpoints -> here
    "wte": "token",
    "wpe": "position",
    "h.*.ln_1": "layers.*.attention_norm",
    "h.*.attn.c_attn": "layers.*.qkv",
    "h.*.attn.c_proj": "layers.*.attention_output",
    "h.*.ln_2": "layers.*.mlp_norm",
    "h.*.mlp.c_fc": "layers.*.mlp",
    "h.*.mlp.c_proj": "layers.*.mlp_output",
    "ln_f": "norm",
    "score": "head",
    "lm_head": None,  # the token embedding's matrix once more
    "h.*.attn.bias": None,  # the causal mask, in the oldest checkpoints
    "h.*.attn.masked_bias": None,
}

Attention = Callable[..., Tensor]


def build(
    attention: Attention, *, vocabulary: int = 320, positions: int = 512, classes: int = 0, dim: int = 128,
    heads: int = 4, layers: int = 2, dropout: float = 0.0,
) -> nn.Module:  # fmt: skip
    """Return a GPT with GPT-2's initial weights."""
    model = GPT(attention, vocabulary, positions, classes, dim, heads, layers, dropout)
    initialise(model, layers)
    return model


class GPT(nn.Module):
    """Tokens (batch, length) -> logits (batch, length, vocabulary) of each next token, or (batch, classes)."""

    def __init__(
        self, attention: Attention, vocabulary: int, positions: int, classes: int, dim: int, heads: int, layers: int,
        dropout: float,
    ) -> None:  # fmt: skip
        super().__init__()
        self.classes = classes
        self.token = nn.Embedding(vocabulary, dim)
        self.position = nn.Embedding(positions, dim)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList([Layer(attention, dim, heads, dropout) for _ in range(layers)])
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, classes, bias=False) if classes else None

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the logits; `mask` (batch, length) is False where a token is padding."""
        length, positions = tokens.size(1), self.position.num_embeddings
        if length > positions:
            raise UserError(f"{length} tokens are too many for {positions} positions", f"--set positions={length}")
        x = self.token(tokens) + self.position(torch.arange(length, device=tokens.device))  # (batch, length, dim)
        x = self.dropout(x)
        keys = None if mask is None else mask[:, None, None, :]  # (batch, 1, 1, length)
        for layer in self.layers:
            x = layer(x, keys)
        if self.head is not None:
            x = x[:, -1] if mask is None else x[torch.arange(len(x), device=x.device), mask.sum(1) - 1]
            return self.head(self.norm(x))  # (batch, classes)
        return F.linear(self.norm(x), self.token.weight)  # (batch, length, vocabulary)


class Layer(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, attention: Attention, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention, self.heads = attention, heads
        self.attention_norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.attention_output = nn.Linear(dim, dim)
        self.mlp_norm = nn.LayerNorm(dim)
        self.mlp = nn.Linear(dim, 4 * dim)
        self.mlp_output = nn.Linear(4 * dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, keys: Tensor | None) -> Tensor:
        """Return the layer's output, (batch, length, dim) like `x`."""
        q, k, v = (
            y.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (batch, heads, length, dim / heads)
            for y in self.qkv(self.attention_norm(x)).chunk(3, dim=-1)
        )
        y = self.attention(q, k, v, causal=True, mask=keys).transpose(1, 2).flatten(2)  # (batch, length, dim)
        x = x + self.dropout(self.attention_output(y))
        y = F.gelu(self.mlp(self.mlp_norm(x)), approximate="tanh")  # (batch, length, 4 dim)
        return x + self.dropout(self.mlp_output(y))


def initialise(model: nn.Module, layers: int) -> None:
    """Draw GPT-2's initial weights: std 0.02, that of the two residual outputs of a layer over sqrt(2 layers)."""
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
        elif "norm" not in name:
            nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * layers) if "output" in name else 0.02)


def from_checkpoint(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of `build` that the config.json of a Hugging Face GPT-2 gives."""
    need(
        config, model_type="gpt2", activation_function="gelu_new", layer_norm_epsilon=1e-5, scale_attn_weights=True,
        scale_attn_by_inverse_layer_idx=False, add_cross_attention=False, tie_word_embeddings=True,
    )  # fmt: skip
    return {
        "vocabulary": config["vocab_size"],
        "positions": config["n_positions"],
        "classes": _checkpoint.classes(config, "GPT2ForSequenceClassification"),
        "dim": config["n_embd"],
        "heads": config["n_head"],
        "layers": config["n_layer"],
    }


def rename(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a Hugging Face GPT-2 under the names and in the layout that they have here."""
    found = renamed(tensors, NAMES, prefix="transformer.")
    # The layers' matrices are (in, out) there, as those of a 1x1 convolution; nn.Linear's are (out, in).
    return {
        name: tensor.t() if name.startswith("layers.") and tensor.dim() == 2 else tensor
        for name, tensor in found.items()
    }
