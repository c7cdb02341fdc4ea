"""The plan of a subtractive synthesiser's voices: where pitch, filter and level go, tick by tick; and their sum."""

import math

import numpy as np
from numba import njit

from soundloom.instruments.filters import ladder_coefficients, prewarped, svf_coefficients
from soundloom.instruments.modulation import DECAY, envelope, envelope_tick, glided, lfo
from soundloom.instruments.oscillators import FASTEST, PHASE_ONE, START, TAIL, TICK, increment
from soundloom.instruments.tones import (
    AGE,
    AHEAD,
    BEGIN,
    BEND1,
    BEND2,
    C0,
    C0_STEP,
    C1,
    C1_STEP,
    LONGEST,
    LOUD,
    LOUD_STEP,
    NEXT,
    PHASES,
    SLOT,
    STATES,
    STEP1,
    STEP2,
    TAILS,
    TICKS,
    UNISON,
    WIDTH,
    WIDTH_STEP,
)
from soundloom.instruments.voices import SILENT

FALLEN = 16.0  # time constants after which the pitch envelope is at rest

# What a voice is, besides `voices.FIELDS`. What moves within a tick has a value at the tick's start and a step.
TONE: list[tuple[str, str]] = [
    *[(name, "f8") for name in ("pitch", "velocity", "slide", "bent")],  # slide: from the last note, in semitones
    *[(name, "f8") for name in ("env", "filter_env", "lfo1_phase", "lfo2_phase", "lfo1", "lfo2")],
    *[(name, "f8") for name in ("cycle", "ratio2", "width", "width_step")],  # cycle: of the phase, a sample
    *[(name, "f8") for name in ("cutoff", "octave", "damping", "ladder", "c0", "c1", "c0_step", "c1_step")],
    *[(name, "f8") for name in ("gain", "loud", "loud_step")],
    *[(name, "f8") for name in ("calm", "still")],  # the stamp of the knobs with which all, and the filter, rests
    *[(name, "i8") for name in ("stage", "filter_stage", "step1", "step2", "bend1", "bend2")],
    ("moved", "i8"),  # 1 when the pitch moved in the last tick
    ("over", "i8"),  # 1 when what is rendered is its last
    ("ready", "i8"),  # samples rendered ahead, at the end of its memory
    ("sides", "i8"),  # 2 when left and right were not the same in the last tick
]


@njit(cache=True)
def _cycle(v, p, age, sample_rate):  # type: ignore[no-untyped-def]
    """How far the phase of oscillator 1 moves a sample at an age: a closed form."""
    pitch = v.pitch + v.bent
    seconds = age / sample_rate
    if p.pitch_env_semitones != 0 and seconds < FALLEN * p.pitch_env_s:
        pitch += p.pitch_env_semitones * math.exp(-seconds / p.pitch_env_s)
    if v.slide != 0:
        pitch += v.slide * max(0.0, 1.0 - seconds / max(p.glide_s, 1e-3))
    return increment(pitch + 0.01 * (p.vibrato_cents * v.lfo1 + p.lfo2_cents * v.lfo2), sample_rate)


@njit(cache=True, inline="always")
def _move_pitch(v, p, bend, sample_rate):  # type: ignore[no-untyped-def]
    """Where both oscillators go until the next tick; the slow oscillators and the filter envelope are there already."""
    start, ratio = v.cycle, v.ratio2
    if v.age > p.glide_s * sample_rate:
        v.slide = 0.0
    falls = p.pitch_env_semitones != 0 and v.age < FALLEN * p.pitch_env_s * sample_rate
    moves = falls or p.vibrato_cents > 0 or p.lfo2_cents > 0 or v.slide != 0 or v.bent != bend
    if v.bent != bend:
        v.bent = glided(v.bent, bend, p.smoothing)
    if moves or v.moved == 1:
        v.cycle = _cycle(v, p, v.age + TICK, sample_rate)
    v.moved = 1 if moves else 0
    v.ratio2 = p.osc2_ratio
    if p.osc2_env_semitones != 0:
        v.ratio2 *= 2.0 ** (p.osc2_env_semitones * v.filter_env / 12.0)
    fastest = FASTEST / p.widest
    v.step1, v.step2 = int(min(start, fastest)), int(min(start * ratio, fastest))
    v.bend1 = (int(min(v.cycle, fastest)) - v.step1) // TICK
    v.bend2 = (int(min(v.cycle * v.ratio2, fastest)) - v.step2) // TICK


