"""What a sampler plays: recordings and the keys, velocities and envelopes they answer to; and maps made from sounds."""

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from soundloom.audio import Waveform
from soundloom.errors import InstrumentError

OPEN_HZ = 20_000.0  # a low-pass up here is none


@dataclass(frozen=True)
class Loop:
    """The frames start .. end (not included) of a recording, again and again: `until_release`, or to the end.

    `crossfade` frames before the end fade into those before the start, which hides a seam that does not fit.
    """

    start: int
    end: int
    until_release: bool = False
    crossfade: int = 0


@dataclass(frozen=True)
class Envelope:
    """The level of a zone: silence, a straight rise, a hold, a fall in decibels to the sustain, a fall after the key.

    `decay_s` and `release_s` are for 60 dB. None means that the zone says nothing: the sampler's knob then says it.
    The hold and the decay get shorter by `hold_octaves` and `decay_octaves` per key above C4.
    """

    delay_s: float = 0.0
    attack_s: float | None = None
    hold_s: float = 0.0
    decay_s: float | None = None
    sustain: float | None = None
    release_s: float | None = None
    hold_octaves: float = 0.0
    decay_octaves: float = 0.0


@dataclass(frozen=True)
class Motion:
    """What moves a zone's pitch, filter and level by itself: an envelope and two triangular LFOs, of which the second
    is for the pitch.

    The envelope rises as the logarithm does, holds, and falls in straight lines: from 1 to 0 in `decay_s` (or down to
    its sustain), after the key in `release_s`. At 1 it moves the pitch and the cutoff by what is written here, as do
    the LFOs at their peaks. They stand still for their delays.
    """

    envelope: Envelope = field(default_factory=Envelope)
    envelope_semitones: float = 0.0
    envelope_octaves: float = 0.0
    lfo_hz: float = 8.0
    lfo_delay_s: float = 0.0
    lfo_semitones: float = 0.0
    lfo_octaves: float = 0.0
    lfo_db: float = 0.0
    vibrato_hz: float = 8.0
    vibrato_delay_s: float = 0.0
    vibrato_semitones: float = 0.0


@dataclass(frozen=True)
class Zone:
    """A recording, mono or stereo, and what it answers to. Keys and velocities are those of MIDI, both ends included.

    `pitch` is the key, maybe a fractional one, at which it plays as recorded; each key away moves it by `key_tracking`
    semitones, and `tune` all of them. `start` and `end` are frames (None: all of it). `pan` goes from -1 to 1. At a
    `velocity_tracking` of 0 the velocity does not change the level, below it the softest touch is the loudest. Zones
    with `turns` > 1 take turns; those with a range in `chance` are drawn. A zone silences those whose `silenced_by` is
    its `group`, where that is not 0. A `one_shot` plays on after its key.
    """

    waveform: Waveform
    pitch: float = 60.0
    tune: float = 0.0
    low_key: int = 0
    high_key: int = 127
    low_velocity: int = 0
    high_velocity: int = 127
    start: int = 0
    end: int | None = None
    loop: Loop | None = None
    one_shot: bool = False
    envelope: Envelope = field(default_factory=Envelope)
    gain_db: float = 0.0
    pan: float = 0.0
    cutoff_hz: float = OPEN_HZ
    resonance_db: float = 0.0
    motion: Motion | None = None
    key_tracking: float = 1.0
    velocity_tracking: float = 1.0
    group: int = 0
    silenced_by: int = 0
    turn: int = 0
    turns: int = 1
    chance: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        frames = self.waveform.samples.shape[1]
        end = frames if self.end is None else self.end
        if self.waveform.channels > 2:
            raise InstrumentError(f"a recording has {self.waveform.channels} channels: a zone takes one or two")
        if not 0 <= self.start < end <= frames:
            raise InstrumentError(f"a zone goes from frame {self.start} to {end}: its recording has {frames}")
        if self.loop and not self.start <= self.loop.start < self.loop.end <= end:
            looped = f"frame {self.loop.start} to {self.loop.end}"
            raise InstrumentError(f"a loop goes from {looped}: its zone goes from {self.start} to {end}")
        numbers = (self.pitch, self.tune, self.gain_db, self.pan, self.cutoff_hz, self.resonance_db, self.key_tracking)
        if not all(map(math.isfinite, numbers)):
            raise InstrumentError("a zone has a pitch, gain, pan or filter that is no finite number")

    @property
    def frames(self) -> tuple[int, int]:
        """The first frame that plays and the one after the last."""
        return self.start, self.waveform.samples.shape[1] if self.end is None else self.end


