"""A granular synthesiser: thousands of short pieces of a recording, overlapping, each with a place, pitch and side.

Clouds, frozen moments, stretched and scattered sounds. Grains start between the samples, where they are due.
"""

import functools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from soundloom.audio import Waveform
from soundloom.instruments import grainsource
from soundloom.instruments.base import Event, Param
from soundloom.instruments.voices import FIELDS, SILENT, AbstractPolyphonic, Voices, record, white

TICK = 128
MOST = 4096  # grains of a voice at once
FASTEST = 16.0  # frames of an octave that a grain moves a sample, at most; PAD of a recording is longer than a tick
BITS = 24  # of a frame: places within a tick are whole numbers
ATTACK, DECAY = 0, 1
# A grain in the memory of its voice: when it starts (age), its place where the warped time is 0, samples of the source
# for one of warped time, how long it lasts, octave, levels, and its window: 1 / rise, 1 / fall, curve.
ONSET, PLACE, RATE, LENGTH, OCTAVE, LEFT, RIGHT, RISE, FALL, CURVE, GRAIN = range(11)
# sin(pi u / 2) / 2 = u (C0 + C1 u² + ...) on [-1, 1] to 3e-7, exact at the ends.
C0, C1, C2, C3 = (np.float32(c) for c in (0.7853952010, -0.3229434023, 0.0397099558, -0.0021617544))
ONE, TWO, HALF = np.float32(1), np.float32(2), np.float32(0.5)


class Granular(AbstractPolyphonic):
    """Grains of a recording, or of a built-in choir of strings. Stereo.

    >>> cloud = Granular({"scan": 0.0, "position": 0.4, "size_ms": 300})
    >>> state = cloud.init_state(44100)
    >>> block, state = cloud.process(state, [Event(0, "on", note=1, pitch=64)], 512)
    >>> block.shape
    (2, 512)

    The level depends neither on how many grains overlap nor on how alike they are.
    """

    params = (
        Param("position", "", 0, 1, 0.1, help="where in the recording grains start: 0 its start, 1 its end"),
        Param("position_spray_s", "s", 0, 2, 0.04, help="how far from there each may start by chance, either way"),
        Param("scan", "", -2, 2, 0.3, help="how fast the position moves by itself: 1 as recorded, 0 stands still"),
        Param("size_ms", "ms", 1, 1000, 160, "log", "how long a grain is"),
        Param("density_hz", "Hz", 0.5, 4000, 70, "log", "how many grains start a second"),
        Param("jitter", "", 0, 1, 0.6, help="how irregularly they start: 0 as a clock, 1 by chance"),
        Param("window", "", 0, 2, 0, help="the shape of a grain: 0 round, 1 flat, 2 a stroke that dies away"),
        Param("root_pitch", "MIDI", 0, 127, 60, help="the key that plays the recording at its own pitch"),
        Param("key_tracking", "", 0, 1, 1, help="how far the pitch follows the key"),
        Param("pitch_spray_cents", "cents", 0, 1200, 5, help="how far off each grain's pitch is by chance, either way"),
        Param("reverse", "", 0, 1, 0, help="how many of the grains are played backwards"),
        Param("pan_spray", "", 0, 1, 0.6, help="how far to the sides each grain is put by chance"),
        Param("attack_s", "s", 0.0005, 10, 0.05, "log", "the level's rise"),
        Param("decay_s", "s", 0.005, 20, 2, "log", "the level's fall by 60 dB towards the sustain"),
        Param("sustain", "", 0, 1, 1, help="the level that stays while the key is held"),
        Param("release_s", "s", 0.005, 20, 0.8, "log", "the level's fall by 60 dB after the key"),
        Param("gain_db", "dB", -60, 6, -6, help="the level"),
    )
    channels = 2
    row = np.dtype(
        [
            *FIELDS,
            *[(name, "i8") for name in ("stage", "number", "count", "over", "stamp")],
            *[(name, "f8") for name in ("pitch", "velocity", "env", "gain", "gain_step", "level")],
            *[(name, "f8") for name in ("warped", "bent", "speed", "speed_step", "scanned", "due")],
        ]
    )

    def __init__(
        self, settings: Mapping[str, float] | None = None, *, voices: int = 8, source: Waveform | None = None
    ) -> None:
        super().__init__(settings, voices=voices)
        self.source = grainsource.built_in() if source is None else grainsource.prepared(source)

    def _memory_samples(self, sample_rate: int) -> int:
        return 2 * TICK + MOST * GRAIN

    def _derive(self, values: Mapping[str, float], sample_rate: int) -> NDArray[Any]:
        rise, fall, curve = _window(values["window"], values["size_ms"])
        derived = dict(values)
        derived |= {
            "rise": rise,
            "fall": fall,
            "curve": curve,
            "energy": _energy(rise, fall, curve),
            "length": values["size_ms"] / 1000 * sample_rate,
            "interval": sample_rate / values["density_hz"],
            "step": self.source.sample_rate / sample_rate,  # samples of the source for one of ours
            "spray": values["position_spray_s"] * self.source.sample_rate,
            "attack_step": 1 / (values["attack_s"] * sample_rate),
            "decay_factor": 0.001 ** (1 / (values["decay_s"] * sample_rate)),
            "release_factor": 0.001 ** (1 / (values["release_s"] * sample_rate)),
            "gain": 10 ** (values["gain_db"] / 20),
            "smoothing": 1 - math.exp(-TICK / (0.01 * sample_rate)),  # knobs and bend glide in 10 ms
            "stamp": float(hash(tuple(values.values())) & 0xFFFFFFFF),
        }
        return record(derived)

    def _start(self, state: Voices, slot: int, event: Event) -> None:
        row = state.rows[slot]
        row["pitch"], row["velocity"], row["stamp"] = event.pitch, event.velocity, -1
        row["bent"], row["speed"] = state.bend, 2 ** (state.bend / 12)
        row["gain"] = state.derived[0]["gain"] * event.velocity**2

    def _render(self, state: Voices, rows: NDArray[Any], memory: NDArray[np.float64], out: NDArray[np.float64]) -> None:
        source = self.source
        _render(rows, memory, state.derived, source.frames, source.starts, source.kinship, source.samples,
                state.bend, out[0], out[1])  # fmt: skip


