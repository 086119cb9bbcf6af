"""The encoder-decoder Transformer: post-norm, sinusoidal positions, shared embedding (Vaswani et al. 2017).

This project started from a sketch of it: token embedding, positional encoding, `nn.Transformer`, output projection. The
sketch never defined its PositionalEncoding, passed dropout where `nn.Transformer` expects the number of decoder layers,
gave one input where source and target are two, and masked nothing, so that the decoder saw the tokens it was to predict
and everything saw the padding. Here positions are section 3.5's, every size is given by name, source and target come
apart, the target is causal and padding is masked, in the source also for the decoder's cross attention.

The layers compute what `nn.Transformer` with its defaults computes (relu, layer norm eps 1e-5, a last norm after each
stack, which the paper lacks), dropout apart: where `dropout` is not 0 it follows the embedding and each residual
branch, as in the paper; attention has none. `base` is the paper's: 63,084,544 parameters (its table says 65 million)
with one matrix as source embedding, target embedding and output projection.

With `classes` the model reads a text to tell classes apart, as BART does (Lewis et al. 2020, section 3.1): the decoder
is given the text, too, one place later, its first token twice; what it makes of the last real place goes through a
pooler to a head. Padding stands to the right. Dropout follows the pooler, too.

FLOP of a pair forward, without `classes`; three times as many in training:

    layers * (source * (28 * dim**2 + 4 * source * dim) + target * (28 * dim**2 + 4 * (source + target) * dim))
    + 2 * target * dim * vocabulary
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.errors import UserError

SIZES = {
    "tiny": {"vocabulary": 320, "positions": 512, "classes": 0, "dim": 128, "heads": 4, "layers": 2, "dropout": 0.0},
    "small": {"vocabulary": 320, "positions": 512, "classes": 0, "dim": 256, "heads": 4, "layers": 4, "dropout": 0.0},
    "base": {
        "vocabulary": 37000, "positions": 1024, "classes": 0, "dim": 512, "heads": 8, "layers": 6, "dropout": 0.0,
    },
}  # fmt: skip
HEAD = ("pooler", "head")

Attention = Callable[..., Tensor]


def build(
    attention: Attention, *, vocabulary: int = 320, positions: int = 512, classes: int = 0, dim: int = 128,
    heads: int = 4, layers: int = 2, dropout: float = 0.0,
) -> nn.Module:  # fmt: skip
    """Return a Transformer of `layers` encoder and `layers` decoder layers with its initial weights."""
    model = EncoderDecoder(attention, vocabulary, positions, classes, dim, heads, layers, dropout)
    initialise(model)
    return model


class EncoderDecoder(nn.Module):
    """Source (batch, Ls) and target (batch, Lt) -> logits (batch, Lt, vocabulary) of each next target token.

    With `classes`: source alone -> logits (batch, classes).
    """

    def __init__(
        self, attention: Attention, vocabulary: int, positions: int, classes: int, dim: int, heads: int, layers: int,
        dropout: float,
    ) -> None:  # fmt: skip
        super().__init__()
        self.classes = classes
        self.token = nn.Embedding(vocabulary, dim)
        self.register_buffer("positions", sinusoids(positions, dim), persistent=False)
        self.dropout = nn.Dropout(dropout)
        self.encoder = nn.ModuleList([EncoderLayer(attention, dim, heads, dropout) for _ in range(layers)])
        self.encoder_norm = nn.LayerNorm(dim)
        self.decoder = nn.ModuleList([DecoderLayer(attention, dim, heads, dropout) for _ in range(layers)])
        self.decoder_norm = nn.LayerNorm(dim)
        if classes:
            self.pooler = nn.Linear(dim, dim)
            self.head = nn.Linear(dim, classes)

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
        memory = self.embed(source)  # (batch, Ls, dim)
        for layer in self.encoder:
            memory = layer(memory, source_keys)
        memory = self.encoder_norm(memory)
        x = self.embed(target)  # (batch, Lt, dim)
        for layer in self.decoder:
            x = layer(x, memory, target_keys, source_keys)
        x = self.decoder_norm(x)  # (batch, Lt, dim)
        if self.classes:
            x = x[:, -1] if mask is None else x[torch.arange(len(x), device=x.device), mask.sum(1) - 1]
            return self.head(self.dropout(torch.tanh(self.pooler(x))))  # (batch, classes)
        return F.linear(x, self.token.weight)  # (batch, Lt, vocabulary)

    def embed(self, tokens: Tensor) -> Tensor:
        """Return token embedding times sqrt(dim) plus positions (sections 3.4 and 3.5), (batch, length, dim)."""
        length, positions = tokens.size(1), self.positions.size(0)
        if length > positions:
            raise UserError(f"{length} tokens are too many for {positions} positions", f"--set positions={length}")
        return self.dropout(self.token(tokens) * math.sqrt(self.token.embedding_dim) + self.positions[:length])


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward, each as norm(x + branch(x))."""

    def __init__(self, attention: Attention, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.self_attention = MultiHeadAttention(attention, dim, heads)
        self.self_attention_norm = nn.LayerNorm(dim)
        self.feed_forward = FeedForward(dim)
        self.feed_forward_norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, keys: Tensor | None) -> Tensor:
        """Return the layer's output, (batch, Ls, dim) like `x`."""
        x = self.self_attention_norm(x + self.dropout(self.self_attention(x, x, causal=False, mask=keys)))
        return self.feed_forward_norm(x + self.dropout(self.feed_forward(x)))


