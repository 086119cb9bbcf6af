"""LLaMA: decoder with RMS norm, rotary positions, SwiGLU and grouped-query attention (Touvron et al. 2023; Llama 3).

Published sizes, with their model cards' counts: `2-7b` is LLaMA 2 7B, 6,738,415,616 parameters ("6.74B"), `3.1-8b` is
Llama 3.1 8B, 8,030,261,248 ("8.03B"), `3.2-1b` is Llama 3.2 1B, 1,235,814,400 ("1.23B"), the head being the token
embedding's own matrix only in the last. Rotary positions pair dimension i with i + half of the head, as the checkpoints
of Hugging Face's transformers do, and not with its neighbour as Meta's do. Dropout, where `dropout` is not 0, follows
the embedding and each residual branch; attention has none.

With `classes` the model has, instead of that head, one that tells classes apart by the last real token, which has seen
all the others; padding stands to the right. Transformers' LlamaForSequenceClassification does the same.

FLOP of a row forward, without `classes`; three times as many in training:

    length * (layers * (4 * dim**2 * (1 + key_heads / heads) + 6 * dim * hidden + 4 * length * dim)
    + 2 * dim * vocabulary)
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.errors import UserError
from suites.models import _checkpoint
from suites.models._checkpoint import joined, need, renamed

SIZES = {
    "tiny": {
        "vocabulary": 320, "positions": 512, "classes": 0, "dim": 128, "heads": 4, "key_heads": 2, "layers": 2,
        "hidden": 344, "theta": 10000.0, "stretch": 1.0, "epsilon": 1e-5, "tied": True, "dropout": 0.0,
    },
    "small": {
        "vocabulary": 320, "positions": 512, "classes": 0, "dim": 256, "heads": 4, "key_heads": 2, "layers": 4,
        "hidden": 688, "theta": 10000.0, "stretch": 1.0, "epsilon": 1e-5, "tied": True, "dropout": 0.0,
    },
    "2-7b": {
        "vocabulary": 32000, "positions": 4096, "classes": 0, "dim": 4096, "heads": 32, "key_heads": 32, "layers": 32,
        "hidden": 11008, "theta": 10000.0, "stretch": 1.0, "epsilon": 1e-5, "tied": False, "dropout": 0.0,
    },
    "3.1-8b": {
        "vocabulary": 128256, "positions": 131072, "classes": 0, "dim": 4096, "heads": 32, "key_heads": 8, "layers": 32,
        "hidden": 14336, "theta": 500000.0, "stretch": 8.0, "epsilon": 1e-5, "tied": False, "dropout": 0.0,
    },
    "3.2-1b": {
        "vocabulary": 128256, "positions": 131072, "classes": 0, "dim": 2048, "heads": 32, "key_heads": 8, "layers": 16,
        "hidden": 8192, "theta": 500000.0, "stretch": 32.0, "epsilon": 1e-5, "tied": True, "dropout": 0.0,
    },
}  # fmt: skip
# Llama 3.1 and 3.2 went on from a model trained on 8,192 positions: they keep the pairs that had turned 4 times there,
# slow down those that had not turned once by the factor `stretch`, and others in between.
UNSTRETCHED_POSITIONS, FEW_TURNS, MANY_TURNS = 8192, 1, 4
HEAD = ("head",)
NAMES = {  # in Hugging Face's checkpoints -> here
    "embed_tokens": "token",
    "layers.*.input_layernorm": "layers.*.attention_norm",
    "layers.*.self_attn.q_proj": "layers.*.query",
    "layers.*.self_attn.k_proj": "layers.*.key",
    "layers.*.self_attn.v_proj": "layers.*.value",
    "layers.*.self_attn.o_proj": "layers.*.attention_output",
    "layers.*.self_attn.rotary_emb.inv_freq": None,  # computed here
    "layers.*.post_attention_layernorm": "layers.*.mlp_norm",
    "layers.*.mlp.gate_proj": "layers.*.gate",
    "layers.*.mlp.up_proj": "layers.*.up",
    "layers.*.mlp.down_proj": "layers.*.mlp_output",
    "norm": "norm",
    "lm_head": "head",
    "score": "head",
}

Attention = Callable[..., Tensor]


def build(
    attention: Attention, *, vocabulary: int = 320, positions: int = 512, classes: int = 0, dim: int = 128,
    heads: int = 4, key_heads: int = 2, layers: int = 2, hidden: int = 344, theta: float = 10000.0,
    stretch: float = 1.0, epsilon: float = 1e-5, tied: bool = True, dropout: float = 0.0,
) -> nn.Module:  # fmt: skip
    """Return a LLaMA with its initial weights; `heads` is a multiple of `key_heads`, `hidden` SwiGLU's width."""
    if dim % heads or heads % key_heads:
        raise UserError(f"{dim} dim, {heads} heads and {key_heads} key_heads", "make each a multiple of the next")
    layer_list = [Layer(attention, dim, heads, key_heads, hidden, epsilon, dropout) for _ in range(layers)]
    turns = rotations(positions, dim // heads, theta, stretch)
    model = LLaMA(vocabulary, classes, dim, layer_list, turns, epsilon, tied, dropout)
    initialise(model)
    return model


class LLaMA(nn.Module):
    """Tokens (batch, length) -> logits (batch, length, vocabulary) of each next token, or (batch, classes)."""

    def __init__(
        self, vocabulary: int, classes: int, dim: int, layers: list["Layer"], rotations: Tensor, epsilon: float,
        tied: bool, dropout: float,
    ) -> None:  # fmt: skip
        super().__init__()
        self.classes = classes
        self.token = nn.Embedding(vocabulary, dim)
        self.register_buffer("rotations", rotations, persistent=False)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(layers)
        self.norm = RMSNorm(dim, epsilon)
        self.head = None if tied and not classes else nn.Linear(dim, classes or vocabulary, bias=False)

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the logits; `mask` (batch, length) is False where a token is padding."""
        length, positions = tokens.size(1), self.rotations.size(1)
        if length > positions:
            raise UserError(f"{length} tokens are too many for {positions} positions", f"--set positions={length}")
        x = self.dropout(self.token(tokens))  # (batch, length, dim)
        rotation = self.rotations[:, :length]  # (2, length, dim / heads)
        keys = None if mask is None else mask[:, None, None, :]  # (batch, 1, 1, length)
        for layer in self.layers:
            x = layer(x, rotation, keys)
        if self.classes:
            x = x[:, -1] if mask is None else x[torch.arange(len(x), device=x.device), mask.sum(1) - 1]
        x = self.norm(x)
        return F.linear(x, self.token.weight) if self.head is None else self.head(x)  # of each token, or of the last


class Layer(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(
        self, attention: Attention, dim: int, heads: int, key_heads: int, hidden: int, epsilon: float, dropout: float
    ) -> None:
        super().__init__()
        self.attention, self.head_dim = attention, dim // heads
        self.widths = [heads * self.head_dim, key_heads * self.head_dim, key_heads * self.head_dim]
        self.attention_norm = RMSNorm(dim, epsilon)
        self.qkv = nn.Linear(dim, sum(self.widths), bias=False)
        self.attention_output = nn.Linear(dim, dim, bias=False)
        self.mlp_norm = RMSNorm(dim, epsilon)
        self.gate = nn.Linear(dim, hidden, bias=False)
        self.up = nn.Linear(dim, hidden, bias=False)
        self.mlp_output = nn.Linear(hidden, dim, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, rotation: Tensor, keys: Tensor | None) -> Tensor:
        """Return the layer's output, (batch, length, dim) like `x`."""
        q, k, v = (
            y.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)  # (batch, heads or key heads, length, dim / heads)
            for y in self.qkv(self.attention_norm(x)).split(self.widths, dim=-1)
        )
        q, k = rotated(q, rotation), rotated(k, rotation)
        y = self.attention(q, k, v, causal=True, mask=keys).transpose(1, 2).flatten(2)  # (batch, length, dim)
        x = x + self.dropout(self.attention_output(y))
        y = self.mlp_norm(x)
        y = F.silu(self.gate(y)) * self.up(y)  # (batch, length, hidden): SwiGLU (Shazeer 2020)
        return x + self.dropout(self.mlp_output(y))


