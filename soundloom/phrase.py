"""A short phrase that suits a bank: a tune, a bass and a beat, as far as its labels have what these need."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from soundloom.bank import SoundBank
from soundloom.score import Note, Score

Bars = Sequence[Sequence[int | None]]

EIGHTH_S = 60 / 104 / 2  # 104 beats a minute
# Semitones above the tonic per eighth note, bar by bar; None is a rest. A question, an answer, a climb, home.
TUNE: Bars = [
    [0, None, 3, 7, None, 7, 10, None], [12, None, 10, 7, None, 3, 5, None],
    [0, None, 3, 7, None, 10, 12, 15], [12, 10, 7, None, 0, None, None, None],
]  # fmt: skip
BASS: Bars = [[0, None, None, 0, None, None, 7, None], [-4, None, None, -4, None, None, 3, None]] * 2
BEATS: Bars = [  # from the darkest drum to the brightest
    [0, None, None, None, None, 0, None, None],
    [None, None, 0, None, None, None, 0, None],
    [0, 0, 0, 0, 0, 0, 0, 0],
]
LONG_S = 0.35  # a label whose sounds last less beats time, even if it has a pitch, as kicks have
PITCHED = 0.8  # of a label's sounds must have a pitch for it to play a tune: two kicks of three have one


@dataclass(frozen=True)
class Part:
    """What one label plays; `label` None: any sound of the bank."""

    label: str | None
    notes: tuple[Note, ...]


def compose(bank: SoundBank) -> list[Part]:
    """Up to five parts, the notes of part i on channel i. A lone label with a wide range plays tune and bass."""
    labels: Sequence[str | None] = bank.labels or (None,)
    traits = {label: _traits(bank, label) for label in labels}
    tuneful = [label for label, t in traits.items() if t.pitched >= PITCHED and t.sounding_s >= LONG_S]
    drums = sorted((label for label in labels if label not in tuneful), key=lambda label: traits[label].brightness_hz)
    parts: list[Part] = []
    if tuneful:
        bass = min(tuneful, key=lambda label: traits[label].pitch)
        tune = max(tuneful, key=lambda label: (label != bass, -abs(traits[label].pitch - 64)))
        parts.append(_part(0, tune, TUNE, tonic=_tonic(traits[tune].pitch), velocity=0.8))
        low = traits[bass].pitch if bass != tune else traits[bass].low
        if low < traits[tune].pitch - 9:
            parts.append(_part(1, bass, BASS, tonic=_tonic(low), velocity=0.9))
    if drums:
        chosen = [drums[i] for i in sorted(set(np.linspace(0, len(drums) - 1, len(BEATS)).round().astype(int)))]
        for label, beat in zip(chosen, BEATS, strict=False):
            pitch = traits[label].pitch
            tonic = pitch if np.isfinite(pitch) else 60.0
            parts.append(_part(len(parts), label, [beat for _ in TUNE], tonic=tonic, velocity=0.7, eighths=2.0))
    return parts


def merged(parts: Sequence[Part]) -> Score:
    """All parts as one score."""
    return Score(tuple(sorted((note for part in parts for note in part.notes), key=lambda note: note.start_s)))


@dataclass(frozen=True)
class _Traits:
    pitch: float  # median, MIDI; NaN where none has one
    low: float  # only a tenth is lower
    pitched: float  # share
    sounding_s: float  # median
    brightness_hz: float


def _traits(bank: SoundBank, label: str | None) -> _Traits:
    mine = np.ones(len(bank), bool) if label is None else bank.column("label") == label
    pitch = np.asarray(bank.column("pitch"), float)[mine]
    known = pitch[np.isfinite(pitch)]
    return _Traits(
        pitch=float(np.median(known)) if len(known) else float("nan"),
        low=float(np.quantile(known, 0.1)) if len(known) else float("nan"),
        pitched=len(known) / len(pitch),
        sounding_s=float(np.median(np.asarray(bank.column("seconds"), float)[mine])),
        brightness_hz=float(np.nanmedian(np.asarray(bank.column("brightness_hz"), float)[mine])),
    )


def _tonic(pitch: float) -> float:
    """The A nearest below the middle of a label's pitches, so that the phrase stays where its sounds are."""
    return 9.0 + 12 * float(np.floor((pitch + 2 - 9) / 12))


def _part(
    channel: int,
    label: str | None,
    bars: Bars,
    *,
    tonic: float,
    velocity: float,
    eighths: float = 1.6,
) -> Part:
    steps = [step for bar in bars for step in bar]
    notes = [
        Note(i * EIGHTH_S, eighths * EIGHTH_S, tonic + step, velocity if i % 4 == 0 else 0.85 * velocity, channel)
        for i, step in enumerate(steps)
        if step is not None
    ]
    return Part(label, tuple(notes))
