"""How a sampler's voices sound: position, interpolation, filter, envelope, pan, one tick of a voice after the other."""

import math

import numpy as np
from numba import njit

from soundloom.instruments.reading import POSITION_BITS, read
from soundloom.instruments.samplestore import NEAR
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
                "line_done",  # samples since the envelope was at `env`
            )
        ],
        *[(name, "f8") for name in ("decay", "release", "sustain", "env", "env_step")],
        *[(name, "f8") for name in ("cutoff", "octave", "damping", "g", "g_step", "last_left", "last_right")],
        *[(name, "f8") for name in ("band_left", "low_left", "band_right", "low_right")],
        *[(name, "f8") for name in ("loudness", "knob", "bent", "opened", "swing", "motion")],
        ("moves", "i8"),
        *[(name, "f8") for name in ("rise_at", "rises", "fall_at", "falls", "rests", "ends")],  # of the motion
        *[(name, "f8") for name in ("env_semitones", "env_octaves", "lfo_at", "lfo_hz", "lfo_semitones")],
        *[(name, "f8") for name in ("lfo_octaves", "lfo_db", "vibrato_at", "vibrato_hz", "vibrato_semitones")],
    ]
)
NUMBERS = np.arange(1, TICK + 1).astype(np.float32)
TINY = 1e-18  # keeps what rings on out of denormal numbers
LOWEST = math.log2(10.0)  # of the filter, as an octave
NEAR_OCTAVES = 2 * math.log2(2 * NEAR)


@njit(cache=True)
def _triangle(x):  # type: ignore[no-untyped-def]
    """An LFO from its start at 0 on: up to 1, down to -1, and so on, once around per unit."""
    if x <= 0:
        return 0.0
    x += 0.25
    return 1.0 - abs(4.0 * (x - math.floor(x)) - 2.0)


@njit(cache=True)
def _move(v, age, sample_rate):  # type: ignore[no-untyped-def]
    """Where the zone's own motion is at an age: `bent` semitones, `opened` octaves, `swing` decibels."""
    if v.held == 0 and v.one_shot == 0:
        v.motion = max(v.motion - v.ends * TICK, 0.0)
    elif age >= v.fall_at:
        v.motion = max(1.0 - v.falls * (age - v.fall_at), v.rests)
    elif age > v.rise_at:
        # Convex, as the specification of SoundFonts asks: it is near the top soon.
        v.motion = min(max(1.0 + math.log10(min((age - v.rise_at) * v.rises, 1.0)) * 40 / 96, 0.0), 1.0)
    seconds = age / sample_rate
    lfo = _triangle((seconds - v.lfo_at) * v.lfo_hz)
    vibrato = _triangle((seconds - v.vibrato_at) * v.vibrato_hz)
    v.bent = v.env_semitones * v.motion + v.lfo_semitones * lfo + v.vibrato_semitones * vibrato
    v.opened = v.env_octaves * v.motion + v.lfo_octaves * lfo
    v.swing = v.lfo_db * lfo


