"""A subtractive synthesiser: oscillators and noise into a filter, with envelopes, slow oscillators, and a pitch drop.

Basses, pads and leads; with the pitch envelope and the noise also kicks, toms, snares and hats.
"""

import functools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from soundloom.instruments.base import Event, Param
from soundloom.instruments.lanes import through
from soundloom.instruments.modulation import fall_powers
from soundloom.instruments.oscillators import TICK, residuals
from soundloom.instruments.subtracting import TONE, mix, plan
from soundloom.instruments.tones import (
    BLOCK,
    DRIVEN,
    KINDS,
    LADDER,
    MEMORY,
    NOISE,
    ROUNDS,
    SAWS,
    SLAVE,
    UNISON,
    Room,
    hisses,
    rounds,
    saws,
    scatter,
    slaves,
)
from soundloom.instruments.voices import FIELDS, AbstractPolyphonic, Voices, record

MOVED = ("cutoff_octaves", "width", "tremolo")  # by both slow oscillators, besides the pitch


class Subtractive(AbstractPolyphonic):
    """Two oscillators and noise → filter → drive → level, each with its envelope.

    >>> synth = Subtractive({"cutoff_hz": 800, "osc2_semitones": -12})
    >>> state = synth.init_state(44100)
    >>> block, state = synth.process(state, [Event(0, "on", note=1, pitch=45)], 512)
    >>> block.shape
    (2, 512)

    Both channels are the same but for unison voices that are spread. Voices are rendered a tick at a time, ahead of
    the block where a tick reaches over its end: a key that goes up is heard from the voice's next tick on.
    """

    channels = 2
    params = (
        Param("osc1_shape", "", 0, 3, 2, help="0 sine, 1 triangle, 2 saw, 3 pulse, and all between"),
        Param("osc1_level", "", 0, 1, 0.5, help="how much of the first oscillator"),
        Param("osc2_shape", "", 0, 3, 2, help="0 sine, 1 triangle, 2 saw, 3 pulse, and all between"),
        Param("osc2_level", "", 0, 1, 0, help="how much of the second oscillator"),
        Param("osc2_semitones", "semitones", -24, 24, 0.07, help="the second oscillator against the first"),
        Param("sync", "", 0, 1, 0, help="1: the second oscillator starts again with every period of the first"),
        Param("pulse_width", "", 0.05, 0.95, 0.5, help="of both oscillators: 0.5 is hollow, the ends are nasal"),
        Param("noise_level", "", 0, 1, 0, help="how much white noise"),
        Param("unison", "", 1, 7, 1, help="how many of each oscillator sound, a little apart"),
        Param("detune_cents", "cents", 0, 100, 20, help="how far apart the lowest and the highest of them are"),
        Param("spread", "", 0, 1, 0.7, help="how far they are spread to left and right"),
        Param("pitch_env_semitones", "semitones", -48, 48, 0, help="how much higher the pitch starts: kicks and toms"),
        Param("pitch_env_s", "s", 0.001, 2, 0.03, "log", "how long the pitch takes to fall to a third of that"),
        Param("glide_s", "s", 0, 2, 0, help="how long the pitch takes from the last note to this one"),
        Param("vibrato_hz", "Hz", 0.05, 12, 5, "log", "how fast the pitch swings: the rate of slow oscillator 1"),
        Param("vibrato_cents", "cents", 0, 100, 0, help="how far the pitch swings"),
        Param("lfo1_shape", "", 0, 4, 0, help="of that swing: 0 sine, 1 triangle, 2 saw, 3 square, 4 random steps"),
        Param("lfo1_cutoff_octaves", "octaves", -4, 4, 0, help="how far it moves the cutoff"),
        Param("lfo1_width", "", 0, 0.45, 0, help="how far it moves the pulse width"),
        Param("lfo1_tremolo", "", 0, 1, 0, help="how far it takes the level down"),
        Param("lfo2_hz", "Hz", 0.05, 20, 1, "log", "the rate of slow oscillator 2"),
        Param("lfo2_cents", "cents", 0, 1200, 0, help="how far it swings the pitch"),
        Param("lfo2_shape", "", 0, 4, 1, help="0 sine, 1 triangle, 2 saw, 3 square, 4 random steps"),
        Param("lfo2_cutoff_octaves", "octaves", -4, 4, 0, help="how far it moves the cutoff"),
        Param("lfo2_width", "", 0, 0.45, 0, help="how far it moves the pulse width"),
        Param("lfo2_tremolo", "", 0, 1, 0, help="how far it takes the level down"),
        Param("filter_model", "", 0, 1, 0, help="0 a clean filter of 12 dB an octave, 1 a ladder of 24 that saturates"),
        Param("cutoff_hz", "Hz", 20, 20000, 20000, "log", "where the filter cuts, with its envelope at rest"),
        Param("resonance", "", 0, 1, 0, help="how much the filter rings at its cutoff; the ladder whistles at 1"),
        Param("filter_shape", "", 0, 2, 0, help="0 lets lows through, 1 a band, 2 highs, and all between"),
        Param("key_tracking", "", 0, 1, 0, help="how far the cutoff follows the keyboard (from C4)"),
        Param("velocity_octaves", "octaves", 0, 6, 0, help="how much duller the softest touch is than the hardest"),
        Param("filter_env_octaves", "octaves", -8, 8, 0, help="how far the filter envelope moves the cutoff"),
        Param("osc2_env_semitones", "semitones", -48, 48, 0, help="how far it moves the second oscillator"),
        Param("filter_attack_s", "s", 0.001, 5, 0.001, "log", "the filter envelope's rise"),
        Param("filter_decay_s", "s", 0.005, 10, 0.5, "log", "its fall by 60 dB towards the sustain"),
        Param("filter_sustain", "", 0, 1, 0, help="where it stays"),
        Param("attack_s", "s", 0.0005, 5, 0.003, "log", "the level's rise"),
        Param("decay_s", "s", 0.005, 20, 1, "log", "the level's fall by 60 dB towards the sustain"),
        Param("sustain", "", 0, 1, 0.8, help="the level that stays while the key is held"),
        Param("release_s", "s", 0.005, 10, 0.2, "log", "the level's fall by 60 dB after the key"),
        Param("drive_db", "dB", 0, 36, 0, help="saturation: how hard the filtered sound is pushed"),
        Param("gain_db", "dB", -60, 6, -6, help="the level"),
    )
    row = np.dtype([*FIELDS, *TONE])

    def _derive(self, values: Mapping[str, float], sample_rate: int) -> NDArray[Any]:
        ticks = sample_rate / TICK
        ladder = values["filter_model"] >= 0.5
        low, high = max(0.0, 1 - values["filter_shape"]), max(0.0, values["filter_shape"] - 1)
        damping = 2 * 0.01 ** values["resonance"]  # 1 / Q: Q goes from 0.5 to 50
        unisons = round(values["unison"])
        chorus = _unison(unisons, values["detune_cents"], values["spread"])
        derived = dict(values)
        derived |= {
            "attack_step": 1 / (values["attack_s"] * sample_rate),
            "filter_release_factor": 0.001 ** (1 / (values["release_s"] * ticks)),
            "filter_attack_step": 1 / (values["filter_attack_s"] * ticks),
            "filter_decay_factor": 0.001 ** (1 / (values["filter_decay_s"] * ticks)),
            "ladder": float(ladder),
            "damping": 4.2 * values["resonance"] if ladder else damping,  # the ladder's feedback: whistles from 4 on
            "low": low,
            "band": (1 - low - high) * (1 if ladder else damping),  # the band's peak is 1 at any resonance
            "high": high,
            "cutoff_octave": math.log2(values["cutoff_hz"]),
            "osc2_ratio": 2 ** (values["osc2_semitones"] / 12),
            "drive": 10 ** (values["drive_db"] / 20) if values["drive_db"] else 0.0,
            "gain": 10 ** (values["gain_db"] / 20),
            "dc_tracking": 2 * math.pi * 5 / sample_rate,  # below 5 Hz
            "smoothing": 1 - math.exp(-1 / (0.005 * ticks)),  # knobs glide in 5 ms
            "count": float(unisons),
            "widest": float(chorus[0].max()),
            "sides": 2.0 if unisons > 1 and values["spread"] > 0 else 1.0,
            "stamp": float(1 + hash(tuple(values.values())) % (1 << 50)),  # of all knobs: 0 is none
            "lfo1": float(any([values["vibrato_cents"], *(values[f"lfo1_{of}"] for of in MOVED)])),
            "lfo2": float(any([values["lfo2_cents"], *(values[f"lfo2_{of}"] for of in MOVED)])),
        }
        of_oscillators = tuple(values[name] for name in ("osc1_level", "osc1_shape", "osc2_level", "osc2_shape"))
        free, slave, kinds = _waves(*of_oscillators, synced=values["sync"] >= 0.5)
        filtering = ("damping", "low", "band", "high", "drive", "dc_tracking")
        kinds += values["noise_level"] > 0, ladder, values["drive_db"] > 0
        derived["kinds"] = float(sum(kind for kind, there in zip(KINDS, kinds, strict=True) if there))
        arrays = {
            "powers": np.array([fall_powers(values[name], sample_rate) for name in ("decay_s", "release_s")]),
            "chorus": chorus,
            "free": free,  # how loud the parts of oscillators are that nobody starts again
            "slave": slave,
            "filtering": np.array([derived[name] for name in filtering]),
        }
        return record(derived, arrays)

    def _memory_samples(self, sample_rate: int) -> int:
        return MEMORY

    def _init_after(self, derived: NDArray[Any]) -> Room:
        return Room.of(self.voices)

    def _start(self, state: Voices, slot: int, event: Event) -> None:
        row, knobs = state.rows[slot], state.derived[0]
        row["pitch"], row["velocity"] = event.pitch, event.velocity
        row["bent"] = state.bend
        row["cutoff"], row["width"] = knobs["cutoff_octave"], knobs["pulse_width"]
        if knobs["glide_s"] > 0 and not math.isnan(state.last_pitch):
            row["slide"] = state.last_pitch - event.pitch
        if knobs["unison"] >= 1.5:  # voices in unison are nowhere together
            scatter(state.memory[slot], row["key"])

    def _render(self, state: Voices, rows: NDArray[Any], memory: NDArray[np.float64], out: NDArray[np.float64]) -> None:
        for start in range(0, out.shape[1], BLOCK):
            self._render_block(state, rows, memory, out[:, start : start + BLOCK])

    def _render_block(self, state: Voices, rows: NDArray[Any], memory: NDArray[np.float64], out: Any) -> None:
        room, knobs = state.after, state.derived
        count, kinds = plan(rows, memory, knobs, float(state.bend), float(state.sample_rate), *room, *out)
        if not count:
            return
        jumps, corners = residuals()
        if kinds & SAWS:
            saws(*room, memory, knobs, jumps, count)
        if kinds & ROUNDS:
            rounds(*room, memory, knobs, corners, count)
        if kinds & SLAVE:
            slaves(*room, memory, knobs, jumps, corners, count)
        if kinds & NOISE:
            hisses(*room, rows, knobs, count)
        through(kinds & LADDER, kinds & DRIVEN)(*room, memory, knobs, count)
        mix(rows, memory, knobs, *room, count, *out)


