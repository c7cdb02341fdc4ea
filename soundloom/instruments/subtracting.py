"""The kernel of the subtractive synthesiser: a tick of each voice's oscillators, then of all their filters at once."""

import numpy as np
from numba import njit

from soundloom.instruments.filters import (
    COEFFICIENT,
    HEIGHT,
    LANES,
    STATE,
    STEP,
    ladder,
    ladder_coefficients,
    prewarped,
    saturate,
    svf,
    svf_coefficients,
)
from soundloom.instruments.modulation import DECAY, envelope, envelope_tick, glided, lfo
from soundloom.instruments.oscillators import (
    FASTEST,
    NAIVE,
    PHASE_ONE,
    RESIDUAL,
    SOUND,
    START,
    TAIL,
    TICK,
    advanced,
    correct,
    hiss,
    increment,
    saw,
    sine,
    triangle,
)
from soundloom.instruments.sync import synced
from soundloom.instruments.voices import SILENT

UNISON = 7  # voices of an oscillator at most
FALLEN = 16.0  # time constants after which the pitch envelope is at rest
# The memory of a voice: by side four states of the filter and three of the drive; the phases of both oscillators; and
# then in float32, by side: what is rendered ahead, and what the oscillators add to later ticks.
STATES, PHASES = 7, 14
AHEAD = 2 * (PHASES + 2 * UNISON)
TAILS = AHEAD + 2 * TICK
MEMORY = (TAILS + 2 * TAIL) // 2

# What a voice is, besides `voices.FIELDS`. What moves within a tick has a value at the tick's start and a step.
TONE: list[tuple[str, str]] = [
    *[(name, "f8") for name in ("pitch", "velocity", "slide", "bent")],  # slide: from the last note, in semitones
    *[(name, "f8") for name in ("env", "filter_env", "lfo1_phase", "lfo2_phase", "lfo1", "lfo2")],
    *[(name, "f8") for name in ("cycle", "ratio2", "width", "width_step")],  # cycle: of the phase, a sample
    *[(name, "f8") for name in ("cutoff", "octave", "damping", "ladder", "c0", "c1", "c0_step", "c1_step")],
    *[(name, "f8") for name in ("gain", "loud", "loud_step")],
    ("rests", "f8"),  # the stamp of the knobs with which nothing moves
    *[(name, "i8") for name in ("stage", "filter_stage", "step1", "step2", "bend1", "bend2")],
    ("moved", "i8"),  # 1 when the pitch moved in the last tick
    ("over", "i8"),  # 1 when what is rendered is its last
    ("tail", "i8"),  # for how many more ticks its oscillators have left something
    ("ready", "i8"),  # samples rendered ahead, at the end of its memory
    ("sides", "i8"),  # 2 when left and right were not the same in the last tick
]


@njit(cache=True)
def _cycle(v, p, age, sample_rate):  # type: ignore[no-untyped-def]
    """How far the phase of oscillator 1 moves a sample at an age: a closed form."""
    pitch = v.pitch + v.bent
    seconds = age / sample_rate
    if p.pitch_env_semitones != 0 and seconds < FALLEN * p.pitch_env_s:
        pitch += p.pitch_env_semitones * np.exp(-seconds / p.pitch_env_s)
    if v.slide != 0:
        pitch += v.slide * max(0.0, 1.0 - seconds / max(p.glide_s, 1e-3))
    return increment(pitch + 0.01 * (p.vibrato_cents * v.lfo1 + p.lfo2_cents * v.lfo2), sample_rate)


@njit(cache=True)
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


