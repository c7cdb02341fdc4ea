"""A score and instruments → audio, block by block: what a live player does, with the blocks one after the other."""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from soundloom import loudness
from soundloom.audio import Waveform
from soundloom.errors import ConfigError, ScoreError
from soundloom.instruments.base import AbstractInstrument, Event
from soundloom.instruments.controls import Playable, Route, events
from soundloom.instruments.mixer import SENDS, Mixer, MixerState, Part
from soundloom.score import Score

LOWEST_RATE, HIGHEST_RATE = 1000, 384_000
LOWEST_MASTERED = 8000  # Hz: below that the weights of loudness make no sense
LONGEST_S = 7200.0
LONGEST_TAIL_S = 30.0
SILENT = 1e-5  # -100 dB: a tail below this for QUIET_S is over
QUIET_S = 0.25
CEILING = 0.891  # -1 dB
MOST_LIMITING_DB = 8.0  # peaks are turned down by so much at most: what is asked to be louder than that stays softer
LOUDNESS_TURNS, NEAR_LU = 4, 0.1
SOFTEST_LUFS, LOUDEST_LUFS = -60.0, 0.0  # that can be asked for: what is below -70 is silence to the measure
NAME = 60  # letters of a part's name, at most
ORDER = {"off": 0, "on": 2}  # of events at one frame: what ends, what is moved, what begins
Sound = NDArray[np.float32]
Progress = Callable[[float, float], None]  # seconds done, seconds in all


@dataclass(frozen=True)
class Arrangement:
    """Who plays what: the players, and which of them a channel's notes of a program go to."""

    players: tuple[Playable, ...]
    places: Mapping[tuple[int, int], int]

    def lines(self) -> list[str]:
        """Who plays which channel, for people."""
        channels = {part: channel for (channel, _), part in self.places.items()}
        return [f"{channels[part]:3d}  {player.name}" for part, player in enumerate(self.players)]

    def timeline(self, score: Score, sample_rate: int) -> list[Event]:
        """All that happens, with absolute frames; a channel's controls go to all that play for it."""
        happening: list[Event] = []
        for number, note in enumerate(score.notes):
            part = self.places[note.channel, note.program]
            on = round(note.start_s * sample_rate)
            off = max(round((note.start_s + note.seconds) * sample_rate), on + 1)
            happening.append(Event(on, "on", number, note.pitch, note.velocity, part=part))
            happening.append(Event(off, "off", number, part=part))
        for control in score.controls:
            for (channel, _), part in self.places.items():
                if channel == control.channel:
                    frame = round(control.at_s * sample_rate)
                    happening += events(control, self.players[part].routes, frame=frame, part=part)
        return sorted(happening, key=lambda event: (event.frame, ORDER.get(event.kind, 1)))


@dataclass(frozen=True)
class Performance:
    """A piece as it was played. `stems`, by the names of the parts and "room", add up to the mix before its master."""

    sound: Waveform
    gain_db: float
    loudness_lufs: float
    true_peak_db: float
    stems: Mapping[str, Waveform]


def arrange(score: Score, who: Callable[[int, int], Playable]) -> Arrangement:
    """Each channel's notes of a program go to whom `who` says, by (channel, program); who plays several programs of a
    channel is one. `ScoreError` where there are no notes."""
    if not score.notes:
        raise ScoreError("the score has no notes: there is nothing to render")
    players: list[Playable] = []
    places: dict[tuple[int, int], int] = {}
    for channel, program in sorted({(note.channel, note.program) for note in score.notes}):
        player = who(channel, program)
        same = [part for (other, _), part in places.items() if other == channel and players[part] is player]
        if not same:
            players.append(player)
        places[channel, program] = same[0] if same else len(players) - 1
    return Arrangement(tuple(players), places)


