"""What a run's health is measured by at every validation: a few figures, each of which tells one way to be sick.

They say little about how good a model is; that is for `evaluate`. They are cheap, a validation's worth at most, and
draw from generators of their own, so that looking at a run never changes it.
"""

import dataclasses
import math
from collections.abc import Sequence
from statistics import fmean, median
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from soundloom import pace, spectral
from soundloom.bank import SoundBank, spread_evenly
from soundloom.models.base import AbstractModel, Code, Codes, Embeds, HearsNoise, Samples
from soundloom.resume import keyed_generator

HEARD = 6  # held-out sounds are made again
NEW = 8  # new sounds are made
LONGEST_S = 1.5  # is listened to, of each
QUIET_DB = -60.0  # below the loudest cell of a sound: nothing is to be heard there
BANDS = 32
ALIKE_DB = 0.5  # sounds that differ by less are the same one
WORDS = {
    "untrained_score": "score of random weights",
    "seen_score": "score on sounds trained on",
    "bank_level_db": "peak of the median file, dB",
    "level_db": "re-syntheses against the real sounds, dB",
    "beyond_full_scale": "share of samples beyond full scale",
    "floor_db": "noise where the real sound has nothing, dB",
    "latent_effect": "what exchanging latents changes, of what the sounds differ",
    "new_peak_db": "peak of the median new sound, dB",
    "spread": "how far apart new sounds are, of what real ones are",
    "noise_effect": "how far apart sounds of one wish are, of what real ones are",
}


@torch.no_grad()
def measure(model: AbstractModel, bank: SoundBank, *, seed: int) -> dict[str, float]:
    """The vitals of a model and of the bank that it is trained on; what a family cannot show is left out.

    - `seen_score`: the score on as many sounds of the training set as are held out;
    - `bank_level_db`: the peak of the median sound, as it lies in its file;
    - `level_db`, `beyond_full_scale`, `floor_db`: see `of_re_syntheses`;
    - `latent_effect`: how far re-syntheses move when two sounds exchange their latents, against how far apart the
      sounds are;
    - `new_peak_db`: the peak of the median new sound;
    - `spread`: how far apart new sounds are, against as many real ones (see `spread`);
    - `noise_effect`: the same of sounds of one and the same wish, which have only their noise to differ by.
    """
    gains = bank.column("gain_db")[bank.clips("train")]
    figures = {"bank_level_db": median(float(gain) for gain in gains)}
    if len(bank.clips("validation")):
        seen = spread_evenly(bank.clips("train"), len(pace.held_out(bank, most=model.validation_clips)))
        figures["seen_score"] = pace.validate(model, bank, seed=seed, clips=seen).get("score", math.nan)
    rate = int(model.config.sample_rate)
    model.eval()
    if isinstance(model, Codes | Embeds):
        sounds = [_taken(model, bank, clip) for clip in spread_evenly(np.array(pace.held_out(bank)), HEARD)]
        real = [sound.audio for sound in sounds]
        made, exchanged = _made_again(model, sounds)
        figures |= of_re_syntheses(real, made, sample_rate=rate)
        differ = _apart(real, _turned(real), rate)
        if differ > ALIKE_DB:  # else there is nothing to exchange: one sound alone, or copies of one
            figures["latent_effect"] = _apart(made, exchanged, rate) / differ
    if isinstance(model, Samples):
        new = model.sample(NEW, seconds=None, condition=None, generator=keyed_generator(seed, "vitals")).float()
        some = [_taken(model, bank, clip).audio for clip in spread_evenly(bank.clips("train"), NEW)]
        figures["new_peak_db"] = median(20 * math.log10(float(sound.abs().max()) + 1e-9) for sound in new)
        usual = max(spread(some, sample_rate=rate), 1e-6)
        figures["spread"] = spread(list(new), sample_rate=rate) / usual
        if isinstance(model, HearsNoise):
            alike = model.by_noise_alone(NEW, generator=keyed_generator(seed, "vitals, noise")).float()
            figures["noise_effect"] = spread(list(alike), sample_rate=rate) / usual
    model.train()
    return {name: value for name, value in figures.items() if math.isfinite(value)}


def of_re_syntheses(real: Sequence[Tensor], made: Sequence[Tensor], *, sample_rate: int) -> dict[str, float]:
    """How `made` sounds [1, T] lie against the `real` ones, over all of them:

    - `level_db`: how much louder they are (median);
    - `beyond_full_scale`: the share of their samples beyond ±1;
    - `floor_db`: how loud they are where the real sound has nothing (cells more than 60 dB below its loudest), against
      its loudest cell (median); NaN where no sound has such cells.

    >>> tone = torch.sin(torch.arange(16000) / 5)[None] * (torch.arange(16000) < 8000)
    >>> figures = of_re_syntheses([tone], [2 * tone], sample_rate=16000)
    >>> round(figures["level_db"], 2), figures["beyond_full_scale"] > 0.3, figures["floor_db"] < -60
    (6.02, True, True)
    """
    pairs = list(zip(real, made, strict=True))
    floors = [floor for a, b in pairs if math.isfinite(floor := _floor_db(a, b, sample_rate))]
    return {
        "level_db": median(_level_db(b) - _level_db(a) for a, b in pairs),
        "beyond_full_scale": fmean(float((b.abs() > 1).float().mean()) for b in made),
        "floor_db": median(floors) if floors else math.nan,
    }


