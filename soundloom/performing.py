"""From a MIDI file or a typed phrase, and a few words on who plays, to a piece."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from soundloom import midi
from soundloom.errors import ScoreError
from soundloom.instruments.controls import Playable
from soundloom.instruments.opening import Opener
from soundloom.render import Arrangement, Performance, Progress, arrange, perform
from soundloom.score import Score, parse

SUFFIXES = (".mid", ".midi", ".rmi", ".kar")
_ENTRY = re.compile(r"(\d+)\s*=(.*)")


@dataclass(frozen=True)
class Cast:
    """Who plays: by channel, and who plays all channels that are not named (None: as General MIDI has it)."""

    chosen: Mapping[int, Playable]
    rest: Playable | None = None

    def usual(self, opener: Opener) -> Callable[[int, int], Playable]:
        rest = self.rest
        return opener.usual if rest is None else lambda channel, program: rest


def read_score(text: str, *, bpm: float = 120.0) -> Score:
    """A MIDI file by its path, or else a phrase (`score.parse`)."""
    return midi.read(text) if Path(text).suffix.lower() in SUFFIXES else parse(text, bpm=bpm)


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
            parts.setdefault(key, []).append(piece)
        found |= {key: ",".join(pieces).strip() for key, pieces in parts.items()}
    return found


def cast(texts: Sequence[str], opener: Opener) -> Cast:
    """Everybody who is named, opened."""
    opened = {key: opener.opened(text) for key, text in entries(texts).items()}
    return Cast({key: player for key, player in opened.items() if key is not None}, opened.get(None))


def play(
    text: str,
    who: Sequence[str] = (),
    *,
    bpm: float = 120.0,
    sample_rate: int = 44100,
    seed: int = 0,
    device: str | None = None,
    lufs: float | None = -16.0,
) -> Performance:
    """A MIDI file or a typed phrase, played and mixed in stereo.

    Args:
        who: As in "0=my-run,9=patch:drum-kit": instruments by channel, or one for all others; see
            `instruments.opening` for what plays. Channels that nobody is named for sound as General MIDI has them.
        lufs: How loud the whole is made; None leaves it.

    >>> made = play("C4 E4 G4", ["pluck"])
    >>> made.sound.channels, round(made.loudness_lufs)
    (2, -16)
    """
    score, opener = read_score(text, bpm=bpm), Opener(seed=seed, device=device)
    return perform(score, arranged(score, cast(who, opener), opener), sample_rate=sample_rate, seed=seed, lufs=lufs)


def arranged(score: Score, players: Cast, opener: Opener) -> Arrangement:
    return arrange(score, players.chosen, players.usual(opener))


__all__ = ["Cast", "Progress", "arranged", "cast", "entries", "play", "read_score"]
