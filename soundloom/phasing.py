"""Phases for magnitudes: a sound that has the rows (`octaves`) that a picture shows.

They are begun by their slopes and settled by going to and fro between sound and rows. In logarithms, a = log |c|,
the rows of any sound obey, because their windows are Gaussians (Průša, Balazs and Søndergaard, 2017),

    ∂φ/∂t = 2π (f + σ² ∂a/∂f)        ∂φ/∂f = -∂a/∂t / (2π σ²)

so a ridge between two rows sounds at its own pitch, and all rows of a click agree on its moment.
"""

import heapq
import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from soundloom.octaves import Coefficients, Grid, rows, unrows

QUIETEST = 1e-4  # of the loudest: what is fainter has a random phase to begin with
TINY = 1e-9
AHEAD = 0.99  # how far each round looks ahead in the direction of the last one


def phased(at: Grid, magnitude: NDArray[np.float32], *, rounds: int, generator: np.random.Generator) -> Coefficients:
    """Magnitudes -> coefficients of these magnitudes whose sound has rows near them."""
    turn = np.exp(1j * begun(at, magnitude, generator)).astype(np.complex64)
    before = np.zeros(0, np.complex64)
    for number in range(rounds):
        again = rows(at, unrows(at, scaled(magnitude, turn)))
        turn = again + np.float32(AHEAD) * (again - before) if number else again
        before = again
    return scaled(magnitude, turn)


def scaled(magnitude: NDArray[np.float32], turn: Coefficients) -> Coefficients:
    """Coefficients of these magnitudes with the phases of others."""
    made: Coefficients = turn * (magnitude / np.maximum(np.abs(turn), np.float32(1e-12)))
    return made


def begun(at: Grid, magnitude: NDArray[np.float32], generator: np.random.Generator) -> NDArray[np.float64]:
    """Phases that follow the slopes of the magnitudes, from the loudest on; random where nothing is heard."""
    log = np.log(magnitude.astype(np.float64) + TINY)
    phase = generator.uniform(0, 2 * math.pi, len(log))
    loudest_first = np.argsort(-log, kind="stable")
    threshold = max(float(log.max()) + math.log(QUIETEST), math.log(2 * TINY))
    loudest_first = loudest_first[: int((log >= threshold).sum())]
    _spread(phase, log, loudest_first, threshold, at.start, at.count, at.hop, at.hz, at.sigma_hz, at.sample_rate)
    return phase


@njit(cache=True)
def _spread(phase, log, loudest_first, threshold, start, count, hop, hz, sigma, sample_rate):  # type: ignore[no-untyped-def]
    """Carry phases, in place, from the loudest value to its neighbours, and on from the loudest reached so far.

    Where two rows differ in rate, values that fall on the same moment are neighbours.
    """
    done = np.zeros(len(log), np.uint8)
    heap = [(0.0, 0, 0)]
    heap.pop()
    for seed in loudest_first:
        if done[seed]:
            continue
        done[seed] = 1
        row = np.searchsorted(start, seed, side="right") - 1
        heapq.heappush(heap, (-log[seed], row, seed - start[row]))
        while len(heap) > 0:
            _, row, m = heapq.heappop(heap)
            here = start[row] + m
            for way in (-1, 1):
                if not 0 <= m + way < count[row]:
                    continue
                there = here + way
                if done[there] or log[there] < threshold:
                    continue
                pace = 0.5 * (_hertz(log, row, m, start, count, hop, hz, sigma)
                              + _hertz(log, row, m + way, start, count, hop, hz, sigma))  # fmt: skip
                phase[there] = phase[here] + way * 2 * math.pi * pace * hop[row] / sample_rate
                done[there] = 1
                heapq.heappush(heap, (-log[there], row, m + way))
            for way in (-1, 1):
                other = row + way
                if not 0 <= other < len(hz) or m * hop[row] % hop[other]:
                    continue
                n = m * hop[row] // hop[other]
                there = start[other] + n
                if done[there] or log[there] < threshold:
                    continue
                slope = 0.5 * (_slope(log, row, m, start, count, hop, sigma, sample_rate)
                               + _slope(log, other, n, start, count, hop, sigma, sample_rate))  # fmt: skip
                phase[there] = phase[here] + slope * (hz[other] - hz[row])
                done[there] = 1
                heapq.heappush(heap, (-log[there], other, n))


@njit(cache=True)
def _read(log, row, moment, start, count, hop):  # type: ignore[no-untyped-def]
    """A row at a moment (in samples), between its values where it has none there."""
    m = moment // hop[row]
    part = (moment - m * hop[row]) / hop[row]
    after = min(m + 1, count[row] - 1)
    return log[start[row] + m] * (1 - part) + log[start[row] + after] * part


@njit(cache=True)
def _hertz(log, row, m, start, count, hop, hz, sigma):  # type: ignore[no-untyped-def]
    """What sounds at a value: its row's frequency, drawn towards the louder neighbour, two σ at most."""
    low, high = max(row - 1, 0), min(row + 1, len(hz) - 1)
    if low == high:
        return hz[row]
    moment = m * hop[row]
    rise = _read(log, high, moment, start, count, hop) - _read(log, low, moment, start, count, hop)
    drawn = sigma[row] ** 2 * rise / (hz[high] - hz[low])
    return hz[row] + min(max(drawn, -2 * sigma[row]), 2 * sigma[row])


@njit(cache=True)
def _slope(log, row, m, start, count, hop, sigma, sample_rate):  # type: ignore[no-untyped-def]
    """How the phase changes per hertz upwards."""
    before, after = max(m - 1, 0), min(m + 1, count[row] - 1)
    rise = log[start[row] + after] - log[start[row] + before]
    return -rise / ((after - before) * hop[row] / sample_rate) / (2 * math.pi * sigma[row] ** 2)
