"""How loud a piece is, and making it as loud as asked without going over: ITU-R BS.1770-4, and a true-peak limiter."""

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
    peaks = np.abs(samples).max(axis=0).astype(np.float64)
    piece, edge = 1 << 18, 64  # a piece at a time, so that oversampling an hour does not fill the memory
    for start in range(0, samples.shape[1], piece):
        first = max(start - edge, 0)
        part = samples[:, first : start + piece + edge]
        up = scipy.signal.resample_poly(part, OVERSAMPLING, 1, axis=1)
        near = np.abs(up).max(axis=0).reshape(-1, OVERSAMPLING).max(axis=1)[start - first :][: len(peaks) - start]
        near = near[:piece]
        # The samples between n and n + 1 belong to both.
        peaks[start : start + len(near)] = np.maximum(peaks[start : start + len(near)], near)
        after = near[: len(peaks) - start - 1]
        peaks[start + 1 : start + 1 + len(after)] = np.maximum(peaks[start + 1 : start + 1 + len(after)], after)
    return peaks


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
