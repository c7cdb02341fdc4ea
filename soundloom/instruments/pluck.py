"""A plucked string: a delay line as long as the period, fed back through a loss filter (Karplus and Strong, 1983).

In tune to a fraction of a cent: the line is read between its samples, less the delay of the loss filter at the pitch
itself (Jaffe and Smith, 1983). A string at rest is read through an allpass, which takes nothing from its highs; once it
bends, through a polynomial, whose delay may move with every sample.
"""

import functools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from soundloom.instruments.base import Event, Param
from soundloom.instruments.filters import svf_coefficients
from soundloom.instruments.voices import FIELDS, SILENT, AbstractPolyphonic, Voices, record, white

LOWEST_HZ = 7.0  # MIDI 0, bent down by two semitones: how long the delay lines are
HALF = 4  # the polynomial goes through this many samples on either side (Lagrange's: never above 1)
POINTS = 2 * HALF + 1  # samples that a read between the samples takes: the polynomial, or the start of an allpass
# Barycentric weights of Lagrange's polynomial over 2, 4, ... 8 points; [half, point], centred.
WEIGHTS = np.zeros((HALF + 1, 2 * HALF))
for _half in range(1, HALF + 1):
    for _point in range(2 * _half):
        WEIGHTS[_half, HALF - _half + _point] = (-1) ** _point * math.comb(2 * _half - 1, _point)
# A guitar-sized box: the air in it, its top, the second mode of its top (hertz, quality, level).
BODY = ((103.0, 9.0, 1.0), (206.0, 12.0, 0.8), (412.0, 10.0, 0.5))
TICK = 64  # samples that a string moves on at once: looks at the key, the bend, and whether it is over
# The loss filter s / (1 - p z) is the product of s + s p z + s p² z² + s p³ z³, which is read together with the line,
# and of 1 + p⁴ z⁴ + p⁸ z⁸ + p¹² z¹² and 1 / (1 - p¹⁶ z¹⁶), which do nothing where p is small: vectorised loops instead
# of a recursion that waits for itself.
TAPS = POINTS + 3
LAG = 16  # samples that the last of them looks back
LINE = 16  # the memory of a voice, in float32: the taps, and from here on its line


