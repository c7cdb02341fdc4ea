"""What a trained folder can do, as one object: new sounds, re-syntheses, morphs."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from soundloom import checkpoint
from soundloom.audio import Waveform, read, resample
from soundloom.condition import Condition
from soundloom.errors import AudioError, ConditionError, ConfigError, ModelError
from soundloom.features import track_pitches
from soundloom.models.base import AbstractModel, Codes, Embedding, Embeds, Samples
from soundloom.preparing import Prepared, prepare
from soundloom.score import parse_pitch
from soundloom.steady import steadied

Channel = NDArray[np.float32]  # [T], one channel

PIECE_S = 30.0  # of a long recording are re-synthesised at a time
BATCH = 8  # sounds made at once: enough to fill a core, little enough to fit a small memory


class Run:
    """A trained folder, ready to be used. `Run.load(folder)`, or what `soundloom.train` returns.

    Raises `ModelError` for a folder that holds no model, and where a family cannot do what is asked.
    """

    def __init__(self, folder: Path, model: AbstractModel) -> None:
        self.folder, self.model = folder, model

    @classmethod
    def load(cls, folder: Path | str, *, device: str | None = None) -> "Run":
        return cls(Path(folder), checkpoint.load(folder, device=device))

    @property
    def family(self) -> str:
        return self.model.family

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels that `sample` can be asked for."""
        return tuple(self.model.config.labels)

    @property
    def sample_rate(self) -> int:
        return int(self.model.config.sample_rate)

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @torch.no_grad()
    def sample(
        self,
        n: int = 1,
        *,
        seed: int = 0,
        label: str | None = None,
        pitch: float | str | None = None,
        seconds: float | None = None,
    ) -> list[Waveform]:
        """n new sounds. `pitch` is a MIDI number or a note name; what is not given is as the bank had it.

        The same seed and n give the same sounds.
        """
        if n < 1:
            raise ConfigError(f"{n} sounds were asked for: ask for 1 or more")
        if seconds is not None and not 0.01 <= seconds <= 600:
            raise ConditionError(f"a length of {seconds:g} s was asked for: it goes from 0.01 to 600")
        number = parse_pitch(pitch) if isinstance(pitch, str) else pitch
        asked = Condition.of(n, self.labels, pitch=number, label=label)
        return self.sample_as(asked, seed=seed, seconds=seconds)

    @torch.no_grad()
    def sample_as(self, condition: Condition, *, seed: int = 0, seconds: float | None = None) -> list[Waveform]:
        """New sounds, one for each of the conditions; `sample` asks for the same of all."""
        model = self.model
        if not isinstance(model, Samples):
            raise ModelError(f"a {self.family} makes no new sounds: train a {families_that('sample')}")
        generator = torch.Generator().manual_seed(seed)
        sounds: list[Waveform] = []
        while len(sounds) < len(condition):
            asked = condition[len(sounds) : len(sounds) + BATCH].to(self.device)
            audio = model.sample(len(asked), seconds=seconds, condition=asked, generator=generator)
            sounds += [self._waveform(sound) for sound in audio]
        if seconds is None:  # those made together are as long as the longest of them
            return [_without_silent_end(sound) for sound in sounds]
        return [_fitted(sound, round(seconds * self.sample_rate)) for sound in sounds]  # models count in frames

    @torch.no_grad()
    def reconstruct(
        self, sound: Waveform | Path | str, *, transpose: float = 0.0, voices: int = 1, seed: int = 0
    ) -> Waveform:
        """The sound as the model understands it, at its own rate, length, level and channels, `transpose` semitones up.

        `voices`: how many notes may sound at once, for chords; a family without pitch tracks takes no notice.
        """
        sound = sound if isinstance(sound, Waveform) else read(sound)
        if not -48 <= transpose <= 48:
            raise ConfigError(f"a transposition of {transpose:g} semitones was asked for: it goes from -48 to 48")
        if not 1 <= voices <= 8:
            raise ConfigError(f"{voices} voices were asked for: it goes from 1 to 8")
        again = [self._channel(x, transpose, voices, seed) for x in self._heard(sound).samples]
        return _fitted(resample(Waveform(np.stack(again), self.sample_rate), sound.sample_rate), sound.samples.shape[1])

    def _channel(self, x: Channel, transpose: float, voices: int, seed: int) -> Channel:
        """One channel [T] -> its re-synthesis [T], at its level."""
        peak = float(np.abs(x).max())
        if peak == 0.0:
            return x
        if isinstance(self.model, Codes):  # banks keep clips at a peak of 1, so that is what models know
            audio = torch.from_numpy(x / np.float32(peak))[None, None].to(self.device)
            return _numpy(self._in_pieces(audio, transpose, voices, seed)[0, 0]) * np.float32(peak)
        embedding, ready = self._embedded(x)
        moved = Embedding(embedding.z, embedding.pitch + transpose, embedding.seconds, embedding.label)
        made = _numpy(self._embeds().render(moved, seed=seed)[0, 0]) * np.float32(10 ** (ready.gain_db / 20))
        made = made[max(0, -ready.skipped) :][: len(x) - max(0, ready.skipped)]
        again = np.zeros_like(x)
        again[max(0, ready.skipped) :][: len(made)] = made
        return again

    def _embeds(self) -> Embeds:
        if not isinstance(self.model, Embeds):
            raise ModelError(f"a {self.family} has no single point for a sound: train a {families_that('embed')}")
        return self.model

    def _embedded(self, x: Channel) -> tuple[Embedding, Prepared]:
        """The point of a sound [T] at the model's rate, made ready as the clips of a bank are: from its onset on."""
        model = self._embeds()
        ready = prepare(x[None], sample_rate=self.sample_rate, cut="whole")
        audio = torch.from_numpy(ready.samples.astype(np.float32) / np.float32(32767))
        return model.embed(audio[None].to(self.device)), ready

    def _in_pieces(self, audio: Tensor, transpose: float, voices: int, seed: int) -> Tensor:
        """audio [1, 1, T] -> the same by way of the code. Long sounds go piece by piece, so that memory stays bounded;
        each piece hears a second of what is around it, and pieces are cross-faded over 50 ms."""
        total, rate = audio.shape[-1], self.sample_rate
        size, context, fade = round(PIECE_S * rate), rate, round(0.05 * rate)
        made = torch.zeros_like(audio)
        for start in range(0, total, size):
            first, last = max(0, start - context), min(total, start + size + context)
            piece = self._coded(audio[..., first:last], transpose, voices, seed)[..., : last - first]
            begin, end = max(0, start - fade), min(total, start + size)
            gain = torch.ones(end - begin, device=audio.device)
            if start > 0:
                gain[:fade] = torch.linspace(0, 1, fade, device=audio.device)
                made[..., begin:start] *= 1 - gain[:fade]
            made[..., begin:end] += gain * piece[..., begin - first : end - first]
        return made

    def _coded(self, audio: Tensor, transpose: float, voices: int, seed: int) -> Tensor:
        assert isinstance(self.model, Codes)
        pitches = {}
        if voices > 1:
            setting = {"sample_rate": self.sample_rate, "hop_length": self.model.config.hop_length}
            f0_hz, _ = track_pitches(audio[:, 0], **setting, voices=voices)
            pitches["f0_hz"] = torch.stack([steadied(f0, audio[:, 0], **setting) for f0 in f0_hz.unbind(1)], 1)
        return self.model.decode(self.model.encode(audio, **pitches).transposed(transpose), seed=seed)

    @torch.no_grad()
    def morph(
        self, a: Waveform | Path | str, b: Waveform | Path | str, *, steps: int = 8, seed: int = 0
    ) -> list[Waveform]:
        """`steps` sounds on the way from a to b: the first and the last are the re-syntheses of a and b."""
        model = self._embeds()
        if not 2 <= steps <= 1000:
            raise ConfigError(f"a morph of {steps} steps was asked for: it goes from 2 to 1000")
        start, end = (self._embedded(self._heard(read_if_path(sound).mono()).samples[0])[0] for sound in (a, b))
        return [
            self._waveform(model.render(between(start, end, float(part)), seed=seed)[0])
            for part in np.linspace(0.0, 1.0, steps)
        ]

    def _waveform(self, audio: Tensor) -> Waveform:
        return Waveform(_numpy(audio), self.sample_rate)

    def _heard(self, sound: Waveform) -> Waveform:
        """A sound at the model's rate."""
        if sound.samples.shape[1] == 0 or not np.isfinite(sound.samples).all():
            raise AudioError("the sound is empty or has NaN or infinite samples: choose another one")
        return resample(sound, self.sample_rate)


