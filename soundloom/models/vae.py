"""The VAE: one latent for a whole sound, so that new sounds can be drawn, and two be morphed into each other.

    audio ──▶ measurements ──▶ blocks ──▶ attention over time ──▶ z
    z ─┬─▶ length, pitch and its course ─┐
       └─▶ z at every moment ────────────┴─▶ blocks ──▶ spectral head ──▶ audio

The pitch is not in the latent but beside it, as in the codec: any sound can be asked for at any pitch, in tune.
New latents are drawn from the density of the training sounds' own latents, not from the standard normal: on a few
hundred sounds the two never agree, and what lies between is mush (Ghosh et al., 2020).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from soundloom import features, spectral
from soundloom.bank import Batch, BatchSpec, SoundBank
from soundloom.condition import AS_LEARNT, UNKNOWN, Condition, Manner
from soundloom.config import override
from soundloom.errors import ConfigError, ModelError
from soundloom.losses import (
    TERM_WEIGHTS,
    active_latents,
    kl_divergence,
    reconstruction_score,
    reconstruction_terms,
    stiffness_distance,
    weighted,
)
from soundloom.models.analysis import Analysis
from soundloom.models.base import AbstractModel, Embedding, Player, Update, spanned, suiting, usual_longest
from soundloom.models.discriminator import Discriminator, crops, maker_and_judge, play
from soundloom.models.layers import SpectralHead, Stack, autocast, full_scale, hertz, midi, random_phases
from soundloom.models.moments import MOMENTS, MomentDecoder, faded

LOOKS = 4  # heads of the attention over time
LONGEST_S = 4.0


@dataclass(frozen=True)
class VAEConfig:
    sample_rate: int = 44100
    channels: int = 1
    labels: tuple[str, ...] = ()
    clips: int = 1  # of the bank: their latents are remembered to draw new ones from
    hop_length: int = 512
    seconds: float = 2.0  # the longest sound it makes
    latent: int = 32
    width: int = 256
    encoder_blocks: int = 3
    decoder_blocks: int = 4
    partials: int = 80
    spread: float = 0.6  # of new sounds: 0 repeats the bank's latents, 1 mixes them all
    steps: int = 3000
    batch: int = 8
    crop_s: float = 1.0  # of each sound, what a training step renders
    learning_rate: float = 6e-4
    semitones: float = 0.0  # augmentation; new sounds take their pitches from what was heard, so it would detune them
    gain_db: float = 3.0
    label_dropout: float = 0.3
    kl_weight: float = 1e-3
    free_bits: float = 0.05
    adversary_from: float = 0.7
    adversary_weight: float = 0.05

    def __post_init__(self) -> None:
        if self.channels != 1:
            raise ConfigError(f"channels is {self.channels}: the VAE is mono so far; scan the bank with one channel")
        if not 0 < self.seconds <= 30:
            raise ConfigError(f"seconds is {self.seconds:g}: one latent serves sounds of up to 30 s")

    @property
    def frames(self) -> int:
        """Of the longest sound; even, since the encoder takes two at a time."""
        return 2 * max(8, math.ceil(self.seconds * self.sample_rate / self.hop_length / 2))


class VAE(AbstractModel):
    family = "vae"
    Config = VAEConfig
    config: VAEConfig
    memory: Tensor  # [clips, latent]
    memory_facts: Tensor  # [clips, 3]: pitch (NaN: none), seconds, label; NaN seconds: not seen yet

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.config = config
        width, latent = config.width, config.latent
        rate, hop = config.sample_rate, config.hop_length
        self.analysis = Analysis(sample_rate=rate, hop_length=2 * hop, n_partials=config.partials, short=2, long=8)
        self.voice_in = nn.Linear(self.analysis.voice_size, width)
        self.encoder = Stack(self.analysis.size + width + MOMENTS, width, blocks=config.encoder_blocks, causal=False)
        self.look = nn.Linear(width, LOOKS)
        self.latent = nn.Linear(LOOKS * width, 2 * latent)
        self.label = nn.Embedding(len(config.labels) + 1, width // 4)
        about = latent + width // 4
        self.whole = nn.Sequential(nn.Linear(about, width), nn.GELU(), nn.Linear(width, 2))  # log seconds, MIDI pitch
        self.course = nn.Sequential(nn.Linear(about + MOMENTS, width), nn.GELU(), nn.Linear(width, 2))
        self.decoder = MomentDecoder(
            about, width, blocks=config.decoder_blocks, frame_s=hop / rate, seconds=config.seconds
        )
        self.head = SpectralHead(width, sample_rate=rate, hop_length=hop, n_partials=config.partials)
        self.discriminator = Discriminator(sample_rate=rate)
        self.register_buffer("memory", torch.zeros(config.clips, latent))
        self.register_buffer("memory_facts", torch.full((config.clips, 3), torch.nan))

    @classmethod
    def configure(cls, bank: SoundBank, settings: Sequence[str] = ()) -> VAEConfig:
        config = VAEConfig(
            sample_rate=bank.sample_rate,
            labels=bank.labels,
            clips=len(bank.clips()),
            hop_length=spectral.default_hop(bank.sample_rate),
            seconds=usual_longest(bank, most=LONGEST_S),
        )
        return override(config, settings)

    @property
    def pitch_range(self) -> tuple[float, float] | None:
        return spanned(self.memory_facts[:, 0])

    @property
    def batch_spec(self) -> BatchSpec:
        c = self.config
        return BatchSpec(
            size=c.batch,
            samples=c.frames * c.hop_length,
            hop_length=c.hop_length,
            align="start",
            semitones=c.semitones,
            gain_db=c.gain_db,
        )

    def players(self) -> Mapping[str, Player]:
        return maker_and_judge("vae", self, self.discriminator, learning_rate=self.config.learning_rate)

    # --- training -------------------------------------------------------------------------------------------------

    def train_step(self, batch: Batch, *, step: int, generator: torch.Generator, update: Update) -> dict[str, float]:
        draw = torch.rand(len(batch), generator=generator, device=generator.device).to(batch.audio.device)
        unknown = draw < self.config.label_dropout
        condition = replace(batch.condition, label=torch.where(unknown, UNKNOWN, batch.condition.label))
        frames = max(8, round(self.config.crop_s * self.config.sample_rate / self.config.hop_length))
        start = self._crop_starts(batch, min(frames, self.config.frames), generator)
        made, real, mean, log_variance, beside = self._autoencode(batch, condition, start, frames, generator)
        terms = reconstruction_terms(made, real, n_fft=self.head.n_fft, sample_rate=self.config.sample_rate, step=step)
        kl = kl_divergence(mean, log_variance, free_bits=self.config.free_bits)
        losses = [(TERM_WEIGHTS[name], term) for name, term in terms.items()]
        losses += [(self.config.kl_weight, kl), *((0.1, term) for term in beside.values())]
        report = {**terms, **beside, "kl": kl}
        if step >= self.config.adversary_from * self.config.steps:
            made, real = crops(made, real, generator=generator)
            weight = self.config.adversary_weight
            report |= play(self.discriminator, made, real, maker="vae", losses=losses, weight=weight, update=update)
        else:
            update("vae", weighted(losses))
        self._remember(batch, mean)
        return {name: float(value.detach()) for name, value in report.items()}

    @torch.no_grad()
    def validate(self, batch: Batch, *, generator: torch.Generator) -> dict[str, float]:
        start = torch.zeros(len(batch), dtype=torch.int64, device=batch.audio.device)
        made, real, mean, log_variance, beside = self._autoencode(
            batch, batch.condition, start, self.config.frames, generator, as_in_use=True
        )
        score = reconstruction_score(made, real, n_fft=self.head.n_fft, sample_rate=self.config.sample_rate)
        kl = kl_divergence(mean, log_variance, free_bits=0.0)
        latents = {"kl": float(kl), "active_latents": float(active_latents(mean, log_variance))}
        return {"score": float(score), **latents, **{name: float(term) for name, term in beside.items()}}

    def _crop_starts(self, batch: Batch, frames: int, generator: torch.Generator) -> Tensor:
        """The first frame of what is rendered of each sound [B]: the attack in two of five, else anywhere."""
        draw = torch.rand(2, len(batch), generator=generator, device=generator.device).to(batch.audio.device)
        length = (batch.lengths / self.config.hop_length).clamp_max(self.config.frames - frames)
        return torch.where(draw[0] < 0.4, 0.0, draw[1] * length).long()

    def _autoencode(
        self,
        batch: Batch,
        condition: Condition,
        start: Tensor,
        frames: int,
        generator: torch.Generator,
        *,
        as_in_use: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, dict[str, Tensor]]:
        """Made and real [B, frames * hop] from frame `start` [B] on, the latent's mean and log-variance [B, D], and
        what was learnt beside: pitch, its course, length, stiffness. `as_in_use`: mean latent, own stiffness."""
        audio, f0_hz, voiced = batch.audio[:, 0], batch.f0_hz[:, 0], batch.voiced[:, 0]
        stiffness = batch.inharmonicity
        hop = self.config.hop_length
        frames = min(frames, self.config.frames)
        at = start[:, None] + torch.arange(frames, device=audio.device)  # [B, frames]
        with autocast(audio.device):
            mean, log_variance = self._posterior(audio, f0_hz, voiced, stiffness, batch.lengths)
            z = mean
            if not as_in_use:
                noise = torch.randn(mean.shape, generator=generator, device=generator.device).to(mean)
                z = mean + noise * torch.exp(0.5 * log_variance)
            about = self._about(z, condition.label)
            f0_crop, voiced_crop = f0_hz.gather(1, at)[:, None], voiced.gather(1, at)[:, None]
            h = self.decoder(about, at, f0_crop, voiced_crop)
            n_bins = self.head.n_fft // 2 + 1
            phases = torch.rand(*at.shape, n_bins, generator=generator, device=generator.device).to(audio)
            given = None if as_in_use else stiffness[:, None, None].expand_as(f0_crop)
            made, voices = self.head(h, f0_crop, voiced_crop, phases=phases, stiffness=given)
            beside = self._beside(about, batch)
        beside["stiffness"] = stiffness_distance(voices.stiffness, stiffness[:, None], f0_crop)
        samples = (at[:, :, None] * hop + torch.arange(hop, device=audio.device)).flatten(1)
        return made, audio.gather(1, samples), mean.float(), log_variance.float(), beside

    def _beside(self, about: Tensor, batch: Batch) -> dict[str, Tensor]:
        """How far the length, the pitch and its course that the latent foretells are from the real ones."""
        f0_hz, voiced = batch.f0_hz[:, 0], batch.voiced[:, 0]
        whole = self.whole(about).float()
        seconds = (batch.lengths / self.config.sample_rate).clamp(0.02, self.config.seconds)
        heard = midi(f0_hz)
        centre = torch.nanmedian(heard, dim=1).values
        pitched = torch.isfinite(centre)
        centre = torch.where(pitched, centre, 60.0)
        at = torch.arange(f0_hz.shape[1], device=f0_hz.device).expand_as(f0_hz)
        course, on = self._course(about, at)
        sounding = (f0_hz > 0).float()
        off = (course - (heard - centre[:, None]).nan_to_num(0.0)).abs().clamp_max(24.0)
        return {
            "length": (whole[:, 0] - torch.log(seconds)).abs().mean(),
            "pitch": ((whole[:, 1] - (centre - 60) / 12).abs() * pitched).sum() / pitched.sum().clamp_min(1),
            "course": (off * sounding).sum() / sounding.sum().clamp_min(1),
            "voicing": F.binary_cross_entropy_with_logits(on, (voiced > 0.5).float()),
        }

    @torch.no_grad()
    def _remember(self, batch: Batch, mean: Tensor) -> None:
        pitch, seconds = batch.condition.pitch, batch.lengths / self.config.sample_rate
        facts = torch.stack([pitch, seconds.to(pitch), batch.condition.label.to(pitch)], 1)
        self.memory[batch.clips] = mean
        self.memory_facts[batch.clips] = facts

    def _posterior(
        self, audio: Tensor, f0_hz: Tensor, voiced: Tensor, stiffness: Tensor, lengths: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Sounds [B, T] with f0 and voicing [B, N], stiffness and lengths [B] -> mean and log-variance [B, D]."""
        audio = self.analysis.surround(audio)
        seen = self.analysis(audio)
        pitch, on = f0_hz[:, None, ::2], voiced[:, None, ::2]
        heard = self.voice_in(self.analysis.voices(audio, pitch, on, stiffness[:, None]))
        voice = (heard * ((pitch > 0) * on)[..., None]).sum(1)
        at = torch.arange(seen.shape[1], device=audio.device)
        moments = self.decoder.moments(2 * at).expand(len(audio), -1, -1)
        h = self.encoder(torch.cat([seen, voice, moments], -1))
        ended = at >= (lengths / (2 * self.config.hop_length)).clamp_min(1)[:, None]
        weights = torch.softmax(self.look(h).float().masked_fill(ended[..., None], -1e9), 1)  # [B, N, LOOKS]
        looked = (weights.transpose(1, 2) @ h.float()).flatten(1)
        # At one level: without, what the encoder says of some sounds grows step by step, and their latents with it.
        mean, log_variance = self.latent(F.rms_norm(looked, looked.shape[-1:])).chunk(2, -1)
        return mean, log_variance.clamp(-10, 4)

    def _about(self, z: Tensor, label: Tensor) -> Tensor:
        known = torch.where(label == UNKNOWN, len(self.config.labels), label)
        return torch.cat([z, self.label(known)], -1)

    def _course(self, about: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
        """The pitch's course at frames [B, N]: semitones from its middle, and the logit that there is one."""
        inputs = torch.cat([about[:, None].expand(-1, at.shape[1], -1), self.decoder.moments(at)], -1)
        semitones, on = self.course(inputs).float().unbind(-1)
        return semitones, on

    # --- use ------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def embed(self, audio: Tensor, *, f0_hz: Tensor | None = None, voiced: Tensor | None = None) -> Embedding:
        """Sounds [B, 1, T] from their onsets -> `Embedding`; what is longer than `config.seconds` is not heard."""
        sound = audio[:, 0, : self.config.frames * self.config.hop_length]
        lengths = torch.full((len(sound),), sound.shape[1], device=sound.device)
        sound = F.pad(sound, (0, self.config.frames * self.config.hop_length - sound.shape[1]))
        setting = {"sample_rate": self.config.sample_rate, "hop_length": self.config.hop_length}
        if f0_hz is None:
            track = features.track_pitch(sound, sample_rate=self.config.sample_rate, hop_length=self.config.hop_length)
            pitch, on = track.f0_hz, track.voiced
        else:
            pitch = F.pad(f0_hz[:, 0], (0, self.config.frames - f0_hz.shape[-1]))
            on = (pitch > 0).float() if voiced is None else F.pad(voiced[:, 0], (0, pitch.shape[1] - voiced.shape[-1]))
        stiffness = features.inharmonicity(sound, pitch, **setting)
        mean, _ = self._posterior(sound, pitch, on, stiffness, lengths)
        centre = torch.nanmedian(midi(pitch), dim=1).values
        label = torch.full((len(sound),), UNKNOWN, device=sound.device)
        return Embedding(mean, centre, lengths / self.config.sample_rate, label)

    @torch.no_grad()
    def render(self, embedding: Embedding, *, seconds: float | None = None, seed: int = 0) -> Tensor:
        """`Embedding` -> audio [B, 1, T], `seconds` or its longest sound long, silent after each sound's own end."""
        about = self._about(embedding.z, embedding.label)
        whole = self.whole(about)
        pitch = torch.where(torch.isfinite(embedding.pitch), embedding.pitch, 60 + 12 * whole[:, 1])
        own = torch.where(torch.isfinite(embedding.seconds), embedding.seconds, torch.exp(whole[:, 0]))
        own = own.clamp(0.02, self.config.seconds)
        length = seconds if seconds is not None else float(own.max())
        frames = max(2, min(math.ceil(length * self.config.sample_rate / self.config.hop_length), self.config.frames))
        at = torch.arange(frames, device=about.device).expand(len(about), -1)
        course, on = self._course(about, at)
        voiced = (on > 0).float()
        f0_hz = hertz(torch.where(on > 0, pitch[:, None] + course, torch.nan))[:, None]
        h = self.decoder(about, at, f0_hz, voiced[:, None])
        phases = random_phases(at[0], self.head.n_fft // 2 + 1, seed=seed)[None]
        audio: Tensor = self.head(h, f0_hz, voiced[:, None], phases=phases)[0]
        if seconds is not None:
            own = own.clamp_min(seconds)
        return faded(audio, own * self.config.sample_rate)[:, None]

    @torch.no_grad()
    def sample(
        self,
        n: int,
        *,
        seconds: float | None,
        condition: Condition | None,
        generator: torch.Generator,
        manner: Manner = AS_LEARNT,
    ) -> Tensor:
        """n new sounds [n, 1, T], each silent after its end; what the condition leaves open is as in the bank."""
        if seconds is not None and not 0 < seconds <= self.config.seconds:
            raise ModelError(f"seconds is {seconds:g}: this model makes sounds of up to {self.config.seconds:g} s")
        condition = condition if condition is not None else Condition.of(n)
        embedding = self.draw(condition, generator=generator)
        seed = int(torch.randint(0, 2**31, (1,), generator=generator, device=generator.device))
        audio = self.render(embedding, seconds=seconds, seed=seed)
        return full_scale(audio)

    @torch.no_grad()
    def draw(self, condition: Condition, *, generator: torch.Generator) -> Embedding:
        """New points: each a training sound's, moved by a random mixture of how its kin differ from one another."""
        known = torch.isfinite(self.memory_facts[:, 1])
        if not known.any():
            raise ModelError("this model has heard no sounds yet: train it for some steps first")
        memory, facts = self.memory[known].cpu(), self.memory_facts[known].cpu()
        device, spread = self.memory.device, self.config.spread
        drawn = []
        for pitch, label in zip(condition.pitch.tolist(), condition.label.tolist(), strict=True):
            weights = suiting(facts[:, 0], facts[:, 2], pitch=pitch, label=label)
            row = int(torch.multinomial(weights, 1, generator=generator))
            kin = memory[facts[:, 2] == facts[row, 2]]
            kin = kin if len(kin) >= 4 else memory
            middle = kin.mean(0)
            mixture = torch.randn(len(kin), generator=generator) / math.sqrt(len(kin))
            z = middle + math.sqrt(1 - spread**2) * (memory[row] - middle) + spread * (mixture @ (kin - middle))
            asked = pitch if math.isfinite(pitch) else float(facts[row, 0])
            drawn.append((z, asked, label if label != UNKNOWN else int(facts[row, 2])))
        return Embedding(
            z=torch.stack([z for z, _, _ in drawn]).to(device),
            pitch=torch.tensor([pitch for _, pitch, _ in drawn], device=device),
            seconds=torch.full((len(drawn),), torch.nan, device=device),
            label=torch.tensor([label for _, _, label in drawn], device=device),
        )