class Pluck(AbstractPolyphonic):
    """A string, plucked. Guitars, harps, basses, koto-like and clavinet-like sounds.

    >>> string = Pluck({"decay_s": 4, "pick_position": 0.2})
    >>> state = string.init_state(44100)
    >>> block, state = string.process(state, [Event(0, "on", note=1, pitch=45)], 512)
    >>> block.shape
    (1, 512)

    A pitch above a quarter of the sample rate stays silent: its period is too short to be filtered.
    """

    params = (
        Param("decay_s", "s", 0.05, 30, 4, "log", "how long the fundamental takes to fall by 60 dB, at most"),
        Param("damping", "", 0, 1, 0.3, help="how much faster the overtones die: from steel to gut to felt"),
        Param("pick_position", "", 0.02, 0.5, 0.18, help="where it is plucked: 0.02 the bridge, 0.5 the middle"),
        Param("brightness", "", 0, 1, 0.7, help="how hard the plectrum is"),
        Param("velocity_brightness", "", 0, 1, 0.5, help="how much duller a soft touch is"),
        Param("noise", "", 0, 1, 0.3, help="how rough the pluck is: each one then sounds a little different"),
        Param("body", "", 0, 1, 0.3, help="how much of a wooden body rings with it"),
        Param("release_s", "s", 0.01, 10, 0.15, "log", "how fast the hand damps it after the key, to -60 dB"),
        Param("gain_db", "dB", -60, 6, -6, help="the level"),
    )
    row = np.dtype(
        [
            *FIELDS,
            *[(name, "i8") for name in ("at", "last_at", "last_age")],  # at: where its line is written next
            *[(name, "i8") for name in ("ready", "fades", "over", "dark")],  # ready: samples made, but not yet heard
            *[(name, "i8") for name in ("back", "most", "stretched")],  # back: from `at` to the first tap of a read
            *[(name, "f8") for name in ("pitch", "bent", "delay", "tapped")],  # tapped: the delay of the taps
            *[(name, "f8") for name in ("decay_s", "loss", "loop_gain", "gain", "env")],
        ]
    )

    def _derive(self, values: Mapping[str, float], sample_rate: int) -> NDArray[Any]:
        derived = dict(values)
        derived |= {
            "gain": 10 ** (values["gain_db"] / 20),
            "smoothing": 1 - math.exp(-1 / (0.005 * sample_rate)),  # the level glides in 5 ms
            "dc_tracking": 2 * math.pi * 5 / sample_rate,  # below 5 Hz
        }
        derived |= _body(sample_rate)
        for index, (_, quality, level) in enumerate(BODY):
            derived[f"level{index}"] = 2.0 * values["body"] * level / quality
        return record(derived, {"falls": _falls(values["release_s"], sample_rate)})

    def _init_after(self, derived: NDArray[Any]) -> NDArray[np.float64]:
        return np.array([derived[0]["gain"], *[0.0] * (2 * len(BODY) + 1)])

    def _finish(self, state: Voices, block: NDArray[np.float64]) -> None:
        _resonate(block[0], state.after, state.derived)

    def _memory_samples(self, sample_rate: int) -> int:
        return (math.ceil(1.25 * sample_rate / LOWEST_HZ) + 8 * TICK) // 2

    def _start(self, state: Voices, slot: int, event: Event) -> None:
        row, knobs = state.rows[slot], state.values
        hz = 440.0 * 2 ** ((event.pitch + state.bend - 69) / 12)
        period = state.sample_rate / hz
        if period < 4:
            row["active"] = 0
            return
        omega = 2 * math.pi / period
        # The loss filter (1 - p) / (1 - p / z): milder on short strings, which pass it more often a second, and its
        # delay a third of the period at most.
        loss = 0.9 * knobs["damping"] ** 1.5 * min(1.0, period / 100)
        loss = min(loss, (period / 3) / (1 + period / 3))
        row["pitch"], row["bent"], row["loss"], row["decay_s"] = event.pitch, state.bend, loss, knobs["decay_s"]
        row["delay"], row["loop_gain"] = _loop(omega, loss, hz * knobs["decay_s"])
        loss_gain = (1 - loss) / math.sqrt(1 - 2 * loss * math.cos(omega) + loss * loss)
        decay_s = math.log(0.001) / (hz * math.log(row["loop_gain"] * loss_gain))
        row["last_age"] = int(min(decay_s * 5 / 3, 120) * state.sample_rate)  # -100 dB
        row["gain"] = event.velocity**2
        row["env"] = 1.0
        hard = knobs["brightness"] * (1 - knobs["velocity_brightness"] * (1 - event.velocity))
        # The pluck falls by 6 dB an octave from harmonic 1 (felt) or 17 (steel), at every pitch the same.
        softness = math.exp(-2 * math.pi * (1 + 16 * hard * hard) / period)
        line = state.memory[slot : slot + 1].view(np.float32)[0]
        row["at"] = _excite(line, float(row["delay"]), row["key"], knobs["pick_position"], softness, knobs["noise"])
        row["last_at"] = row["at"]

    def _render(self, state: Voices, rows: NDArray[Any], memory: NDArray[np.float64], out: NDArray[np.float64]) -> None:
        falls, bend, rate = state.derived["falls"][0], float(state.bend), float(state.sample_rate)
        _render(rows, memory.view(np.float32), state.derived, falls, bend, rate, out[0])


@functools.lru_cache(maxsize=256)
def _falls(release_s: float, sample_rate: int) -> NDArray[np.float32]:
    """What is left of a released string after 1, 2, ... TICK samples."""
    return (0.001 ** (np.arange(1, TICK + 1) / (release_s * sample_rate))).astype(np.float32)


