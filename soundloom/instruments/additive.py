"""An additive synthesiser: up to 128 sines a voice, their levels, pitches and decays shaped by a few knobs.

Organs (nine drawbars, each a rank of its own), bells and bars (stretched partials), choirs (a formant that stays where
it is over the keyboard), glassy pads (partials that wander). No partial above half the sample rate sounds.
"""

import functools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from soundloom.instruments.base import Event, Param
from soundloom.instruments.modulation import DECAY, envelope_tick
from soundloom.instruments.oscillators import PHASE_ONE, TICK, increment
from soundloom.instruments.ticks import glided, hand_out, sine, tick_factor
from soundloom.instruments.voices import FIELDS, SILENT, AbstractPolyphonic, Voices, record, white

MOST = 128  # harmonics
SLOTS = MOST + MOST // 2  # harmonics 1, 2, ... of the key, then 1/2, 3/2, ...: what the ranks of 16' and 5 1/3' have
# The ranks: the length of the pipe of C2 in feet, and which half-harmonic of the key it plays.
RANKS = {
    "foot_16": 1, "foot_5_13": 3, "foot_8": 2, "foot_4": 4, "foot_2_23": 6, "foot_2": 8, "foot_1_35": 10,
    "foot_1_13": 12, "foot_1": 16,
}  # fmt: skip
LOUDNESS = 0.5  # the RMS of a voice
STIFFEST = 0.02  # the inharmonicity B at the knob's end
FADE = 0.45, 0.49  # of the sample rate: partials from the first to the second fade out, so that none pops up in a bend
# A voice's memory, SLOTS numbers of each: phase in turns, level and how much it grows a sample, turns a sample and
# what they grow; the level at the tick's end, what it is but for wandering and decay, where that goes, and what it is
# for this touch before formant and pitch; what a tick's decay keeps, and what it has left; how far it has wandered and
# how fast it does.
PHASE, NOW, STEP, INC, SLOPE, LEVEL, SHAPE, TARGET, OWN, KEPT, LEFT, PLACE, SPEED, LINE = range(0, 14 * SLOTS, SLOTS)
# The signs of Rudin and Shapiro: the parity of neighbouring ones in the binary number. They keep the peak of a sum low.
SIGNS = np.array([1 - 2 * (bin(k & k >> 1).count("1") % 2) for k in [*range(1, MOST + 1), *range(1, SLOTS - MOST + 1)]])
QUIET = np.float32(1e-9)  # below this a level is nothing


