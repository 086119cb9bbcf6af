"""Spoken words without a download: the 35 words of Speech Commands, said by espeak-ng in several voices and speeds.

The words are those of Warden 2018, https://arxiv.org/abs/1804.03209. Validation and test have voices that are in no
other part. `sounds` is (samples, RATE), int16, a second each; `words` (samples, longest word), uint8, their letters and
zeros after them. Which espeak-ng spoke is in the hash, as another release may sound different.
"""

import io
import subprocess
import wave
from math import gcd
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import Unavailable
from suites.data._parts import PARTS, Parts, kept

WORDS = (
    "backward", "bed", "bird", "cat", "dog", "down", "eight", "five", "follow", "forward", "four", "go", "happy",
    "house", "learn", "left", "marvin", "nine", "no", "off", "on", "one", "right", "seven", "sheila", "six", "stop",
    "three", "tree", "two", "up", "visual", "wow", "yes", "zero",
)  # fmt: skip
VOICES = {
    "train": (
        "en-us+m1", "en-us+m2", "en-us+f1", "en-us+f2", "en-gb+m3", "en-gb+m4", "en-gb+f3", "en-gb-scotland+m1",
        "en-gb-scotland+f1", "en-gb-x-rp+m2", "en-gb-x-rp+f2", "en-029+m3",
    ),
    "validation": ("en-us+m5", "en-gb+f5"),
    "test": ("en-gb+m6", "en-us+m7", "en-us+f4"),
}  # fmt: skip
SPEEDS = (130, 160, 200)  # words a minute; the slowest word ends within a second
RATE = 16_000  # samples a second, as speech models take it


def prepare(folder: Path) -> dict[str, Any]:
    """Return the manifest of the words below `folder`; speak them unless they are there. Raise Unavailable."""
    version = espeak("--version")
    return kept("spoken_words", Path(__file__).read_bytes() + version, lambda: make(version.decode()), folder)


def make(version: str) -> tuple[Parts, dict[str, Any]]:
    """Return the three parts and what they are."""
    parts = {part: spoken(VOICES[part]) for part in PARTS}
    said = f"{len(WORDS)} words in {sum(map(len, VOICES.values()))} voices at {len(SPEEDS)} speeds"
    return parts, {"source": f"{said}: {version.split('  ')[0]}."}


def spoken(voices: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    """Return every word in each of the voices at every speed, and its letters."""
    said = [(word, voice, speed) for voice in voices for speed in SPEEDS for word in WORDS]
    sounds = [second(espeak("-v", voice, "-s", str(speed), "--stdout", word)) for word, voice, speed in said]
    letters = np.array([word.encode() for word, _, _ in said])  # bytes of one width, zeros after the shorter words
    return {"sounds": np.stack(sounds), "words": letters.view(np.uint8).reshape(len(said), -1)}


def second(content: bytes) -> NDArray[np.int16]:
    """Return the first second of a mono WAV file of 16 bits, RATE samples; silence after a shorter one."""
    from scipy.signal import resample_poly  # takes a second to import, and the words are spoken once

    with wave.open(io.BytesIO(content)) as file:
        rate, frames = file.getframerate(), file.readframes(file.getnframes())
    divisor = gcd(RATE, rate)
    sound = resample_poly(np.frombuffer(frames, dtype="<i2").astype(float), RATE // divisor, rate // divisor)
    whole = np.clip(np.rint(sound[:RATE]), -32768, 32767).astype(np.int16)
    return np.pad(whole, (0, RATE - len(whole)))


def espeak(*arguments: str) -> bytes:
    """Return what espeak-ng writes to stdout; raise Unavailable if it is missing or has not the voice."""
    try:
        return subprocess.run(["espeak-ng", *arguments], capture_output=True, check=True).stdout
    except FileNotFoundError:
        raise Unavailable(
            "spoken words are made by espeak-ng, which is not installed: `apt-get install espeak-ng`"
        ) from None
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip()
        raise Unavailable(f"`espeak-ng {' '.join(arguments)}` fails: {said}; release 1.51 does it") from None
