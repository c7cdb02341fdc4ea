"""A wavetable synthesiser: a wave that morphs from frame to frame of a table, a second one beside it, and a filter.

Pads that move, digital bells, vowels, sync leads, and whatever Serum and Vital keep in their wavetable files.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from soundloom.audio import Waveform
from soundloom.instruments import filters, tables
from soundloom.instruments.base import Event, Param
from soundloom.instruments.filters import LANES
from soundloom.instruments.modulation import DECAY, envelope_tick
from soundloom.instruments.oscillators import PHASE_ONE, TICK, increment
from soundloom.instruments.ticks import gathered, glided, hand_out, tick_factor
from soundloom.instruments.voices import FIELDS, SILENT, AbstractPolyphonic, Voices, record


class Wavetable(AbstractPolyphonic):
    """Frames of a table, morphed by a knob, an envelope and a slow oscillator → filter → level.

    >>> pad = Wavetable({"table": 3, "position_lfo": 0.5, "position_lfo_hz": 0.2})
    >>> state = pad.init_state(44100)
    >>> block, state = pad.process(state, [Event(0, "on", note=1, pitch=57)], 512)
    >>> block.shape
    (1, 512)

    With a `source` (a file, or a sound in memory: see `tables.opened`) that is the table, and no knob picks one.
    """

    params: tuple[Param, ...] = (
        Param("table", "", 0, 6, 0, help="0 saw to square, 1 pulses, 2 sweep, 3 vowels, 4 bells, 5 sync, 6 growl"),
        Param("position", "", 0, 1, 0, help="where in the table: 0 its first frame, 1 its last"),
        Param("velocity_position", "", -1, 1, 0, help="how much further the hardest touch is in it"),
        Param("position_lfo_hz", "Hz", 0.02, 20, 0.3, "log", "how fast the position swings"),
        Param("position_lfo", "", 0, 1, 0, help="how far the position swings"),
        Param("position_env", "", -1, 1, 0, help="how far the envelope moves the position"),
        Param("position_attack_s", "s", 0.001, 10, 0.001, "log", "the position envelope's rise"),
        Param("position_decay_s", "s", 0.005, 20, 1, "log", "its fall by 60 dB towards the sustain"),
        Param("position_sustain", "", 0, 1, 0, help="where it stays"),
        Param("osc2_level", "", 0, 1, 0.5, help="how much of a second oscillator, on the same table"),
        Param("osc2_semitones", "semitones", -24, 24, 0.1, help="the second oscillator against the first"),
        Param("vibrato_hz", "Hz", 0.05, 12, 5, "log", "how fast the pitch swings"),
        Param("vibrato_cents", "cents", 0, 100, 0, help="how far the pitch swings"),
        Param("cutoff_hz", "Hz", 20, 20000, 20000, "log", "where the filter cuts, with its envelope at rest"),
        Param("resonance", "", 0, 1, 0, help="how much the filter rings at its cutoff"),
        Param("key_tracking", "", 0, 1, 0, help="how far the cutoff follows the keyboard (from C4)"),
        Param("velocity_octaves", "octaves", 0, 6, 0, help="how much duller the softest touch is than the hardest"),
        Param("filter_env_octaves", "octaves", -8, 8, 0, help="how far the filter envelope moves the cutoff"),
        Param("filter_attack_s", "s", 0.001, 5, 0.001, "log", "the filter envelope's rise"),
        Param("filter_decay_s", "s", 0.005, 10, 0.5, "log", "its fall by 60 dB towards the sustain"),
        Param("filter_sustain", "", 0, 1, 0, help="where it stays"),
        Param("attack_s", "s", 0.0005, 10, 0.005, "log", "the level's rise"),
        Param("decay_s", "s", 0.005, 20, 1, "log", "the level's fall by 60 dB towards the sustain"),
        Param("sustain", "", 0, 1, 0.8, help="the level that stays while the key is held"),
        Param("release_s", "s", 0.005, 10, 0.3, "log", "the level's fall by 60 dB after the key"),
        Param("gain_db", "dB", -60, 6, -6, help="the level"),
    )
    # What moves within a tick is kept as it is at the tick's end, and as it was at its start.
    row = np.dtype(
        [
            *FIELDS,
            *[(name, "i8") for name in ("over", "moved", "stage", "filter_stage", "position_stage", "first", "count")],
            *[(name, "f8") for name in ("pitch", "velocity", "bent", "env", "filter_env", "position_env")],
            *[(name, "f8") for name in ("position", "cutoff", "octave", "damping", "gain")],
            *[(name, "f8") for name in ("place", "c0", "c1", "loud", "old_place", "old_c0", "old_c1", "old_loud")],
            *[(name, "i8", 2) for name in ("phase", "inc", "slope", "level", "old_level")],  # an oscillator each
            *[(name, "f8", 2) for name in ("reach", "amount", "old_amount")],  # reach: the increment
            ("filter", "f8", 4),
        ]
    )

    def __init__(
        self,
        settings: Mapping[str, float] | None = None,
        *,
        voices: int = 16,
        source: Waveform | Path | str | None = None,
    ) -> None:
        self.tables = None if source is None else tables.opened(source)
        if self.tables is not None:
            self.params = tuple(param for param in self.params if param.name != "table")
        super().__init__(settings, voices=voices)

    def _derive(self, values: Mapping[str, float], sample_rate: int) -> NDArray[Any]:
        derived = {name: value for name, value in values.items() if name != "table"}  # the voice's, at its start
        for which in ("", "filter_", "position_"):
            derived[f"{which}rise"] = TICK / (values[f"{which}attack_s"] * sample_rate)
            derived[f"{which}fall"] = tick_factor(values[f"{which}decay_s"], sample_rate)
        derived |= {
            "release_fall": tick_factor(values["release_s"], sample_rate),
            "damping": 2 * 0.01 ** values["resonance"],  # 1 / Q: Q goes from 0.5 to 50
            "cutoff_octave": math.log2(values["cutoff_hz"]),
            "osc2_ratio": 2 ** (values["osc2_semitones"] / 12),
            "gain": 10 ** (values["gain_db"] / 20),
            "smoothing": -math.expm1(-TICK / (0.005 * sample_rate)),  # knobs glide in 5 ms
        }
        return record(derived)

    def _memory_samples(self, sample_rate: int) -> int:
        return TICK // 2  # a tick in single precision

    def _start(self, state: Voices, slot: int, event: Event) -> None:
        row = state.rows[slot]
        row["pitch"], row["velocity"], row["bent"] = event.pitch, event.velocity, state.bend
        table = round(state.values.get("table", 0))
        one = self.tables or tables.shipped()
        row["first"], row["count"] = one.first[table], one.count[table]
        row["phase"][1] = PHASE_ONE // 4  # side by side from the start, not one louder wave that then comes apart

    def _render(self, state: Voices, rows: NDArray[Any], memory: NDArray[np.float64], out: NDArray[np.float64]) -> None:
        one = self.tables or tables.shipped()
        lines = memory.view(np.float32)
        _render(rows, lines, state.derived, one.waves, one.ladder, state.bend, float(state.sample_rate), out[0])


@njit(cache=True)
def _move_pitch(v, p, bend, first, harmonics, sample_rate):  # type: ignore[no-untyped-def]
    """Where both oscillators go until the next tick."""
    moves = first or p.vibrato_cents > 0 or v.bent != bend or v.reach[1] != v.reach[0] * p.osc2_ratio
    for osc in range(2):
        v.phase[osc] += TICK * v.inc[osc] + (TICK * (TICK - 1) >> 1) * v.slope[osc]
    if moves or v.moved == 1:  # what has come to rest goes on without a slope
        start, start2 = v.reach[0], v.reach[1]
        v.bent = glided(v.bent, bend, p.smoothing)
        swing = 0.01 * p.vibrato_cents * math.sin(2 * math.pi * p.vibrato_hz * (v.age + TICK) / sample_rate)
        v.reach[0] = increment(v.pitch + v.bent + swing, sample_rate)
        v.reach[1] = v.reach[0] * p.osc2_ratio
        if first:
            start, start2 = v.reach[0], v.reach[1]
        for osc in range(2):
            begin = start if osc == 0 else start2
            v.inc[osc], v.slope[osc] = int(begin), int((v.reach[osc] - begin) / TICK)
            v.level[osc] = tables.level(max(begin, v.reach[osc]), harmonics)
    v.moved = 1 if moves else 0


@njit(cache=True)
def _tick(v, p, bend, harmonics, sample_rate):  # type: ignore[no-untyped-def]
    """Work out where all goes until the next tick."""
    first = v.age == 0
    part = 1.0 if first else p.smoothing
    v.old_place, v.old_c0, v.old_c1, v.old_loud = v.place, v.c0, v.c1, v.loud
    for osc in range(2):
        v.old_level[osc], v.old_amount[osc] = v.level[osc], v.amount[osc]
    _move_pitch(v, p, bend, first, harmonics, sample_rate)
    v.env, v.stage = envelope_tick(v.env, v.stage, v.held, p.rise, p.sustain, p.fall, p.release_fall)
    v.filter_env, v.filter_stage = envelope_tick(
        v.filter_env, v.filter_stage, v.held, p.filter_rise, p.filter_sustain, p.filter_fall, p.release_fall
    )
    v.position_env, v.position_stage = envelope_tick(
        v.position_env, v.position_stage, v.held, p.position_rise, p.position_sustain, p.position_fall, p.release_fall
    )
    v.position += part * (p.position - v.position)
    at = v.position + p.velocity_position * v.velocity + p.position_env * v.position_env
    if p.position_lfo > 0:
        at += p.position_lfo * math.sin(2 * math.pi * p.position_lfo_hz * (v.age + TICK) / sample_rate)
    v.place = min(max(at, 0.0), 1.0) * (v.count - 1)
    v.amount[0], v.amount[1] = 1.0, v.amount[1] + part * (p.osc2_level - v.amount[1])
    v.gain += part * (p.gain * v.velocity * v.velocity - v.gain)
    v.loud = v.gain * v.env
    v.over = 1 if v.env < SILENT and (v.held == 0 or (v.stage == DECAY and p.sustain < SILENT)) else 0

    v.cutoff += part * (p.cutoff_octave - v.cutoff)
    octave = v.cutoff + p.filter_env_octaves * v.filter_env - p.velocity_octaves * (1.0 - v.velocity)
    octave += p.key_tracking * (v.pitch - 60.0) / 12.0
    if octave != v.octave or p.damping != v.damping:
        v.octave, v.damping = octave, p.damping
        v.c0, v.c1 = filters.svf_coefficients(filters.prewarped(octave, sample_rate), p.damping)
    if first:
        v.old_place, v.old_c0, v.old_c1 = v.place, v.c0, v.c1
        for osc in range(2):
            v.old_level[osc], v.old_amount[osc] = v.level[osc], v.amount[osc]


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _read(buffer, phase, step, bend, a, a_step, waves, one, bits):  # type: ignore[no-untyped-def]
    """Add a tick of a frame that lies at `one`, of the level a, which moves by its step a sample, as the pitch's step
    does by `bend`."""
    down, low = np.uint32(32 - bits), np.uint32((1 << (32 - bits)) - 1)
    scale = np.float32(1.0 / (1 << (32 - bits)))
    p, i, more = np.uint32(phase), np.uint32(step), np.uint32(bend)
    for j in range(TICK):
        k = one + np.int64(p >> down)
        x = waves[k]
        buffer[j] += a * (x + (waves[k + 1] - x) * (np.float32(np.int32(p & low)) * scale))
        p, i = np.uint32(p + i), np.uint32(i + more)
        a += a_step


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _read_two(buffer, phase, step, bend, a, a_step, b, b_step, waves, one, two, bits):  # type: ignore[no-untyped-def]
    """The same of two frames at once, of the levels a and b."""
    down, low = np.uint32(32 - bits), np.uint32((1 << (32 - bits)) - 1)
    scale = np.float32(1.0 / (1 << (32 - bits)))
    p, i, more = np.uint32(phase), np.uint32(step), np.uint32(bend)
    for j in range(TICK):
        k, part = np.int64(p >> down), np.float32(np.int32(p & low)) * scale
        x, y = waves[one + k], waves[two + k]
        buffer[j] += a * (x + (waves[one + k + 1] - x) * part) + b * (y + (waves[two + k + 1] - y) * part)
        p, i = np.uint32(p + i), np.uint32(i + more)
        a += a_step
        b += b_step


@njit(cache=True)
def _oscillate(buffer, v, osc, waves, ladder):  # type: ignore[no-untyped-def]
    """Add a tick of an oscillator, on its way from where it was to where it is going: another place in the table,
    another number of harmonics, another level. Where the frames or the harmonics are others, one pair fades into the
    other."""
    last, size = max(v.count - 2, 0), ladder[0, -1] + (1 << ladder[1, -1]) + 1
    below, below_end, level, level_end = int(v.old_place), int(v.place), v.old_level[osc], v.level[osc]
    below, below_end = min(below, last), min(below_end, last)
    part, part_end = v.old_place - below, v.place - below_end
    start, end = v.old_amount[osc], v.amount[osc]
    same = below == below_end and level == level_end
    for k in range(1 if same else 2):
        if not same and k == 0:  # away from the one pair
            a, a_end, b, b_end = (1 - part) * start, 0.0, part * start, 0.0
        elif not same:  # towards the other
            below, level = below_end, level_end
            a, a_end, b, b_end = 0.0, (1 - part_end) * end, 0.0, part_end * end
        else:
            a, a_end, b, b_end = (1 - part) * start, (1 - part_end) * end, part * start, part_end * end
        one, bits = (v.first + below) * size + ladder[0, level], ladder[1, level]
        first, first_step = np.float32(a), np.float32((a_end - a) / TICK)
        second, second_step = np.float32(b), np.float32((b_end - b) / TICK)
        if b > 0 or b_end > 0:
            _read_two(buffer, v.phase[osc], v.inc[osc], v.slope[osc], first, first_step, second, second_step, waves,
                      one, one + size, bits)  # fmt: skip
        else:
            _read(buffer, v.phase[osc], v.inc[osc], v.slope[osc], first, first_step, waves, one, bits)


@njit(cache=True)
def _begin(v, p, bend, tile, lane, buffer, waves, ladder, sample_rate):  # type: ignore[no-untyped-def]
    """A tick of a voice's oscillators, into its lane of the filter."""
    _tick(v, p, bend, ladder[2], sample_rate)
    for j in range(TICK):
        buffer[j] = 0.0
    for osc in range(2):
        if v.old_amount[osc] > 0 or v.amount[osc] > 0:
            _oscillate(buffer, v, osc, waves, ladder)
    for j in range(TICK):
        tile[j, lane] = buffer[j]
    for k in range(4):
        tile[filters.STATE + k, lane] = v.filter[k]
    tile[filters.COEFFICIENT, lane], tile[filters.COEFFICIENT + 1, lane] = v.old_c0, v.old_c1
    tile[filters.STEP, lane], tile[filters.STEP + 1, lane] = (v.c0 - v.old_c0) / TICK, (v.c1 - v.old_c1) / TICK


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _render(rows, lines, params, waves, ladder, bend, sample_rate, out):  # type: ignore[no-untyped-def]
    """Add all active voices to `out` [n], LANES at a time, tick by tick."""
    p = params[0]
    n = len(out)
    slots, at = np.empty(LANES, np.int64), np.empty(LANES, np.int64)
    tile = np.zeros((filters.HEIGHT, LANES))
    buffer = np.zeros(TICK, np.float32)
    row = 0
    while row < len(rows):
        count, row = gathered(rows, row, slots, at)
        going = count > 0
        while going:
            due = 0  # a bit a lane
            for lane in range(count):
                v = rows[slots[lane]]
                if v.active == 1 and at[lane] < n and v.age % TICK == 0:
                    due |= 1 << lane
                    _begin(v, p, bend, tile, lane, buffer, waves, ladder, sample_rate)
            if due:
                filters.svf(tile, p.damping, 1.0, 0.0, 0.0)
            going = False
            for lane in range(count):
                v = rows[slots[lane]]
                line = lines[slots[lane]]
                if due >> lane & 1:
                    for k in range(4):
                        v.filter[k] = tile[filters.STATE + k, lane]
                    level, step = np.float32(v.old_loud), np.float32((v.loud - v.old_loud) / TICK)
                    for j in range(TICK):
                        line[j] = (level + np.float32(j) * step) * np.float32(tile[j, lane])
                if v.active == 1 and at[lane] < n:
                    at[lane] = hand_out(v, line, at[lane], out)
                    going |= v.active == 1 and at[lane] < n
