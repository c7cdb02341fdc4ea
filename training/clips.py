"""A clip of the training set, and the folder they are kept in: one file of samples, one of facts."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 32000
LONGEST_S = 2.0
SHORTEST_S = 0.01
PEAK = 0.95
DRUMS = (
    *("kick", "snare", "rim", "clap", "closed hat", "open hat", "tom", "cymbal", "cowbell", "hand drum", "shaker"),
)
LABELS = (
    *DRUMS,
    *("keyboard", "mallet", "organ", "guitar", "bass", "strings", "voice", "brass", "reed", "flute"),
    *("synth lead", "synth pad", "effect", "speech"),
)

Sound = NDArray[np.float64]


class Clip(NamedTuple):
    """One sound, from its onset, at most `LONGEST_S` long, and what is known of it.

    `label` is one of `LABELS`, or "" where none is known. `pitch` is a MIDI number, NaN where there is none or none
    known. `tonal`: 1 yes, 0 no, -1 do not care. `group`: what must stay together when the set is split.
    """

    audio: NDArray[np.int16]
    label: str
    pitch: float
    tonal: int
    source: str
    group: str
    velocity: float


@dataclass(frozen=True)
class Facts:
    """What is known of a sound before it is a clip."""

    label: str
    source: str
    group: str
    pitch: float = float("nan")
    tonal: int = 0
    velocity: float = 0.8


def clip(sound: Sound, facts: Facts, *, lead: int = 0) -> Clip | None:
    """The sound from its onset (less `lead` samples), peak-normalised, as int16; None if nothing is left to hear."""
    peak = float(np.abs(sound).max(initial=0.0))
    if not np.isfinite(peak) or peak < 1e-6:
        return None
    loud = np.abs(sound) > 0.01 * peak
    start = max(int(np.argmax(loud)) - lead, 0)
    sound = sound[start : start + round(LONGEST_S * SAMPLE_RATE)]
    audible = np.flatnonzero(np.abs(sound) > 0.002 * peak)
    sound = sound[: audible[-1] + 1]
    if len(sound) < SHORTEST_S * SAMPLE_RATE:
        sound = np.pad(sound, (0, round(SHORTEST_S * SAMPLE_RATE) - len(sound)))
    scaled = np.round(sound * (PEAK * 32767 / np.abs(sound).max())).astype(np.int16)
    return Clip(scaled, facts.label, facts.pitch, facts.tonal, facts.source, facts.group, facts.velocity)


class Writer:
    """Writes clips as they come: `audio.i16` grows, `clips.npz` is written by `close`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.frames = 0
        self._rows: list[tuple[Any, ...]] = []
        self._audio = (folder / "audio.i16").open("wb")

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, clips: Iterable[Clip]) -> None:
        for made in clips:
            made.audio.tofile(self._audio)
            self._rows.append((self.frames, len(made.audio), *made[1:]))
            self.frames += len(made.audio)

    def close(self) -> dict[str, int]:
        """Writes the facts; how many clips there are of each label."""
        self._audio.close()
        start, frames, label, pitch, tonal, source, group, velocity = zip(*self._rows, strict=True)
        np.savez(
            self.folder / "clips.npz",
            start=np.array(start, np.int64),
            frames=np.array(frames, np.int32),
            label=np.array(label),
            pitch=np.array(pitch, np.float32),
            tonal=np.array(tonal, np.int8),
            source=np.array(source),
            group=np.array(group),
            velocity=np.array(velocity, np.float32),
        )
        return {name: label.count(name) for name in (*LABELS, "") if name in label}
