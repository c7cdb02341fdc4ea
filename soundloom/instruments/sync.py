"""Hard sync: an oscillator that starts again whenever another one does, without aliasing.

What happens in a tick happens at exact times between samples: the restarts, and the jumps and corners of the wave
itself. Each is a jump in value, in slope, or both, and gets the residuals of `oscillators`.
"""

import math

import numpy as np
from numba import njit

from soundloom.instruments.oscillators import NAIVE, PHASE_ONE, TICK, correct, crossing


@njit(cache=True)
def _triangle(p):  # type: ignore[no-untyped-def]
    return 1.0 - 4.0 * abs((p + 0.25) % 1.0 - 0.5)


@njit(cache=True)
def _area(x):  # type: ignore[no-untyped-def]
    """Under a saw, from 0 to x."""
    f = x - math.floor(x)
    return f * (1.0 - f)


@njit(cache=True)
def _mean(ratio, width, gains):  # type: ignore[no-untyped-def]
    """The DC of a wave that starts again every `ratio` of its periods."""
    f = ratio - math.floor(ratio)
    under = 2.0 * f * f if f < 0.25 else 2.0 * f - 2.0 * f * f - 0.25 if f < 0.75 else 2.0 * (1.0 - f) * (1.0 - f)
    total = gains[0] * (1.0 - math.cos(2 * math.pi * f)) / (2 * math.pi) + gains[1] * under
    return (total + gains[2] * _area(ratio) + gains[3] * (_area(ratio + width) - _area(width))) / ratio


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _correct(sound, row, at, fraction, size, residual):  # type: ignore[no-untyped-def]
    """`correct`, called rather than copied: it is needed in eight places."""
    correct(sound, row, at, fraction, size, residual)


@njit(cache=True, error_model="numpy")
def _corners(sound, row, at, phase, rate, span, after, gain, corners):  # type: ignore[no-untyped-def]
    """The corners of a triangle within `span` samples, which end `after` samples before sample `at`."""
    end = phase + rate * span
    for half in range(4):
        corner = 0.25 + 0.5 * half
        if phase < corner <= end:
            slope = 8.0 * gain * rate
            _correct(sound, row, at, min(after + (end - corner) / rate, 1.0), slope if half & 1 else -slope, corners)


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def synced(  # type: ignore[no-untyped-def]
    sound, row, at, master, step, bend, phase, slave_step, slave_bend, gains, width, width_step, jumps, corners
):  # fmt: skip
    """Add a tick of an oscillator at `phase`, started again by the `master`, to a row of sound from sample `at` on.

    `gains` [4] are those of sine, triangle, saw, and saw `width` later, which the shape is made of. What a restart
    adds to DC, the mean over the master's period, is taken away. Returns where the phase is then.
    """
    one = 1.0 / PHASE_ONE
    p, q = phase * one, (phase * one + width) % 1.0
    mean = _mean(slave_step / step, width, gains)
    end = _mean((slave_step + TICK * slave_bend) / (step + TICK * bend), width + TICK * width_step, gains)
    wraps = (master + TICK * step + (TICK * (TICK - 1) >> 1) * bend) >> 32
    wrap, restart, since = 0, TICK + 1, 0.0
    if wraps > 0:
        wrap = 1
        restart, since = crossing(PHASE_ONE - master, step, bend)
    for j in range(TICK):
        value = gains[2] * (1.0 - 2.0 * p) + gains[3] * (1.0 - 2.0 * q) - mean - (end - mean) * j / TICK
        if gains[0] != 0:
            value += gains[0] * math.sin(2 * math.pi * p)
        if gains[1] != 0:
            value += gains[1] * _triangle(p)
        sound[row, NAIVE + at + j] += np.float32(value)

        rate = (slave_step + j * slave_bend) * one
        later, span = rate + width_step, 1.0  # `later` is the rate of the saw that is `width` ahead
        now = at + j + 1
        if restart == j + 1:  # a restart before the next sample
            before = 1.0 - since
            if gains[1] != 0:
                _corners(sound, row, now, p, rate, before, since, gains[1], corners)
            p, q = p + rate * before, q + later * before
            if p >= 1.0:
                p -= 1.0
                _correct(sound, row, now, min(since + p / rate, 1.0), 2.0 * gains[2], jumps)
            if q >= 1.0:
                q -= 1.0
                _correct(sound, row, now, min(since + q / later, 1.0), 2.0 * gains[3], jumps)
            start = width + (j + before) * width_step
            jump = 2.0 * gains[2] * p + 2.0 * gains[3] * (q - start)
            slope = 0.0
            if gains[0] != 0:
                jump -= gains[0] * math.sin(2 * math.pi * p)
                slope += gains[0] * 2 * math.pi * rate * (1.0 - math.cos(2 * math.pi * p))
            if gains[1] != 0:
                jump -= gains[1] * _triangle(p)
                slope += gains[1] * 8.0 * rate if 0.25 < p < 0.75 else 0.0
            _correct(sound, row, now, since, jump, jumps)
            if slope != 0:
                _correct(sound, row, now, since, slope, corners)
            p, q, span = 0.0, start, since
            restart = TICK + 1
            if wrap < wraps:
                wrap += 1
                restart, since = crossing(wrap * PHASE_ONE - master, step, bend)
        if gains[1] != 0:
            _corners(sound, row, now, p, rate, span, 0.0, gains[1], corners)
        p, q = p + rate * span, q + later * span
        if p >= 1.0:
            p -= 1.0
            _correct(sound, row, now, min(p / rate, 1.0), 2.0 * gains[2], jumps)
        if q >= 1.0:
            q -= 1.0
            if gains[3] != 0:
                _correct(sound, row, now, min(q / later, 1.0), 2.0 * gains[3], jumps)
    return p * PHASE_ONE
