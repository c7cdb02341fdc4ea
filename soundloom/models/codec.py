"""The codec: a variational autoencoder with a latent and a pitch per frame.

    audio ──▶ short spectrum, envelope ─────────────┐
          ──▶ levels at the partials of each pitch ─┴─▶ blocks ──▶ z  ┐
    f0 (from the bank, or tracked) ───────────────────────────────────┴──▶ blocks ──▶ spectral head ──▶ audio

The encoder looks at a pitched sound where its partials are, partial by partial and between them, so that what it says
of a timbre does not depend on the pitch; the decoder says the amplitude of each partial by number. So a pitch that was
never heard in training is re-synthesised as well as one that was, and a transposition is a change of f0 alone.
The decoder is causal: any model streams its output. `causal=True` makes the encoder so too, for live input.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from soundloom import features, spectral
from soundloom.bank import Batch, BatchSpec, SoundBank
from soundloom.config import override
from soundloom.errors import ConfigError
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
from soundloom.models.base import AbstractModel, Code, Player, Update, random_crops
from soundloom.models.discriminator import Discriminator, crops, maker_and_judge, play
from soundloom.models.layers import (
    PITCH_FEATURES,
    SUBFRAMES,
    HeadState,
    SpectralHead,
    Stack,
    autocast,
    midi,
    pitch_features,
    random_phases,
)
from soundloom.steady import steadied


@dataclass(frozen=True)
class CodecConfig:
    sample_rate: int = 44100
    channels: int = 1
    labels: tuple[str, ...] = ()
    hop_length: int = 512
    latent: int = 64  # dimensions of z, per frame
    width: int = 256
    encoder_blocks: int = 3
    decoder_blocks: int = 4
    causal: bool = False  # the encoder too: for live input
    partials: int = 80  # amplitudes by number; above them the envelope speaks alone
    voices: int = 3  # of a chord in training; in use there may be any number
    steps: int = 5000
    batch: int = 8
    seconds: float = 1.5  # of a training crop
    learning_rate: float = 2e-3
    semitones: float = 2.0  # augmentation: pitch up or down by at most this
    gain_db: float = 6.0
    chords: float = 0.0  # share of training sounds that are a sum of two or three; some, where the bank is of notes
    kl_weight: float = 2e-4
    free_bits: float = 0.1
    adversary_from: float = 0.8  # of the steps
    adversary_weight: float = 0.05

    def __post_init__(self) -> None:
        if self.channels != 1:
            raise ConfigError(f"channels is {self.channels}: the codec is mono so far; scan the bank with one channel")
        if self.hop_length % SUBFRAMES or self.hop_length & (self.hop_length - 1):
            raise ConfigError(f"hop_length is {self.hop_length}: it must be a power of two, {SUBFRAMES} or more")


@dataclass
class CodecState:
    """Where a stream stands: the last frames of every block, and the head's oscillators and tail."""

    blocks: tuple[Tensor, ...]
    head: HeadState


