"""Voices that are planned, through their filters and drive: LANES of them side by side."""

import functools
from typing import Any

import numpy as np
from numba import njit

from soundloom.instruments.filters import (
    COEFFICIENT,
    HEIGHT,
    LANES,
    STATE,
    STEP,
    ladder,
    saturate,
    svf,
)
from soundloom.instruments.oscillators import START, TICK
from soundloom.instruments.tones import C0, C0_STEP, C1, C1_STEP, SLOT, STATES, TICKS


@functools.cache
def through(four_poles: int, driven: int) -> Any:
    """The kernel of a filter, with or without the drive behind it; each is compiled when it is first heard.

    It closes over numbers alone: one that closes over another kernel is never found again on disk.
    """

    @njit(cache=True, error_model="numpy", fastmath={"contract"})
    def filtered(who, moves, sound, memory, params, count):  # type: ignore[no-untyped-def]
        """Filter the rows of `sound` in place. Of the knobs `filtering` are the filter's four and the drive's two."""
        knobs, sides = params[0].filtering, int(params[0].sides)
        tile = np.zeros((HEIGHT, LANES))
        for front in range(0, count * sides, LANES):
            lanes = min(LANES, count * sides - front)
            longest = 0
            for lane in range(lanes):
                k, side = (front + lane) // sides, (front + lane) % sides
                longest = max(longest, who[k, TICKS])
                for i in range(STATES):
                    tile[STATE + i, lane] = memory[who[k, SLOT], side * STATES + i]
            for t in range(longest):
                at = np.uint64(START + t * TICK)
                for lane in range(lanes):
                    row = front + lane
                    k = row // sides
                    if t < who[k, TICKS]:
                        tile[COEFFICIENT, lane], tile[COEFFICIENT + 1, lane] = moves[k, t, C0], moves[k, t, C1]
                        tile[STEP, lane], tile[STEP + 1, lane] = moves[k, t, C0_STEP], moves[k, t, C1_STEP]
                        for j in range(TICK):
                            tile[j, lane] = sound[row, at + np.uint64(j)]
                if four_poles:
                    ladder(tile, knobs[0], knobs[1], knobs[2], knobs[3])
                else:
                    svf(tile, knobs[0], knobs[1], knobs[2], knobs[3])
                if driven:
                    saturate(tile, knobs[4], knobs[5])
                for lane in range(lanes):
                    row = front + lane
                    k = row // sides
                    if t < who[k, TICKS]:
                        for j in range(TICK):
                            sound[row, at + np.uint64(j)] = tile[j, lane]
                    if t == who[k, TICKS] - 1:
                        for i in range(STATES):
                            memory[who[k, SLOT], row % sides * STATES + i] = tile[STATE + i, lane]

    return filtered
