"""Whisper: speech to text, log-mel front end, convolutional stem, pre-norm encoder-decoder (Radford et al. 2022).

`base` is the published multilingual base, 71,825,920 parameters ("74M"), `tiny.en` the published English tiny,
37,184,256 ("39M"), counting trained ones: the encoder's positions are sinusoids. `tiny` and `small` are the trial sizes
that every model here has, for bytes as tokens, and none of the published ones. Dropout, where `dropout` is not 0,
follows the embeddings and each residual branch; attention has none.

FLOP of a pair forward, where places is half of the frames; the last three terms are both convolutions and the mel
bands. In training three times as many, less two times the last term and once the first convolution's, the third from
the end, as no gradient goes to the sound:

    layers * (places * (28 * dim**2 + 4 * places * dim) + target * (28 * dim**2 + 4 * (places + target) * dim))
    + 2 * target * dim * vocabulary + 12 * places * 80 * dim + 6 * places * dim**2 + 4 * places * 80 * 201
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.errors import UserError
from suites.models._checkpoint import need, renamed

SIZES = {
    "tiny": {"vocabulary": 320, "positions": 448, "dim": 128, "heads": 4, "layers": 2, "dropout": 0.0},
    "small": {"vocabulary": 320, "positions": 448, "dim": 256, "heads": 4, "layers": 4, "dropout": 0.0},
    "base": {"vocabulary": 51865, "positions": 448, "dim": 512, "heads": 8, "layers": 6, "dropout": 0.0},
    "tiny.en": {"vocabulary": 51864, "positions": 448, "dim": 384, "heads": 6, "layers": 4, "dropout": 0.0},
}
RATE = 16_000  # samples a second
WINDOW, HOP, MELS = 400, 160, 80  # samples of a Fourier window and between two of them; bands of a frame
PLACES = 1500  # of the encoder, each of two frames: 30 seconds
NAMES = {  # in Hugging Face's checkpoints -> here
    "encoder.conv1": "stem",
    "encoder.conv2": "stride",
    "encoder.embed_positions": None,  # sinusoids, computed here
    "encoder.layers.*.self_attn.q_proj": "encoder.*.self_attention.query",
    "encoder.layers.*.self_attn.k_proj": "encoder.*.self_attention.key",
    "encoder.layers.*.self_attn.v_proj": "encoder.*.self_attention.value",
    "encoder.layers.*.self_attn.out_proj": "encoder.*.self_attention.output",
    "encoder.layers.*.self_attn_layer_norm": "encoder.*.self_attention_norm",
    "encoder.layers.*.fc1": "encoder.*.mlp",
    "encoder.layers.*.fc2": "encoder.*.mlp_output",
    "encoder.layers.*.final_layer_norm": "encoder.*.mlp_norm",
    "encoder.layer_norm": "encoder_norm",
    "decoder.embed_tokens": "token",
    "decoder.embed_positions": "position",
    "decoder.layers.*.self_attn.q_proj": "decoder.*.self_attention.query",
    "decoder.layers.*.self_attn.k_proj": "decoder.*.self_attention.key",
    "decoder.layers.*.self_attn.v_proj": "decoder.*.self_attention.value",
    "decoder.layers.*.self_attn.out_proj": "decoder.*.self_attention.output",
    "decoder.layers.*.self_attn_layer_norm": "decoder.*.self_attention_norm",
    "decoder.layers.*.encoder_attn.q_proj": "decoder.*.cross_attention.query",
    "decoder.layers.*.encoder_attn.k_proj": "decoder.*.cross_attention.key",
    "decoder.layers.*.encoder_attn.v_proj": "decoder.*.cross_attention.value",
    "decoder.layers.*.encoder_attn.out_proj": "decoder.*.cross_attention.output",
    "decoder.layers.*.encoder_attn_layer_norm": "decoder.*.cross_attention_norm",
    "decoder.layers.*.fc1": "decoder.*.mlp",
    "decoder.layers.*.fc2": "decoder.*.mlp_output",
    "decoder.layers.*.final_layer_norm": "decoder.*.mlp_norm",
    "decoder.layer_norm": "decoder_norm",
    "proj_out": None,  # the token embedding's matrix once more
}

Attention = Callable[..., Tensor]


def build(
    attention: Attention, *, vocabulary: int = 320, positions: int = 448, dim: int = 128, heads: int = 4,
    layers: int = 2, dropout: float = 0.0,
) -> nn.Module:  # fmt: skip
    """Return a Whisper of `layers` encoder and `layers` decoder layers with its initial weights."""
    model = Whisper(attention, vocabulary, positions, dim, heads, layers, dropout)
    initialise(model)
    return model


class Whisper(nn.Module):
    """Sound (batch, samples) and target (batch, Lt) -> logits (batch, Lt, vocabulary) of each next target token."""

    def __init__(
        self, attention: Attention, vocabulary: int, positions: int, dim: int, heads: int, layers: int, dropout: float
    ) -> None:
        super().__init__()
        self.token = nn.Embedding(vocabulary, dim)
        self.position = nn.Embedding(positions, dim)
        self.dropout = nn.Dropout(dropout)
        self.register_buffer("filters", mel_filters(), persistent=False)
        self.register_buffer("places", sinusoids(PLACES, dim), persistent=False)
        self.stem = nn.Conv1d(MELS, dim, kernel_size=3, padding=1)
        self.stride = nn.Conv1d(dim, dim, kernel_size=3, stride=2, padding=1)
        self.encoder = nn.ModuleList([EncoderLayer(attention, dim, heads, dropout) for _ in range(layers)])
        self.encoder_norm = nn.LayerNorm(dim)
        self.decoder = nn.ModuleList([DecoderLayer(attention, dim, heads, dropout) for _ in range(layers)])
        self.decoder_norm = nn.LayerNorm(dim)

    def forward(self, sound: Tensor, target: Tensor) -> Tensor:
        """Return the logits; `sound` is RATE samples a second, -1 to 1, and every HOP of them make a frame."""
        return self.decode(target, self.encode(sound))

    def frames(self, sound: Tensor) -> Tensor:
        """Return the log-mel spectrogram (batch, MELS, frames)."""
        return frames(sound, self.filters, self.stem.weight.dtype)

    def encode(self, sound: Tensor) -> Tensor:
        """Return what the decoder reads, (batch, frames / 2, dim)."""
        frames = self.frames(sound)
        if frames.size(2) > 2 * PLACES:
            raise UserError(f"{frames.size(2)} frames are too many for {PLACES} places of two", "cut the sound")
        x = F.gelu(self.stride(F.gelu(self.stem(frames)))).transpose(1, 2)  # (batch, places, dim)
        x = self.dropout(x + self.places[: x.size(1)])
        for layer in self.encoder:
            x = layer(x)
        return self.encoder_norm(x)

    def decode(self, target: Tensor, memory: Tensor) -> Tensor:
        """Return the logits (batch, Lt, vocabulary); `memory` (batch, places, dim) is what `encode` returned."""
        length, positions = target.size(1), self.position.num_embeddings
        if length > positions:
            raise UserError(f"{length} tokens are too many for {positions} positions", f"--set positions={length}")
        x = self.token(target) + self.position(torch.arange(length, device=target.device))  # (batch, Lt, dim)
        x = self.dropout(x)
        for layer in self.decoder:
            x = layer(x, memory)
        return F.linear(self.decoder_norm(x), self.token.weight)  # (batch, Lt, vocabulary)


class EncoderLayer(nn.Module):
    """x + self_attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, attention: Attention, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.self_attention_norm = nn.LayerNorm(dim)
        self.self_attention = MultiHeadAttention(attention, dim, heads)
        self.mlp_norm = nn.LayerNorm(dim)
        self.mlp = nn.Linear(dim, 4 * dim)
        self.mlp_output = nn.Linear(4 * dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's output, (batch, places, dim) like `x`."""
        y = self.self_attention_norm(x)
        x = x + self.dropout(self.self_attention(y, y, causal=False))
        return x + self.dropout(self.mlp_output(F.gelu(self.mlp(self.mlp_norm(x)))))


class DecoderLayer(nn.Module):
    """An encoder layer whose self-attention is causal, with cross attention to the encoder's output in its middle."""

    def __init__(self, attention: Attention, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.self_attention_norm = nn.LayerNorm(dim)
        self.self_attention = MultiHeadAttention(attention, dim, heads)
        self.cross_attention_norm = nn.LayerNorm(dim)
        self.cross_attention = MultiHeadAttention(attention, dim, heads)
        self.mlp_norm = nn.LayerNorm(dim)
        self.mlp = nn.Linear(dim, 4 * dim)
        self.mlp_output = nn.Linear(4 * dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        """Return the layer's output, (batch, Lt, dim) like `x`; `memory` is (batch, places, dim)."""
        y = self.self_attention_norm(x)
        x = x + self.dropout(self.self_attention(y, y, causal=True))
        x = x + self.dropout(self.cross_attention(self.cross_attention_norm(x), memory, causal=False))
        return x + self.dropout(self.mlp_output(F.gelu(self.mlp(self.mlp_norm(x)))))


class MultiHeadAttention(nn.Module):
    """What each place of `x` reads from `memory`; keys have no bias, as softmax would not see it."""

    def __init__(self, attention: Attention, dim: int, heads: int) -> None:
        super().__init__()
        self.attention, self.heads = attention, heads
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim, bias=False)
        self.value = nn.Linear(dim, dim)
        self.output = nn.Linear(dim, dim)

    def forward(self, x: Tensor, memory: Tensor, *, causal: bool) -> Tensor:
        """Return (batch, Lq, dim) like `x`; `memory` is (batch, Lk, dim)."""
        q, k, v = (
            y.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (batch, heads, length, dim / heads)
            for y in (self.query(x), self.key(memory), self.value(memory))
        )
        return self.output(self.attention(q, k, v, causal=causal).transpose(1, 2).flatten(2))  # (batch, Lq, dim)


def frames(sound: Tensor, filters: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the log-mel spectrogram (batch, MELS, frames) in `dtype`, computed in float32 or wider."""
    with torch.autocast(sound.device.type, enabled=False):  # half a float's range would swallow the quiet bands
        return log_mel(sound.to(torch.promote_types(sound.dtype, dtype)), filters).to(dtype)


def log_mel(sound: Tensor, filters: Tensor) -> Tensor:
    """Return the log-mel spectrogram (batch, MELS, samples // HOP) of `sound`, as Whisper scales it (section 2.2).

    The power in each band as a decimal logarithm, cut off 8 below the loudest of the row, plus 4, over 4.
    """
    window = torch.hann_window(WINDOW, dtype=sound.dtype, device=sound.device)
    spectrum = torch.stft(sound, WINDOW, HOP, window=window, return_complex=True)[..., :-1]  # (batch, 201, frames)
    power = torch.view_as_real(spectrum).square().sum(-1)
    bands = (filters.to(power.dtype) @ power).clamp(min=1e-10).log10()  # (batch, MELS, frames)
    return (torch.maximum(bands, bands.amax((1, 2), keepdim=True) - 8) + 4) / 4


def mel_filters() -> Tensor:
    """Return the weight of each Fourier bin in each band, (MELS, 201): triangles of equal area on Slaney's mel scale.

    The scale (Slaney 1998, Auditory Toolbox) is linear to 1000 Hz, 200/3 Hz a mel, and logarithmic from there on, a
    factor of 6.4 in 27 mels.
    """
    mels = torch.linspace(0, 15 + 27 * math.log(RATE / 2 / 1000, 6.4), MELS + 2, dtype=torch.float64)
    hertz = torch.where(mels < 15, mels * 200 / 3, 1000 * 6.4 ** ((mels - 15) / 27))  # the corners of the triangles
    low, middle, high = (hertz[start : start + MELS, None] for start in range(3))
    bins = torch.linspace(0, RATE / 2, WINDOW // 2 + 1, dtype=torch.float64)
    rising, falling = (bins - low) / (middle - low), (high - bins) / (high - middle)
    return (torch.minimum(rising, falling).clamp(min=0) * 2 / (high - low)).float()


def sinusoids(places: int, dim: int) -> Tensor:
    """Return (places, dim): the sines, then the cosines, of dim / 2 wavelengths from 2 pi to 20,000 pi."""
    rates = 10_000 ** -torch.linspace(0, 1, dim // 2, dtype=torch.float64)
    angle = torch.arange(places, dtype=torch.float64)[:, None] * rates  # (places, dim / 2)
    return torch.cat([angle.sin(), angle.cos()], dim=1).float()


def initialise(model: nn.Module) -> None:
    """Draw the initial weights, of which the paper says nothing: std 0.02 and biases 0, as in GPT-2."""
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
        elif "norm" not in name:
            nn.init.normal_(parameter, std=0.02)


def from_checkpoint(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of `build` that the config.json of a Hugging Face Whisper gives."""
    need(
        config, model_type="whisper", activation_function="gelu", num_mel_bins=MELS, scale_embedding=False,
        tie_word_embeddings=True, decoder_layers=config["encoder_layers"],
        decoder_attention_heads=config["encoder_attention_heads"],
    )  # fmt: skip
    return {
        "vocabulary": config["vocab_size"],
        "positions": config["max_target_positions"],
        "dim": config["d_model"],
        "heads": config["encoder_attention_heads"],
        "layers": config["encoder_layers"],
    }


def rename(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a Hugging Face Whisper under the names that they have here."""
    return renamed(tensors, NAMES, prefix="model.")
