"""A sound in a sentence and in figures: what it is, its pitch and touch; of a recording its tempo, key and parts."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from soundloom import audio, features, preparing
from soundloom.audio import Waveform
from soundloom.caption import caption
from soundloom.errors import AudioError
from soundloom.form import Part, find_form
from soundloom.key import Key, find_key
from soundloom.score import pitch_name
from soundloom.tempo import Tempo, find_tempo

LONG_S = 6.0  # from here on a sound is a recording, with a tempo, a key and parts, and no one pitch
LONGEST_S = 600.0  # of a file are heard
_PIECE_S = 20.0  # of a recording are measured at a time


@dataclass(frozen=True)
class Judgement:
    """What an ear says of a sound: `label` None where it does not know, `pitch` (MIDI) None where there is none."""

    label: str | None = None
    confidence: float | None = None
    pitch: float | None = None
    pitch_confidence: float | None = None


@dataclass(frozen=True)
class Description:
    """A sound in words and in figures. None: not there, or not known. `seconds` is without silence at the ends; of a
    recording, `pitch`, `attack_s` and `decay_s` are None, and of a shorter sound `tempo`, `key` and `sections`."""

    sentence: str
    seconds: float
    label: str | None
    confidence: float | None
    pitch: float | None
    pitch_confidence: float | None
    loudness_lufs: float
    brightness_hz: float
    noisiness: float
    attack_s: float | None
    decay_s: float | None
    tempo: Tempo | None
    key: Key | None
    sections: tuple[Part, ...] | None

    def document(self) -> dict[str, Any]:
        """For `--json`, with names beside the numbers of notes and keys."""
        note = None if self.pitch is None else pitch_name(self.pitch)
        key = None if self.key is None else {"name": self.key.name, **asdict(self.key)}
        return {**asdict(self), "note": note, "key": key}


def read_ready(path: Path | str) -> Waveform:
    """A file as an ear should get it, up to ten minutes: one channel, from its onset on, at full scale.

    `AudioError` where it cannot be read, or is silent or too short to be anything.
    """
    return ready(audio.read(path, seconds=LONGEST_S))[0]


def ready(sound: Waveform) -> tuple[Waveform, float]:
    """One channel without rumble and silent ends, at full scale, and by how many dB it was turned up for that."""
    try:
        made = preparing.prepare(sound.mono().samples, sample_rate=sound.sample_rate, cut="whole")
    except AudioError as error:
        raise AudioError(f"nothing can be said of this sound: {error}") from None
    return Waveform(made.samples.astype(np.float32) / np.float32(32767), sound.sample_rate), -made.gain_db


def describe(sound: Waveform, judgement: Judgement | None = None) -> Description:
    """What can be said of a sound. Without a `judgement`, nothing is said of what it is, and its pitch is measured.

    >>> t = np.arange(22050) / 44100
    >>> note = np.sin(2 * np.pi * 440 * t) * np.exp(-12 * t)
    >>> describe(Waveform(note[None].astype(np.float32), 44100), Judgement(label="bell", pitch=69.0)).sentence
    'dark bell, A4, sharp attack, 0.5 s'
    """
    whole, turned_up_db = ready(sound)
    if whole.seconds > LONG_S:
        return _recording(whole, turned_up_db, judgement or Judgement())
    found = _measured(whole.samples, whole.sample_rate)
    pitch, sure = float(found.pitch[0]), float(found.pitch_confidence[0])
    judgement = judgement or Judgement(None, None, None if np.isnan(pitch) else pitch, sure)
    facts = {name: float(getattr(found, name)[0]) for name in ("brightness_hz", "noisiness", "attack_s", "decay_s")}
    spoken = float("nan") if judgement.pitch is None else judgement.pitch
    return Description(
        sentence=caption(label=judgement.label, pitch=spoken, seconds=whole.seconds, **facts),
        seconds=whole.seconds,
        label=judgement.label,
        confidence=judgement.confidence,
        pitch=judgement.pitch,
        pitch_confidence=judgement.pitch_confidence,
        loudness_lufs=float(found.loudness_lufs[0]) - turned_up_db,
        tempo=None,
        key=None,
        sections=None,
        **facts,
    )


def _recording(whole: Waveform, turned_up_db: float, judgement: Judgement) -> Description:
    """The means over pieces, by their energy: a quiet passage does not make a bright recording dark."""
    size = round(_PIECE_S * whole.sample_rate)
    starts = range(0, max(1, whole.samples.shape[1] - size // 10), size)
    pieces = [whole.samples[:, start : start + size] for start in starts]
    found = [_measured(piece, whole.sample_rate) for piece in pieces]
    loudness = np.array([float(one.loudness_lufs[0]) for one in found])
    weight = np.array([piece.shape[1] for piece in pieces]) * 10 ** (loudness / 10)
    brightness, noisiness = (
        float(np.average([float(getattr(one, name)[0]) for one in found], weights=weight))
        for name in ("brightness_hz", "noisiness")
    )
    tempo, key, parts = find_tempo(whole), find_key(whole), find_form(whole)
    sentence = caption(
        label=judgement.label or "recording",
        pitch=float("nan"),
        seconds=whole.seconds,
        brightness_hz=brightness,
        noisiness=noisiness,
        attack_s=float("nan"),
        decay_s=float("nan"),
    )
    said = [
        f"{tempo.bpm:.0f} BPM" if tempo else "",
        key.name if key else "",
        "parts " + " ".join(part.label for part in parts) if len(parts) > 1 else "",
    ]
    loud = 10 ** (loudness / 10)
    gated = loud > 0.1 * loud.mean()  # as BS.1770 does with its blocks: what is 10 dB below the mean has no say
    return Description(
        sentence=", ".join([sentence, *(words for words in said if words)]),
        seconds=whole.seconds,
        label=judgement.label,
        confidence=judgement.confidence,
        pitch=None,
        pitch_confidence=None,
        loudness_lufs=float(10 * np.log10(loud[gated].mean())) - turned_up_db,
        brightness_hz=brightness,
        noisiness=noisiness,
        attack_s=None,
        decay_s=None,
        tempo=tempo,
        key=key,
        sections=parts,
    )


def _measured(samples: np.ndarray[Any, np.dtype[np.float32]], sample_rate: int) -> features.Descriptors:
    lengths = torch.tensor([samples.shape[1]])
    return features.describe(torch.from_numpy(samples), lengths, sample_rate=sample_rate)
