"""The oscillators of voices that are planned: a kernel for each way of making a wave, compiled when it is first heard.

A plan says of each voice k what happens in each of its ticks: `who` [K, 4] is its place in `memory`, how many ticks,
where in the block the first begins, and its age there; `moves` [K, T, MOVES] is where pitch, width, filter and level
stand at each tick and how far they move a sample. Waves are added to `sound`: a row for a voice, or two for its sides,
and one row more to make a voice of a unison in.
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from soundloom.instruments.oscillators import PHASE_ONE, TAIL, TICK, advanced, hiss, saw, sine, triangle
from soundloom.instruments.sync import synced
from soundloom.instruments.voices import white

UNISON = 7  # voices of an oscillator at most
SLOT, TICKS, BEGIN, AGE = range(4)  # of `who`
STEP1, BEND1, STEP2, BEND2, WIDTH, WIDTH_STEP, C0, C1, C0_STEP, C1_STEP, LOUD, LOUD_STEP = range(12)
MOVES = 12  # of `moves`
# What there is to do for a sound, as bits. Rounds are sines and triangles; a slave is started again by oscillator 1.
SAWS, ROUNDS, SLAVE, NOISE, LADDER, DRIVEN = KINDS = (1, 2, 4, 8, 16, 32)
BLOCK = 512  # samples that are planned at once
LONGEST = BLOCK // TICK + 1  # ticks of a voice in them
# The memory of a voice: by side four states of the filter and three of the drive; the phases of both oscillators, and
# those after what is planned; by side what is rendered ahead, and what the oscillators add to later ticks.
STATES, PHASES = 7, 14
NEXT = PHASES + 2 * UNISON
AHEAD = NEXT + 2 * UNISON
TAILS = AHEAD + 2 * TICK
MEMORY = TAILS + 2 * TAIL


class Room(NamedTuple):
    """Where voices are planned, and their sound is made. Nothing in it is remembered from one block to the next."""

    who: NDArray[np.int64]  # [K, 4]
    moves: NDArray[np.float64]  # [K, LONGEST, MOVES]
    sound: NDArray[np.float64]  # [2 K + 1, ...]: silent but for what the next samples begin with

    @classmethod
    def of(cls, voices: int) -> "Room":
        row = LONGEST * TICK + TAIL
        return cls(np.zeros((voices, 4), np.int64), np.zeros((voices, LONGEST, MOVES)), np.zeros((2 * voices + 1, row)))


@njit(cache=True)
def scatter(memory, key):  # type: ignore[no-untyped-def]
    """The oscillators of a voice and its unison start anywhere, as its own noise has it."""
    for which in range(2 * UNISON):
        phase = np.int64((white(key, -1 - which) + 1.0) * PHASE_ONE / 2)
        memory[PHASES + which] = memory[NEXT + which] = phase


@njit(cache=True, error_model="numpy", fastmath={"contract"}, inline="always")
def _spread(sound, row, left, right, length):  # type: ignore[no-untyped-def]
    """Add the last row, which is otherwise silent, to two sides."""
    scratch, to_left, to_right = len(sound) - 1, np.float32(left), np.float32(right)
    for j in range(length):
        sound[row, j] += to_left * sound[scratch, j]
        sound[row + 1, j] += to_right * sound[scratch, j]
        sound[scratch, j] = 0.0


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def saws(who, moves, sound, memory, params, jumps, count):  # type: ignore[no-untyped-def]
    """Saws, and pulses: a saw less the same saw `width` of a period later, which has no DC at any width.

    Of the knobs `free` [2, 4] is how loud the oscillators' sine, triangle, saw and later saw are, `chorus` [3, UNISON]
    the pitch and both sides' levels of the voices of a unison.
    """
    p = params[0]
    shares, chorus, sides, unisons = p.free, p.chorus, int(p.sides), int(p.count)
    for k in range(count):
        ticks, slot = who[k, TICKS], who[k, SLOT]
        for unison in range(unisons):
            row, weight = (k, chorus[1, unison]) if sides == 1 else (len(sound) - 1, 1.0)
            for part in range(4):
                osc, later = part >> 1, part & 1
                gain = weight * shares[osc, 2 + later]
                if gain == 0:
                    continue
                phase = np.int64(memory[slot, PHASES + osc * UNISON + unison])
                for t in range(ticks):
                    step = np.int64(moves[k, t, 2 * osc] * chorus[0, unison])
                    bend = np.int64(moves[k, t, 2 * osc + 1] * chorus[0, unison])
                    ahead = later * np.int64(moves[k, t, WIDTH] * PHASE_ONE)
                    faster = later * np.int64(moves[k, t, WIDTH_STEP] * PHASE_ONE)
                    place = (phase + ahead) & (PHASE_ONE - 1)
                    saw(sound, row, t * TICK, place, step + faster, bend, gain, jumps)
                    phase = advanced(phase, step, bend)
                memory[slot, NEXT + osc * UNISON + unison] = phase
            if sides == 2:
                _spread(sound, 2 * k, chorus[1, unison], chorus[2, unison], ticks * TICK + TAIL)


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def rounds(who, moves, sound, memory, params, corners, count):  # type: ignore[no-untyped-def]
    """Sines and triangles."""
    p = params[0]
    shares, chorus, sides, unisons = p.free, p.chorus, int(p.sides), int(p.count)
    for k in range(count):
        ticks, slot = who[k, TICKS], who[k, SLOT]
        for unison in range(unisons):
            row, weight = (k, chorus[1, unison]) if sides == 1 else (len(sound) - 1, 1.0)
            for osc in range(2):
                round_gain, edgy_gain = weight * shares[osc, 0], weight * shares[osc, 1]
                if round_gain == 0 and edgy_gain == 0:
                    continue
                phase = np.int64(memory[slot, PHASES + osc * UNISON + unison])
                for t in range(ticks):
                    step = np.int64(moves[k, t, 2 * osc] * chorus[0, unison])
                    bend = np.int64(moves[k, t, 2 * osc + 1] * chorus[0, unison])
                    if round_gain != 0:
                        sine(sound, row, t * TICK, phase, step, bend, round_gain)
                    if edgy_gain != 0:
                        triangle(sound, row, t * TICK, phase, step, bend, edgy_gain, corners)
                    phase = advanced(phase, step, bend)
                memory[slot, NEXT + osc * UNISON + unison] = phase
            if sides == 2:
                _spread(sound, 2 * k, chorus[1, unison], chorus[2, unison], ticks * TICK + TAIL)


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def slaves(who, moves, sound, memory, params, jumps, corners, count):  # type: ignore[no-untyped-def]
    """The second oscillator, started again by the first: of the knobs `slave` [4] is how loud its parts are."""
    p = params[0]
    gains, chorus, sides, unisons = p.slave.copy(), p.chorus, int(p.sides), int(p.count)
    for k in range(count):
        ticks, slot = who[k, TICKS], who[k, SLOT]
        for unison in range(unisons):
            ratio, row = chorus[0, unison], k if sides == 1 else len(sound) - 1
            weighted = gains * (chorus[1, unison] if sides == 1 else 1.0)
            master = np.int64(memory[slot, PHASES + unison])
            phase = memory[slot, PHASES + UNISON + unison]
            for t in range(ticks):
                step, bend = np.int64(moves[k, t, STEP1] * ratio), np.int64(moves[k, t, BEND1] * ratio)
                phase = synced(
                    sound, row, t * TICK, master, step, bend, phase, moves[k, t, STEP2] * ratio,
                    moves[k, t, BEND2] * ratio, weighted, moves[k, t, WIDTH], moves[k, t, WIDTH_STEP], jumps, corners,
                )  # fmt: skip
                master = advanced(master, step, bend)
            memory[slot, NEXT + unison], memory[slot, NEXT + UNISON + unison] = master, phase
            if sides == 2:
                _spread(sound, 2 * k, chorus[1, unison], chorus[2, unison], ticks * TICK + TAIL)


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def hisses(who, moves, sound, rows, params, count):  # type: ignore[no-untyped-def]
    """White noise, the same on both sides."""
    gain, sides = params[0].noise_level, int(params[0].sides)
    for k in range(count):
        for side in range(sides):
            for t in range(who[k, TICKS]):
                hiss(sound, sides * k + side, t * TICK, rows[who[k, SLOT]].key, who[k, AGE] + t * TICK, gain)