def _window(shape: float, size_ms: float) -> tuple[float, float, float]:
    """Rise and fall as parts of a grain, and how its level falls in between: (1 - curve t)⁴."""
    flat, stroke = min(shape, 1.0), max(shape - 1.0, 0.0)
    fall = 0.5 * 0.2**flat
    rise = fall * 0.05**stroke
    return max(rise, min(0.5 / size_ms, 0.5)), fall, stroke  # half a millisecond at least: no click


@functools.lru_cache(maxsize=256)
def _energy(rise: float, fall: float, curve: float) -> float:
    """The mean square of a grain's window."""
    t = (np.arange(256) + 0.5) / 256
    edge = np.minimum(np.minimum(t / rise, (1 - t) / fall), 1)
    return float(np.mean(np.sin(np.pi / 2 * edge) ** 4 * (1 - curve * t) ** 8))


@njit(cache=True, error_model="numpy")
def _level(p, kinship, rate, length):  # type: ignore[no-untyped-def]
    """What brings the sum of overlapping grains to the level of the recording.

    The power of a sum is the sum over all pairs of how alike they are: related grains add up as levels do, others as
    powers do. Where grains cancel each other nothing is made louder, and a lone grain has its own level.
    """
    overlap = length / p.interval
    drift = abs(p.scan * p.step - rate)
    spread = 2 * p.spray + p.jitter * p.interval * drift + length * rate * (2.0 ** (p.pitch_spray_cents / 1200) - 1)
    same_way = p.reverse**2 + (1 - p.reverse) ** 2
    pairs = 0.0
    for m in range(1, int(overlap) + 1):
        u = m / overlap
        both = (1 - u) * (2 + math.cos(2 * math.pi * u)) / 3 + math.sin(2 * math.pi * u) / (2 * math.pi)
        pairs += both * grainsource.related(kinship, m * p.interval * drift, spread)
    return 1.0 / math.sqrt(max(overlap * p.energy * max(1.0 + 2.0 * same_way * pairs, 1.0), 1.0))