class Codec(AbstractModel):
    family = "codec"
    Config = CodecConfig
    config: CodecConfig
    usual_stiffness: Tensor  # [128]

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.config = config
        shape = {"sample_rate": config.sample_rate, "hop_length": config.hop_length, "n_partials": config.partials}
        self.analysis = Analysis(**shape)
        self.voice_in = nn.Linear(self.analysis.voice_size, config.width)
        self.encoder = Stack(
            self.analysis.size + config.width, config.width, blocks=config.encoder_blocks, causal=config.causal
        )
        self.latent = nn.Linear(config.width, 2 * config.latent)
        self.pitch_in = nn.Linear(PITCH_FEATURES, config.width)
        self.decoder = Stack(
            config.latent + config.width, config.width, blocks=config.decoder_blocks, causal=True, expansion=2
        )
        self.head = SpectralHead(config.width, **shape)
        self.discriminator = Discriminator(sample_rate=config.sample_rate)
        # What a causal encoder goes by, since it cannot measure a whole note: the usual stiffness at each MIDI pitch.
        self.register_buffer("usual_stiffness", torch.zeros(128))

    @classmethod
    def configure(cls, bank: SoundBank, settings: Sequence[str] = ()) -> CodecConfig:
        config = CodecConfig(
            sample_rate=bank.sample_rate, labels=bank.labels, hop_length=spectral.default_hop(bank.sample_rate)
        )
        if bank.kind == "notes":
            config = replace(config, chords=0.15)  # notes are played together
        return override(config, settings)

    @property
    def batch_spec(self) -> BatchSpec:
        c = self.config
        frames = max(8, round(c.seconds * c.sample_rate / c.hop_length))
        return random_crops(c, frames=frames)

    def players(self) -> Mapping[str, Player]:
        return maker_and_judge("codec", self, self.discriminator, learning_rate=self.config.learning_rate)

    # --- training -------------------------------------------------------------------------------------------------

    def train_step(self, batch: Batch, *, step: int, generator: torch.Generator, update: Update) -> dict[str, float]:
        self._note_stiffness(batch)
        real, f0_hz, voiced, stiffness = self._sounds(batch, generator)
        made, mean, log_variance, stiffness_error = self._autoencode(real, f0_hz, voiced, stiffness, generator)
        terms = reconstruction_terms(made, real, n_fft=self.head.n_fft, sample_rate=self.config.sample_rate, step=step)
        kl = kl_divergence(mean, log_variance, free_bits=self.config.free_bits)
        losses = [
            *((TERM_WEIGHTS[name], t) for name, t in terms.items()),
            (self.config.kl_weight, kl),
            (0.1, stiffness_error),
        ]
        report = {**terms, "kl": kl, "stiffness": stiffness_error}
        if step >= self.config.adversary_from * self.config.steps:
            made, real = crops(made, real, generator=generator)
            weight = self.config.adversary_weight
            report |= play(self.discriminator, made, real, maker="codec", losses=losses, weight=weight, update=update)
        else:
            update("codec", weighted(losses))
        return {name: float(value.detach()) for name, value in report.items()}

    @torch.no_grad()
    def validate(self, batch: Batch, *, generator: torch.Generator) -> dict[str, float]:
        real, f0_hz, voiced, stiffness = self._sounds(batch, None)
        made, mean, log_variance, _ = self._autoencode(real, f0_hz, voiced, stiffness, generator, own_stiffness=True)
        kl = kl_divergence(mean, log_variance, free_bits=0.0)
        return {
            "score": float(
                reconstruction_score(made, real, n_fft=self.head.n_fft, sample_rate=self.config.sample_rate)
            ),
            "kl": float(kl),
            "active_latents": float(active_latents(mean, log_variance)),
        }

    def _autoencode(
        self,
        real: Tensor,
        f0_hz: Tensor,
        voiced: Tensor,
        stiffness: Tensor,
        generator: torch.Generator,
        *,
        own_stiffness: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """real [B, T] -> made [B, T], the latent's mean and log-variance [B, N, D], and the stiffness error, a scalar.

        In training the partials are put where the real ones are, so that their amplitudes can be compared from the
        first step; the head's own guess is learnt beside.
        """
        n_bins = self.head.n_fft // 2 + 1
        with autocast(real.device):
            mean, log_variance = self._posterior(real, f0_hz, voiced, stiffness)
            noise = torch.randn(mean.shape, generator=generator, device=generator.device).to(mean)
            z = mean + noise * torch.exp(0.5 * log_variance)
            h = self._decoder_in(z, f0_hz, voiced)
            h = self.decoder(h)
            phases = torch.rand(*h.shape[:2], n_bins, generator=generator, device=generator.device).to(real)
            given = None if own_stiffness else stiffness[..., None].expand_as(f0_hz)
            made, voices = self.head(h, f0_hz, voiced, phases=phases, stiffness=given)
        error = stiffness_distance(voices.stiffness, stiffness, f0_hz)
        return (
            made[:, : real.shape[1]],
            mean.float(),
            log_variance.float(),
            error,
        )

    def _sounds(self, batch: Batch, generator: torch.Generator | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Sounds to learn [B, T], f0 and voicing [B, K, N], stiffness [B, K]; with a generator, some are chords."""
        audio, f0_hz, voiced, stiffness = batch.audio[:, 0], batch.f0_hz, batch.voiced, batch.inharmonicity[:, None]
        voices, size = self.config.voices, len(f0_hz)
        if generator is None or voices == 1 or self.config.chords == 0:
            return audio, f0_hz, voiced, stiffness
        f0_hz, voiced = (F.pad(t, (0, 0, 0, voices - 1)) for t in (f0_hz, voiced))
        stiffness = F.pad(stiffness, (0, voices - 1))
        draw = torch.rand(2, size, generator=generator, device=generator.device).to(audio.device)
        chord = draw[0] < self.config.chords
        for voice in range(1, voices):
            joins = chord & (draw[1] >= (voice - 1) / (voices - 1))
            other = torch.roll(torch.arange(size, device=audio.device), voice)
            audio = audio + torch.where(joins[:, None], batch.audio[other, 0], 0.0)
            f0_hz[:, voice] = torch.where(joins[:, None], batch.f0_hz[other, 0], 0.0)
            voiced[:, voice] = torch.where(joins[:, None], batch.voiced[other, 0], 0.0)
            stiffness[:, voice] = torch.where(joins, batch.inharmonicity[other], 0.0)
        gain = torch.where(chord, 1 / math.sqrt(2), 1.0)
        return audio * gain[:, None], f0_hz, voiced, stiffness

    @torch.no_grad()
    def _note_stiffness(self, batch: Batch) -> None:
        known = batch.inharmonicity > 0
        f0_hz = batch.f0_hz[:, 0].amax(1)
        pitch = midi(f0_hz).nan_to_num(0.0).round().long().clamp(0, 127)[known & (f0_hz > 0)]
        before, now = self.usual_stiffness[pitch], batch.inharmonicity[known & (f0_hz > 0)]
        self.usual_stiffness[pitch] = torch.where(before > 0, 0.9 * before + 0.1 * now, now)

    def _posterior(self, audio: Tensor, f0_hz: Tensor, voiced: Tensor, stiffness: Tensor) -> tuple[Tensor, Tensor]:
        known = self._encoder_in(self.analysis.surround(audio), f0_hz, voiced, stiffness)
        mean, log_variance = self.latent(self.encoder(known)).chunk(2, -1)
        return mean, log_variance.clamp(-12, 4)

    def _encoder_in(self, audio: Tensor, f0_hz: Tensor, voiced: Tensor, stiffness: Tensor) -> Tensor:
        """Audio with the analysis' margin around it -> what the encoder is told of each frame [B, N, inputs]."""
        seen = self.analysis(audio)
        if (f0_hz > 0).any():
            if self.config.causal:
                stiffness = self.usual_stiffness[midi(f0_hz).nan_to_num(0.0).round().long().clamp(0, 127)]
            heard = self.voice_in(self.analysis.voices(audio, f0_hz, voiced, stiffness))
            on = ((f0_hz > 0) * voiced)[..., None]
            voice = (heard * on).sum(1)
        else:
            voice = seen.new_zeros(*seen.shape[:2], self.config.width)
        return torch.cat([seen, voice], -1)

    def _decoder_in(self, z: Tensor, f0_hz: Tensor, voiced: Tensor) -> Tensor:
        pitch = F.gelu(self.pitch_in(pitch_features(f0_hz, voiced))).sum(1)
        return torch.cat([z, pitch], -1)

    # --- use ------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def encode(self, audio: Tensor, *, f0_hz: Tensor | None = None, voiced: Tensor | None = None) -> Code:
        """audio [B, 1, T] -> `Code`; without f0 [B, K, N] one voice is tracked; `features.track_pitches` finds more."""
        sound = audio[:, 0]
        setting = {"sample_rate": self.config.sample_rate, "hop_length": self.config.hop_length}
        if f0_hz is None:
            track = features.track_pitch(sound, sample_rate=self.config.sample_rate, hop_length=self.config.hop_length)
            f0_hz = (track.f0_hz if self.config.causal else steadied(track.f0_hz, sound, **setting))[:, None]
        if voiced is None:
            voiced = (f0_hz > 0).float()
        if self.config.causal:
            stiffness = torch.zeros(f0_hz.shape[:2], device=sound.device)
        else:
            stiffness = torch.stack([features.inharmonicity(sound, f0, **setting) for f0 in f0_hz.unbind(1)], 1)
        mean, _ = self._posterior(sound, f0_hz, voiced, stiffness)
        return Code(mean.transpose(1, 2), f0_hz, voiced)

    @torch.no_grad()
    def encode_step(
        self, audio: Tensor, f0_hz: Tensor, voiced: Tensor, blocks: tuple[Tensor, ...]
    ) -> tuple[Code, tuple[Tensor, ...]]:
        """The next n frames of a stream, for a causal encoder whose state starts as `encoder.init_state()`.

        audio [1, 1, margin + n * hop_length + margin], with the neighbours that `analysis.margin` asks for; f0_hz and
        voiced [1, K, n]. Returns their `Code` and the new state.
        """
        stiffness = torch.zeros(f0_hz.shape[:2], device=audio.device)
        h, blocks = self.encoder.step(self._encoder_in(audio[:, 0], f0_hz, voiced, stiffness), blocks)
        return Code(self.latent(h).chunk(2, -1)[0].transpose(1, 2), f0_hz, voiced), blocks

    @torch.no_grad()
    def decode(self, code: Code, *, seed: int = 0) -> Tensor:
        """`Code` of N frames -> audio [B, 1, N * hop_length]; the noise in it is keyed by (seed, frame)."""
        frames = torch.arange(code.z.shape[-1], device=code.z.device)
        phases = random_phases(frames, self.head.n_fft // 2 + 1, seed=seed)[None]
        h = self.decoder(self._decoder_in(code.z.transpose(1, 2), code.f0_hz, code.voiced))
        audio: Tensor = self.head(h, code.f0_hz, code.voiced, phases=phases)[0]
        return audio[:, None]

    def init_state(self, *, seed: int = 0, voices: int = 1) -> CodecState:
        """Before the first `step`; `voices` is the K of the codes to come."""
        return CodecState(self.decoder.init_state(), self.head.init_state(voices=voices, seed=seed))

    @torch.no_grad()
    def step(self, code: Code, state: CodecState) -> tuple[Tensor, CodecState]:
        """The next n frames of a `Code` [1, D, n] -> n * hop_length samples [1, 1, T], `head.latency` behind."""
        h, blocks = self.decoder.step(self._decoder_in(code.z.transpose(1, 2), code.f0_hz, code.voiced), state.blocks)
        audio, head = self.head.step(h, code.f0_hz, code.voiced, state.head)
        return audio[:, None], replace(state, blocks=blocks, head=head)
