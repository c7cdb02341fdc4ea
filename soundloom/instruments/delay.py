"""Echoes: a delay on each side, fed back through filters, that may throw the sound from side to side."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from soundloom.instruments.base import Param
from soundloom.instruments.gliding import TICK, TINY, AbstractGliding, Treatment, glide, one_pole, read

LONGEST_S = 2.0


class Delay(AbstractGliding):
    """Echoes that get darker and thinner as they go round.

    >>> echo = Delay({"time_s": 0.25, "feedback": 0.5})
    >>> state = echo.init_state(44100)
    >>> block, state = echo.process(state, [], np.zeros((2, 512), np.float32))
    >>> block.shape
    (2, 512)

    A time that is changed glides there, as a tape's does: what is in the line goes up or down by a fifth at most.
    """

    params = (
        Param("time_s", "s", 0.001, LONGEST_S, 0.375, "log", "from one echo to the next"),
        Param("feedback", "", 0, 0.98, 0.4, help="how strong each echo is beside the one before"),
        Param("ping_pong", "", 0, 1, 0, help="how far echoes go from side to side: the first is then on the left"),
        Param("low_cut_hz", "Hz", 10, 2000, 80, "log", "below this each echo is thinner than the one before"),
        Param("high_cut_hz", "Hz", 500, 20000, 6000, "log", "above this each echo is darker than the one before"),
        Param("mix", "", 0, 1, 0.3, help="0 is the sound alone, 1 the echoes alone"),
    )

    def _derive(self, values: Mapping[str, float], sample_rate: int) -> dict[str, Any]:
        return {
            "delay": float(max(round(values["time_s"] * sample_rate), 4)),  # whole at rest: nothing is lost to reading
            "feedback": values["feedback"],
            "ping_pong": values["ping_pong"],
            "low": one_pole(values["low_cut_hz"], sample_rate),
            "high": one_pole(values["high_cut_hz"], sample_rate),
            "mix": values["mix"],
        }

    def _pace(self, name: str) -> tuple[float, float]:
        return (0.15, 0.5) if name == "delay" else super()._pace(name)

    def _memory(self, sample_rate: int) -> tuple[NDArray[Any], ...]:
        line = 1 << math.ceil(math.log2(LONGEST_S * sample_rate + TICK))
        return np.zeros((2, line), np.float32), np.zeros((2, 2))

    def _treat(self, state: Treatment, block: NDArray[np.float32], start: int, stop: int) -> None:
        _echo(block, start, stop, state.clock, state.glides, state.now, state.slope, *state.memory)


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _echo(block, start, stop, clock, glides, now, slope, line, filters):  # type: ignore[no-untyped-def]
    """Out of the line, through both filters of its side, across as much as asked, and with the input back into it."""
    p, s = now[0], slope[0]
    mask = line.shape[1] - 1
    left, right = line[0], line[1]
    low0, high0, low1, high1 = filters[0, 0], filters[0, 1], filters[1, 0], filters[1, 1]
    for at in range(start, stop):
        frame = clock + at - start
        step = frame % TICK
        if step == 0:
            glide(glides)
        position = frame - (p.delay + step * s.delay)
        wet0, wet1 = read(left, position, mask), read(right, position, mask)
        low, high = p.low + step * s.low, p.high + step * s.high
        back0, low0, high0 = _band(wet0, low0, high0, low, high)
        back1, low1, high1 = _band(wet1, low1, high1, low, high)
        feedback, cross = p.feedback + step * s.feedback, p.ping_pong + step * s.ping_pong
        dry0, dry1 = block[0, at], block[1, at]
        middle = 0.5 * (dry0 + dry1)
        left[frame & mask] = dry0 + cross * (middle - dry0) + feedback * (back0 + cross * (back1 - back0)) + TINY
        right[frame & mask] = (1.0 - cross) * dry1 + feedback * (back1 + cross * (back0 - back1)) + TINY
        mix = p.mix + step * s.mix
        block[0, at] = dry0 + mix * (wet0 - dry0)
        block[1, at] = dry1 + mix * (wet1 - dry1)
    filters[0, 0], filters[0, 1], filters[1, 0], filters[1, 1] = low0, high0, low1, high1


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _band(x, low, high, low_gain, high_gain):  # type: ignore[no-untyped-def]
    """A one-pole high-pass, then a one-pole low-pass: the output and both states."""
    v = low_gain * (x - low)
    y = x - (v + low)
    low += 2.0 * v
    v = high_gain * (y - high)
    y = v + high
    high += 2.0 * v
    return y, low, high
