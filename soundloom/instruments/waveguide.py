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
# Where a tick's steps are on the desk; its first TICK places are for what is soon used up.
WAVE, END, DRIVE, HERE, THERE = (TICK * place for place in range(1, 6))
DESK = 6 * TICK
# What a voice of such an instrument has, besides its own. near, far: samples to an end and back; touch: how much of
# the junction acts; sharp: how its table is scaled; keep_near, keep_far: what the ends throw back, end: a filter's
# coefficient; phase: of the pitch that is wanted, in turns; correction: of the period; sounding, period, delay: the
# pitch with bend and vibrato, its period and how long the filter holds it up; re, im, re2, im2, power: what is heard of
# that pitch and of all; width: how long a string slips, as a part of a period; mean: of the wave at its bridge.
ROW: list[tuple[str, str]] = [
    *FIELDS,
    *[(name, "i8") for name in ("stage", "over", "near")],
    *[
        (name, "f8")
        for name in ("pitch", "bent", "velocity", "env", "fade", "drive", "gain", "start", "touch", "sharp")
    ],
    *[(name, "f8") for name in ("far", "low", "end", "keep_near", "keep_far", "sounding", "period", "delay")],
    *[(name, "f8") for name in ("phase", "correction", "re", "im", "re2", "im2", "power", "width", "mean")],
]


def line_samples(sample_rate: int) -> int:
    """How many places a line has: a power of two, and all of it twice, so that what is read is in one piece."""
    return 2 << math.ceil(math.log2(sample_rate / LOWEST_HZ))


def table_places() -> NDArray[np.float64]:
    """What arrives at the junction, at each point of its table; never exactly 0."""
    return np.linspace(LOW, HIGH, POINTS)


@njit(cache=True)
def held_up(end, period):  # type: ignore[no-untyped-def]
    """How long the far end's filter holds up a tone, in samples."""
    omega = 2 * math.pi / period
    return math.atan2((1 - end) * math.sin(omega), 1 - (1 - end) * math.cos(omega)) / omega


@njit(cache=True)
def tuned(v, pitch, sample_rate, room):  # type: ignore[no-untyped-def]
    """Samples to the far end and back at a pitch: what is left of the period."""
    if pitch != v.sounding:
        v.sounding = pitch
        v.period = sample_rate / (440.0 * 2.0 ** ((pitch - 69.0) / 12.0))
        v.delay = held_up(v.end, v.period)
    return min(max(v.period * (1.0 + v.correction) - v.delay - v.near, 3.0), 0.5 * room - 4.0)


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def travel(v, table, near, far, desk, far_end, touch_end):  # type: ignore[no-untyped-def]
    """A tick: what drives the junction is on the `desk`; the waves before and after the far end are left on it.

    The waves that come back from both ends and what the junction adds are the motion there, and run on past it. The
    junction adds `table` of what the drive is ahead of the waves, as a part of it. The far end is read by Lagrange's
    polynomial through four samples. No wave is back before it was sent off, so that several samples go side by side
    through all but the filter.
    """
    size = len(near) >> 1
    mask = size - 1
    scale = (POINTS - 1) / (HIGH - LOW)
    far_step, touch_step = (far_end - v.far) / TICK, (touch_end - v.touch) / TICK
    low, end, keep_near, keep_far = v.low, v.end, v.keep_near, v.keep_far
    done = 0
    while done < TICK:
        t = v.age + done
        length = v.far + (done + 1) * far_step
        whole = int(length) - 1
        m = min(TICK - done, v.near, whole)
        if far_step > 0:
            m = min(m, int((whole + 2 - length) / far_step) + 1)
        elif far_step < 0:
            m = min(m, int((length - whole - 1) / -far_step) + 1)
        back = far[(t - whole - 3) & mask :]
        for j in range(m):
            d = length - whole + j * far_step  # 1 to 2
            a, b, c = d - 1.0, d - 2.0, d - 3.0
            desk[j] = d * c * (0.5 * b * back[j + 2] - 0.5 * a * back[j + 1]) + a * b * (1.0 / 6.0) * (
                d * back[j] - c * back[j + 3]
            )
            desk[WAVE + done + j] = desk[j]
            desk[j] *= end
        for j in range(m):
            low = (1.0 - end) * low + desk[j]
            desk[END + done + j] = low
        back = near[(t - v.near) & mask :]
        for j in range(m):
            ahead = desk[DRIVE + done + j] + keep_near * back[j] + keep_far * desk[END + done + j]
            desk[j] = min(max((ahead * v.sharp - LOW) * scale, 0.0), POINTS - 1.001)
        for j in range(m):
            index = np.uint64(desk[j])
            desk[HERE + j], desk[THERE + j] = table[index], table[index + np.uint64(1)]
        for j in range(m):
            part = desk[HERE + j] + (desk[THERE + j] - desk[HERE + j]) * (desk[j] - math.floor(desk[j]))
            ahead = desk[DRIVE + done + j] + keep_near * back[j] + keep_far * desk[END + done + j]
            added = ahead * part * (v.touch + (done + j) * touch_step) + 1e-18
            desk[HERE + j] = added - keep_far * desk[END + done + j]
            desk[THERE + j] = added - keep_near * back[j]
        at = t & mask  # a tick does not run over the end of the line: its length is a power of two
        for j in range(m):
            near[at + j], far[at + j] = desk[HERE + j], desk[THERE + j]
            near[at + size + j], far[at + size + j] = desk[HERE + j], desk[THERE + j]
        done += m
    v.low, v.far, v.touch = low, far_end, touch_end


@njit(cache=True, error_model="numpy")
def listen(v, desk):  # type: ignore[no-untyped-def]
    """Correct the pitch as a lip or a finger does: by how fast the tone turns against the one that is wanted. Where
    that tone is hardly there, since the instrument speaks as its own octave, start again."""
    phase, turn = np.float32(v.phase), np.float32(1.0 / v.period)
    for j in range(TICK):
        at = phase + np.float32(j) * turn
        desk[HERE + j] = desk[WAVE + j] * sine(at + np.float32(0.25))
        desk[THERE + j] = -desk[WAVE + j] * sine(at)
    for half in (TICK // 2, TICK // 4):
        for j in range(half):
            desk[HERE + j] += desk[HERE + half + j]
            desk[THERE + j] += desk[THERE + half + j]
    heard_re, heard_im, power = 0.0, 0.0, 0.0
    for j in range(TICK // 4):
        heard_re += desk[HERE + j] / TICK
        heard_im += desk[THERE + j] / TICK
    for j in range(TICK):
        power += desk[WAVE + j] * desk[WAVE + j] / TICK
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


@njit(cache=True)
def level_out(v, line, gain, faded):  # type: ignore[no-untyped-def]
    """A tick at its level, which moves evenly from where it was to `gain`, and from `faded` to the fade."""
    for j in range(TICK):
        part = (j + 1.0) / TICK
        line[j] *= (v.gain + (gain - v.gain) * part) * (faded + (v.fade - faded) * part)
    v.gain = gain
