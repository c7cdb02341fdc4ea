"""Oscillators without aliasing: naive waves, whose jumps and corners are replaced by ones without highs.

A phase is an unsigned 32-bit number: a period is 2^32, so it wraps by itself, adds up to the same however a sound is
cut into blocks, and a step of one a sample is 1e-5 Hz at 44.1 kHz. The pitch moves linearly within a tick.

A jump of a wave, put through a low-pass at half the rate, is a jump and a residual of some 60 samples; a corner is a
corner and another. So a saw costs one sum a sample and one residual a period (Brandt, "Hard Sync Without Aliasing",
2001). The low-pass is minimum-phase: nothing sounds before the jump, and all is late by `LATE` samples.
"""

import functools
import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

TICK = 32  # samples between two looks at knobs and slow modulations; what is heard moves linearly between
PHASE_ONE = 1 << 32
FASTEST = int(0.95 * PHASE_ONE)  # a step a sample: everything above half the rate is silent, whatever its pitch
LATE = 3
RESIDUAL = 64  # samples of a residual: within 0.1 dB up to 0.43 of the rate, -73 dB from half the rate on
BETWEEN = 64  # residuals for as many places of a jump between two samples, and read between those
# A row of sound: its ticks are [START, ...), and what is after them is for later ticks. Naive waves are written from
# NAIVE on, where vectors of 16 begin; residuals from START on.
NAIVE = 16
START = NAIVE - LATE
TAIL = NAIVE + RESIDUAL  # samples that may go over to the tick after the last

_U = np.uint32
_J = np.arange(TICK, dtype=np.uint32)
_TRI = (np.arange(TICK, dtype=np.uint32) * (np.arange(TICK, dtype=np.uint32) - _U(1))) >> _U(1)
_SINE = np.array([(-1) ** k * (math.pi / 2) ** (2 * k) / math.factorial(2 * k) for k in range(8)], dtype=np.float32)


