"""A blown tube: breath, a reed that opens and shuts, and waves that run to the bell and back.

A digital waveguide with a nonlinear junction (McIntyre, Schumacher and Woodhouse, "On the oscillations of musical
instruments", 1983). The reed sits anywhere along a tube that is open at both ends: in its middle, odd harmonics sound,
as in a clarinet; off it, all do, as in a saxophone, whose cone acts like such a tube (Ollivier, Dalmont and Kergomard,
"Idealized models of reed woodwinds", 2004).
"""

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
from soundloom.instruments.voices import FIELDS, SILENT, AbstractPolyphonic, Voices, white

LOWEST_HZ = 20.0
SHORTEST = 16  # samples of a period; the other half of a wave's way needs room between samples
MARGIN = 0.09  # how much the softest breath gives back of a wave
LOSS = 0.98  # what is left of a wave at either end
POINTS, LOW, HIGH = 1024, -4.0, 4.0  # of the reed's table
LOUDEST, ACCENT = 0.85, 0.62  # breath against what shuts the reed: at most, and at the tongue
# Where a tick's steps are on the desk; its first TICK places are for what is soon used up.
WAVE, BELL, BREATH, HERE, THERE = (TICK * place for place in range(1, 6))
FARTHEST = 0.04  # how far a player's lip corrects the pitch, as a part of the period


class Tube(AbstractPolyphonic):
    """Clarinets, saxophones, and pipes that never were.

    The player listens: a slow control keeps the pitch on the key whatever breath, reed and bell do to it.

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
    row = np.dtype(
        [
            *FIELDS,
            *[(name, "i8") for name in ("stage", "over", "near")],  # near: samples to the closer end and back
            *[(name, "f8") for name in ("pitch", "bent", "velocity", "env", "fade", "accent", "drive", "gain")],
            *[(name, "f8") for name in ("far", "low", "bell", "phase", "lip", "re", "im", "re2", "im2")],
            *[(name, "f8") for name in ("sounding", "period", "delay")],  # of the pitch with bend and vibrato
        ]
    )

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
        dtype = [(name, "f8") for name in derived] + [("table", "f8", POINTS)]
        return np.array([(*derived.values(), _reed(width))], dtype=dtype)

    def _init_after(self, derived: NDArray[Any]) -> NDArray[np.float64]:
        return np.zeros(1)

    def _finish(self, state: Voices, block: NDArray[np.float64]) -> None:
        _block_dc(block[0], state.after, state.derived[0]["dc"])

    def _memory_samples(self, sample_rate: int) -> int:
        return TICK + 4 * _line_samples(sample_rate)

    def _start(self, state: Voices, slot: int, event: Event) -> None:
        row, knobs = state.rows[slot], state.values
        rate = state.sample_rate
        hz = 440.0 * 2 ** ((event.pitch + state.bend - 69) / 12)
        if not LOWEST_HZ <= hz <= rate / SHORTEST or event.velocity <= 0:
            row["active"] = 0
            return
        row["pitch"], row["bent"], row["velocity"], row["fade"] = event.pitch, state.bend, event.velocity, 1.0
        # Three harmonics at least come back from the bell: fewer do not hold a note.
        cutoff_hz = max(700 * 8 ** knobs["brightness"], 3 * hz)
        row["bell"] = 1 - math.exp(-2 * math.pi * min(cutoff_hz / rate, 0.45))
        row["near"] = max(2, round((0.5 - 0.14 * knobs["bore"]) * (rate / hz - 1)))
        row["period"], row["sounding"] = rate / hz, event.pitch + state.bend
        row["delay"] = _delay(float(row["bell"]), rate / hz)
        row["far"] = _far(row, 2 * _line_samples(rate))
        row["accent"] = 1.0
        row["gain"] = state.derived[0]["gain"] * event.velocity

    def _render(self, state: Voices, rows: NDArray[Any], memory: NDArray[np.float64], out: NDArray[np.float64]) -> None:
        _render(rows, memory, state.derived, state.bend, float(state.sample_rate), out[0])


def _line_samples(sample_rate: int) -> int:
    return 1 << math.ceil(math.log2(sample_rate / LOWEST_HZ))


def _reed(width: float) -> NDArray[np.float64]:
    """What the junction adds to the waves that arrive, as a part of the pressure across it before: [POINTS].

    With d the pressure that is left across the reed, as a part of what shuts it, the flow is (1 - d) sqrt d: Bernoulli
    through a slit that narrows. It raises the pressure in the tube, so d + width * flow(d) = x, solved here for all x.
    """
    d = np.concatenate([-(np.linspace(2.2, 0, 4000, endpoint=False) ** 2), np.linspace(0, 2.2, 8000) ** 2])
    flow = np.where(d < 0, -np.sqrt(np.abs(d)), np.maximum(1 - d, 0) * np.sqrt(np.abs(d)))
    x = np.linspace(LOW, HIGH, POINTS)
    added: NDArray[np.float64] = np.interp(x, d + width * flow, width * flow)
    return added / x  # POINTS is even: x is never 0


@njit(cache=True)
def _delay(bell, period):  # type: ignore[no-untyped-def]
    """How long the bell's filter holds up a tone, in samples."""
    omega = 2 * math.pi / period
    return math.atan2((1 - bell) * math.sin(omega), 1 - (1 - bell) * math.cos(omega)) / omega


