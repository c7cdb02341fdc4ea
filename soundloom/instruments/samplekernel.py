"""How a sampler's voices sound: position, interpolation, filter, envelope, pan, one tick of a voice after the other."""

import math

import numpy as np
from numba import njit

from soundloom.instruments.samplestore import NEAR
from soundloom.instruments.reading import POSITION_BITS, read_four
from soundloom.instruments.voices import FIELDS, SILENT

TICK = 64  # samples between two looks at the knobs, the bend and the vibrato; what is heard moves linearly between
DELAY, ATTACK, HOLD, DECAY, SUSTAIN, RELEASE = range(6)

ROW = np.dtype(
    [
        *FIELDS,
        *[(name, "i8") for name in ("piece", "level", "position", "step", "next_step", "step_bend")],
        *[(name, "f8") for name in ("semitones", "now", "left", "right", "gain", "gain_step")],
        *[
            (name, "i8")
            for name in (
                "filtered",
                "silenced_by",
                "one_shot",
                "stage",
                "stage_left",
                "attack_left",
                "hold_left",
                "line_left",
            )
        ],
        *[(name, "f8") for name in ("decay", "release", "sustain", "env", "env_step")],
        *[(name, "f8") for name in ("cutoff", "octave", "damping", "g", "g_step", "last_left", "last_right")],
        *[(name, "f8") for name in ("band_left", "low_left", "band_right", "low_right")],
    ]
)
LOWEST = math.log2(10.0)  # of the filter, as an octave
NEAR_OCTAVES = 2 * math.log2(2 * NEAR)


@njit(cache=True)
def _step_at(semitones, bend, p, age, sample_rate):  # type: ignore[no-untyped-def]
    """How many semitones a voice is above one sample of level 0 per sample, at an age."""
    semitones += bend + p.tune
    if p.vibrato > 0:
        semitones += p.vibrato * math.sin(2 * math.pi * p.vibrato_hz * age / sample_rate)
    return min(max(semitones, -180.0), 180.0)


@njit(cache=True)
def _filter_gain(octave, highest, sample_rate):  # type: ignore[no-untyped-def]
    """The filter's g for a cutoff of 2^octave Hz, prewarped: the cutoff is exact."""
    return math.tan(math.pi * 2.0 ** min(max(octave, LOWEST), highest) / sample_rate)


@njit(cache=True)
def _tick(v, p, levels, bend, sample_rate):  # type: ignore[no-untyped-def]
    """Work out where pitch, level of detail, gain and filter go until the next tick; what rests is left alone."""
    first = v.age == 0
    one = float(1 << POSITION_BITS)
    if first:
        v.now = _step_at(v.semitones, bend, p, 0, sample_rate)
        v.next_step = int(2.0 ** (v.now / 12) * one)
    v.step = v.next_step
    then = _step_at(v.semitones, bend, p, v.age + TICK, sample_rate)
    if then != v.now:
        v.now = then
        v.next_step = int(2.0 ** (then / 12) * one)
    v.step_bend = (v.next_step - v.step) // TICK
    # The level that has nothing above half the sample rate at this pitch; down again only half an octave later.
    wanted = math.ceil(v.now / 6 - NEAR_OCTAVES)
    if first or wanted > v.level or wanted < v.level - 1:
        v.level = min(max(wanted, 0), levels - 1)

    v.gain = p.gain if first else v.gain + TICK * v.gain_step
    v.gain_step = (p.gain - v.gain) * p.smoothing / TICK

    octave = v.cutoff + p.cutoff
    if v.filtered == 0 and octave >= p.open:
        v.octave = octave
        return
    before = v.octave
    v.octave = octave if first else before + (octave - before) * p.smoothing
    g = _filter_gain(v.octave, p.open, sample_rate)
    if v.filtered == 0:
        v.filtered = 1
        # As if it had been there all the time, open: what is low goes through at once.
        v.low_left, v.low_right = v.last_left, v.last_right
        v.g = g if first else _filter_gain(before, p.open, sample_rate)
    else:
        v.g += TICK * v.g_step
    v.g_step = (g - v.g) / TICK