@functools.cache
def _body(sample_rate: int) -> dict[str, float]:
    """The coefficients of the body's resonances."""
    found: dict[str, float] = {}
    for index, (hz, quality, _) in enumerate(BODY):
        one, two = svf_coefficients(math.tan(math.pi * min(hz / sample_rate, 0.45)), 1 / quality)
        found |= {f"one{index}": one, f"two{index}": two, f"stay{index}": 1 - one / quality - two}
    return found


@njit(cache=True)
def _loop(omega, loss, periods):  # type: ignore[no-untyped-def]
    """How long the line is for a pitch of `omega` a sample, and its gain for a fall by 60 dB in so many periods.

    They are the period and the fall of a period, less the delay and the loss of the loss filter at that pitch.
    """
    delay = (2 * math.pi - math.atan2(loss * math.sin(omega), 1 - loss * math.cos(omega))) / omega
    loss_gain = (1 - loss) / math.sqrt(1 - 2 * loss * math.cos(omega) + loss * loss)
    return max(delay, 2.01), min(0.001 ** (1 / periods) / loss_gain, 1 - 2e-5)


@njit(cache=True, inline="always")
def _omega(pitch, sample_rate):  # type: ignore[no-untyped-def]
    return 2 * math.pi * 440.0 * 2.0 ** ((pitch - 69.0) / 12.0) / sample_rate


