"""Wavetables: single cycles to morph between, from a file or built in, each in a ladder of band-limited versions.

Files are those of Serum and Vital: a WAV of frames of 2048 samples one after the other, their length in its chunk
"clm " where it has one.
"""

import functools
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from soundloom import riff
from soundloom.audio import Waveform, read
from soundloom.errors import ConfigError, InstrumentError
from soundloom.instruments.oscillators import PHASE_ONE

HARMONICS = 1024  # at most: what 2048 samples hold
FRAME = 2048
GUESSES = (2048, 1024, 512, 256)  # frame lengths, where no file says one
MOST_FRAMES = 256
SHORTEST = 8
LEVEL = 0.35  # the RMS of a built-in frame


@dataclass(frozen=True, eq=False)
class Tables:
    """`waves` [F * total] float32: frame after frame, in each the levels one after the other, each followed by its
    first value.

    `ladder` [3, levels]: where in a frame a level starts, the power of two of its length, its number of harmonics.
    `first` and `count` [table] say which frames are a table's.
    """

    waves: NDArray[np.float32]
    ladder: NDArray[np.int64]
    first: NDArray[np.int64]
    count: NDArray[np.int64]


def built(spectra: NDArray[np.complex128], counts: list[int]) -> Tables:
    """Tables from the harmonics [F, HARMONICS] of their frames, amplitudes times half of -i for a sine; `counts` frames
    each.

    Half an octave of harmonics lies between levels. A level is 1024 long at least, and 32 times longer than its highest
    harmonic needs (16 times above 128 of them, 8 times above 256, where harmonics are weak and tables large): reading
    it between the points linearly adds an image of (k / L)² of harmonic k.
    """
    harmonics = sorted({round(2 ** (step / 2)) for step in range(21)} | {0, 3})
    lengths = [(32 if count <= 128 else 16 if count <= 256 else 8) * max(count, 1) for count in harmonics]
    bits = [max(10, math.ceil(math.log2(length))) for length in lengths]
    levels: list[NDArray[np.float32]] = []
    for count, bit in zip(harmonics, bits, strict=True):
        spectrum = np.zeros((len(spectra), (1 << bit) // 2 + 1), np.complex128)
        spectrum[:, 1 : count + 1] = spectra[:, :count] * (1 << bit)
        wave = np.fft.irfft(spectrum, n=1 << bit, axis=-1).astype(np.float32)
        levels.append(np.concatenate([wave, wave[:, :1]], axis=-1))
    return Tables(
        waves=np.concatenate(levels, axis=-1).ravel(),
        ladder=np.stack([np.cumsum([0] + [level.shape[1] for level in levels[:-1]]), bits, harmonics]),
        first=np.cumsum([0, *counts[:-1]]),
        count=np.array(counts),
    )


def opened(source: Waveform | Path | str) -> Tables:
    """The tables of a file or a sound: one table of all its frames, the loudest as loud as built-in ones.

    The frame length is what the file says; else 2048, 1024, 512 or 256, the first that divides the length. What is
    shorter than 2048 samples is a single cycle of any length. `ConfigError` for other lengths, and for silence.
    """
    if isinstance(source, Waveform):
        waveform, frame, what = source, None, "the wavetable"
    else:
        waveform, frame, what = read(source), _said(Path(source).read_bytes()), f"'{Path(source).name}'"
    audio = waveform.mono().samples[0].astype(np.float64)
    frames = _framed(audio, frame, what)
    spectra = np.fft.rfft(frames, axis=-1)[:, 1 : min((frames.shape[1] + 1) // 2, HARMONICS + 1)] / frames.shape[1]
    rms = _rms(spectra).max()
    if not np.isfinite(rms) or rms < 1e-5:
        raise ConfigError(
            f"{what} is silent or holds NaN: a wavetable is frames of {FRAME} samples with a wave in each"
        )
    spectra = np.pad(spectra * (LEVEL / rms), ((0, 0), (0, HARMONICS - spectra.shape[1])))
    return built(spectra, [len(frames)])


def _said(data: bytes) -> int | None:
    """What a file's chunk "clm " says of its frame length, in the form "<!>2048 ..."."""
    try:
        whole = riff.listed(data, "WAVE", what="a WAV file")
        for chunk in riff.chunks(data, whole.start, whole.end, what="a WAV file"):
            if chunk.name == "clm ":
                said = re.match(rb"\s*<!>\s*(\d{1,6})", data[chunk.start : chunk.end])
                return int(said[1]) if said else None
    except InstrumentError:  # what is wrong with it, `audio` has said; other formats have no such chunk
        pass
    return None


def _framed(audio: NDArray[np.float64], frame: int | None, what: str) -> NDArray[np.float64]:
    n = len(audio)
    if frame is None:
        frame = n if SHORTEST <= n < FRAME else next((guess for guess in GUESSES if n and n % guess == 0), None)
    if frame is None or frame < SHORTEST or n < frame or n % frame:
        wanted = f"frames of {frame} samples, as it says" if frame else f"frames of {FRAME} samples (1024, 512, 256)"
        raise ConfigError(f"{what} has {n} samples: a wavetable is {wanted}, or a single cycle of {SHORTEST} to 2047")
    if n // frame > MOST_FRAMES:
        raise ConfigError(f"{what} has {n // frame} frames of {frame} samples: a wavetable has {MOST_FRAMES} at most")
    return audio.reshape(-1, frame)


@functools.cache
def shipped() -> Tables:
    """The built-in tables, of one loudness throughout: see `NAMES`."""
    spectra = [of(np.linspace(0, 1, count)) for of, count in _SHIPPED.values()]
    return built(np.concatenate(spectra), [len(one) for one in spectra])


@njit(cache=True)
def level(highest, harmonics):  # type: ignore[no-untyped-def]
    """Which level has all harmonics below half the sample rate, and no other, at the highest increment of a phase."""
    fitting = int(0.5 * PHASE_ONE / max(highest, 1.0))
    low, high = 0, len(harmonics)
    while high - low > 1:
        middle = (low + high) >> 1
        if harmonics[middle] <= fitting:
            low = middle
        else:
            high = middle
    return low


K = np.arange(1, HARMONICS + 1)


def _rms(spectra: NDArray[Any]) -> NDArray[np.float64]:
    """Of real waves, whose power is twice that of half their spectrum."""
    rms: NDArray[np.float64] = np.sqrt(2 * (np.abs(spectra) ** 2).sum(axis=-1, keepdims=True))
    return rms


def _level(spectra: NDArray[Any]) -> NDArray[np.complex128]:
    return np.asarray(spectra * (LEVEL / _rms(spectra)), np.complex128)


def _saw_to_square(at: NDArray[np.float64]) -> NDArray[np.complex128]:
    return _level(-0.5j / K * np.where(K % 2 == 0, 1 - at[:, None], 1))


def _pulses(at: NDArray[np.float64]) -> NDArray[np.complex128]:
    """A square that narrows to a needle, its middle staying where it is."""
    width = 0.5 * 0.1 ** at[:, None]
    return _level(np.sin(np.pi * K * width) / K + 0j)


def _sweep(at: NDArray[np.float64]) -> NDArray[np.complex128]:
    """A fundamental and a peak that climbs the harmonics, as a filter at full resonance does."""
    peak = 2.0 ** (5 * at[:, None])
    shape = np.exp(-0.5 * ((K - peak) / 0.6) ** 2) + 0.5 * (K == 1) + 0.3 / K * (peak >= K)
    return _level(-0.5j * shape)


# Formants of a, e, i, o, u, a man's voice: hertz, and levels in dB (after Peterson and Barney, 1952).
VOWELS = (
    ((730, 0), (1090, -4), (2440, -24), (3400, -30)),
    ((530, 0), (1840, -12), (2480, -17), (3500, -26)),
    ((270, 0), (2290, -18), (3010, -22), (3600, -28)),
    ((570, 0), (840, -6), (2410, -30), (3300, -34)),
    ((300, 0), (870, -14), (2240, -38), (3200, -42)),
)


def _vowels(at: NDArray[np.float64]) -> NDArray[np.complex128]:
    """a, e, i, o, u on a voice of 110 Hz: formants are in the table, so they move with the key."""
    place = at * (len(VOWELS) - 1)
    table = np.array(VOWELS, np.float64)  # [vowel, formant, 2]
    below = np.minimum(place.astype(int), len(VOWELS) - 2)
    part = (place - below)[:, None, None]
    formants = table[below] * (1 - part) + table[below + 1] * part
    hz = 110.0 * K
    peaks = 10 ** (formants[:, :, 1:] / 20) / (1 + ((hz - formants[:, :, :1]) / (40 + 0.04 * formants[:, :, :1])) ** 2)
    tilt = K**-0.5
    return _level(-0.5j * (peaks.sum(axis=1) + 0.003) * tilt)


def _bells(at: NDArray[np.float64]) -> NDArray[np.complex128]:
    """Few harmonics far apart, from dull to bright."""
    strikes = {1: 1.0, 3: 0.5, 4: 0.35, 7: 0.6, 11: 0.45, 13: 0.3, 18: 0.35, 24: 0.25, 29: 0.2, 37: 0.2, 47: 0.15}
    shape = np.array([strikes.get(int(k), 0.0) for k in K])
    return _level(-0.5j * shape * K ** (-2.5 * (1 - at[:, None])))


def _sync(at: NDArray[np.float64]) -> NDArray[np.complex128]:
    """A saw started again every period before it is through, its own pitch climbing by almost three octaves."""
    t = (np.arange(32768) + 0.5) / 32768
    return _of_waves(1 - 2 * ((t * 7.4 ** at[:, None]) % 1))


def _growl(at: NDArray[np.float64]) -> NDArray[np.complex128]:
    """A sine whose phase another one moves, further and further."""
    t = (np.arange(32768) + 0.5) / 32768
    return _of_waves(np.sin(2 * np.pi * t + 6 * at[:, None] * np.sin(4 * np.pi * t + 1)))


def _of_waves(waves: NDArray[np.float64]) -> NDArray[np.complex128]:
    return _level(np.fft.rfft(waves, axis=-1)[:, 1 : HARMONICS + 1] / waves.shape[1])


_SHIPPED = {
    "saw to square": (_saw_to_square, 2),
    "pulses": (_pulses, 24),
    "harmonic sweep": (_sweep, 33),
    "vowels": (_vowels, 17),
    "bells": (_bells, 9),
    "sync": (_sync, 32),
    "growl": (_growl, 17),
}
NAMES = tuple(_SHIPPED)
