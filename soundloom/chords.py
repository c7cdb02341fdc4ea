"""Several pitches at once: combs found one after the other on what the ones before have left, then followed in time."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from soundloom import spectral
from soundloom.errors import ConfigError
from soundloom.peaks import decimate, find_peaks, kernel, spectra
from soundloom.pitch import step_cost

WINDOW_S = 0.186  # long enough to part the partials of neighbouring notes
BANDWIDTH_HZ = 22050.0
FOUND = 8  # notes sought per frame, of which the followed are kept
PARTIALS = 30
MISSING = 1.0  # of what its neighbours hold, held against a comb for every empty tooth
SHARED = 1.3  # a partial this much above its neighbours belongs to another note as well
LEAST = 0.03  # share of a frame's peaks below which nothing more is sought
AUDIBLE = 0.04  # salience at which a voice is worth as much as none


def track_pitches(
    audio: Tensor,
    *,
    sample_rate: int,
    hop_length: int,
    voices: int,
    low_hz: float = 24.0,
    high_hz: float = 5000.0,
) -> tuple[Tensor, Tensor]:
    """The pitches of a chord: audio [B, T] -> f0_hz (0 where a voice is silent) and voiced, both [B, K, N].

    In each frame the comb that gains most is found, its partials are taken out down to what their neighbours let expect
    (what is left may be another note's: Klapuri, 2003), and so on. Then the most salient path through all frames
    is the first voice, the most salient path through the rest the second. Octaves and notes that share most
    partials may be missed, and a missed note's place be taken by a strong partial of another.
    """
    if audio.ndim != 2 or voices < 1:
        raise ConfigError(
            f"audio has shape {list(audio.shape)} and voices is {voices}: [B, T] and at least 1 are needed"
        )
    decimation = 1
    while sample_rate / decimation > BANDWIDTH_HZ and hop_length % (2 * decimation) == 0:
        decimation *= 2
    rate = sample_rate / decimation
    window = 2 ** round(math.log2(WINDOW_S * rate))
    n = spectral.frames(audio.shape[-1], hop_length=hop_length)
    with torch.no_grad():
        parts = spectra(decimate(audio.detach().float().cpu(), decimation), window, hop_length // decimation)
    found_hz = np.zeros((len(audio) * n, FOUND), np.float32)
    salience = np.zeros_like(found_hz)
    _find(parts, rate / window, low_hz, min(high_hz, rate / 2), voices + 2, found_hz, salience)
    tracks = np.zeros((len(audio), voices, n), np.float32)
    for row in range(len(audio)):
        here = slice(row * n, (row + 1) * n)
        for voice in range(voices):
            _follow_one(found_hz[here], salience[here], tracks[row, voice])
    f0_hz = torch.from_numpy(tracks).to(audio.device)
    return f0_hz, (f0_hz > 0).float()


@kernel
def _teeth(f0: float, freqs: Any, count: int, bin_hz: float, met: Any) -> int:
    """Which peak each tooth of a comb at f0 meets: met[p - 1], -1 for none. Returns the number of teeth to look at."""
    stretched = f0
    j = 0
    last = 0
    for p in range(1, PARTIALS + 1):
        target = stretched * p
        tolerance = min(max(0.5 * bin_hz, 0.008 * target), 0.15 * f0)
        met[p - 1] = -1
        if target - tolerance > freqs[count - 1]:
            break
        while j < count and freqs[j] < target - tolerance:
            j += 1
        off = tolerance
        while j < count and freqs[j] < target + tolerance:
            if abs(freqs[j] - target) < off:
                off = abs(freqs[j] - target)
                met[p - 1] = j
            j += 1
        if met[p - 1] >= 0:
            stretched += 0.4 * (freqs[met[p - 1]] / p - stretched)
            last = p
    return last


@kernel
def _weigh(f0: float, freqs: Any, left: Any, count: int, bin_hz: float, met: Any) -> tuple[float, float]:
    """What a comb gains, and its f0 refined on its first six teeth.

    Gain: what its teeth hold in left (square roots of amplitudes), no tooth much more than its neighbours, less what
    its empty teeth should have held, going by their neighbours.
    """
    last = _teeth(f0, freqs, count, bin_hz, met)
    gain = 0.0
    weighted = 0.0
    weight = 0.0
    for p in range(1, last + 1):
        i = met[p - 1]
        below = left[met[p - 2]] if p > 1 and met[p - 2] >= 0 else 0.0
        above = left[met[p]] if p < last and met[p] >= 0 else 0.0
        around = max(below, above) if (p == 1 or below == 0.0 or above == 0.0) else 0.5 * (below + above)
        if i >= 0:
            a = left[i]
            if p > 1:
                a = min(a, 2 * around + 0.2 * a)
            gain += a
            if p <= 6:
                weighted += a * freqs[i] * p
                weight += a * p * p
            # A tooth much weaker than its surroundings is half missing
            gain -= MISSING * max(0.0, 0.3 * around - left[i])
        else:
            if around == 0.0:
                for q in range(p + 1, last + 1):
                    if met[q - 1] >= 0:
                        around = left[met[q - 1]]
                        break
            gain -= MISSING * around
    return gain, weighted / weight if weight > 0 else f0


@kernel
def _find(parts: Any, bin_hz: float, low: float, high: float, most: int, found: Any, salience: Any) -> None:
    """The notes of every frame [N, F, 2], strongest first, into found and salience [N, FOUND]."""
    bins = parts.shape[1]
    magnitudes = np.empty(bins, np.float32)
    freqs = np.empty(bins, np.float64)
    amps = np.empty(bins, np.float64)
    met = np.empty(PARTIALS + 1, np.int64)
    for n in range(parts.shape[0]):
        for k in range(bins):
            magnitudes[k] = math.sqrt(parts[n, k, 0] ** 2 + parts[n, k, 1] ** 2)
        count = find_peaks(magnitudes, bin_hz, freqs, amps)
        if count == 0:
            continue
        left = np.sqrt(amps[:count])
        total = left.sum()
        for voice in range(min(most, FOUND)):
            best_gain, best_f0 = 0.0, 0.0
            order = np.argsort(-left)[:12]
            for i in order:
                for divisor in range(1, 9):
                    f0 = freqs[i] / divisor
                    if f0 < low:
                        break
                    if f0 < high:
                        gain, refined = _weigh(f0, freqs, left, count, bin_hz, met)
                        if gain > best_gain:
                            best_gain = gain
                            best_f0 = refined if abs(refined - f0) < 0.02 * f0 else f0
            if best_gain < LEAST * total:
                break
            found[n, voice] = best_f0
            salience[n, voice] = best_gain / total
            last = _teeth(best_f0, freqs, count, bin_hz, met)
            before = left.copy()
            for p in range(1, last + 1):
                i = met[p - 1]
                if i < 0:
                    continue
                below = before[met[p - 2]] if p > 1 and met[p - 2] >= 0 else before[i]
                above = before[met[p]] if p < last and met[p] >= 0 else before[i]
                smooth = 0.5 * (below + above)
                left[i] = before[i] - smooth if before[i] > SHARED * smooth else 0.0


@kernel
def _follow_one(found: Any, salience: Any, track: Any) -> None:
    """The most salient path (Viterbi), taken out of `found` so that the next call follows the next."""
    frames, width = found.shape
    came = np.zeros((frames, width + 1), np.int64)
    value = np.zeros(width + 1)
    for n in range(frames):
        following = np.empty(width + 1)
        for s in range(width + 1):
            here, gain = 0.0, 0.0
            if s < width:
                here = found[n, s]
                gain = salience[n, s] - AUDIBLE if here > 0 else -1e9
            top = -1e18
            for r in range(width + 1):
                there = 0.0
                if n > 0 and r < width:
                    there = found[n - 1, r]
                v = value[r] - (0.5 * step_cost(there, here) if n > 0 else 0.0)
                if v > top:
                    top = v
                    came[n, s] = r
            following[s] = top + gain
        value = following
    if frames == 0:
        return
    s = int(np.argmax(value))
    for n in range(frames - 1, -1, -1):
        if s < width:
            track[n] = found[n, s]
        following_s = came[n, s]
        if track[n] > 0:
            for r in range(width):
                if found[n, r] > 0 and abs(found[n, r] - track[n]) < 0.025 * track[n]:
                    found[n, r] = 0.0
                    salience[n, r] = 0.0
        s = following_s