@functools.cache
def residuals() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """What turns a jump by 1 and a corner of slope 1 into ones without highs, each [BETWEEN + 1, RESIDUAL].

    Row r is for a jump that lies r / BETWEEN samples before the sample where the residual starts to be added; the
    naive wave is written LATE samples later. The low-pass is a Kaiser window's, made minimum-phase by its cepstrum.
    """
    length, attenuation = RESIDUAL * BETWEEN, 74.0
    width = (attenuation - 7.95) / (14.36 * RESIDUAL)  # of the transition that ends at half the rate, per rate
    t = (np.arange(length) - (length - 1) / 2) / BETWEEN
    response = np.sinc((1 - width) * t) * np.kaiser(length, 0.1102 * (attenuation - 8.7))
    n = 16 * length
    spectrum = np.maximum(np.abs(np.fft.fft(response / response.sum(), n)), 1e-7)
    fold = np.zeros(n)
    fold[0] = fold[n // 2] = 1
    fold[1 : n // 2] = 2
    minimum = np.fft.ifft(np.exp(np.fft.fft(np.fft.ifft(np.log(spectrum)).real * fold))).real[:length]
    step = np.cumsum(minimum) / minimum.sum()
    at = np.arange(length) / BETWEEN
    delay = np.sum(1 - step) / BETWEEN - 0.5 / BETWEEN  # of what is low: LATE when shifted by the difference
    row, sample = np.arange(BETWEEN + 1)[:, None] / BETWEEN, np.arange(RESIDUAL)[None]
    time = sample + row - (LATE - delay)
    jump = np.interp(time, at, step, left=0.0, right=1.0) - (sample >= LATE)
    ramp = np.concatenate([[0.0], np.cumsum(0.5 * (step[1:] + step[:-1]))]) / BETWEEN
    slope = np.interp(time, at, ramp, left=0.0)
    slope = np.where(time > at[-1], ramp[-1] + time - at[-1], slope) - np.maximum(sample + row - LATE, 0.0)
    return jump.astype(np.float32), slope.astype(np.float32)


@njit(cache=True)
def increment(pitch, sample_rate):  # type: ignore[no-untyped-def]
    """How far the phase moves in a sample at a pitch, as a float: 2^32 is a period."""
    return min(440.0 * 2.0 ** ((pitch - 69.0) / 12.0) / sample_rate * PHASE_ONE, float(FASTEST))


@njit(cache=True, inline="always")
def advanced(phase, step, bend):  # type: ignore[no-untyped-def]
    """A phase a tick later: `step` a sample, growing by `bend` a sample."""
    return (phase + TICK * step + (TICK * (TICK - 1) >> 1) * bend) & (PHASE_ONE - 1)


@njit(cache=True, error_model="numpy", fastmath={"contract"}, inline="always")
def correct(sound, row, at, fraction, size, residual):  # type: ignore[no-untyped-def]
    """Add `size` residuals of a jump (or corner) that lies `fraction` of a sample before sample `at` of a row."""
    place = fraction * BETWEEN
    first = min(int(place), BETWEEN - 1)
    second_size = np.float32(size * (place - first))
    first_size = np.float32(size) - second_size
    start = np.uint64(START + at)  # an index that may be negative costs a comparison
    for k in range(RESIDUAL):
        sound[row, start + np.uint64(k)] += first_size * residual[first, k] + second_size * residual[first + 1, k]


@njit(cache=True, error_model="numpy", inline="always")
def crossing(distance, step, bend):  # type: ignore[no-untyped-def]
    """When a phase has moved by `distance`: the first sample at or after that, and how much later that sample is.

    It solves k step + k (k - 1) / 2 bend = distance; the sample is settled with integers, as the wave itself is.
    """
    time = distance / step
    if bend != 0:
        slope = step - 0.5 * bend
        time = 2.0 * distance / (slope + math.sqrt(max(slope * slope + 2.0 * bend * distance, 0.0)))
    j = min(max(math.ceil(time), 1), TICK)
    if (j - 1) * step + ((j - 1) * (j - 2) >> 1) * bend >= distance:
        j -= 1
    elif j * step + (j * (j - 1) >> 1) * bend < distance:
        j += 1
    return j, min(max(j - time, 0.0), 1.0)


@njit(cache=True, error_model="numpy", fastmath={"contract"}, inline="always")
def saw(sound, row, at, phase, step, bend, gain, jumps):  # type: ignore[no-untyped-def]
    """Add a tick of a saw to a row of sound, from sample `at` on: it jumps to `gain` at phase 0 and falls to -gain."""
    loud, start = np.float32(gain * 2.0**-31), np.uint64(NAIVE + at)
    p, i, b = _U(phase), _U(step), _U(bend)
    for j in range(TICK):
        place = _U(_U(p + _U(_J[j] * i)) + _U(_TRI[j] * b))
        sound[row, start + np.uint64(j)] -= loud * np.float32(np.int32(place ^ _U(0x80000000)))
    wraps = (phase + TICK * step + (TICK * (TICK - 1) >> 1) * bend) >> 32
    for wrap in range(1, wraps + 1):
        j, fraction = crossing((wrap << 32) - phase, step, bend)
        correct(sound, row, at + j, fraction, 2.0 * gain, jumps)


@njit(cache=True, error_model="numpy", fastmath={"contract"}, inline="always")
def triangle(sound, row, at, phase, step, bend, gain, corners):  # type: ignore[no-untyped-def]
    """Add a tick of a triangle to a row of sound: like a sine it starts at nothing and rises."""
    loud, top, start = np.float32(gain * 2.0**-30), np.float32(gain), np.uint64(NAIVE + at)
    p, i, b = _U(phase), _U(step), _U(bend)
    for j in range(TICK):
        place = _U(_U(p + _U(_J[j] * i)) + _U(_TRI[j] * b))
        sound[row, start + np.uint64(j)] += top - loud * abs(np.float32(np.int32(place - _U(0x40000000))))
    since = (phase - (PHASE_ONE >> 2)) & (PHASE_ONE - 1)  # the upper corner
    halves = (since + TICK * step + (TICK * (TICK - 1) >> 1) * bend) >> 31
    for half in range((since >> 31) + 1, halves + 1):
        j, fraction = crossing((half << 31) - since, step, bend)
        slope = 8.0 * gain / PHASE_ONE * (step + j * bend)
        correct(sound, row, at + j, fraction, slope if half & 1 else -slope, corners)


@njit(cache=True, error_model="numpy", fastmath={"contract"}, inline="always")
def sine(sound, row, at, phase, step, bend, gain):  # type: ignore[no-untyped-def]
    """Add a tick of a sine to a row of sound: a cosine's series in the square of a quarter's distance."""
    loud, to_periods, start = np.float32(gain), np.float32(2.0**-32), np.uint64(NAIVE + at)
    p, i, b = _U(phase), _U(step), _U(bend)
    for j in range(TICK):
        x = np.float32(np.int32(_U(_U(p + _U(_J[j] * i)) + _U(_TRI[j] * b)))) * to_periods
        d = np.float32(4.0) * abs(x) - np.float32(1.0)
        z = d * d
        y = _SINE[7]
        for k in range(6, -1, -1):
            y = y * z + _SINE[k]
        sound[row, start + np.uint64(j)] += loud * (y if x >= 0 else -y)


@njit(cache=True, error_model="numpy", fastmath={"contract"}, inline="always")
def hiss(sound, row, at, key, age, gain):  # type: ignore[no-untyped-def]
    """Add a tick of white noise in [-gain, gain) to a row of sound, by a 32-bit mixer of (key, age) (Wellons)."""
    seed, start = _U((key ^ (key >> 32)) * 0x9E3779B1), np.uint64(NAIVE + at)
    loud = np.float32(gain * 2.0**-31)
    for j in range(TICK):
        z = _U(_U(age + j) ^ seed)
        z = _U((z ^ (z >> _U(16))) * _U(0x7FEB352D))
        z = _U((z ^ (z >> _U(15))) * _U(0x846CA68B))
        sound[row, start + np.uint64(j)] += loud * np.float32(np.int32(_U(z ^ (z >> _U(16)))))
