"""A recording made ready to be read at any speed: in octaves, each free of what would fold down when read faster.

Every octave is band-limited and kept at twice the rate that it needs, so that a straight line between two samples is
good enough: a tone at a tenth of the source's rate gets images at -51 dB, one at a hundredth at -92 dB.
"""

import functools
from dataclasses import dataclass

import numpy as np
import scipy.fft
from numba import njit
from numpy.typing import NDArray

from soundloom.audio import Waveform, resample
from soundloom.errors import AudioError

OCTAVES = 10
PAD = 4096  # frames of silence around each octave: as far as a grain may run beyond the end before it is noticed
FADE_S = 0.005  # the end is faded: what runs over it does not click
LEVEL = 0.4  # how loud the loud parts are made
LAGS_S = 1.0  # how far apart two readings may be and still be taken for related
LOWEST_RATE = 44100  # what is slower is brought to this first: its images would lie where they are heard
MIDDLE_C = 261.6256


@dataclass(frozen=True, eq=False)
class Recording:
    """`frames` [total] holds all octaves one after the other, left and right of a frame in one 8-byte number: octave
    k starts at `starts[k]`, has `seconds` of sound, and moves on by 2 ** (1 - k) frames for a sample of the source.

    `kinship` [2, lag] is the autocorrelation and the integral of its integral, from 0: see `related`.
    """

    frames: NDArray[np.int64]
    starts: NDArray[np.int64]
    kinship: NDArray[np.float64]
    sample_rate: int
    samples: int


def prepared(waveform: Waveform) -> Recording:
    """Mono becomes both sides of stereo, of more channels the first two are taken; loud parts get one level.

    It needs 32 bytes for a sample of the source; what is slower than 44.1 kHz is brought there first. `AudioError`
    where there is nothing to be heard.
    """
    if waveform.sample_rate < LOWEST_RATE:
        waveform = resample(waveform, LOWEST_RATE)
    audio = waveform.samples[:2].astype(np.float64)
    audio = np.repeat(audio, 2, axis=0) if len(audio) == 1 else audio
    n = audio.shape[1]
    if not n or not np.isfinite(audio).all():
        raise AudioError("a source of grains is empty or holds NaN: give a recording with some sound in it")
    audio -= audio.mean(axis=1, keepdims=True)
    power = (audio**2).mean()
    if power < 1e-12:
        raise AudioError("a source of grains is silent: give a recording with some sound in it")
    audio *= LEVEL / np.sqrt((audio**4).mean() / power)  # the level where the energy is: pauses do not count
    fade = min(n, round(FADE_S * waveform.sample_rate))
    audio[:, n - fade :] *= 0.5 + 0.5 * np.cos(np.pi * (np.arange(fade) + 1) / fade)

    size = scipy.fft.next_fast_len(-(-n // 2**OCTAVES) + 8, real=True) * 2**OCTAVES
    spectrum = scipy.fft.rfft(audio, size)
    octaves, starts, total = [], [], 0
    for octave in range(OCTAVES):
        length = 2 * size >> octave
        kept = spectrum[:, : length // 4 + 1].copy()
        top = max(1, len(kept) // 16)
        kept[:, -top:] *= 0.5 + 0.5 * np.cos(np.pi * (np.arange(top) + 1) / top)
        wave = scipy.fft.irfft(kept, length)[:, : 2 * n + 1 >> octave] * (length / size)
        wave = np.pad(wave, ((0, 0), (PAD, PAD)))
        wave[np.abs(wave) < 1e-12] = 0.0  # a window's edge makes no denormal number of it
        starts.append(total + PAD)
        total += wave.shape[1]
        octaves.append(wave.T.astype(np.float32))
    frames = np.ascontiguousarray(np.concatenate(octaves)).view(np.int64)[:, 0]
    return Recording(frames, np.array(starts), _kinship(audio, waveform.sample_rate), waveform.sample_rate, n)


def _kinship(audio: NDArray[np.float64], sample_rate: int) -> NDArray[np.float64]:
    lags = round(LAGS_S * sample_rate)
    size = scipy.fft.next_fast_len(audio.shape[1] + lags, real=True)
    alike = scipy.fft.irfft((np.abs(scipy.fft.rfft(audio, size)) ** 2).sum(axis=0), size)[:lags]
    alike /= alike[0]
    slope = np.concatenate([[0.0], np.cumsum(0.5 * (alike[1:] + alike[:-1]))])
    integral = np.concatenate([[0.0], np.cumsum(0.5 * (slope[1:] + slope[:-1]))])
    return np.stack([alike, integral])


@njit(cache=True, error_model="numpy")
def related(kinship, apart, spread):  # type: ignore[no-untyped-def]
    """How alike the sound is at two places `apart` samples from each other, each moved by chance by up to ±`spread`/2.

    1 is the same, 0 unrelated. The chance makes of the autocorrelation its mean under a triangle, which is the second
    difference of its integral's integral: three looks into a table, however wide the spread.
    """
    alike, integral = kinship[0], kinship[1]
    last = len(alike) - 1
    if spread < 8:  # of so few samples the differences are not exact
        index = int(apart)
        return alike[index] + (alike[index + 1] - alike[index]) * (apart - index) if index < last else 0.0
    total = 0.0
    for step in range(-1, 2):
        at = abs(apart + step * spread)
        index = min(int(at), last - 1)
        value = integral[index] + (integral[index + 1] - integral[index]) * (at - index)  # straight on beyond the end
        total += value if step else -2.0 * value
    return total / (spread * spread)


@functools.cache
def built_in() -> Recording:
    """Six seconds of a choir of strings at middle C that opens, hollows and closes: the source where none is given.

    Three vowels fade into each other. Each is one inverse transform of a spectrum whose harmonics are narrow bands of
    random phase (PADsynth: Nasca, 2006), which is what many players of one note sound like.
    """
    rate, seconds = 44100, 6
    n = rate * seconds
    hz = np.fft.rfftfreq(n, 1 / rate)
    rng = np.random.default_rng(1)
    turn = np.arange(n) / n
    audio = np.zeros((2, n))
    for vowel, (first, second, even) in enumerate(((450.0, 900.0, 1.0), (700.0, 2400.0, 0.8), (350.0, 2900.0, 0.1))):
        shape = np.zeros(len(hz))
        for k in range(1, 49):
            middle, width = k * MIDDLE_C, 0.0025 * MIDDLE_C * k**0.8
            level = 1 / (1 + ((middle - first) / 250) ** 2) + 0.5 / (1 + ((middle - second) / 500) ** 2) + 0.05 / k
            level *= even if k % 2 == 0 else 1.0
            band = slice(*np.searchsorted(hz, (middle - 4 * width, middle + 4 * width)))
            shape[band] += level / np.sqrt(width) * np.exp(-0.5 * ((hz[band] - middle) / width) ** 2)
        phases = np.exp(2j * np.pi * rng.uniform(size=(2, len(hz))))
        fade = np.maximum(np.cos(np.pi * (turn - vowel / 3)) ** 2 - 0.25, 0)  # each has a third of the time
        audio += fade * np.fft.irfft(shape * phases, n)
    return prepared(Waveform(audio.astype(np.float32), rate))
