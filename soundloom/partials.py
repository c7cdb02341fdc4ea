"""What the partials of a note say beyond its pitch: how far a stiff string stretches them."""

import math
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from soundloom import spectral
from soundloom.peaks import Floats, kernel

WINDOW_S = 0.186
STEADY_CENTS = 20.0  # frames whose pitch is farther from the note's are not looked at
FIRST = 10  # partials that the grid looks at
HIGHEST = 30  # and the fit, in the end
FEWEST = 4  # partials below which stiffness cannot be told from mistuning


def inharmonicity(audio: Tensor, f0_hz: Tensor, *, sample_rate: int, hop_length: int) -> Tensor:
    """The stiffness B of each sound's string: its partials are at f_p = p·f0·√(1 + B·p²) (Fletcher, 1964).

    audio [B, T] and its pitch f0_hz [B, N] (0: unvoiced) -> [B], from 0 to 0.05; 0 where there is no steady pitch or
    fewer than four partials. On the mean spectrum of the steady frames, the B and a small correction of f0 are sought
    whose comb meets the most peaks, and then fitted to the peaks met.
    """
    n_fft = 2 ** round(math.log2(WINDOW_S * sample_rate))
    result = torch.zeros(len(audio))
    for row in range(len(audio)):
        found = _steady(f0_hz[row])
        if found is None:
            continue
        f0, frames = found
        mean = _mean_spectrum(audio[row].detach().float().cpu(), frames, n_fft=n_fft, hop_length=hop_length)
        result[row] = _stiffness(mean, f0, sample_rate / n_fft, _grid())
    return result.to(audio.device)


def _steady(f0_hz: Tensor) -> tuple[float, NDArray[np.int64]] | None:
    track = f0_hz.detach().cpu().double().numpy()
    voiced = np.flatnonzero(track > 0)
    if len(voiced) < 4:
        return None
    f0 = float(np.median(track[voiced]))
    steady = voiced[np.abs(1200 * np.log2(track[voiced] / f0)) < STEADY_CENTS]
    if len(steady) < 4:
        return None
    return float(np.median(track[steady])), steady


def _mean_spectrum(audio: Tensor, frames: NDArray[np.int64], *, n_fft: int, hop_length: int) -> Floats:
    """The amplitude spectrum [F] of long windows on at most 24 of `frames`, as a mean of powers."""
    many = min(24, 2 + 3 * len(frames) * hop_length // n_fft)  # closer ones would hear the same again
    chosen = frames[np.unique(np.linspace(0, len(frames) - 1, many).astype(np.int64))]
    framed = spectral.frame(audio, n_fft=n_fft, hop_length=hop_length)[torch.from_numpy(chosen)]
    spectrum = torch.view_as_real(torch.fft.rfft(framed * spectral.hann(n_fft, audio.device)))
    mean: Floats = spectrum.square().sum(-1).mean(0).sqrt().numpy()
    return mean


@lru_cache(maxsize=1)
def _grid() -> NDArray[np.float64]:
    return np.append(0.0, np.geomspace(2e-6, 0.05, 60))


@kernel
def _local_peaks(magnitudes: Any, half: int, bin_hz: float, freqs: Any, levels: Any) -> int:
    """Peaks that stand 8 dB out of the mean of their surroundings, by parabolas on the logarithm; level in dB above."""
    count = 0
    n = magnitudes.shape[0]
    for k in range(2, n - 2):
        m = magnitudes[k]
        if m > magnitudes[k - 1] and m >= magnitudes[k + 1] and m > magnitudes[k - 2] and m > magnitudes[k + 2]:
            low, high = max(0, k - half), min(n, k + half + 1)
            around = 0.0
            for i in range(low, high):
                around += magnitudes[i]
            level = 20 * math.log10(m * (high - low) / (around + 1e-30))
            if level > 8.0:
                a, b, c = math.log(magnitudes[k - 1] + 1e-30), math.log(m), math.log(magnitudes[k + 1] + 1e-30)
                freqs[count] = (k + 0.5 * (a - c) / (a - 2 * b + c)) * bin_hz
                levels[count] = level
                count += 1
    return count


@kernel
def _nearest(target: float, freqs: Any, count: int) -> int:
    """Index of the value nearest to target in the sorted freqs."""
    low, high = 0, count - 1
    while low < high:
        middle = (low + high) // 2
        if freqs[middle] < target:
            low = middle + 1
        else:
            high = middle
    if low > 0 and target - freqs[low - 1] < freqs[low] - target:
        low -= 1
    return low


@kernel
def _stiffness(magnitudes: Any, f0: float, bin_hz: float, grid: Any) -> float:
    freqs = np.empty(magnitudes.shape[0])
    levels = np.empty(magnitudes.shape[0])
    half = max(4, int(0.5 * f0 / bin_hz))
    count = _local_peaks(magnitudes, half, bin_hz, freqs, levels)
    if count < FEWEST:
        return 0.0
    tolerance = max(0.5 * bin_hz, 0.006 * f0)
    most, stiff, tuned, flat = 0.0, 0.0, f0, 0.0
    for b in grid:
        for step in range(-12, 13):
            tried = f0 * (1 + 0.0012 * step)
            met = 0.0
            for p in range(1, FIRST + 1):
                target = p * tried * math.sqrt(1 + b * p * p)
                if target > freqs[count - 1] + tolerance:
                    break
                i = _nearest(target, freqs, count)
                off = (freqs[i] - target) / tolerance
                if abs(off) < 1:
                    met += levels[i] * (1 - off * off)
            if met > most:
                most, stiff, tuned = met, b, tried
            if b == 0.0:
                flat = max(flat, met)
    if most < 1.02 * flat:
        stiff = 0.0
    # (f_p / p)² = f0² + f0²·B·p²: a straight line over p², fitted to the peaks met, from the lowest partials outwards
    for highest in (8, 10, 12, 15, 19, 24, HIGHEST, HIGHEST):
        s0 = s1 = s2 = t0 = t1 = 0.0
        used = 0
        for p in range(1, highest + 1):
            target = p * tuned * math.sqrt(1 + stiff * p * p)
            if target > freqs[count - 1] + tolerance:
                break
            i = _nearest(target, freqs, count)
            if abs(freqs[i] - target) < 2 * tolerance:
                x, y = float(p * p), (freqs[i] / p) ** 2
                w = levels[i] * x
                s0 += w
                s1 += w * x
                s2 += w * x * x
                t0 += w * y
                t1 += w * x * y
                used += 1
        if used < FEWEST:
            return 0.0
        slope = (s0 * t1 - s1 * t0) / (s0 * s2 - s1 * s1)
        level = (t0 - slope * s1) / s0
        if level <= 0:
            return 0.0
        tuned, stiff = math.sqrt(level), min(max(slope / level, 0.0), 0.05)
    return stiff
