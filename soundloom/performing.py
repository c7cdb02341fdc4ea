"""From a MIDI file or a typed phrase, and a few words on who plays, to a piece."""

import functools
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from soundloom import midi
from soundloom.audio import Waveform
from soundloom.errors import ScoreError
from soundloom.instruments.controls import Playable
from soundloom.instruments.generalmidi import DRUMS
from soundloom.instruments.opening import Opener
from soundloom.render import arrange, perform
from soundloom.score import Score, parse

SUFFIXES = (".mid", ".midi", ".rmi", ".kar")
DRUM_BANK = 128  # of a SoundFont
_ENTRY = re.compile(r"(\d+)\s*=(.*)")
Chooser = Callable[[int, int], Playable]  # (channel, program) -> who plays its notes


@dataclass(frozen=True)
class Cast:
    """Who plays: by channel, and on all channels that are not named (None: as General MIDI has it)."""

    named: Mapping[int, Chooser]
    rest: Chooser | None = None

    def who(self, opener: Opener) -> Chooser:
        rest = self.rest or opener.usual
        return lambda channel, program: self.named.get(channel, rest)(channel, program)

    def drums_too(self, score: Score) -> bool:
        """Whether who was named for all channels plays tunes and, though nobody said so, the drums."""
        channels = {note.channel for note in score.notes}
        return self.rest is not None and DRUMS not in self.named and DRUMS in channels and len(channels) > 1

    def idle(self, score: Score) -> list[int]:
        """Channels that somebody is named for and that have no notes."""
        return sorted(set(self.named) - {note.channel for note in score.notes})


def read_score(text: str, *, bpm: float = 120.0) -> Score:
    """A MIDI file by its path, or else a phrase (`score.parse`)."""
    if Path(text).suffix.lower() in SUFFIXES:
        return midi.read(text)
    try:
        return parse(text, bpm=bpm)
    except ScoreError:
        if not os.path.exists(text):  # of any length, which `Path.exists` does not take
            raise
    raise ScoreError(f"{text} is no MIDI file: give one that ends in {', '.join(SUFFIXES)}, or a phrase in quotes")


def entries(texts: Sequence[str]) -> dict[int | None, str]:
    """ "0=runs/piano,1=patch:bass,cutoff_hz=300,9=kit" taken apart: the text of each channel; None is all the others.

    >>> entries(["0=pluck,damping=0.5,9=my-run,label=kick"])
    {0: 'pluck,damping=0.5', 9: 'my-run,label=kick'}
    >>> entries(["subtractive"])
    {None: 'subtractive'}
    """
    found: dict[int | None, str] = {}
    for text in texts:
        key: int | None = None
        parts: dict[int | None, list[str]] = {}
        for piece in text.split(","):
            if match := _ENTRY.fullmatch(piece.strip()):
                key = int(match[1])
                if key > 15:
                    raise ScoreError(f"'{piece.strip()}' is for channel {key}: channels go from 0 to 15, drums are 9")
                piece = match[2]
                if key in parts:
                    raise ScoreError(f"channel {key} is named twice in '{text}'")
            parts.setdefault(key, []).append(piece)
        found |= {key: ",".join(pieces).strip() for key, pieces in parts.items()}
    return found


def cast(texts: Sequence[str], opener: Opener) -> Cast:
    """Everybody who is named, opened."""
    choosers = {key: chooser(text, opener) for key, text in entries(texts).items()}
    return Cast({key: one for key, one in choosers.items() if key is not None}, choosers.get(None))


def chooser(text: str, opener: Opener) -> Chooser:
    """Whom a text means: one player for all programs; of a SoundFont without a program, its preset of each, and its
    drums on the channel of drums."""
    name, _, knobs = text.partition(",")
    if Path(name.strip()).suffix.lower() == ".sf2" and "program=" not in knobs:
        from soundloom.instruments.sf2 import presets

        there = {(preset.bank, preset.program) for preset in presets(Path(name.strip()))}

        @functools.cache
        def preset(program: int, bank: int) -> Playable:
            return opener.opened(f"{text},program={program},bank={bank}")

        def choose(channel: int, program: int) -> Playable:
            drums = channel == DRUMS and any(bank == DRUM_BANK for bank, _ in there)
            bank = DRUM_BANK if drums else 0
            known = program if (bank, program) in there else min((p for b, p in there if b == bank), default=program)
            return preset(known, bank)

        return choose
    player = opener.opened(text)
    return lambda channel, program: player


def play(
    text: str,
    who: Sequence[str] | str = (),
    *,
    bpm: float = 120.0,
    sample_rate: int = 44100,
    seed: int = 0,
    device: str | None = None,
    lufs: float | None = -16.0,
) -> Waveform:
    """A MIDI file or a typed phrase, played and mixed in stereo; `render.perform` also tells stems and levels.

    Args:
        who: As in "0=my-run,9=patch:drum-kit": instruments by channel, or one for all others; see
            `instruments.opening` for what plays. Channels that nobody is named for sound as General MIDI has them.
        lufs: How loud the whole is made; None leaves it.

    >>> play("C4 E4 G4", "pluck").channels
    2
    """
    score, opener = read_score(text, bpm=bpm), Opener(seed=seed, device=device)
    players = cast([who] if isinstance(who, str) else who, opener)
    arrangement = arrange(score, players.who(opener))
    return perform(score, arrangement, sample_rate=sample_rate, seed=seed, lufs=lufs).sound
