"""Struck bars, bells, bowls, plates and drums: a bank of resonators, each exact in pitch and decay, and a mallet.

A mode is a complex number that turns and shrinks. While the mallet touches, or while a bend moves, all modes go sample
by sample; free, a mode is known for a whole tick from where it stands at its start.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from soundloom.instruments import objects
from soundloom.instruments.base import Event, Param
from soundloom.instruments.voices import FIELDS, SILENT, AbstractPolyphonic, Voices, record, white

TICK = 64  # samples of a voice that are made at once, on the grid of its age
LANES = 16  # of which so many go side by side
TWINS = 16  # the lowest modes are two each, a beat apart
MODES = objects.MODES + TWINS
SOFTEST_S, HARDEST_S = 0.012, 0.00012  # how long a mallet touches, at middle C
HIGHEST = 0.44  # of the rate: modes above are left out
# A voice's memory: its tick, then by mode: real and imaginary part, radians a sample unbent, how it shrinks a sample,
# how a stroke moves it, and what the fast way needs: see `_settle`. The table holds single precision, two in one place.
RE, IM, OMEGA, SHRINK, BLOW, TURN16, TURN64, TABLE, SIZE = (
    TICK + MODES * row for row in (0, 1, 2, 3, 4, 5, 7, 9, 9 + LANES)
)


class Modal(AbstractPolyphonic):
    """Marimbas, glockenspiels, vibraphones, bells, singing bowls, gongs, drums, and what lies between them.

    >>> bell = Modal({"object": 2, "decay_s": 12, "damping": 0.3})
    >>> state = bell.init_state(44100)
    >>> block, state = bell.process(state, [Event(0, "on", note=1, pitch=55)], 512)
    >>> block.shape
    (1, 512)
    """

    params = (
        Param("object", "", 0, 5, 0, help="0 tuned bar, 1 free bar, 2 bell, 3 bowl, 4 plate, 5 membrane, and between"),
        Param("hardness", "", 0, 1, 0.55, help="of the mallet: 0 wool, which touches for long, 1 metal"),
        Param("velocity_hardness", "", 0, 1, 0.4, help="how much softer the mallet is at a soft touch"),
        Param("roughness", "", 0, 1, 0.05, help="how much of the stroke is noise: towards a brush"),
        Param("position", "", 0, 1, 0.15, help="where it is struck: 0 the middle (bell, bowl: the rim), 1 the edge"),
        Param("decay_s", "s", 0.02, 60, 2.5, "log", "how long the key's own pitch takes to fall by 60 dB, at C4"),
        Param("damping", "", 0, 1, 0.4, help="how much faster what is higher dies: from glass to wood"),
        Param("decay_tracking", "", 0, 1, 0.5, help="how much longer low keys ring: 1 twice as long an octave lower"),
        Param("stretch", "", -0.3, 0.3, 0, help="pushes the overtones together or apart"),
        Param("beating_hz", "Hz", 0, 20, 0.5, help="the lowest modes are two, so far apart at most: they warble"),
        Param("release_s", "s", 0.01, 30, 1, "log", "how fast the hand damps it after the key, to -60 dB"),
        Param("gain_db", "dB", -60, 6, -6, help="the level"),
    )
    row = np.dtype(
        [
            *FIELDS,
            *[(name, "i8") for name in ("count", "contact", "settled", "over")],  # contact: samples
            *[(name, "f8") for name in ("velocity", "env", "gain", "gain_step", "bent", "roughness")],
        ]
    )

    def _derive(self, values: Mapping[str, float], sample_rate: int) -> NDArray[Any]:
        derived = dict(values)
        derived |= {
            "release_factor": 0.001 ** (1 / (values["release_s"] * sample_rate)),
            "gain": 10 ** (values["gain_db"] / 20),
            "smoothing": 1 - math.exp(-TICK / (0.005 * sample_rate)),  # level and bend glide in 5 ms
        }
        return record(derived)

    def _memory_samples(self, sample_rate: int) -> int:
        return SIZE

    def _start(self, state: Voices, slot: int, event: Event) -> None:
        row, knobs, memory = state.rows[slot], state.values, state.memory[slot]
        hz = 440.0 * 2 ** ((event.pitch - 69) / 12)
        ratios, levels = objects.modes(knobs["object"], knobs["position"])
        ratios = ratios ** (1 + knobs["stretch"])
        twin = knobs["beating_hz"] * (0.75 + 0.25 * np.cos(2.4 * np.arange(TWINS)))  # each pair has a beat of its own
        omega = 2 * np.pi / state.sample_rate * np.concatenate([hz * ratios, hz * ratios[:TWINS] + twin])
        levels = np.concatenate([levels * np.where(np.arange(len(levels)) < TWINS, 0.6, 1.0), 0.4 * levels[:TWINS]])
        decay_s = knobs["decay_s"] * 2 ** (-knobs["decay_tracking"] * (event.pitch - 60) / 12)
        decays = np.minimum(decay_s * np.concatenate([ratios, ratios[:TWINS]]) ** (-2 * knobs["damping"]), 2 * decay_s)

        hard = knobs["hardness"] * (1 - knobs["velocity_hardness"] * (1 - event.velocity))
        touch_s = SOFTEST_S * (HARDEST_S / SOFTEST_S) ** hard * (hz / 261.6256) ** -0.5
        touch_s = min(touch_s, 0.75 / hz)  # longer, the key's own pitch would be left out
        row["contact"] = max(2, round(touch_s * state.sample_rate))
        heard = omega * 2 ** (state.bend / 12) < 2 * np.pi * HIGHEST
        turns = omega / (2 * np.pi) * int(row["contact"])
        answer = np.abs(levels) * _pulse(turns)
        # Alike loud, and many modes that start together do not tower up.
        pushed = levels / (math.pi * turns) * np.clip(turns - 0.5, 0, 1)  # in step with the mallet while it touches
        loud = max(math.sqrt((answer[heard] ** 2).sum()), 0.35 * answer[heard].sum(), 0.7 * abs(pushed[heard].sum()))
        scale = 0.8 / max(loud, 0.02 * np.abs(levels).max())
        # Strong ones first: what is hardly there at the start is left out.
        order = np.flatnonzero(heard & (answer * scale > SILENT))
        count = len(order)
        for at, what in (
            (OMEGA, omega), (SHRINK, 0.001 ** (1 / (decays * state.sample_rate))), (BLOW, levels * scale)
        ):  # fmt: skip
            memory[at : at + count] = what[order]
        row["count"], row["velocity"], row["env"] = count, event.velocity, 1.0
        row["bent"], row["gain"] = state.bend, state.derived[0]["gain"] * event.velocity**2
        row["roughness"] = knobs["roughness"]

    def _render(self, state: Voices, rows: NDArray[Any], memory: NDArray[np.float64], out: NDArray[np.float64]) -> None:
        _render(rows, memory, state.derived, state.bend, out[0])


def _pulse(turns: NDArray[np.float64]) -> NDArray[np.float64]:
    """How strongly a touch of the shape sin² answers at so many turns within it."""
    turns = np.where(np.abs(turns - 1) < 1e-6, 1 + 1e-6, turns)
    pulse: NDArray[np.float64] = np.abs(np.sinc(turns) / (1 - turns * turns))
    return pulse


@njit(cache=True, error_model="numpy")
def _touched(v, memory, bend_start, bend_end):  # type: ignore[no-untyped-def]
    """A tick sample by sample: the mallet pushes, and every mode's pitch moves evenly to the end of the tick."""
    line = memory[:TICK]
    force = np.zeros(TICK)
    for j in range(TICK):
        at = v.age + j
        if at < v.contact:
            push = math.sin(math.pi * (at + 0.5) / v.contact)
            rough = 1.0 - v.roughness + 3.0 * v.roughness * white(v.key, at)
            force[j] = 2.0 / v.contact * push * push * rough
    for k in range(v.count):
        omega, shrink = memory[OMEGA + k] * bend_start, memory[SHRINK + k]
        if memory[OMEGA + k] * bend_end > 0.96 * math.pi:
            shrink = 0.8  # it would fold down: gone in a tick
        more = memory[OMEGA + k] * (bend_end - bend_start) / TICK
        omega += 0.5 * more
        turn_re, turn_im = shrink * math.cos(omega), shrink * math.sin(omega)
        bend_re, bend_im = math.cos(more), math.sin(more)
        re, im, blow = memory[RE + k], memory[IM + k], memory[BLOW + k]
        for j in range(TICK):
            re, im = re * turn_re - im * turn_im + blow * force[j], re * turn_im + im * turn_re
            line[j] += im
            turn_re, turn_im = turn_re * bend_re - turn_im * bend_im, turn_re * bend_im + turn_im * bend_re
        memory[RE + k], memory[IM + k] = re, im


