"""How a struck thing sounds, compiled: tones that fall, a bank of modes that ring, and three bands of noise.

A voice is the sum of them; what a drum has not, and what has died away, costs nothing.
"""

import math

import numpy as np
from numba import njit

from soundloom.instruments.voices import FIELDS, white

TICK = 32  # samples between two looks at what moves slowly, on the grid of a voice's age
TONES, NOISES = 6, 3
LANES = 32  # modes that go side by side
MODES = 160  # at most
QUIET = 1e-6
# sin(2 pi x) = x (1 - 4 x²) P(x²) for |x| <= 1/2, to 1e-7: no call in it, so that it runs in SIMD lanes.
S0, S1, S2, S3, S4 = 6.2831826, -16.2086703, 16.7609745, -9.53079919, 3.0583253
# The rows of a voice's memory, `MODES` long: where each mode is in the plane, how it turns and shrinks in a sample, how
# many turns a sample that is, and how much of it is left after one.
REAL, IMAGINARY, TURN_REAL, TURN_IMAGINARY, RATE, LEFT = range(6)

ROW = np.dtype(
    [
        *FIELDS,
        *[(name, "i8") for name in ("last_age", "tones", "modes", "hisses")],
        *[(name, "f8") for name in ("left", "right", "push", "sweep", "sweep_left", "spread")],
        *[
            (name, "f8") for name in ("bent", "ratio", "ratio_step")
        ],  # the bend at a tick's end; as a ratio, at its start
        *[(name, "f8", TONES) for name in ("tone_phase", "tone_rate", "tone_level", "tone_left")],
        # A band of noise: its level at the next stroke and how much each stroke keeps of it; how it rises and falls.
        *[(name, "f8", NOISES) for name in ("stroke", "stroke_left", "rise", "rise_step", "fall", "fall_left")],
        *[(name, "i8", NOISES) for name in ("hiss", "strokes", "next_stroke", "spacing")],
        ("cut", "f8", (NOISES, 2, 3)),  # its high-pass and its low-pass
        ("ring", "f8", (NOISES, 2, 2, 2)),  # what they remember, on both sides
    ]
)


@njit(cache=True, error_model="numpy")
def strike(bank, key, hz, levels, seconds, tune, longer, dull, loose, sample_rate):  # type: ignore[no-untyped-def]
    """Start modes, which come longest first: each somewhere on its circle, `loose` dB stronger or weaker, and all of
    them `dull` octaves duller, as strong together. Returns how many lie below half the sample rate, in whole lanes."""
    count = 0
    before, after = 0.0, 1e-18
    for i in range(len(hz)):
        rate = hz[i] * tune / sample_rate
        if rate < 0.45:
            turn = math.pi * white(key, 3 * i)
            softer = (hz[i] / 1000.0) ** (-0.5 * dull)
            before += levels[i] ** 2
            after += (softer * levels[i]) ** 2
            level = softer * levels[i] * 10.0 ** (loose * (white(key, 3 * i + 1) + white(key, 3 * i + 2)) / 20.0)
            bank[REAL, count], bank[IMAGINARY, count] = level * math.cos(turn), level * math.sin(turn)
            bank[RATE, count] = rate
            bank[LEFT, count] = 0.001 ** (1.0 / (seconds[i] * longer * sample_rate))
            count += 1
    scale = math.sqrt(before / after)
    for i in range(count):
        bank[REAL, i] *= scale
        bank[IMAGINARY, i] *= scale
    return (count + LANES - 1) // LANES * LANES


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def render(rows, memory, bend, smoothing, left, right):  # type: ignore[no-untyped-def]
    """Add all active voices to both sides [n], tick by tick."""
    n = len(left)
    block, hiss = np.empty((2, TICK)), np.empty((2, TICK))
    for i in range(len(rows)):
        v = rows[i]
        bank = memory[i].reshape((6, MODES))
        at = 0
        while at < n and v.active == 1:
            step = v.age % TICK
            if step == 0:
                _aim(v, bank, bend, smoothing)
            m = min(TICK - step, n - at)
            for j in range(m):
                block[0, j], block[1, j] = 0.0, 0.0
            if v.tones > 0:
                _sing(v, step, m, block)
            if v.modes > 0:
                _ring(v, bank, m, block)
            if v.hisses > 0:
                _hiss(v, m, hiss, block)
            for j in range(m):
                left[at + j] += v.left * block[0, j]
                right[at + j] += v.right * block[1, j]
            v.age += m
            at += m
            if v.age % TICK == 0 and v.age > v.last_age:
                v.active = 0


