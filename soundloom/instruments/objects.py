"""What rings when it is struck: the modes of bars, bells, bowls, plates and drums, as the books have them.

An object is a number: 0 a marimba's bar, 1 a glockenspiel's, 2 a church bell, 3 a bowl, 4 a plate, 5 a drum's skin,
and all between. The books: Fletcher and Rossing, "The Physics of Musical Instruments" (1998); Rossing and Perrin,
"Vibrations of bells" (1987).
"""

import functools
import math

import numpy as np
import scipy.special
from numpy.typing import NDArray

MODES = 48
NAMES = ("tuned bar", "free bar", "bell", "bowl", "plate", "membrane")
# Hum, prime, tierce, quint, nominal, tenth, eleventh, twelfth, upper octave and three above it, and how strong a
# clapper makes them.
BELL = (0.5, 1.0, 1.183, 1.506, 2.0, 2.514, 2.662, 3.011, 4.166, 5.433, 6.796, 8.215)
BELL_LEVELS = (0.7, 0.7, 1.0, 0.4, 1.0, 0.3, 0.35, 0.6, 0.6, 0.5, 0.4, 0.3)

Modes = tuple[NDArray[np.float64], NDArray[np.float64]]


@functools.lru_cache(64)
def modes(kind: float, position: float) -> Modes:
    """Frequencies against the key's and strengths of the modes of an object [MODES], struck at `position`: 0 is the
    middle (of a bell or bowl the rim), 1 the end or the edge. Between two objects their modes meet half way, in order.
    """
    below = min(int(kind), len(NAMES) - 2)
    part = kind - below
    here, there = (_OBJECTS[index](position) for index in (below, below + 1))
    ratios = np.exp((1 - part) * np.log(here[0]) + part * np.log(there[0]))
    return ratios, (1 - part) * here[1] + part * there[1]


def _free_bar(position: float) -> Modes:
    """A bar with free ends: cosh b cos b = 1, frequencies as b²."""
    b = (2 * np.arange(1, MODES + 1) + 1) * math.pi / 2
    for _ in range(4):  # Newton on cos b = 1 / cosh b
        b -= (np.cos(b) - 1 / np.cosh(b)) / (-np.sin(b) + np.tanh(b) / np.cosh(b))
    x = 0.5 + 0.5 * position
    # cosh bx + cos bx - s (sinh bx + sin bx) without the difference of two huge numbers.
    low = np.exp(-b)
    rest = (np.cos(b) - np.sin(b) - low) / (1 - low * low - 2 * np.sin(b) * low)  # (1 - s) e^b / 2
    s = 1 - 2 * rest * low
    shape = (1 + s) / 2 * np.exp(-b * x) + rest * np.exp(b * (x - 1)) + np.cos(b * x) - s * np.sin(b * x)
    return (b / b[0]) ** 2, shape / 2


def _tuned_bar(position: float) -> Modes:
    """A bar that is undercut until its second and third mode are two octaves and three and a third above the first."""
    ratios, levels = _free_bar(position)
    return np.concatenate([[1.0, 4.0], ratios[2:] / ratios[2] * 10.0]), levels


def _bell(position: float) -> Modes:
    beyond = BELL[-1] * (np.arange(13, MODES + 1) / 12) ** 1.2
    levels = np.concatenate([BELL_LEVELS, 0.3 * (beyond / BELL[-1]) ** -0.5])
    ratios = np.concatenate([BELL, beyond])
    # The lower a mode, the fewer rings of rest it has between the rim and the shoulder.
    return ratios, levels * np.cos(0.5 * math.pi * position * np.minimum(np.sqrt(ratios), 3.0))


def _bowl(position: float) -> Modes:
    """A ring that bends: m waves around it, m (m² - 1) / sqrt(m² + 1); down the wall the many waves die first."""
    m = np.arange(2.0, MODES + 2)
    ratios = m * (m * m - 1) / np.sqrt(m * m + 1)
    return ratios / ratios[0], (1 - 0.8 * position) ** (m - 2) / np.sqrt(m / 2)


def _plate(position: float) -> Modes:
    """A plate of 1 by 1.37 held at its edges: m² + (n / 1.37)², struck between its middle and a corner."""
    m, n = (grid.ravel() for grid in np.meshgrid(np.arange(1.0, 20), np.arange(1.0, 20)))
    ratios = m * m + (n / 1.37) ** 2
    order = np.argsort(ratios)[:MODES]
    m, n, ratios = m[order], n[order], ratios[order]
    levels = np.sin(m * math.pi * (0.49 - 0.43 * position)) * np.sin(n * math.pi * (0.48 - 0.41 * position))
    return ratios / ratios[0], levels


def _membrane(position: float) -> Modes:
    """A round skin: the zeros of the Bessel functions; struck in its middle, only what has no nodal line answers."""
    table = [(zero, m) for m in range(16) for zero in scipy.special.jn_zeros(m, 10)]
    zeros, m = np.array(sorted(table)[:MODES]).T
    levels = scipy.special.jv(m, zeros * 0.96 * position) / np.abs(scipy.special.jv(m + 1, zeros))
    return zeros / zeros[0], levels


_OBJECTS = (_tuned_bar, _free_bar, _bell, _bowl, _plate, _membrane)
