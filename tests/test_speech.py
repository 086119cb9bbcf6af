"""Speech: the words that espeak-ng says, and writing them letter by letter."""

import io
import math
import shutil
import subprocess
import wave

import numpy as np
import pytest
import torch
from task_checks import check_batches, check_compiles, check_loss_is_wide, learned

from harness import load, names
from harness.errors import Unavailable, UserError
from harness.spec import Block, Suite, Variant, Workload
from harness.worker.session import Session
from suites.data import spoken_words
from suites.data._parts import PARTS, kept
from suites.finetuning import speech
from suites.pretraining._windows import BOS, EOS, IGNORED, PAD

CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("one_thread")
TONES = {b"low": 300, b"mid": 900, b"higher": 2700}  # word -> hertz
needs_espeak = pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng, which speaks, is not installed")


def wav(sound, rate=22_050):
    """Return a mono WAV file whose header, as espeak-ng's on stdout, says that it is endless."""
    file = io.BytesIO()
    with wave.open(file, "wb") as written:
        written.setparams((1, 2, rate, 0, "NONE", ""))
        written.writeframes(sound.astype("<i2").tobytes())
    content = file.getvalue()
    return content[:40] + (0x7FFFF000).to_bytes(4, "little") + content[44:]


# ---- the words


def test_a_recording_is_brought_to_a_second_of_16_kilohertz():
    time = np.arange(11_025) / 22_050
    found = spoken_words.second(wav(8000 * np.sin(2 * np.pi * 440 * time)))
    assert (found.dtype, found.shape) == (np.int16, (16_000,))
    expected = 8000 * np.sin(2 * np.pi * 440 * np.arange(8000) / 16_000)
    assert np.abs(found[100:7900] - expected[100:7900]).max() < 40  # half a percent, away from the ends
    assert not found[8100:].any()
    assert spoken_words.second(wav(np.full(40_000, 100))).shape == (16_000,)


def test_no_voice_is_in_two_parts():
    variants = [{voice.partition("+")[0::2] for voice in spoken_words.VOICES[part]} for part in PARTS]
    assert sum(map(len, variants)) == len(set.union(*variants)) == 17
    speakers = [{speaker for _, speaker in voices} for voices in variants]
    assert sum(map(len, speakers)) == len(set.union(*speakers))


@pytest.fixture
def espeak(monkeypatch):
    """An espeak-ng that hums; returns the list of what it was asked to say."""
    said = []

    def run(command, **_):
        said.append(command)
        content = b"eSpeak NG 9.9  Data at: here" if "--version" in command else wav(np.full(100, len(command[-1])))
        return subprocess.CompletedProcess(command, 0, stdout=content)

    monkeypatch.setattr(subprocess, "run", run)
    return said


def test_every_word_is_said_in_every_voice_at_every_speed(espeak, tmp_path):
    manifest = spoken_words.prepare(tmp_path)
    assert len({tuple(command) for command in espeak}) == 1 + 35 * 17 * 3
    assert manifest["source"] == "35 words in 17 voices at 3 speeds: eSpeak NG 9.9."
    for part, voices in spoken_words.VOICES.items():
        sounds, words = (np.load(manifest[part][name]) for name in ("sounds", "words"))
        assert sounds.shape == (35 * 3 * len(voices), 16_000)
        letters = [bytes(row).rstrip(b"\0").decode() for row in words]
        assert letters == [*spoken_words.WORDS] * (3 * len(voices))
        assert (np.abs(sounds[:, 30] - [len(word) for word in letters]) <= 1).all()


def test_they_are_said_once(espeak, tmp_path):
    first = spoken_words.prepare(tmp_path)
    espeak.clear()
    assert spoken_words.prepare(tmp_path) == first
    assert espeak == [["espeak-ng", "--version"]]


@needs_espeak
def test_espeak_speaks_the_same_way_each_time_and_the_slowest_ends_in_time():
    voices = spoken_words.VOICES["test"]
    first, again, *others = (
        spoken_words.espeak("-v", voice, "-s", "130", "--stdout", "forward") for voice in (voices[0], *voices)
    )
    assert first == again
    sounds = [spoken_words.second(content) for content in (first, *others)]
    assert all(np.abs(sound).max() > 3000 and np.abs(sound[15_000:]).max() < 300 for sound in sounds)
    assert not np.array_equal(sounds[0], sounds[1])


def test_an_espeak_without_the_voice_is_told(monkeypatch):
    def run(command, **_):
        raise subprocess.CalledProcessError(1, command, stderr=b"Error: no such voice\n")

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(Unavailable, match=r"`espeak-ng -v x` fails: Error: no such voice; release 1\.51 does it"):
        spoken_words.espeak("-v", "x")


# ---- data that cannot be had