@dataclass(frozen=True, eq=False)
class Keymap:
    """An instrument's zones. `ignored` says in words what its file asked for that is not played."""

    zones: tuple[Zone, ...]
    name: str = ""
    ignored: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.zones:
            raise InstrumentError(f"'{self.name or 'an instrument'}' has no zone that can be played")

    @functools.cached_property
    def _ranges(self) -> NDArray[np.int64]:
        rows = [(z.low_key, z.high_key, z.low_velocity, z.high_velocity) for z in self.zones]
        return np.array(rows, dtype=np.int64).T

    def at(self, pitch: float, velocity: float) -> NDArray[np.int64]:
        """The zones that answer to a note, turns and chance left aside. `velocity` is 0 to 1."""
        key, touch = (math.floor(value + 0.5) for value in (pitch, velocity * 127))
        key, touch = min(max(key, 0), 127), min(max(touch, 1), 127)
        low_key, high_key, low_velocity, high_velocity = self._ranges
        there = (low_key <= key) & (key <= high_key) & (low_velocity <= touch) & (touch <= high_velocity)
        return np.flatnonzero(there)


@dataclass(frozen=True)
class Sound:
    """A recording and the note it is: `velocity` is how hard it was played, 0 to 1 (None: nobody knows).

    With a `key` it plays there and nowhere else, as recorded: a drum. `group`: sounds that silence each other.
    """

    waveform: Waveform
    pitch: float = 60.0
    velocity: float | None = None
    key: int | None = None
    group: int = 0


def spread(sounds: Sequence[Sound], *, name: str = "", envelope: Envelope | None = None) -> Keymap:
    """Sounds over the keyboard and the velocities, without gaps: each takes the notes it is nearest to.

    Sounds of the same note take turns. Where velocities come as layers (each of several pitches), each layer covers
    the whole keyboard by itself, so that a note missing from the soft layer is filled by its soft neighbours;
    elsewhere the pitch comes first and its velocities share the key.

    >>> tone = Waveform(np.zeros((1, 100), np.float32), 44100)
    >>> [(z.low_key, z.high_key) for z in spread([Sound(tone, 48.0), Sound(tone, 60.2)]).zones]
    [(0, 54), (55, 127)]
    """
    drums = [sound for sound in sounds if sound.key is not None]
    notes = [sound for sound in sounds if sound.key is None]
    zones: list[Zone] = []
    by_velocity = _grouped(notes, _touch)
    if all(len({s.pitch for s in layer}) > 1 for layer in by_velocity.values()):
        for (low, high), layer in _shares(by_velocity, 0, 127, scale=127.0):
            zones += _keys(layer, low, high)
    else:
        zones += _keys(notes, 0, 127)
    for key, kit in _grouped(drums, lambda s: float(s.key or 0)).items():
        zones += [replace(z, low_key=int(key), high_key=int(key), pitch=key, one_shot=True) for z in _velocities(kit)]
    if envelope is not None:
        zones = [replace(zone, envelope=envelope) for zone in zones]
    return Keymap(tuple(zones), name)


def _keys(sounds: Sequence[Sound], low_velocity: int, high_velocity: int) -> Iterable[Zone]:
    for (low, high), group in _shares(_grouped(sounds, lambda s: round(s.pitch)), 0, 127):
        for zone in _velocities(group, low_velocity, high_velocity):
            yield replace(zone, low_key=low, high_key=high)


def _velocities(sounds: Sequence[Sound], low: int = 0, high: int = 127) -> Iterable[Zone]:
    """Zones of one pitch: its velocities share the range, its equals take turns."""
    layers = _grouped(sounds, _touch)
    for (lowest, highest), equals in _shares(layers, low, high, scale=127.0):
        for turn, sound in enumerate(equals):
            yield Zone(
                sound.waveform,
                pitch=sound.pitch,
                low_velocity=lowest,
                high_velocity=highest,
                group=sound.group,
                silenced_by=sound.group,
                turn=turn,
                turns=len(equals),
            )


def _touch(sound: Sound) -> float:
    return 1.0 if sound.velocity is None else sound.velocity


def _grouped(sounds: Sequence[Sound], by: Callable[[Sound], float]) -> dict[float, list[Sound]]:
    groups: dict[float, list[Sound]] = {}
    for sound in sorted(sounds, key=by):
        groups.setdefault(by(sound), []).append(sound)
    return groups


def _shares(
    groups: dict[float, list[Sound]], low: int, high: int, *, scale: float = 1.0
) -> Iterable[tuple[tuple[int, int], list[Sound]]]:
    """Each group with the part of low .. high that is nearer to it than to the others; those without one are left."""
    places = [place * scale for place in groups]
    borders = [low, *[math.floor((a + b) / 2) + 1 for a, b in itertools.pairwise(places)], high + 1]
    for i, group in enumerate(groups.values()):
        first, last = max(borders[i], low), min(borders[i + 1] - 1, high)
        if first <= last:
            yield (first, last), group
