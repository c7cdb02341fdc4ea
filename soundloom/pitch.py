"""One pitch per frame: spectral peaks, the combs that explain them, and the path through time that changes least.

Each frame is looked at through three windows, the longest only for the lowest pitches, on decimated signals where
that loses nothing. Every strong peak, divided by 1 to 12, proposes a pitch; a comb at each proposal is scored by the
share of the peaks it explains, beyond what chance would, times the share of its own teeth that it finds. Time-domain
methods (YIN and its kin) cannot tell a high pitch from its sub-harmonics, since both repeat; the empty teeth can.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from soundloom import spectral
from soundloom.errors import ConfigError
from soundloom.peaks import Floats, decimate, find_peaks, kernel, spectra

CANDIDATES = 5  # pitches kept per frame
PARTIALS = 40  # teeth of a comb
PROPOSERS = 5  # strongest peaks, each of which may be any of the first twelve partials
DIVISORS = 12
HOPELESS = 0.05  # where the two strongest peaks bring no better score, the frame is noise, and the others are not asked
GAP = 2  # empty teeth in a row that count: sub-harmonics miss every other tooth, a vowel all those between its formants
EXPONENT = 1.25  # of amplitudes when peaks are weighed: the many faint peaks of a knock shall not outvote a tone
VOICED = 0.11  # score at which a pitch is worth as much as none
GLIDE = 0.08  # cost of a semitone of movement between neighbouring frames, up to JUMP
JUMP = 1.0
SWITCH = 0.3  # cost of going from voiced to unvoiced or back
WINDOWS = ((0.0464, 48000.0), (0.0929, 5600.0), (0.1858, 5600.0))  # seconds, and the sample rate that is enough for it
RESOLVED = 4.4  # bins between partials that a Hann window (main lobe 4 bins) tells apart


@dataclass(frozen=True)
class PitchTrack:
    """The pitch over time. Shapes [B, N]: `f0_hz`, 0 where unvoiced; `voiced`, 0 or 1; `confidence`, 0 to 1."""

    f0_hz: Tensor
    voiced: Tensor
    confidence: Tensor


@dataclass(frozen=True)
class Candidates:
    """What each frame says for itself, best first. Shapes [B, N, CANDIDATES]; score 0: no candidate."""

    f0_hz: Floats
    score: Floats


@dataclass(frozen=True)
class Level:
    """One of the windows that frames are seen through, and the pitches it answers for."""

    decimation: int
    window: int  # samples at the decimated rate
    low_hz: float
    high_hz: float


def track_pitch(
    audio: Tensor, *, sample_rate: int, hop_length: int, low_hz: float = 24.0, high_hz: float = 5000.0
) -> PitchTrack:
    """The pitch of every frame, or that there is none: to a few cents on steady notes, from 24 Hz to 5 kHz.

    audio [B, T] -> tracks [B, N] on its device; computed on the CPU. Frames are scored one by one by `candidates`, from
    no more than `lookahead_s` beyond them; over them goes the path of least movement (Viterbi), which sees all frames.

    >>> import torch
    >>> tone = torch.sin(2 * torch.pi * 440 * torch.arange(22050) / 44100)[None]
    >>> track = track_pitch(tone, sample_rate=44100, hop_length=512)
    >>> round(track.f0_hz[0, 20].item())
    440
    """
    found = candidates(audio, sample_rate=sample_rate, hop_length=hop_length, low_hz=low_hz, high_hz=high_hz)
    return best_path(found, device=audio.device)


def best_path(found: Candidates, *, device: torch.device) -> PitchTrack:
    """What `track_pitch` makes of the candidates [B, N, CANDIDATES] of whole sounds."""
    f0_hz = np.zeros(found.f0_hz.shape[:2], np.float32)
    score = np.zeros_like(f0_hz)
    for row in range(len(f0_hz)):
        _follow(found.f0_hz[row], found.score[row], f0_hz[row], score[row])
    pitch = torch.from_numpy(f0_hz).to(device)
    return PitchTrack(pitch, (pitch > 0).float(), torch.from_numpy(score).to(device).clamp(0, 1))


def candidates(
    audio: Tensor,
    *,
    sample_rate: int,
    hop_length: int,
    low_hz: float = 24.0,
    high_hz: float = 5000.0,
    known: Floats | None = None,
) -> Candidates:
    """What pitches each frame could have: the part of `track_pitch` that a live stream can use. audio [B, T].

    known: `peaks.spectra` of the audio at this hop; where its window is the shortest level's it is not taken again.
    """
    if audio.ndim != 2:
        raise ConfigError(
            f"audio has shape {list(audio.shape)}, but pitch is tracked on [B, T]: mix the channels first"
        )
    if not 10 <= low_hz < high_hz or low_hz >= sample_rate / 2:
        raise ConfigError(
            f"pitch from {low_hz:g} to {high_hz:g} Hz cannot be tracked at {sample_rate} Hz: "
            f"10 <= low < high, and low < {sample_rate / 2:g}"
        )
    levels = find_levels(sample_rate, hop_length, low_hz, high_hz)

    def parts() -> Iterator[Floats]:
        signal, factor = audio.detach().float().cpu(), 1
        for level in levels:
            if level.decimation > factor:
                signal, factor = decimate(signal, level.decimation // factor), level.decimation
            if known is not None and factor == 1 and known.shape[1] == level.window // 2 + 1:
                yield known
            else:
                yield spectra(signal, level.window, hop_length // factor)

    n = spectral.frames(audio.shape[-1], hop_length=hop_length)
    with torch.no_grad():
        f0_hz, score = score_levels(levels, parts(), len(audio) * n, sample_rate=sample_rate)
    shape = (len(audio), n, CANDIDATES)
    return Candidates(f0_hz.reshape(shape), score.reshape(shape))


def score_levels(
    levels: Sequence[Level], parts: Iterable[Floats], n_frames: int, *, sample_rate: int
) -> tuple[Floats, Floats]:
    """The spectra [N, F, 2] that each level has of N frames -> candidates and their scores, both [N, CANDIDATES]."""
    f0_hz = np.zeros((n_frames, CANDIDATES), np.float32)
    score = np.zeros_like(f0_hz)
    outside = np.zeros(n_frames, np.float32)
    edge_hz = 0.45 * sample_rate / levels[-1].decimation
    for level, spectrum in zip(levels, parts, strict=True):
        bin_hz = sample_rate / level.decimation / level.window
        weights = _emphasis(level.window, bin_hz)
        _score(spectrum, weights, bin_hz, (level.low_hz, level.high_hz), edge_hz, outside, f0_hz, score)
        edge_hz = 0.0
    return f0_hz, score


def lookahead_s(*, sample_rate: int, hop_length: int, low_hz: float = 24.0, high_hz: float = 5000.0) -> float:
    """Seconds of sound beyond the centre of a frame that `candidates` needs: half its longest window and filter."""
    return lookahead(find_levels(sample_rate, hop_length, low_hz, high_hz)) / sample_rate


def lookahead(levels: Sequence[Level]) -> int:
    """The same in samples: half a window, and half of each low-pass on the way to it."""
    reach, filters, factor = 0, 0, 1
    for level in levels:
        if level.decimation > factor:
            filters, factor = filters + 8 * level.decimation, level.decimation
        reach = max(reach, filters + level.decimation * level.window // 2)
    return reach


def find_levels(sample_rate: int, hop_length: int, low_hz: float, high_hz: float) -> list[Level]:
    """The windows, shortest first; each takes the pitches that it resolves and the shorter ones do not."""
    levels: list[Level] = []
    high_hz = min(high_hz, 0.48 * sample_rate)
    for seconds, enough in WINDOWS:
        decimation = 1
        while sample_rate / decimation > enough and hop_length % (2 * decimation) == 0:
            decimation *= 2
        rate = sample_rate / decimation
        window = 2 ** round(math.log2(seconds * rate))
        bottom = max(low_hz, RESOLVED * rate / window)
        if seconds == WINDOWS[-1][0]:
            bottom = low_hz
        if bottom < high_hz:
            levels.append(Level(decimation, window, bottom, high_hz))
            high_hz = bottom
    return levels


@lru_cache(maxsize=16)
def _emphasis(window: int, bin_hz: float) -> Floats:
    """Weight of each bin: 6 dB an octave from 1 kHz to 4.5 kHz, as the ear has it. Without it the knock of the hammer
    outweighs the highest notes of a piano; without its end, hiss outweighs everything."""
    khz = np.minimum(np.arange(window // 2 + 1) * bin_hz / 1000, 4.5)
    weights: Floats = np.sqrt(1 + khz**2).astype(np.float32)
    return weights


@kernel
def _comb(
    f0: float, freqs: Any, weights: Any, above: Any, count: int, total: float, bin_hz: float, teeth: Any, least: float
) -> tuple[float, float]:
    """The score of a comb at f0, and f0 refined on the peaks it meets; 0 as soon as it cannot be more than `least`.

    weights: amplitudes to the power of EXPONENT; above: the sums of those from each peak on.

    score = (explained - chance) · (filled / expected). A tooth follows the stretch of the teeth before it, so that
    stiff strings are met. Refined: f_p = p·f0·√(1 + B·p²) makes (f_p / p)² a straight line over p², fitted by least
    squares weighted with amplitude and p² (the same error in Hz counts p times less in f0).
    """
    explained = filled = expected = pending = met = 0.0
    s0 = s1 = s2 = t0 = t1 = 0.0
    chance = min(max(0.9 * bin_hz, 0.05 * f0), 0.3 * f0) / f0
    stretched, drift = f0, 0.0
    j = gap = 0
    for p in range(1, PARTIALS + 1):
        stretched += drift
        target = stretched * p
        tolerance = min(max(0.6 * bin_hz, 0.025 * target), 0.15 * f0)
        if target - tolerance > freqs[count - 1]:
            break
        while j < count and freqs[j] < target - tolerance:
            j += 1
        if explained + above[j] - chance * (total - above[j] - met) <= least * total:
            return 0.0, f0
        best = -1
        while j < count and freqs[j] < target + tolerance:
            if best < 0 or weights[j] > weights[best]:
                best = j
            j += 1
        weight = teeth[p]
        if best < 0:
            gap += 1
            if gap <= GAP:
                pending += weight  # teeth beyond the last one met are not missed: a sound may end there
        else:
            gap = 0
            off = (freqs[best] - target) / tolerance
            close = 1 - off * off
            a = weights[best]
            explained += a * (close - 1.5 * tolerance / f0)
            met += a
            filled += weight * close
            expected += pending + weight
            pending = 0.0
            ahead = freqs[best] / p - stretched
            stretched += 0.5 * ahead
            drift = max(0.0, drift + 0.2 * ahead)
            if p <= 12:
                x = float(p * p)
                y = (freqs[best] / (p * f0)) ** 2
                w = a * close * x
                s0 += w
                s1 += w * x
                s2 += w * x * x
                t0 += w * y
                t1 += w * x * y
    if expected == 0.0:
        return 0.0, f0
    explained -= chance * (total - met)
    s2 += 12 * s0  # holds B to 0 unless several partials speak
    refined = f0 * math.sqrt(max(0.0, (t0 * s2 - t1 * s1) / (s0 * s2 - s1 * s1)))
    return max(0.0, explained / total) * filled / expected, refined


@kernel
def _score(
    parts: Any,
    emphasis: Any,
    bin_hz: float,
    limits: tuple[float, float],
    edge_hz: float,
    outside: Any,
    f0_hz: Any,
    score: Any,
) -> None:
    """Scores the pitches within limits of every frame [N, F, 2] into the best lists f0_hz, score [N, CANDIDATES].

    The first level, which sees all, leaves in outside [N] what lies above edge_hz relative to what lies below; on the
    decimated ones, blind up there, it counts as unexplained: else any noise would have a low pitch.
    """
    low, high = limits
    bins = parts.shape[1]
    magnitudes = np.empty(bins, np.float32)
    freqs = np.empty(bins, np.float64)
    amps = np.empty(bins, np.float64)
    above = np.empty(bins + 1, np.float64)
    proposed = np.empty(PROPOSERS, np.int64)
    teeth = 1 / np.sqrt(np.arange(PARTIALS + 1) + 1e-9)
    for n in range(parts.shape[0]):
        for k in range(bins):
            magnitudes[k] = math.sqrt(parts[n, k, 0] ** 2 + parts[n, k, 1] ** 2) * emphasis[k]
        count = find_peaks(magnitudes, bin_hz, freqs, amps)
        above[count] = 0.0
        for i in range(count - 1, -1, -1):
            amps[i] **= EXPONENT  # from here on, what a peak weighs
            above[i] = above[i + 1] + amps[i]
        total = above[0] * (1 + outside[n])
        if edge_hz > 0:
            below = 0.0
            for i in range(count):
                if freqs[i] < edge_hz:
                    below += amps[i]
            outside[n] = min(100.0, (total - below) / max(below, 1e-9))
        proposers = 0
        for i in range(count):  # the strongest peaks, in order
            if proposers < PROPOSERS:
                proposers += 1
            elif amps[i] <= amps[proposed[PROPOSERS - 1]]:
                continue
            rank = proposers - 1
            while rank > 0 and amps[i] > amps[proposed[rank - 1]]:
                proposed[rank] = proposed[rank - 1]
                rank -= 1
            proposed[rank] = i
        for rank in range(proposers):
            if rank >= 2 and score[n, 0] < HOPELESS:
                break
            for divisor in range(1, DIVISORS + 1):
                f0 = freqs[proposed[rank]] / divisor
                if f0 < low:
                    break
                if f0 < high:
                    least = score[n, CANDIDATES - 1]
                    value, refined = _comb(f0, freqs, amps, above, count, total, bin_hz, teeth, least)
                    if abs(refined - f0) > 0.06 * f0:
                        refined = f0
                    _keep(refined, value, f0_hz[n], score[n])


@kernel
def _keep(f0: float, value: float, f0_hz: Any, score: Any) -> None:
    """Puts a pitch into the list of the best, in the place of one within 2 % if there is one."""
    slot = CANDIDATES - 1
    for c in range(CANDIDATES):
        if abs(f0_hz[c] - f0) < 0.02 * f0:
            slot = c
            break
    if value <= score[slot]:
        return
    while slot > 0 and value > score[slot - 1]:
        f0_hz[slot], score[slot] = f0_hz[slot - 1], score[slot - 1]
        slot -= 1
    f0_hz[slot], score[slot] = f0, value


@kernel
def step_cost(a: float, b: float) -> float:
    """The cost of going from pitch a to pitch b in one frame; 0 Hz is unvoiced."""
    if a == 0.0 and b == 0.0:
        return 0.0
    if a == 0.0 or b == 0.0:
        return SWITCH
    return min(GLIDE * 12 * abs(math.log2(a / b)), JUMP)


@kernel
def advance(before_hz: Any, f0_hz: Any, score: Any, value: Any, came: Any, moves: bool) -> None:
    """One frame further: the value of the best path to each of its pitches and, last, to "unvoiced", and where from.

    before_hz, f0_hz, score [CANDIDATES]: the frame before and this one; value [CANDIDATES + 1], replaced; came
    [CANDIDATES + 1], filled. `moves`: whether a path was anywhere before.
    """
    states = CANDIDATES + 1
    following = np.empty(states)
    for s in range(states):
        here = f0_hz[s] if s < CANDIDATES else 0.0
        gain = score[s] - VOICED if s < CANDIDATES else 0.0
        if s < CANDIDATES and score[s] == 0.0:
            gain = -1e9
        top = -1e18
        for r in range(states):
            there = before_hz[r] if r < CANDIDATES else 0.0
            v = value[r] - (step_cost(there, here) if moves else 0.0)
            if v > top:
                top = v
                came[s] = r
        following[s] = top + gain
    value[:] = following


@kernel
def _follow(f0_hz: Any, score: Any, path_hz: Any, path_score: Any) -> None:
    """The path of the highest sum of scores less costs of movement through [N, CANDIDATES] and "unvoiced" (Viterbi)."""
    n_frames = f0_hz.shape[0]
    came = np.zeros((n_frames, CANDIDATES + 1), np.int64)
    value = np.zeros(CANDIDATES + 1)
    for n in range(n_frames):
        advance(f0_hz[max(n - 1, 0)], f0_hz[n], score[n], value, came[n], n > 0)
    s = int(np.argmax(value)) if n_frames else 0
    for n in range(n_frames - 1, -1, -1):
        if s < CANDIDATES:
            path_hz[n] = f0_hz[n, s]
            path_score[n] = score[n, s]
        s = came[n, s]