@njit(cache=True)
def _line(v, p, left):  # type: ignore[no-untyped-def]
    """The next straight piece of the envelope: `line_left` samples, at most `left`, each `env_step` higher."""
    if v.held == 0 and v.one_shot == 0 and v.stage != RELEASE:
        v.stage = RELEASE
    if v.stage == DELAY and v.stage_left == 0:
        v.stage, v.stage_left = ATTACK, v.attack_left
    if v.stage == ATTACK and v.stage_left == 0:
        v.stage, v.stage_left, v.env = HOLD, v.hold_left, 1.0
    sustain = min(v.sustain * p.sustain, 1.0)
    if v.stage == HOLD and v.stage_left == 0:
        v.stage = DECAY if sustain < 1 else SUSTAIN
    v.env_step = 0.0
    v.line_left = left
    if v.stage <= HOLD:
        v.line_left = min(left, v.stage_left)
        v.stage_left -= v.line_left
        if v.stage == ATTACK:
            v.env_step = 1.0 / v.attack_left
    elif v.stage == DECAY:
        target = v.env * math.exp(-v.decay * p.decay * left)
        if target <= sustain:
            target, v.stage = sustain, SUSTAIN
        v.env_step = (target - v.env) / left
    elif v.stage == SUSTAIN:
        v.env_step = (sustain - v.env) * p.smoothing / left
    else:
        v.env_step = v.env * (math.exp(-v.release * p.release * left) - 1.0) / left


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _span(data, down, position, step, bend, table, slope, sound, n):  # type: ignore[no-untyped-def]
    """Fill `sound`, and up to three samples after it, from a level of a recording, at positions that are `step` apart.

    The step grows by `bend` each time. What is left over when all fours are done is read four times, for one's sake.
    """
    whole = n - n % 4
    for j in range(0, whole, 4):
        second = position + step
        third = second + step + bend
        fourth = third + step + 2 * bend
        places = (position >> down, second >> down, third >> down, fourth >> down)
        read_four(data, table, slope, places, sound, j)
        position = fourth + step + 3 * bend
        step += 4 * bend
    for j in range(whole, n):
        read_four(
            data, table, slope, (position >> down, position >> down, position >> down, position >> down), sound, j
        )
        position += step
        step += bend


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _read(v, pieces, data, table, slope, m, left, right):  # type: ignore[no-untyped-def]
    """The next m samples of a recording; loops go back, or on to the rest after the key. True if it is stereo."""
    bend = v.step_bend
    step = v.step + bend * (v.age % TICK)
    down = max(v.level - 1, 0) >> 1
    at = 0
    while True:
        piece = pieces[v.piece]
        count = m - at
        fastest = max(step, step + bend * count)
        if v.position + count * fastest >= piece.wrap_at:
            count = min(max((piece.wrap_at - v.position) // fastest, 1), count)
        _span(data[piece.left[v.level] :], down, v.position, step, bend, table, slope, left[at:], count)
        if piece.stereo == 1:
            _span(data[piece.right[v.level] :], down, v.position, step, bend, table, slope, right[at:], count)
        v.position += count * step + (count * (count - 1) >> 1) * bend
        step += count * bend
        at += count
        if v.position >= piece.wrap_at:
            beyond = v.position - piece.wrap_at
            if piece.rest >= 0 and v.held == 0 and v.one_shot == 0:
                v.piece, v.position = piece.rest, piece.rest_at + beyond
                beyond = v.position - pieces[v.piece].wrap_at
                piece = pieces[v.piece]
            if beyond >= 0:
                v.position = piece.wrap_at - piece.wrap_length + beyond % piece.wrap_length
        if at == m:
            return piece.stereo == 1


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _mix(left, right, pan_left, pan_right, line, out_left, out_right):  # type: ignore[no-untyped-def]
    """Add a sound to both sides at a level that moves: the product of two straight lines."""
    gain, gain_step, env, env_step = line
    for j in range(len(out_left)):
        level = (gain + j * gain_step) * (env + j * env_step)
        out_left[j] += pan_left * level * left[j]
        out_right[j] += pan_right * level * right[j]


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _filter(v, m, tick_at, sound, right):  # type: ignore[no-untyped-def]
    """The trapezoidal state-variable low-pass (Simper, "Linear Trap Optimised SVF", 2013), in place.

    A matrix on its two states, so that two multiply-adds wait for each other and no more.
    """
    k = v.damping
    ic1, ic2 = (v.band_right, v.low_right) if right else (v.band_left, v.low_left)
    for j in range(m):
        g = v.g + (tick_at + j + 1) * v.g_step
        a2 = 2.0 * g / (1.0 + g * (g + k))
        a3 = g * a2
        x = sound[j] + 1e-18  # keeps what rings on out of denormal numbers
        next1 = (1.0 - k * a2 - a3) * ic1 + (a2 * x - a2 * ic2)
        next2 = (1.0 - a3) * ic2 + (a3 * x + a2 * ic1)
        sound[j] = np.float32(0.5 * (ic2 + next2))
        ic1, ic2 = next1, next2
    if right:
        v.band_right, v.low_right = ic1, ic2
    else:
        v.band_left, v.low_left = ic1, ic2


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def render(rows, pieces, data, table, slope, params, bend, sample_rate, out_left, out_right):  # type: ignore[no-untyped-def]
    """Add all active voices to both sides [n] of the output."""
    p = params[0]
    n = len(out_left)
    left, right = np.empty(TICK + 3, np.float32), np.empty(TICK + 3, np.float32)
    for i in range(len(rows)):
        v = rows[i]
        at = 0
        while at < n and v.active == 1:
            tick_at = v.age % TICK
            if tick_at == 0:
                _tick(v, p, pieces[v.piece].levels, bend, sample_rate)
            if v.line_left == 0 or (v.held == 0 and v.one_shot == 0 and v.stage != RELEASE):
                _line(v, p, TICK - tick_at)
            m = min(v.line_left, n - at)
            stereo = False
            if v.stage != DELAY:
                stereo = _read(v, pieces, data, table, slope, m, left, right)
                v.last_left = left[m - 1]
                v.last_right = right[m - 1] if stereo else left[m - 1]
                if v.filtered == 1:
                    _filter(v, m, tick_at, left, False)
                    if stereo:
                        _filter(v, m, tick_at, right, True)
                line = (v.gain + (tick_at + 1) * v.gain_step, v.gain_step, v.env + v.env_step, v.env_step)
                other, end = right if stereo else left, at + m
                _mix(left, other, v.left, v.right, line, out_left[at:end], out_right[at:end])
            v.env += m * v.env_step
            v.line_left -= m
            v.age += m
            at += m
            if v.age % TICK == 0:
                over = v.position >= pieces[v.piece].over_at
                if over or (v.env < SILENT and v.stage >= DECAY):
                    v.active = 0  # only at the end of a tick, wherever blocks end