@njit(inline="always")
def _aim(v, bank, bend, smoothing):  # type: ignore[no-untyped-def]
    """At the start of a tick: where the bend goes until the next one, and what still sounds."""
    v.bent = bend if abs(bend - v.bent) < 1e-4 else v.bent + (bend - v.bent) * smoothing
    end = 2.0 ** (v.bent / 12.0)
    v.ratio += TICK * v.ratio_step
    v.ratio_step = (end - v.ratio) / TICK
    moved = v.ratio_step != 0.0
    if abs(end - v.ratio) < 1e-12:
        v.ratio, v.ratio_step = end, 0.0
    while v.modes > 0:
        energy = 0.0
        for i in range(v.modes - LANES, v.modes):
            energy += bank[REAL, i] ** 2 + bank[IMAGINARY, i] ** 2
        if energy > QUIET * QUIET:
            break
        v.modes -= LANES
    if moved or v.age == 0:
        for i in range(v.modes):
            turn = 2.0 * math.pi * min(bank[RATE, i] * end, 0.49)
            bank[TURN_REAL, i] = bank[LEFT, i] * math.cos(turn)
            bank[TURN_IMAGINARY, i] = bank[LEFT, i] * math.sin(turn)
    loudest = 0.0
    for k in range(v.tones):
        loudest = max(loudest, v.tone_level[k])
    if loudest < QUIET:
        v.tones = 0
    v.hisses = 0
    for b in range(NOISES):
        v.hiss[b] = 1 if v.strokes[b] > 0 or v.fall[b] > QUIET else 0
        v.hisses += v.hiss[b]


@njit(inline="always")
def _sing(v, step, m, block):  # type: ignore[no-untyped-def]
    """Tones whose pitch falls as they start, together through a curve that makes them fuller."""
    pace, turns, total = np.empty(TICK), np.empty(TICK), np.zeros(TICK)
    sweep, ratio, ratio_step = v.sweep, v.ratio, v.ratio_step
    for j in range(m):
        pace[j] = (ratio + (step + j) * ratio_step) * (1.0 + sweep)
        sweep *= v.sweep_left
    v.sweep = sweep
    phases, levels, rates, lefts = v.tone_phase, v.tone_level, v.tone_rate, v.tone_left
    for k in range(v.tones):
        phase, level, rate, left = phases[k], levels[k], rates[k], lefts[k]
        for j in range(m):
            turns[j] = phase
            phase += min(rate * pace[j], 0.49)
        for j in range(m):
            x = turns[j] - np.rint(turns[j])
            u = x * x
            total[j] += level * (x * (1.0 - 4.0 * u) * (S0 + u * (S1 + u * (S2 + u * (S3 + u * S4)))))
            level *= left
        phases[k], levels[k] = phase - math.floor(phase), level + 1e-18
    push = v.push
    full = math.sqrt(1.0 + push * push)
    for j in range(m):
        x = total[j]
        y = full * x / math.sqrt(1.0 + push * push * x * x)
        block[0, j] += y
        block[1, j] += y