@njit(cache=True, error_model="numpy")
def _sow(v, p, grains, kinship, samples):  # type: ignore[no-untyped-def]
    """Write down the grains that are due in the tick that starts now."""
    rate = p.step * 2.0 ** (p.key_tracking * (v.pitch - p.root_pitch) / 12.0)
    if v.stamp != p.stamp:
        v.level, v.stamp = _level(p, kinship, rate, min(p.length, samples / rate)), int(p.stamp)
    while v.due < v.age + TICK:
        first = 8 * v.number
        onset = v.due + (p.jitter * p.interval * abs(white(v.key, first)) if v.number else 0.0)
        v.due += p.interval
        v.number += 1
        if v.count == MOST:
            continue
        own = rate * 2.0 ** (p.pitch_spray_cents * white(v.key, first + 1) / 1200.0)
        length = min(p.length, samples / own)
        last = samples - own * length  # where the last grain starts that does not run over the end
        place = p.position + v.scanned + p.scan * p.step * (onset - v.age) / samples
        if place < 0 or place > 1:
            place -= math.floor(place)
        place = abs(place * samples + p.spray * white(v.key, first + 2))
        place = min(max(last - abs(last - place), 0.0), last)
        if abs(white(v.key, first + 3)) < p.reverse:
            place, own = place + own * length, -own
        side = 0.25 * math.pi * (1.0 + p.pan_spray * white(v.key, first + 4))
        # Up to a third of an octave above what an octave holds, what folds down comes to lie above 16 kHz.
        octave = math.ceil(math.log2(abs(own) * v.speed) - 0.33)
        g = grains[v.count]
        g[ONSET], g[PLACE], g[RATE], g[LENGTH] = onset, place, own, length
        g[OCTAVE] = min(max(octave, 0), grainsource.OCTAVES - 1)
        g[LEFT], g[RIGHT] = v.level * math.sqrt(2.0) * math.cos(side), v.level * math.sqrt(2.0) * math.sin(side)
        g[RISE], g[FALL], g[CURVE] = 1.0 / p.rise, 1.0 / p.fall, p.curve
        v.count += 1


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _grow(frames, at, step, bend, t, t_step, g, left, right, pairs, four):  # type: ignore[no-untyped-def]
    """Add a tick of a grain to `left` and `right`: read, weigh, put to its side. Its window is 0 outside of it.

    `at`, `step` and `bend` are the place, its change and the change of that, in 2^-24 frames. Frames are fetched first,
    two neighbours at once, so that the second loop has nothing that keeps it from SIMD lanes. `four` shows `pairs` as
    left, right, next left, next right. Of the second loop's whole numbers only the lowest bits count.
    """
    place, move, more = np.uint64(at), np.uint64(step), np.uint64(bend)
    for j in range(TICK):
        index = place >> np.uint64(BITS)
        here, there = frames[index], frames[index + np.uint64(1)]
        pairs[2 * j] = here
        pairs[2 * j + 1] = there
        place += move
        move += more
    at, step, bend = np.int32(at & 0x7FFFFFFF), np.int32(step & 0x7FFFFFFF), np.int32(bend & 0x7FFFFFFF)
    rise, fall, curve = np.float32(g[RISE]), np.float32(g[FALL]), np.float32(g[CURVE])
    level_left, level_right = np.float32(g[LEFT]), np.float32(g[RIGHT])
    t, t_step = np.float32(t), np.float32(t_step)
    for j in range(TICK):
        k = np.int32(j)
        low = np.int32(at + k * step + (k * (k - np.int32(1)) >> 1) * bend) & np.int32((1 << BITS) - 1)
        part = np.float32(low) * np.float32(2.0**-BITS)
        x = four[4 * j] + (four[4 * j + 2] - four[4 * j]) * part
        y = four[4 * j + 1] + (four[4 * j + 3] - four[4 * j + 1]) * part
        now = t + np.float32(j) * t_step
        u = TWO * max(min(min(now * rise, (ONE - now) * fall), ONE), np.float32(0)) - ONE
        uu = u * u
        dying = ONE - curve * now
        dying *= dying
        window = (HALF + u * (C0 + uu * (C1 + uu * (C2 + uu * C3)))) * (dying * dying)
        left[j] += level_left * window * x
        right[j] += level_right * window * y


