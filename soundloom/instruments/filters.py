"""Filters of voices side by side: voices in lanes, so that a processor takes several through a recursion at once.

Both filters are trapezoidal (zero-delay-feedback): the cutoff is exact at every rate and may move with every sample.
A tile [HEIGHT, LANES] holds a tick of up to 16 lanes: TICK rows of samples, filtered in place, and below them what the
filters remember and what moves. One array of a known width lets the compiler see that lanes do not touch each other.
"""

import math

import numpy as np
from numba import njit

from soundloom.instruments.oscillators import TICK

LANES = 16
STATE = TICK  # rows of a tile: four states of the filter
DRIVE = TICK + 4  # three of the drive
COEFFICIENT = TICK + 7  # two coefficients at the tick's start
STEP = TICK + 9  # and what they grow by a sample
HEIGHT = TICK + 11
ONE, TWO = np.float32(1), np.float32(2)
HIGHEST = 0.47  # of the rate: no cutoff above


@njit(cache=True)
def prewarped(octave, sample_rate):  # type: ignore[no-untyped-def]
    """The g of a cutoff of 2^octave Hz: tan(pi f / rate), as the sixth of its continued fractions, exact to 1e-6."""
    x = math.pi * min(max(2.0**octave, 10.0), HIGHEST * sample_rate) / sample_rate
    z = x * x
    return x * (10395.0 - z * (1260.0 - 21.0 * z)) / (10395.0 - z * (4725.0 - z * (210.0 - z)))


@njit(cache=True)
def svf_coefficients(g, damping):  # type: ignore[no-untyped-def]
    a2 = 2.0 * g / (1.0 + g * (g + damping))
    return a2, g * a2


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def svf(tile, damping, low, band, high):  # type: ignore[no-untyped-def]
    """State-variable filter (Simper, "Linear Trap Optimised SVF", 2013), mixed from its three outputs.

    It is written as a matrix on its two states, so that only two multiply-adds wait for each other; band and low are
    the means of a state before and after; high is what is left: x - damping band - low.
    """
    tile = tile.reshape((HEIGHT, LANES))
    of_low, of_band = 0.5 * (low - high), 0.5 * (band - high * damping)
    for j in range(TICK):
        for i in range(LANES):
            one, two = tile[STATE, i], tile[STATE + 1, i]
            a2 = tile[COEFFICIENT, i] + (j + 1.0) * tile[STEP, i]
            a3 = tile[COEFFICIENT + 1, i] + (j + 1.0) * tile[STEP + 1, i]
            x = tile[j, i] + 1e-18  # keeps what rings on out of denormal numbers
            # a1 = 1 / (1 + g (g + damping)) = 1 - damping a2 - a3, and doubled all three, as the states move by twice
            new1 = (1.0 - (damping * a2 + a3)) * one + (a2 * x - a2 * two)
            new2 = (1.0 - a3) * two + (a3 * x + a2 * one)
            tile[j, i] = high * x + of_band * (one + new1) + of_low * (two + new2)
            tile[STATE, i], tile[STATE + 1, i] = new1, new2


@njit(cache=True)
def ladder_coefficients(g, feedback):  # type: ignore[no-untyped-def]
    pole = g / (1.0 + g)
    return pole, 1.0 / (1.0 + feedback * pole * pole * pole * pole)


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def ladder(tile, feedback, low, band, high):  # type: ignore[no-untyped-def]
    """Four one-pole filters in a row, fed back with a saturation in the loop (Zavalishin, "The Art of VA Filter
    Design", 2012, section 5).

    What enters the first pole is solved for without a delay and then saturated: x - 4/27 x³ up to 1.5, where it is 1.
    Half of the lows that the feedback takes are given back. Band and high are mixed from the poles as in the
    Oberheim Xpander.
    """
    tile = tile.reshape((HEIGHT, LANES))
    back = 1.0 + 0.5 * feedback
    m0, m1, m2 = high, -4.0 * high, 6.0 * high + 4.0 * band
    m3, m4 = -4.0 * high - 8.0 * band, high + 4.0 * band + low
    for j in range(TICK):
        for i in range(LANES):
            s1, s2, s3, s4 = tile[STATE, i], tile[STATE + 1, i], tile[STATE + 2, i], tile[STATE + 3, i]
            g = tile[COEFFICIENT, i] + (j + 1.0) * tile[STEP, i]
            solve = tile[COEFFICIENT + 1, i] + (j + 1.0) * tile[STEP + 1, i]
            echo = (1.0 - g) * (s4 + g * (s3 + g * (s2 + g * s1)))
            u = solve * (back * tile[j, i] - feedback * echo) + 1e-18
            u = min(max(u, -1.5), 1.5)
            u -= 4.0 / 27.0 * u * u * u
            v1 = g * (u - s1)
            y1 = s1 + v1
            v2 = g * (y1 - s2)
            y2 = s2 + v2
            v3 = g * (y2 - s3)
            y3 = s3 + v3
            v4 = g * (y3 - s4)
            y4 = s4 + v4
            tile[j, i] = m0 * u + m1 * y1 + m2 * y2 + m3 * y3 + m4 * y4
            tile[STATE, i], tile[STATE + 1, i] = y1 + v1, y2 + v2
            tile[STATE + 2, i], tile[STATE + 3, i] = y3 + v3, y4 + v4


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def saturate(tile, drive, tracking):  # type: ignore[no-untyped-def]
    """Drive, in place: x / sqrt(1 + x²), less the DC that it makes of lopsided waves.

    With first-order antiderivative anti-aliasing (Parker, Zavalishin and Le Bivic, 2016), which for this curve has
    the closed form (x1 + x0) / (sqrt(1 + x1²) + sqrt(1 + x0²)).
    """
    tile = tile.reshape((HEIGHT, LANES))
    for j in range(TICK):
        for i in range(LANES):
            x = np.float32(drive * tile[j, i])  # single precision: roots and quotients cost a third
            root = np.sqrt(ONE + x * x) - ONE  # of silence nothing, as what is remembered of it
            y = (x + np.float32(tile[DRIVE, i])) / (TWO + root + np.float32(tile[DRIVE + 1, i]))
            dc = tile[DRIVE + 2, i] + tracking * (y - tile[DRIVE + 2, i])
            tile[j, i] = y - dc
            tile[DRIVE, i], tile[DRIVE + 1, i], tile[DRIVE + 2, i] = x, root, dc