@njit(cache=True, error_model="numpy")
def _settle(v, memory, table, bend):  # type: ignore[no-untyped-def]
    """What the fast way needs of each mode: how it turns in 16 and in 64 samples, and in each of the first 16."""
    for k in range(v.count):
        omega, shrink = memory[OMEGA + k] * bend, memory[SHRINK + k]
        turn_re, turn_im = shrink * math.cos(omega), shrink * math.sin(omega)
        re, im = turn_re, turn_im
        for lane in range(LANES):
            table[2 * LANES * k + lane], table[2 * LANES * k + LANES + lane] = re, im
            re, im = re * turn_re - im * turn_im, re * turn_im + im * turn_re
        memory[TURN16 + 2 * k] = shrink**16 * math.cos(16 * omega)
        memory[TURN16 + 2 * k + 1] = shrink**16 * math.sin(16 * omega)
        memory[TURN64 + 2 * k] = shrink**64 * math.cos(64 * omega)
        memory[TURN64 + 2 * k + 1] = shrink**64 * math.sin(64 * omega)
    v.settled = 1


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _free(v, memory, table, sums):  # type: ignore[no-untyped-def]
    """A tick of free modes, 16 samples side by side.

    The first and second 16 samples follow from where a mode stands; the other two from y[n + 16] =
    2 Re(t) y[n] - |t|² y[n - 16], t being the turn in 16 samples: 12 operations for 64 samples.
    """
    sums[:] = np.float32(0)
    for k in range(v.count):
        re, im = memory[RE + k], memory[IM + k]
        t_re, t_im = memory[TURN16 + 2 * k], memory[TURN16 + 2 * k + 1]
        re1, im1 = np.float32(re), np.float32(im)
        re2, im2 = np.float32(re * t_re - im * t_im), np.float32(re * t_im + im * t_re)
        twice, square = np.float32(2 * t_re), np.float32(t_re * t_re + t_im * t_im)
        real = table[2 * LANES * k : 2 * LANES * k + LANES]
        imag = table[2 * LANES * k + LANES : 2 * LANES * k + 2 * LANES]
        for lane in range(LANES):
            turn_re, turn_im = real[lane], imag[lane]
            a = im1 * turn_re + re1 * turn_im
            b = im2 * turn_re + re2 * turn_im
            c = twice * b - square * a
            d = twice * c - square * b
            sums[lane] += a
            sums[16 + lane] += b
            sums[32 + lane] += c
            sums[48 + lane] += d
        t_re, t_im = memory[TURN64 + 2 * k], memory[TURN64 + 2 * k + 1]
        memory[RE + k], memory[IM + k] = re * t_re - im * t_im, re * t_im + im * t_re
    for j in range(TICK):
        memory[j] = sums[j]