def render(
    score: Score,
    instruments: Mapping[int, AbstractInstrument],
    *,
    sample_rate: int = 44100,
    block: int = 512,
    seed: int = 0,
) -> Waveform:
    """The score played: channel c by `instruments[c]`, summed, with what rings on after the last note.

    Mono where all instruments are and nobody is moved aside. No room and no master: levels are left as they are, a
    dense score may exceed ±1; `fit_peak` turns the whole down, and says by how much; `perform` mixes as for a record.
    Refused with `ScoreError`: no notes, a channel without an instrument, two hours.

    >>> from soundloom.instruments.pluck import Pluck
    >>> from soundloom.score import parse
    >>> sound = render(parse("C4 E4 G4"), {0: Pluck()})
    >>> sound.channels, 1.5 < sound.seconds < 3
    (1, True)
    """
    routes: Mapping[int, Route] = {}
    players = {channel: Playable("", one, routes) for channel, one in instruments.items()}

    def who(channel: int, program: int) -> Playable:
        if channel not in players:
            known = ", ".join(str(number) for number in sorted(players)) or "none"
            raise ScoreError(f"no instrument for channel {channel}: there are instruments for {known}")
        return players[channel]

    arrangement = arrange(score, who)
    mixer = Mixer([Part(player.instrument) for player in arrangement.players], sends=())
    timeline = arrangement.timeline(score, sample_rate)
    blocks = _played(mixer, mixer.process, timeline, _Clock(score.seconds, sample_rate, block, seed))
    samples = np.concatenate(list(blocks), axis=-1)
    moved = any(event.param == "strip.pan" for event in timeline)
    if not moved and all(player.instrument.channels == 1 for player in arrangement.players):
        samples = samples[:1]
    return Waveform(samples[:, : _end(samples, score, sample_rate)], sample_rate)


def perform(
    score: Score,
    arrangement: Arrangement,
    *,
    sample_rate: int = 44100,
    block: int = 2048,
    seed: int = 0,
    lufs: float | None = -16.0,
    stems: bool = False,
    progress: Progress | None = None,
) -> Performance:
    """The score mixed in stereo with a room, brought to a loudness of `lufs` (None: as it is), and limited to -1 dB
    between the samples too. `stems` keeps each part, and the room, apart."""
    if lufs is not None and not SOFTEST_LUFS <= lufs <= LOUDEST_LUFS:
        raise ConfigError(
            f"a loudness of {lufs:g} LUFS was asked for: it goes from {SOFTEST_LUFS:g} to {LOUDEST_LUFS:g}"
        )
    if sample_rate < LOWEST_MASTERED:
        raise ConfigError(f"the sample rate is {sample_rate} Hz: it goes from {LOWEST_MASTERED} to {HIGHEST_RATE}")
    parts = [Part.of(player, name) for name, player in zip(_names(arrangement), arrangement.players, strict=True)]
    timeline = arrangement.timeline(score, sample_rate)
    kept: list[Sound] = []
    mixer = Mixer(parts, sends=_sends(timeline))
    how = mixer.stems if stems else mixer.process
    for done in _played(mixer, how, timeline, _Clock(score.seconds, sample_rate, block, seed)):
        kept.append(done)
        if progress is not None:
            progress(min(len(kept) * block / sample_rate, score.seconds), score.seconds)
    every = np.concatenate(kept, axis=-1)
    mix = every.sum(axis=0) if stems else every
    end = _end(mix, score, sample_rate)
    apart = {}
    if stems:
        names = [*(part.name for part in parts), "room"]
        apart = {name: Waveform(stem[:, :end], sample_rate) for name, stem in zip(names, every, strict=True)}
    return _mastered(Waveform(mix[:, :end], sample_rate), lufs, apart)


def _sends(timeline: Sequence[Event]) -> tuple[str, ...]:
    """The room, and the chorus where somebody asks for it."""
    asked = any(event.param == "strip.chorus" and event.value > 0 for event in timeline)
    return SENDS if asked else SENDS[:1]


def _mastered(mix: Waveform, lufs: float | None, stems: Mapping[str, Waveform]) -> Performance:
    """Brought to its loudness, and limited."""
    gain_db, got = 0.0, loudness.integrated_lufs(mix)
    if lufs is None or not math.isfinite(got):
        sound = loudness.limited(mix)
    else:
        most_db = 20 * math.log10(CEILING / np.abs(mix.samples).max()) + MOST_LIMITING_DB
        for _ in range(LOUDNESS_TURNS):  # what the limiter takes away is given back, as far as it may go
            gain_db = min(gain_db + lufs - got, most_db)
            sound = loudness.limited(Waveform(mix.samples * np.float32(10 ** (gain_db / 20)), mix.sample_rate))
            got = loudness.integrated_lufs(sound)
            if abs(got - lufs) < NEAR_LU or gain_db == most_db:
                break
    return Performance(
        sound=sound,
        gain_db=gain_db,
        loudness_lufs=got,
        true_peak_db=20 * math.log10(max(loudness.true_peak(sound), 1e-6)),
        stems=stems,
    )


