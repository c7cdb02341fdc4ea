"""How fast a recording goes, and when its beats fall."""

import math
from dataclasses import dataclass

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from soundloom import spectral
from soundloom.audio import Waveform, resample

SLOWEST_BPM, FASTEST_BPM = 40.0, 240.0
_RATE, _HOP, _N_FFT, _N_MELS = 22050, 128, 1024, 40
_FRAMES_PER_S = _RATE / _HOP
_RANGE_DB = 60.0  # below the loudest band of the loudest frame nothing is an onset
_LAG = 3  # frames over which a rise is measured: the time a sharp attack takes in frames that overlap
_GROUPS = 4  # a kick on the beat and a hat between beats are two rhythms, not one of twice the speed
_LOW_FIRST = (4.0, 2.0, 1.0, 1.0)  # what each band says of where the beats fall: drums and basses mark them
_WINDOW_S, _STEP_S = 12.0, 4.0  # a player drifts, so rhythm is measured in windows
_USUAL_BPM, _OCTAVES = 115.0, 0.6  # what people tap to: a Gaussian over log-tempo (Parncutt, 1994; Ellis, 2007)
_BEATS = 6  # as many must fit into a recording for it to have a tempo
_TIGHTNESS = 400.0  # how much a beat away from its time costs, against an onset of one standard deviation
UNSURE = 0.3  # confidence below which there is no tempo


@dataclass(frozen=True)
class Tempo:
    """Beats a minute, how sure that is (0 to 1: how much of the rhythm comes again a beat later), and the beats."""

    bpm: float
    confidence: float
    beats_s: tuple[float, ...]


def find_tempo(sound: Waveform) -> Tempo | None:
    """The tempo of a recording, 40 to 240 beats a minute, and when its beats fall; None where it has none.

    Rises of the mel spectrum are onsets. A beat is a period at which they come again (autocorrelation) and at whose
    rate they come (Fourier transform): the first also holds for every multiple of the beat, the second for every
    part, only the beat itself has both (Peeters, 2007). What is left of the choice goes by how fast people tap. The
    beats are then the best path through the onsets at that pace (Ellis, 2007), and their mean distance is the tempo.

    >>> clicks = np.zeros((1, 10 * 22050), np.float32)
    >>> clicks[0, ::11025] = 1
    >>> found = find_tempo(Waveform(clicks, 22050))
    >>> round(found.bpm, 1), len(found.beats_s)
    (120.0, 20)
    """
    if sound.seconds < _BEATS * 60 / FASTEST_BPM:
        return None
    rhythm = onsets(sound)
    periods, strength, sure = _periodicity(rhythm)
    fits = periods * _BEATS <= rhythm.shape[1]
    if not fits.any() or not strength[fits].max() > 0:
        return None
    best = int(np.flatnonzero(fits)[strength[fits].argmax()])
    confidence = float(np.clip(sure[best], 0, 1))
    if confidence < UNSURE:
        return None
    total = np.array(_LOW_FIRST) @ rhythm
    beats = _beats(total / max(float(total.std()), 1e-9), float(periods[best]), _TIGHTNESS)
    period = _pace(beats, float(periods[best]))
    return Tempo(60 * _FRAMES_PER_S / period, confidence, tuple((float(b) + 0.5) / _FRAMES_PER_S for b in beats))