@njit(cache=True)
def _far(v, room):  # type: ignore[no-untyped-def]
    """Samples to the far end and back: what is left of the period."""
    return min(max(v.period * (1.0 + v.lip) - v.delay - v.near, 3.0), 0.5 * room - 4.0)


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _blow(v, p, near, far, line, drive, drive_step, far_step, desk):  # type: ignore[no-untyped-def]
    """A tick of a tube, into `line`; the waves that reach the bell are left on the `desk`.

    A wave that comes back from an end is turned over. Both ends' waves and what the reed adds are the pressure at the
    reed, and run on past it. The far end is read between samples, by Lagrange's polynomial through four of them. No
    wave is back before it was sent off, so several samples go side by side through all but the bell's filter. The
    lines hold every sample twice, half their length apart, so that what is read is in one piece.
    """
    size = len(near) >> 1
    mask = size - 1
    scale = (POINTS - 1) / (HIGH - LOW)
    phase, turn = np.float32(v.phase), np.float32(1.0 / v.period)
    for j in range(TICK):
        desk[BREATH + j] = 1.0 + 0.6 * p.breath * white(v.key, v.age + j)
        desk[j] = sine(phase + np.float32(j) * turn)
    for j in range(TICK):
        desk[BREATH + j] = (drive + j * drive_step) * (desk[BREATH + j] + v.accent * desk[j])
    low, bell = v.low, v.bell
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
            desk[j] *= bell
        for j in range(m):
            low = (1.0 - bell) * low + desk[j]
            desk[BELL + done + j] = low
        back = near[(t - v.near) & mask :]
        for j in range(m):
            x = desk[BREATH + done + j] + LOSS * back[j] + LOSS * desk[BELL + done + j]
            desk[j] = min(max((x - LOW) * scale, 0.0), POINTS - 1.001)
        for j in range(m):
            index = np.uint64(desk[j])
            desk[HERE + j], desk[THERE + j] = p.table[index], p.table[index + np.uint64(1)]
        for j in range(m):
            x, part = desk[j] / scale + LOW, desk[j] - math.floor(desk[j])
            added = x * (desk[HERE + j] + (desk[THERE + j] - desk[HERE + j]) * part) + 1e-18
            desk[HERE + j] = added - LOSS * desk[BELL + done + j]
            desk[THERE + j] = added - LOSS * back[j]
        at = t & mask
        for j in range(m):
            near[at + j], far[at + j] = desk[HERE + j], desk[THERE + j]
        at = (at + size) % (2 * size)
        for j in range(m):
            near[at + j], far[at + j] = desk[HERE + j], desk[THERE + j]
        done += m
    v.low = low
    for j in range(TICK):
        line[j] = desk[WAVE + j] - 0.75 * desk[BELL + j]  # what the bell lets out, and some of what it throws back