class RMSNorm(nn.Module):
    """x / rms(x) * weight (Zhang and Sennrich 2019), computed in float32 or wider; torch has its own from 2.4."""

    def __init__(self, dim: int, epsilon: float) -> None:
        super().__init__()
        self.weight, self.epsilon = nn.Parameter(torch.ones(dim)), epsilon

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` (..., dim) normalised, in its own type."""
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.epsilon)
        return wide.to(x.dtype) * self.weight


def rotations(positions: int, dim: int, theta: float, stretch: float) -> Tensor:
    """Return cosine and sine, (2, positions, dim), of the angles by which each position turns the pairs of a head.

    Position p turns pair i by p / theta^(2i / dim) (Su et al. 2021, equation 15), the slow pairs by less where they are
    stretched. The sines of each pair's first dimension are negative: `rotated` needs no sign.
    """
    speed = theta ** -(torch.arange(0, dim, 2, dtype=torch.float64) / dim)  # radians a position, (dim / 2)
    turns = UNSTRETCHED_POSITIONS * speed / (2 * math.pi)
    kept = ((turns - FEW_TURNS) / (MANY_TURNS - FEW_TURNS)).clamp(0, 1)
    speed = kept * speed + (1 - kept) * speed / stretch
    angle = torch.arange(positions, dtype=torch.float64)[:, None] * speed  # (positions, dim / 2)
    cosine, sine = angle.cos(), angle.sin()
    return torch.stack([torch.cat([cosine, cosine], dim=1), torch.cat([-sine, sine], dim=1)]).float()


def rotated(x: Tensor, rotation: Tensor) -> Tensor:
    """Return `x` (batch, heads, length, dim) with the pairs of each position turned by its angles."""
    cosine, sine = rotation
    return (x * cosine + x.roll(x.size(-1) // 2, dims=-1) * sine).to(x.dtype)


def initialise(model: nn.Module) -> None:
    """Draw the initial weights: std 0.02, as transformers does; those of the published models are not known."""
    for name, parameter in model.named_parameters():
        if "norm" not in name:
            nn.init.normal_(parameter, std=0.02)


def from_checkpoint(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of `build` that the config.json of a Hugging Face LLaMA gives."""
    need(config, model_type="llama", hidden_act="silu", attention_bias=False, mlp_bias=False)
    # Before transformers 5 the stretching was `rope_scaling`, None without one, and theta stood beside it.
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = "llama3" if "factor" in rope else "default"
    need(
        rope, rope_type=kind, type=kind, original_max_position_embeddings=UNSTRETCHED_POSITIONS,
        low_freq_factor=FEW_TURNS, high_freq_factor=MANY_TURNS,
    )  # fmt: skip
    return {
        "vocabulary": config["vocab_size"],
        "positions": config["max_position_embeddings"],
        "classes": _checkpoint.classes(config, "LlamaForSequenceClassification"),
        "dim": config["hidden_size"],
        "heads": config["num_attention_heads"],
        "key_heads": config.get("num_key_value_heads") or config["num_attention_heads"],
        "layers": config["num_hidden_layers"],
        "hidden": config["intermediate_size"],
        "theta": rope.get("rope_theta") or config.get("rope_theta", 10000.0),
        "stretch": rope.get("factor", 1.0),
        "epsilon": config["rms_norm_eps"],
        "tied": config.get("tie_word_embeddings", False),
    }


def rename(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a Hugging Face LLaMA under the names and in the layout that they have here."""
    return joined(renamed(tensors, NAMES, prefix="model."), ("query", "key", "value"), "qkv")