def fit_peak(waveform: Waveform, *, peak_db: float = -1.0) -> tuple[Waveform, float]:
    """The whole turned down by one gain so that its peak is `peak_db` at most, and that gain in dB (0: as it was).

    Inside, every level keeps its relation to every other: a gain, not a limiter.
    """
    peak = float(np.abs(waveform.samples).max(initial=0.0))
    allowed = 10 ** (peak_db / 20)
    if peak <= allowed:
        return waveform, 0.0
    gain = allowed / peak
    return Waveform(waveform.samples * np.float32(gain), waveform.sample_rate), 20 * math.log10(gain)


@dataclass(frozen=True)
class _Clock:
    """How long a score is, and at what pace it is played."""

    seconds: float
    sample_rate: int
    block: int
    seed: int

    def __post_init__(self) -> None:
        if not LOWEST_RATE <= self.sample_rate <= HIGHEST_RATE:
            raise ConfigError(f"the sample rate is {self.sample_rate} Hz: it goes from {LOWEST_RATE} to {HIGHEST_RATE}")
        if self.block < 1:
            raise ConfigError(f"a block of {self.block} samples was asked for: it takes 1 or more, 512 is usual")
        if self.seconds > LONGEST_S:
            raise ScoreError(f"the score lasts {self.seconds:.0f} s: {LONGEST_S:.0f} s at most; render it in parts")


def _played(
    mixer: Mixer,
    how: Callable[[MixerState, Sequence[Event], int], tuple[Sound, MixerState]],
    timeline: Sequence[Event],
    clock: _Clock,
) -> Iterator[Sound]:
    """What `how` (the mixer's `process` or `stems`) gives, block by block, until the score is over and all is quiet."""
    sample_rate, block = clock.sample_rate, clock.block
    mixer.prepare(timeline, sample_rate)
    state = mixer.init_state(sample_rate, seed=clock.seed)
    end = math.ceil(clock.seconds * sample_rate)
    last = end + round(LONGEST_TAIL_S * sample_rate)
    enough = (QUIET_S + _longest_echo(mixer)) * sample_rate
    at = quiet = 0
    for start in itertools.count(0, block):
        due = []
        while at < len(timeline) and timeline[at].frame < start + block:
            due.append(replace(timeline[at], frame=timeline[at].frame - start))
            at += 1
        sound, state = how(state, due, block)
        yield sound
        if start + block >= end:
            quiet = quiet + block if max(sound.max(), -sound.min()) < SILENT else 0
            if quiet >= enough or start + block >= last:
                return


def _longest_echo(mixer: Mixer) -> float:
    """How many seconds may be silent before an effect sounds again."""
    params = [param for part in mixer.parts for param in part.instrument.params]
    return max((param.high for param in params if param.name.endswith(".time_s")), default=0.0)


def _end(samples: Sound, score: Score, sample_rate: int) -> int:
    """Where the score or what is heard of it ends."""
    end = min(math.ceil(score.seconds * sample_rate), int(samples.shape[1]))
    loud = np.flatnonzero(np.abs(samples[:, end:]).max(axis=0) >= SILENT)
    return end + (int(loud[-1]) + 1 if len(loud) else 0)


def _names(arrangement: Arrangement) -> list[str]:
    """A name for each part, by channel and instrument: no two alike, and each of them good for a file."""
    channels = {part: channel for (channel, _), part in arrangement.places.items()}
    names: list[str] = []
    for part, player in enumerate(arrangement.players):
        plain = "".join(letter if letter.isalnum() or letter in " ._-+()" else "-" for letter in player.name)
        name = f"{channels[part]:02d} {plain[:NAME]}".strip()
        while name in names:
            name = f"{name} {part}"
        names.append(name)
    return names