@njit(cache=True, inline="always")
def _move_filter(v, p, first, sample_rate):  # type: ignore[no-untyped-def]
    """Where the filter's coefficients go until the next tick."""
    v.c0 += TICK * v.c0_step
    v.c1 += TICK * v.c1_step
    v.c0_step = v.c1_step = 0.0
    v.cutoff = glided(v.cutoff, p.cutoff_octave, p.smoothing)
    octave = v.cutoff + p.filter_env_octaves * v.filter_env - p.velocity_octaves * (1.0 - v.velocity)
    octave += p.key_tracking * (v.pitch - 60.0) / 12.0
    octave += p.lfo1_cutoff_octaves * v.lfo1 + p.lfo2_cutoff_octaves * v.lfo2
    if first or octave != v.octave or v.damping != p.damping or v.ladder != p.ladder:
        g = prewarped(octave, sample_rate)
        if p.ladder == 1:
            c0, c1 = ladder_coefficients(g, p.damping)
        else:
            c0, c1 = svf_coefficients(g, p.damping)
        if first or v.ladder != p.ladder:
            v.c0, v.c1 = c0, c1
        else:
            v.c0_step, v.c1_step = (c0 - v.c0) / TICK, (c1 - v.c1) / TICK
        v.octave, v.damping, v.ladder = octave, p.damping, p.ladder


@njit(cache=True)
def _tick(v, p, bend, sample_rate):  # type: ignore[no-untyped-def]
    """Work out where pitch, width, cutoff and level go until the next tick; nothing where all of it rests."""
    first, before = v.age == 0, v.filter_env
    v.filter_env, v.filter_stage = envelope_tick(
        v.filter_env, v.filter_stage, v.held, p.filter_attack_step, p.filter_sustain, p.filter_decay_factor,
        p.filter_release_factor,
    )  # fmt: skip
    env_moves = v.filter_env != before
    calm = v.calm == p.stamp and v.bent == bend and not (env_moves and p.osc2_env_semitones != 0)
    if calm and v.still == p.stamp and not (env_moves and p.filter_env_octaves != 0):
        return
    if first:
        v.lfo1, v.lfo2 = lfo(p.lfo1_shape, 0.0, v.key), lfo(p.lfo2_shape, 0.0, v.key + 1)
        v.cycle, v.ratio2 = _cycle(v, p, v.age, sample_rate), p.osc2_ratio
        v.width = p.pulse_width + p.lfo1_width * v.lfo1 + p.lfo2_width * v.lfo2
        v.gain = p.gain * v.velocity * v.velocity
        v.loud = v.gain * _tremolo(p.lfo1_tremolo, v.lfo1) * _tremolo(p.lfo2_tremolo, v.lfo2)
    if not calm:
        if p.lfo1 == 1:
            v.lfo1_phase += p.vibrato_hz * TICK / sample_rate
            v.lfo1 = lfo(p.lfo1_shape, v.lfo1_phase, v.key)
        if p.lfo2 == 1:
            v.lfo2_phase += p.lfo2_hz * TICK / sample_rate
            v.lfo2 = lfo(p.lfo2_shape, v.lfo2_phase, v.key + 1)
        _move_pitch(v, p, bend, sample_rate)
        v.width = min(max(v.width + TICK * v.width_step, 0.02), 0.98)
        target = min(max(p.pulse_width + p.lfo1_width * v.lfo1 + p.lfo2_width * v.lfo2, 0.02), 0.98)
        most = 0.5 * min(min(v.step1, v.step1 + TICK * v.bend1), min(v.step2, v.step2 + TICK * v.bend2)) / PHASE_ONE
        v.width_step = min(max((target - v.width) / TICK, -most), most)  # an edge never runs backwards
        v.gain = glided(v.gain, p.gain * v.velocity * v.velocity, p.smoothing)
        v.loud += TICK * v.loud_step
        v.loud_step = (v.gain * _tremolo(p.lfo1_tremolo, v.lfo1) * _tremolo(p.lfo2_tremolo, v.lfo2) - v.loud) / TICK
        moves = p.lfo1 == 1 or p.lfo2 == 1 or v.moved == 1 or v.bend1 != 0 or v.bend2 != 0 or v.width_step != 0
        v.calm = 0.0 if moves or v.loud_step != 0 else p.stamp
    _move_filter(v, p, first, sample_rate)
    v.still = p.stamp if v.calm == p.stamp and v.c0_step == 0 and v.cutoff == p.cutoff_octave else 0.0