def onsets(sound: Waveform) -> NDArray[np.float32]:
    """How strongly something begins in each frame of 5.8 ms, in four bands from low to high: [4, N]."""
    heard = resample(sound.mono(), _RATE)
    audio = torch.from_numpy(heard.samples[0])
    bands = spectral.mel(audio, sample_rate=_RATE, n_fft=_N_FFT, hop_length=_HOP, n_mels=_N_MELS, low_hz=30.0)
    top = float(bands.max())
    if top <= 0:
        return np.zeros((_GROUPS, bands.shape[1]), np.float32)
    level = 10 * torch.log10(bands / top + 10 ** (-_RANGE_DB / 10)).numpy()
    # The loudest of three neighbouring bands before: vibrato is no onset (Böck and Widmer, 2013).
    before = ndimage.maximum_filter1d(level, 3, axis=0)
    rise = np.maximum(level[:, _LAG:] - before[:, :-_LAG], 0)
    rise = np.pad(rise, ((0, 0), (_LAG, 0)))
    groups = rise.reshape(_GROUPS, -1, rise.shape[1]).mean(axis=1)
    smooth = ndimage.gaussian_filter1d(groups, 2.0, axis=1)
    usual = ndimage.uniform_filter1d(smooth, round(1.0 * _FRAMES_PER_S), axis=1)
    return np.asarray(np.maximum(smooth - usual, 0), np.float32)


def _periodicity(rhythm: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Periods in frames, how much each is the beat, and the autocorrelation there: all [P]."""
    octaves = math.log2(FASTEST_BPM / SLOWEST_BPM)
    bpm = SLOWEST_BPM * 2.0 ** np.linspace(0, octaves, round(octaves * 150) + 1)
    periods = 60 * _FRAMES_PER_S / bpm
    size = min(rhythm.shape[1], round(_WINDOW_S * _FRAMES_PER_S))
    padded = 2 ** math.ceil(math.log2(2 * size))
    window = np.hanning(size + 2)[1:-1]
    again, rate = np.zeros(padded // 2 + 1), np.zeros(padded // 2 + 1)
    for start in range(0, rhythm.shape[1] - size + 1, round(_STEP_S * _FRAMES_PER_S)):
        part = rhythm[:, start : start + size] - rhythm[:, start : start + size].mean(axis=1, keepdims=True)
        spectrum = np.abs(np.fft.rfft(part, padded)) ** 2
        again += np.fft.irfft(spectrum.sum(axis=0))[: padded // 2 + 1]
        rate += (np.abs(np.fft.rfft(part * window, padded)) ** 2).sum(axis=0)
    if again[0] <= 0:
        return periods, np.zeros_like(periods), np.zeros_like(periods)
    lags = np.arange(len(again))
    again = np.where(lags < size, again / again[0] * size / np.maximum(size - lags, 0.1 * size), 0)
    rate = np.sqrt(rate / rate.max())
    correlation = np.interp(periods, lags, again)
    pulses = np.interp(padded / periods, np.arange(len(rate)), rate)
    usual = np.exp(-0.5 * (np.log2(bpm / _USUAL_BPM) / _OCTAVES) ** 2)
    return periods, np.maximum(correlation, 0) ** 2 * pulses * usual, correlation


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _beats(strength: NDArray[np.float64], period: float, tightness: float) -> NDArray[np.int64]:
    """The frames of the beats: the path with the strongest onsets whose steps keep to the period (Ellis, 2007)."""
    n = strength.shape[0]
    score, back = np.zeros(n), np.full(n, -1, np.int64)
    low, high = max(1, round(period / 2)), round(2 * period)
    cost = np.zeros(high + 1)
    for step in range(low, high + 1):
        cost[step] = tightness * math.log(step / period) ** 2
    for i in range(n):
        best = 0.0
        for step in range(low, min(high, i) + 1):
            candidate = score[i - step] - cost[step]
            if candidate > best:
                best, back[i] = candidate, i - step
        score[i] = strength[i] + best
    first = max(0, n - round(period))
    at = first + int(score[first:].argmax())
    found = []
    while at >= 0:
        found.append(at)
        at = back[at]
    return np.array(found[::-1], dtype=np.int64)


def _pace(beats: NDArray[np.int64], period: float) -> float:
    """The mean distance of the beats in frames: a line through them, each at its number."""
    if len(beats) < _BEATS:
        return period
    number = np.concatenate([[0], np.cumsum(np.round(np.diff(beats) / period))])
    return float(np.polyfit(number, beats, 1)[0])
