"""What engines share that make a voice a whole tick at a time, and hand it out as blocks ask for it.

So no block boundary ever falls into the maths: loops have a fixed length and run in SIMD, and any split into blocks
gives the same samples, bit for bit. The key, the pedal, the bend and the knobs are looked at once a tick, 0.7 ms.
"""

import math

import numpy as np
from numba import njit

from soundloom.instruments.oscillators import TICK

# sin(2 pi x) = x (1 - 4 x²) P(x²) for |x| <= 1/2, P with the least largest error: 1e-7.
S0, S1, S2 = np.float32(6.2831826), np.float32(-16.2086703), np.float32(16.7609745)
S3, S4 = np.float32(-9.53079919), np.float32(3.0583253)
ONE, FOUR = np.float32(1), np.float32(4)


@njit(inline="always")
def sine(x):  # type: ignore[no-untyped-def]
    """sin(2 pi x) in single precision, to -135 dB: no branch and no call, so that it runs in SIMD lanes."""
    x = x - np.rint(x)
    u = x * x
    return x * (ONE - FOUR * u) * (S0 + u * (S1 + u * (S2 + u * (S3 + u * S4))))


@njit(cache=True)
def glided(bent, bend, smoothing):  # type: ignore[no-untyped-def]
    """The bend of a voice a tick later, on its way to where the wheel is."""
    return bend if abs(bend - bent) < 1e-4 else bent + (bend - bent) * smoothing


@njit(cache=True)
def hand_out(v, line, at, out):  # type: ignore[no-untyped-def]
    """Add what is left of a voice's tick to `out` from `at` on; returns where it ends. The last tick ends the voice."""
    step = v.age % TICK
    m = min(TICK - step, len(out) - at)
    for j in range(m):
        out[at + j] += line[step + j]
    v.age += m
    if v.over == 1 and v.age % TICK == 0:
        v.active = 0
    return at + m


@njit(cache=True)
def gathered(rows, row, slots, at):  # type: ignore[no-untyped-def]
    """Fill `slots` with the next active voices from `row` on, `at` with 0: (how many, where to go on)."""
    count = 0
    while row < len(rows) and count < len(slots):
        if rows[row].active == 1:
            slots[count], at[count] = row, 0
            count += 1
        row += 1
    return count, row


def tick_factor(seconds: float, sample_rate: float) -> float:
    """What is left after a tick of a fall by 60 dB in `seconds`."""
    return math.exp(math.log(0.001) * TICK / (seconds * sample_rate))