@njit(cache=True)
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
    opens = v.filter_env != before and (p.filter_env_octaves != 0 or p.osc2_env_semitones != 0)
    if v.rests == p.stamp and v.bent == bend and not opens:
        return
    if first:
        v.lfo1, v.lfo2 = lfo(p.lfo1_shape, 0.0, v.key), lfo(p.lfo2_shape, 0.0, v.key + 1)
        v.cycle, v.ratio2 = _cycle(v, p, v.age, sample_rate), p.osc2_ratio
        v.width = p.pulse_width + p.lfo1_width * v.lfo1 + p.lfo2_width * v.lfo2
        v.gain = p.gain * v.velocity * v.velocity
        v.loud = v.gain * _tremolo(p.lfo1_tremolo, v.lfo1) * _tremolo(p.lfo2_tremolo, v.lfo2)
    if p.lfo1 == 1:
        v.lfo1_phase += p.vibrato_hz * TICK / sample_rate
        v.lfo1 = lfo(p.lfo1_shape, v.lfo1_phase, v.key)
    if p.lfo2 == 1:
        v.lfo2_phase += p.lfo2_hz * TICK / sample_rate
        v.lfo2 = lfo(p.lfo2_shape, v.lfo2_phase, v.key + 1)
    _move_pitch(v, p, bend, sample_rate)
    _move_filter(v, p, first, sample_rate)

    v.width = min(max(v.width + TICK * v.width_step, 0.02), 0.98)
    target = min(max(p.pulse_width + p.lfo1_width * v.lfo1 + p.lfo2_width * v.lfo2, 0.02), 0.98)
    most = 0.5 * min(min(v.step1, v.step1 + TICK * v.bend1), min(v.step2, v.step2 + TICK * v.bend2)) / PHASE_ONE
    v.width_step = min(max((target - v.width) / TICK, -most), most)  # an edge never runs backwards
    v.gain = glided(v.gain, p.gain * v.velocity * v.velocity, p.smoothing)
    v.loud += TICK * v.loud_step
    v.loud_step = (v.gain * _tremolo(p.lfo1_tremolo, v.lfo1) * _tremolo(p.lfo2_tremolo, v.lfo2) - v.loud) / TICK
    rests = p.lfo1 == 0 and p.lfo2 == 0 and v.moved == 0 and v.bend1 == 0 and v.bend2 == 0 and v.width_step == 0
    v.rests = p.stamp if rests and v.c0_step == 0 and v.cutoff == p.cutoff_octave and v.loud_step == 0 else 0.0


@njit(cache=True)
def _tremolo(depth, lfo_value):  # type: ignore[no-untyped-def]
    return 1.0 - depth * (0.5 - 0.5 * lfo_value)


@njit(cache=True, error_model="numpy", fastmath={"contract"}, inline="always")
def _move(rows, group, count, params, bend, sample_rate):  # type: ignore[no-untyped-def]
    for c in range(count):
        _tick(rows[group[c]], params[0], bend, sample_rate)