@njit(cache=True, error_model="numpy")
def _tick(v, p, memory, bend, sums):  # type: ignore[no-untyped-def]
    """The next tick of a voice, into the start of its memory; modes that died are taken off the list."""
    if v.age:
        v.gain += TICK * v.gain_step
    v.gain_step = (p.gain * v.velocity * v.velocity - v.gain) * p.smoothing / TICK
    table = memory[TABLE:].view(np.float32)
    before = v.bent
    v.bent += (bend - v.bent) * p.smoothing
    if abs(v.bent - bend) < 1e-3:
        v.bent = bend
    if v.age < v.contact or v.bent != before:
        memory[:TICK] = 0.0
        _touched(v, memory, 2.0 ** (before / 12.0), 2.0 ** (v.bent / 12.0))
        v.settled = 0
    else:
        if v.settled == 0:
            _settle(v, memory, table, 2.0 ** (v.bent / 12.0))
        _free(v, memory, table, sums)
    loudest = 0.0
    for k in range(v.count - 1, -1, -1):
        size = abs(memory[RE + k]) + abs(memory[IM + k])
        loudest = max(loudest, size)
        if size < 0.01 * SILENT and v.age + TICK > v.contact:
            v.count -= 1
            _move(memory, v.count, k)
    if v.age + TICK > v.contact and loudest * v.env < SILENT:
        v.over = 1


@njit(cache=True)
def _move(memory, here, there):  # type: ignore[no-untyped-def]
    """A mode takes another place in the list."""
    for at in range(RE, TURN16, MODES):
        memory[at + there] = memory[at + here]
    for at in range(TURN16, TABLE, 2 * MODES):
        memory[at + 2 * there], memory[at + 2 * there + 1] = memory[at + 2 * here], memory[at + 2 * here + 1]
    for lane in range(LANES):
        memory[TABLE + LANES * there + lane] = memory[TABLE + LANES * here + lane]


@njit(cache=True, error_model="numpy")
def _render(rows, memory, params, bend, out):  # type: ignore[no-untyped-def]
    """Add all active voices to `out` [n]: a tick is made when its first sample is asked for."""
    p = params[0]
    n = len(out)
    sums = np.empty(TICK, np.float32)
    for i in range(len(rows)):
        v = rows[i]
        line = memory[i]
        at = 0
        while at < n and v.active == 1:
            step = v.age % TICK
            if step == 0:
                if v.over == 1:
                    v.active = 0
                    break
                _tick(v, p, line, bend, sums)
            m = min(TICK - step, n - at)
            env = v.env
            fade = 1.0 if v.held == 1 else p.release_factor
            for j in range(m):
                env *= fade
                out[at + j] += env * (v.gain + (step + j) * v.gain_step) * line[step + j]
            v.env = env
            v.age += m
            at += m
