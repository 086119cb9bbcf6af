"""BERT: encoder, post-norm, segment and position embeddings, masked-language-model head (Devlin et al. 2018).

`base` is the published BERT-base, uncased: 109,514,298 parameters ("110M"), counting embeddings, layers and the MLM
head (its transform and its bias; its matrix is the token embedding's own) but no pooler, which that head does not use.
With `classes` the model has, instead of that head, the pooler and a head that tells classes apart. Dropout, where
`dropout` is not 0, follows the embedding, each residual branch and the pooler; attention has none.

With `ngrams` above 0 the embedding of a place adds those of the n-grams that end there, runs of 2 to 8 tokens, each
hashed to one of that many rows of a table (Pagnoni et al. 2024, https://arxiv.org/abs/2412.09871, take 3 to 8). So a
model of bytes has words from its first layer on. Rows begin at 0 and count sqrt(dim) times, as each is seldom trained.

FLOP of a row forward, without `classes`; three times as many in training:

    length * (layers * (24 * dim**2 + 4 * length * dim) + 2 * dim**2 + 2 * dim * vocabulary)
"""

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
        "vocabulary": 320, "positions": 512, "classes": 0, "dim": 128, "heads": 4, "layers": 2, "dropout": 0.0,
        "pool": "first", "ngrams": 0,
    },
    "small": {
        "vocabulary": 320, "positions": 512, "classes": 0, "dim": 256, "heads": 4, "layers": 4, "dropout": 0.0,
        "pool": "first", "ngrams": 0,
    },
    "base": {
        "vocabulary": 30522, "positions": 512, "classes": 0, "dim": 768, "heads": 12, "layers": 12, "dropout": 0.0,
        "pool": "first", "ngrams": 0,
    },
}  # fmt: skip
EPSILON = 1e-12  # of the layer norms, as published
POOLS = ("first", "mean", "mean_first_last")
NGRAMS = tuple(range(2, 9))  # tokens; older releases compile a range otherwise than they run it
MULTIPLIER, PRIME = 1_000_003, 2**31 - 1  # of the hash of an n-gram, whose products stay below 2**52
HEAD = ("transform", "transform_norm", "bias", "pooler", "head")  # what depends on what a model is trained for
ADDED = ("ngram",)  # what checkpoints need not have
NAMES = {  # in Hugging Face's checkpoints -> here
    "embeddings.word_embeddings": "token",
    "embeddings.token_type_embeddings": "segment",
    "embeddings.position_embeddings": "position",
    "embeddings.LayerNorm": "norm",
    "encoder.layer.*.attention.self.query": "layers.*.query",
    "encoder.layer.*.attention.self.key": "layers.*.key",
    "encoder.layer.*.attention.self.value": "layers.*.value",
    "encoder.layer.*.attention.output.dense": "layers.*.attention_output",
    "encoder.layer.*.attention.output.LayerNorm": "layers.*.attention_norm",
    "encoder.layer.*.intermediate.dense": "layers.*.intermediate",
    "encoder.layer.*.output.dense": "layers.*.output",
    "encoder.layer.*.output.LayerNorm": "layers.*.output_norm",
    "cls.predictions.transform.dense": "transform",
    "cls.predictions.transform.LayerNorm": "transform_norm",
    "cls.predictions.bias": "bias",
    "cls.predictions.decoder": None,  # the token embedding's matrix and `bias` once more
    "cls.seq_relationship": None,  # next-sentence prediction, which this model does not have
    "pooler.dense": "pooler",
    "classifier": "head",
    "embeddings.position_ids": None,  # 0, 1, 2, ...
}

Attention = Callable[..., Tensor]


def build(
    attention: Attention, *, vocabulary: int = 320, positions: int = 512, classes: int = 0, dim: int = 128,
    heads: int = 4, layers: int = 2, dropout: float = 0.0, pool: str = "first", ngrams: int = 0,
) -> nn.Module:  # fmt: skip
    """Return a BERT with its initial weights.

    It tells classes by the `first` token, as published, by the `mean` of all, or by `mean_first_last`, that of the
    embedding and the last layer (Gao et al. 2021, https://arxiv.org/abs/2104.08821).
    """
    if pool not in POOLS:
        raise UserError(f"pool is {pool!r}", f"--set pool={', '.join(POOLS[:-1])} or {POOLS[-1]}")
    model = BERT(attention, vocabulary, positions, classes, dim, heads, layers, dropout, pool, ngrams)
    initialise(model)
    return model


