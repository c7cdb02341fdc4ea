"""An ear that knows what it hears by a rule: for tests of what is around an ear, in milliseconds.

A sound is "low" or "high" by where its spectrum's weight lies, and unknown in between; its embedding are its mel bands,
so that what sounds alike lies together.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch

from soundloom import spectral
from soundloom.audio import Waveform, resample
from soundloom.ears import Ear, Heard
from soundloom.models.classifier import Classifier, ClassifierConfig

RATE = 16000
LOW_HZ, HIGH_HZ = 600.0, 2000.0


class FakeEar(Ear):
    def __init__(self, *, seed: int = 0) -> None:
        config = ClassifierConfig(
            sample_rate=RATE, labels=("low", "high"), seconds=0.32, widths=(8,), depths=(1,), embedding=16
        )
        super().__init__(Classifier.build(config, seed=seed).eval(), name="fake")
        self.calls: list[int] = []
        self.broken: set[float] = set()  # lengths of sounds whose embedding is NaN

    def hear(self, sounds: Sequence[Waveform], *, progress: Callable[[int, int], None] | None = None) -> list[Heard]:
        self.calls.append(len(sounds))
        return [self._one(sound) for sound in sounds]

    def _one(self, sound: Waveform) -> Heard:
        x = resample(sound.mono(), RATE).samples[0]
        power = np.abs(np.fft.rfft(x)) ** 2
        hz = np.linspace(0, RATE / 2, len(power))
        centre = float((power * hz).sum() / power.sum())
        bands = spectral.mel(torch.from_numpy(x), sample_rate=RATE, n_fft=1024, hop_length=256, n_mels=16)
        level = (bands.mean(-1) / bands.mean() + 1e-6).log()  # the same for any length and loudness
        embedding = (level - level.mean()).numpy().astype(np.float32)
        if round(sound.seconds, 3) in self.broken:
            embedding = np.full(16, np.nan, np.float32)
        chance = 1 / (1 + math.exp(-4 * math.log2(centre / math.sqrt(LOW_HZ * HIGH_HZ))))
        label = "low" if centre < LOW_HZ else "high" if centre > HIGH_HZ else None
        pitch = 69 + 12 * math.log2(hz[1:][power[1:].argmax()] / 440)
        tonal = bool(power.max() > 0.02 * power.sum())
        return Heard(
            label=label,
            confidence=max(chance, 1 - chance),
            pitch=pitch if tonal else None,
            pitch_confidence=float(tonal),
            tonal=float(tonal),
            chances=(1 - chance, chance),
            embedding=embedding,
        )
