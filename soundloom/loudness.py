"""How loud a piece is, and making it as loud as asked without going over: ITU-R BS.1770-4, and a true-peak limiter."""

import functools
import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from soundloom.audio import Waveform

BLOCK_S, STEP_S = 0.4, 0.1
SILENCE_LUFS = -70.0  # blocks below it do not count; nor do those 10 below the mean
LOOKAHEAD_S, RELEASE_S = 0.003, 0.12
OVERSAMPLING = 8  # at which true peaks are looked for; the four of BS.1770 may miss 0.7 dB near half the rate
REACH = 12  # samples on either side that a point between two is told from


def integrated_lufs(waveform: Waveform) -> float:
    """The loudness of the whole, gated; -inf where all of it is silence.

    Channels are weighted alike (left and right). A sound shorter than 0.4 s is one block of its own.
    """
    rate, frames = waveform.sample_rate, waveform.samples.shape[1]
    step = round(STEP_S * rate)
    if frames < 4 * step:
        step = max(frames, 1)  # one block
    sums = np.zeros(max(frames // step, 1))
    for channel in waveform.samples:
        _weigh(np.ascontiguousarray(channel), _weighting(rate), step, sums)
    blocks = sums / step
    if step < frames:
        blocks = np.convolve(blocks, np.full(4, 0.25), "valid")
    loud = blocks[_lufs(blocks) > SILENCE_LUFS]
    if not len(loud):
        return -math.inf
    return float(_lufs(loud[_lufs(loud) > _lufs(loud.mean()) - 10].mean()))


def true_peak(waveform: Waveform) -> float:
    """The highest level between the samples too, by oversampling; 1 is full scale."""
    return float(_peaks(waveform.samples).max(initial=0.0))


def limited(waveform: Waveform, *, peak_db: float = -1.0) -> Waveform:
    """Turned down for moments where it would go over `peak_db`, between the samples too; elsewhere as it was.

    The gain falls within 3 ms before a peak and comes back in about 0.12 s after it, for all channels alike.
    """
    ceiling = 10 ** (peak_db / 20)
    peaks = _peaks(waveform.samples)
    if peaks.max(initial=0.0) <= ceiling:
        return waveform
    # The least gain of all that lies within reach, released slowly, then smoothed over as long a time: the mean of
    # values none of which is above what the middle allows is not above it either.
    ahead = round(LOOKAHEAD_S * waveform.sample_rate)
    gain = _least(peaks, ceiling, ahead)
    _release(gain, 1 - math.exp(-1 / (RELEASE_S * waveform.sample_rate)))
    gain = _mean(_mean(gain, ahead // 2), ahead - ahead // 2)
    out = (waveform.samples * gain).astype(np.float32)
    made = Waveform(out, waveform.sample_rate)
    over = true_peak(made) / ceiling  # what the moving gain adds between samples: a hundredth of a decibel
    return made if over <= 1 else Waveform(out / np.float32(over), waveform.sample_rate)


def _lufs(power: NDArray[np.float64] | np.float64) -> NDArray[np.float64]:
    return np.asarray(-0.691 + 10 * np.log10(np.maximum(power, 1e-20)))


def _peaks(samples: NDArray[np.float32]) -> NDArray[np.float64]:
    """The highest level near each sample, of all channels [T]."""
    peaks: NDArray[np.float64] = np.abs(samples).max(axis=0, initial=0.0).astype(np.float64)
    far = 0.5 * peaks.max(initial=0.0)  # what lies between two samples is not twice as high as both
    for channel in samples:
        _between(np.ascontiguousarray(channel), _points(), far, peaks)
    return peaks


@functools.cache
def _points() -> NDArray[np.float64]:
    """Weights [7, 2 REACH] of the samples around a gap for the points between, a windowed sinc."""
    at = np.arange(1, OVERSAMPLING)[:, None] / OVERSAMPLING
    away = np.arange(-REACH + 1, REACH + 1) - at
    weights = np.sinc(away) * np.cos(0.5 * np.pi * away / (REACH + 0.5)) ** 2
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


@njit(cache=True, error_model="numpy", fastmath={"contract", "reassoc"})
def _between(x, points, far, peaks):  # type: ignore[no-untyped-def]
    """Raises peaks [T] to what a channel [T] reaches between samples above `far`; what lies between belongs to both."""
    n = len(x)
    reach = points.shape[1] // 2
    for i in range(reach - 1, n - reach):
        if max(abs(x[i]), abs(x[i + 1])) < far:
            continue
        top = 0.0
        for k in range(len(points)):
            y = 0.0
            for j in range(2 * reach):
                y += points[k, j] * x[i - reach + 1 + j]
            top = max(top, abs(y))
        peaks[i] = max(peaks[i], top)
        peaks[i + 1] = max(peaks[i + 1], top)


@njit(cache=True)
def _least(peaks, ceiling, ahead):  # type: ignore[no-untyped-def]
    """The gain [T] that keeps all peaks within `ahead` samples below the ceiling."""
    n = len(peaks)
    gain = np.ones(n)
    for i in range(n):
        if peaks[i] > ceiling:
            allowed = ceiling / peaks[i]
            for j in range(max(i - ahead, 0), min(i + ahead + 1, n)):
                gain[j] = min(gain[j], allowed)
    return gain


@njit(cache=True)
def _mean(x, half):  # type: ignore[no-untyped-def]
    """The mean of 2 half + 1 values around each of [T]; beyond the ends they go on as they end."""
    n = len(x)
    out = np.empty(n)
    total = x[0] * (half + 1)
    for j in range(1, half + 1):
        total += x[min(j, n - 1)]
    for i in range(n):
        out[i] = min(total / (2 * half + 1), 1.0)
        total += x[min(i + half + 1, n - 1)] - x[max(i - half, 0)]
    return out


@njit(cache=True)
def _weigh(x, sections, step, sums):  # type: ignore[no-untyped-def]
    """Adds the energy of a channel [T], after the filters [2, 6], of each step to sums [T // step]."""
    a, b, c, d = 0.0, 0.0, 0.0, 0.0
    p, q = sections[0], sections[1]
    for k in range(len(sums)):
        total = 0.0
        for i in range(k * step, min((k + 1) * step, len(x))):
            u = p[0] * x[i] + a
            a = p[1] * x[i] - p[4] * u + b
            b = p[2] * x[i] - p[5] * u
            v = q[0] * u + c
            c = q[1] * u - q[4] * v + d
            d = q[2] * u - q[5] * v
            total += v * v
        sums[k] += total


def _weighting(sample_rate: int) -> NDArray[np.float64]:
    """The K filter [2, 6] for any rate, from its analogue parts: a shelf of +4 dB above 1.7 kHz, a high-pass at 38 Hz.

    The constants are those that give the standard's coefficients at 48 kHz (De Man, "Evaluation of implementations of
    the EBU R128 loudness measurement", 2018).
    """
    k = math.tan(math.pi * 1681.974450955533 / sample_rate)
    high, quality = 10 ** (3.999843853973347 / 20), 0.7071752369554196
    band = high**0.4996667741545416
    a0 = 1 + k / quality + k * k
    shelf = [
        (high + band * k / quality + k * k) / a0, 2 * (k * k - high) / a0, (high - band * k / quality + k * k) / a0,
        1.0, 2 * (k * k - 1) / a0, (1 - k / quality + k * k) / a0,
    ]  # fmt: skip
    k, quality = math.tan(math.pi * 38.13547087602444 / sample_rate), 0.5003270373238773
    a0 = 1 + k / quality + k * k
    cut = [1.0, -2.0, 1.0, 1.0, 2 * (k * k - 1) / a0, (1 - k / quality + k * k) / a0]
    return np.array([shelf, cut])


@njit(cache=True)
def _release(gain, smoothing):  # type: ignore[no-untyped-def]
    """Falls at once, rises slowly, in place."""
    now = 1.0
    for i in range(len(gain)):
        now = gain[i] if gain[i] < now else now + (gain[i] - now) * smoothing
        gain[i] = now
