"""DDSP: an instrument played by pitch and loudness alone.

    pitch ────┐
    loudness ─┴─▶ blocks ──▶ partials + noise ──▶ room ──▶ audio

What the tracks do not say, the model knows of its instrument: so the tracks of a voice make it sing, and those of a
flute play the violin (Engel et al., 2020). Partials are written straight into STFT bins, no sine per sample and
partial. The blocks are causal and the room works block by block: any model or player can stream the tracks.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from soundloom import features, spectral
from soundloom.bank import Batch, BatchSpec, SoundBank, spread_evenly
from soundloom.condition import AS_LEARNT, Condition, Manner
from soundloom.config import override
from soundloom.errors import BankError, ConfigError, ModelError
from soundloom.losses import TERM_WEIGHTS, reconstruction_score, reconstruction_terms, stiffness_distance, weighted
from soundloom.models.base import AbstractModel, Code, Player, Update, random_crops
from soundloom.models.courses import (
    SILENCE_DB,
    Courses,
    a_weighted_db,
    matched_levels,
    octaves_into,
)
from soundloom.models.layers import (
    LOWEST_STIFFNESS,
    PITCH_FEATURES,
    HeadState,
    SpectralHead,
    Stack,
    autocast,
    pitch_features,
    random_phases,
)
from soundloom.models.reverb import Reverb
from soundloom.steady import steadied

PITCHED = 0.4  # of the frames of a bank: with less, too little can be played
QUIET_DB = -70.0  # below this level the sound is led to silence, whatever the network makes of it
LONGEST_S = 60.0
NOTES = range(24, 109, 2)  # MIDI pitches and levels in dB at which bumps stand that say where a value lies: what an
LEVELS = range(-96, 7, 6)  # instrument does there is then looked up; it would take long to learn from a sine or a slope


@dataclass(frozen=True)
class DDSPConfig:
    sample_rate: int = 44100
    channels: int = 1
    labels: tuple[str, ...] = ()
    hop_length: int = 512
    width: int = 256
    blocks: int = 4
    partials: int = 80  # amplitudes by number; above them the envelope speaks alone
    cepstrum: int = 0  # coefficients of timbre told beside pitch and loudness, for speech: its vowels are in neither
    stiff: bool = False  # partials stretched as a stiff string's are; where the bank is of notes, and it was measured
    reverb_s: float = 1.0
    steps: int = 3000
    batch: int = 4
    seconds: float = 4.0  # of a training crop
    learning_rate: float = 3e-3
    semitones: float = 0.5  # augmentation: little, since pitch and timbre belong together
    gain_db: float = 3.0
    reverb_weight: float = 0.01

    def __post_init__(self) -> None:
        if self.channels != 1:
            raise ConfigError(f"channels is {self.channels}: DDSP is mono so far; scan the bank with one channel")
        if not 0 <= self.cepstrum <= 40:
            raise ConfigError(f"cepstrum is {self.cepstrum}: it goes from 0, pitch and loudness alone, to 40")
        if not 0 < self.reverb_s <= 10:
            raise ConfigError(f"reverb_s is {self.reverb_s:g}: a learnt room rings for more than 0 and up to 10 s")

    @property
    def frames(self) -> int:
        """Of a training crop, and of what is remembered."""
        return max(8, round(self.seconds * self.sample_rate / self.hop_length))


@dataclass
class DDSPState:
    """Where a stream stands: the last frames of every block, the head's oscillators and tail, what the room rings."""

    blocks: tuple[Tensor, ...]
    head: HeadState
    room: Tensor