@njit(cache=True)
def _excite(memory, delay, key, pick_position, softness, noise):  # type: ignore[no-untyped-def]
    """Fill the string with one period of the pluck: a click and noise, softened, less itself from the other side.

    The difference puts a notch on every harmonic with a node where the string is plucked, and takes out the DC.
    The period goes around once more ahead of it, for the reads between samples. Returns where the line goes on.
    """
    n = int(delay)
    start = LINE + 2 * LAG
    line = memory[start : start + n]
    raw = np.empty(n)
    for i in range(n):
        raw[i] = noise * white(key, i)
    raw[0] += (1.0 - noise) * math.sqrt(n / 3.0)  # as strong as the noise
    low = 0.0
    for i in range(2 * n):  # twice around: the line is a circle
        low += (1.0 - softness) * (raw[i % n] - low)
        if i >= n:
            line[i - n] = low
    other = max(1, int(pick_position * n + 0.5)) % n
    for i in range(n):
        raw[i] = line[i] - line[i - other]
    mean, rms, peak = 0.0, 1e-12, 1e-12
    for i in range(n):
        mean += raw[i] / n
    for i in range(n):
        raw[i] -= mean
        rms += raw[i] * raw[i] / n
        peak = max(peak, abs(raw[i]))
    scale = min(0.35 / math.sqrt(rms), 1.0 / peak)
    for i in range(n):
        line[i] = raw[i] * scale
    for i in range(LINE, start):
        memory[i] = line[(i - start) % n]
    return start + n


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _polynomial(weights, delay):  # type: ignore[no-untyped-def]
    """Fill `weights` [POINTS] for a read at a delay; returns how far back the first of them is, and how many samples
    may be read before one is needed that is not written yet. Short strings take fewer points."""
    whole = math.ceil(delay)
    half = min(max(int(delay) // 3, 1), HALF)
    total = 0.0
    for k in range(2 * HALF):
        weights[k] = WEIGHTS[half, k] / (whole - delay - (k - (HALF - 1)) + 1e-12)
        total += weights[k]
    for k in range(2 * HALF):
        weights[k] /= total
    weights[2 * HALF] = 0.0
    return whole + HALF - 1, max(int(delay) - half, 1)


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _allpass(weights, delay, omega):  # type: ignore[no-untyped-def]
    """The same, for a first-order allpass (a + z) / (1 + a z), exact at `omega`: the start of its impulse response.

    It has the fractional part, 0.62 to 1.62, where |a| is below a quarter: what is left out is below 1e-5.
    """
    whole = int(delay - 0.618)
    rest = delay - whole
    a = math.sin((1.0 - rest) * omega / 2) / math.sin((1.0 + rest) * omega / 2)
    weights[POINTS - 1] = a
    for k in range(1, POINTS):
        weights[POINTS - 1 - k] = (1.0 - a * a) * (-a) ** (k - 1)
    return whole + POINTS - 1, whole


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _aim(v, line, weights, bend, glide, sample_rate):  # type: ignore[no-untyped-def]
    """Where a string's length goes in the next tick, and the line moved to where there is room for it.

    Returns how much the length grows by a sample.
    """
    step = 0.0
    if v.bent != bend:
        v.bent = bend if abs(bend - v.bent) < 1e-3 else v.bent + (bend - v.bent) * glide
        omega = max(_omega(v.pitch + v.bent, sample_rate), 2 * math.pi * LOWEST_HZ / sample_rate)
        end, v.loop_gain = _loop(omega, v.loss, omega / (2 * math.pi) * sample_rate * v.decay_s)
        step = (end - v.delay) / TICK
        v.stretched = 1
    keep = math.ceil(max(v.delay, v.delay + TICK * step)) + 2 * LAG
    if v.at > v.last_at:  # the line slides along its memory, and back before it strays far from what caches hold
        first = np.uint64(v.at - keep)
        for j in range(keep):
            line[LINE + j] = line[first + np.uint64(j)]
        v.at = LINE + keep
    v.last_at = min(2 * keep + 4 * TICK, len(line) - 2 * TICK)
    if v.tapped != v.delay:
        if v.stretched == 1 or v.delay < 8:
            v.back, v.most = _polynomial(weights, v.delay)
        else:
            v.back, v.most = _allpass(weights, v.delay, _omega(v.pitch + v.bent, sample_rate))
        v.dark = 1 if v.loss**4 > 1e-6 else 0
        for k in range(TAPS):
            line[k] = 0.0
        for power in range(4):
            for k in range(POINTS):
                line[k + 3 - power] += v.loop_gain * (1.0 - v.loss) * v.loss**power * weights[k]
        v.tapped = v.delay
    return step


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _one_by_one(v, line, weights, step):  # type: ignore[no-untyped-def]
    """A tick of a string that is short, begins, or bends: each sample from the one before.

    The length moves by `step` a sample; while it does, the weights are worked out for every sample.
    """
    strength, back = v.loop_gain * (1.0 - v.loss), v.back
    y = 0.0 if v.age == 0 else float(line[v.at - 1])
    for j in range(TICK):
        if step != 0:
            back, _ = _polynomial(weights, v.delay + (j + 1) * step)
        x = 0.0
        for k in range(POINTS):
            x += weights[k] * line[v.at + j - back + k]
        y = strength * x + v.loss * y
        line[v.at + j] = y
    v.tapped = 0.0  # the weights are worked out again


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _render(rows, memory, params, falls, bend, sample_rate, out):  # type: ignore[no-untyped-def]
    """Add all active strings to `out` [n]; each moves on a tick at a time, ahead of the block where that ends.

    Out of the line, between its samples, through the loss filter, and back into the line.
    """
    n = len(out)
    read, taps, weights = np.zeros(TICK + 2 * LAG, np.float32), np.zeros(TAPS, np.float32), np.zeros(POINTS)
    total = np.zeros(n, np.float32)
    glide = 1.0 - math.exp(-TICK / (0.005 * sample_rate))  # the bend glides in 5 ms
    for i in range(len(rows)):
        v = rows[i]
        done = 0
        while done < n and v.active == 1:
            if v.ready == 0:
                step = 0.0
                if v.tapped != v.delay or v.bent != bend or v.at > v.last_at:
                    step = _aim(v, memory[i], weights, bend, glide, sample_rate)
                for k in range(TAPS):
                    taps[k] = memory[i, k]
                p4 = np.float32(v.loss**4)
                p8, p12, p16 = p4**2, p4**3, p4**4
                alone = step != 0 or v.most < LAG or v.age == 0
                if alone:
                    _one_by_one(v, memory[i], weights, step)
                for start in range(0, 0 if alone else TICK, v.most):
                    m, ahead = min(TICK - start, v.most), 12 * v.dark
                    # Indices that may be negative cost a comparison; two sums do not wait for each other.
                    first = np.uint64(v.at + start - v.back - 3 - ahead)
                    at, past = np.uint64(v.at + start), np.uint64(v.at + start - LAG)
                    for j in range((m + ahead + 15) // 16 * 16):
                        x, y = np.float32(0.0), np.float32(0.0)
                        for k in range(TAPS // 2):
                            x += taps[k] * memory[i, first + np.uint64(j + k)]
                        for k in range(TAPS // 2, TAPS):
                            y += taps[k] * memory[i, first + np.uint64(j + k)]
                        read[j] = x + y
                    if v.dark == 0:
                        for j in range(m):
                            memory[i, at + np.uint64(j)] = read[j]
                    else:
                        for j in range(m):
                            x = read[j + 12] + p4 * read[j + 8] + p8 * read[j + 4] + p12 * read[j]
                            memory[i, at + np.uint64(j)] = x + p16 * memory[i, past + np.uint64(j)]
                v.delay += TICK * step
                v.env *= falls[TICK - 1] if v.fades == 1 else np.float32(1.0)
                v.fades = 1 - v.held
                v.at += TICK
                v.age += TICK
                v.ready = TICK
                if v.env < SILENT or v.age > v.last_age:
                    v.over = 1
            m, level = min(v.ready, n - done), np.float32(v.gain * v.env)
            heard, falling, on = np.uint64(v.at - v.ready), np.uint64(TICK - v.ready), np.uint64(done)
            if v.fades == 0:
                for j in range(m):
                    total[on + np.uint64(j)] += level * memory[i, heard + np.uint64(j)]
            else:
                for j in range(m):
                    fall = level * falls[falling + np.uint64(j)]
                    total[on + np.uint64(j)] += fall * memory[i, heard + np.uint64(j)]
            v.ready -= m
            done += m
            if v.ready == 0 and v.over == 1:
                v.active = 0
    for j in range(n):
        out[j] += total[j]


@njit(cache=True)
def _resonate(block, after, params):  # type: ignore[no-untyped-def]
    """The level, without the DC that a plucked line goes on with, and the body: three band-passes beside the string.

    They are state-variable filters as in `filters.svf`, written out: side by side they wait for themselves only.
    """
    p = params[0]
    gain, dc = after[0], after[7]
    a, b, c, d, e, f = after[1], after[2], after[3], after[4], after[5], after[6]
    for j in range(len(block)):
        gain += (p.gain - gain) * p.smoothing
        x = gain * block[j] + 1e-18  # the offset keeps what rings on out of denormal numbers
        next_a = p.stay0 * a + p.one0 * (x - b)
        next_c = p.stay1 * c + p.one1 * (x - d)
        next_e = p.stay2 * e + p.one2 * (x - f)
        b += p.two0 * (x - b) + p.one0 * a
        d += p.two1 * (x - d) + p.one1 * c
        f += p.two2 * (x - f) + p.one2 * e
        y = p.level0 * (a + next_a) + p.level1 * (c + next_c) + p.level2 * (e + next_e)
        a, c, e = next_a, next_c, next_e
        dc += (x - dc) * p.dc_tracking
        block[j] = x - dc + y
    after[0], after[7] = gain, dc
    after[1], after[2], after[3], after[4], after[5], after[6] = a, b, c, d, e, f
