"""What a trained folder does with sounds, whatever the family: rates, lengths, levels, long files, morphs."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from torch import nn

import soundloom as sl
from soundloom import run as run_module
from soundloom.errors import AudioError, ConditionError, ConfigError, ModelError
from soundloom.models.base import Code, Embedding
from soundloom.run import Run, between

RATE = 8000


@dataclass(frozen=True)
class Config:
    sample_rate: int = RATE
    channels: int = 1
    labels: tuple[str, ...] = ()
    hop_length: int = 64


class Mirror(nn.Module):
    """A codec that gives back what it hears, from the samples of each frame as its latent."""

    family = "mirror"

    def __init__(self) -> None:
        super().__init__()
        self.config, self.weight, self.longest = Config(), nn.Parameter(torch.zeros(1)), 0

    def encode(self, audio, *, f0_hz=None, voiced=None):
        self.longest = max(self.longest, audio.shape[-1])
        audio = torch.nn.functional.pad(audio, (0, -audio.shape[-1] % 64))
        z = audio[:, 0].unflatten(-1, (-1, 64)).transpose(1, 2)
        return Code(z, z[:, :1].abs() + 100, torch.ones_like(z[:, :1]))

    def decode(self, code, *, seed=0):
        return code.z.transpose(1, 2).flatten(1)[:, None]


def tone(hz: float, seconds: float, rate: int, gain: float = 0.25) -> sl.Waveform:
    t = np.arange(round(seconds * rate)) / rate
    return sl.Waveform((gain * np.sin(2 * np.pi * hz * t))[None].astype(np.float32), rate)


def test_a_long_file_goes_through_in_pieces(monkeypatch):
    monkeypatch.setattr(run_module, "PIECE_S", 2.0)
    model = Mirror()
    sound = tone(330, 9.37, RATE)
    made = Run(Path("x"), model).reconstruct(sound)
    assert made.samples.shape == sound.samples.shape
    assert np.abs(made.samples - sound.samples).max() < 1e-6, "a seam can be heard"
    assert model.longest <= 4 * RATE, "a piece is two seconds and one on each side"


@pytest.mark.parametrize("rate", [8000, 11025, 44100])
def test_rate_level_and_length_are_kept(rate):
    sound = tone(440, 0.5, rate, gain=0.02)
    made = Run(Path("x"), Mirror()).reconstruct(sound)
    assert (made.sample_rate, made.samples.shape) == (rate, sound.samples.shape)
    inside = slice(rate // 20, -rate // 20)  # a rate change rings at the ends
    assert np.abs(made.samples - sound.samples)[:, inside].max() < 0.001 * 0.02 if rate == RATE else 0.02 * 0.02


def test_what_cannot_be_is_refused():
    mirror = Run(Path("x"), Mirror())
    for sound in (np.zeros((1, 0)), np.full((1, 9), np.nan)):
        with pytest.raises(AudioError, match="empty or has NaN"):
            mirror.reconstruct(sl.Waveform(sound.astype(np.float32), RATE))
    with pytest.raises(ConfigError, match="-48 to 48"):
        mirror.reconstruct(tone(440, 0.1, RATE), transpose=60)
    with pytest.raises(ConfigError, match="1 to 8"):
        mirror.reconstruct(tone(440, 0.1, RATE), voices=0)
    with pytest.raises(ModelError, match="vae"):
        mirror.sample(1)
    with pytest.raises(ModelError, match="vae"):
        mirror.morph(tone(440, 0.1, RATE), tone(550, 0.1, RATE))
    little = Run(Path("x"), tiny.Tiny(tiny.TinyConfig()))
    with pytest.raises(ConditionError, match=r"0\.01 to 600"):
        little.sample(1, seconds=1e6)
    with pytest.raises(ConditionError, match="label 'kick'"):
        little.sample(1, label="kick")


def test_the_same_seed_gives_the_same_sounds():
    little = Run(Path("x"), tiny.Tiny(tiny.TinyConfig()))
    a, b, c = (little.sample(11, seed=seed, seconds=0.2) for seed in (1, 1, 2))
    assert len(a) == 11
    assert all(np.array_equal(x.samples, y.samples) for x, y in zip(a, b, strict=True))
    assert not np.array_equal(a[0].samples, c[0].samples)
    assert len({x.samples.tobytes() for x in a}) == 11, "all are different"
    assert a[0].seconds == pytest.approx(0.2, abs=0.01)


def test_between_two_sounds():
    def end(z: float, pitch: float, label: int) -> Embedding:
        return Embedding(torch.full((1, 3), z), torch.tensor([pitch]), torch.tensor([z]), torch.tensor([label]))

    a, b, drum = end(0.0, 48.0, 0), end(2.0, 60.0, 1), end(2.0, float("nan"), 1)
    middle = between(a, b, 0.25)
    assert middle.z.tolist() == [[0.5] * 3]
    assert middle.pitch.tolist() == [51.0]
    assert middle.seconds.tolist() == [0.5]
    assert between(a, drum, 0.4).pitch.tolist() == [48.0]
    assert torch.isnan(between(a, drum, 0.6).pitch).all()
    assert [between(a, b, part).label.item() for part in (0.0, 0.4, 0.6, 1.0)] == [0, 0, 1, 1]
