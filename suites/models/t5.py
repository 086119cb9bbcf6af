"""T5: encoder-decoder, pre-norm, relative position bias, RMS norm, no biases (Raffel et al. 2020).

Published sizes, by T5's version, with their model cards' or the paper's counts: `v1.0-small` has 60,506,624 parameters
("60 million"), `v1.0-base` 222,903,552 ("220 million"): relu, and the head is the token embedding's own matrix, its
input scaled by dim^-1/2. `v1.1-small` has 76,961,152 ("77M"), `v1.1-base` 247,577,856 ("248M"): `gated`, a feed-forward
of gelu(x W) * x V (Shazeer 2020), and not `tied`, a head of its own. `small`, as in every model here, is ours.

The bias depends on the distance from query to key alone. All layers of a stack share one, which is why it is the
stack's; cross attention has none. Dropout, where `dropout` is not 0, follows the embedding, each residual branch and
each stack; attention and the inside of the feed-forward, where T5 has it too, have none.

With `classes` the model reads a text to tell classes apart, as transformers' T5ForSequenceClassification does: the
decoder is given the text, too, one place later, its first token twice; what it makes of the last real place, where that
class has EOS, goes through a pooler to a head. Padding stands to the right. Dropout follows the pooler, too.

FLOP of a pair forward, without `classes`, where inner is heads * head_dim, and feed
`(4 + 2 * gated) * dim * hidden`; three times as many in training:

    layers * (source * (12 * dim * inner + feed + 4 * source * inner)
    + target * (12 * dim * inner + feed + 4 * (source + target) * inner)) + 2 * target * dim * vocabulary
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
    "tiny": {
        "vocabulary": 320, "classes": 0, "dim": 128, "heads": 4, "head_dim": 32, "layers": 2, "hidden": 512,
        "gated": False, "tied": True, "dropout": 0.0,
    },
    "small": {
        "vocabulary": 320, "classes": 0, "dim": 256, "heads": 4, "head_dim": 64, "layers": 4, "hidden": 1024,
        "gated": False, "tied": True, "dropout": 0.0,
    },
    "v1.0-small": {
        "vocabulary": 32128, "classes": 0, "dim": 512, "heads": 8, "head_dim": 64, "layers": 6, "hidden": 2048,
        "gated": False, "tied": True, "dropout": 0.0,
    },
    "v1.0-base": {
        "vocabulary": 32128, "classes": 0, "dim": 768, "heads": 12, "head_dim": 64, "layers": 12, "hidden": 3072,
        "gated": False, "tied": True, "dropout": 0.0,
    },
    "v1.1-small": {
        "vocabulary": 32128, "classes": 0, "dim": 512, "heads": 6, "head_dim": 64, "layers": 8, "hidden": 1024,
        "gated": True, "tied": False, "dropout": 0.0,
    },
    "v1.1-base": {
        "vocabulary": 32128, "classes": 0, "dim": 768, "heads": 12, "head_dim": 64, "layers": 12, "hidden": 2048,
        "gated": True, "tied": False, "dropout": 0.0,
    },
}  # fmt: skip
EPSILON = 1e-6  # of the norms, as published
BUCKETS, FAR = 32, 128  # of distances (section 2.1): how many, and from where on all share the last
HEAD = ("pooler", "head")
NAMES = {  # in Hugging Face's checkpoints -> here
    "shared": "token",
    "lm_head": "head",
    "classification_head.dense": "pooler",
    "classification_head.out_proj": "head",
    "encoder.embed_tokens": None,  # the token embedding once more
    "encoder.block.0.layer.0.SelfAttention.relative_attention_bias": "encoder_bias.bucket",
    "encoder.block.*.layer.0.SelfAttention.q": "encoder.*.self_attention.query",
    "encoder.block.*.layer.0.SelfAttention.k": "encoder.*.self_attention.key",
    "encoder.block.*.layer.0.SelfAttention.v": "encoder.*.self_attention.value",
    "encoder.block.*.layer.0.SelfAttention.o": "encoder.*.self_attention.output",
    "encoder.block.*.layer.0.layer_norm": "encoder.*.self_attention_norm",
    "encoder.block.*.layer.1.DenseReluDense.wi": "encoder.*.feed_forward.inner",
    "encoder.block.*.layer.1.DenseReluDense.wi_0": "encoder.*.feed_forward.gate",
    "encoder.block.*.layer.1.DenseReluDense.wi_1": "encoder.*.feed_forward.inner",
    "encoder.block.*.layer.1.DenseReluDense.wo": "encoder.*.feed_forward.outer",
    "encoder.block.*.layer.1.layer_norm": "encoder.*.feed_forward_norm",
    "encoder.final_layer_norm": "encoder_norm",
    "decoder.embed_tokens": None,
    "decoder.block.0.layer.0.SelfAttention.relative_attention_bias": "decoder_bias.bucket",
    "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias": None,  # in the oldest checkpoints, unused
    "decoder.block.*.layer.0.SelfAttention.q": "decoder.*.self_attention.query",
    "decoder.block.*.layer.0.SelfAttention.k": "decoder.*.self_attention.key",
    "decoder.block.*.layer.0.SelfAttention.v": "decoder.*.self_attention.value",
    "decoder.block.*.layer.0.SelfAttention.o": "decoder.*.self_attention.output",
    "decoder.block.*.layer.0.layer_norm": "decoder.*.self_attention_norm",
    "decoder.block.*.layer.1.EncDecAttention.q": "decoder.*.cross_attention.query",
    "decoder.block.*.layer.1.EncDecAttention.k": "decoder.*.cross_attention.key",
    "decoder.block.*.layer.1.EncDecAttention.v": "decoder.*.cross_attention.value",
    "decoder.block.*.layer.1.EncDecAttention.o": "decoder.*.cross_attention.output",
    "decoder.block.*.layer.1.layer_norm": "decoder.*.cross_attention_norm",
    "decoder.block.*.layer.2.DenseReluDense.wi": "decoder.*.feed_forward.inner",
    "decoder.block.*.layer.2.DenseReluDense.wi_0": "decoder.*.feed_forward.gate",
    "decoder.block.*.layer.2.DenseReluDense.wi_1": "decoder.*.feed_forward.inner",
    "decoder.block.*.layer.2.DenseReluDense.wo": "decoder.*.feed_forward.outer",
    "decoder.block.*.layer.2.layer_norm": "decoder.*.feed_forward_norm",
    "decoder.final_layer_norm": "decoder_norm",
}

Attention = Callable[..., Tensor]


def build(
    attention: Attention, *, vocabulary: int = 320, classes: int = 0, dim: int = 128, heads: int = 4,
    head_dim: int = 32, layers: int = 2, hidden: int = 512, gated: bool = False, tied: bool = True,
    dropout: float = 0.0,
) -> nn.Module:  # fmt: skip
    """Return a T5 of `layers` encoder and `layers` decoder layers with its initial weights."""

    def attend() -> MultiHeadAttention:
        return MultiHeadAttention(attention, dim, heads, head_dim)

    def feed() -> FeedForward:
        return FeedForward(dim, hidden, gated)

    encoder = [EncoderLayer(dim, attend(), feed(), dropout) for _ in range(layers)]
    decoder = [DecoderLayer(dim, attend(), attend(), feed(), dropout) for _ in range(layers)]
    model = T5(vocabulary, classes, dim, heads, encoder, decoder, tied, dropout)
    initialise(model, head_dim)
    return model


class T5(nn.Module):
    """Source (batch, Ls) and target (batch, Lt) -> logits (batch, Lt, vocabulary) of each next target token.

    With `classes`: source alone -> logits (batch, classes).
    """

    def __init__(
        self, vocabulary: int, classes: int, dim: int, heads: int, encoder: list["EncoderLayer"],
        decoder: list["DecoderLayer"], tied: bool, dropout: float,
    ) -> None:  # fmt: skip
        super().__init__()
        self.classes = classes
        self.token = nn.Embedding(vocabulary, dim)
        self.encoder_bias = RelativeBias(heads, causal=False)
        self.encoder = nn.ModuleList(encoder)
        self.encoder_norm = RMSNorm(dim)
        self.decoder_bias = RelativeBias(heads, causal=True)
        self.decoder = nn.ModuleList(decoder)
        self.decoder_norm = RMSNorm(dim)
        if classes:
            self.pooler = nn.Linear(dim, dim)
            self.head = nn.Linear(dim, classes)
        else:
            self.head = None if tied else nn.Linear(dim, vocabulary, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, source: Tensor, target: Tensor | None = None, mask: Tensor | None = None,
        target_mask: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Return the logits; `mask` (batch, Ls) and `target_mask` (batch, Lt) are False where a token is padding."""
        if self.classes:
            if target is not None:
                raise UserError("this model tells classes apart and writes no target", "--set classes=0")
            target = torch.cat([source[:, :1], source[:, :-1]], dim=1)  # causal: what is real sees no padding
        elif target is None:
            raise UserError("this model writes a target and is given none", "to tell classes apart, --set classes=N")
        source_keys = None if mask is None else mask[:, None, None, :]  # (batch, 1, 1, Ls)
        target_keys = None if target_mask is None else target_mask[:, None, None, :]  # (batch, 1, 1, Lt)
        memory, bias = self.dropout(self.token(source)), self.encoder_bias(source.size(1))
        for layer in self.encoder:
            memory = layer(memory, bias, source_keys)
        memory = self.dropout(self.encoder_norm(memory))  # (batch, Ls, dim)
        x, bias = self.dropout(self.token(target)), self.decoder_bias(target.size(1))
        for layer in self.decoder:
            x = layer(x, memory, bias, target_keys, source_keys)
        x = self.dropout(self.decoder_norm(x))  # (batch, Lt, dim)
        if self.classes:
            x = x[:, -1] if mask is None else x[torch.arange(len(x), device=x.device), mask.sum(1) - 1]
            return self.head(self.dropout(torch.tanh(self.pooler(x))))  # (batch, classes)
        return F.linear(x * x.size(-1) ** -0.5, self.token.weight) if self.head is None else self.head(x)


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward, each as x + branch(norm(x))."""

    def __init__(
        self, dim: int, self_attention: "MultiHeadAttention", feed_forward: "FeedForward", dropout: float
    ) -> None:
        super().__init__()
        self.self_attention_norm = RMSNorm(dim)
        self.self_attention = self_attention
        self.feed_forward_norm = RMSNorm(dim)
        self.feed_forward = feed_forward
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, bias: Tensor, keys: Tensor | None) -> Tensor:
        """Return the layer's output, (batch, Ls, dim) like `x`; `bias` is (1, heads, Ls, Ls)."""
        y = self.self_attention_norm(x)
        x = x + self.dropout(self.self_attention(y, y, causal=False, mask=keys, bias=bias))
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))


