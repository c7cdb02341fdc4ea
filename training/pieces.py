"""What synthesised sounds are made of: noise, envelopes, oscillators, resonances and filters, at `SAMPLE_RATE`."""

import math

import numpy as np
from numba import njit
from numpy.typing import ArrayLike, NDArray
from scipy import signal

from training.clips import SAMPLE_RATE, Sound

NYQUIST = SAMPLE_RATE / 2


def between(rng: np.random.Generator, low: float, high: float) -> float:
    """A number in low..high, even in ratios: what sizes, times and frequencies are drawn from."""
    return float(low * (high / low) ** rng.random())


def chance(rng: np.random.Generator, probability: float) -> bool:
    return bool(rng.random() < probability)


def samples(seconds: float) -> int:
    return max(round(seconds * SAMPLE_RATE), 8)


def times(n: int) -> Sound:
    return np.arange(n) / SAMPLE_RATE


def decay(n: int, seconds: float) -> Sound:
    """A level that falls by 60 dB in `seconds`."""
    return np.exp(-math.log(1000) / seconds * times(n))


def rise(n: int, seconds: float) -> Sound:
    """A level that rises from 0 to 1 in `seconds`, in half a cosine, and stays."""
    return 0.5 - 0.5 * np.cos(np.pi * np.minimum(times(n) / seconds, 1.0))


def sine(hz: Sound | float, n: int, *, phase: float = 0.0) -> Sound:
    """A sine of a frequency that may move, hz [n] or one number."""
    return np.sin(turns(hz, n) * 2 * np.pi + phase)


def turns(hz: Sound | float, n: int) -> Sound:
    """The phase of an oscillator, in turns."""
    step = np.broadcast_to(np.asarray(hz, np.float64) / SAMPLE_RATE, (n,))
    return np.cumsum(step) - step[0]


def square(hz: Sound | float, n: int, *, width: float = 0.5, phase: float = 0.0) -> Sound:
    """A pulse wave whose steps are rounded over a sample (polyBLEP: Välimäki and Huovilainen, 2007)."""
    step = np.broadcast_to(np.asarray(hz, np.float64) / SAMPLE_RATE, (n,))
    place = (turns(hz, n) + phase) % 1.0
    wave = np.where(place < width, 1.0, -1.0) + _blep(place, step) - _blep((place - width) % 1.0, step)
    return wave - (2 * width - 1)


def saw(hz: Sound | float, n: int, *, phase: float = 0.0) -> Sound:
    """A sawtooth, its step rounded as those of `square`."""
    step = np.broadcast_to(np.asarray(hz, np.float64) / SAMPLE_RATE, (n,))
    place = (turns(hz, n) + phase) % 1.0
    return 2 * place - 1 - _blep(place, step)


def _blep(place: Sound, step: Sound) -> Sound:
    after, before = place < step, place > 1 - step
    a, b = place[after] / step[after], (place[before] - 1) / step[before]
    out = np.zeros_like(place)
    out[after], out[before] = 2 * a - a * a - 1, b * b + 2 * b + 1
    return out


def modes(hz: ArrayLike, level: ArrayLike, seconds: ArrayLike, n: int, *, phase: ArrayLike = 0.0) -> Sound:
    """Decaying partials, each of a frequency, a level and the time in which it falls by 60 dB; all [K]."""
    hz, level, seconds, phase = (
        np.ascontiguousarray(x, np.float64) for x in np.broadcast_arrays(hz, level, seconds, phase)
    )
    out = np.zeros(n)
    _modes(hz / SAMPLE_RATE, level, seconds * SAMPLE_RATE, phase, out)
    return out


@njit(cache=True)
def _modes(step, level, length, phase, out):  # type: ignore[no-untyped-def]
    # A partial is a rotating number, turned by a step and shrunk by a factor every sample.
    for k in range(len(step)):
        if step[k] >= 0.5:
            continue
        factor = np.exp(-6.907755 / length[k])
        turn = complex(np.cos(2 * np.pi * step[k]), np.sin(2 * np.pi * step[k])) * factor
        value = level[k] * complex(np.cos(phase[k]), np.sin(phase[k]))
        last = min(len(out), int(1.5 * length[k]) + 1)
        for i in range(last):
            out[i] += value.imag
            value *= turn


def lowpass(x: Sound, hz: float, *, order: int = 2) -> Sound:
    return _butter(x, hz, "lowpass", order)


def highpass(x: Sound, hz: float, *, order: int = 2) -> Sound:
    return _butter(x, hz, "highpass", order)


def bandpass(x: Sound, low_hz: float, high_hz: float, *, order: int = 1) -> Sound:
    return lowpass(highpass(x, low_hz, order=order), high_hz, order=order)


def _butter(x: Sound, hz: float, kind: str, order: int) -> Sound:
    if hz >= 0.97 * NYQUIST:
        return x if kind == "lowpass" else np.zeros_like(x)
    return signal.sosfilt(signal.butter(order, hz, kind, fs=SAMPLE_RATE, output="sos"), x)


def resonance(x: Sound, hz: float, quality: float) -> Sound:
    """What a resonance passes: a band around `hz` as wide as hz / quality, at level 1 in its middle."""
    hz = min(hz, 0.9 * NYQUIST)
    b, a = signal.iirpeak(hz, max(quality, 1.3 * hz / NYQUIST), fs=SAMPLE_RATE)  # no band is wider than the spectrum
    return signal.lfilter(b, a, x)


def peaked(x: Sound) -> Sound:
    """The sound at peak 1."""
    return x / max(float(np.abs(x).max(initial=0.0)), 1e-9)


def driven(x: Sound, gain: float) -> Sound:
    """The sound pushed into saturation, at peak 1."""
    return peaked(np.tanh(gain * peaked(x)))


def steps_noise(rng: np.random.Generator, n: int, hz: float) -> Sound:
    """The noise of a shift register clocked at `hz`: two levels, held."""
    bits = rng.integers(0, 2, int(n * hz / SAMPLE_RATE) + 2) * 2.0 - 1.0
    return bits[(np.arange(n) * hz / SAMPLE_RATE).astype(int)]


def white(rng: np.random.Generator, n: int) -> Sound:
    return rng.standard_normal(n)


def midi_hz(pitch: float) -> float:
    return 440.0 * 2 ** ((pitch - 69) / 12)


def octaves(values: ArrayLike) -> NDArray[np.float64]:
    """2 to the power of values: from octaves to a factor."""
    return np.exp2(np.asarray(values, np.float64))