@njit(inline="always")
def _ring(v, bank, m, block):  # type: ignore[no-untyped-def]
    """The modes, each a point that turns and shrinks; every other one is more on the left, the rest on the right.

    Thirty-two go side by side, in single precision and in arrays of their own: that the compiler makes SIMD of.
    """
    x, y = np.empty(LANES, np.float32), np.empty(LANES, np.float32)
    across, up = np.empty(LANES, np.float32), np.empty(LANES, np.float32)
    total = np.zeros((TICK, LANES), np.float32)
    for first in range(0, v.modes, LANES):
        for lane in range(LANES):
            x[lane], y[lane] = bank[REAL, first + lane], bank[IMAGINARY, first + lane]
            across[lane], up[lane] = bank[TURN_REAL, first + lane], bank[TURN_IMAGINARY, first + lane]
        for j in range(m):
            row = total[j]
            for lane in range(LANES):
                row[lane] += y[lane]
                turned = across[lane] * x[lane] - up[lane] * y[lane]
                y[lane] = across[lane] * y[lane] + up[lane] * x[lane]
                x[lane] = turned
        for lane in range(LANES):
            bank[REAL, first + lane], bank[IMAGINARY, first + lane] = x[lane], y[lane]
    scale = 1.0 / math.sqrt(1.0 + v.spread * v.spread)
    near, far = (1.0 + v.spread) * scale, (1.0 - v.spread) * scale
    for j in range(m):
        even, odd = 0.0, 0.0
        for lane in range(0, LANES, 2):
            even += total[j, lane]
            odd += total[j, lane + 1]
        block[0, j] += near * even + far * odd
        block[1, j] += far * even + near * odd


@njit(inline="always")
def _hiss(v, m, hiss, block):  # type: ignore[no-untyped-def]
    """Bands of one noise, not quite the same on both sides, in one stroke or several."""
    scale = 1.0 / math.sqrt((1.0 - v.spread) ** 2 + v.spread**2)
    other, own = (1.0 - v.spread) * scale, v.spread * scale
    for j in range(m):
        hiss[0, j] = white(v.key, 2 * (v.age + j))
        hiss[1, j] = other * hiss[0, j] + own * white(v.key, 2 * (v.age + j) + 1)
    level = np.empty(TICK)
    strokes, next_stroke, stroke, fall, rise = v.strokes, v.next_stroke, v.stroke, v.fall, v.rise
    for b in range(NOISES):
        if v.hiss[b] == 0:
            continue
        up, down, rise_step, fall_left = rise[b], fall[b], v.rise_step[b], v.fall_left[b]
        for j in range(m):
            if strokes[b] > 0 and v.age + j == next_stroke[b]:
                up, down = 0.0, stroke[b]
                stroke[b] *= v.stroke_left[b]
                strokes[b] -= 1
                next_stroke[b] += v.spacing[b]
            up = min(up + rise_step, 1.0)
            down *= fall_left
            level[j] = up * down
        rise[b], fall[b] = up, down
        for c in range(2):
            _filter(hiss[c], level, m, v.cut[b], v.ring[b, c], block[c])


@njit(inline="always")
def _filter(hiss, level, m, cut, ring, out):  # type: ignore[no-untyped-def]
    """A high-pass and a low-pass, trapezoidal and of quality 1 / sqrt 2 (as in `equaliser`)."""
    a, b, c, d = ring[0, 0], ring[0, 1], ring[1, 0], ring[1, 1]
    high1, high2, high3 = cut[0, 0], cut[0, 1], cut[0, 2]
    low1, low2, low3 = cut[1, 0], cut[1, 1], cut[1, 2]
    for j in range(m):
        x = level[j] * hiss[j] + 1e-18
        v3 = x - b
        v1 = high1 * a + high2 * v3
        v2 = b + high2 * a + high3 * v3
        a, b = 2.0 * v1 - a, 2.0 * v2 - b
        v3 = x - math.sqrt(2.0) * v1 - v2 - d
        v1 = low1 * c + low2 * v3
        v2 = d + low2 * c + low3 * v3
        c, d = 2.0 * v1 - c, 2.0 * v2 - d
        out[j] += v2
    ring[0, 0], ring[0, 1], ring[1, 0], ring[1, 1] = a, b, c, d


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def finish(left, right, after, targets, smoothing):  # type: ignore[no-untyped-def]
    """The kit as a whole: darker or brighter, driven, louder or softer. `after` holds both lows, then the knobs."""
    for j in range(len(left)):
        for k in range(4):
            after[2 + k] += (targets[k] - after[2 + k]) * smoothing
        lows, highs, push, gain = after[2], after[3], after[4], after[5]
        for c in range(2):
            x = (left[j] if c == 0 else right[j]) + 1e-18
            after[c] += targets[4] * (x - after[c])
            y = lows * after[c] + highs * (x - after[c])
            y *= gain / math.sqrt(1.0 + push * push * y * y)
            if c == 0:
                left[j] = y
            else:
                right[j] = y