@njit(cache=True)
def _semitones_at(v, bend, p, age, sample_rate):  # type: ignore[no-untyped-def]
    """How many semitones a voice is above one sample of level 0 per sample, at an age."""
    semitones = v.semitones + v.bent + bend + p.tune
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
        if v.moves == 1:
            _move(v, v.age, sample_rate)
        v.now = _semitones_at(v, bend, p, v.age, sample_rate)
        v.next_step = int(2.0 ** (v.now / 12) * one)
    v.step = v.next_step
    if v.moves == 1:
        _move(v, v.age + TICK, sample_rate)
    then = _semitones_at(v, bend, p, v.age + TICK, sample_rate)
    if then != v.now:
        v.now = then
        v.next_step = int(2.0 ** (then / 12) * one)
    v.step_bend = (v.next_step - v.step) // TICK
    # The level that has nothing above half the sample rate at this pitch; down again only half an octave later.
    wanted = math.ceil(v.now / 6 - NEAR_OCTAVES)
    if first or wanted > v.level or wanted < v.level - 1:
        v.level = min(max(wanted, 0), levels - 1)

    v.gain = p.gain if first else v.gain + TICK * v.gain_step
    v.loudness = p.gain if first else v.loudness + (p.gain - v.loudness) * p.smoothing
    aim = v.loudness * 10.0 ** (v.swing / 20) if v.moves == 1 else v.loudness
    v.gain_step = (aim - v.gain) / TICK

    if v.filtered == 0 and v.cutoff + v.opened + p.cutoff >= p.open:
        v.knob, v.octave = p.cutoff, p.open
        return
    before = v.octave
    v.knob = p.cutoff if first else v.knob + (p.cutoff - v.knob) * p.smoothing
    v.octave = v.cutoff + v.opened + v.knob
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
    v.env += v.line_done * v.env_step
    v.line_done = 0
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
def _mix(v, m, tick_at, left, right, stereo, out_left, out_right):  # type: ignore[no-untyped-def]
    """Add a sound to both sides at its level: the product of two straight lines, each a function of where it began, so
    that no split of a block rounds otherwise."""
    gain, gain_step = np.float32(v.gain), np.float32(v.gain_step)
    env, env_step = np.float32(v.env), np.float32(v.env_step)
    pan_left, pan_right = np.float32(v.left), np.float32(v.right)
    in_tick, in_line = np.uint64(tick_at), np.uint64(v.line_done)
    if stereo:
        for j in range(m):
            level = gain + NUMBERS[in_tick + np.uint64(j)] * gain_step
            level *= env + NUMBERS[in_line + np.uint64(j)] * env_step
            out_left[j] += pan_left * level * left[j]
            out_right[j] += pan_right * level * right[j]
    else:
        for j in range(m):
            level = gain + NUMBERS[in_tick + np.uint64(j)] * gain_step
            level *= (env + NUMBERS[in_line + np.uint64(j)] * env_step) * left[j]
            out_left[j] += pan_left * level
            out_right[j] += pan_right * level


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _filter(v, m, tick_at, sound, ic1, ic2):  # type: ignore[no-untyped-def]
    """The trapezoidal state-variable low-pass (Simper, "Linear Trap Optimised SVF", 2013), in place.

    A matrix on its two states, so that two multiply-adds wait for each other and no more.
    """
    k = v.damping
    at = 0
    if v.g_step == 0:
        a2 = 2.0 * v.g / (1.0 + v.g * (v.g + k))
        a3 = v.g * a2
        # Two samples at once: s'' = A² s + A b x + b x', so that the multiply-adds wait half as often.
        a, b, c, d = 1.0 - k * a2 - a3, -a2, a2, 1.0 - a3
        aa, bb, cc, dd = a * a + b * c, a * b + b * d, c * a + d * c, c * b + d * d
        ab1, ab2 = a * a2 + b * a3, c * a2 + d * a3
        for j in range(0, m - 1, 2):
            x, y = sound[j] + TINY, sound[j + 1] + TINY
            middle = c * ic1 + (d * ic2 + a3 * x)
            next1 = aa * ic1 + (bb * ic2 + (ab1 * x + a2 * y))
            next2 = cc * ic1 + (dd * ic2 + (ab2 * x + a3 * y))
            sound[j] = np.float32(0.5 * (ic2 + middle))
            sound[j + 1] = np.float32(0.5 * (middle + next2))
            ic1, ic2 = next1, next2
        at = m - m % 2
    for j in range(at, m):
        g = v.g + (tick_at + j + 1) * v.g_step
        a2 = 2.0 * g / (1.0 + g * (g + k))
        a3 = g * a2
        x = sound[j] + TINY
        next1 = (1.0 - k * a2 - a3) * ic1 + (a2 * x - a2 * ic2)
        next2 = (1.0 - a3) * ic2 + (a3 * x + a2 * ic1)
        sound[j] = np.float32(0.5 * (ic2 + next2))
        ic1, ic2 = next1, next2
    return ic1, ic2


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def render(rows, pieces, data, table, slope, params, bend, sample_rate, out_left, out_right):  # type: ignore[no-untyped-def]
    """Add all active voices to both sides [n] of the output."""
    p = params[0]
    n = len(out_left)
    left, right = np.empty(TICK + 3, np.float32), np.empty(TICK + 3, np.float32)
    total = np.zeros((2, n), np.float32)
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
                stereo = read(v, pieces, data, table, slope, tick_at, m, left, right)
                v.last_left = left[m - 1]
                v.last_right = right[m - 1] if stereo else left[m - 1]
                if v.filtered == 1:
                    v.band_left, v.low_left = _filter(v, m, tick_at, left, v.band_left, v.low_left)
                    if stereo:
                        v.band_right, v.low_right = _filter(v, m, tick_at, right, v.band_right, v.low_right)
                _mix(v, m, tick_at, left, right, stereo, total[0, at : at + m], total[1, at : at + m])
            v.line_done += m
            v.line_left -= m
            v.age += m
            at += m
            if v.age % TICK == 0:
                over = v.position >= pieces[v.piece].over_at
                if over or (v.env + v.line_done * v.env_step < SILENT and v.stage >= DECAY):
                    v.active = 0  # only at the end of a tick, wherever blocks end
    for j in range(n):
        out_left[j] += total[0, j]
        out_right[j] += total[1, j]
