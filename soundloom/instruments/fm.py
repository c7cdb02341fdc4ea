"""Frequency modulation: four sines, some of which move the phases of others (Chowning, 1973), in eight arrangements.

Electric pianos, bells, mallets, basses, brass and organs. Modulation is held back on high keys before its sidebands
fold back (see `sidebands`): what is above half the sample rate is left out, not heard as something else.
"""

import functools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from soundloom.instruments import sidebands
from soundloom.instruments.base import Event, Param
from soundloom.instruments.modulation import DECAY, envelope_tick
from soundloom.instruments.oscillators import PHASE_ONE, TICK, increment
from soundloom.instruments.sidebands import allowed, orders_of
from soundloom.instruments.ticks import gathered, glided, hand_out, sine, tick_factor
from soundloom.instruments.voices import FIELDS, SILENT, AbstractPolyphonic, Voices, record

# Who modulates whom, and who is heard, as on four-operator synthesisers; operator 4 feeds back into itself.
#   1  4→3→2→1       2  (3, 4)→2→1     3  4→1, 3→2→1     4  2→1, 4→3→1
#   5  2→1 | 4→3     6  4→(1 | 2 | 3)  7  1 | 2 | 4→3    8  1 | 2 | 3 | 4
EDGES = ((1, 2), (1, 3), (1, 4), (2, 3), (2, 4), (3, 4))  # (is modulated, by): the weights, and after them the outputs
ALGORITHMS: tuple[tuple[set[tuple[int, int]], set[int]], ...] = (
    ({(3, 4), (2, 3), (1, 2)}, {1}),
    ({(2, 3), (2, 4), (1, 2)}, {1}),
    ({(1, 4), (2, 3), (1, 2)}, {1}),
    ({(1, 2), (3, 4), (1, 3)}, {1}),
    ({(1, 2), (3, 4)}, {1, 3}),
    ({(1, 4), (2, 4), (3, 4)}, {1, 2, 3}),
    ({(3, 4)}, {1, 2, 3}),
    (set(), {1, 2, 3, 4}),
)
# Weights by their place: how far each edge modulates in turns, how loud each operator is heard, how far 4 feeds back.
HEARD, FEEDBACK, WEIGHTS = 6, 10, 11
BY = np.array([1, 2, 3, 2, 3, 3, 0, 1, 2, 3, 3])  # whose envelope a weight has, from 0
DEEPEST = 2.0  # turns: the phase deviation of a modulator at level 1, 4 pi radians
LANES = 16  # voices whose feedback is worked out side by side: alone, each would wait for its own last sample

OPERATOR = ("ratio", "cents", "level", "attack_s", "decay_s", "sustain", "release")  # its knobs

# The defaults are an electric piano: a tine (2→1) and its tone bar (4→3).
_RATIO, _LEVEL, _DETUNE = (1, 14, 1, 1), (0.85, 0.2, 0.75, 0.33), (0, 0, 2, 2)
_ATTACK, _DECAY, _SUSTAIN = (0.001,) * 4, (4, 0.6, 5, 3), (0, 0, 0, 0)