def spread(sounds: Sequence[Tensor], *, sample_rate: int) -> float:
    """How far apart sounds [C, T] are: the mean distance of two of them in dB, each standing for itself by the mean
    and the deviation over time of its levels in 32 mel bands; 0 where there is only one.

    >>> tones = [torch.sin(torch.arange(8000) * f / 10)[None] for f in (1, 2, 4)]
    >>> spread(tones[:1] * 3, sample_rate=8000)
    0.0
    >>> spread(tones, sample_rate=8000) > 5
    True
    """
    levels = [_levels(sound, sample_rate) for sound in sounds]
    points = torch.stack([torch.cat([level.mean(-1), level.std(-1, correction=0)]) for level in levels])
    return float(torch.pdist(points).mean()) / math.sqrt(2 * BANDS) if len(points) > 1 else 0.0


@dataclasses.dataclass(frozen=True)
class _Sound:
    """The beginning of a clip: audio [1, T], its pitch and voicing [1, 1, N]."""

    audio: Tensor
    f0_hz: Tensor
    voiced: Tensor


def _taken(model: AbstractModel, bank: SoundBank, clip: int) -> _Sound:
    spec, longest = model.batch_spec, round(LONGEST_S * model.config.sample_rate)
    samples = min(spec.samples, longest, bank.audio(clip).samples.shape[1])
    frames = spectral.frames(samples, hop_length=spec.hop_length)
    batch = bank.take(dataclasses.replace(spec, samples=frames * spec.hop_length), [clip])
    batch = batch.to(next(model.parameters()).device)
    return _Sound(batch.audio[0], batch.f0_hz, batch.voiced)


def _made_again(model: Codes | Embeds, sounds: Sequence[_Sound]) -> tuple[list[Tensor], list[Tensor]]:
    """Each sound [1, T] from its own latent, and from another's at its own pitch and length."""
    known: list[Any] = []
    for sound in sounds:
        heard = {"f0_hz": sound.f0_hz, "voiced": sound.voiced}
        known.append(
            model.encode(sound.audio[None], **heard)
            if isinstance(model, Codes)
            else model.embed(sound.audio[None], **heard)
        )
    made: tuple[list[Tensor], list[Tensor]] = ([], [])
    for sound, own, other in zip(sounds, known, _turned(known), strict=True):
        samples = sound.audio.shape[-1]
        for latent, into in zip((own, other), made, strict=True):
            if isinstance(model, Codes):
                at = torch.arange(own.z.shape[-1], device=own.z.device) % latent.z.shape[-1]
                audio = model.decode(Code(latent.z[..., at], own.f0_hz, own.voiced))
            else:
                embedding = dataclasses.replace(own, z=latent.z)
                audio = model.render(embedding, seconds=samples / model.config.sample_rate)  # type: ignore[attr-defined]
            into.append(_fitted(audio[0, :1].float(), samples))
    return made


def _turned(things: Sequence[Any]) -> list[Any]:
    """Another one for each: half-way round, since neighbours in a bank are alike."""
    half = len(things) // 2
    return [*things[half:], *things[:half]]


def _fitted(sound: Tensor, samples: int) -> Tensor:
    return F.pad(sound, (0, max(0, samples - sound.shape[-1])))[..., :samples]


def _apart(sounds: Sequence[Tensor], others: Sequence[Tensor], sample_rate: int) -> float:
    """The mean difference of level in dB, cell by cell, of each sound and its other one."""
    levels = [
        (_levels(a, sample_rate), _levels(_fitted(b, a.shape[-1]), sample_rate))
        for a, b in zip(sounds, others, strict=True)
    ]
    return fmean(float((a - b).abs().mean()) for a, b in levels)


def _power(sound: Tensor, sample_rate: int) -> Tensor:
    """Power of a sound [C, T] in mel bands, [32, N]."""
    hop = 2 * spectral.default_hop(sample_rate)
    return spectral.mel(sound[:1].float(), sample_rate=sample_rate, n_fft=2 * hop, hop_length=hop, n_mels=BANDS)[0]


def _levels(sound: Tensor, sample_rate: int) -> Tensor:
    """Levels in dB against the loudest cell, down to `QUIET_DB`; of silence, `QUIET_DB` everywhere."""
    power = _power(sound, sample_rate)
    return (10 * torch.log10((power / power.max().clamp_min(1e-9)).clamp_min(1e-9))).clamp_min(QUIET_DB)


def _level_db(sound: Tensor) -> float:
    return 10 * math.log10(float(sound.square().mean()) + 1e-12)


def _floor_db(real: Tensor, made: Tensor, sample_rate: int) -> float:
    there, here = _power(real, sample_rate), _power(made, sample_rate)
    quiet = there < there.max() * 10 ** (QUIET_DB / 10)
    if not quiet.any():
        return math.nan
    return 10 * math.log10(float(here[quiet].mean() / there.max()) + 1e-12)