class Additive(AbstractPolyphonic):
    """Sines in a series, shaped as a whole.

    >>> organ = Additive({"partials": 1, "foot_16": 8, "foot_5_13": 6, "release_s": 0.05})
    >>> state = organ.init_state(44100)
    >>> block, state = organ.process(state, [Event(0, "on", note=1, pitch=57)], 512)
    >>> block.shape
    (1, 512)

    A voice is as loud as its loudest rank is drawn, however it is shaped.
    """

    params = (
        Param("partials", "", 1, MOST, 64, "log", "how many partials each rank has: 1 is a pure tone"),
        Param("tilt_db", "dB/octave", -30, 3, -9, help="how fast partials get weaker upwards: -6 is a saw"),
        Param("velocity_tilt_db", "dB/octave", 0, 12, 3, help="how much steeper that is for the softest touch"),
        Param("balance", "", -1, 1, 0, help="-1 odd partials only, hollow; 1 the fundamental and even ones only"),
        Param("inharmonicity", "", 0, 1, 0, help="how far partials are stretched, as on stiff strings and bars"),
        Param("formant_hz", "Hz", 80, 8000, 900, "log", "where a resonance lies"),
        Param("formant_db", "dB", 0, 40, 0, help="how strong it is"),
        Param("formant_octaves", "octaves", 0.1, 4, 0.8, help="how wide it is"),
        Param("overtone_decay_s", "s", 0.05, 600, 600, "log", "how long partial 10 takes to fall by 60 dB of itself"),
        Param("key_decay", "", 0, 1, 0, help="how fast all decays get shorter above C3: at 1 by half an octave"),
        Param("shimmer", "", 0, 1, 0, help="how far the levels of partials wander"),
        Param("shimmer_cents", "cents", 0, 50, 0, help="how far their pitches wander"),
        Param("shimmer_hz", "Hz", 0.05, 10, 0.7, "log", "how fast they wander"),
        Param("breath", "", 0, 1, 0, help="how much noise blows around the pitch"),
        *(
            Param(name, "", 0, 8, 8 if name == "foot_8" else 0, help=f"the drawbar of {feet}, in steps of 3 dB, 0 off")
            for name, feet in zip(
                RANKS, ("16'", "5 1/3'", "8'", "4'", "2 2/3'", "2'", "1 3/5'", "1 1/3'", "1'"), strict=True
            )
        ),
        Param("vibrato_hz", "Hz", 0.05, 12, 5, "log", "how fast the pitch swings"),
        Param("vibrato_cents", "cents", 0, 100, 0, help="how far the pitch swings"),
        Param("attack_s", "s", 0.0005, 10, 0.005, "log", "the level's rise"),
        Param("decay_s", "s", 0.005, 30, 2, "log", "the level's fall by 60 dB towards the sustain"),
        Param("sustain", "", 0, 1, 0.8, help="the level that stays while the key is held"),
        Param("release_s", "s", 0.005, 10, 0.3, "log", "the level's fall by 60 dB after the key"),
        Param("gain_db", "dB", -60, 6, -6, help="the level"),
    )
    row = np.dtype(
        [
            *FIELDS,
            *[(name, "i8") for name in ("over", "free", "stage", "segment", "number")],
            ("used", "i8", 2),  # slots: of the harmonics, and of the halves
            *[(name, "f8") for name in ("pitch", "velocity", "bent", "top", "stamp", "reach", "inc", "slope")],
            *[(name, "f8") for name in ("env", "fall", "gain", "loud", "breath", "ic1", "ic2")],
            ("phase", "f8"),  # of the half-harmonic, in turns
        ]
    )

    def _derive(self, values: Mapping[str, float], sample_rate: int) -> NDArray[Any]:
        levels = tuple(_drawbar(values[name]) for name in RANKS)
        base = _levels(values["tilt_db"], values["partials"], values["balance"], levels)
        ratio, octave = _places(values["inharmonicity"])
        rate = np.maximum(ratio - 1, 0) / (9 * values["overtone_decay_s"])
        arrays = {
            "base": base,
            "ratio": ratio,
            "octave": octave,
            "fading": (math.log(0.001) * TICK / sample_rate * rate).astype(np.float32),  # of the log level, a tick
        }
        derived = dict(values) | {
            "drawn": max(levels),
            "used": _used(base[:MOST]),
            "used_halves": _used(base[MOST:]),
            "rise": TICK / (values["attack_s"] * sample_rate),
            "fall_log": math.log(tick_factor(values["decay_s"], sample_rate)),
            "release_fall": tick_factor(values["release_s"], sample_rate),
            "formant": 10 ** (values["formant_db"] / 20) - 1,
            "formant_q": 1 / (2 ** (values["formant_octaves"] / 2) - 2 ** (-values["formant_octaves"] / 2)),
            # 1 where partials are no multiples of one pitch.
            "free": float(values["inharmonicity"] > 0 or values["shimmer_cents"] > 0),
            "cents": values["shimmer_cents"] * math.log(2) / 1200,
            "segment": sample_rate / TICK / values["shimmer_hz"],
            "gain": 10 ** (values["gain_db"] / 20),
            "smoothing": -math.expm1(-TICK / (0.005 * sample_rate)),  # knobs glide in 5 ms
            "stamp": float(hash(tuple(values.values())) % (1 << 50)),  # tells voices that a knob has moved
        }
        return record(derived, arrays)

    def _memory_samples(self, sample_rate: int) -> int:
        return (LINE + TICK) // 2  # single precision

    def _start(self, state: Voices, slot: int, event: Event) -> None:
        row = state.rows[slot]
        row["pitch"], row["velocity"], row["bent"], row["stamp"] = event.pitch, event.velocity, state.bend, -1.0

    def _render(self, state: Voices, rows: NDArray[Any], memory: NDArray[np.float64], out: NDArray[np.float64]) -> None:
        _render(rows, memory.view(np.float32), state.derived, state.bend, float(state.sample_rate), out[0])


def _drawbar(drawn: float) -> float:
    """The level of a rank of pipes: 3 dB a step, as Hammond's."""
    return float(10 ** (-3 * (8 - max(drawn, 1)) / 20) * min(drawn, 1))