class FM(AbstractPolyphonic):
    """Four operators, each a sine with a ratio, a level and an envelope, in one of eight algorithms.

    >>> piano = FM({"brightness": 1.5, "release_s": 0.4})
    >>> state = piano.init_state(44100)
    >>> block, state = piano.process(state, [Event(0, "on", note=1, pitch=45)], 512)
    >>> block.shape
    (1, 512)

    Operators that modulate each other are best detuned alike: a carrier and its modulator a few cents apart make a
    tone of their difference, below all hearing, that moves the wave off its middle.
    """

    params = (
        Param("algorithm", "", 1, 8, 5, help="who modulates whom: 1 a chain of all four, 5 two pairs, 8 an organ"),
        *(
            param
            for i in range(4)
            for param in (
                Param(f"op{i + 1}_ratio", "", 0.125, 24, _RATIO[i], "log", "its pitch against the key"),
                Param(f"op{i + 1}_cents", "cents", -100, 100, _DETUNE[i], help="its detune"),
                Param(f"op{i + 1}_level", "", 0, 1, _LEVEL[i], help="how loud it is, or how far it modulates, squared"),
                Param(f"op{i + 1}_attack_s", "s", 0.0005, 5, _ATTACK[i], "log", "its rise"),
                Param(f"op{i + 1}_decay_s", "s", 0.005, 20, _DECAY[i], "log", "its fall by 60 dB towards the sustain"),
                Param(f"op{i + 1}_sustain", "", 0, 1, _SUSTAIN[i], help="where it stays while the key is held"),
                Param(f"op{i + 1}_release", "", 0.1, 10, 1, "log", "how long its release is, against release_s"),
            )
        ),
        Param("feedback", "rad", 0, 1.5, 0, help="how far operator 4 modulates itself: from a sine to a saw to noise"),
        Param("brightness", "", 0, 2, 1, help="how far all modulators modulate"),
        Param("velocity_brightness", "", 0, 1, 0.6, help="how much less a soft touch is modulated"),
        Param("key_scaling", "", 0, 1, 0.3, help="how fast modulation gets less above C3: at 1 by half an octave"),
        Param("key_decay", "", 0, 1, 0.3, help="how fast decays get shorter above C3: at 1 by half an octave"),
        Param("vibrato_hz", "Hz", 0.05, 12, 5, "log", "how fast the pitch swings"),
        Param("vibrato_cents", "cents", 0, 100, 0, help="how far the pitch swings"),
        Param("release_s", "s", 0.005, 10, 0.3, "log", "the fall by 60 dB after the key"),
        Param("gain_db", "dB", -60, 6, -6, help="the level"),
    )
    row = np.dtype(
        [
            *FIELDS,
            *[(name, "i8") for name in ("over", "moved")],  # 1 in the last tick; 1 where the pitch moved in a tick
            *[
                (name, "f8") for name in ("pitch", "velocity", "bent", "top", "stamp", "gain", "reach", "y1", "y2")
            ],  # reach: the increment at the end
            *[(name, "f8", WEIGHTS) for name in ("target", "weight", "course")],  # course: with envelope and gain
            *[(name, "f8", 4) for name in ("fall", "level")],  # level, weight, course, gain: at the tick's end
            *[(name, "i8", 4) for name in ("stage", "phase", "inc", "slope")],  # at its start; slope: per sample²
        ]
    )

    def _derive(self, values: Mapping[str, float], sample_rate: int) -> NDArray[Any]:
        operators = tuple(tuple(values[f"op{i}_{name}"] for name in OPERATOR) for i in (1, 2, 3, 4))
        arrays = dict(_operators(operators, values["release_s"], sample_rate))
        arrays["weight"] = _weights(
            round(values["algorithm"]), values["brightness"], tuple(one[2] for one in operators)
        )
        names = ("feedback", "velocity_brightness", "key_scaling", "key_decay", "vibrato_hz", "vibrato_cents")
        numbers = {name: values[name] for name in names} | {
            "gain": 10 ** (values["gain_db"] / 20),
            "smoothing": -math.expm1(-TICK / (0.005 * sample_rate)),  # knobs glide in 5 ms
            "stamp": float(hash(tuple(values.values())) % (1 << 50)),  # tells voices that a knob has moved
        }
        return record(numbers, arrays)

    def _memory_samples(self, sample_rate: int) -> int:
        return TICK // 2  # a tick in single precision

    def _start(self, state: Voices, slot: int, event: Event) -> None:
        row = state.rows[slot]
        row["pitch"], row["velocity"], row["bent"], row["stamp"] = event.pitch, event.velocity, state.bend, -1.0

    def _render(self, state: Voices, rows: NDArray[Any], memory: NDArray[np.float64], out: NDArray[np.float64]) -> None:
        lines = memory.view(np.float32)
        _render(rows, lines, state.derived, sidebands.tables(), state.bend, float(state.sample_rate), out[0])


@functools.lru_cache(maxsize=256)
def _operators(knobs: tuple[tuple[float, ...], ...], release_s: float, sample_rate: int) -> dict[str, NDArray[Any]]:
    """What follows from the operators' own knobs, [4] each: `knobs` are theirs in the order of `OPERATOR`."""
    ratio, cents, _, attack_s, decay_s, sustain, release = np.array(knobs).T
    return {
        "ratio": ratio * 2 ** (cents / 1200),
        "attack": TICK / (attack_s * sample_rate),
        "sustain": sustain,
        "decay_log": np.log([tick_factor(s, sample_rate) for s in decay_s]),
        "release": np.array([tick_factor(s, sample_rate) for s in release * release_s]),
        "by_ratio": np.argsort(ratio, kind="stable"),
    }


def _weights(algorithm: int, brightness: float, levels: tuple[float, ...]) -> NDArray[np.float64]:
    """How far operators modulate each other, and how loud they are heard: [WEIGHTS]."""
    edges, outs = ALGORITHMS[algorithm - 1]
    weights = [DEEPEST * brightness * levels[by - 1] ** 2 * ((to, by) in edges) for to, by in EDGES]
    weights += [levels[i] ** 2 * (i + 1 in outs) / math.sqrt(len(outs)) for i in range(4)]
    return np.array(weights)


