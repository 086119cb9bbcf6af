"""ViT: encoder of image patches, pre-norm, class token, learned positions (Dosovitskiy et al. 2021).

`base` is ViT-B/16 and `large` ViT-L/16 at 224 pixels with the head for ImageNet's 1000 classes: 86,567,656 and
304,326,632 parameters. `tiny` and `small` are for the digits, 8 pixels wide. With `classes` 0 the model has, instead of
the head that tells classes apart, what masked-image pretraining needs: a token that stands for a masked patch and a
linear head that gives each patch its pixels (SimMIM: Xie et al. 2022). Dropout, where `dropout` is not 0, follows the
embedding and each residual branch; attention has none.

FLOP of an image forward; three times as many in training:

    length * layers * (24 * dim**2 + 4 * length * dim) + 2 * (length - 1) * channels * patch**2 * dim
    + 2 * dim * classes
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.errors import UserError
from suites.models._checkpoint import need, renamed

SIZES = {
    "tiny": {
        "image": 8, "patch": 2, "channels": 1, "classes": 10, "dim": 128, "heads": 4, "layers": 2, "dropout": 0.0,
    },
    "small": {
        "image": 8, "patch": 2, "channels": 1, "classes": 10, "dim": 256, "heads": 4, "layers": 4, "dropout": 0.0,
    },
    "base": {
        "image": 224, "patch": 16, "channels": 3, "classes": 1000, "dim": 768, "heads": 12, "layers": 12,
        "dropout": 0.0,
    },
    "large": {
        "image": 224, "patch": 16, "channels": 3, "classes": 1000, "dim": 1024, "heads": 16, "layers": 24,
        "dropout": 0.0,
    },
}  # fmt: skip
EPSILON = 1e-12  # of the layer norms, as the configurations of the published checkpoints have it
HEAD = ("head", "mask_token", "pixels")
NAMES = {  # in Hugging Face's checkpoints -> here
    "embeddings.cls_token": "class_token",
    "embeddings.mask_token": "mask_token",
    "embeddings.position_embeddings": "position",
    "embeddings.patch_embeddings.projection": "patch",
    "encoder.layer.*.layernorm_before": "layers.*.attention_norm",
    "encoder.layer.*.attention.attention.query": "layers.*.query",
    "encoder.layer.*.attention.attention.key": "layers.*.key",
    "encoder.layer.*.attention.attention.value": "layers.*.value",
    "encoder.layer.*.attention.output.dense": "layers.*.attention_output",
    "encoder.layer.*.layernorm_after": "layers.*.mlp_norm",
    "encoder.layer.*.intermediate.dense": "layers.*.mlp",
    "encoder.layer.*.output.dense": "layers.*.mlp_output",
    "layernorm": "norm",
    "classifier": "head",
    "decoder.0": "pixels",
    "pooler.dense": None,  # what this model does not have
}

Attention = Callable[..., Tensor]


def build(
    attention: Attention, *, image: int = 8, patch: int = 2, channels: int = 1, classes: int = 10, dim: int = 128,
    heads: int = 4, layers: int = 2, dropout: float = 0.0,
) -> nn.Module:  # fmt: skip
    """Return a ViT for square images of `image` pixels a side, in patches of `patch`, with its initial weights."""
    if image % patch:
        raise UserError(f"patches of {patch} pixels do not fill an image of {image}", "--set patch=N, a divisor")
    model = ViT(attention, image, patch, channels, classes, dim, heads, layers, dropout)
    initialise(model)
    return model


class ViT(nn.Module):
    """Images (batch, channels, height, width) -> logits (batch, classes), or with `classes` 0 such images again."""

    def __init__(
        self, attention: Attention, image: int, patch: int, channels: int, classes: int, dim: int, heads: int,
        layers: int, dropout: float,
    ) -> None:  # fmt: skip
        super().__init__()
        self.shape, self.side, self.classes = (channels, image, image), image // patch, classes
        self.length = 1 + self.side**2
        """Tokens that an image makes: its patches and the class token."""
        self.patch = nn.Conv2d(channels, dim, kernel_size=patch, stride=patch)
        self.class_token = nn.Parameter(torch.empty(dim))
        self.position = nn.Parameter(torch.empty(self.length, dim))
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList([Layer(attention, dim, heads, dropout) for _ in range(layers)])
        self.norm = nn.LayerNorm(dim, eps=EPSILON)
        if classes:
            self.head = nn.Linear(dim, classes)
        else:
            self.mask_token = nn.Parameter(torch.empty(dim))
            self.pixels = nn.Linear(dim, channels * patch**2)

    def forward(self, images: Tensor, masked: Tensor | None = None) -> Tensor:
        """Return the logits, or the images restored; `masked` (batch, patches) is True where a patch is hidden."""
        if images.shape[1:] != self.shape:
            raise UserError(
                f"images of {tuple(images.shape[1:])} channels, height and width do not fit a model of {self.shape}",
                f"--set image={images.size(-1)} --set channels={images.size(1)}",
            )
        if self.classes and masked is not None:
            raise UserError(
                "this ViT has the head of classes, and masked patches need that of pixels", "--set classes=0"
            )
        if not self.classes and masked is None:
            raise UserError(
                "this ViT has the head of pixels, for masked patches, and classes are asked for", "--set classes=N"
            )
        dtype = self.position.dtype
        x = self.patch(images.to(dtype)).flatten(2).transpose(1, 2).to(dtype)  # (batch, patches, dim)
        if masked is not None:
            x = torch.where(masked[..., None], self.mask_token, x)
        x = torch.cat([self.class_token.expand(x.size(0), 1, -1), x], dim=1)  # (batch, length, dim)
        x = self.dropout(x + self.position)
        for layer in self.layers:
            x = layer(x)
        x = self.norm(x)
        return self.head(x[:, 0]) if self.classes else self.restored(x[:, 1:])

    def restored(self, x: Tensor) -> Tensor:
        """Return the pixels of each patch (batch, patches, dim), put in its place: (batch, channels, height, width)."""
        channels, size, _ = self.shape
        pixels = self.pixels(x).unflatten(-1, (channels, size // self.side, -1))
        pixels = pixels.unflatten(1, (self.side, -1))  # (batch, side, side, channels, patch, patch)
        return pixels.permute(0, 3, 1, 4, 2, 5).reshape(-1, *self.shape)


class Layer(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, attention: Attention, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention, self.heads = attention, heads
        self.attention_norm = nn.LayerNorm(dim, eps=EPSILON)
        self.query = nn.Linear(dim, dim)  # three, as one of all costs copies: its gradient is put together from theirs
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.attention_output = nn.Linear(dim, dim)
        self.mlp_norm = nn.LayerNorm(dim, eps=EPSILON)
        self.mlp = nn.Linear(dim, 4 * dim)
        self.mlp_output = nn.Linear(4 * dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's output, (batch, length, dim) like `x`."""
        y = self.attention_norm(x)
        q, k, v = (
            z.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (batch, heads, length, dim / heads)
            for z in (self.query(y), self.key(y), self.value(y))
        )
        y = self.attention(q, k, v, causal=False).transpose(1, 2).flatten(2)  # (batch, length, dim)
        x = x + self.dropout(self.attention_output(y))
        y = F.gelu(self.mlp(self.mlp_norm(x)))  # (batch, length, 4 dim)
        return x + self.dropout(self.mlp_output(y))


