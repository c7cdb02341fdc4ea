"""SoundFont 2 instruments: the zones of a preset, with all that presets, instruments and samples say of them added up.

Two conventions of players are followed where the specification leaves room or all of them differ from it: attenuation
counts 0.4 of what is written, as on the sound cards the format was made for (and in FluidSynth), and a filter's
resonance takes half of its decibels from the level.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from soundloom.audio import Waveform
from soundloom.errors import InstrumentError
from soundloom.instruments.samplestore import MOST_FRAMES
from soundloom.instruments.sf2file import ROM, Font, low_high, text
from soundloom.instruments.zones import OPEN_HZ, Envelope, Keymap, Loop, Motion, Zone

ATTENUATION = 0.4
OPEN_CENTS = 13_500  # of a filter: none
MOST_ZONES = 20_000
FALL = 60 / 100  # a SoundFont's decay and release are times for 100 dB, ours for 60

# Generators by number (section 8.1.2), and what they are where nobody says.
INSTRUMENT, SAMPLE, KEYS, VELOCITIES = 41, 53, 43, 44
_AT_ONCE = -12000  # timecents: a millisecond, which is how a SoundFont says it
_TIMES = (21, 23, 25, 26, 27, 28, 30, 33, 34, 35, 36, 38)
_DEFAULTS = {8: OPEN_CENTS, 46: -1, 47: -1, 56: 100, 58: -1} | dict.fromkeys(_TIMES, _AT_ONCE)
_NOT_IN_PRESETS = frozenset({0, 1, 2, 3, 4, 12, 45, 46, 47, 50, 53, 54, 57, 58})
_MOTIONS = (5, 6, 7, 10, 11, 13)  # how far LFOs and the modulation envelope move pitch, filter and level

Generators = dict[int, int]


@dataclass(frozen=True)
class Preset:
    """What can be chosen in a SoundFont: bank 128 are the drum kits of General MIDI."""

    bank: int
    program: int
    name: str


def presets(path: Path | str) -> list[Preset]:
    """What a SoundFont holds, by bank and program. `InstrumentError` where it is none."""
    return sorted(
        (Preset(int(row["bank"]), int(row["program"]), text(row["name"])) for row in _rows(Font.read(Path(path)))),
        key=lambda preset: (preset.bank, preset.program),
    )


def load(path: Path | str, *, program: int = 0, bank: int = 0) -> Keymap:
    """A preset of a SoundFont; only the samples that it plays are read. `InstrumentError` where that is impossible."""
    font = Font.read(Path(path))
    rows = _rows(font)
    number = next((i for i, row in enumerate(rows) if row["bank"] == bank and row["program"] == program), None)
    if number is None:
        there = sorted({(int(row["bank"]), int(row["program"])) for row in rows})
        near = min(there, key=lambda place: (abs(place[0] - bank), abs(place[1] - program)))
        raise InstrumentError(
            f"'{font.path.name}' has no program {program} in bank {bank}: "
            f"it has {len(there)} presets, as program {near[1]} in bank {near[0]}"
        )
    reader = _Reader(font)
    zones = tuple(reader.zones(number))
    name = text(rows[number]["name"])
    if not zones:
        raise InstrumentError(f"'{font.path.name}': its preset '{name}' has no zone that can be played")
    return Keymap(zones, name, tuple(sorted(reader.notes)))


def _rows(font: Font) -> list[Any]:
    rows = list(font.tables["phdr"][:-1])  # the last one only says where the others end
    if not rows:
        raise InstrumentError(f"'{font.path.name}' has no presets")
    return rows


class _Reader:
    """Adds up what a preset, its instruments and their samples say."""

    def __init__(self, font: Font) -> None:
        self.font = font
        self.notes: set[str] = set()
        self.waveforms: dict[int, Waveform] = {}
        self.frames = 0
        self.split: dict[int, list[Generators]] = {}

    def zones(self, preset: int) -> Iterator[Zone]:
        tables, count = self.font.tables, 0
        for outer in self._zones("p", preset, INSTRUMENT):
            number = outer[INSTRUMENT]
            if not 0 <= number < len(tables["inst"]) - 1:
                raise InstrumentError(f"'{self.font.path.name}' is broken: a preset names instrument {number}")
            if number not in self.split:
                self.split[number] = self._zones("i", number, SAMPLE)
            for inner in self.split[number]:
                count += 1
                if count > MOST_ZONES:
                    raise InstrumentError(f"'{self.font.path.name}' has a preset of more than {MOST_ZONES} zones")
                zone = self._zone(outer, inner)
                if zone is not None:
                    yield zone

    def _zones(self, level: str, number: int, last: int) -> list[Generators]:
        """The generators of each zone of a preset or an instrument, over those of its global zone."""
        tables = self.font.tables
        head, bags, generators = (
            tables["phdr" if level == "p" else "inst"],
            tables[level + "bag"],
            tables[level + "gen"],
        )
        shared: Generators = {}
        zones = []
        for bag in range(int(head[number]["bag"]), int(head[number + 1]["bag"])):
            if bag + 1 >= len(bags):
                raise InstrumentError(f"'{self.font.path.name}' is broken: its zones end before they are over")
            first, end = int(bags[bag]["generator"]), int(bags[bag + 1]["generator"])
            said: Generators = {}
            for kind, amount in generators[first:end].tolist():
                said[kind] = amount
                if kind == last:
                    said[kind] = amount & 0xFFFF
                    break  # nothing after it counts
            if int(bags[bag]["modulator"]) < int(bags[bag + 1]["modulator"]):
                self.notes.add("modulators")
            if last in said:
                zones.append({**shared, **said})
            elif not zones and not shared:
                shared = said
        return zones

    def _zone(self, outer: Generators, inner: Generators) -> Zone | None:
        keys, touches = _overlap(outer, inner, KEYS), _overlap(outer, inner, VELOCITIES)
        sample = inner[SAMPLE]
        headers = self.font.tables["shdr"]
        if not 0 <= sample < len(headers) - 1:
            raise InstrumentError(f"'{self.font.path.name}' is broken: an instrument names sample {sample}")
        header = headers[sample]
        if keys is None or touches is None:
            return None
        if header["type"] & ROM:
            self.notes.add("samples that lie in the chip of a sound card")
            return None

        def of(kind: int) -> int:
            added = 0 if kind in _NOT_IN_PRESETS else outer.get(kind, 0)
            return inner.get(kind, _DEFAULTS.get(kind, 0)) + added

        waveform = self._waveform(sample)
        first, frames = int(header["start"]), waveform.samples.shape[1]
        start = min(max(of(0) + 32768 * of(4), 0), frames - 1)
        end = min(max(frames + of(1) + 32768 * of(12), start + 1), frames)
        pitch = of(58) if 0 <= of(58) <= 127 else int(header["pitch"])
        pitch = pitch if pitch <= 127 else 60
        tune = min(max(of(51) + (of(52) + int(header["correction"])) / 100, -120.0), 120.0)
        tracking = min(max(of(56), 0), 1200) / 100
        if of(46) >= 0:  # always this key
            tune, tracking = tune + tracking * (of(46) - pitch), 0.0
        loop_at = [int(header["loop_start"]) - first + of(2) + 32768 * of(45)]
        loop_at.append(int(header["loop_end"]) - first + of(3) + 32768 * of(50))
        resonance = min(max(of(9), 0), 960) / 10
        gain = -ATTENUATION * min(max(of(48), 0), 1440) / 10 - resonance / 2
        fixed = of(47)
        return Zone(
            waveform,
            pitch=float(pitch),
            tune=tune,
            low_key=keys[0],
            high_key=keys[1],
            low_velocity=touches[0],
            high_velocity=touches[1],
            start=start,
            end=end,
            loop=_loop(of(54), loop_at, start, end),
            envelope=_envelope({kind: of(kind) for kind in (*range(33, 41),)}),
            gain_db=gain + (40 * math.log10(max(fixed, 1) / 127) if fixed >= 0 else 0.0),
            pan=min(max(of(17), -500), 500) / 500,
            cutoff_hz=8.176 * 2 ** (max(of(8), 1500) / 1200) if of(8) < OPEN_CENTS else OPEN_HZ,
            resonance_db=resonance,
            motion=_motion({kind: of(kind) for kind in (*_MOTIONS, *range(21, 31))}),
            key_tracking=tracking,
            velocity_tracking=0.0 if fixed >= 0 else 1.0,
            group=max(of(57), 0),
            silenced_by=max(of(57), 0),
        )

    def _waveform(self, sample: int) -> Waveform:
        if sample not in self.waveforms:
            self.waveforms[sample] = self.font.waveform(sample)
            self.frames += self.waveforms[sample].samples.shape[1]
            if self.frames > MOST_FRAMES:
                raise InstrumentError(
                    f"'{self.font.path.name}': a preset has more than {MOST_FRAMES} frames of samples"
                )
        return self.waveforms[sample]


def _overlap(outer: Generators, inner: Generators, kind: int) -> tuple[int, int] | None:
    """The keys or velocities that both the preset's and the instrument's zone allow."""
    ranges = [low_high(said[kind]) if kind in said else (0, 127) for said in (outer, inner)]
    low, high = max(r[0] for r in ranges), min(*(r[1] for r in ranges), 127)
    return (low, high) if low <= high else None


def _loop(mode: int, at: list[int], start: int, end: int) -> Loop | None:
    first, last = max(at[0], start), min(at[1], end)
    if mode & 3 not in (1, 3) or first >= last:
        return None
    return Loop(first, last, until_release=mode & 3 == 3)


def _envelope(of: Generators) -> Envelope:
    return Envelope(
        delay_s=_seconds(of[33], 20),
        attack_s=_seconds(of[34], 100),
        hold_s=_seconds(of[35], 20),
        decay_s=FALL * _seconds(of[36], 100),
        sustain=10 ** (-min(max(of[37], 0), 1440) / 200),
        release_s=FALL * _seconds(of[38], 100),
        hold_octaves=of[39] / 1200,
        decay_octaves=of[40] / 1200,
    )


def _motion(of: Generators) -> Motion | None:
    if not any(of[kind] for kind in _MOTIONS):
        return None
    envelope = Envelope(
        delay_s=_seconds(of[25], 20),
        attack_s=_seconds(of[26], 100),
        hold_s=_seconds(of[27], 20),
        decay_s=_seconds(of[28], 100),
        sustain=1 - min(max(of[29], 0), 1000) / 1000,
        release_s=_seconds(of[30], 100),
    )
    return Motion(
        envelope,
        envelope_semitones=_within(of[7], 12000) / 100,
        envelope_octaves=_within(of[11], 12000) / 1200,
        lfo_hz=_hertz(of[22]),
        lfo_delay_s=_seconds(of[21], 20),
        lfo_semitones=_within(of[5], 12000) / 100,
        lfo_octaves=_within(of[10], 12000) / 1200,
        lfo_db=_within(of[13], 960) / 10,
        vibrato_hz=_hertz(of[24]),
        vibrato_delay_s=_seconds(of[23], 20),
        vibrato_semitones=_within(of[6], 12000) / 100,
    )


def _within(amount: int, most: int) -> int:
    return min(max(amount, -most), most)


def _hertz(cents: int) -> float:
    return float(8.176 * 2.0 ** (_within(cents, 16000) / 1200))


def _seconds(timecents: int, most: float) -> float:
    return 0.0 if timecents <= _AT_ONCE else min(float(2.0 ** (timecents / 1200)), most)