@njit(cache=True)
def _tame(v, p, tables, sample_rate):  # type: ignore[no-untyped-def]
    """Where the weights and the feedback of a voice go: what the knobs, the touch and the key ask for, and no further
    than the sidebands have room below half the sample rate, at the highest pitch that bend and vibrato reach.

    Operator by operator, from those that are heard: a modulator at f_m with n orders of sidebands takes n f_m of the
    room above its carrier. Low modulators are served first. What is left over, their own modulators may use: what
    widens a modulator by 1 Hz widens a carrier that it moves by I radians by I Hz, and by 1 Hz at the least.
    """
    hz = 440.0 * 2.0 ** ((v.top - 69.0) / 12.0)
    above = max(v.pitch - 48.0, 0.0) / 12.0
    touch = (1.0 - p.velocity_brightness * (1.0 - v.velocity)) * 2.0 ** (-p.key_scaling * above)
    stretch = 2.0 ** (p.key_decay * above)
    room = np.empty(4)  # up to where an operator's spectrum may reach
    for i in range(4):
        room[i] = 0.5 * sample_rate
        v.fall[i] = math.exp(p.decay_log[i] * stretch)
        v.target[HEARD + i] = p.weight[HEARD + i] if p.ratio[i] * hz < room[i] else 0.0
    for to in range(3):
        first = (0, 3, 5)[to]  # of its edges
        left, deviation = room[to] - p.ratio[to] * hz, 0.0
        for by in p.by_ratio:
            if by > to:
                edge = first + by - to - 1
                index = 2 * math.pi * touch * p.weight[edge]
                index = min(index, allowed(tables[0], left / (p.ratio[by] * hz)))
                v.target[edge] = index / (2 * math.pi)
                left -= orders_of(tables[0], index) * p.ratio[by] * hz
                deviation += index
        for by in range(to + 1, 4):
            if v.target[first + by - to - 1] > 0:
                room[by] = min(room[by], p.ratio[by] * hz + max(left, 0.0) / max(deviation, 1.0))
    v.target[FEEDBACK] = min(p.feedback, allowed(tables[1], room[3] / (p.ratio[3] * hz))) / (4 * math.pi)


