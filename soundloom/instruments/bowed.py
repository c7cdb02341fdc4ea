"""A bowed string: a bow that drags it along and lets it slip once a period, waves to bridge and nut, and a body.

Friction lets go ever more the faster the string slips, as in Smith's bow table ("Efficient simulation of the
reed-bore and bow-string mechanisms", 1986). A string may also slip twice a period or screech: a good player does not
start so, and the bow here gives the string its first slips in time.
"""

import functools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from soundloom.instruments.base import Event, Param
from soundloom.instruments.modulation import envelope_tick
from soundloom.instruments.oscillators import TICK
from soundloom.instruments.ticks import glided, hand_out, tick_factor
from soundloom.instruments.voices import SILENT, AbstractPolyphonic, Voices, record, white
from soundloom.instruments.waveguide import (
    DESK,
    DRIVE,
    LOWEST_HZ,
    ROW,
    SHORTEST,
    WAVE,
    level_out,
    line_samples,
    listen,
    remembered,
    table_places,
    travel,
    tuned,
    vibrato,
)

NUT, BRIDGE = 0.995, 0.985  # what is left of a wave at the string's ends
FIRM = 2.0  # how far the first slips go against the bow
# A violin's body: hertz, quality, level. The air in it, three modes of the whole, and the hill of its bridge.
BODY = ((275.0, 12.0, 0.8), (450.0, 14.0, 1.0), (550.0, 14.0, 1.0), (900.0, 6.0, 0.5), (2600.0, 1.6, 1.3))


class Bowed(AbstractPolyphonic):
    """Violins, violas, cellos and basses: one string each. In tune, and it always speaks.

    >>> cello = Bowed({"brightness": 0.3, "vibrato_cents": 20.0})
    >>> state = cello.init_state(44100)
    >>> block, state = cello.process(state, [Event(0, "on", note=1, pitch=43)], 512)
    >>> block.shape
    (1, 512)

    Pitches below 20 Hz and above a sixteenth of the sample rate stay silent.
    """

    params = (
        Param("position", "", 0.11, 0.2, 0.13, help="where the bow is: 0.11 near the bridge, 0.2 over the fingerboard"),
        Param("pressure", "", 0, 1, 0.4, help="how hard it presses"),
        Param("brightness", "", 0, 1, 0.5, help="how little the string and its ends swallow of the highs"),
        Param("velocity_brightness", "", 0, 1, 0.5, help="how much duller a soft touch is"),
        Param("rosin", "", 0, 1, 0.2, help="how much of the hair is heard"),
        Param("body", "", 0, 1, 0.6, help="how much of a violin's body sounds with it"),
        Param("vibrato_hz", "Hz", 0.05, 12, 5.5, "log", "how fast the pitch swings"),
        Param("vibrato_cents", "cents", 0, 100, 12, help="how far the pitch swings, after a while"),
        Param("attack_s", "s", 0.002, 5, 0.05, "log", "how long the bow takes to its full speed"),
        Param("release_s", "s", 0.01, 5, 0.3, "log", "how fast it ends after the key, to -60 dB"),
        Param("gain_db", "dB", -60, 6, -6, help="the level"),
    )
    row = np.dtype(ROW)

    def _derive(self, values: Mapping[str, float], sample_rate: int) -> NDArray[Any]:
        # Near the bridge a little force is enough, and soon too much (Schelleng, "The bowed string and the player",
        # 1973).
        away = values["position"] / 0.14
        least, most = min(0.06 * max(away, 1) ** 8, 0.4), min(0.3 * away**2, 0.5)
        derived = dict(values)
        derived |= {
            "rise": TICK / (values["attack_s"] * sample_rate),
            "release_factor": tick_factor(values["release_s"], sample_rate),
            "lift_factor": tick_factor(0.03, sample_rate),  # the bow leaves the string: what rings, rings on
            "gain": 10 ** (values["gain_db"] / 20),
            "smoothing": 1 - math.exp(-TICK / (0.005 * sample_rate)),  # knobs and bend glide in 5 ms
            "sharp": least * (most / least) ** values["pressure"],
        }
        return record(derived, _tables(sample_rate))

    def _init_after(self, derived: NDArray[Any]) -> NDArray[np.float64]:
        return np.zeros(2 * len(BODY))

    def _finish(self, state: Voices, block: NDArray[np.float64]) -> None:
        _resonate(block[0], state.after, state.derived)

    def _memory_samples(self, sample_rate: int) -> int:
        return TICK // 2 + line_samples(sample_rate)  # of numbers half as long: see `_render`

    def _start(self, state: Voices, slot: int, event: Event) -> None:
        row, knobs, rate = state.rows[slot], state.values, state.sample_rate
        pitch = event.pitch + state.bend
        hz = 440.0 * 2 ** ((pitch - 69) / 12)
        if not LOWEST_HZ <= hz <= rate / SHORTEST:
            row["active"] = 0
            return
        row["pitch"], row["bent"], row["velocity"] = event.pitch, state.bend, event.velocity
        row["fade"] = row["start"] = row["touch"] = 1.0
        row["keep_near"], row["keep_far"], row["sharp"] = NUT, BRIDGE, state.derived[0]["sharp"]
        bright = knobs["brightness"] * (1 - knobs["velocity_brightness"] * (1 - event.velocity))
        cutoff_hz = max(1800 * 7**bright, (3.5 + 1.5 * bright) * hz)
        row["end"] = 1 - math.exp(-2 * math.pi * min(cutoff_hz / rate, 0.45))
        row["share"] = knobs["position"]
        row["near"] = max(2, round(row["share"] * (rate / hz - 1)))
        row["width"] = max(row["share"], 1.5 * hz / rate)
        row["at"] = remembered(rate / hz, line_samples(rate))
        row["far"] = tuned(row, pitch, 0.0, float(rate))
        row["gain"] = state.derived[0]["gain"] * event.velocity

    def _render(self, state: Voices, rows: NDArray[Any], memory: NDArray[np.float64], out: NDArray[np.float64]) -> None:
        _render(rows, memory.view(np.float32), state.derived, state.bend, float(state.sample_rate), out[0])