class DDSP(AbstractModel):
    """Its tracks are a `Code` whose z [B, 1 + cepstrum, N] is the A-weighted level in dB, and the cepstrum, if any."""

    family = "ddsp"
    Config = DDSPConfig
    config: DDSPConfig

    def __init__(self, config: DDSPConfig) -> None:
        super().__init__()
        self.config = config
        shape = {"sample_rate": config.sample_rate, "hop_length": config.hop_length, "n_partials": config.partials}
        inputs = PITCH_FEATURES + len(NOTES) + 1 + len(LEVELS) + config.cepstrum
        self.decoder = Stack(inputs, config.width, blocks=config.blocks, causal=True, expansion=2)
        self.head = SpectralHead(config.width, **shape, free_rank=0)
        self.reverb = Reverb(sample_rate=config.sample_rate, seconds=config.reverb_s)
        self.courses = Courses(tracks=2 + config.cepstrum, frames=config.frames)

    @classmethod
    def configure(cls, bank: SoundBank, settings: Sequence[str] = ()) -> DDSPConfig:
        """Raises `BankError` where less than two fifths of the bank have a pitch."""
        clips = bank.clips("train")
        tracks = [bank.f0(int(clip))[0] > 0 for clip in clips]
        share = sum(int(track.sum()) for track in tracks) / max(1, sum(len(track) for track in tracks))
        if share < PITCHED:
            raise BankError(
                f"{share:.0%} of the bank {bank.folder} has a pitch: ddsp plays by pitch and needs {PITCHED:.0%} or "
                "more, best 5 to 15 minutes of one instrument, one note at a time; for drums and noises take gan or vae"
            )
        hop = spectral.default_hop(bank.sample_rate)
        longest = max(len(track) for track in tracks) * hop / bank.sample_rate
        config = DDSPConfig(
            sample_rate=bank.sample_rate, labels=bank.labels, hop_length=hop, stiff=bank.kind == "notes"
        )
        return override(replace(config, seconds=round(min(config.seconds, max(longest, 0.25)), 2)), settings)

    @property
    def batch_spec(self) -> BatchSpec:
        c = self.config
        return random_crops(c, frames=c.frames)

    def players(self) -> Mapping[str, Player]:
        return {"ddsp": Player(list(self.parameters()), self.config.learning_rate)}

    @torch.no_grad()
    def prepare(self, bank: SoundBank, *, fresh: bool) -> None:
        """Remembers courses of pitch and loudness of the bank, its range and its levels: to play new notes by."""
        if not fresh:
            return
        spec = replace(self.batch_spec, semitones=0.0, gain_db=0.0)
        clips = spread_evenly(bank.clips("train"), self.courses.most)
        batches = [bank.take(spec, clips[i : i + spec.size]) for i in range(0, len(clips), spec.size)]
        generator = torch.Generator().manual_seed(0)
        while sum(len(batch) for batch in batches) < self.courses.most:  # few long clips: from anywhere in them
            batches.append(bank.draw(spec, split="train", generator=generator))
        tracks = [self._steering(batch.audio[:, 0], batch.f0_hz, batch.voiced) for batch in batches]
        lengths = torch.cat([-(-batch.lengths // self.config.hop_length) for batch in batches])
        labels = torch.cat([batch.condition.label for batch in batches])
        rows = torch.cat([torch.cat([code.f0_hz, code.z], 1) for code in tracks])
        self.courses.remember(rows, lengths, labels)

    # --- training -------------------------------------------------------------------------------------------------

    def train_step(self, batch: Batch, *, step: int, generator: torch.Generator, update: Update) -> dict[str, float]:
        real, rate = batch.audio[:, 0], self.config.sample_rate
        code = self._steering(real, batch.f0_hz, batch.voiced)
        shape = (*batch.f0_hz.shape[::2], self.head.n_fft // 2 + 1)
        phases = torch.rand(shape, generator=generator, device=generator.device).to(real.device)
        known = batch.inharmonicity[:, None] * self.config.stiff
        with autocast(real.device):
            made, stiffness = self._rendered(code, phases, stiffness=known)
        terms = reconstruction_terms(made, real, n_fft=self.head.n_fft, sample_rate=rate, step=step)
        # Where no stiffness was measured there is none: what is blown or bowed is exactly harmonic.
        stiff = stiffness_distance(stiffness, known.clamp_min(LOWEST_STIFFNESS), batch.f0_hz)
        room = self.reverb.prior()
        losses = [(TERM_WEIGHTS[name], term) for name, term in terms.items()]
        update("ddsp", weighted([*losses, (0.1, stiff), (self.config.reverb_weight, room)]))
        report = {**terms, "stiffness": stiff, "room": room}
        return {name: float(value.detach()) for name, value in report.items()}

    @torch.no_grad()
    def validate(self, batch: Batch, *, generator: torch.Generator) -> dict[str, float]:
        real = batch.audio[:, 0]
        code = self._steering(real, batch.f0_hz, batch.voiced)
        made = self.play(code)[:, 0, : real.shape[1]]
        score = reconstruction_score(made, real, n_fft=self.head.n_fft, sample_rate=self.config.sample_rate)
        return {"score": float(score)}

    @torch.no_grad()
    def _steering(self, audio: Tensor, f0_hz: Tensor, voiced: Tensor) -> Code:
        """audio [B, T], f0 and voicing [B, 1, N] -> the tracks that are played."""
        setting = {"sample_rate": self.config.sample_rate, "hop_length": self.config.hop_length}
        z = a_weighted_db(audio, **setting)[:, None]
        if self.config.cepstrum:
            bands = spectral.log_mel(audio, **setting, n_fft=self.head.n_fft, n_mels=64)
            z = torch.cat([z, spectral.mfcc(bands, n_mfcc=1 + self.config.cepstrum)[:, 1:]], 1)
        return Code(z, f0_hz, voiced)

    def _decoder_in(self, code: Code) -> Tensor:
        """What the blocks are told [B, N, inputs]. A pitch beyond the instrument's range is told as the nearest in it:
        it is played as asked, with the timbre of what is known."""
        low, high = self.courses.range_hz
        told = torch.where(code.f0_hz > 0, code.f0_hz.clamp(float(low), float(high)), 0.0)
        level = (code.z[:, :1].clamp(SILENCE_DB, 6.0) + 40) / 20
        pitch = pitch_features(told, code.voiced)[:, 0]
        midi = 69 + 12 * torch.log2(told[:, 0].clamp_min(20.0) / 440)
        notes = _bumps(midi, NOTES) * ((told > 0) * code.voiced)[:, 0, :, None]
        at = _bumps(code.z[:, 0], LEVELS)
        return torch.cat([pitch, notes, level.transpose(1, 2), at, code.z[:, 1:].transpose(1, 2) / 8], -1)

    def _fall(self, code: Code) -> Tensor:
        """Log-gains [B, N] that lead to silence what is quieter than `QUIET_DB`."""
        return (code.z[:, 0] - QUIET_DB).clamp_max(0.0) * (2 * math.log(10) / 20)

    def _rendered(self, code: Code, phases: Tensor, *, stiffness: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Tracks of N frames -> audio [B, N * hop_length] and the stiffness [B, 1, N] that the head sees."""
        h = self.decoder(self._decoder_in(code))
        given = None if stiffness is None else stiffness[..., None].expand_as(code.f0_hz)
        dry, voices = self.head(h, code.f0_hz, code.voiced, phases=phases, stiffness=given, log_gain=self._fall(code))
        return self.reverb(dry.float()), voices.stiffness

    # --- use ------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def tracks(self, audio: Tensor) -> Code:
        """audio [B, 1, T] -> its pitch and loudness, as `play` takes them."""
        setting = {"sample_rate": self.config.sample_rate, "hop_length": self.config.hop_length}
        sound = audio[:, 0]
        f0_hz = steadied(features.track_pitch(sound, **setting).f0_hz, sound, **setting)[:, None]
        return self._steering(sound, f0_hz, (f0_hz > 0).float())

    @torch.no_grad()
    def play(self, code: Code, *, seed: int = 0) -> Tensor:
        """Tracks of N frames -> audio [B, 1, N * hop_length], room and all; its noise is keyed by (seed, frame)."""
        frames = torch.arange(code.z.shape[-1], device=code.z.device)
        phases = random_phases(frames, self.head.n_fft // 2 + 1, seed=seed)[None]
        return self._rendered(code, phases)[0][:, None]

    @torch.no_grad()
    def resynthesise(self, audio: Tensor, *, transpose: float = 0.0, seed: int = 0) -> Tensor:
        """The instrument plays what it hears, note for note: audio [B, 1, T] -> [B, 1, T], `transpose` semitones up."""
        return self.play(self.tracks(audio).transposed(transpose), seed=seed)[..., : audio.shape[-1]]

    @torch.no_grad()
    def transfer(self, audio: Tensor, *, transpose: float | None = None, seed: int = 0) -> Tensor:
        """Timbre transfer: audio [B, 1, T] of any voice or instrument, played by this one.

        The melody is moved by `transpose` semitones; None moves each sound by the octaves that bring its median pitch
        into the instrument's range. Its loudness is matched to the instrument's, quantile by quantile: the quietest
        tenth of one becomes the quietest tenth of the other, and what was silent stays so. `ModelError` where there is
        no pitch to play.
        """
        code = self.tracks(audio)
        self._remembering()
        if not (code.f0_hz > 0).any():
            raise ModelError("no pitch was found in this sound: transfer plays a melody, sung, whistled or played")
        moved = []
        for i in range(len(audio)):
            one = Code(code.z[i : i + 1].clone(), code.f0_hz[i : i + 1], code.voiced[i : i + 1])
            semitones = transpose
            if semitones is None:
                semitones = 12.0 * octaves_into(one.f0_hz, self.courses.range_hz)
            one.z[:, 0] = matched_levels(one.z[:, 0], self.courses.levels)
            moved.append(one.transposed(semitones))
        joined = Code(*(torch.cat([getattr(one, name) for one in moved]) for name in ("z", "f0_hz", "voiced")))
        return self.play(joined, seed=seed)[..., : audio.shape[-1]]

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
        """n new sounds [n, 1, T], played along remembered courses. Where a pitch is asked for it is one note, the
        longest in a course; else what was heard, from its beginning. Longer than that it is drawn out to `seconds`."""
        if seconds is not None and not 0 < seconds <= LONGEST_S:
            raise ModelError(f"seconds is {seconds:g}: this model makes sounds of up to {LONGEST_S:g} s")
        self._remembering()
        condition = condition if condition is not None else Condition.of(n)
        frames = None if seconds is None else math.ceil(seconds * self.config.sample_rate / self.config.hop_length)
        rows = [
            self.courses.drawn(pitch, label, frames=frames, generator=generator)
            for pitch, label in zip(condition.pitch.tolist(), condition.label.tolist(), strict=True)
        ]
        longest = max(row.shape[1] for row in rows)
        tracks = torch.zeros(n, rows[0].shape[0], longest)
        tracks[:, 1] = SILENCE_DB
        for track, row in zip(tracks, rows, strict=True):
            track[:, : row.shape[1]] = row
        tracks = tracks.to(self.courses.levels.device)
        f0_hz = tracks[:, :1]
        seed = int(torch.randint(0, 2**31, (1,), generator=generator, device=generator.device))
        audio = self.play(Code(tracks[:, 1:], f0_hz, (f0_hz > 0).float()), seed=seed)
        return audio / audio.abs().amax((1, 2), keepdim=True).clamp_min(1.0)

    def _remembering(self) -> None:
        if not len(self.courses):
            raise ModelError("this model has heard no sounds yet: train it for some steps first")

    def init_state(self, *, seed: int = 0) -> DDSPState:
        return DDSPState(self.decoder.init_state(), self.head.init_state(voices=1, seed=seed), self.reverb.init_state())

    @torch.no_grad()
    def step(self, code: Code, state: DDSPState) -> tuple[Tensor, DDSPState]:
        """The next n frames of tracks [1, D, n] -> n * hop_length samples [1, 1, T], `head.latency` behind them."""
        dry, state = self.dry(code, state)
        audio, room = self.reverb.step(dry, state.room)
        return audio[:, None], replace(state, room=room)

    @torch.no_grad()
    def dry(self, code: Code, state: DDSPState) -> tuple[Tensor, DDSPState]:
        """As `step`, before the room: [1, T]."""
        h, blocks = self.decoder.step(self._decoder_in(code), state.blocks)
        dry, head = self.head.step(h, code.f0_hz, code.voiced, state.head, log_gain=self._fall(code))
        return dry, replace(state, blocks=blocks, head=head)


def _bumps(values: Tensor, at: range) -> Tensor:
    """Values [B, N] -> [B, N, len(at)]: how near each is to each place, 1 where it stands on it."""
    places = torch.arange(at.start, at.stop, at.step, device=values.device)
    return torch.exp(-0.5 * ((values[..., None] - places) / at.step).square())
