"""Sounds read at any speed, between their samples: what plays made sounds and streams of sound at the pitch wanted.

A value between two samples is a windowed sinc of 32 taps over its neighbours. Read faster than it was made, a sound's
highest octave would fold down as noise: so there is a sinc for every quarter of an octave of speed, which cuts where
what is read still fits.
"""

import functools
import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from soundloom.instruments.voices import FIELDS, SILENT, record

TICK = 64  # samples between two looks at the bend; the speed moves linearly between
HALF = 16  # taps on either side; so many samples of silence stand before and after every sound that is read
PHASES = 512  # places between two samples that have taps of their own; between them the taps move linearly: -108 dB
SPEEDS = 13  # sincs, from speed 1 on, a quarter of an octave apart
STOP = 0.54  # where a sinc is down by 80 dB, in cycles a sample that is given out: what folds back lies above 20 kHz
WIDTH = 0.157  # from there to where it lets pass, in cycles a sample that is read

ROW = np.dtype(
    [
        *FIELDS,
        ("slot", "i8"),
        ("waiting", "i8"),  # samples since a note began whose sound is not there yet; 0: it is
        ("looked", "i8"),  # ticks that have begun
        *[(name, "f8") for name in ("shift", "gain", "aim")],  # semitones from the sound's own pitch; levels, squared
        *[(name, "f8") for name in ("position", "speed", "arriving")],  # at the tick's start, and the speed at its end
        *[(name, "f8") for name in ("rise", "fade")],  # the envelope: what has risen, and what has not yet faded
    ]
)


def knobs(
    sample_rate: int, *, attack_s: float, release_s: float, gain_db: float, cents: float = 0.0, ratio: float = 1.0
) -> NDArray[Any]:
    """What the kernels need of the knobs, [1] record. `ratio`: samples of the sound in one that is given out."""
    derived = {
        "attack_step": 1 / (attack_s * sample_rate),
        "release_factor": 0.001 ** (1 / (release_s * sample_rate)),
        "semitones": cents / 100,
        "ratio": ratio,
        "gain": 10 ** (gain_db / 20),
        "smoothing": 1 - math.exp(-1 / (0.005 * sample_rate)),  # levels glide in 5 ms
    }
    return record(derived)


@functools.cache
def sincs() -> NDArray[np.float32]:
    """The taps, [SPEEDS, PHASES + 1, 2 * HALF]: of a value `phase / PHASES` after the sample in the middle."""
    at = np.arange(2 * HALF) - (HALF - 1) - np.arange(PHASES + 1)[:, None] / PHASES
    window = np.i0(8.0 * np.sqrt(np.maximum(1 - (at / HALF) ** 2, 0))) / np.i0(8.0)
    tables = []
    for number in range(SPEEDS):
        cut = max(STOP / 2 ** (number / 4) - WIDTH / 2, 0.02)
        taps = 2 * cut * np.sinc(2 * cut * at) * window
        tables.append(taps / taps.sum(axis=1, keepdims=True))
    return np.stack(tables).astype(np.float32)


def padded(sound: NDArray[np.float32]) -> NDArray[np.float32]:
    """A sound [T] as `read` takes it, with silence around it: enough for the taps after its end to come to rest."""
    return np.pad(np.asarray(sound, np.float32), (HALF, 2 * HALF))


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _value(sound, position, sinc):  # type: ignore[no-untyped-def]
    """The sound at a place between its samples; `position` counts from the first sample after the silence."""
    whole = math.floor(position)
    part = (position - whole) * PHASES
    phase = int(part)
    between = np.float32(part - phase)
    low, high = sinc[phase], sinc[phase + 1]
    first = int(whole) + 1  # HALF of silence before the sound, HALF - 1 taps before the sample
    a = b = c = d = np.float32(0)
    for k in range(0, 2 * HALF, 4):  # four sums side by side: none waits for another
        a += (low[k] + between * (high[k] - low[k])) * sound[first + k]
        b += (low[k + 1] + between * (high[k + 1] - low[k + 1])) * sound[first + k + 1]
        c += (low[k + 2] + between * (high[k + 2] - low[k + 2])) * sound[first + k + 2]
        d += (low[k + 3] + between * (high[k + 3] - low[k + 3])) * sound[first + k + 3]
    return (a + b) + (c + d)


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def read(rows, sound, filled, ends, params, bend, tables, out):  # type: ignore[no-untyped-def]
    """Add a voice, rows [1], to `out` [n], and move it on; returns how many samples it got to.

    `sound` holds `filled` samples, the silence around it included. One that `ends` is over with its last sample; of
    one that does not, more is on its way, and the voice stops where it needs it. A sound at its own speed is given out
    as it is, sample by sample.
    """
    v, p = rows[0], params[0]
    n, at = len(out), 0
    while at < n and v.active == 1:
        step = v.age % TICK
        if v.looked * TICK == v.age:
            target = p.ratio * 2.0 ** ((v.shift + p.semitones + bend) / 12.0)
            if v.looked == 0:
                v.arriving = target
            else:
                v.position += TICK * 0.5 * (v.speed + v.arriving)
            v.speed, v.arriving = v.arriving, target
            v.looked += 1
        m = min(TICK - step, n - at)
        bow = (v.arriving - v.speed) / (2 * TICK)
        fastest = max(v.speed, v.arriving)
        number = min(math.ceil(4.0 * math.log2(fastest) - 0.05), SPEEDS - 1) if fastest > 1.0 else 0
        sinc = tables[number]
        straight = v.speed == 1.0 and v.arriving == 1.0 and v.position == math.floor(v.position)
        rise, fade, gain, aim = v.rise, v.fade, v.gain, v.aim
        attack, smoothing = p.attack_step, p.smoothing
        falling = 1.0 if v.held == 1 else p.release_factor
        done = m
        for j in range(m):
            k = step + j
            position = v.position + k * v.speed + k * k * bow
            y = np.float32(0)
            if position + 2 * HALF >= filled:
                if not ends:
                    done = j
                    break
            elif straight:
                y = sound[int(position) + HALF]
            else:
                y = _value(sound, position, sinc)
            rise = min(rise + attack, 1.0)
            fade *= falling
            gain += (aim - gain) * smoothing
            out[at + j] += rise * fade * gain * y
        v.rise, v.fade, v.gain = rise, fade, gain
        v.age += done
        at += done
        if done < m:
            break
        if v.age % TICK == 0 and (fade < SILENT or (ends and v.position + 2 * HALF >= filled)):
            v.active = 0
    return at


@njit(cache=True)
def turn(block, level, params):  # type: ignore[no-untyped-def]
    """A block [n] times the level, which glides: `level` [1] is where it stands."""
    p = params[0]
    now = level[0]
    for j in range(len(block)):
        now += (p.gain - now) * p.smoothing
        block[j] *= now
    level[0] = now
