"""A blown tube: breath, a reed that opens and shuts, and waves that run to the bell and back.

The reed sits anywhere along a tube that is open at both ends: in its middle, odd harmonics sound, as in a clarinet;
off it, all do, as in a saxophone, whose cone acts like such a tube (Ollivier, Dalmont and Kergomard, "Idealized models
of reed woodwinds", 2004).
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
from soundloom.instruments.ticks import glided, hand_out, sine, tick_factor
from soundloom.instruments.voices import SILENT, AbstractPolyphonic, Voices, record, white
from soundloom.instruments.waveguide import (
    DESK,
    DRIVE,
    END,
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

MARGIN = 0.09  # how much the softest breath gives back of a wave
LOSS = 0.98  # what is left of a wave at either end
LOUDEST, ACCENT = 0.85, 0.62  # breath against what shuts the reed: at most, and at the tongue


class Tube(AbstractPolyphonic):
    """Clarinets, saxophones, and pipes that never were. In tune however it is blown.

    >>> clarinet = Tube({"bore": 0.0, "pressure": 0.4})
    >>> state = clarinet.init_state(44100)
    >>> block, state = clarinet.process(state, [Event(0, "on", note=1, pitch=62)], 512)
    >>> block.shape
    (1, 512)

    Pitches below 20 Hz and above a sixteenth of the sample rate stay silent.
    """

    params = (
        Param("bore", "", 0, 1, 0, help="0 a cylinder, hollow as a clarinet, 1 a cone, full as a saxophone"),
        Param("pressure", "", 0, 1, 0.5, help="how hard it is blown"),
        Param("velocity_pressure", "", 0, 1, 0.8, help="how much less it is blown at a soft touch"),
        Param("reed", "", 0, 1, 0.5, help="how much air the reed lets through: more is brighter and speaks sooner"),
        Param("brightness", "", 0, 1, 0.45, help="how high the bell still throws waves back"),
        Param("breath", "", 0, 1, 0.15, help="how much of the breath is heard"),
        Param("vibrato_hz", "Hz", 0.05, 12, 5, "log", "how fast the pitch swings"),
        Param("vibrato_cents", "cents", 0, 100, 0, help="how far the pitch swings, after a while"),
        Param("attack_s", "s", 0.002, 5, 0.02, "log", "how long the breath takes to rise"),
        Param("release_s", "s", 0.01, 5, 0.12, "log", "how fast it ends after the key, to -60 dB"),
        Param("gain_db", "dB", -60, 6, -6, help="the level"),
    )
    row = np.dtype(ROW)

    def _derive(self, values: Mapping[str, float], sample_rate: int) -> NDArray[Any]:
        derived = dict(values)
        derived |= {
            "rise": TICK / (values["attack_s"] * sample_rate),
            "release_factor": tick_factor(values["release_s"], sample_rate),
            "gain": 2.6 * 10 ** (values["gain_db"] / 20),
            "smoothing": 1 - math.exp(-TICK / (0.005 * sample_rate)),  # knobs and bend glide in 5 ms
            "dc": 2 * math.pi * 30 / sample_rate,  # below 30 Hz
        }
        width = 0.3 + 0.5 * values["reed"]
        # The softest breath makes up for the losses: small waves grow by width (3 d - 1) / (2 sqrt d) of themselves.
        root = MARGIN / width
        derived["softest"] = ((root + math.sqrt(root * root + 3)) / 3) ** 2
        return record(derived, {"table": _reed(width)})

    def _init_after(self, derived: NDArray[Any]) -> NDArray[np.float64]:
        return np.zeros(1)

    def _finish(self, state: Voices, block: NDArray[np.float64]) -> None:
        _block_dc(block[0], state.after, state.derived[0]["dc"])

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
        row["fade"] = row["start"] = row["touch"] = row["sharp"] = 1.0
        row["keep_near"] = row["keep_far"] = LOSS
        # Three harmonics at least come back from the bell: fewer do not hold a note.
        cutoff_hz = max(700 * 8 ** knobs["brightness"], 3 * hz)
        row["end"] = 1 - math.exp(-2 * math.pi * min(cutoff_hz / rate, 0.45))
        row["share"] = 0.5 - 0.14 * knobs["bore"]
        row["near"] = max(2, round(row["share"] * (rate / hz - 1)))
        row["at"] = remembered(rate / hz, line_samples(rate))
        row["far"] = tuned(row, pitch, 0.0, float(rate))
        row["gain"] = state.derived[0]["gain"] * event.velocity

    def _render(self, state: Voices, rows: NDArray[Any], memory: NDArray[np.float64], out: NDArray[np.float64]) -> None:
        _render(rows, memory.view(np.float32), state.derived, state.bend, float(state.sample_rate), out[0])


@functools.lru_cache(maxsize=256)
def _reed(width: float) -> NDArray[np.float32]:
    """What the junction adds to the waves that arrive, as a part of the pressure across it before: [POINTS].

    With d the pressure that is left across the reed, as a part of what shuts it, the flow is (1 - d) sqrt d: Bernoulli
    through a slit that narrows. It raises the pressure in the tube, so d + width * flow(d) = x, solved here for all x.
    """
    d = np.concatenate([-(np.linspace(3, 0, 6000, endpoint=False) ** 2), np.linspace(0, 3, 12000) ** 2])
    flow = np.where(d < 0, -np.sqrt(np.abs(d)), np.maximum(1 - d, 0) * np.sqrt(np.abs(d)))
    x = table_places()
    added: NDArray[np.float32] = (np.interp(x, d + width * flow, width * flow) / x).astype(np.float32)
    return added


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _breathe(v, breath, drive, desk):  # type: ignore[no-untyped-def]
    """A tick of breath onto the `desk`: its pressure, its noise, and at the start of a note the note itself."""
    phase, turn = np.float32(v.phase), np.float32(1.0 / v.period)
    level, step, start = np.float32(v.drive), np.float32((drive - v.drive) / TICK), np.float32(v.start)
    for j in range(TICK):
        desk[j] = 1.0 + 0.6 * breath * white(v.key, v.age + j)
    for j in range(TICK):
        note = sine(phase + np.float32(j) * turn)
        desk[DRIVE + j] = (level + np.float32(j) * step) * (desk[j] + start * note)
    v.drive = drive


@njit(cache=True, error_model="numpy")
def _play(v, p, bend, sample_rate):  # type: ignore[no-untyped-def]
    """What the player does until the end of the next tick: (pressure of the breath, samples to the far end)."""
    v.env, v.stage = envelope_tick(v.env, v.stage, v.held, p.rise, 1.0, 1.0, p.release_factor)
    if v.held == 0:
        v.fade *= p.release_factor
    v.bent = glided(v.bent, bend, p.smoothing)
    far_end = tuned(v, v.pitch + v.bent, vibrato(v, p, sample_rate), sample_rate)
    # The tongue: a firm start, and the note itself within the breath, over in some eight periods: so that soft notes
    # speak too, and none as its own octave.
    strength = p.pressure * (1.0 - p.velocity_pressure * (1.0 - v.velocity))
    pressure = p.softest + (LOUDEST - p.softest) * strength
    return v.env * (pressure + max(ACCENT - pressure, 0.0) * v.start), far_end


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
                drive, far_end = _play(v, p, bend, sample_rate)
                _breathe(v, p.breath, drive, desk)
                travel(v, p.table, near, far, desk, far_end, 1.0)
                for j in range(TICK):  # what the bell lets out, and some of what it throws back
                    line[j] = desk[WAVE + j] - np.float32(0.75) * desk[END + j]
                listen(v, desk)
                level_out(v, line, v.gain + (p.gain * v.velocity - v.gain) * p.smoothing, faded)
                v.over = 1 if v.fade < SILENT else 0
            at = hand_out(v, line, at, out)


@njit(cache=True)
def _block_dc(block, after, tracking):  # type: ignore[no-untyped-def]
    """Breath has a steady part, which is not sound."""
    mean = after[0]
    for j in range(len(block)):
        mean += tracking * (block[j] - mean) + 1e-18
        block[j] -= mean
    after[0] = mean
