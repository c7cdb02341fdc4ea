"""Notes in time and what moves beside them: the score that instruments play, note names, a notation for phrases."""

import math
import re
from dataclasses import dataclass
from typing import Literal

from soundloom.errors import ScoreError

NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
_STEPS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_NAME = re.compile(r"([A-Ga-g])(#{1,2}|b{1,2})?(-?\d)")
_TOKEN = re.compile(r"(\[[^\[\]]*\]|[^\s\[\]:@]+)(?::([^\s\[\]:@]+))?(?:@([^\s\[\]:@]+))?")


@dataclass(frozen=True)
class Note:
    """One note. `pitch` is a MIDI number and may be fractional; `velocity` is 0 to 1; `channel` picks the instrument,
    and `program` (General MIDI, from 0) what it is where nobody says.

    A value that cannot be played is refused with `ScoreError`.
    """

    start_s: float
    seconds: float
    pitch: float
    velocity: float = 0.8
    channel: int = 0
    program: int = 0

    def __post_init__(self) -> None:
        for name, unit, value, low, high in (
            ("start", " s", self.start_s, 0.0, math.inf),
            ("length", " s", self.seconds, 0.0, math.inf),
            ("pitch", "", self.pitch, 0.0, 127.0),
            ("velocity", "", self.velocity, 0.0, 1.0),
        ):
            if not (low <= value <= high and math.isfinite(value)):
                bound = f"from {low:g} to {high:g}" if math.isfinite(high) else "from 0 on, and finite"
                raise ScoreError(f"a note's {name} is {value:g}{unit}: it goes {bound}")


@dataclass(frozen=True)
class Control:
    """What happens to a channel beside its notes: a "bend" by `value` semitones, a "pressure" of the keys from 0 to 1,
    or the MIDI controller `number` ("cc") moved to `value`, 0 to 1."""

    at_s: float
    kind: Literal["bend", "pressure", "cc"]
    value: float
    number: int = 0
    channel: int = 0


@dataclass(frozen=True)
class Score:
    """Notes sorted by start, and controls sorted by time."""

    notes: tuple[Note, ...]
    controls: tuple[Control, ...] = ()

    @property
    def seconds(self) -> float:
        """When the last note ends (its release comes after)."""
        return max((note.start_s + note.seconds for note in self.notes), default=0.0)


def parse_pitch(text: str) -> float:
    """The MIDI number of a note name (C4 is 60) or of a number, which may be fractional.

    >>> parse_pitch("A4"), parse_pitch("Bb3"), parse_pitch("60.5")
    (69.0, 58.0, 60.5)
    """
    match = _NAME.fullmatch(text)
    if match:
        letter, accidental, octave = match.groups(default="")
        pitch = 12.0 * (int(octave) + 1) + _STEPS[letter.upper()] + accidental.count("#") - accidental.count("b")
    else:
        try:
            pitch = float(text)
        except ValueError:
            raise ScoreError(
                f"'{text}' is no pitch: write a note name such as C#4, or a MIDI number such as 61"
            ) from None
    if not 0.0 <= pitch <= 127.0:
        raise ScoreError(f"the pitch {text} is MIDI number {pitch:g}: pitches go from 0 (C-1) to 127 (G9)")
    return pitch


def pitch_name(pitch: float) -> str:
    """The name of the nearest note.

    >>> pitch_name(60), pitch_name(69.3)
    ('C4', 'A4')
    """
    number = round(pitch)
    return f"{NAMES[number % 12]}{number // 12 - 1}"


def parse(text: str, *, bpm: float = 120.0, velocity: float = 0.8, channel: int = 0) -> Score:
    """A phrase typed in: notes one after the other, `:` beats (1 if left out), `@` velocity, `[ ]` chords, `-` rests.

    >>> score = parse("C4 E4:0.5 [C4 E4 G4]:2@0.5 - 60.5", bpm=60)
    >>> [(note.start_s, note.seconds, note.pitch, note.velocity) for note in score.notes][:3]
    [(0.0, 1.0, 60.0, 0.8), (1.0, 0.5, 64.0, 0.8), (1.5, 2.0, 60.0, 0.5)]
    >>> len(score.notes), score.seconds
    (6, 5.5)

    Anything else is refused with `ScoreError`.
    """
    if not 1.0 <= bpm <= 1000.0:
        raise ScoreError(f"the tempo is {bpm:g} beats a minute: it goes from 1 to 1000")
    beat_s, at, notes = 60.0 / bpm, 0.0, []
    position = 0
    for match in _TOKEN.finditer(text):
        _refuse_leftover(text, position, match.start())
        position = match.end()
        what, beats_text, velocity_text = match.groups()
        beats = _number(beats_text, what="the length in beats", low=0.0, high=1000.0) if beats_text else 1.0
        loud = _number(velocity_text, what="the velocity", low=0.0, high=1.0) if velocity_text else velocity
        if beats == 0:
            raise ScoreError(f"'{match.group()}' lasts 0 beats: give it a length, as in {what}:0.5")
        if what != "-":
            names = what[1:-1].split() if what.startswith("[") else [what]
            if not names:
                raise ScoreError("the chord [] is empty: write the notes in it, or - for a rest")
            notes += [Note(at * beat_s, beats * beat_s, parse_pitch(name), loud, channel) for name in names]
        at += beats
    _refuse_leftover(text, position, len(text))
    return Score(tuple(notes))


def _refuse_leftover(text: str, start: int, end: int) -> None:
    if leftover := text[start:end].strip():
        raise ScoreError(f"'{leftover}' at character {start + 1} is no note: write as in C4 E4:0.5 [C4 E4 G4]:2@0.8 -")


def _number(text: str, *, what: str, low: float, high: float) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ScoreError(f"{what} is '{text}', which is no number") from None
    if not low <= value <= high:
        raise ScoreError(f"{what} is {value:g}: it goes from {low:g} to {high:g}")
    return value
