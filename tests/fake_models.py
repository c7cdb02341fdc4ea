"""Stand-ins for trained models, as fast as sines: for tests of the instruments that play models."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from soundloom.condition import AS_LEARNT, DESCRIPTORS

RATE = 44100


@dataclass
class FakeConfig:
    sample_rate: int = RATE
    labels: tuple[str, ...] = ("bell",)
    guidance: float = 2.0


class FakeModel(nn.Module):
    """Makes a decaying sine at the pitch that is asked, with overtones as loud as is asked, and counts its calls."""

    family = "fake"
    conditions: ClassVar[frozenset[str]] = frozenset({"pitch", "label", "descriptors", "text"})
    manners: ClassVar[frozenset[str]] = frozenset({"temperature", "guidance"})

    def __init__(self, sample_rate: int = RATE):
        super().__init__()
        self.config, self.calls, self.made = FakeConfig(sample_rate), 0, 0

    def sample(self, n, *, seconds, condition, generator, manner=AS_LEARNT):
        self.calls, self.made = self.calls + 1, self.made + n
        t = torch.arange(int((seconds or 0.8) * self.config.sample_rate)) / self.config.sample_rate
        phase = torch.rand(n, 1, 1, generator=generator)
        turns = 440 * 2 ** ((condition.pitch[:, None, None] - 69) / 12) * t + phase
        wished = condition.descriptors.nan_to_num(0.0)
        levels = [1.0, *(0.1 * wished[:, i, None, None] for i in range(len(DESCRIPTORS)))]
        levels.append(0.1 * manner.temperature + 0.03 * (manner.guidance or 0.0))
        tones = sum(level * torch.sin(2 * torch.pi * (k + 1) * turns) for k, level in enumerate(levels))
        return 0.5 * tones * torch.exp(-4 * t)


class FakeStream:
    """A source of pieces: a sine at C4 that goes on for ever, or at the pitch and level that it is steered by."""

    sample_rate, piece, latency = 32000, 256, 100
    family = "fake"
    conditions: ClassVar[frozenset[str]] = frozenset({"label", "descriptors"})
    manners: ClassVar[frozenset[str]] = frozenset({"temperature"})

    def __init__(self, *, melodic: bool = False) -> None:
        self.model, self.config = self, FakeConfig(self.sample_rate)
        self.levels = np.linspace(-60, -6, 101, dtype=np.float32) if melodic else None
        self.made = 0

    def begin(self, seed: int) -> Any:
        return (seed % 1000) / 1000, np.zeros(self.latency)  # the phase, and what is still to be given out

    def next(self, steer: Any, state: Any) -> Any:
        self.made += 1
        phase, late = state
        hz, gain = 440 * 2 ** (-9 / 12), 0.5
        if self.levels is not None:
            hz, gain = steer["f0_hz"], 10 ** (steer["level_db"] / 20) * (steer["level_db"] > -99)
        else:
            ask = steer["ask"]
            gain *= (
                0.5 + 0.25 * ask["temperature"] + 0.1 * sum((i + 1) * v for i, (_, v) in enumerate(ask["descriptors"]))
            )
        turns = phase + hz / self.sample_rate * np.arange(1, self.piece + 1)
        sound = np.concatenate([late, gain * np.sin(2 * np.pi * turns)])
        return sound[: self.piece].astype(np.float32), (turns[-1] % 1, sound[self.piece :])
