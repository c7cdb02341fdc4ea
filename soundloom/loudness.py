"""How loud a piece is, and making it as loud as asked without going over: ITU-R BS.1770-4, and a true-peak limiter."""

import functools
import math

import numpy as np
import scipy.ndimage
import scipy.signal
from numba import njit
from numpy.typing import NDArray

from soundloom.audio import Waveform

BLOCK_S, STEP_S = 0.4, 0.1
SILENCE_LUFS = -70.0  # blocks below it do not count; nor do those 10 below the mean
LOOKAHEAD_S, RELEASE_S = 0.003, 0.12
OVERSAMPLING = 4  # at which true peaks are looked for, as BS.1770 asks
REACH = 12  # samples on either side that a point between two is told from


def integrated_lufs(waveform: Waveform) -> float:
    """The loudness of the whole, gated; -inf where all of it is silence.

    Channels are weighted alike (left and right). A sound shorter than 0.4 s is one block of its own.
    """
    samples = scipy.signal.sosfilt(_weighting(waveform.sample_rate), waveform.samples.astype(np.float64), axis=1)
    power = (samples**2).sum(axis=0)
    step = round(STEP_S * waveform.sample_rate)
    if len(power) < 4 * step:
        blocks = np.array([power.mean() if len(power) else 0.0])
    else:
        steps = power[: len(power) // step * step].reshape(-1, step).mean(axis=1)
        blocks = np.convolve(steps, np.full(4, 0.25), "valid")
    loud = blocks[_lufs(blocks) > SILENCE_LUFS]
    if not len(loud):
        return -math.inf
    return float(_lufs(loud[_lufs(loud) > _lufs(loud.mean()) - 10].mean()))


def true_peak(waveform: Waveform) -> float:
    """The highest level between the samples too, by fourfold oversampling; 1 is full scale."""
    return float(_peaks(waveform.samples).max(initial=0.0))


def limited(waveform: Waveform, *, peak_db: float = -1.0) -> Waveform:
    """Turned down for moments where it would go over `peak_db`, between the samples too; elsewhere as it was.

    The gain falls within 3 ms before a peak and comes back in about 0.12 s after it, for all channels alike.
    """
    ceiling = 10 ** (peak_db / 20)
    peaks = _peaks(waveform.samples)
    if peaks.max(initial=0.0) <= ceiling:
        return waveform
    allowed = np.minimum(1.0, ceiling / np.maximum(peaks, 1e-12))
    ahead = round(LOOKAHEAD_S * waveform.sample_rate)
    # The least gain of all that lies within reach, released slowly, then smoothed over as long a time: the mean of
    # values none of which is above what the middle allows is not above it either.
    gain = scipy.ndimage.minimum_filter1d(allowed, 2 * ahead + 1)
    _release(gain, 1 - math.exp(-1 / (RELEASE_S * waveform.sample_rate)))
    window = np.hanning(2 * ahead + 3)[1:-1]
    gain = scipy.signal.oaconvolve(np.pad(gain, ahead, mode="edge"), window / window.sum(), "valid")
    out = (waveform.samples * gain).astype(np.float32)
    made = Waveform(out, waveform.sample_rate)
    over = true_peak(made) / ceiling  # what the moving gain adds between samples: a hundredth of a decibel
    return made if over <= 1 else Waveform(out / np.float32(over), waveform.sample_rate)


def _lufs(power: NDArray[np.float64] | np.float64) -> NDArray[np.float64]:
    return np.asarray(-0.691 + 10 * np.log10(np.maximum(power, 1e-20)))


def _peaks(samples: NDArray[np.float32]) -> NDArray[np.float64]:
    """The highest level near each sample, of all channels [T]."""
    peaks = np.zeros(samples.shape[1])
    for channel in samples:
        _between(np.ascontiguousarray(channel), _points(), peaks)
    return peaks


@functools.cache
def _points() -> NDArray[np.float64]:
    """Weights [3, 2 REACH] of the samples around a gap for the points at 1/4, 1/2 and 3/4 of it: a windowed sinc."""
    at = np.arange(1, OVERSAMPLING)[:, None] / OVERSAMPLING
    away = np.arange(-REACH + 1, REACH + 1) - at
    weights = np.sinc(away) * np.cos(0.5 * np.pi * away / (REACH + 0.5)) ** 2
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


@njit(cache=True, error_model="numpy", fastmath={"contract", "reassoc"})
def _between(x, points, peaks):  # type: ignore[no-untyped-def]
    """Raises peaks [T] to what a channel [T] reaches at and between its samples; what lies between belongs to both."""
    n = len(x)
    reach = points.shape[1] // 2
    for i in range(n):
        peaks[i] = max(peaks[i], abs(x[i]))
    for i in range(reach - 1, n - reach):
        top = 0.0
        for k in range(len(points)):
            y = 0.0
            for j in range(2 * reach):
                y += points[k, j] * x[i - reach + 1 + j]
            top = max(top, abs(y))
        peaks[i] = max(peaks[i], top)
        peaks[i + 1] = max(peaks[i + 1], top)


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