@njit(cache=True, error_model="numpy", fastmath={"contract"}, inline="always")
def _oscillate(  # type: ignore[no-untyped-def]
    rows, group, count, params, memory, floats, chorus, gains, jumps, corners, sound, tile
):  # fmt: skip
    """A tick of the oscillators and the noise of a group of voices, into the lanes of a tile.

    A shape lies between two neighbours of sine, triangle, saw and pulse. A pulse is a saw less the same saw `width` of
    a period later: without DC at any width.
    """
    p = params[0]
    sides, unisons = int(p.sides), int(p.count)
    for c in range(count):
        i = group[c]
        v = rows[i]
        for side in range(sides):
            tail = np.uint64(TAILS + (side * TAIL if v.sides == 2 else 0))
            for j in range(SOUND):
                sound[side, j] = 0.0
            for j in range(TAIL if v.tail > 0 else NAIVE):
                sound[side, j] = floats[i, tail + np.uint64(j)]
        jumped = 0
        into = 2 if sides == 2 else 0  # a voice of a unison that goes to both sides is made once
        for unison in range(unisons):
            left, right, before = chorus[1, unison], chorus[2, unison], jumped
            step, bends, step2, bends2 = v.step1, v.bend1, v.step2, v.bend2
            if unisons > 1:
                step, bends = int(step * chorus[0, unison]), int(bends * chorus[0, unison])
                step2, bends2 = int(step2 * chorus[0, unison]), int(bends2 * chorus[0, unison])
            if sides == 2:
                for j in range(SOUND):
                    sound[2, j] = 0.0
            if p.synced == 1 and p.osc2_level > 0:
                jumped += 1
                at = PHASES + UNISON + unison
                memory[i, at] = synced(
                    sound, into, np.int64(memory[i, at - UNISON]), step, bends, memory[i, at], step2, bends2, gains[1],
                    p.osc2_level * (left if sides == 1 else 1.0), v.width, v.width_step, jumps, corners,
                )  # fmt: skip
            for osc in range(1 if p.synced == 1 else 2):
                level = p.osc1_level if osc == 0 else p.osc2_level
                if osc == 1:
                    step, bends = step2, bends2
                at = PHASES + osc * UNISON + unison
                phase = np.int64(memory[i, at])
                memory[i, at] = advanced(phase, step, bends)
                if level > 0:
                    if sides == 1:
                        level *= left
                    if gains[osc, 0] != 0:
                        sine(sound, into, phase, step, bends, level * gains[osc, 0])
                    if gains[osc, 1] != 0:
                        jumped += triangle(sound, into, phase, step, bends, level * gains[osc, 1], corners)
                    if gains[osc, 2] != 0:
                        jumped += saw(sound, into, phase, step, bends, level * gains[osc, 2], jumps)
                    if gains[osc, 3] != 0:
                        ahead = (phase + int(v.width * PHASE_ONE)) & (PHASE_ONE - 1)
                        forward = step + int(v.width_step * PHASE_ONE)
                        jumped += saw(sound, into, ahead, forward, bends, level * gains[osc, 3], jumps)
            if sides == 2:
                reach = SOUND if jumped > before else NAIVE + TICK
                for j in range(reach):
                    sound[0, j] += np.float32(left) * sound[2, j]
                    sound[1, j] += np.float32(right) * sound[2, j]
        if v.age == 0:  # the first jump is from silence
            jumped = 1
            for side in range(sides):
                correct(sound, side, 0, 0.0, sound[side, NAIVE], jumps)
        v.tail = RESIDUAL // TICK if jumped > 0 else max(v.tail - 1, 0)
        for side in range(sides):
            tail, lane = np.uint64(TAILS + side * TAIL), c * sides + side
            if p.noise_level > 0:
                hiss(sound, side, v.key, v.age, p.noise_level)
            for j in range(TAIL if v.tail > 0 else NAIVE):
                floats[i, tail + np.uint64(j)] = sound[side, TICK + j]
            for j in range(TICK):
                tile[j, lane] = sound[side, START + j]
            tile[COEFFICIENT, lane], tile[COEFFICIENT + 1, lane] = v.c0, v.c1
            tile[STEP, lane], tile[STEP + 1, lane] = v.c0_step, v.c1_step
        v.sides = sides


@njit(cache=True, error_model="numpy", fastmath={"contract"}, inline="always")
def _mix(rows, group, count, params, floats, powers, amplitude, tile, done, mid, left, right):  # type: ignore[no-untyped-def]
    """The level of a group of voices, and their sum: each from its sample `done` on, in `mid` where sides are equal.

    What reaches over the end of the block waits in the voice's memory.
    """
    p = params[0]
    sides, n = int(p.sides), len(mid)
    for c in range(count):
        i = group[c]
        v = rows[i]
        v.env, v.stage = envelope(amplitude, v.env, v.stage, v.held, p.attack_step, p.sustain, powers)
        for j in range(TICK):
            amplitude[j] *= v.loud + (j + 1) * v.loud_step
        m, start = min(TICK, n - done[i]), np.uint64(done[i])
        for side in range(sides):
            lane = c * sides + side
            if sides == 1:
                for j in range(m):
                    mid[start + np.uint64(j)] += amplitude[j] * tile[j, lane]
            elif side == 0:
                for j in range(m):
                    left[start + np.uint64(j)] += amplitude[j] * tile[j, lane]
            else:
                for j in range(m):
                    right[start + np.uint64(j)] += amplitude[j] * tile[j, lane]
        for side in range(2 if m < TICK else 0):
            for j in range(m, TICK):
                floats[i, AHEAD + side * TICK + j] = amplitude[j] * tile[j, c * sides + side * (sides - 1)]
        v.ready = TICK - m
        v.age += TICK
        done[i] += m
        if v.env < SILENT and (v.held == 0 or v.stage == DECAY):
            v.over = 1
            if v.ready == 0:
                v.active, done[i] = 0, n


