"""A sampler: recordings over the keyboard, as a folder of sounds, an SFZ or a SoundFont describes them."""

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from soundloom.audio import Waveform
from soundloom.instruments.base import Event, Param
from soundloom.instruments.reading import weights
from soundloom.instruments.samplekernel import ROW, TICK, render
from soundloom.instruments.samplestore import pieces_of
from soundloom.instruments.voices import AbstractPolyphonic, Voices, record, white
from soundloom.instruments.zones import OPEN_HZ, Keymap, Loop, Motion, Zone

# What the knobs say of zones that say nothing, and the knob position that leaves what zones say as it is.
ATTACK_S, DECAY_S, RELEASE_S = 0.0005, 1.0, 0.2
MOST_DB = 24.0  # resonance at 1


@dataclass
class Playing(Voices):
    """`turns` [Z] counts how often each zone could have played; `zone` is that of the voice being started."""

    turns: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    zone: int = 0


class Sampler(AbstractPolyphonic):
    """Plays the zones of a `Keymap`; a note takes as many voices as it has zones. Without a source, a plain tone.

    The envelope's knobs say how zones sound that say nothing themselves, as those of a folder of WAVs. What zones say
    they scale: with `release_s` at twice its default, a SoundFont's releases last twice as long; the cutoff moves
    theirs by as many octaves as it is below its top; `sustain` and the gains multiply, the resonances add up.

    >>> sampler = Sampler({"release_s": 0.5})
    >>> block, state = sampler.process(sampler.init_state(44100), [Event(0, "on", note=1, pitch=60)], 512)
    >>> block.shape
    (2, 512)
    """

    params = (
        Param("attack_s", "s", ATTACK_S, 5, ATTACK_S, "log", "the level's rise"),
        Param("decay_s", "s", 0.005, 20, DECAY_S, "log", "the level's fall by 60 dB, down to the sustain"),
        Param("sustain", "", 0, 1, 1, help="the level that stays while the key is held"),
        Param("release_s", "s", 0.005, 10, RELEASE_S, "log", "the level's fall by 60 dB after the key"),
        Param("cutoff_hz", "Hz", 20, OPEN_HZ, OPEN_HZ, "log", "where the low-pass filter cuts"),
        Param("resonance", "", 0, 1, 0, help="how much the filter rings at its cutoff"),
        Param("tune_cents", "cents", -100, 100, 0, help="all notes against the keyboard"),
        Param("vibrato_hz", "Hz", 0.05, 12, 5, "log", "how fast the pitch swings"),
        Param("vibrato_cents", "cents", 0, 100, 0, help="how far the pitch swings"),
        Param("velocity_db", "dB", 0, 60, 40, help="how much softer a tenth of the hardest touch is"),
        Param("gain_db", "dB", -60, 6, -6, help="the level"),
    )
    channels = 2
    row = ROW

    def __init__(
        self, settings: Mapping[str, float] | None = None, *, voices: int = 16, source: Keymap | None = None
    ) -> None:
        super().__init__(settings, voices=voices)
        self.source = source or plain_tone()
        self.pieces = pieces_of(self.source)

    def init_state(self, sample_rate: int, *, seed: int = 0) -> Playing:
        state = super().init_state(sample_rate, seed=seed)
        return Playing(**vars(state), turns=np.zeros(len(self.source.zones), np.int64))

    def _derive(self, values: Mapping[str, float], sample_rate: int) -> NDArray[Any]:
        derived = {
            "attack": values["attack_s"] / ATTACK_S,
            "decay": DECAY_S / values["decay_s"],
            "sustain": values["sustain"],
            "release": RELEASE_S / values["release_s"],
            "cutoff": math.log2(values["cutoff_hz"] / OPEN_HZ),
            "open": math.log2(min(0.995 * OPEN_HZ, 0.45 * sample_rate)),
            "damping": 10 ** (-MOST_DB * values["resonance"] / 20),
            "tune": values["tune_cents"] / 100,
            "vibrato": values["vibrato_cents"] / 100,
            "vibrato_hz": values["vibrato_hz"],
            "gain": 10 ** (values["gain_db"] / 20),
            "smoothing": 1 - math.exp(-TICK / (0.005 * sample_rate)),  # knobs glide in 5 ms
        }
        return record(derived)

    def _on(self, state: Voices, event: Event) -> None:
        assert isinstance(state, Playing)
        chosen = self._chosen(state, event)
        rows, zones = state.rows, self.source.zones
        groups = {zones[i].group for i in chosen} - {0}
        if groups:
            self._silence(state, (rows["active"] == 1) & np.isin(rows["silenced_by"], list(groups)))
        for state.zone in chosen:
            super()._on(state, event)
        if not chosen:
            state.serial += 1  # the next note has luck of its own

    def _chosen(self, state: Playing, event: Event) -> list[int]:
        """The zones of a note, those left out whose turn or luck it is not."""
        chosen = []
        luck = 0.5 + 0.5 * white(state.seed + 1, state.serial)
        for i in self.source.at(event.pitch, event.velocity) if event.velocity > 0 else ():
            zone = self.source.zones[i]
            if zone.chance[0] <= luck < zone.chance[1]:
                if state.turns[i] % zone.turns == zone.turn:
                    chosen.append(int(i))
                state.turns[i] += 1
        return chosen

    def _start(self, state: Voices, slot: int, event: Event) -> None:
        assert isinstance(state, Playing)
        row, values, knobs = state.rows[slot], state.values, state.derived[0]
        zone, pieces = self.source.zones[state.zone], self.pieces
        rate, key = state.sample_rate, event.pitch
        row["piece"] = pieces.of_zone[state.zone]
        away = zone.key_tracking * (key - zone.pitch) + zone.tune
        row["semitones"] = away + 12 * math.log2(pieces.rate_hz[state.zone] / rate)
        tracking = zone.velocity_tracking
        touch = event.velocity if tracking >= 0 else max(1 - event.velocity, 1 / 127)
        loudness = values["velocity_db"] * abs(tracking) * math.log10(touch) + zone.gain_db
        pan = (1 + min(max(zone.pan, -1.0), 1.0)) * math.pi / 4  # equal power, 1 in the middle
        row["left"], row["right"] = (
            math.sqrt(2) * 10 ** (loudness / 20) * part for part in (math.cos(pan), math.sin(pan))
        )
        row["silenced_by"], row["one_shot"] = zone.silenced_by, zone.one_shot
        said = zone.envelope
        row["stage_left"] = round(said.delay_s * rate)
        attack = (ATTACK_S if said.attack_s is None else said.attack_s) * knobs["attack"]
        row["attack_left"] = max(1, round(attack * rate))
        row["hold_left"] = round(said.hold_s * 2 ** (-said.hold_octaves * (key - 60)) * rate)
        decay = DECAY_S if said.decay_s is None else said.decay_s * 2 ** (-said.decay_octaves * (key - 60))
        release = RELEASE_S if said.release_s is None else said.release_s
        row["decay"], row["release"] = (math.log(1000) / max(s * rate, 1.0) for s in (decay, release))
        row["sustain"] = 1.0 if said.sustain is None else said.sustain
        row["cutoff"] = math.log2(min(max(zone.cutoff_hz, 20.0), OPEN_HZ))
        if zone.motion is not None:
            self._set_moving(row, zone.motion, rate)
        row["damping"] = math.sqrt(2) * 10 ** (-zone.resonance_db / 20) * knobs["damping"]

    def _set_moving(self, row: Any, motion: Motion, sample_rate: int) -> None:
        """What moves a voice by itself."""
        said = motion.envelope
        attack, hold = (said.attack_s or 0.0) * sample_rate, said.hold_s * sample_rate
        row["moves"] = 1
        row["rise_at"] = said.delay_s * sample_rate
        row["rises"] = 1 / max(attack, 1.0)
        row["fall_at"] = row["rise_at"] + attack + hold
        row["falls"], row["ends"] = (1 / max((s or 0.0) * sample_rate, 1.0) for s in (said.decay_s, said.release_s))
        row["rests"] = 1.0 if said.sustain is None else said.sustain
        row["env_semitones"], row["env_octaves"] = motion.envelope_semitones, motion.envelope_octaves
        row["lfo_at"], row["vibrato_at"] = motion.lfo_delay_s, motion.vibrato_delay_s
        for name in ("lfo_hz", "lfo_semitones", "lfo_octaves", "lfo_db", "vibrato_hz", "vibrato_semitones"):
            row[name] = getattr(motion, name)

    def _render(self, state: Voices, rows: NDArray[Any], memory: NDArray[np.float64], out: NDArray[np.float64]) -> None:
        table, slope = weights()
        sides, bend, rate = (out[0], out[1]), float(state.bend), float(state.sample_rate)
        render(rows, self.pieces.table, self.pieces.data, table, slope, state.derived, bend, rate, *sides)


@functools.cache
def plain_tone() -> Keymap:
    """What a sampler plays without a source: eight harmonics, falling as a clarinet's and a flute's do."""
    period = 100
    t = np.arange(40 * period) / period
    wave = sum(a * np.sin(2 * np.pi * k * t) for k, a in enumerate((1, 0.4, 0.3, 0.12, 0.1, 0.05, 0.04, 0.02), 1))
    tone = Waveform((0.7 * np.asarray(wave) / np.abs(wave).max())[None].astype(np.float32), 44_100)
    loop = Loop(20 * period, 40 * period)
    return Keymap((Zone(tone, pitch=69 + 12 * math.log2(44_100 / period / 440), loop=loop),), "a plain tone")
