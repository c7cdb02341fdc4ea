"""The parts of a recording: where it changes, and which parts are alike (A, B, A …)."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage, signal

from soundloom import spectral
from soundloom.audio import Waveform, resample

_RATE, _N_FFT, _N_MELS = 22050, 4096, 60
_STEP_S, _MOST_STEPS = 0.5, 1500  # an hour is looked at in coarser steps, so that its matrix stays small
_SMOOTH_S = 2.5  # a bar or so: what changes within it is rhythm
_SHORTEST_S = 4.0
_AROUND_S = 8.0  # on each side of a change, at most
_RANGE_DB = 60.0
_DIFFERENT_DB = 2.0  # bands that differ by less on average are the same sound, however alike the rest is
_NOVEL = 0.2  # how much more alike both sides of a change are in themselves than with each other
_ALIKE = 0.75  # two parts are one letter when they are this alike, against each with itself


@dataclass(frozen=True)
class Part:
    """From `start_s` to `end_s` it sounds alike; parts with one `label` (A, B, …) sound alike too."""

    start_s: float
    end_s: float
    label: str


def find_form(sound: Waveform) -> tuple[Part, ...]:
    """The parts of a recording in order, at least 4 s each, without gaps; one part A where nothing changes.

    A matrix says how alike the spectra of every two moments are; along its diagonal, a change is where the moments
    before are like each other, those after too, but not those before like those after (Foote, 2000).

    >>> low, high = (np.sin(np.arange(8 * 8000) * w).astype(np.float32) for w in (0.2, 1.5))
    >>> parts = find_form(Waveform(np.concatenate([low, high, low])[None], 8000))
    >>> [(round(part.start_s), part.label) for part in parts]
    [(0, 'A'), (8, 'B'), (16, 'A')]
    """
    if not sound.seconds > 0:
        return ()
    step_s = max(_STEP_S, sound.seconds / _MOST_STEPS)
    if sound.seconds < 2 * _SHORTEST_S:
        return (Part(0.0, sound.seconds, "A"),)
    alike = _alikeness(_spectra(sound, step_s), step_s)
    cuts = _changes(alike, step_s)
    bounds = [0, *cuts, len(alike)]
    labels = _labels(alike, bounds)
    times = [0.0, *(cut * step_s for cut in cuts), sound.seconds]
    return _joined([Part(a, b, label) for (a, b), label in zip(pairwise(times), labels, strict=True)])


def _spectra(sound: Waveform, step_s: float) -> NDArray[np.float32]:
    """The mean level of each mel band in each step, dB: [M, bands]."""
    heard = resample(sound.mono(), _RATE)
    hop = _N_FFT // 4
    bands = spectral.mel(
        torch.from_numpy(heard.samples[0]),
        sample_rate=_RATE,
        n_fft=_N_FFT,
        hop_length=hop,
        n_mels=_N_MELS,
        low_hz=40.0,
    ).numpy()
    level = 10 * np.log10(np.maximum(bands, 1e-12 + bands.max() * 10 ** (-_RANGE_DB / 10)))
    steps = max(1, round(sound.seconds / step_s))
    owner = np.minimum(((np.arange(level.shape[1]) + 0.5) * hop / _RATE / step_s).astype(int), steps - 1)
    starts = np.searchsorted(owner, np.arange(steps))
    means = np.add.reduceat(level, starts, axis=1) / np.diff(np.append(starts, level.shape[1]))
    return np.asarray(means.T, np.float32)


def _alikeness(spectra: NDArray[np.float32], step_s: float) -> NDArray[np.float32]:
    """How alike every two steps are, 0 to 1: [M, M]."""
    width = 2 * round((_SMOOTH_S / step_s - 1) / 2) + 1  # odd: an even one would be late by half a step
    smooth = ndimage.uniform_filter1d(spectra, max(1, width), axis=0, mode="nearest")
    square = (smooth**2).mean(axis=1)
    apart = np.maximum(square[:, None] + square[None] - 2 * smooth @ smooth.T / smooth.shape[1], 0)  # dB²
    usual = max(float(np.quantile(apart, 0.75)), _DIFFERENT_DB**2)
    return np.asarray(np.exp(-apart / (0.5 * usual)), np.float32)


def _changes(alike: NDArray[np.float32], step_s: float) -> list[int]:
    """The steps at which something new begins."""
    n, shortest = len(alike), max(1, round(_SHORTEST_S / step_s))
    most = max(shortest, round(_AROUND_S / step_s))
    novelty = np.zeros(n)
    for i in range(shortest, n - shortest + 1):
        a, b = max(0, i - most), min(n, i + most)
        before, after, across = alike[a:i, a:i].mean(), alike[i:b, i:b].mean(), alike[a:i, i:b].mean()
        novelty[i] = min(before, after) - across
    peaks, _ = signal.find_peaks(novelty, height=_NOVEL, distance=shortest)
    return [int(peak) for peak in peaks if shortest <= peak <= n - shortest]


def _labels(alike: NDArray[np.float32], bounds: list[int]) -> list[str]:
    """A letter for each part: that of the earlier part most like it, or the next one."""
    parts = list(pairwise(bounds))
    labels: list[int] = []
    for i, (start, end) in enumerate(parts):
        best, letter = _ALIKE, max(labels, default=-1) + 1
        for j, (first, last) in enumerate(parts[:i]):
            own = min(alike[start:end, start:end].mean(), alike[first:last, first:last].mean())
            same = float(alike[start:end, first:last].mean() / own)
            if same > best:
                best, letter = same, labels[j]
        labels.append(letter)
    return [_letters(number) for number in labels]


def _letters(number: int) -> str:
    """A to Z, then AA, AB and on."""
    return (_letters(number // 26 - 1) if number >= 26 else "") + chr(ord("A") + number % 26)


def _joined(parts: list[Part]) -> tuple[Part, ...]:
    """Neighbours with one letter are one part."""
    joined: list[Part] = []
    for part in parts:
        if joined and joined[-1].label == part.label:
            joined[-1] = Part(joined[-1].start_s, part.end_s, part.label)
        else:
            joined.append(part)
    return tuple(joined)