def load(folder: Path | str, *, device: str | None = None) -> Run:
    """A trained folder, opened. `device` None takes the best there is."""
    return Run.load(folder, device=device)


def read_if_path(sound: Waveform | Path | str) -> Waveform:
    return sound if isinstance(sound, Waveform) else read(sound)


def between(a: Embedding, b: Embedding, part: float) -> Embedding:
    """The point `part` of the way from a to b: straight in the latent, in semitones and in seconds.

    Where only one of the two has a pitch or a label, or the labels differ, the nearer one decides.
    """
    nearer = a if part < 0.5 else b
    pitch = (1 - part) * a.pitch + part * b.pitch
    return Embedding(
        z=(1 - part) * a.z + part * b.z,
        pitch=torch.where(torch.isnan(pitch), nearer.pitch, pitch),
        seconds=(1 - part) * a.seconds + part * b.seconds,
        label=nearer.label,
    )


def families_that(*methods: str) -> str:
    """The names of the families that have one of the methods, for a message."""
    names: Sequence[str] = [
        name for name in checkpoint.FAMILIES if any(hasattr(checkpoint.family(name), method) for method in methods)
    ]
    return " or ".join(names)


def _numpy(audio: Tensor) -> Channel:
    array: Channel = audio.detach().float().cpu().numpy()
    return array


def _without_silent_end(sound: Waveform) -> Waveform:
    heard = np.flatnonzero(sound.samples.any(axis=0))
    return Waveform(sound.samples[:, : int(heard[-1]) + 1 if len(heard) else 1], sound.sample_rate)


def _fitted(sound: Waveform, samples: int) -> Waveform:
    """Cut or padded to a length: a rate change rounds it by a sample."""
    missing = max(samples - sound.samples.shape[1], 0)
    return Waveform(np.pad(sound.samples, ((0, 0), (0, missing)))[:, :samples], sound.sample_rate)
