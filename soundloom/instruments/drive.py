"""Saturation, from a little warmth to fuzz, that makes overtones and nothing but overtones.

The curve bends sound at four times the rate, between half-band filters, and each sample is the mean of the curve over
the way from the last one: what would fold back beside the overtones is mostly gone before it can.
"""

import functools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from soundloom.instruments.base import Param
from soundloom.instruments.gliding import TICK, TINY, AbstractGliding, Treatment, glide

# Half-band filters at twice and at four times the rate: how many allpasses, and how wide the slope is, of their rate.
# The first is flat up to 20 kHz and at -100 dB from 24.1 kHz on, at 44.1 kHz; the second has much more room.
FIRST, SECOND = (8, 0.046), (4, 0.25)
OVER = 4
REFERENCE = 0.25  # a sine with this peak keeps its level, however hard it is driven
LIFT = 0.5  # gives back the highs that the mean over two samples takes: within 0.1 dB up to 20 kHz


class Drive(AbstractGliding):
    """A soft curve, driven.

    >>> fuzz = Drive({"drive_db": 30, "bias": 0.5})
    >>> state = fuzz.init_state(44100)
    >>> block, state = fuzz.process(state, [], np.zeros((2, 512), np.float32))
    >>> block.shape
    (2, 512)
    """

    params = (
        Param("drive_db", "dB", 0, 48, 12, help="how hard the sound is pushed into the curve; its level stays"),
        Param("bias", "", 0, 1, 0.1, help="how lopsided the curve is: even overtones"),
        Param("tone_hz", "Hz", 500, 20000, 12000, "log", "above this the driven sound is duller"),
        Param("gain_db", "dB", -18, 18, 0, help="the level of the driven sound"),
        Param("mix", "", 0, 1, 1, help="0 is the sound alone, 1 the driven sound alone"),
    )

    def _derive(self, values: Mapping[str, float], sample_rate: int) -> dict[str, Any]:
        drive, bias = 10 ** (values["drive_db"] / 20), 1.2 * values["bias"]
        pushed = drive * REFERENCE
        high, low = (x / math.sqrt(1 + x * x) for x in (bias + pushed, bias - pushed))
        g = math.tan(math.pi * min(values["tone_hz"] / (OVER * sample_rate), 0.45))
        return {
            "drive": drive,
            "bias": bias,
            "tone": g / (1 + g),
            "level": 10 ** (values["gain_db"] / 20) * 2 * REFERENCE / (high - low),
            "mix": values["mix"],
            "dc": 2 * math.pi * 5 / sample_rate,  # below 5 Hz: what a lopsided curve makes of loudness
        }

    def _memory(self, sample_rate: int) -> tuple[NDArray[Any], ...]:
        # Of each half-band filter, on the way up and down: the last input and output of each allpass. Besides, on each
        # side, what the curve, the tone, the lift and the removal of DC remember.
        states = (np.zeros((2, count // 2, 2, 4)) for count, _ in (FIRST, SECOND))
        return half_band(*FIRST), half_band(*SECOND), *states, np.zeros((4, 2))

    def _treat(self, state: Treatment, block: NDArray[np.float32], start: int, stop: int) -> None:
        _drive(block, start, stop, state.clock, state.glides, state.now, state.slope, *state.memory)


@functools.cache
def half_band(count: int, slope: float) -> NDArray[np.float64]:
    """The coefficients of a half-band elliptic filter as two chains of allpasses (Valenzuela and Constantinides, 1983).

    Both chains together let through what lies below a quarter of the rate. Shape: [count / 2, 4], the allpasses one
    after the other; the first chain on the left and right, then the second.
    """
    k = math.tan((1 - 2 * slope) * math.pi / 4) ** 2
    root = (1 - k * k) ** 0.25
    e = 0.5 * (1 - root) / (1 + root)
    q = e * (1 + e**4 * (2 + e**4 * (15 + 150 * e**4)))
    found = []
    for i in range(1, count + 1):
        angle = i * math.pi / (2 * count + 1)
        above = sum((-1) ** m * q ** (m * (m + 1)) * math.sin((2 * m + 1) * angle) for m in range(8))
        below = 0.5 + sum((-1) ** m * q ** (m * m) * math.cos(2 * m * angle) for m in range(1, 8))
        w = math.sqrt(q) * (above / below) ** 2
        x = math.sqrt((1 - w * k) * (1 - w / k)) / (1 + w)
        found.append((1 - x) / (1 + x))
    return np.repeat(np.array(found).reshape(-1, 2), 2, axis=1)


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _chains(x, coefficients, states):  # type: ignore[no-untyped-def]
    """Both chains of allpasses on both sides [4], in place."""
    for i in range(len(coefficients)):
        for lane in range(4):
            y = coefficients[i, lane] * (x[lane] - states[i, 1, lane]) + states[i, 0, lane]
            states[i, 0, lane], states[i, 1, lane] = x[lane], y
            x[lane] = y


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _drive(block, start, stop, clock, glides, now, slope, first, second, outer, inner, rest):  # type: ignore[no-untyped-def]
    """Twice the rate, twice again, the curve and the tone, and back.

    Up, each chain gives one of two samples. Down, the later of two samples goes through the first chain and the earlier
    one through the second, and their mean is the sample.
    """
    p, s = now[0], slope[0]
    wide, wider, narrow = np.empty(4), np.empty(4), np.empty(4)
    for at in range(start, stop):
        step = (clock + at - start) % TICK
        if step == 0:
            glide(glides)
        drive, bias = p.drive + step * s.drive, p.bias + step * s.bias
        tone, level, mix = p.tone + step * s.tone, p.level + step * s.level, p.mix + step * s.mix
        for lane in range(4):
            wide[lane] = block[lane & 1, at] + TINY
        _chains(wide, first, outer[0])
        for half in range(2):
            for lane in range(4):
                wider[lane] = wide[2 * half + (lane & 1)]
            _chains(wider, second, inner[0])
            for quarter in range(2):
                for c in range(2):
                    # The earlier sample goes where the second chain takes it, and the other way round.
                    narrow[2 - 2 * quarter + c] = _bend(
                        wider[2 * quarter + c], drive, bias, tone, level, mix, rest, c
                    )  # fmt: skip
            _chains(narrow, second, inner[1])
            for c in range(2):
                wide[2 * half + c] = 0.5 * (narrow[c] + narrow[2 + c])
        for c in range(2):
            narrow[c], narrow[2 + c] = wide[2 + c], wide[c]
        _chains(narrow, first, outer[1])
        for c in range(2):
            y = 0.5 * (narrow[c] + narrow[2 + c])
            rest[3, c] += p.dc * (y - rest[3, c])
            block[c, at] = y - rest[3, c]


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _bend(x, drive, bias, tone, level, mix, rest, c):  # type: ignore[no-untyped-def]
    """One sample of one side through the curve, the tone and the mix.

    The curve is x / sqrt(1 + x²), and its mean over the way from x0 to x1 is (x1 + x0) / (sqrt(1 + x1²) +
    sqrt(1 + x0²)): antiderivative anti-aliasing (Parker, Zavalishin and Le Bivic, 2016) in closed form. What is not
    driven is the mean of two samples as well, so that both fit when they are mixed.
    """
    x0, x1 = drive * rest[0, c] + bias, drive * x + bias
    center = bias / math.sqrt(1.0 + bias * bias)
    bent = (x1 + x0) / (math.sqrt(1.0 + x1 * x1) + math.sqrt(1.0 + x0 * x0)) - center
    dry = 0.5 * (x + rest[0, c])
    rest[0, c] = x
    v = tone * (bent - rest[1, c])
    wet = level * (v + rest[1, c])
    rest[1, c] += 2.0 * v
    rest[2, c] = (1.0 + LIFT) * (dry + mix * (wet - dry)) - LIFT * rest[2, c]
    return rest[2, c]