class BERT(nn.Module):
    """Tokens (batch, length) -> logits (batch, length, vocabulary) of the token in each place, or (batch, classes)."""

    def __init__(
        self, attention: Attention, vocabulary: int, positions: int, classes: int, dim: int, heads: int, layers: int,
        dropout: float, pool: str, ngrams: int,
    ) -> None:  # fmt: skip
        super().__init__()
        self.classes, self.pool = classes, pool
        self.token = nn.Embedding(vocabulary, dim)
        self.segment = nn.Embedding(2, dim)
        self.position = nn.Embedding(positions, dim)
        self.ngram = nn.Embedding(ngrams, dim) if ngrams else None
        self.norm = nn.LayerNorm(dim, eps=EPSILON)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList([Layer(attention, dim, heads, dropout) for _ in range(layers)])
        if classes:
            self.pooler = nn.Linear(dim, dim)
            self.head = nn.Linear(dim, classes)
        else:
            self.transform = nn.Linear(dim, dim)
            self.transform_norm = nn.LayerNorm(dim, eps=EPSILON)
            self.bias = nn.Parameter(torch.empty(vocabulary))

    def forward(self, tokens: Tensor, segments: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """Return the logits; `segments` (batch, length) is 0 or 1, `mask` (batch, length) False where padding is."""
        length, positions = tokens.size(1), self.position.num_embeddings
        if length > positions:
            raise UserError(f"{length} tokens are too many for {positions} positions", f"--set positions={length}")
        segments = torch.zeros_like(tokens) if segments is None else segments
        x = self.token(tokens) + self.segment(segments) + self.position(torch.arange(length, device=tokens.device))
        if self.ngram is not None:
            found = self.ngram(hashed(tokens, self.ngram.num_embeddings))  # (batch, length, sizes, dim)
            x = x + self.ngram.embedding_dim**0.5 * found.sum(2)
        embedded = x = self.dropout(self.norm(x))  # (batch, length, dim)
        keys = None if mask is None else mask[:, None, None, :]  # (batch, 1, 1, length)
        for layer in self.layers:
            x = layer(x, keys)
        if self.classes:
            x = (x + embedded) / 2 if self.pool == "mean_first_last" else x
            x = x[:, 0] if self.pool == "first" else mean(x, mask)  # (batch, dim)
            return self.head(self.dropout(torch.tanh(self.pooler(x))))  # (batch, classes)
        y = F.gelu(self.transform(x)).to(x.dtype)  # under bf16 autocast on CPU, torch 1.13's layer norm takes fp32 only
        x = self.transform_norm(y)
        return F.linear(x, self.token.weight, self.bias)  # (batch, length, vocabulary)


class Layer(nn.Module):
    """norm(x + attention(x)), then norm(x + feed_forward(x))."""

    def __init__(self, attention: Attention, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention, self.heads = attention, heads
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.attention_output = nn.Linear(dim, dim)
        self.attention_norm = nn.LayerNorm(dim, eps=EPSILON)
        self.intermediate = nn.Linear(dim, 4 * dim)
        self.output = nn.Linear(4 * dim, dim)
        self.output_norm = nn.LayerNorm(dim, eps=EPSILON)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, keys: Tensor | None) -> Tensor:
        """Return the layer's output, (batch, length, dim) like `x`."""
        q, k, v = (
            project(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (batch, heads, length, dim / heads)
            for project in (self.query, self.key, self.value)
        )
        y = self.attention(q, k, v, causal=False, mask=keys).transpose(1, 2).flatten(2)  # (batch, length, dim)
        x = self.attention_norm(x + self.dropout(self.attention_output(y)))
        y = F.gelu(self.intermediate(x))  # (batch, length, 4 dim)
        return self.output_norm(x + self.dropout(self.output(y)))


def hashed(tokens: Tensor, buckets: int) -> Tensor:
    """Return the bucket of each n-gram that ends at each token: (batch, length, sizes of NGRAMS), int64."""
    length, longest = tokens.size(1), NGRAMS[-1]
    padded = F.pad(tokens + 1, (longest - 1, 0))  # 0 before a text begins
    number, found = torch.zeros_like(tokens), []
    for size in range(1, longest + 1):  # one token further back each time
        number = (number * MULTIPLIER + padded[:, longest - size : longest - size + length]) % PRIME
        if size in NGRAMS:
            found.append(number % buckets)
    return torch.stack(found, -1)


def mean(x: Tensor, mask: Tensor | None) -> Tensor:
    """Return the mean over the real positions (Reimers and Gurevych 2019, https://arxiv.org/abs/1908.10084)."""
    if mask is None:
        return x.mean(1)
    weight = mask.to(x.dtype)[:, :, None]  # (batch, length, 1)
    return (x * weight).sum(1) / weight.sum(1)


def initialise(model: nn.Module) -> None:
    """Draw BERT's initial weights: std 0.02, biases 0; n-grams 0, so that a checkpoint without them stays as it was."""
    for name, parameter in model.named_parameters():
        if name.endswith("bias") or name.startswith("ngram"):
            nn.init.zeros_(parameter)
        elif "norm" not in name:
            nn.init.normal_(parameter, std=0.02)


def from_checkpoint(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of `build` that the config.json of a Hugging Face BERT gives."""
    need(
        config, model_type="bert", hidden_act="gelu", layer_norm_eps=EPSILON, position_embedding_type="absolute",
        is_decoder=False, tie_word_embeddings=True,
    )  # fmt: skip
    return {
        "vocabulary": config["vocab_size"],
        "positions": config["max_position_embeddings"],
        "classes": _checkpoint.classes(config, "BertForSequenceClassification"),
        "dim": config["hidden_size"],
        "heads": config["num_attention_heads"],
        "layers": config["num_hidden_layers"],
    }


def rename(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a Hugging Face BERT under the names that they have here."""
    modern = {  # the oldest checkpoints call weight and bias of a layer norm so
        name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias"): tensor
        for name, tensor in tensors.items()
    }
    return renamed(modern, NAMES, prefix="bert.")
