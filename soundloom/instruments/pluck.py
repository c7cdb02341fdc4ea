"""A plucked string: a delay line as long as the period, fed back through a loss filter (Karplus and Strong, 1983).

In tune to a fraction of a cent, and while the pitch bends: the line is read between its samples, at a delay that may
move with every sample, less the delay of the loss filter at the pitch itself (Jaffe and Smith, 1983).
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from soundloom.instruments.base import Event, Param
from soundloom.instruments.voices import FIELDS, SILENT, AbstractPolyphonic, Voices, white

LOWEST_HZ = 7.0  # MIDI 0, bent down by two semitones: how long the delay lines are
HALF = 8  # a read between the samples takes this many on either side (Lagrange: flat to 15 kHz, never above 1)
# A guitar-sized box: the air in it, its top, the second mode of its top (hertz, quality, level).
BODY = ((103.0, 9.0, 1.0), (206.0, 12.0, 0.8), (412.0, 10.0, 0.5))
TICK = 64  # samples between two looks at the bend and at whether a voice is over, on the grid of its age
# Barycentric weights of Lagrange's polynomial over 2, 4, ... 16 points; [half, point], centred.
WEIGHTS = np.zeros((HALF + 1, 2 * HALF))
for _half in range(1, HALF + 1):
    for _point in range(2 * _half):
        WEIGHTS[_half, HALF - _half + _point] = (-1) ** _point * math.comb(2 * _half - 1, _point)


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
            *[(name, "i8") for name in ("at", "last_age")],  # at: where in its memory the line is written next
            *[(name, "f8") for name in ("pitch", "bent", "delay", "delay_step")],  # at the tick's start, per sample
            *[(name, "f8") for name in ("loss", "loop_gain", "low", "gain", "env")],
        ]
    )

    def _derive(self, values: Mapping[str, float], sample_rate: int) -> NDArray[Any]:
        derived = dict(values)
        derived |= {
            "release_factor": 0.001 ** (1 / (values["release_s"] * sample_rate)),
            "gain": 10 ** (values["gain_db"] / 20),
            "smoothing": 1 - math.exp(-1 / (0.005 * sample_rate)),  # the level glides in 5 ms
        }
        for index, (hz, quality, level) in enumerate(BODY):
            g = math.tan(math.pi * min(hz / sample_rate, 0.45))
            a1 = 1 / (1 + g * (g + 1 / quality))
            derived |= {f"g{index}": g, f"a{index}": a1, f"level{index}": level / quality}
        return np.array([tuple(derived.values())], dtype=[(name, "f8") for name in derived])

    def _init_after(self, derived: NDArray[Any]) -> NDArray[np.float64]:
        return np.array([derived[0]["gain"], *[0.0] * (2 * len(BODY))])

    def _finish(self, state: Voices, block: NDArray[np.float64]) -> None:
        _resonate(block[0], state.after, state.derived)

    def _memory_samples(self, sample_rate: int) -> int:
        return math.ceil(1.25 * sample_rate / LOWEST_HZ) + 8 * HALF + TICK

    def _start(self, state: Voices, slot: int, event: Event) -> None:
        row, knobs = state.rows[slot], state.values
        hz = 440.0 * 2 ** ((event.pitch + state.bend - 69) / 12)
        period = state.sample_rate / hz
        if period < 4 or event.velocity <= 0:
            row["active"] = 0
            return
        omega = 2 * math.pi / period
        # The loss filter (1 - p) / (1 - p / z): milder on short strings, which pass it more often a second, and its
        # delay a third of the period at most.
        loss = 0.9 * knobs["damping"] ** 1.5 * min(1.0, period / 100)
        loss = min(loss, (period / 3) / (1 + period / 3))
        loss_gain = (1 - loss) / math.sqrt(1 - 2 * loss * math.cos(omega) + loss * loss)
        row["pitch"], row["bent"], row["loss"] = event.pitch, state.bend, loss
        row["delay"] = _delay(event.pitch + state.bend, loss, float(state.sample_rate))
        wanted = 0.001 ** (1 / (hz * knobs["decay_s"]))
        row["loop_gain"] = min(wanted / loss_gain, 1 - 1e-6)
        decay_s = math.log(0.001) / (hz * math.log(row["loop_gain"] * loss_gain))
        row["last_age"] = int(min(decay_s * 5 / 3, 120) * state.sample_rate)  # -100 dB
        row["gain"] = event.velocity**2
        row["env"] = 1.0
        hard = knobs["brightness"] * (1 - knobs["velocity_brightness"] * (1 - event.velocity))
        # The pluck falls by 6 dB an octave from harmonic 1 (felt) or 17 (steel), at every pitch the same.
        softness = math.exp(-2 * math.pi * (1 + 16 * hard * hard) / period)
        row["at"] = _excite(
            state.memory[slot], float(row["delay"]), row["key"], knobs["pick_position"], softness, knobs["noise"]
        )

    def _render(self, state: Voices, rows: NDArray[Any], memory: NDArray[np.float64], out: NDArray[np.float64]) -> None:
        _render(rows, memory, state.derived, state.bend, float(state.sample_rate), out[0])


@njit(cache=True)
def _delay(pitch, loss, sample_rate):  # type: ignore[no-untyped-def]
    """How long the line is for a pitch: the period less the delay of the loss filter at that pitch."""
    omega = 2 * math.pi * 440.0 * 2.0 ** ((pitch - 69.0) / 12.0) / sample_rate
    delay = (2 * math.pi - math.atan2(loss * math.sin(omega), 1 - loss * math.cos(omega))) / omega
    return min(max(delay, 2.01), 1.2 * sample_rate / LOWEST_HZ)


@njit(cache=True)
def _excite(memory, delay, key, pick_position, softness, noise):  # type: ignore[no-untyped-def]
    """Fill the string with one period of the pluck: a click and noise, softened, less itself from the other side.

    The difference puts a notch on every harmonic with a node where the string is plucked, and takes out the DC.
    The period goes around once more ahead of it, for the reads between samples. Returns where the line goes on.
    """
    n = int(delay)
    start = 2 * HALF
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
    mean = raw.mean()
    rms, peak = 1e-12, 1e-12
    for i in range(n):
        raw[i] -= mean
        rms += raw[i] * raw[i] / n
        peak = max(peak, abs(raw[i]))
    scale = min(0.35 / math.sqrt(rms), 1.0 / peak)
    for i in range(n):
        line[i] = raw[i] * scale
    for i in range(start):
        memory[i] = line[(i - start) % n]
    return start + n


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _between(taps, fraction, half):  # type: ignore[no-untyped-def]
    """Fill `taps` with Lagrange's weights for a value `fraction` of a sample behind the middle point."""
    total = 0.0
    for k in range(2 * HALF):
        taps[k] = WEIGHTS[half, k] / (fraction - (k - (HALF - 1)) + 1e-12)
        total += taps[k]
    for k in range(2 * HALF):
        taps[k] /= total


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _read(line, at, m, delay, step, half, taps, out):  # type: ignore[no-untyped-def]
    """What the line held `delay + (j + 1) step` samples before sample at + j, for j < m: into `out`."""
    if step == 0:
        whole = math.ceil(delay)
        _between(taps, whole - delay, half)
        first = at - whole - (HALF - 1)
        for j in range(m):
            out[j] = 0.0
        for k in range(HALF - half, HALF + half):
            tap = taps[k]
            for j in range(m):
                out[j] += tap * line[first + k + j]
    else:
        for j in range(m):
            d = delay + (j + 1) * step
            whole = math.ceil(d)
            _between(taps, whole - d, half)
            first = at + j - whole - (HALF - 1)
            y = 0.0
            for k in range(HALF - half, HALF + half):
                y += taps[k] * line[first + k]
            out[j] = y


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _render(rows, memory, params, bend, sample_rate, out):  # type: ignore[no-untyped-def]
    """Add all active strings to `out` [n]: out of the line, loss, back into the line."""
    p = params[0]
    n = len(out)
    taps, read = np.empty(2 * HALF), np.empty(TICK)
    glide = 1.0 - math.exp(-TICK / (0.005 * sample_rate))  # the bend glides in 5 ms
    for i in range(len(rows)):
        v = rows[i]
        line = memory[i]
        size = len(line)
        done = 0
        while done < n and v.active == 1:
            step = v.age % TICK
            if step == 0:
                v.delay += TICK * v.delay_step
                v.delay_step = 0.0
                if v.bent != bend:
                    v.bent = bend if abs(bend - v.bent) < 1e-3 else v.bent + (bend - v.bent) * glide
                    v.delay_step = (_delay(v.pitch + v.bent, v.loss, sample_rate) - v.delay) / TICK
            delay = v.delay + step * v.delay_step
            shortest = int(min(v.delay, v.delay + TICK * v.delay_step))  # whole samples
            half = min(max(shortest // 3, 1), HALF)
            m = min(min(TICK - step, n - done), max(shortest - half, 1))
            if v.at + m > size:  # the line slides along its memory, and back to the front when it reaches the end
                keep = math.ceil(max(delay, v.delay + TICK * v.delay_step)) + 2 * HALF
                for j in range(keep):
                    line[j] = line[v.at - keep + j]
                v.at = keep
            _read(line, v.at, m, delay, v.delay_step, half, taps, read)
            low, env, gain = v.low, v.env, v.gain
            loss, strength = v.loss, v.loop_gain * (1.0 - v.loss)
            fade = 1.0 if v.held == 1 else p.release_factor
            for j in range(m):
                low = strength * read[j] + loss * low
                line[v.at + j] = low
                env *= fade
                out[done + j] += gain * env * low
            v.at += m
            v.low, v.env = low, env
            v.age += m
            done += m
            if v.age % TICK == 0 and (env < SILENT or v.age > v.last_age):
                v.active = 0


@njit(cache=True)
def _resonate(block, after, params):  # type: ignore[no-untyped-def]
    """The level, and the body: three band-passes beside the string (state-variable, as in `subtractive`)."""
    p = params[0]
    gain = after[0]
    a, b, c, d, e, f = after[1], after[2], after[3], after[4], after[5], after[6]
    for j in range(len(block)):
        gain += (p.gain - gain) * p.smoothing
        x = gain * block[j] + 1e-18  # the offset keeps what rings on out of denormal numbers
        v = p.a0 * (a + p.g0 * (x - b))
        w = b + p.g0 * v
        a, b = 2 * v - a, 2 * w - b
        y = p.level0 * v
        v = p.a1 * (c + p.g1 * (x - d))
        w = d + p.g1 * v
        c, d = 2 * v - c, 2 * w - d
        y += p.level1 * v
        v = p.a2 * (e + p.g2 * (x - f))
        w = f + p.g2 * v
        e, f = 2 * v - e, 2 * w - f
        y += p.level2 * v
        block[j] = x + 4.0 * p.body * y
    after[0] = gain
    after[1], after[2], after[3], after[4], after[5], after[6] = a, b, c, d, e, f