@njit(cache=True, error_model="numpy")
def _tick(v, p, memory, frames, starts, kinship, samples, bend, pairs, four, left, right):  # type: ignore[no-untyped-def]
    """The next tick of a voice, into the start of its memory."""
    grains = memory[2 * TICK :].reshape(MOST, GRAIN)
    if v.age:
        v.warped += TICK * v.speed + (TICK * (TICK - 1) >> 1) * v.speed_step
        v.speed += TICK * v.speed_step
        v.gain += TICK * v.gain_step
    v.bent += (bend - v.bent) * p.smoothing
    if abs(v.bent - bend) < 1e-3:
        v.bent = bend
    v.speed_step = (2.0 ** (v.bent / 12.0) - v.speed) / TICK
    v.gain_step = (p.gain * v.velocity * v.velocity - v.gain) * p.smoothing / TICK
    _sow(v, p, grains, kinship, samples)
    v.scanned += p.scan * p.step * TICK / samples
    v.scanned -= math.floor(v.scanned) if abs(v.scanned) > 1 else 0.0

    left[:] = 0.0
    right[:] = 0.0
    i = 0
    while i < v.count:
        g = grains[i]
        onset = g[ONSET] - v.age
        over = onset + g[LENGTH] <= TICK
        if onset < TICK:
            if onset >= 0:
                g[PLACE] -= g[RATE] * (v.warped + onset * v.speed + 0.5 * onset * (onset - 1) * v.speed_step)
            octave = int(g[OCTAVE])
            scale = 2.0 ** (1 - octave)
            place = (g[PLACE] + g[RATE] * v.warped) * scale
            if onset < 0 and (place < -1 or place > samples * scale):
                over = True  # a bend made it run off the recording
            else:
                step, bent = g[RATE] * scale * v.speed, g[RATE] * scale * v.speed_step
                if abs(step) > FASTEST or abs(step + TICK * bent) > FASTEST:
                    step, bent = math.copysign(FASTEST, step), 0.0
                _grow(frames, int((starts[octave] + place) * (1 << BITS)), int(step * (1 << BITS)),
                      int(bent * (1 << BITS)), -onset / g[LENGTH], 1.0 / g[LENGTH],
                      g, left, right, pairs, four)  # fmt: skip
        if over:
            v.count -= 1
            for field in range(GRAIN):
                g[field] = grains[v.count, field]
        else:
            i += 1
    for j in range(TICK):
        memory[j], memory[TICK + j] = left[j], right[j]


@njit(cache=True, error_model="numpy")
def _render(rows, memory, params, frames, starts, kinship, samples, bend, out_left, out_right):  # type: ignore[no-untyped-def]
    """Add all active voices to both sides of the output [n]: a tick is made when its first sample is asked for."""
    p = params[0]
    n = len(out_left)
    pairs = np.empty(2 * TICK, np.int64)
    four = pairs.view(np.float32)
    left, right = np.empty(TICK, np.float32), np.empty(TICK, np.float32)
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
                _tick(v, p, line, frames, starts, kinship, samples, bend, pairs, four, left, right)
            m = min(TICK - step, n - at)
            env = v.env
            for j in range(m):
                if v.held == 0:
                    env *= p.release_factor
                elif v.stage == ATTACK:
                    env += p.attack_step
                    if env >= 1:
                        env, v.stage = 1.0, DECAY
                else:
                    env = p.sustain + (env - p.sustain) * p.decay_factor
                level = env * (v.gain + (step + j) * v.gain_step)
                out_left[at + j] += level * line[step + j]
                out_right[at + j] += level * line[TICK + step + j]
            v.env = env
            v.age += m
            at += m
            if env < SILENT and (v.held == 0 or v.stage == DECAY):
                v.over = 1