class DecoderLayer(nn.Module):
    """Causal self-attention, cross attention to the encoder's output and feed-forward, each as x + branch(norm(x))."""

    def __init__(
        self, dim: int, self_attention: "MultiHeadAttention", cross_attention: "MultiHeadAttention",
        feed_forward: "FeedForward", dropout: float,
    ) -> None:  # fmt: skip
        super().__init__()
        self.self_attention_norm = RMSNorm(dim)
        self.self_attention = self_attention
        self.cross_attention_norm = RMSNorm(dim)
        self.cross_attention = cross_attention
        self.feed_forward_norm = RMSNorm(dim)
        self.feed_forward = feed_forward
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Tensor, memory: Tensor, bias: Tensor, keys: Tensor | None, memory_keys: Tensor | None
    ) -> Tensor:
        """Return the layer's output, (batch, Lt, dim) like `x`; memory is (batch, Ls, dim), bias (1, heads, Lt, Lt)."""
        y = self.self_attention_norm(x)
        x = x + self.dropout(self.self_attention(y, y, causal=True, mask=keys, bias=bias))
        y = self.cross_attention_norm(x)
        x = x + self.dropout(self.cross_attention(y, memory, causal=False, mask=memory_keys))
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))


class MultiHeadAttention(nn.Module):
    """Attention of `heads` heads whose scores are not scaled: T5 draws smaller initial weights instead."""

    def __init__(self, attention: Attention, dim: int, heads: int, head_dim: int) -> None:
        super().__init__()
        self.attention, self.head_dim = attention, head_dim
        self.query = nn.Linear(dim, heads * head_dim, bias=False)
        self.key = nn.Linear(dim, heads * head_dim, bias=False)
        self.value = nn.Linear(dim, heads * head_dim, bias=False)
        self.output = nn.Linear(heads * head_dim, dim, bias=False)

    def forward(self, x: Tensor, memory: Tensor, **options: Any) -> Tensor:
        """Return what each place of `x` (batch, Lq, dim) reads from `memory` (batch, Lk, dim)."""
        q, k, v = (
            y.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)  # (batch, heads, length, head_dim)
            for y in (self.query(x), self.key(memory), self.value(memory))
        )
        q = q * math.sqrt(self.head_dim)  # undoes the scaling that is the attention's
        y = self.attention(q, k, v, **options).transpose(1, 2).flatten(2)  # (batch, Lq, heads * head_dim)
        return self.output(y)