@njit(cache=True, error_model="numpy")
def _listen(v, desk, period):  # type: ignore[no-untyped-def]
    """Correct the pitch as a player's lip does: by how fast the tone turns against the one that is wanted."""
    phase, turn = np.float32(v.phase), np.float32(1.0 / period)
    for j in range(TICK):
        at = phase + np.float32(j) * turn
        desk[HERE + j] = desk[WAVE + j] * sine(at + np.float32(0.25))
        desk[THERE + j] = -desk[WAVE + j] * sine(at)
    for half in (TICK // 2, TICK // 4):
        for j in range(half):
            desk[HERE + j] += desk[HERE + half + j]
            desk[THERE + j] += desk[THERE + half + j]
    heard_re, heard_im = 0.0, 0.0
    for j in range(TICK // 4):
        heard_re += desk[HERE + j] / TICK
        heard_im += desk[THERE + j] / TICK
    v.phase = (v.phase + TICK / period) % 1.0
    smooth = TICK / (2.0 * period + TICK)  # over two periods, twice
    v.re += smooth * (heard_re - v.re)
    v.im += smooth * (heard_im - v.im)
    before_re, before_im = v.re2, v.im2
    v.re2 += smooth * (v.re - v.re2)
    v.im2 += smooth * (v.im - v.im2)
    loud = v.re2 * v.re2 + v.im2 * v.im2
    if loud > 1e-3 and v.held == 1:
        turned = (v.im2 * before_re - v.re2 * before_im) / loud
        # Off by turned / (2 pi TICK / period) of the pitch; corrected within some eight periods.
        v.lip = min(max(v.lip + turned / (16.0 * math.pi), -FARTHEST), FARTHEST)


@njit(cache=True, error_model="numpy")
def _tick(v, p, line, near, far, desk, bend, sample_rate):  # type: ignore[no-untyped-def]
    """The next tick of a voice."""
    v.env, v.stage = envelope_tick(v.env, v.stage, v.held, p.rise, 1.0, 1.0, p.release_factor)
    faded = v.fade
    if v.held == 0:
        v.fade *= p.release_factor
    v.bent = glided(v.bent, bend, p.smoothing)
    swing = 0.0
    if p.vibrato_cents > 0:
        seconds = v.age / sample_rate
        swing = 0.01 * p.vibrato_cents * math.sin(2 * math.pi * p.vibrato_hz * seconds) * min(seconds / 0.4, 1.0)
    pitch = v.pitch + v.bent + swing
    if pitch != v.sounding:
        v.sounding = pitch
        v.period = sample_rate / (440.0 * 2.0 ** ((pitch - 69.0) / 12.0))
        v.delay = _delay(v.bell, v.period)
    far_end = _far(v, len(far))
    # The tongue: a firm start, and the note itself within the breath, over in some eight periods: so that soft notes
    # speak too, and none as its own octave.
    strength = p.pressure * (1.0 - p.velocity_pressure * (1.0 - v.velocity))
    breath = p.softest + (LOUDEST - p.softest) * strength
    v.accent *= 8.0 * v.period / (8.0 * v.period + TICK)
    drive = v.env * (breath + max(ACCENT - breath, 0.0) * v.accent)
    gain = v.gain + (p.gain * v.velocity - v.gain) * p.smoothing

    _blow(v, p, near, far, line, v.drive, (drive - v.drive) / TICK, (far_end - v.far) / TICK, desk)
    _listen(v, desk, v.period)
    for j in range(TICK):
        part = (j + 1.0) / TICK
        line[j] *= (v.gain + (gain - v.gain) * part) * (faded + (v.fade - faded) * part)
    v.far, v.drive, v.gain = far_end, drive, gain
    if v.fade < SILENT:
        v.over = 1


@njit(cache=True, error_model="numpy")
def _render(rows, memory, params, bend, sample_rate, out):  # type: ignore[no-untyped-def]
    """Add all active voices to `out` [n]: a tick is made when its first sample is asked for."""
    p = params[0]
    n = len(out)
    size = (memory.shape[1] - TICK) // 2
    desk = np.empty(6 * TICK)
    for i in range(len(rows)):
        v = rows[i]
        line = memory[i, :TICK]
        near, far = memory[i, TICK : TICK + size], memory[i, TICK + size :]
        at = 0
        while at < n and v.active == 1:
            if v.age % TICK == 0:
                _tick(v, p, line, near, far, desk, bend, sample_rate)
            at = hand_out(v, line, at, out)


@njit(cache=True)
def _block_dc(block, after, tracking):  # type: ignore[no-untyped-def]
    """Breath has a steady part, which is not sound."""
    mean = after[0]
    for j in range(len(block)):
        mean += tracking * (block[j] - mean) + 1e-18
        block[j] -= mean
    after[0] = mean
