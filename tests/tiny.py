"""The smallest real family and bank: for tests of what is around a model, in milliseconds a step.

`Tiny` is an autoencoder of short frames with an adversary in the second half of a run, so that everything a loop has
to do for a family is there: two players, a code, new sounds, randomness in the step.
"""

import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from soundloom import checkpoint
from soundloom.audio import Waveform
from soundloom.bank import Batch, BatchSpec
from soundloom.condition import AS_LEARNT, Condition, Manner
from soundloom.config import override
from soundloom.models.base import AbstractModel, Code, Player, Update

FRAME = 64
RATE = 8000


@dataclass(frozen=True)
class TinyConfig:
    sample_rate: int = RATE
    channels: int = 1
    labels: tuple[str, ...] = ()
    steps: int = 100
    width: int = 24
    latent: int = 6
    batch: int = 4
    learning_rate: float = 3e-3
    noise: float = 0.01
    adversary_from: float = 0.5


class Tiny(AbstractModel):
    family = "tiny"
    Config = TinyConfig

    def __init__(self, config: TinyConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = nn.Sequential(nn.Linear(FRAME, config.width), nn.GELU(), nn.Linear(config.width, config.latent))
        self.decoder = nn.Sequential(nn.Linear(config.latent, config.width), nn.GELU(), nn.Linear(config.width, FRAME))
        self.judge = nn.Sequential(nn.Linear(FRAME, config.width), nn.GELU(), nn.Linear(config.width, 1))

    @classmethod
    def configure(cls, bank: Any, settings: Sequence[str] = ()) -> TinyConfig:
        return override(TinyConfig(sample_rate=bank.sample_rate, channels=bank.channels), settings)

    @property
    def batch_spec(self) -> BatchSpec:
        return BatchSpec(size=self.config.batch, samples=16 * FRAME, hop_length=FRAME, align="start", gain_db=6.0)

    def players(self) -> Mapping[str, Player]:
        rate = self.config.learning_rate
        return {
            "generator": Player([*self.encoder.parameters(), *self.decoder.parameters()], rate),
            "judge": Player(list(self.judge.parameters()), rate, ema=False),
        }

    def encode(self, audio: Tensor, *, f0_hz: Tensor | None = None, voiced: Tensor | None = None) -> Code:
        frames = audio[:, 0, : audio.shape[-1] // FRAME * FRAME].unflatten(-1, (-1, FRAME))
        none = torch.zeros(len(audio), 1, frames.shape[1], device=audio.device)
        return Code(self.encoder(frames).transpose(1, 2), none, none)

    def decode(self, code: Code, *, seed: int = 0) -> Tensor:
        return self.decoder(code.z.transpose(1, 2)).flatten(1)[:, None]

    def sample(
        self,
        n: int,
        *,
        seconds: float | None,
        condition: Condition | None,
        generator: torch.Generator,
        manner: Manner = AS_LEARNT,
    ) -> Tensor:
        frames = round((seconds or 0.25) * self.config.sample_rate / FRAME)
        z = torch.randn(n, self.config.latent, frames, generator=generator).to(next(self.parameters()).device)
        return self.decode(Code(z, z[:, :1], z[:, :1])).clamp(-1, 1)

    def train_step(self, batch: Batch, *, step: int, generator: torch.Generator, update: Update) -> dict[str, float]:
        noise = torch.randn(batch.audio.shape, generator=generator).to(batch.audio.device)
        made = self.decode(self.encode(batch.audio + self.config.noise * noise))
        error = (made - batch.audio).square().mean()
        if step < self.config.adversary_from * self.config.steps:
            update("generator", error)
            return {"error": error.item()}
        real, false = self.judge(batch.audio.unflatten(-1, (-1, FRAME))), self.judge(made.unflatten(-1, (-1, FRAME)))
        update("generator", error + 0.01 * (1 - false).square().mean())
        false = self.judge(made.detach().unflatten(-1, (-1, FRAME)))
        judged = (1 - real).square().mean() + false.square().mean()
        update("judge", judged)
        return {"error": error.item(), "judged": judged.item()}

    def validate(self, batch: Batch, *, generator: torch.Generator) -> dict[str, float]:
        error = (self.decode(self.encode(batch.audio)) - batch.audio).square().mean()
        return {"error": error.item(), "score": error.item()}


class TinyBank:
    """Decaying tones of 200 to 2000 Hz, some of them held out; the interface of a `SoundBank`."""

    kind, sample_rate, channels, labels = "one-shots", RATE, 1, ()

    def __init__(self, folder: Path, sounds: int = 24) -> None:
        self.folder = folder
        time = np.arange(RATE // 4) / RATE
        hertz = np.geomspace(200, 2000, sounds)[:, None]
        self._audio = (0.5 * np.sin(2 * np.pi * hertz * time) * np.exp(-8 * time)).astype(np.float32)

    def clips(self, split: str | None = None) -> NDArray[np.int64]:
        every = np.arange(len(self._audio))
        return {"train": every[every % 6 != 0], "validation": every[every % 6 == 0], None: every}[split]

    def column(self, name: str) -> NDArray[Any]:
        columns = {
            "hash": [f"{abs(sound).sum():.6f}" for sound in self._audio],
            "gain_db": [-6.0] * len(self._audio),
        }
        return np.array(columns.get(name, [None] * len(self._audio)))

    def audio(self, clip: int) -> Waveform:
        return Waveform(self._audio[clip][None], RATE)

    def draw(self, spec: BatchSpec, *, split: str, generator: torch.Generator) -> Batch:
        clips = self.clips(split)
        chosen = clips[torch.randint(len(clips), (spec.size,), generator=generator).numpy()]
        gain = 10 ** (spec.gain_db / 20 * (2 * torch.rand(spec.size, generator=generator) - 1))
        return self._batch(spec, chosen, gain)

    def take(self, spec: BatchSpec, clips: Sequence[int]) -> Batch:
        return self._batch(spec, np.asarray(clips), torch.ones(len(clips)))

    def _batch(self, spec: BatchSpec, clips: NDArray[np.int64], gain: Tensor) -> Batch:
        n = len(clips)
        audio = torch.from_numpy(self._audio[clips][:, None, : spec.samples]) * gain[:, None, None]
        track = torch.zeros(n, 1, spec.samples // spec.hop_length)
        return Batch(
            audio=audio,
            lengths=torch.full((n,), spec.samples),
            f0_hz=track,
            voiced=track,
            inharmonicity=torch.zeros(n),
            condition=Condition.of(n),
            clips=torch.from_numpy(clips.copy()),
        )


@contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[Path]:
    """A real file system of a few kilobytes, where the system lets us mount one; else the test is skipped."""
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "none", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@contextmanager
def ordinary_user(folder: Path) -> Iterator[None]:
    """Without the rights of root, who may write anywhere; the way to `folder` is opened for everyone."""
    if os.geteuid() != 0:
        pytest.skip("dropping privileges needs root")
    for parent in folder.parents:
        if not parent.stat().st_mode & 0o001:
            os.chmod(parent, 0o755)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


checkpoint.FAMILIES["tiny"] = "tiny:Tiny"
