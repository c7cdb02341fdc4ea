"""What every model family is: a config, players to optimise, a training step; and what a family may offer beyond."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Protocol, Self, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from soundloom.bank import Batch, BatchSpec, SoundBank
from soundloom.condition import AS_LEARNT, UNKNOWN, Condition, Manner
from soundloom.errors import BankError


@dataclass(frozen=True)
class Code:
    """What a codec encodes to and what flow and RNN model: a latent and the pitch, per frame.

    Shapes: `z` [B, D, N]; `f0_hz` [B, K, N] (0 where there is no pitch); `voiced` [B, K, N], 0 to 1.
    K voices: 1 by default, more for chords.
    """

    z: Tensor
    f0_hz: Tensor
    voiced: Tensor

    def transposed(self, semitones: float) -> "Code":
        """The same sound, `semitones` higher: exact, because pitch is a part of the code and not of the latent."""
        return Code(self.z, self.f0_hz * 2.0 ** (semitones / 12), self.voiced)


EVERYTHING = frozenset(field.name for field in fields(Condition))


@dataclass(frozen=True)
class Player:
    """Parameters that are optimised together. `ema`: whether their running average is what is kept."""

    parameters: Sequence[nn.Parameter]
    learning_rate: float
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.0
    ema: bool = True


class Update(Protocol):
    """Given by the loop: backward, all-reduce, clipping, the NaN stop and one optimiser step of `player`."""

    def __call__(self, player: str, loss: Tensor) -> None: ...


class AbstractModel(nn.Module, ABC):
    """A family. The config is a frozen dataclass with at least `sample_rate`, `channels`, `labels` and `steps`
    (the length of the run its schedules are made for); the constructor takes nothing else.

    `train_step` and `validate` return named losses as floats; `validate` has a key "score", lower is better,
    by which the best checkpoint is kept.
    """

    family: ClassVar[str]
    Config: ClassVar[type]
    validation_clips: ClassVar[int] = 32  # held-out sounds that decide which checkpoint is kept
    conditions: ClassVar[frozenset[str]] = frozenset({"pitch", "label"})  # the fields of `Condition` that it is told
    manners: ClassVar[frozenset[str]] = frozenset()  # the fields of `Manner` that its sampling obeys
    chaotic: ClassVar[bool] = False  # each draw depends on the last: a rounding error becomes another sound
    needs_codec: ClassVar[bool] = False  # whether it models the codes of a codec, which the setting `codec` names
    config: Any

    @classmethod
    @abstractmethod
    def configure(cls, bank: SoundBank, settings: Sequence[str] = ()) -> Any:
        """The config that suits a bank, with `key=value` settings applied."""

    @classmethod
    def build(cls, config: Any, *, seed: int) -> Self:
        """A fresh model: the same seed gives the same weights, and the global generator is left as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls(config)

    @property
    def pitch_range(self) -> tuple[float, float] | None:
        """The lowest and the highest pitch (MIDI) of the sounds that it learnt from, where it knows them."""
        return None

    @property
    @abstractmethod
    def batch_spec(self) -> BatchSpec:
        """What a training batch holds: how many sounds, how long, from where, with what augmentation."""

    @abstractmethod
    def players(self) -> Mapping[str, Player]: ...

    @abstractmethod
    def train_step(
        self, batch: Batch, *, step: int, generator: torch.Generator, update: Update
    ) -> dict[str, float]: ...

    @abstractmethod
    def validate(self, batch: Batch, *, generator: torch.Generator) -> dict[str, float]: ...


def random_crops(config: Any, *, frames: int) -> BatchSpec:
    """Crops of so many frames from anywhere, moved in pitch and level as a config says (`batch`, `hop_length`,
    `semitones`, `gain_db`)."""
    return BatchSpec(
        size=config.batch,
        samples=frames * config.hop_length,
        hop_length=config.hop_length,
        align="random",
        semitones=config.semitones,
        gain_db=config.gain_db,
    )


def usual_longest(bank: SoundBank, *, most: float) -> float:
    """Seconds that 19 in 20 sounds of a bank keep within, 0.25 to `most`: how long a model's sounds should be."""
    return round(min(max(float(np.quantile(bank.column("seconds"), 0.95)), 0.25), most), 2)


def refuse_fewer(bank: SoundBank, fewest: int, *, family: str) -> int:
    """How many sounds there are to train on; fewer than `fewest` are refused with `BankError`."""
    sounds = len(bank.clips("train"))
    if sounds < fewest:
        raise BankError(
            f"the bank has {sounds} sounds to train on: the family {family} needs {fewest} or more, a vae does with 2"
        )
    return sounds


def spanned(pitches: Tensor) -> tuple[float, float] | None:
    """The lowest and the highest of pitches, of which NaN are none; None where all are."""
    known = pitches[torch.isfinite(pitches)]
    return (float(known.min()), float(known.max())) if len(known) else None


def suiting(pitches: Tensor, labels: Tensor, *, pitch: float, label: int) -> Tensor:
    """How well remembered sounds suit what is asked [M]: those of the label, where there are any, the nearer in pitch
    the better. `pitches` and `labels` are theirs [M], NaN where there is none; so is a `pitch` that is not asked."""
    weights = torch.ones_like(pitches)
    if label != UNKNOWN and (labels == label).any():
        weights = (labels == label).to(pitches)
    if math.isfinite(pitch) and (weights * torch.isfinite(pitches)).any():
        near = torch.exp(-(pitches - pitch).abs() / 4)
        weights = weights * torch.nan_to_num(near, nan=0.0).clamp_min(1e-6)
    return weights


