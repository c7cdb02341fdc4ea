"""What moves a sound: envelopes (a straight rise, falls by 60 dB in the times asked) and slow oscillators."""

import functools
import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from soundloom.instruments.oscillators import TICK
from soundloom.instruments.voices import white

ATTACK, DECAY = 0, 1  # the stages of an envelope; release is whenever the key is not held


@functools.lru_cache(maxsize=1024)
def fall_powers(seconds: float, sample_rate: float) -> NDArray[np.float64]:
    """What is left after 1, 2, ... TICK samples of a fall by 60 dB in `seconds`."""
    powers: NDArray[np.float64] = 0.001 ** (np.arange(1, TICK + 1) / (sample_rate * seconds))
    return powers


@njit(cache=True, inline="always")
def envelope(out, at, level, stage, held, rise, sustain, powers):  # type: ignore[no-untyped-def]
    """Fill `out` with the envelope's next TICK samples, from `at` on; returns where it is then: (level, stage).

    `rise` is what the attack adds a sample. The fall goes towards `sustain` while `held`, else to nothing; `powers`
    [2, TICK] are the `fall_powers` of decay and release.
    """
    rising = 0
    while rising < TICK and stage == ATTACK and held == 1:
        level = min(level + rise, 1.0)
        stage = DECAY if level == 1.0 else ATTACK
        out[at + rising] = level
        rising += 1
    rest, which = (sustain, 0) if held == 1 else (0.0, 1)
    start = np.uint64(at + rising)
    for j in range(TICK - rising):
        out[start + np.uint64(j)] = rest + (level - rest) * powers[which, j]
    return out[at + TICK - 1], stage


@njit(cache=True)
def envelope_tick(level, stage, held, rise, sustain, decay, release):  # type: ignore[no-untyped-def]
    """The same, a tick later: what the attack adds a tick, and the factors of decay and release over one.

    It arrives where it falls to, so that it can rest.
    """
    if held == 0:
        return (level * release if level > 1e-9 else 0.0), stage
    if stage == ATTACK:
        level += rise
        if level >= 1.0:
            return 1.0, DECAY
        return level, ATTACK
    return (sustain + (level - sustain) * decay if abs(level - sustain) > 1e-9 else sustain), stage


@njit(cache=True)
def glided(now, target, smoothing):  # type: ignore[no-untyped-def]
    """What follows a knob or the bend, a tick later; it arrives, so that it can rest."""
    return target if abs(target - now) < 1e-4 * (1e-3 + abs(target)) else now + (target - now) * smoothing


@njit(cache=True)
def lfo(shape, phase, key):  # type: ignore[no-untyped-def]
    """A low-frequency oscillator in [-1, 1] at a phase in periods, which has been growing since the note started.

    0 sine, 1 triangle, 2 saw (rising), 3 square, 4 a new random value a period, and all between. The first three
    start at nothing.
    """
    value = 0.0
    within = phase - math.floor(phase)
    for which in range(5):
        amount = 1.0 - abs(shape - which)
        if amount > 0:
            if which == 0:
                wave = math.sin(2 * math.pi * within)
            elif which == 1:
                wave = 1.0 - 4.0 * abs((within + 0.25) % 1.0 - 0.5)
            elif which == 2:
                wave = 2.0 * ((within + 0.5) % 1.0) - 1.0
            elif which == 3:
                wave = 1.0 if within < 0.5 else -1.0
            else:
                wave = white(key + 1, int(phase))
            value += amount * wave
    return value