class DecoderLayer(nn.Module):
    """Causal self-attention, cross attention to the encoder's output and feed-forward, each as norm(x + branch(x))."""

    def __init__(self, attention: Attention, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.self_attention = MultiHeadAttention(attention, dim, heads)
        self.self_attention_norm = nn.LayerNorm(dim)
        self.cross_attention = MultiHeadAttention(attention, dim, heads)
        self.cross_attention_norm = nn.LayerNorm(dim)
        self.feed_forward = FeedForward(dim)
        self.feed_forward_norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, memory: Tensor, keys: Tensor | None, memory_keys: Tensor | None) -> Tensor:
        """Return the layer's output, (batch, Lt, dim) like `x`; `memory` is (batch, Ls, dim)."""
        x = self.self_attention_norm(x + self.dropout(self.self_attention(x, x, causal=True, mask=keys)))
        y = self.cross_attention(x, memory, causal=False, mask=memory_keys)
        x = self.cross_attention_norm(x + self.dropout(y))
        return self.feed_forward_norm(x + self.dropout(self.feed_forward(x)))


class MultiHeadAttention(nn.Module):
    """Concat(head_1, ..., head_h) W^O with head_i = Attention(x W^Q_i, memory W^K_i, memory W^V_i) (section 3.2.2)."""

    def __init__(self, attention: Attention, dim: int, heads: int) -> None:
        super().__init__()
        self.attention, self.heads = attention, heads
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.output = nn.Linear(dim, dim)

    def forward(self, x: Tensor, memory: Tensor, *, causal: bool, mask: Tensor | None) -> Tensor:
        """Return what each place of `x` (batch, Lq, dim) reads from `memory` (batch, Lk, dim)."""
        q, k, v = (
            y.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (batch, heads, length, dim / heads)
            for y in (self.query(x), self.key(memory), self.value(memory))
        )
        y = self.attention(q, k, v, causal=causal, mask=mask).transpose(1, 2).flatten(2)  # (batch, Lq, dim)
        return self.output(y)


class FeedForward(nn.Module):
    """max(0, x W_1 + b_1) W_2 + b_2 (section 3.3)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.inner = nn.Linear(dim, 4 * dim)
        self.outer = nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Return the output, (..., dim) like `x`."""
        return self.outer(F.relu(self.inner(x)))


def sinusoids(positions: int, dim: int) -> Tensor:
    """Return PE (positions, dim): sin(position / 10000^(2i / dim)) in column 2i, the cosine in column 2i + 1."""
    position = torch.arange(positions, dtype=torch.float64)[:, None]
    angle = position / 10000 ** (torch.arange(0, dim, 2) / dim)  # (positions, dim / 2)
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1).float()


def initialise(model: nn.Module) -> None:
    """Draw the initial weights: Xavier's uniform as in `nn.Transformer`; the embedding has std 1 once scaled."""
    for name, parameter in model.named_parameters():
        if name == "token.weight":
            nn.init.normal_(parameter, std=parameter.size(1) ** -0.5)
        elif name.endswith("bias"):
            nn.init.zeros_(parameter)
        elif "norm" not in name:
            nn.init.xavier_uniform_(parameter)