@njit(cache=True, inline="always")
def _tremolo(depth, lfo_value):  # type: ignore[no-untyped-def]
    return 1.0 - depth * (0.5 - 0.5 * lfo_value)


@njit(cache=True)
def plan(rows, memory, params, bend, sample_rate, who, moves, sound, left, right):  # type: ignore[no-untyped-def]
    """Add what voices have ready to `left` and `right` [n], and plan the rest; returns how many voices are planned, and
    what there is to do for them (`tones.KINDS`).

    Their rows of `sound` begin with what their oscillators have left over.
    """
    p = params[0]
    n, count, sides = len(left), 0, int(p.sides)
    for i in range(len(rows)):
        v = rows[i]
        if v.active == 0:
            continue
        m, first = min(v.ready, n), np.uint64(AHEAD + TICK - v.ready)
        for j in range(m):
            left[j] += memory[i, first + np.uint64(j)]
            right[j] += memory[i, first + np.uint64(j + TICK)]
        v.ready -= m
        if v.over == 1:
            v.active = 1 if v.ready > 0 else 0
        elif m < n:
            ticks = (n - m + TICK - 1) // TICK
            who[count, SLOT], who[count, TICKS], who[count, BEGIN], who[count, AGE] = i, ticks, m, v.age
            for t in range(ticks):
                _tick(v, p, bend, sample_rate)
                row = moves[count, t]
                row[STEP1], row[BEND1], row[STEP2], row[BEND2] = v.step1, v.bend1, v.step2, v.bend2
                row[WIDTH], row[WIDTH_STEP], row[LOUD], row[LOUD_STEP] = v.width, v.width_step, v.loud, v.loud_step
                row[C0], row[C1], row[C0_STEP], row[C1_STEP] = v.c0, v.c1, v.c0_step, v.c1_step
                v.age += TICK
            for side in range(sides):
                place, tail = count * sides + side, np.uint64(TAILS + (side * TAIL if v.sides == 2 else 0))
                for j in range(TAIL):
                    sound[place, j] = memory[i, tail + np.uint64(j)]
                for j in range(ticks * TICK):
                    sound[place, TAIL + j] = 0.0
            if sides == 2 and v.sides != 2:  # what was the same on both sides
                for k in range(STATES):
                    memory[i, STATES + k] = memory[i, k]
            v.sides = sides
            count += 1
    return count, int(p.kinds)


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def mix(rows, memory, params, who, moves, sound, count, left, right):  # type: ignore[no-untyped-def]
    """The level of the planned voices, and their sum; what reaches over the end of the block waits in their memory."""
    p = params[0]
    n, sides, level, total = len(left), int(p.sides), np.zeros(LONGEST * TICK), np.zeros((2, len(left)))
    for k in range(count):
        i, begin, ticks, end = who[k, SLOT], who[k, BEGIN], who[k, TICKS], 0
        v = rows[i]
        while end < ticks and v.over == 0:
            at = end * TICK
            v.env, v.stage = envelope(level, at, v.env, v.stage, v.held, p.attack_step, p.sustain, p.powers)
            loud, step, place = moves[k, end, LOUD], moves[k, end, LOUD_STEP], np.uint64(at)
            for j in range(TICK):
                level[place + np.uint64(j)] *= loud + (j + 1) * step
            end += 1
            if v.env < SILENT and (v.held == 0 or v.stage == DECAY):
                v.over = 1
        m, start = min(end * TICK, n - begin), np.uint64(begin)
        v.ready = end * TICK - m
        if v.over == 1 and v.ready == 0:
            v.active = 0
        for side in range(2):
            row = sides * k + side * (sides - 1)
            for j in range(m if side < sides else 0):
                total[side, start + np.uint64(j)] += level[j] * sound[row, START + j]
            for j in range(m, m + v.ready):
                memory[i, AHEAD + (side + 1) * TICK + j - end * TICK] = level[j] * sound[row, START + j]
            later = np.uint64(end * TICK)
            for j in range(TAIL):
                memory[i, TAILS + side * TAIL + j] = sound[row, later + np.uint64(j)]
        for which in range(2 * UNISON):
            memory[i, PHASES + which] = memory[i, NEXT + which]
    for j in range(n):
        left[j] += total[0, j]
        right[j] += total[sides - 1, j]
