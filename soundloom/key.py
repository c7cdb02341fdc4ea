"""What key a recording is in, and how far its tuning is from concert pitch."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from soundloom import spectral
from soundloom.audio import Waveform, resample
from soundloom.score import NAMES

_RATE, _N_FFT, _HOP = 11025, 8192, 2048  # windows of 0.74 s: the semitones of a bass line are apart
_LOW_HZ, _HIGH_HZ = 80.0, 2000.0
_RANGE_DB = 50.0  # below the loudest peak of a frame
_HARMONICS, _FALL = 5, 0.6  # a peak may be a harmonic: it also speaks for the notes it would belong to
UNSURE = 0.25  # confidence below which there is no key
_TONAL = 0.3  # share of the power that must stand out from the noise around it in lines

# How well each degree fits a key, major and minor, from its tonic on (Krumhansl and Kessler, 1982).
_MAJOR = (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88)
_MINOR = (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17)


@dataclass(frozen=True)
class Key:
    """`tonic` is 0 for C to 11 for B; `confidence`, 0 to 1, is how well the key fits and how far ahead it is of the
    next; `tuning_cents` is how far the notes are above (below 0: under) A = 440 Hz, -50 to 50."""

    tonic: int
    mode: str
    confidence: float
    tuning_cents: float

    @property
    def name(self) -> str:
        """Such as 'F# minor'."""
        return f"{NAMES[self.tonic]} {self.mode}"


def find_key(sound: Waveform) -> Key | None:
    """The major or minor key of a recording; None where it has no tones, or none that agree on a key.

    The peaks of its spectra, and the notes they would be harmonics of, are collected by pitch class (Gómez, 2006) at
    the tuning that most of them share, and correlated with what each of the 24 keys would have (Krumhansl, 1990).

    >>> t = np.arange(4 * 22050) / 22050
    >>> chord = sum(np.sin(2 * np.pi * hz * t) for hz in (220.0, 261.63, 329.63))
    >>> find_key(Waveform(chord[None].astype(np.float32), 22050)).name
    'A minor'
    """
    if sound.seconds < _HOP / _RATE:
        return None
    hz, weight, tonal = _peaks(sound)
    if not len(hz) or tonal < _TONAL:
        return None
    tuning = _tuning(hz, weight)
    profile = _pitch_classes(hz, weight, tuning)
    fits = _fits(profile)  # [2, 12]
    mode, tonic = divmod(int(fits.argmax()), 12)
    best = float(fits.max())
    others = np.delete(fits.ravel(), fits.argmax())
    # A key and its relative share their notes: a lead of a tenth in correlation is as clear as music makes it.
    confidence = float(np.clip(best, 0, 1) * np.clip(0.5 + 5 * (best - others.max()), 0, 1))
    if confidence < UNSURE:
        return None
    return Key(tonic, ("major", "minor")[mode], confidence, tuning)


def _peaks(sound: Waveform) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Every spectral peak's frequency and weight, [P] each, and the share of power that lies in peaks."""
    heard = resample(sound.mono(), _RATE)
    power = spectral.power(torch.from_numpy(heard.samples[0]), n_fft=_N_FFT, hop_length=_HOP).numpy().T  # [N, F]
    bin_hz = _RATE / _N_FFT
    low, high = round(_LOW_HZ / bin_hz), round(_HIGH_HZ / bin_hz)
    band = power[:, low - 1 : high + 1]
    if band.max() <= 0:
        return np.zeros(0), np.zeros(0), 0.0
    level = 10 * np.log10(band / band.max() + 1e-12)
    middle = level[:, 1:-1]
    is_peak = (middle > level[:, :-2]) & (middle >= level[:, 2:])
    is_peak &= middle > np.maximum(level.max(axis=1, keepdims=True) - _RANGE_DB, -_RANGE_DB - 20)
    frame, at = np.nonzero(is_peak)
    left, here, right = level[frame, at], level[frame, at + 1], level[frame, at + 2]
    part = 0.5 * (left - right) / np.minimum(left - 2 * here + right, -1e-9)  # a parabola through three bins
    hz = (low + at + part) * bin_hz
    weight = 10 ** (here / 20)
    # A line of the Hann window falls by 6 dB in a bin and by 31 dB in two; hills of noise are broader.
    around = np.lib.stride_tricks.sliding_window_view(np.pad(band, ((0, 0), (12, 12)), mode="edge"), 25, axis=1)
    floor = np.median(around, axis=2)[:, 1:-1][frame, at]
    clear = band[frame, at + 1] > 20 * floor
    tonal = float(band[frame, at + 1][clear].sum() * 2 / band.sum())
    return hz[clear], weight[clear], tonal


def _tuning(hz: NDArray[np.float64], weight: NDArray[np.float64]) -> float:
    """The mean place between semitones, as an angle: cents above A = 440 Hz, -50 to 50."""
    semitones = 12 * np.log2(hz / 440)
    return float(np.angle(np.sum(weight * np.exp(2j * np.pi * semitones))) / (2 * np.pi) * 100)


def _pitch_classes(hz: NDArray[np.float64], weight: NDArray[np.float64], tuning: float) -> NDArray[np.float64]:
    """How much of each pitch class there is, C first: [12]."""
    profile = np.zeros(12)
    for harmonic in range(1, _HARMONICS + 1):
        place = 69 + 12 * np.log2(hz / harmonic / 440) - tuning / 100
        near = np.round(place)
        share = weight * _FALL ** (harmonic - 1) * np.cos(np.pi / 2 * np.clip(2 * np.abs(place - near), 0, 1)) ** 2
        np.add.at(profile, near.astype(int) % 12, share)
    return profile


def _fits(profile: NDArray[np.float64]) -> NDArray[np.float64]:
    """The correlation of a pitch class profile with every key: [2, 12], major and minor, from C up."""
    fits = np.empty((2, 12))
    for mode, degrees in enumerate((_MAJOR, _MINOR)):
        for tonic in range(12):
            fits[mode, tonic] = np.corrcoef(profile, np.roll(degrees, tonic))[0, 1]
    return fits
