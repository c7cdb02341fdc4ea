"""Chorus and flanger: the sound beside copies of itself whose delays swing, so that it seems to be several."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from soundloom.instruments.base import Param
from soundloom.instruments.gliding import TICK, TINY, AbstractGliding, Treatment, glide, read

TAPS = 3
PACES = np.array([1.0, 0.83, 1.19])  # of the taps: so that they never swing together for long
LATEST_S, DEEPEST_S = 0.03, 0.01


class Chorus(AbstractGliding):
    """Three swinging copies a side; with one copy, a short delay and feedback it is a flanger.

    >>> flanger = Chorus({"voices": 1, "delay_s": 0.0005, "depth_s": 0.002, "feedback": 0.7, "rate_hz": 0.2})
    >>> state = flanger.init_state(44100)
    >>> block, state = flanger.process(state, [], np.zeros((2, 512), np.float32))
    >>> block.shape
    (2, 512)
    """

    params = (
        Param("rate_hz", "Hz", 0.02, 10, 0.6, "log", "how often the copies swing"),
        Param("depth_s", "s", 0, DEEPEST_S, 0.002, help="how far their delays swing either way"),
        Param("delay_s", "s", 0.0003, LATEST_S, 0.008, "log", "the shortest delay they swing to"),
        Param("voices", "", 1, TAPS, TAPS, help="how many copies there are on each side, and all between"),
        Param("feedback", "", -0.95, 0.95, 0, help="how much of the first copy is copied again: flangers whistle"),
        Param("spread", "", 0, 1, 0.5, help="how differently the two sides swing"),
        Param("mix", "", 0, 1, 0.5, help="0 is the sound alone, 1 the copies alone"),
    )

    def _derive(self, values: Mapping[str, float], sample_rate: int) -> dict[str, Any]:
        levels = np.clip(values["voices"] - np.arange(TAPS), 0, 1)
        return {
            "delay": max(values["delay_s"] * sample_rate, 6.0),  # what is read has been written
            "depth": values["depth_s"] * sample_rate,
            "rate": values["rate_hz"] / sample_rate,
            "levels": levels / math.sqrt(float(np.sum(levels**2))),
            "feedback": values["feedback"],
            "spread": values["spread"],
            "mix": values["mix"],
        }

    def _pace(self, name: str) -> tuple[float, float]:
        return (0.05, 0.3) if name in ("delay", "depth") else super()._pace(name)

    def _memory(self, sample_rate: int) -> tuple[NDArray[Any], ...]:
        longest = (LATEST_S + 2 * DEEPEST_S) * sample_rate + TICK
        # The swings: the turn of each tap; and of each tap on each side the delay at the tick's start and its slope.
        return (
            np.zeros((2, 1 << math.ceil(math.log2(longest))), np.float32),
            np.arange(TAPS) / TAPS,
            np.zeros((2, 2, TAPS)),
        )

    def _treat(self, state: Treatment, block: NDArray[np.float32], start: int, stop: int) -> None:
        _swing(block, start, stop, state.clock, state.glides, state.now, state.slope, *state.memory)


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _swing(block, start, stop, clock, glides, now, slope, lines, turns, delays):  # type: ignore[no-untyped-def]
    p, s = now[0], slope[0]
    mask = lines.shape[1] - 1
    for at in range(start, stop):
        frame = clock + at - start
        step = frame % TICK
        if step == 0:
            glide(glides)
            _aim(p, s, turns, delays)
        feedback, mix = p.feedback + step * s.feedback, p.mix + step * s.mix
        for c in range(2):
            line, dry = lines[c], block[c, at]
            first = read(line, frame - (delays[0, c, 0] + step * delays[1, c, 0]), mask)
            wet = (p.levels[0] + step * s.levels[0]) * first
            for k in range(1, TAPS):
                level = p.levels[k] + step * s.levels[k]
                if level > 0.0:
                    wet += level * read(line, frame - (delays[0, c, k] + step * delays[1, c, k]), mask)
            line[frame & mask] = dry + feedback * first + TINY
            block[c, at] = dry + mix * (wet - dry)


@njit(cache=True)
def _aim(p, s, turns, delays):  # type: ignore[no-untyped-def]
    """Where the delays are at the start of a tick, and how they move until the next one."""
    end_delay, end_depth = p.delay + TICK * s.delay, p.depth + TICK * s.depth
    end_spread = p.spread + TICK * s.spread
    for k in range(TAPS):
        turn = turns[k]
        turns[k] = (turn + TICK * PACES[k] * p.rate) % 1.0
        for c in range(2):
            start = p.delay + p.depth * (1.0 + math.sin(2.0 * math.pi * (turn + 0.5 * c * p.spread)))
            end = end_delay + end_depth * (1.0 + math.sin(2.0 * math.pi * (turns[k] + 0.5 * c * end_spread)))
            delays[0, c, k], delays[1, c, k] = start, (end - start) / TICK