@njit(cache=True)
def _load(rows, group, count, sides, memory, tile):  # type: ignore[no-untyped-def]
    """What the filters of a group remember, into their lanes; what was mono is the same on both sides."""
    tile[:, count * sides :] = 0.0
    for lane in range(count * sides):
        i = group[lane // sides]
        side = lane % sides if rows[i].sides == 2 else 0
        for k in range(STATES):
            tile[STATE + k, lane] = memory[i, side * STATES + k]


@njit(cache=True)
def _store(group, count, sides, memory, tile):  # type: ignore[no-untyped-def]
    for lane in range(count * sides):
        for k in range(STATES):
            memory[group[lane // sides], lane % sides * STATES + k] = tile[STATE + k, lane]


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _resume(rows, floats, done, left, right):  # type: ignore[no-untyped-def]
    """Add what voices have ready to the sum, and say in `done` where each goes on: at the end where it is over."""
    n = len(left)
    for i in range(len(rows)):
        v = rows[i]
        done[i] = n
        if v.active == 1:
            m = min(v.ready, n)
            first = np.uint64(AHEAD + TICK - v.ready)
            for j in range(m):
                left[j] += floats[i, first + np.uint64(j)]
                right[j] += floats[i, first + np.uint64(j + TICK)]
            v.ready -= m
            if v.over == 0 or v.ready > 0:
                done[i] = m
            else:
                v.active = 0


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def render(  # type: ignore[no-untyped-def]
    rows, memory, floats, params, chorus, powers, bend, jumps, corners, sample_rate, left, right
):  # fmt: skip
    """Add all active voices to `left` and `right` [n]. Groups of voices go through the block together, tick by tick."""
    p = params[0]
    n, most = len(left), LANES // int(p.sides)
    mid, done, group = np.zeros(n), np.zeros(len(rows), np.int64), np.zeros(LANES, np.int64)
    gains = np.zeros((2, 4))
    for osc in range(2):
        shape = p.osc1_shape if osc == 0 else p.osc2_shape
        gains[osc, 0], gains[osc, 1] = max(0.0, 1.0 - shape), max(0.0, 1.0 - abs(shape - 1.0))
        gains[osc, 2], gains[osc, 3] = min(max(0.0, shape - 1.0), 1.0), min(0.0, 2.0 - shape)
    sound, amplitude, tile = np.zeros((3, SOUND), np.float32), np.zeros(TICK), np.zeros((HEIGHT, LANES))
    _resume(rows, floats, done, left, right)
    front = 0
    while front < len(rows):
        count, i = 0, front
        while i < len(rows) and count < most:
            if done[i] < n:
                group[count] = i
                count += 1
            elif i == front:
                front += 1
            i += 1
        _load(rows, group, count, int(p.sides), memory, tile)
        together = count > 0
        while together:
            _move(rows, group, count, params, bend, sample_rate)
            _oscillate(rows, group, count, params, memory, floats, chorus, gains, jumps, corners, sound, tile)
            if p.ladder == 1:
                ladder(tile, p.damping, p.low, p.band, p.high)
            else:
                svf(tile, p.damping, p.low, p.band, p.high)
            if p.drive > 0:
                saturate(tile, p.drive, p.dc_tracking)
            _mix(rows, group, count, params, floats, powers, amplitude, tile, done, mid, left, right)
            for c in range(count):
                together = together and done[group[c]] < n
        _store(group, count, int(p.sides), memory, tile)
    for j in range(n):
        left[j] += mid[j]
        right[j] += mid[j]