class FeedForward(nn.Module):
    """relu(x W) W_o, or gelu(x W_g) * (x W) W_o where it is gated."""

    def __init__(self, dim: int, hidden: int, gated: bool) -> None:
        super().__init__()
        self.gate = nn.Linear(dim, hidden, bias=False) if gated else None
        self.inner = nn.Linear(dim, hidden, bias=False)
        self.outer = nn.Linear(hidden, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the output, (..., dim) like `x`."""
        y = self.inner(x)
        return self.outer(F.relu(y) if self.gate is None else F.gelu(self.gate(x), approximate="tanh") * y)


class RelativeBias(nn.Module):
    """A learned number a head for each bucket of distances from query to key."""

    def __init__(self, heads: int, causal: bool) -> None:
        super().__init__()
        self.causal = causal
        self.bucket = nn.Embedding(BUCKETS, heads)

    def forward(self, length: int) -> Tensor:
        """Return the bias (1, heads, length, length) of each query and key."""
        distance = torch.arange(1 - length, length, device=self.bucket.weight.device)
        by_distance = self.bucket(buckets(distance, self.causal)).T.contiguous()  # (heads, 2 * length - 1)
        # Window s of `length` distances begins with s + 1 - length; query i's begins with that to key 0, -i.
        return by_distance.unfold(1, length, 1).flip(1)[None]


class RMSNorm(nn.Module):
    """x / rms(x) * weight (Zhang and Sennrich 2019), computed in float32 or wider; torch has its own from 2.4."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` (..., dim) normalised, in its own type."""
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + EPSILON)
        return wide.to(x.dtype) * self.weight


