"""An equaliser of four bands: a shelf for lows, two bells, a shelf for highs."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from soundloom.instruments.base import Param
from soundloom.instruments.gliding import TICK, TINY, AbstractGliding, Treatment, glide

BANDS = 4


class Equaliser(AbstractGliding):
    """Four bands that may move while they sound.

    >>> warm = Equaliser({"low_db": 3, "high_db": -2})
    >>> state = warm.init_state(44100)
    >>> block, state = warm.process(state, [], np.zeros((2, 512), np.float32))
    >>> block.shape
    (2, 512)

    Each band is a trapezoidal state-variable filter (Simper, 2013): the response is the analogue one, bent towards half
    the sample rate as the bilinear transform does.
    """

    params = (
        Param("low_hz", "Hz", 20, 1000, 120, "log", "the middle of the low shelf's slope"),
        Param("low_db", "dB", -15, 15, 0, help="how much louder what is below is"),
        Param("peak1_hz", "Hz", 30, 8000, 400, "log", "the middle of the first bell"),
        Param("peak1_db", "dB", -15, 15, 0, help="how much louder it is there"),
        Param("peak1_q", "", 0.2, 12, 0.9, "log", "how narrow the first bell is"),
        Param("peak2_hz", "Hz", 100, 16000, 2500, "log", "the middle of the second bell"),
        Param("peak2_db", "dB", -15, 15, 0, help="how much louder it is there"),
        Param("peak2_q", "", 0.2, 12, 0.9, "log", "how narrow the second bell is"),
        Param("high_hz", "Hz", 1000, 18000, 8000, "log", "the middle of the high shelf's slope"),
        Param("high_db", "dB", -15, 15, 0, help="how much louder what is above is"),
        Param("gain_db", "dB", -12, 12, 0, help="the level of it all"),
    )

    def _derive(self, values: Mapping[str, float], sample_rate: int) -> dict[str, Any]:
        """Of each band g and k, and how much of its input, band and low make its output."""

        def warped(hz: float) -> float:
            return math.tan(math.pi * min(hz / sample_rate, 0.49))

        bands = []
        a = 10 ** (values["low_db"] / 40)
        k = math.sqrt(2)  # both shelves as steep as they can be without a hump
        bands.append((warped(values["low_hz"]) / math.sqrt(a), k, 1.0, k * (a - 1), a * a - 1))
        for name in ("peak1", "peak2"):
            a = 10 ** (values[f"{name}_db"] / 40)
            q = 1 / (values[f"{name}_q"] * a)
            bands.append((warped(values[f"{name}_hz"]), q, 1.0, q * (a * a - 1), 0.0))
        a = 10 ** (values["high_db"] / 40)
        bands.append((warped(values["high_hz"]) * math.sqrt(a), k, a * a, k * (1 - a) * a, 1 - a * a))
        columns = dict(zip(("g", "k", "direct", "band", "low"), np.array(bands).T, strict=True))
        return {**columns, "gain": 10 ** (values["gain_db"] / 20)}

    def _memory(self, sample_rate: int) -> tuple[NDArray[Any], ...]:
        return (np.zeros((BANDS, 2, 2)),)

    def _treat(self, state: Treatment, block: NDArray[np.float32], start: int, stop: int) -> None:
        _equalise(block, start, stop, state.clock, state.glides, state.now, state.slope, *state.memory)


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _equalise(block, start, stop, clock, glides, now, slope, memory):  # type: ignore[no-untyped-def]
    p, s = now[0], slope[0]
    x = np.empty((TICK, 2))
    a1, a2, a3 = np.empty(TICK), np.empty(TICK), np.empty(TICK)
    at = start
    while at < stop:
        step = (clock + at - start) % TICK
        if step == 0:
            glide(glides)
        m = min(TICK - step, stop - at)
        for j in range(m):
            gain = p.gain + (step + j) * s.gain
            x[j, 0], x[j, 1] = gain * block[0, at + j] + TINY, gain * block[1, at + j] + TINY
        for b in range(BANDS):
            for j in range(m):
                g, k = p.g[b] + (step + j) * s.g[b], p.k[b] + (step + j) * s.k[b]
                a1[j] = 1.0 / (1.0 + g * (g + k))
                a2[j] = g * a1[j]
                a3[j] = g * a2[j]
            left1, left2, right1, right2 = memory[b, 0, 0], memory[b, 0, 1], memory[b, 1, 0], memory[b, 1, 1]
            for j in range(m):
                direct = p.direct[b] + (step + j) * s.direct[b]
                band, low = p.band[b] + (step + j) * s.band[b], p.low[b] + (step + j) * s.low[b]
                v3 = x[j, 0] - left2
                v1 = a1[j] * left1 + a2[j] * v3
                v2 = left2 + a2[j] * left1 + a3[j] * v3
                left1, left2 = 2.0 * v1 - left1, 2.0 * v2 - left2
                x[j, 0] = direct * x[j, 0] + band * v1 + low * v2
                v3 = x[j, 1] - right2
                v1 = a1[j] * right1 + a2[j] * v3
                v2 = right2 + a2[j] * right1 + a3[j] * v3
                right1, right2 = 2.0 * v1 - right1, 2.0 * v2 - right2
                x[j, 1] = direct * x[j, 1] + band * v1 + low * v2
            memory[b, 0, 0], memory[b, 0, 1], memory[b, 1, 0], memory[b, 1, 1] = left1, left2, right1, right2
        for j in range(m):
            block[0, at + j], block[1, at + j] = x[j, 0], x[j, 1]
        at += m