@functools.cache
def _tables(sample_rate: int) -> dict[str, NDArray[Any]]:
    """What the bow adds, as a part of its speed against the string: all of it while it sticks, less the faster it
    slips; and the resonances of the body."""
    return {
        "table": np.minimum(1.0, (np.abs(table_places()) + 0.75) ** -4.0).astype(np.float32),
        "g": np.array([math.tan(math.pi * min(hz / sample_rate, 0.45)) for hz, _, _ in BODY]),
        "damping": np.array([1 / quality for _, quality, _ in BODY]),
        "levels": np.array([level / quality for _, quality, level in BODY]),
    }


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _draw(v, rosin, drive, desk):  # type: ignore[no-untyped-def]
    """A tick of the bow's speed onto the `desk`, its roughness, and at the start of a note slips in time with it."""
    level, step = np.float32(v.drive), np.float32((drive - v.drive) / TICK)
    push, width = np.float32(FIRM * v.start / v.width), np.float32(v.width)
    phase, turn = np.float32(v.phase), np.float32(1.0 / v.period)
    for j in range(TICK):
        desk[j] = 1.0 + 0.15 * rosin * white(v.key, v.age + j)
    for j in range(TICK):
        turns = phase + np.float32(j) * turn
        slip = push if turns - np.floor(turns) < width else np.float32(0)
        desk[DRIVE + j] = (level + np.float32(j) * step) * (desk[j] - slip)
    v.drive = drive


@njit(cache=True, error_model="numpy")
def _play(v, p, bend, sample_rate):  # type: ignore[no-untyped-def]
    """What the player does until the end of the next tick: (how much the bow touches, samples to the far end)."""
    v.env, v.stage = envelope_tick(v.env, v.stage, v.held, p.rise, 1.0, 1.0, p.release_factor)
    touch = 1.0
    if v.held == 0:
        v.fade *= p.release_factor
        touch = v.touch * p.lift_factor
    v.bent = glided(v.bent, bend, p.smoothing)
    v.sharp += (p.sharp - v.sharp) * p.smoothing
    return touch, tuned(v, v.pitch + v.bent, vibrato(v, p, sample_rate), sample_rate)


@njit(cache=True, error_model="numpy")
def _render(rows, memory, params, bend, sample_rate, out):  # type: ignore[no-untyped-def]
    """Add all active voices to `out` [n]: a tick is made when its first sample is asked for."""
    p = params[0]
    n = len(out)
    size = (memory.shape[1] - TICK) // 2
    desk = np.zeros(DESK, np.float32)
    for i in range(len(rows)):
        v = rows[i]
        line = memory[i, :TICK]
        near, far = memory[i, TICK : TICK + size], memory[i, TICK + size :]
        at = 0
        while at < n and v.active == 1:
            if v.age % TICK == 0:
                faded = v.fade
                touch, far_end = _play(v, p, bend, sample_rate)
                _draw(v, p.rosin, v.env, desk)
                travel(v, p.table, near, far, desk, far_end, touch)
                tracking = 0.5 / v.period  # well below the pitch: the bow moves the whole string as well
                mean = v.mean
                for j in range(TICK):
                    mean += tracking * (desk[WAVE + j] - mean)
                    line[j] = (desk[WAVE + j] - mean) * v.width
                v.mean = mean
                listen(v, desk)
                level_out(v, line, v.gain + (p.gain * v.velocity - v.gain) * p.smoothing, faded)
                v.over = 1 if v.fade < SILENT else 0
            at = hand_out(v, line, at, out)


@njit(cache=True, error_model="numpy")
def _resonate(block, after, params):  # type: ignore[no-untyped-def]
    """The body: band-passes beside the string (state-variable, as in `filters`)."""
    p = params[0]
    for j in range(len(block)):
        x = block[j] + 1e-18  # keeps what rings on out of denormal numbers
        y = (1.0 - 0.7 * p.body) * x
        for k in range(len(p.g)):
            one, two = after[2 * k], after[2 * k + 1]
            band = (one + p.g[k] * (x - two)) / (1.0 + p.g[k] * (p.g[k] + p.damping[k]))
            low = two + p.g[k] * band
            after[2 * k], after[2 * k + 1] = 2.0 * band - one, 2.0 * low - two
            y += 2.0 * p.body * p.levels[k] * band
        block[j] = y