@runtime_checkable
class Samples(Protocol):
    """A family that makes new sounds."""

    def sample(
        self,
        n: int,
        *,
        seconds: float | None,
        condition: Condition | None,
        generator: torch.Generator,
        manner: Manner = AS_LEARNT,
    ) -> Tensor:
        """n sounds [n, C, T] at the model's sample rate, in [-1, 1]. No condition: as the bank had them."""


@runtime_checkable
class Continues(Protocol):
    """A family that goes on where a recording ends, for as long as one likes, in constant memory."""

    def continue_from(self, audio: Tensor, *, seconds: float, generator: torch.Generator, manner: Manner) -> Tensor:
        """audio [1, 1, T] -> the `seconds` that follow it [1, 1, T']; T may be 0, to begin from nothing."""


@runtime_checkable
class Resynthesises(Protocol):
    """A family that plays a sound again from what it measures in it (spectra, pitch, loudness), without a latent."""

    def resynthesise(self, audio: Tensor, *, transpose: float = 0.0, seed: int = 0) -> Tensor:
        """audio [B, 1, T] -> [B, 1, T], `transpose` semitones up; `ModelError` where the family cannot transpose."""


@runtime_checkable
class HearsNoise(Protocol):
    """A family whose new sounds differ by noise, that a sick one learns to ignore."""

    def by_noise_alone(self, n: int, *, generator: torch.Generator) -> Tensor:
        """n sounds [n, C, T] of one and the same wish, that have nothing but their noise to differ by."""


@runtime_checkable
class Inverts(Protocol):
    """A family that finds the noise that becomes a given sound, and so makes sounds near it, or parts of it anew."""

    def vary(
        self, audio: Tensor, n: int, *, strength: float, generator: torch.Generator, manner: Manner
    ) -> tuple[Tensor, Tensor, Tensor]:
        """audio [1, 1, T] -> n sounds like it [n, 1, T'], the sound made again from its own noise [1, 1, T'], and as
        it would be without the way to the noise and back."""

    def fill(
        self, audio: Tensor, *, start_s: float, end_s: float, generator: torch.Generator, manner: Manner
    ) -> Tensor:
        """audio [1, 1, T] -> the same with what lies between two moments made anew [1, 1, T']."""


@runtime_checkable
class Transfers(Protocol):
    """A family that plays a melody of any source in the timbre that it learnt."""

    def transfer(self, audio: Tensor, *, transpose: float | None = None, seed: int = 0) -> Tensor:
        """audio [B, 1, T] -> [B, 1, T]. `transpose` None: by whole octaves into the range that it learnt."""


@runtime_checkable
class Prepares(Protocol):
    """A family that looks at the bank before the first step, or before the next one of a resumed run."""

    def prepare(self, bank: SoundBank, *, fresh: bool) -> None:
        """`fresh`: before the very first step; a resumed run has its weights already. Changes no parameter that is
        optimised."""


@runtime_checkable
class Codes(Protocol):
    """A family that takes a sound apart and puts it together again."""

    def encode(self, audio: Tensor, *, f0_hz: Tensor | None = None, voiced: Tensor | None = None) -> Code:
        """audio [B, C, T] -> `Code`. Without f0 [B, K, N] it is tracked from the audio."""

    def decode(self, code: Code, *, seed: int = 0) -> Tensor:
        """`Code` -> audio [B, C, N * hop_length]. The noise in it is keyed by (seed, frame)."""


@runtime_checkable
class Embeds(Protocol):
    """A family with one latent for a whole sound: new ones by sampling, morphs by interpolation, a map."""

    def embed(self, audio: Tensor, *, f0_hz: Tensor | None = None, voiced: Tensor | None = None) -> "Embedding": ...

    def draw(self, condition: Condition, *, generator: torch.Generator) -> "Embedding":
        """New points, one for each condition; what it leaves open is as in the bank."""

    def render(self, embedding: "Embedding", *, seconds: float | None = None, seed: int = 0) -> Tensor:
        """audio [B, C, T]."""


@dataclass(frozen=True)
class Embedding:
    """One latent per sound. Shapes: `z` [B, D]; `pitch` [B] MIDI (NaN: unpitched); `seconds` [B]."""

    z: Tensor
    pitch: Tensor
    seconds: Tensor
    label: Tensor


@dataclass(frozen=True)
class Opinion:
    """What a classifier makes of sounds.

    Shapes: `logits` [B, L], calibrated; `pitch` [B] MIDI with cents, NaN: none; `pitch_confidence` [B], `tonal` [B],
    both 0 to 1; `embedding` [B, E].
    """

    logits: Tensor
    pitch: Tensor
    pitch_confidence: Tensor
    tonal: Tensor
    embedding: Tensor


@runtime_checkable
class Classifies(Protocol):
    """A family that hears what a sound is."""

    def classify(self, audio: Tensor) -> Opinion:
        """audio [B, T] at the model's rate, from the onset on, of any length, silent after its end."""


@runtime_checkable
class Calibrates(Protocol):
    """A family whose word has to be measured on held-out sounds before it can be relied on."""

    def calibrate(self, bank: SoundBank, clips: Sequence[int]) -> None:
        """Called with held-out clips before a checkpoint is kept; it changes buffers and no parameter."""


@runtime_checkable
class Streams(Protocol):
    """A family that works block by block with explicit state; any split gives the same audio."""

    def init_state(self, *, seed: int = 0) -> Any: ...

    def step(self, code: Code, state: Any) -> tuple[Tensor, Any]:
        """The next frames of a `Code` [1, D, n] -> their audio [1, C, n * hop_length] and the new state."""
