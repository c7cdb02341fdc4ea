"""How far a sine may be modulated before its sidebands fold back: what keeps FM clean on high keys.

A sine of f_c, its phase moved by I radians at f_m, has sidebands at f_c ± k f_m of the levels J_k(I) (Chowning, 1973).
Those above half the sample rate come back as tones that belong to no key. They are below -60 dB where J_k(I) < 0.001.
Fed back into its own phase by b radians it solves Kepler's equation: harmonics of the levels 2 J_n(n b) / (n b).
"""

import functools

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.special import jv

FLOOR = 0.001  # -60 dB
STEP = 0.25  # between the orders of the tables
ORDERS = 1024


@functools.cache
def tables() -> NDArray[np.float64]:
    """[2, ORDERS]: the largest index, and the largest feedback, at which the sideband, and the harmonic, of an order
    is below the floor.

    The order is a real number, so that what follows from it moves smoothly with the pitch. From a feedback of 1 on
    there is no such harmonic; the 164th is where it is lost, and the table goes on straight from there.
    """
    orders = STEP * np.arange(1, ORDERS)
    low, high = np.zeros((2, ORDERS - 1)), np.stack([orders + 1, np.ones(ORDERS - 1)])
    for _ in range(40):  # halving: below its first maximum, which is near its order, J grows
        middle = (low + high) / 2
        index, feedback = middle
        level = np.stack([jv(orders, index), 2 * jv(orders, orders * feedback) / (orders * feedback)])
        low, high = np.where(level < FLOOR, middle, low), np.where(level < FLOOR, high, middle)
    index, feedback = low
    index[orders < 1] = 2 * FLOOR * orders[orders < 1]  # even the first sideband is too much
    feedback += np.maximum(orders / 82 - 2, 0)
    return np.pad(low, ((0, 0), (1, 0)))


@njit(cache=True)
def allowed(table, orders):  # type: ignore[no-untyped-def]
    """The largest index or feedback with so many orders of sidebands or harmonics."""
    at = min(max(orders, 0.0) / STEP, len(table) - 1.001)
    i = int(at)
    return table[i] + (at - i) * (table[i + 1] - table[i])


@njit(cache=True)
def orders_of(table, index):  # type: ignore[no-untyped-def]
    """How many orders of sidebands an index has: the inverse of `allowed`."""
    low, high = 0, len(table) - 1
    while high - low > 1:
        middle = (low + high) >> 1
        if table[middle] < index:
            low = middle
        else:
            high = middle
    return STEP * (low + min((index - table[low]) / (table[high] - table[low]), 1.0))