def test_without_espeak_the_cases_are_unavailable_and_say_why(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    workload = Workload(task="finetuning/speech", model="whisper", size="tiny", data="spoken_words")
    suite = Suite(name="own", question="?", blocks=[Block(workload=workload, variants=[Variant(name="v1")])])
    data = load.prepare_data(suite, tmp_path, [])
    assert data["spoken_words"].keys() == {"name", "sha256", "source", "unavailable"}
    message = {"workload": vars(workload), "variant": vars(Variant(name="v1")), "data": data["spoken_words"]}
    with pytest.raises(Unavailable, match=r"espeak-ng, which is not installed: `apt-get install espeak-ng`$"):
        Session(message)


# ---- the task


def made(counts=(30, 3, 6)):
    """Return words that are tones, each with a phase of its own."""
    parts, time = {}, np.arange(3200) / 16_000
    for part, count in zip(PARTS, counts, strict=True):
        words = [[*TONES][row % 3] for row in range(count)]
        sounds = [9000 * np.sin(2 * np.pi * TONES[word] * time + row) for row, word in enumerate(words)]
        letters = np.array(words).view(np.uint8).reshape(count, -1)
        parts[part] = {"sounds": np.array(sounds).astype(np.int16), "words": letters}
    return parts, {"source": "made"}


@pytest.fixture(scope="module")
def tones(tmp_path_factory):
    return kept("tones", b"1", made, tmp_path_factory.mktemp("tones"))


@pytest.fixture
def prepare(tones):
    def prepare(model=None, **config):
        workload = {"task": "finetuning/speech", "batch": 6, "length": 12, "padding": 0.0, "seed": 0, "data": tones}
        return speech.prepare(model or torch.nn.Embedding(320, 1), {**workload, **config}, CPU)

    return prepare


def whisper():
    torch.manual_seed(0)
    return names.find("model", "whisper").load()(names.find("attention", "formula").load())


def test_a_batch_is_sound_and_the_letters_shifted_by_one(prepare):
    sound, given, target = prepare().batch(0)
    assert (sound.dtype, sound.shape) == (torch.float32, (6, 12 * 320))
    assert 0.2 < sound.abs().max() < 1
    assert not sound[:, 3200:].any()
    words = {(BOS, *word, *[PAD] * (6 - len(word)))[:7]: [*word, EOS, *[IGNORED] * (6 - len(word))] for word in TONES}
    for row, expected in zip(given.tolist(), target.tolist(), strict=True):
        assert words[tuple(row)] == expected
    assert prepare().amount == {"tokens": 6 * (12 + 7), "samples": 6}


def test_a_batch_depends_on_seed_and_index_only(prepare):
    check_batches(prepare)


def test_loss_compiles_without_a_graph_break(prepare):
    check_compiles(whisper(), prepare())


def test_the_loss_is_taken_in_float32_or_wider(prepare):
    check_loss_is_wide(whisper, prepare)


def test_an_untrained_model_knows_nothing_of_what_it_hears(prepare):
    work = prepare()
    assert work.loss(whisper(), work.batch(0))[0].item() == pytest.approx(math.log(320), abs=1)


def test_training_learns_to_write_what_it_hears(prepare):
    _, score = learned(whisper(), prepare(), steps=40, rate=1e-3)
    assert score["accuracy"] == 1.0
    assert score["character_error_rate"] == 0.0
    assert score["held_out_loss"] < 1  # it was 5.8


def test_the_score_is_of_greedy_decoding_on_the_test_part(prepare):
    """The model writes `low` to whatever it hears, each letter only after the one before."""
    following = {BOS: ord("l"), ord("l"): ord("o"), ord("o"): ord("w"), ord("w"): EOS}

    class Low:
        def encode(self, sound):
            assert not torch.is_grad_enabled()
            return sound

        def decode(self, tokens, memory):
            answers = torch.tensor([[following.get(token, ord("?")) for token in row] for row in tokens.tolist()])
            return 50.0 * torch.nn.functional.one_hot(answers, 320)

        def __call__(self, sound, tokens):
            return self.decode(tokens, self.encode(sound))

    score = prepare().score(Low())
    assert score["accuracy"] == pytest.approx(1 / 3)
    assert score["character_error_rate"] == pytest.approx((0 + 3 + 6) / (3 + 3 + 6))
    assert 0 < score["held_out_loss"] < 50


@pytest.mark.parametrize(
    ("one", "other", "expected"), [("", "", 0), ("", "go", 2), ("tree", "three", 1), ("kitten", "sitting", 3)]
)
def test_the_distance_is_levenshteins(one, other, expected):
    assert speech.distance([*one.encode()], [*other.encode()]) == expected
    assert speech.distance([*other.encode()], [*one.encode()]) == expected


def test_what_cannot_be_is_refused_with_what_to_do(prepare, tones):
    with pytest.raises(UserError, match="a word takes 10 places, more than 9; --set length=10"):
        prepare(length=9)
    with pytest.raises(UserError, match="silence, not in padding; --set padding=0"):
        prepare(padding=0.2)
    with pytest.raises(UserError, match="takes sounds and words, and the train part of data 'stdlib' has none"):
        prepare(data={"name": "stdlib", "train": "stdlib.npy"})
    with pytest.raises(UserError, match="--set vocabulary=260"):
        prepare(torch.nn.Embedding(256, 1))