def buckets(distance: Tensor, causal: bool) -> Tensor:
    """Return the bucket of each distance, the key's position minus the query's: wider ones with growing distance.

    The nearest have one each, those further off share, on a logarithmic scale. Where queries see both ways, the second
    half of the buckets is for the keys behind; where they do not, those keys are masked, whatever their bucket.
    """
    count = BUCKETS if causal else BUCKETS // 2
    exact = count // 2
    size = (-distance).clamp(min=0) if causal else distance.abs()
    share = torch.log(size.clamp(min=exact) / exact) / math.log(FAR / exact)  # 0 at the last exact one, 1 at FAR
    wide = (exact + (share * (count - exact)).long()).clamp(max=count - 1)
    bucket = torch.where(size < exact, size, wide)
    return bucket if causal else bucket + (distance > 0) * count


def initialise(model: nn.Module, head_dim: int) -> None:
    """Draw T5's initial weights: std 1 / sqrt(inputs), the queries' as much smaller as the scores are not scaled."""
    for name, parameter in model.named_parameters():
        if name == "token.weight":
            nn.init.normal_(parameter)
        elif name.endswith(".bias"):  # the pooler's and the head's: nothing else has one
            nn.init.zeros_(parameter)
        elif "bias" in name:
            nn.init.normal_(parameter, std=model.token.embedding_dim**-0.5)
        elif "norm" not in name:
            inputs = parameter.size(1) * (head_dim if "query" in name else 1)
            nn.init.normal_(parameter, std=inputs**-0.5)


def from_checkpoint(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of `build` that the config.json of a Hugging Face T5 gives."""
    gated = config.get("feed_forward_proj") == "gated-gelu"
    need(
        config, model_type="t5", feed_forward_proj="gated-gelu" if gated else "relu", layer_norm_epsilon=EPSILON,
        relative_attention_num_buckets=BUCKETS, relative_attention_max_distance=FAR,
        num_decoder_layers=config["num_layers"],
    )  # fmt: skip
    return {
        "vocabulary": config["vocab_size"],
        "classes": _checkpoint.classes(config, "T5ForSequenceClassification"),
        "dim": config["d_model"],
        "heads": config["num_heads"],
        "head_dim": config["d_kv"],
        "layers": config["num_layers"],
        "hidden": config["d_ff"],
        "gated": gated,
        # transformers 5 says by a key of its own whether the head is scaled, as only a tied one is here.
        "tied": config.get("scale_decoder_outputs", config.get("tie_word_embeddings", True)),
    }


def rename(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a Hugging Face T5 under the names that they have here."""
    found = renamed(tensors, NAMES, prefix="transformer.")
    if "token.weight" in found:  # an own head may be the embedding's matrix after all
        found.setdefault("head.weight", found["token.weight"])
    return found
