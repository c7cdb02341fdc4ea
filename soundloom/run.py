"""What a trained folder can do, as one object: new sounds, re-syntheses, morphs."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from soundloom import checkpoint
from soundloom.audio import Waveform, read, resample
from soundloom.condition import AS_LEARNT, Condition, Manner
from soundloom.errors import AudioError, ConditionError, ConfigError, ModelError
from soundloom.features import track_pitches
from soundloom.metrics import log_mel_distance
from soundloom.models.base import (
    AbstractModel,
    Codes,
    Continues,
    Embedding,
    Embeds,
    Inverts,
    Resynthesises,
    Samples,
    Transfers,
)
from soundloom.preparing import Prepared, prepare
from soundloom.score import parse_pitch, pitch_name
from soundloom.steady import steadied

Channel = NDArray[np.float32]  # [T], one channel

FAR_SEMITONES = 12.0  # beyond the pitches that a model has heard
DB_PER_NEPER = 8.685889638
PIECE_S = 30.0  # of a long recording are re-synthesised at a time
BATCH = 8  # sounds made at once: enough to fill a core, little enough to fit a small memory


@dataclass(frozen=True)
class Variations:
    """Sounds like a given one. `again` is that one, taken to its noise and back; `own` the same without that way, as
    the codec has it; `error_db` how far the two are apart: the mean difference of their mel levels, where either is
    heard."""

    sounds: list[Waveform]
    again: Waveform
    own: Waveform
    error_db: float


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
        text: str | None = None,
        values: Mapping[str, float] | None = None,
        manner: Manner = AS_LEARNT,
    ) -> list[Waveform]:
        """n new sounds. What is not given is as the bank had it; the same seed and n give the same sounds.

        Args:
            pitch: A MIDI number or a note name.
            text: A few words, such as "short dark click".
            values: Velocity and descriptors by name ("brightness", "noisiness", "attack", "decay", "loudness"), as
                quantiles of the bank: 0 the least in it, 1 the most.
        """
        self._samples()
        asked = self.asked(n, label=label, pitch=pitch, text=text, values=values)
        if doubt := self.doubt(asked):
            warnings.warn(doubt, stacklevel=2)
        return self.sample_as(asked, seed=seed, seconds=seconds, manner=manner)

    def asked(
        self,
        n: int,
        *,
        label: str | None = None,
        pitch: float | str | None = None,
        text: str | None = None,
        values: Mapping[str, float] | None = None,
    ) -> Condition:
        """The condition of `sample`, n times. `ConditionError` for what the model does not know or cannot be told."""
        if n < 1:
            raise ConfigError(f"{n} sounds were asked for: ask for 1 or more")
        told = self.model.conditions
        beyond = {"text": text is not None, "velocity": "velocity" in (values or {})}
        beyond["descriptors"] = bool(set(values or {}) - {"velocity"})
        for name in (name for name, is_asked in beyond.items() if is_asked and name not in told):
            able = [key for key in checkpoint.FAMILIES if name in checkpoint.family(key).conditions]
            raise ConditionError(f"a {self.family} is not told of {name}: train a {' or '.join(able)} for that")
        known = dict(values or {})
        velocity = known.pop("velocity", None)
        number = parse_pitch(pitch) if isinstance(pitch, str) else pitch
        return Condition.of(n, self.labels, pitch=number, label=label, velocity=velocity, descriptors=known, text=text)

    def doubt(self, asked: Condition) -> str:
        """What to know of a condition before its sounds are made, in a sentence; empty where there is nothing."""
        heard = self.model.pitch_range
        far = asked.pitch[torch.isfinite(asked.pitch)]
        if heard is None or not len(far):
            return ""
        low, high = heard
        if low - FAR_SEMITONES <= float(far.min()) and float(far.max()) <= high + FAR_SEMITONES:
            return ""
        names = " to ".join(pitch_name(pitch) for pitch in heard)
        wanted = pitch_name(float(far[(far - (low + high) / 2).abs().argmax()]))
        return f"{wanted} is far from the pitches this model has heard ({names}): expect the pitch, not the timbre"

    @torch.no_grad()
    def sample_as(
        self, condition: Condition, *, seed: int = 0, seconds: float | None = None, manner: Manner = AS_LEARNT
    ) -> list[Waveform]:
        """New sounds, one for each of the conditions; `sample` asks for the same of all."""
        model = self._samples()
        if seconds is not None and not 0.01 <= seconds <= 600:
            raise ConditionError(f"a length of {seconds:g} s was asked for: it goes from 0.01 to 600")
        self._refuse_other_manners(manner)
        generator = torch.Generator().manual_seed(seed)
        sounds: list[Waveform] = []
        while len(sounds) < len(condition):
            asked = condition[len(sounds) : len(sounds) + BATCH].to(self.device)
            audio = model.sample(len(asked), seconds=seconds, condition=asked, generator=generator, manner=manner)
            sounds += [self._waveform(sound) for sound in audio]
        if seconds is None:  # those made together are as long as the longest of them
            return [_without_silent_end(sound) for sound in sounds]
        return [_fitted(sound, round(seconds * self.sample_rate)) for sound in sounds]  # models count in frames

    def _samples(self) -> Samples:
        if not isinstance(self.model, Samples):
            raise ModelError(f"a {self.family} makes no new sounds: train a {families_that('sample')}")
        return self.model

    def _refuse_other_manners(self, manner: Manner, only: frozenset[str] | None = None) -> None:
        """`only`: those that have a meaning in what is done; None: all that the family knows."""
        for field in fields(Manner):
            name, words = field.name, field.name.replace("_", " ")
            if getattr(manner, name) == field.default:
                continue
            if name not in self.model.manners:
                able = [key for key in checkpoint.FAMILIES if name in checkpoint.family(key).manners]
                raise ConditionError(f"a {self.family} knows no {words}: a {' or '.join(able)} does")
            if only is not None and name not in only:
                raise ConditionError(
                    f"{words} has no meaning here, where nothing is asked for: {', '.join(sorted(only))} have"
                )

    @torch.no_grad()
    def vary(
        self, sound: Waveform | Path | str, n: int = 8, *, strength: float = 0.4, seed: int = 0,
        manner: Manner = AS_LEARNT,
    ) -> "Variations":  # fmt: skip
        """n sounds like the given one. `strength`: 0 is the sound made again, 1 a new one."""
        if not 0 <= strength <= 1:
            raise ConfigError(f"strength is {strength:g}: it goes from 0, the sound itself, to 1, a new one")
        if n < 1:
            raise ConfigError(f"{n} sounds were asked for: ask for 1 or more")
        self._refuse_other_manners(manner, frozenset({"steps", "solver"}))
        model, generator = self._inverts(), torch.Generator().manual_seed(seed)
        audio, gain = self._ready(sound)
        varied, again, own = model.vary(audio, n, strength=strength, generator=generator, manner=manner)
        a, b = (_numpy(x[0, 0]) for x in (own, again))
        return Variations(
            sounds=[_without_silent_end(self._waveform(one)) for one in varied],
            again=self._waveform(again[0] * gain),
            own=self._waveform(own[0] * gain),
            error_db=DB_PER_NEPER * log_mel_distance(a, b, sample_rate=self.sample_rate),
        )

    @torch.no_grad()
    def fill(
        self, sound: Waveform | Path | str, *, start_s: float, end_s: float, seed: int = 0,
        manner: Manner = AS_LEARNT,
    ) -> Waveform:  # fmt: skip
        """The sound with what lies between two moments made anew; the rest is as the model's codec has it."""
        audio, gain = self._ready(sound)
        length = audio.shape[-1] / self.sample_rate
        if not 0 <= start_s < end_s or start_s >= length:
            raise ConfigError(
                f"{start_s:g} to {end_s:g} s was asked for, of a sound of {length:.2f} s: the start comes before the "
                "end, and inside the sound"
            )
        self._refuse_other_manners(manner, frozenset({"steps", "solver", "temperature"}))
        generator = torch.Generator().manual_seed(seed)
        made = self._inverts().fill(audio, start_s=start_s, end_s=end_s, generator=generator, manner=manner)
        return self._waveform(made[0] * gain)

    @torch.no_grad()
    def go_on(
        self, sound: Waveform | Path | str | None, *, seconds: float, seed: int = 0, manner: Manner = AS_LEARNT
    ) -> Waveform:
        """What follows a recording, `seconds` long; None begins from nothing."""
        model = self.model
        if not isinstance(model, Continues):
            raise ModelError(f"a {self.family} does not go on: train a {families_that('continue_from')}")
        if not 0.01 <= seconds <= 36000:
            raise ConditionError(f"{seconds:g} s were asked for: it goes from 0.01 to 36000")
        self._refuse_other_manners(manner)
        audio, gain = (torch.zeros(1, 1, 0, device=self.device), 1.0) if sound is None else self._ready(sound)
        generator = torch.Generator().manual_seed(seed)
        made = model.continue_from(audio, seconds=seconds, generator=generator, manner=manner)
        return _fitted(self._waveform(made[0] * gain), round(seconds * self.sample_rate))

    @torch.no_grad()
    def transfer(self, sound: Waveform | Path | str, *, transpose: float | None = None, seed: int = 0) -> Waveform:
        """A melody played in the timbre of the model; `transpose` None takes it by octaves into the model's range."""
        model = self.model
        if not isinstance(model, Transfers):
            raise ModelError(f"a {self.family} takes over no melody: train a {families_that('transfer')}")
        audio, gain = self._ready(sound)
        made = model.transfer(audio, transpose=transpose, seed=seed)
        return _fitted(self._waveform(made[0] * gain), audio.shape[-1])

    def _inverts(self) -> Inverts:
        if not isinstance(self.model, Inverts):
            raise ModelError(f"a {self.family} finds no noise for a sound: train a {families_that('vary')}")
        return self.model

    def _ready(self, sound: Waveform | Path | str) -> tuple[Tensor, float]:
        """A sound, mono, at the model's rate and at a peak of 1 as banks keep their clips [1, 1, T], and its peak."""
        x = self._heard(read_if_path(sound).mono()).samples
        peak = float(np.abs(x).max())
        if peak == 0.0:
            raise AudioError("the sound is silent throughout: choose another one")
        return torch.from_numpy(x / np.float32(peak))[None].to(self.device), peak

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
        if isinstance(self.model, Resynthesises):
            audio = torch.from_numpy(x / np.float32(peak))[None, None].to(self.device)
            return _numpy(self.model.resynthesise(audio, transpose=transpose, seed=seed)[0, 0]) * np.float32(peak)
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
