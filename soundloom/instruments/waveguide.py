"""Waves that run both ways along a tube or a string, and what keeps them going somewhere on it: a reed or a bow.

A digital waveguide with a nonlinear junction (McIntyre, Schumacher and Woodhouse, "On the oscillations of musical
instruments", 1983). Both ends turn a wave over; the far one is filtered, and read between samples, so that the pitch
may glide. Where such an instrument settles depends on reed, bow and losses, so the player listens: a slow control
keeps the pitch where it belongs.
"""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from soundloom.instruments.oscillators import TICK
from soundloom.instruments.ticks import sine
from soundloom.instruments.voices import FIELDS

LOWEST_HZ = 20.0
SHORTEST = 16  # samples of a period; the other half of a wave's way needs room between samples
POINTS, LOW, HIGH = 2048, -8.0, 8.0  # of a junction's table
PURE = 0.05  # the part of the power that its lowest partial has, where an instrument speaks as it should
FARTHEST = 0.04  # how far the player corrects the pitch, as a part of the period
# Where a tick's steps are on the desk, which has room for two ticks each; its first places are for what is soon used.
WAVE, END, DRIVE, AHEAD, BACK, HERE, THERE = (2 * TICK * place for place in range(1, 8))
DESK = 2 * TICK * 8
ONE, TWO, THREE, HALF, SIXTH = (np.float32(c) for c in (1, 2, 3, 0.5, 1 / 6))
TINY = np.float32(1e-18)  # added to what goes round: it keeps silence out of denormal numbers
# What a voice of such an instrument has.
WHOLE = ("stage", "over", "near", "at")  # near: samples to the closer end and back; at: where the lines go on
PARTS = (
    *("pitch", "bent", "velocity", "env", "fade", "drive", "gain"),
    *("start", "width", "mean"),  # how firm the start still is; a bow's slip, as a part of a period; its steady motion
    *(
        "touch",
        "sharp",
        "share",
    ),  # how much of the junction acts; its table's scale; its place along the tube or string
    *("far", "low", "end", "keep_near", "keep_far"),  # samples to the far end, its filter, what the ends throw back
    *("sounding", "straight", "period", "delay"),  # pitch with its bend, period without and with vibrato, the filter's
    *("phase", "correction", "re", "im", "re2", "im2", "power"),  # of the pitch that is wanted, and what is heard of it
)
ROW: list[tuple[str, str]] = [*FIELDS, *[(name, "i8") for name in WHOLE], *[(name, "f8") for name in PARTS]]


def line_samples(sample_rate: int) -> int:
    """How many places a line has: it moves along them, and back when it comes to the end."""
    return 2 * math.ceil(1.1 * sample_rate / LOWEST_HZ) + 16 * TICK


def table_places() -> NDArray[np.float64]:
    """What arrives at the junction, at each point of its table; never exactly 0."""
    return np.linspace(LOW, HIGH, POINTS)


@njit(cache=True)
def held_up(end, period):  # type: ignore[no-untyped-def]
    """How long the far end's filter holds up a tone, in samples."""
    omega = 2 * math.pi / period
    return math.atan2((1 - end) * math.sin(omega), 1 - (1 - end) * math.cos(omega)) / omega


@njit(cache=True)
def vibrato(v, p, sample_rate):  # type: ignore[no-untyped-def]
    """How far the pitch is swung, in semitones: a player begins with it a while after the note."""
    if p.vibrato_cents == 0:
        return 0.0
    seconds = v.age / sample_rate
    return 0.01 * p.vibrato_cents * math.sin(2 * math.pi * p.vibrato_hz * seconds) * min(seconds / 0.4, 1.0)


@njit(cache=True)
def tuned(v, pitch, swing, sample_rate):  # type: ignore[no-untyped-def]
    """Samples to the far end and back at a pitch and a vibrato's `swing` from it: what is left of the period. No more
    than the lines remember."""
    if pitch != v.sounding:
        v.sounding = pitch
        v.straight = sample_rate / (440.0 * 2.0 ** ((pitch - 69.0) / 12.0))
        v.delay = held_up(v.end, v.straight)
    # A bend that goes far takes the near end along, by a sample a tick, so that reed or bow stay where they are.
    near = max(v.share * (v.straight - 1.0), 2.0)
    if abs(near - v.near) > 0.1 * near + 1.0:
        v.near += 1 if near > v.near else -1
    v.period = v.straight * math.exp(-math.log(2.0) / 12.0 * swing) if swing else v.straight
    return min(max(v.period * (1.0 + v.correction) - v.delay - v.near, 3.0), v.at - 8.0)


