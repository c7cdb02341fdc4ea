"""Descriptors against librosa, the formulas of BS.1770 and sounds of known shape."""

import librosa
import numpy as np
import pytest
import scipy.signal
import soundfile
import torch
from torch import Tensor

from soundloom.errors import ConfigError
from soundloom.features import Descriptors, describe

RATE = 44100


def described(x: np.ndarray, sample_rate: int = RATE) -> Descriptors:
    return describe(torch.from_numpy(x.astype(np.float32))[None], torch.tensor([len(x)]), sample_rate=sample_rate)


def sine(hz: float, seconds: float, sample_rate: int = RATE) -> np.ndarray:
    return np.sin(2 * np.pi * hz * np.arange(round(seconds * sample_rate)) / sample_rate)


def noise(seconds: float) -> np.ndarray:
    return 0.1 * np.random.default_rng(0).standard_normal(round(seconds * RATE))


def bs1770(x: np.ndarray) -> float:
    """Integrated loudness at 48 kHz in the time domain, with the coefficients printed in the recommendation."""
    shelf = ([1.53512485958697, -2.69169618940638, 1.19839281085285], [1.0, -1.69065929318241, 0.73248077421585])
    high_pass = ([1.0, -2.0, 1.0], [1.0, -1.99004745483398, 0.99007225036621])
    y = scipy.signal.lfilter(*high_pass, scipy.signal.lfilter(*shelf, x)) ** 2
    z = np.array([y[i : i + 19200].mean() for i in range(0, len(y) - 19199, 4800)])
    z = z[-0.691 + 10 * np.log10(z + 1e-20) > -70]
    z = z[-0.691 + 10 * np.log10(z) > -0.691 + 10 * np.log10(z.mean()) - 10]
    return -0.691 + 10 * np.log10(z.mean())


def test_loudness_is_bs1770():
    generator = np.random.default_rng(1)
    swelling = generator.standard_normal(48000 * 4) * np.linspace(0.001, 0.3, 48000 * 4)
    low = 0.3 * sine(60, 2, 48000)
    paused = np.concatenate([0.5 * sine(3000, 1, 48000), np.zeros(48000 * 2), 0.1 * sine(300, 1, 48000)])
    for x in (swelling, low, paused):
        assert abs(described(x, 48000).loudness_lufs.item() - bs1770(x)) < 0.15


def test_loudness_at_other_rates_and_of_short_sounds():
    for sample_rate in (22050, 44100, 96000):
        assert abs(described(sine(997, 2, sample_rate), sample_rate).loudness_lufs.item() + 3.01) < 0.1
    for seconds in (0.05, 0.3):  # no gates: the mean over the sound's own length
        assert abs(described(sine(997, seconds)).loudness_lufs.item() + 3.01) < 0.3
    assert described(np.zeros(RATE)).loudness_lufs.item() == -120


def test_brightness_is_the_centroid():
    x = noise(1) + 0.2 * sine(880, 1)
    theirs = librosa.feature.spectral_centroid(y=x, sr=RATE, n_fft=2048, hop_length=512)[0, 4:-4].mean()
    assert abs(described(x).brightness_hz.item() / theirs - 1) < 0.02
    assert abs(described(sine(1000, 1)).brightness_hz.item() - 1000) < 50


def test_noisiness_tells_noise_of_any_colour_from_tones():
    white = noise(1)
    red = scipy.signal.lfilter(*scipy.signal.butter(2, 800, fs=RATE), white)
    assert described(white).noisiness.item() > 0.9
    assert described(red).noisiness.item() > 0.8
    assert described(sum(sine(220 * p, 1) / p for p in range(1, 20))).noisiness.item() < 0.05
    assert described(sine(440, 1) + white).noisiness.item() < 0.5


@pytest.mark.parametrize("at", [0, 1, 1000, 12345])
@pytest.mark.parametrize("background", [0.0, 0.003])
def test_the_onset_of_a_click_is_found_within_a_millisecond(at, background):
    x = background * np.random.default_rng(at).standard_normal(RATE)
    x[at : at + 200] += np.exp(-np.arange(200) / 40) * np.sign(np.sin(np.arange(200) + 0.5))
    assert abs(described(x).onset_s.item() - at / RATE) < 0.001


def test_attack_and_decay_of_a_known_envelope():
    t = np.arange(RATE * 2) / RATE
    for rise, tau in ((0.05, 0.2), (0.3, 0.4)):
        envelope = np.minimum(t / rise, 1) * np.exp(-np.maximum(t - rise, 0) / tau)
        found = described(np.sin(2 * np.pi * 500 * t) * envelope)
        assert abs(found.onset_s.item() + found.attack_s.item() - rise * 10 ** (-3 / 20)) < 0.01 + 0.1 * rise
        assert abs(found.decay_s.item() / (tau * np.log(1000)) - 1) < 0.1
    assert described(sine(200, 1)).decay_s.item() > 10  # it does not decay


def test_pitch_is_midi_or_nothing():
    assert abs(described(sine(440, 0.5)).pitch.item() - 69) < 0.03
    assert torch.isnan(described(noise(0.5)).pitch)
    assert torch.isnan(described(np.zeros(4000)).pitch)
    assert described(sine(440, 0.5)).pitch_confidence.item() > 0.7


def test_what_lies_beyond_the_length_is_not_heard():
    x = np.concatenate([0.5 * sine(300, 0.6), noise(0.6) * 5])
    padded = describe(torch.from_numpy(x.astype(np.float32))[None], torch.tensor([round(0.6 * RATE)]), sample_rate=RATE)
    alone = described(x[: round(0.6 * RATE)])
    for name in ("pitch", "loudness_lufs", "brightness_hz", "noisiness", "onset_s", "attack_s"):
        assert abs(getattr(padded, name).item() - getattr(alone, name).item()) < 0.02 * (
            1 + abs(getattr(alone, name).item())
        )


def test_any_length_even_none():
    for n in (0, 1, 7, 300, 3000):
        found = describe(torch.zeros(2, max(n, 1)) + 0.1, torch.tensor([n, n]), sample_rate=RATE)
        assert found.loudness_lufs.shape == (2,)
        assert torch.isfinite(found.brightness_hz).all()
        assert torch.isfinite(found.decay_s).all()


def test_hats_have_no_pitch_and_basses_have(sounds):
    def pitch(path) -> Tensor:
        x, rate = soundfile.read(path, dtype="float32", always_2d=True)
        return described(x.mean(1), rate).pitch

    hats = [pitch(path) for path in sorted((sounds / "one-shots").glob("hat_*.flac"))]
    assert torch.isnan(torch.cat(hats)).float().mean() > 0.9
    assert abs(pitch(sounds / "one-shots" / "bass_woodsy_c.flac").item() - 36) < 0.3


def test_refusals_name_the_shapes():
    with pytest.raises(ConfigError, match=r"\[3, 1\].*\[B\]"):
        describe(torch.zeros(2, 100), torch.zeros(3, 1), sample_rate=RATE)
