"""A compressor: what is loud is turned down, so that what is soft can be turned up."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from soundloom.instruments.base import Param
from soundloom.instruments.gliding import TICK, TINY, AbstractGliding, Treatment, glide, one_pole


class Compressor(AbstractGliding):
    """One gain for both sides, from the louder of them.

    >>> glue = Compressor({"threshold_db": -24, "ratio": 2, "attack_s": 0.03})
    >>> state = glue.init_state(44100)
    >>> block, state = glue.process(state, [], np.zeros((2, 512), np.float32))
    >>> block.shape
    (2, 512)

    Levels are those of peaks. The gain is worked out in decibels, with a soft knee, and smoothed there: first the fall
    back, then the attack on top of it (Giannoulis, Massberg and Reiss, 2012, "smooth decoupled").
    """

    params = (
        Param("threshold_db", "dB", -60, 0, -18, help="what is louder than this is turned down"),
        Param("ratio", "", 1, 20, 3, "log", "how many decibels more in make one decibel more out"),
        Param("knee_db", "dB", 0, 24, 6, help="how wide the bend at the threshold is"),
        Param("attack_s", "s", 0.0001, 0.2, 0.008, "log", "how fast it turns down"),
        Param("release_s", "s", 0.01, 2, 0.12, "log", "how fast it comes back up"),
        Param("low_cut_hz", "Hz", 10, 500, 40, "log", "it does not listen to what is below this"),
        Param("makeup_db", "dB", 0, 24, 0, help="how much everything is turned up afterwards"),
        Param("mix", "", 0, 1, 1, help="0 is the sound alone, 1 the compressed sound alone"),
    )

    def _derive(self, values: Mapping[str, float], sample_rate: int) -> dict[str, Any]:
        return {
            "threshold": values["threshold_db"],
            "slope": 1 - 1 / values["ratio"],
            "knee": max(values["knee_db"], 1e-3),
            "attack": 1 - math.exp(-1 / (values["attack_s"] * sample_rate)),
            "release": 1 - math.exp(-1 / (values["release_s"] * sample_rate)),
            "low_cut": one_pole(values["low_cut_hz"], sample_rate),
            "makeup": values["makeup_db"],
            "mix": values["mix"],
        }

    def _memory(self, sample_rate: int) -> tuple[NDArray[Any], ...]:
        return (np.zeros(4),)  # the low cut of both sides, and how far the gain is down: falling back, and smoothed

    def _treat(self, state: Treatment, block: NDArray[np.float32], start: int, stop: int) -> None:
        _compress(block, start, stop, state.clock, state.glides, state.now, state.slope, *state.memory)


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _compress(block, start, stop, clock, glides, now, slope, memory):  # type: ignore[no-untyped-def]
    p, s = now[0], slope[0]
    low0, low1, falling, down = memory[0], memory[1], memory[2], memory[3]
    for at in range(start, stop):
        step = (clock + at - start) % TICK
        if step == 0:
            glide(glides)
        cut = p.low_cut + step * s.low_cut
        dry0, dry1 = block[0, at] + TINY, block[1, at] + TINY
        v = cut * (dry0 - low0)
        heard0 = dry0 - (v + low0)
        low0 += 2.0 * v
        v = cut * (dry1 - low1)
        heard1 = dry1 - (v + low1)
        low1 += 2.0 * v
        level = 20.0 * math.log10(max(abs(heard0), abs(heard1)) + 1e-9)
        over, knee = level - (p.threshold + step * s.threshold), p.knee + step * s.knee
        wanted = 0.0
        if over > -0.5 * knee:
            bend = over + 0.5 * knee
            wanted = (p.slope + step * s.slope) * (over if over > 0.5 * knee else bend * bend / (2.0 * knee))
        falling = max(wanted, falling + (p.release + step * s.release) * (wanted - falling))
        down += (p.attack + step * s.attack) * (falling - down) + TINY
        gain = 10.0 ** ((p.makeup + step * s.makeup - down) / 20.0)
        by = 1.0 + (p.mix + step * s.mix) * (gain - 1.0)
        block[0, at], block[1, at] = by * dry0, by * dry1
    memory[0], memory[1], memory[2], memory[3] = low0, low1, falling, down