@functools.lru_cache(maxsize=256)
def _waves(
    level1: float, shape1: float, level2: float, shape2: float, *, synced: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64], tuple[bool, ...]]:
    """How loud the parts of both oscillators are that run free [2, 4], those of the second where the first starts it
    again [4]; and whether there are saws, rounds, and anything started again."""
    free, slave = np.array([level1 * _parts(shape1), level2 * _parts(shape2)]), np.zeros(4)
    if synced:
        slave, free[1] = free[1].copy(), 0.0
    return free, slave, (bool(free[:, 2:].any()), bool(free[:, :2].any()), bool(slave.any()))


def _parts(shape: float) -> NDArray[np.float64]:
    """How much sine, triangle, saw, and saw `width` later make a shape."""
    return np.array([max(0, 1 - shape), max(0, 1 - abs(shape - 1)), min(max(0, shape - 1), 1), min(0, 2 - shape)])


@functools.lru_cache(maxsize=256)
def _unison(count: int, cents: float, spread: float) -> NDArray[np.float64]:
    """By unison voice: its ratio to the pitch, its gains left and right; in all as loud as one: [3, UNISON].

    Neighbours in pitch lie on opposite sides, and neither side is higher than the other.
    """
    number = np.arange(count)
    place = 2 * number / max(count - 1, 1) - (count > 1)
    side = np.where(number % 2 == 0, 1, -1) * (place if count % 2 else -np.abs(place)) * spread
    ratios = 2 ** (cents / 2400 * place)
    rows = ratios, np.sqrt((1 - side) / count), np.sqrt((1 + side) / count)
    return np.stack([np.resize(row, UNISON) for row in rows])
