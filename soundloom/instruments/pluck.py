"""A plucked string: a delay line as long as the period, fed back through a loss filter (Karplus and Strong, 1983).

In tune to a fraction of a cent: the delays of the loss filter and of a fractional allpass are worked out at the pitch
itself (Jaffe and Smith, 1983).
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from soundloom.instruments.base import Event, Param
from soundloom.instruments.voices import FIELDS, SILENT, AbstractPolyphonic, Voices, white

LOWEST_HZ = 8.0  # just below MIDI 0: how long the delay lines are
# A guitar-sized box: the air in it, its top, the second mode of its top (hertz, quality, level).
BODY = ((103.0, 9.0, 1.0), (206.0, 12.0, 0.8), (412.0, 10.0, 0.5))
TICK = 64  # samples between two looks at whether a voice is over, on the grid of its age


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
            *[(name, "i8") for name in ("delay", "position", "last_age")],
            *[(name, "f8") for name in ("loss", "loop_gain", "allpass", "low", "x1", "y1", "gain", "env")],
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
        return math.ceil(sample_rate / LOWEST_HZ) + 2

    def _start(self, state: Voices, slot: int, event: Event) -> None:
        row, knobs = state.rows[slot], state.values
        hz = 440.0 * 2 ** ((event.pitch - 69) / 12)
        period = state.sample_rate / hz
        if period < 4 or event.velocity <= 0:
            row["active"] = 0
            return
        omega = 2 * math.pi / period
        # The loss filter (1 - p) / (1 - p / z): milder on short strings, which pass it more often a second, and its
        # delay a third of the period at most.
        loss = 0.9 * knobs["damping"] ** 1.5 * min(1.0, period / 100)
        loss = min(loss, (period / 3) / (1 + period / 3))
        loss_delay = math.atan2(loss * math.sin(omega), 1 - loss * math.cos(omega)) / omega
        loss_gain = (1 - loss) / math.sqrt(1 - 2 * loss * math.cos(omega) + loss * loss)
        # A whole number of samples, and a first-order allpass for the rest (0.5 to 1.5), exact at the fundamental.
        rest = period - loss_delay
        delay = int(rest - 0.5)
        rest -= delay
        row["delay"], row["loss"] = delay, loss
        row["allpass"] = math.sin((1 - rest) * omega / 2) / math.sin((1 + rest) * omega / 2)
        wanted = 0.001 ** (1 / (hz * knobs["decay_s"]))
        row["loop_gain"] = min(wanted / loss_gain, 1 - 1e-6)
        decay_s = math.log(0.001) / (hz * math.log(row["loop_gain"] * loss_gain))
        row["last_age"] = int(min(decay_s * 5 / 3, 120) * state.sample_rate)  # -100 dB
        row["gain"] = event.velocity**2
        row["env"] = 1.0
        hard = knobs["brightness"] * (1 - knobs["velocity_brightness"] * (1 - event.velocity))
        # The pluck falls by 6 dB an octave from harmonic 1 (felt) or 17 (steel), at every pitch the same.
        softness = math.exp(-2 * math.pi * (1 + 16 * hard * hard) / period)
        _excite(state.memory[slot, :delay], row["key"], knobs["pick_position"], softness, knobs["noise"])

    def _render(self, state: Voices, rows: NDArray[Any], memory: NDArray[np.float64], out: NDArray[np.float64]) -> None:
        _render(rows, memory, state.derived, out[0])


@njit(cache=True)
def _excite(line, key, pick_position, softness, noise):  # type: ignore[no-untyped-def]
    """Fill the string with one period of the pluck: a click and noise, softened, less itself from the other side.

    The difference puts a notch on every harmonic with a node where the string is plucked, and takes out the DC.
    """
    n = len(line)
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


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _render(rows, memory, params, out):  # type: ignore[no-untyped-def]
    """Add all active strings to `out` [n]: out of the line, loss, allpass, back into the line."""
    p = params[0]
    n = len(out)
    for i in range(len(rows)):
        v = rows[i]
        line = memory[i]
        at = 0
        while at < n and v.active == 1:
            m = min(TICK - v.age % TICK, n - at)
            position, delay = v.position, v.delay
            low, x1, y1, env, gain = v.low, v.x1, v.y1, v.env, v.gain
            loss, loop_gain, allpass = v.loss, v.loop_gain, v.allpass
            fade = 1.0 if v.held == 1 else p.release_factor
            strength = loop_gain * (1.0 - loss)
            for j in range(m):
                low = strength * line[position] + loss * low
                y1 = allpass * (low - y1) + x1
                x1 = low
                line[position] = y1
                position += 1
                if position == delay:
                    position = 0
                env *= fade
                out[at + j] += gain * env * y1
            v.position, v.low, v.x1, v.y1, v.env = position, low, x1, y1, env
            v.age += m
            at += m
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