@njit(cache=True)
def remembered(period, places):  # type: ignore[no-untyped-def]
    """How much of the lines is kept when they move back to their start: room for a bend by an octave."""
    return int(min(2.0 * period, places / 2 - 10.0 * TICK)) + 2 * TICK


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def travel(v, table, near, far, desk, far_end, touch_end):  # type: ignore[no-untyped-def]
    """A tick: what drives the junction is on the `desk`; the waves before and after the far end are left on it.

    The waves that come back from both ends and what the junction adds are the motion there, and run on past it. The
    junction adds `table` of what the drive is ahead of the waves, as a part of it. The far end is read by Lagrange's
    polynomial through four samples. No wave is back before it was sent off, so that `m` samples go side by side
    through all but the filter. Loops run over whole ticks all the same, since their length is then known: what they
    write too much is written again before it is read.
    """
    far_step, touch_step = (far_end - v.far) / TICK, np.float32((touch_end - v.touch) / TICK)
    keep = remembered(v.period, len(near))
    if v.at > min(2 * keep + 8 * TICK, len(near) - 3 * TICK):
        first = np.uint64(v.at - keep)
        for j in range(keep):
            k = np.uint64(j)
            near[k], far[k] = near[first + k], far[first + k]
        v.at = keep
    keep_near, keep_far, sharp = np.float32(v.keep_near), np.float32(v.keep_far), np.float32(v.sharp)
    low, end, stay = np.float32(v.low), np.float32(v.end), np.float32(1.0 - v.end)
    scale, lowest, last = np.float32((POINTS - 1) / (HIGH - LOW)), np.float32(LOW), np.float32(POINTS - 1.01)
    done = 0
    while done < TICK:
        length = v.far + (done + 1) * far_step
        whole = int(length) - 1
        m = min(TICK - done, v.near, whole)
        if far_step > 0:
            m = min(m, int((whole + 2 - length) / far_step) + 1)
        elif far_step < 0:
            m = min(m, int((length - whole - 1) / -far_step) + 1)
        now, first = np.uint64(done), np.uint64(v.at + done - whole - 3)
        start, step = np.float32(length - whole), np.float32(far_step)  # a place from 1 to 2 after the first of four
        for j in range(TICK):
            k = np.uint64(j)
            d = start + np.float32(j) * step
            a, b, c = d - ONE, d - TWO, d - THREE
            wave = d * c * HALF * (b * far[first + k + np.uint64(2)] - a * far[first + k + np.uint64(1)])
            wave += a * b * SIXTH * (d * far[first + k] - c * far[first + k + np.uint64(3)])
            desk[np.uint64(WAVE) + now + k] = wave
            desk[k] = wave * end
        for j in range(m):
            low = stay * low + desk[np.uint64(j)]
            desk[np.uint64(END + j) + now] = low
        first = np.uint64(v.at + done - v.near)
        for j in range(TICK):
            k = np.uint64(j)
            back = keep_near * near[first + k]
            ahead = desk[np.uint64(DRIVE) + now + k] + back + keep_far * desk[np.uint64(END) + now + k]
            desk[np.uint64(BACK) + k], desk[np.uint64(AHEAD) + k] = back, ahead
            desk[k] = min(max((ahead * sharp - lowest) * scale, np.float32(0)), last)
        for j in range(m):
            index = np.uint64(desk[np.uint64(j)])
            desk[np.uint64(HERE + j)], desk[np.uint64(THERE + j)] = table[index], table[index + np.uint64(1)]
        at, touch = np.uint64(v.at + done), np.float32(v.touch) + np.float32(done) * touch_step
        for j in range(TICK):
            k = np.uint64(j)
            here, there = desk[np.uint64(HERE) + k], desk[np.uint64(THERE) + k]
            part = here + (there - here) * (desk[k] - np.floor(desk[k]))
            added = desk[np.uint64(AHEAD) + k] * part * (touch + np.float32(j) * touch_step) + TINY
            near[at + k] = added - keep_far * desk[np.uint64(END) + now + k]
            far[at + k] = added - desk[np.uint64(BACK) + k]
        done += m
    v.low, v.far, v.touch = low, far_end, touch_end
    v.at += TICK


@njit(cache=True, error_model="numpy")
def listen(v, desk):  # type: ignore[no-untyped-def]
    """Correct the pitch as a lip or a finger does: by how fast the tone turns against the one that is wanted. Where
    that tone is hardly there, since the instrument speaks as its own octave, start again."""
    phase, turn = np.float32(v.phase), np.float32(1.0 / v.period)
    for j in range(TICK):
        at, wave = phase + np.float32(j) * turn, desk[WAVE + j]
        desk[HERE + j] = wave * sine(at + np.float32(0.25))
        desk[THERE + j] = -wave * sine(at)
        desk[j] = wave * wave
    for half in (TICK // 2, TICK // 4, TICK // 8):
        for j in range(half):
            desk[HERE + j] += desk[HERE + half + j]
            desk[THERE + j] += desk[THERE + half + j]
            desk[j] += desk[half + j]
    heard_re, heard_im, power = 0.0, 0.0, 0.0
    for j in range(TICK // 8):
        heard_re += desk[HERE + j] / TICK
        heard_im += desk[THERE + j] / TICK
        power += desk[j] / TICK
    v.phase = (v.phase + TICK / v.period) % 1.0
    smooth = TICK / (2.0 * v.period + TICK)  # over two periods, twice
    v.re += smooth * (heard_re - v.re)
    v.im += smooth * (heard_im - v.im)
    v.power += smooth * (power - v.power)
    before_re, before_im = v.re2, v.im2
    v.re2 += smooth * (v.re - v.re2)
    v.im2 += smooth * (v.im - v.im2)
    loud = v.re2 * v.re2 + v.im2 * v.im2
    if loud > 1e-3 and v.held == 1:
        turned = (v.im2 * before_re - v.re2 * before_im) / loud
        # Off by turned / (2 pi TICK / period) of the pitch; corrected within some eight periods.
        v.correction = min(max(v.correction + turned / (16.0 * math.pi), -FARTHEST), FARTHEST)
    if v.env > 0.5:
        v.start *= 8.0 * v.period / (8.0 * v.period + TICK)
    if v.start < 0.1 and v.power > 1e-3 and 2.0 * loud < PURE * v.power and v.held == 1:
        v.start = 1.0


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def level_out(v, line, gain, faded):  # type: ignore[no-untyped-def]
    """A tick at its level, which moves evenly from where it was to `gain`, and from `faded` to the fade."""
    level, level_step = np.float32(v.gain), np.float32((gain - v.gain) / TICK)
    fade, fade_step = np.float32(faded), np.float32((v.fade - faded) / TICK)
    for j in range(TICK):
        after = np.float32(j + 1)
        line[j] *= (level + after * level_step) * (fade + after * fade_step)
    v.gain = gain