@functools.lru_cache(maxsize=256)
def _levels(tilt_db: float, partials: float, balance: float, ranks: tuple[float, ...]) -> NDArray[np.float32]:
    """By partial: harmonics of the key, then those half-way between. Each of the ranks adds its own series."""
    half = np.zeros(2 * MOST + 1)  # by half-harmonic of the key
    n = np.arange(1, MOST + 1)
    series = n ** (tilt_db / (20 * math.log10(2))) * np.clip(partials + 1 - n, 0, 1)
    series *= np.where(n == 1, 1, np.clip(np.where(n % 2 == 0, 1 + balance, 1 - balance), 0, 1))
    for rank, first in zip(ranks, RANKS.values(), strict=True):
        fitting = 2 * MOST // first
        half[first * n[:fitting]] += rank * series[:fitting]
    levels: NDArray[np.float32] = (SIGNS * np.concatenate([half[2::2], half[1::2][: SLOTS - MOST]])).astype(np.float32)
    return levels


@functools.lru_cache(maxsize=256)
def _places(inharmonicity: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """By partial: its pitch as a multiple of the key's, and how many octaves above it without stiffness."""
    n = np.arange(1, MOST + 1)
    number = np.concatenate([n, n[: SLOTS - MOST] - 0.5])
    b = STIFFEST * inharmonicity**2
    ratio = number * np.sqrt((1 + b * number**2) / (1 + b))
    return ratio.astype(np.float32), np.log2(number).astype(np.float32)


def _used(levels: NDArray[np.float32]) -> float:
    """How many partials there are up to the last that sounds."""
    heard = np.flatnonzero(levels)
    return float(heard[-1] + 1) if len(heard) else 0.0


@njit(cache=True, error_model="numpy")
def _shape(v, p, bank, knobs_moved, sample_rate):  # type: ignore[no-untyped-def]
    """Where the levels of a voice's partials go: by touch, formant, and what room there is at its highest pitch."""
    hz = 440.0 * 2.0 ** ((v.top - 69.0) / 12.0)
    v.used[0], v.used[1] = max(v.used[0], int(p.used)), max(v.used[1], int(p.used_halves))
    soft = (1.0 - v.velocity) * p.velocity_tilt_db
    stretch = 2.0 ** (p.key_decay * max(v.pitch - 48.0, 0.0) / 12.0)
    v.fall = math.exp(p.fall_log * stretch)
    power = 1e-12
    for first in range(0, SLOTS, MOST):
        for k in range(first, first + v.used[first // MOST]):
            if knobs_moved:
                bank[OWN + k] = p.base[k] * 10.0 ** (-soft * p.octave[k] / 20.0)
                bank[KEPT + k] = math.exp(p.fading[k] * stretch)
            frequency = hz * p.ratio[k]
            level = bank[OWN + k]
            if p.formant > 0:
                off = p.formant_q * (frequency / p.formant_hz - p.formant_hz / frequency)
                level *= 1.0 + p.formant / (1.0 + off * off)
            power += 0.5 * level * level
            room = (FADE[1] - frequency / sample_rate) / (FADE[1] - FADE[0])
            bank[TARGET + k] = level * min(max(room, 0.0), 1.0)
    scale = LOUDNESS * p.drawn / math.sqrt(power)
    for k in range(SLOTS):
        bank[TARGET + k] *= scale


@njit(cache=True)
def _fresh(v, bank):  # type: ignore[no-untyped-def]
    """The partials of a note that starts, placed by chance."""
    for k in range(SLOTS):
        bank[LEFT + k] = 1.0
        bank[PLACE + k] = white(v.key, k)
        bank[SHAPE + k] = bank[TARGET + k]
        bank[LEVEL + k] = bank[TARGET + k]


@njit(cache=True)
def _wander(v, bank, ticks):  # type: ignore[no-untyped-def]
    """New places for all partials to go to until the next time."""
    v.number += 1
    v.segment = int(ticks) + 1
    for k in range(SLOTS):
        bank[SPEED + k] = (white(v.key, SLOTS * v.number + k) - bank[PLACE + k]) / v.segment


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _move(bank, used, ratio, part, shimmer, cents, start, end):  # type: ignore[no-untyped-def]
    """All partials a tick on: `start` and `end` are the turns of the key's pitch a sample, at the tick's ends."""
    grows, share = (end - start) * np.float32(0.5 / TICK), np.float32(1 / TICK)
    for k in range(used):
        bank[PLACE + k] += bank[SPEED + k]
        left = bank[LEFT + k] * bank[KEPT + k]
        bank[LEFT + k] = left if left > QUIET else np.float32(0)
        shape = bank[SHAPE + k] + part * (bank[TARGET + k] - bank[SHAPE + k])
        shape = shape if abs(shape) > QUIET else np.float32(0)
        bank[SHAPE + k] = shape
        level = shape * bank[LEFT + k] * (np.float32(1) + shimmer * bank[PLACE + k])
        bank[NOW + k] = bank[LEVEL + k]
        bank[STEP + k] = (level - bank[LEVEL + k]) * share
        bank[LEVEL + k] = level
        bent = ratio[k] * (np.float32(1) + cents * bank[PLACE + k])
        phase = bank[PHASE + k] + np.float32(TICK) * (bank[INC + k] + np.float32(TICK) * bank[SLOPE + k])
        bank[PHASE + k] = phase - np.rint(phase)
        bank[SLOPE + k] = bent * grows
        bank[INC + k] = bent * (start - grows)


@njit(cache=True)
def _tick(v, p, bank, bend, sample_rate):  # type: ignore[no-untyped-def]
    """Work out where all goes until the next tick."""
    first = v.stamp < 0
    top = v.pitch + max(v.bent, bend) + 0.01 * p.vibrato_cents
    if p.stamp != v.stamp or top != v.top:
        v.top = top
        _shape(v, p, bank, p.stamp != v.stamp, sample_rate)
        v.stamp = p.stamp
    if first:
        _fresh(v, bank)
    moves = first or p.vibrato_cents > 0 or v.bent != bend
    start = v.reach
    if moves:
        v.bent = glided(v.bent, bend, p.smoothing)
        swing = 0.01 * p.vibrato_cents * math.sin(2 * math.pi * p.vibrato_hz * (v.age + TICK) / sample_rate)
        v.reach = increment(v.pitch + v.bent + swing, sample_rate) / PHASE_ONE
        start = v.reach if first else start
    if v.segment == 0:
        _wander(v, bank, p.segment)
    v.segment -= 1
    part = 1.0 if first else p.smoothing
    for slot in range(0, SLOTS, MOST):
        if v.used[slot // MOST] > 0:
            _move(
                bank[slot:], v.used[slot // MOST], p.ratio[slot:], np.float32(part),
                np.float32(p.shimmer), np.float32(p.cents), np.float32(start), np.float32(v.reach),
            )  # fmt: skip
    grows = 0.5 * (v.reach - start) / TICK
    v.phase += 0.5 * TICK * (v.inc + TICK * v.slope)
    v.phase -= math.floor(v.phase)
    v.inc, v.slope = start - grows, grows
    if p.free == 1 and v.free == 0:  # from here on each goes its own way
        v.free = 1
        for k in range(SLOTS):
            phase = 2.0 * p.ratio[k] * v.phase
            bank[PHASE + k] = phase - math.floor(phase)
    v.env, v.stage = envelope_tick(v.env, v.stage, v.held, p.rise, p.sustain, v.fall, p.release_fall)
    v.gain += part * (p.gain * v.velocity * v.velocity - v.gain)
    v.breath += part * (p.breath - v.breath)
    v.over = 1 if v.env < SILENT and (v.held == 0 or (v.stage == DECAY and p.sustain < SILENT)) else 0


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _sine(total, phase, inc, slope, level, step):  # type: ignore[no-untyped-def]
    """Add a tick of a partial that goes its own way."""
    for j in range(TICK):
        t = np.float32(j)
        total[j] += (level + t * step) * sine(phase + t * (inc + t * slope))


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _series(total, turn, before, this, bank, count):  # type: ignore[no-untyped-def]
    """Add a tick of `count` partials from the first of `bank` on, all of one pitch: sin (k + 1) x = 2 cos x sin k x -
    sin (k - 1) x. `turn` is 2 cos x, `before` and `this` the first two sines; eight partials at a time."""
    for k in range(0, count, 8):
        a0, a1, a2, a3 = bank[NOW + k], bank[NOW + k + 1], bank[NOW + k + 2], bank[NOW + k + 3]
        a4, a5, a6, a7 = bank[NOW + k + 4], bank[NOW + k + 5], bank[NOW + k + 6], bank[NOW + k + 7]
        d0, d1, d2, d3 = bank[STEP + k], bank[STEP + k + 1], bank[STEP + k + 2], bank[STEP + k + 3]
        d4, d5, d6, d7 = bank[STEP + k + 4], bank[STEP + k + 5], bank[STEP + k + 6], bank[STEP + k + 7]
        for j in range(TICK):
            t, w = np.float32(j), turn[j]
            x, y = before[j], this[j]
            added = (a0 + t * d0) * y
            x = w * y - x
            added += (a1 + t * d1) * x
            y = w * x - y
            added += (a2 + t * d2) * y
            x = w * y - x
            added += (a3 + t * d3) * x
            y = w * x - y
            added += (a4 + t * d4) * y
            x = w * y - x
            added += (a5 + t * d5) * x
            y = w * x - y
            added += (a6 + t * d6) * y
            x = w * y - x
            added += (a7 + t * d7) * x
            before[j], this[j] = x, w * x - y
            total[j] += added


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _waves(phase, inc, slope, halves, turn, before, this):  # type: ignore[no-untyped-def]
    """What `_series` starts from, for the harmonics 1, 2, ... or for 1/2, 3/2, ..."""
    for j in range(TICK):
        t = np.float32(j)
        x = phase + np.float32(0.5) * t * (inc + t * slope)  # of the half-harmonic
        turn[j] = np.float32(2) * sine(np.float32(2) * x + np.float32(0.25))
        first = sine(x) if halves else sine(np.float32(2) * x)
        before[j], this[j] = -first if halves else np.float32(0), first


@njit(cache=True)
def _partials(v, bank, total, turn, before, this):  # type: ignore[no-untyped-def]
    """A tick of all partials of a voice into `total`."""
    total[:] = np.float32(0)
    for first in range(0, SLOTS, MOST):
        count = v.used[first // MOST]
        if v.free == 1:
            for k in range(first, first + count):
                if bank[NOW + k] != 0 or bank[LEVEL + k] != 0:
                    _sine(total, bank[PHASE + k], bank[INC + k], bank[SLOPE + k], bank[NOW + k], bank[STEP + k])
            continue
        while count > 0 and bank[NOW + first + count - 1] == 0 and bank[LEVEL + first + count - 1] == 0:
            count -= 1
        if count > 0:
            _waves(np.float32(v.phase), np.float32(v.inc), np.float32(v.slope), first > 0, turn, before, this)
            _series(total, turn, before, this, bank[first:], count)


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _blow(v, total):  # type: ignore[no-untyped-def]
    """Noise around the octave of the pitch, as loud as the partials at 1: a band-pass of quality 1."""
    frequency = min(2.0 * v.reach, 0.4)  # of the sample rate
    g = math.tan(math.pi * frequency)
    a1 = 1.0 / (1.0 + g * (g + 1.0))
    loud = v.breath * LOUDNESS / math.sqrt(math.pi * frequency / 3)
    one, two = v.ic1, v.ic2
    for j in range(TICK):
        band = a1 * (one + g * (loud * white(v.key, v.age + j) - two))
        low = two + g * band
        one, two = 2 * band - one, 2 * low - two
        total[j] += band
    v.ic1, v.ic2 = one, two


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _render(rows, banks, params, bend, sample_rate, out):  # type: ignore[no-untyped-def]
    """Add all active voices to `out` [n], voice by voice, tick by tick."""
    p = params[0]
    n = len(out)
    total, turn = np.zeros(TICK, np.float32), np.zeros(TICK, np.float32)
    before, this = np.zeros(TICK, np.float32), np.zeros(TICK, np.float32)
    for i in range(len(rows)):
        v = rows[i]
        bank = banks[i]
        line = bank[LINE : LINE + TICK]
        at = 0
        while at < n and v.active == 1:
            if v.age % TICK == 0:
                loud = v.loud
                _tick(v, p, bank, bend, sample_rate)
                v.loud = v.gain * v.env
                _partials(v, bank, total, turn, before, this)
                if v.breath > 0:
                    _blow(v, total)
                level, step = np.float32(loud), np.float32((v.loud - loud) / TICK)
                for j in range(TICK):
                    line[j] = (level + np.float32(j) * step) * total[j]
            at = hand_out(v, line, at, out)