def initialise(model: nn.Module) -> None:
    """Draw the initial weights: std 0.02, biases 0."""
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
        elif "norm" not in name:
            nn.init.normal_(parameter, std=0.02)


def from_checkpoint(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of `build` that the config.json of a Hugging Face ViT gives."""
    need(config, model_type="vit", hidden_act="gelu", layer_norm_eps=EPSILON, qkv_bias=True)
    restores = "ViTForMaskedImageModeling" in config.get("architectures", ())
    return {
        "image": config["image_size"],
        "patch": config["patch_size"],
        "channels": config["num_channels"],
        "classes": 0 if restores else len(config.get("id2label", ("LABEL_0", "LABEL_1"))),  # two where it says nothing
        "dim": config["hidden_size"],
        "heads": config["num_attention_heads"],
        "layers": config["num_hidden_layers"],
    }


def rename(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a Hugging Face ViT under the names and in the layout that they have here."""
    found = renamed(tensors, NAMES, prefix="vit.")
    # There a token is (1, 1, dim), the positions are (1, length, dim) and the head of pixels is a 1x1 convolution.
    layouts = {"class_token": (0, 2), "mask_token": (0, 2), "position": (0, 1), "pixels.weight": (1, 3)}
    return {name: tensor.flatten(*layouts[name]) if name in layouts else tensor for name, tensor in found.items()}
