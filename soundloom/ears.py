"""The ears: what a sound is, which pitch it has, and where it lies among all sounds. A trained classifier and signal
processing, each where it is the better one.

`Ear.bundled()` comes with Soundloom and names instrument families, one-shot kinds and speech; `Ear.load(RUN)` hears
with a classifier trained on your own labels.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from soundloom import checkpoint, features, spectral
from soundloom.audio import Waveform, resample
from soundloom.errors import AudioError, ModelError
from soundloom.models.base import Opinion
from soundloom.models.classifier import Classifier
from soundloom.spectral import default_hop

Floats = NDArray[np.float32]

BUNDLED = Path(__file__).parent / "ear"
SURE = 0.5  # a label that is no likelier than not is not given
WINDOWS = 8  # of a long recording are heard
ONE_EVENT_S = 4.0  # up to here a sound is one event, which its beginning tells best
QUIET = 0.01  # of the loudest window: what is 40 dB quieter has no say
PITCH_S = 20.0  # of a recording whose pitch is looked for
BATCH = 32
SILENT = 1e-6
LIKELY = 0.8  # a pitch that only the network hears


@dataclass(frozen=True)
class Heard:
    """What the ear makes of one sound.

    `label` is None where no label is likelier than not; `confidence` is that of the likeliest. `pitch` is a MIDI number
    with cents, None where there is none. `chances` are of every label of the ear; `embedding` [E] is where the sound
    lies among others.
    """

    label: str | None
    confidence: float
    pitch: float | None
    pitch_confidence: float
    tonal: float
    chances: tuple[float, ...]
    embedding: Floats


class Ear:
    """A classifier, ready to hear sounds of any rate, length and number of channels."""

    def __init__(self, model: Classifier, *, name: str) -> None:
        self.model, self.name = model, name
        self.labels = model.config.tags
        self.sample_rate = model.config.sample_rate

    @classmethod
    def bundled(cls, *, device: str | None = None) -> "Ear":
        """The ear that comes with Soundloom."""
        return cls.load(BUNDLED, device=device, name="bundled")

    @classmethod
    def load(cls, folder: Path | str, *, device: str | None = None, name: str | None = None) -> "Ear":
        """The ear of a run of the classifier; `ModelError` for any other family."""
        model = checkpoint.load(folder, device=device)
        if not isinstance(model, Classifier):
            raise ModelError(f"{folder} holds a {model.family}, which hears nothing: train --family classifier")
        return cls(model, name=name or str(folder))

    @property
    def size(self) -> int:
        """Dimensions of the embedding."""
        return int(self.model.config.embedding)

    @torch.no_grad()
    def hear(self, sounds: Sequence[Waveform], *, progress: Callable[[int, int], None] | None = None) -> list[Heard]:
        """What each sound is. `AudioError` for one with NaN in it."""
        heard: list[Heard] = []
        for i in range(0, len(sounds), BATCH):
            some = [self._ready(sound) for sound in sounds[i : i + BATCH]]
            opinion = self._opinion(some)
            chances = _chances(opinion.logits, exclusive=self.model.config.exclusive)
            for row, x in enumerate(some):
                heard.append(self._heard(x, _row(opinion, row), chances[row]))
            if progress:
                progress(len(heard), len(sounds))
        return heard

    @torch.no_grad()
    def chances(self, sounds: Sequence[Waveform]) -> Floats:
        """How likely each label is for each sound: [N, L], 0 for silence. `hear` without the search for a pitch."""
        rows: list[Floats] = [np.zeros((0, len(self.labels)), np.float32)]
        for i in range(0, len(sounds), BATCH):
            some = [self._ready(sound) for sound in sounds[i : i + BATCH]]
            found = _chances(self._opinion(some).logits, exclusive=self.model.config.exclusive).numpy()
            rows.append(found * np.array([[len(x) > 0] for x in some], np.float32))
        return np.concatenate(rows)

    @torch.no_grad()
    def embed(self, sounds: Sequence[Waveform]) -> Floats:
        """Where each sound lies among others: [N, E]. Silence lies at zero."""
        rows: list[Floats] = [np.zeros((0, self.size), np.float32)]
        for i in range(0, len(sounds), BATCH):
            rows.append(self._opinion([self._ready(sound) for sound in sounds[i : i + BATCH]]).embedding.numpy())
        return np.concatenate(rows)

    def _ready(self, sound: Waveform) -> Floats:
        """One channel [T] at the model's rate and a peak of 1, from the onset on; empty where there is only silence."""
        if not np.isfinite(sound.samples).all():
            raise AudioError("the sound has NaN or infinite samples: choose another one")
        x: Floats = resample(sound.mono(), self.sample_rate).samples[0]
        peak = float(np.abs(x).max(initial=0.0))
        if peak < SILENT:
            return x[:0]
        onset = int(np.argmax(np.abs(x) > 0.03 * peak))
        heard: Floats = x[max(0, onset - self.sample_rate // 500) :] / np.float32(peak)
        return heard

    def _opinion(self, sounds: Sequence[Floats]) -> Opinion:
        """What the model makes of N sounds [T]: the mean over the windows of each, weighted with their level."""
        size = self.model.samples
        places = [(n, start) for n, x in enumerate(sounds) for start in self._starts(len(x))]
        audio = torch.zeros(len(places), size)
        for window, (n, start) in zip(audio, places, strict=True):
            piece = sounds[n][start : start + size]
            window[: len(piece)] = torch.from_numpy(piece)
        device = next(self.model.parameters()).device
        pieces = [self.model.classify(some.to(device)) for some in torch.split(audio, BATCH)]
        level = audio.square().mean(1).sqrt()
        share = torch.zeros(len(sounds), len(places))  # of each window in what is said of each sound
        for window, (n, _) in enumerate(places):
            share[n, window] = level[window]
        loudest = share.amax(1, keepdim=True)
        share = torch.where(share >= QUIET * loudest, share, 0.0)
        share = share / share.sum(1, keepdim=True).clamp(min=1e-9)
        best = share.argmax(1)  # pitches have no mean: that of the loudest window is taken

        def every(name: str) -> Tensor:
            return torch.cat([getattr(piece, name).float().cpu() for piece in pieces])

        return Opinion(
            logits=share @ every("logits"),
            pitch=every("pitch")[best],
            pitch_confidence=every("pitch_confidence")[best],
            tonal=share @ every("tonal"),
            embedding=share @ every("embedding"),
        )

    def _starts(self, length: int) -> list[int]:
        """Where the windows of a sound of `length` samples begin. One that is an event is heard from its onset only."""
        if length <= ONE_EVENT_S * self.sample_rate:
            return [0]
        return [int(start) for start in np.linspace(0, length - self.model.samples, WINDOWS)]

    def _heard(self, x: Floats, opinion: Opinion, chances: Tensor) -> Heard:
        """One sound [T] and what the model makes of it."""
        if len(x) == 0:
            nothing = tuple(0.0 for _ in self.labels)
            return Heard(None, 0.0, None, 0.0, 0.0, nothing, opinion.embedding.numpy())
        tracked, sure = tracked_pitch(x[: int(PITCH_S * self.sample_rate)], sample_rate=self.sample_rate)
        pitch, confidence = merged_pitch(tracked, sure, float(opinion.pitch), float(opinion.pitch_confidence))
        return Heard(
            label=likeliest(chances.numpy(), self.labels),
            confidence=float(chances.max()),
            pitch=None if math.isnan(pitch) else pitch,
            pitch_confidence=confidence,
            tonal=float(opinion.tonal),
            chances=tuple(chances.tolist()),
            embedding=opinion.embedding.numpy(),
        )


def likeliest(chances: Floats, labels: Sequence[str]) -> str | None:
    """The label of the highest chance [L]; None where it is no likelier than not.

    >>> likeliest(np.float32([0.2, 0.7, 0.1]), ("kick", "snare", "clap"))
    'snare'
    """
    best = int(chances.argmax())
    return labels[best] if chances[best] > SURE else None


def tracked_pitch(x: Floats, *, sample_rate: int) -> tuple[float, float]:
    """The one pitch of a sound [T] by signal processing, MIDI, NaN where it has none, and how sure it is, 0 to 1."""
    audio, hop_length = torch.from_numpy(x)[None], default_hop(sample_rate)
    track = features.track_pitch(audio, sample_rate=sample_rate, hop_length=hop_length)
    amplitude = spectral.frame(audio, n_fft=4 * hop_length, hop_length=hop_length).square().mean(-1).sqrt()
    pitch, sure = features.note_pitch(track, amplitude)
    return float(pitch[0]), float(sure[0])


def merged_pitch(tracked: float, sure: float, heard: float, likely: float) -> tuple[float, float]:
    """One pitch (MIDI, NaN: none) of the tracked one and the one the network hears, and how sure it is, 0 to 1.

    The tracker has the cents; where it finds none, the network's pitch counts if it is likely.
    """
    if math.isnan(tracked):
        return (heard, likely) if likely > LIKELY else (math.nan, 1 - likely)
    return tracked, max(sure, likely if abs(heard - tracked) < 0.6 else 0.0)


def _chances(logits: Tensor, *, exclusive: bool) -> Tensor:
    return torch.softmax(logits, -1) if exclusive else torch.sigmoid(logits)


def _row(opinion: Opinion, row: int) -> Opinion:
    return Opinion(
        logits=opinion.logits[row],
        pitch=opinion.pitch[row],
        pitch_confidence=opinion.pitch_confidence[row],
        tonal=opinion.tonal[row],
        embedding=opinion.embedding[row],
    )