@njit(cache=True)
def _tick(v, p, tables, bend, sample_rate, now, step, turns):  # type: ignore[no-untyped-def]
    """Work out where all goes until the next tick: the weights in straight lines, as `now` and as `step` a sample
    [WEIGHTS]; the phases as `turns` [3, 4] for the powers 0, 1 and 2 of the sample."""
    first = v.stamp < 0
    top = v.pitch + max(v.bent, bend) + 0.01 * p.vibrato_cents
    if p.stamp != v.stamp or top != v.top:
        v.top, v.stamp = top, p.stamp
        _tame(v, p, tables, sample_rate)

    moves = first or p.vibrato_cents > 0 or v.bent != bend
    start = v.reach
    if moves:
        v.bent = glided(v.bent, bend, p.smoothing)
        swing = 0.01 * p.vibrato_cents * math.sin(2 * math.pi * p.vibrato_hz * (v.age + TICK) / sample_rate)
        v.reach = increment(v.pitch + v.bent + swing, sample_rate)
        start = v.reach if first else start
    sounds = False
    for i in range(4):
        v.phase[i] += TICK * v.inc[i] + (TICK * (TICK - 1) >> 1) * v.slope[i]
        if moves or v.moved == 1:  # what has come to rest goes on without a slope
            v.inc[i], v.slope[i] = int(start * p.ratio[i]), int((v.reach - start) * p.ratio[i] / TICK)
        turns[0, i] = np.int32(v.phase[i]) / PHASE_ONE
        turns[1, i] = (v.inc[i] - 0.5 * v.slope[i]) / PHASE_ONE
        turns[2, i] = 0.5 * v.slope[i] / PHASE_ONE
        level, v.stage[i] = envelope_tick(
            v.level[i], v.stage[i], v.held, p.attack[i], p.sustain[i], v.fall[i], p.release[i]
        )
        v.level[i] = level
        waits = v.held == 1 and (v.stage[i] != DECAY or p.sustain[i] >= SILENT)
        sounds |= v.target[HEARD + i] > 0 and (waits or level >= SILENT)
    v.moved, v.over = int(moves), int(not sounds)

    part = 1.0 if first else p.smoothing
    v.gain += part * (p.gain * v.velocity * v.velocity - v.gain)
    for k in range(WEIGHTS):
        v.weight[k] += part * (v.target[k] - v.weight[k])
        course = v.weight[k] * v.level[BY[k]]
        if HEARD <= k < FEEDBACK:
            course *= v.gain
        now[k], step[k] = v.course[k], (course - v.course[k]) / TICK
        v.course[k] = course


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _feed_back(fourth, waves):  # type: ignore[no-untyped-def]
    """Operator 4 of LANES voices side by side: sin(phase + beta (y1 + y2) / 2), y its last two outputs. The mean of
    two keeps it from swinging at half the sample rate."""
    phase, inc, slope, beta, beta_step = fourth[0], fourth[1], fourth[2], fourth[3], fourth[4]
    y1, y2 = fourth[5], fourth[6]
    lanes = len(phase)  # not a constant, or the loop over them is unrolled and no longer runs in SIMD
    for j in range(TICK):
        t = np.float32(j)
        wave = waves[j]
        for lane in range(lanes):
            fed = (beta[lane] + t * beta_step[lane]) * (y1[lane] + y2[lane])
            y2[lane] = y1[lane]
            y1[lane] = sine(phase[lane] + t * (inc[lane] + t * slope[lane]) + fed)
            wave[lane] = y1[lane]


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _alone(phase, inc, slope, wave):  # type: ignore[no-untyped-def]
    """Operator 4 for a tick, where it does not feed back."""
    for j in range(TICK):
        t = np.float32(j)
        wave[j] = sine(phase + t * (inc + t * slope))


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _voice(turns, now, step, wave4, line):  # type: ignore[no-untyped-def]
    """A tick of a voice into its `line`: operators 3, 2 and 1 and what is heard of all four.

    All weights stand in it, most of them 0: one loop without branches, which runs in SIMD over the samples.
    """
    phase1, phase2, phase3 = turns[0, 0], turns[0, 1], turns[0, 2]
    inc1, inc2, inc3 = turns[1, 0], turns[1, 1], turns[1, 2]
    slope1, slope2, slope3 = turns[2, 0], turns[2, 1], turns[2, 2]
    w12, w13, w14, w23, w24, w34 = now[0], now[1], now[2], now[3], now[4], now[5]
    d12, d13, d14, d23, d24, d34 = step[0], step[1], step[2], step[3], step[4], step[5]
    o1, o2, o3, o4 = now[6], now[7], now[8], now[9]
    p1, p2, p3, p4 = step[6], step[7], step[8], step[9]
    for j in range(TICK):
        t = np.float32(j)
        y4 = wave4[j]
        y3 = sine(phase3 + t * (inc3 + t * slope3) + (w34 + t * d34) * y4)
        y2 = sine(phase2 + t * (inc2 + t * slope2) + (w23 + t * d23) * y3 + (w24 + t * d24) * y4)
        moved = (w12 + t * d12) * y2 + (w13 + t * d13) * y3 + (w14 + t * d14) * y4
        y1 = sine(phase1 + t * (inc1 + t * slope1) + moved)
        line[j] = (o1 + t * p1) * y1 + (o2 + t * p2) * y2 + (o3 + t * p3) * y3 + (o4 + t * p4) * y4


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _render(rows, lines, params, tables, bend, sample_rate, out):  # type: ignore[no-untyped-def]
    """Add all active voices to `out` [n], LANES at a time, tick by tick."""
    p = params[0]
    n = len(out)
    slots, at = np.empty(LANES, np.int64), np.empty(LANES, np.int64)
    now, step = np.zeros((LANES, WEIGHTS), np.float32), np.zeros((LANES, WEIGHTS), np.float32)
    turns, wave4 = np.zeros((LANES, 3, 4), np.float32), np.zeros(TICK, np.float32)
    fourth, waves = np.zeros((7, LANES), np.float32), np.zeros((TICK, LANES), np.float32)  # operator 4, side by side
    row = 0
    while row < len(rows):
        count, row = gathered(rows, row, slots, at)
        going = count > 0
        while going:
            fed = 0  # a bit a lane
            for lane in range(count):
                v = rows[slots[lane]]
                if v.active == 1 and at[lane] < n and v.age % TICK == 0:
                    _tick(v, p, tables, bend, sample_rate, now[lane], step[lane], turns[lane])
                    beta, beta_step = now[lane, FEEDBACK], step[lane, FEEDBACK]
                    if beta > 0 or beta_step > 0:
                        fed |= 1 << lane
                        for k in range(3):
                            fourth[k, lane] = turns[lane, k, 3]
                        fourth[3, lane], fourth[4, lane] = beta, beta_step
                        fourth[5, lane], fourth[6, lane] = v.y1, v.y2
            if fed:
                _feed_back(fourth, waves)
            going = False
            for lane in range(count):
                v = rows[slots[lane]]
                if v.active == 1 and at[lane] < n:
                    line = lines[slots[lane]]
                    if v.age % TICK == 0:
                        if fed >> lane & 1:
                            v.y1, v.y2 = fourth[5, lane], fourth[6, lane]
                            for j in range(TICK):
                                wave4[j] = waves[j, lane]
                        else:
                            _alone(turns[lane, 0, 3], turns[lane, 1, 3], turns[lane, 2, 3], wave4)
                        _voice(turns[lane], now[lane], step[lane], wave4, line)
                    at[lane] = hand_out(v, line, at[lane], out)
                    going |= v.active == 1 and at[lane] < n
