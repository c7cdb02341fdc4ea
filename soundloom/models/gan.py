"""The GAN: noise and a condition become a whole sound in one forward pass.

    noise, condition ─▶ what the sound is ─┐
    pitch and its course, length ──────────┴─▶ blocks over time ──▶ spectral head ──▶ audio ──▶ two adversaries

The pitch drives the decoder's excitation, so that no adversary has to teach it; its course and the length are those of
a sound of the bank that suits what is asked. One adversary judges texture on crops, one the whole sound under its
condition. The loss is the hinge (Lim and Ye, 2017); least squares and the relativistic pairing (Jolicoeur-Martineau,
2019) are there to compare. The judges are kept from becoming steep around real and made sounds (Huang et al., 2024), by
differences instead of gradients of gradients.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from soundloom import spectral
from soundloom.bank import Batch, BatchSpec, SoundBank, spread_evenly
from soundloom.condition import AS_LEARNT, UNKNOWN, Condition, Manner
from soundloom.config import override
from soundloom.errors import ConfigError, ModelError
from soundloom.losses import reconstruction_terms, weighted
from soundloom.models.base import (
    EVERYTHING,
    AbstractModel,
    Player,
    Update,
    refuse_fewer,
    spanned,
    suiting,
    usual_longest,
)
from soundloom.models.conditioning import ConditionEncoder
from soundloom.models.discriminator import Discriminator
from soundloom.models.layers import SpectralHead, autocast, full_scale, hertz, midi, random_phases
from soundloom.models.moments import MomentDecoder, faded
from soundloom.models.wholejudge import WholeJudge

FEWEST = 8  # training sounds
LONGEST_S = 4.0
REMEMBERED = 2000  # clips whose courses are kept
BESIDE = (
    2  # what the decoder is told of a frame beside its pitch: whether the sound is over, and how much of it is left
)
VALIDATION_TRIES = 4
SHAKE = 0.003  # amplitude of the noise by which judges must not be moved: -50 dB
SHAKEN = 4  # one sound of so many is shaken at a step
LOSSES = ("hinge", "relativistic", "least-squares")


@dataclass(frozen=True)
class GANConfig:
    sample_rate: int = 44100
    channels: int = 1
    labels: tuple[str, ...] = ()
    clips: int = 1  # of the bank: their courses of pitch and lengths are remembered
    hop_length: int = 512
    seconds: float = 1.0  # the longest sound it makes
    noise: int = 64
    width: int = 192
    blocks: int = 3
    partials: int = 80
    loss: str = "hinge"  # by measurement: see the diary
    steps: int = 3000
    batch: int = 32
    learning_rate: float = 5e-4
    judge_rate: float = 5e-4
    smoothness: float = 0.3  # weight of what keeps the judges from becoming steep
    augmentation: float = 0.5  # of the sounds are changed before they are judged, real and made alike
    nothing: float = 0.12  # of the sounds are learnt without any condition
    tries: int = 3  # noises of which the nearest to a real sound learns from it, in the beginning
    judge_channels: int = 32  # of the judge of whole sounds, in its first layer
    guided: float = 0.5  # of the steps; by then it has faded out

    def __post_init__(self) -> None:
        if self.channels != 1:
            raise ConfigError(f"channels is {self.channels}: the GAN is mono; scan the bank with one channel")
        if self.loss not in LOSSES:
            raise ConfigError(f"there is no loss '{self.loss}': there are {', '.join(LOSSES)}")
        if not 0 < self.seconds <= 30:
            raise ConfigError(f"seconds is {self.seconds:g}: a GAN makes sounds of up to 30 s")

    @property
    def frames(self) -> int:
        return max(16, math.ceil(self.seconds * self.sample_rate / self.hop_length))


class Generator(nn.Module):
    def __init__(self, config: GANConfig) -> None:
        super().__init__()
        self.config = config
        rate, hop, width = config.sample_rate, config.hop_length, config.width
        self.condition = ConditionEncoder(len(config.labels), width)
        # As loud as the condition: a generator that hears its noise faintly in the beginning learns to ignore it.
        self.noise = nn.Linear(config.noise, width)
        nn.init.normal_(self.noise.weight, std=1 / math.sqrt(config.noise))
        self.mix = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))
        self.decoder = MomentDecoder(
            width, width, blocks=config.blocks, frame_s=hop / rate, seconds=config.seconds, beside=BESIDE
        )
        self.head = SpectralHead(width, sample_rate=rate, hop_length=hop, n_partials=config.partials)

    def forward(
        self, noise: Tensor, condition: Condition, f0_hz: Tensor, voiced: Tensor, ends: Tensor, phases: Tensor
    ) -> Tensor:
        """noise [B, D], f0 and voicing [B, 1, N], ends in frames [B], phases [B or 1, N, F] -> audio [B, T]."""
        at = torch.arange(f0_hz.shape[-1], device=noise.device).expand(len(noise), -1)
        left = (1 - at / ends[:, None]).clamp_min(0)
        with autocast(noise.device):
            about = self.mix(self.noise(noise) + self.condition(condition))
            h = self.decoder(about, at, f0_hz, voiced, torch.stack([left, (left > 0).float()], -1))
            audio: Tensor = self.head(h, f0_hz, voiced, phases=phases)[0]
        return faded(audio, ends * self.config.hop_length)


class GAN(AbstractModel):
    family = "gan"
    Config = GANConfig
    conditions = EVERYTHING
    manners = frozenset({"temperature"})
    config: GANConfig
    course: Tensor  # [clips, N], semitones from each clip's own pitch; NaN: unvoiced
    facts: Tensor  # [clips, 3]: pitch (NaN: none), length in frames, label

    def __init__(self, config: GANConfig) -> None:
        super().__init__()
        self.config = config
        self.generator = Generator(config)
        self.texture = Discriminator(sample_rate=config.sample_rate, channels=12)
        self.whole = WholeJudge(
            sample_rate=config.sample_rate,
            hop_length=config.hop_length,
            labels=len(config.labels),
            channels=config.judge_channels,
        )
        kept = min(config.clips, REMEMBERED)
        self.register_buffer("course", torch.full((kept, config.frames), torch.nan))
        self.register_buffer("facts", torch.full((kept, 3), torch.nan))

    @classmethod
    def configure(cls, bank: SoundBank, settings: Sequence[str] = ()) -> GANConfig:
        config = GANConfig(
            sample_rate=bank.sample_rate,
            labels=bank.labels,
            clips=refuse_fewer(bank, FEWEST, family="gan"),
            hop_length=spectral.default_hop(bank.sample_rate),
            seconds=usual_longest(bank, most=LONGEST_S),
        )
        return override(config, settings)

    @property
    def pitch_range(self) -> tuple[float, float] | None:
        return spanned(self.facts[:, 0])

    @property
    def batch_spec(self) -> BatchSpec:
        c = self.config
        return BatchSpec(size=c.batch, samples=c.frames * c.hop_length, hop_length=c.hop_length, align="start")

    def players(self) -> Mapping[str, Player]:
        judges = [*self.texture.parameters(), *self.whole.parameters()]
        return {
            "gan": Player(list(self.generator.parameters()), self.config.learning_rate, betas=(0.0, 0.99)),
            "judge": Player(judges, self.config.judge_rate, betas=(0.0, 0.99), ema=False),
        }

    def prepare(self, bank: SoundBank, *, fresh: bool) -> None:
        """Remembers the bank's courses of pitch, lengths and conditions."""
        if not fresh:
            return
        clips = spread_evenly(bank.clips("train"), len(self.facts))
        condition = bank.condition(np.array(clips))
        hop = self.config.hop_length
        for row, clip in enumerate(clips):
            f0_hz, voiced = (torch.from_numpy(track[: self.config.frames].copy()) for track in bank.f0(clip))
            pitches = midi(torch.where(voiced > 0.5, f0_hz, 0.0))
            centre = float(torch.nanmedian(pitches))
            length = min(bank.column("frames")[clip] / hop, self.config.frames)
            self.course[row].fill_(torch.nan)[: len(pitches)] = pitches - centre
            self.facts[row] = torch.tensor([centre, length, float(condition.label[row])])

    # --- training -------------------------------------------------------------------------------------------------

    def train_step(self, batch: Batch, *, step: int, generator: torch.Generator, update: Update) -> dict[str, float]:
        c = self.config
        condition = batch.condition.dropped(c.nothing, generator=generator)
        real = batch.audio[:, 0]
        guidance = max(0.0, 1 - step / max(1.0, c.guided * c.steps))
        noise = self._nearest(batch, condition, generator) if guidance > 0 else self._noise(len(batch), generator)
        made = self._made(noise, batch, condition, generator)
        losses, report = [], {}
        if guidance > 0:
            terms = reconstruction_terms(
                made, real, n_fft=self.generator.head.n_fft, sample_rate=c.sample_rate, step=step
            )
            report["nearest"] = terms["log"]
            losses += [(guidance, term) for term in terms.values()]
        judged_real, judged_made = self._disguised(real, made, generator)
        crop = self._crop(generator)
        heard = self._verdicts(judged_made, condition, crop)
        beside: Sequence[Tensor] = ()
        if c.loss == "relativistic":  # the others do not look at the real sounds here
            with torch.no_grad():
                beside = self._verdicts(judged_real, condition, crop)
        report["fooling"] = maker_loss(c.loss, heard, beside)
        update("gan", weighted([*losses, (1.0, report["fooling"])]))
        both = torch.cat([judged_real, judged_made.detach()])
        twice = condition.joined(condition)
        verdicts = self._verdicts(both, twice, crop)
        report["judges"] = judge_loss(c.loss, *_halves(verdicts))
        some = torch.arange(step % SHAKEN, len(both), SHAKEN, device=both.device)
        shake = torch.randn(both[some].shape, generator=generator, device=generator.device).to(both) * SHAKE
        moved = self._verdicts(both[some] + shake, twice[some], crop)
        report["steepness"] = _mean([(a - b[some]).square() for a, b in zip(moved, verdicts, strict=True)])
        update("judge", report["judges"] + c.smoothness * report["steepness"])
        return {name: float(value.detach()) for name, value in report.items()}

    @torch.no_grad()
    def validate(self, batch: Batch, *, generator: torch.Generator) -> dict[str, float]:
        """The score is how far held-out sounds are, on average, from the nearest of a few made under the same wish:
        it falls as sounds get better and more varied, and no judge has a say in it."""
        real = self.whole.levels(batch.audio[:, 0])
        distances = []
        for _ in range(VALIDATION_TRIES):
            made = self._made(self._noise(len(batch), generator), batch, batch.condition, generator)
            distances.append((self.whole.levels(made) - real).abs().mean((1, 2)))
        every = torch.stack(distances)
        return {"score": float(every.amin(0).mean()), "mean_distance": float(every.mean())}

    def _noise(self, n: int, generator: torch.Generator) -> Tensor:
        device = next(self.parameters()).device
        return torch.randn(n, self.config.noise, generator=generator, device=generator.device).to(device)

    def _made(self, noise: Tensor, batch: Batch, condition: Condition, generator: torch.Generator) -> Tensor:
        """Sounds [B, T] at the pitch, course and length of those of a batch."""
        f0_hz, voiced = batch.f0_hz[..., : self.config.frames], batch.voiced[..., : self.config.frames]
        n_bins = self.generator.head.n_fft // 2 + 1
        shape = (len(noise), f0_hz.shape[-1], n_bins)
        phases = torch.rand(shape, generator=generator, device=generator.device).to(noise)
        ends = (batch.lengths / self.config.hop_length).clamp(1, self.config.frames)
        made: Tensor = self.generator(noise, condition, f0_hz, voiced, ends, phases)
        return made

    @torch.no_grad()
    def _nearest(self, batch: Batch, condition: Condition, generator: torch.Generator) -> Tensor:
        """Of a few noises for each sound the one whose sound is nearest to it (implicit maximum likelihood: Li and
        Malik, 2018): each real sound has a made one that answers for it, which is the opposite of mode collapse."""
        real = self.whole.levels(batch.audio[:, 0])
        tries = [self._noise(len(batch), generator) for _ in range(self.config.tries)]
        if len(tries) == 1:
            return tries[0]
        made = [self.whole.levels(self._made(noise, batch, condition, generator)) for noise in tries]
        best = torch.stack([(m - real).square().mean((1, 2)) for m in made]).argmin(0)
        return torch.stack(tries)[best, torch.arange(len(batch), device=best.device)]

    def _disguised(self, real: Tensor, made: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Both batches [B, T] changed in the same way before they are judged: gain, sign and a shift in time (Zhao et
        al., 2020). A judge of few sounds then cannot know them by heart, and the maker does not learn the changes."""
        draw = torch.rand(4, len(real), generator=generator, device=generator.device).to(real.device)
        some = draw[0] < self.config.augmentation
        gain = torch.where(some, 10 ** ((draw[1] - 0.5) * 6 / 20), 1.0) * torch.where(draw[2] < 0.5, -1.0, 1.0)
        furthest = self.config.hop_length
        shift = torch.where(some, (draw[3] * furthest).long(), 0)
        at = torch.arange(real.shape[1], device=real.device) - shift[:, None]
        inside = (at >= 0).float() * gain[:, None]
        at = at.clamp_min(0)
        return real.gather(1, at) * inside, made.gather(1, at) * inside

    def _crop(self, generator: torch.Generator) -> slice:
        """A third of the sound, from anywhere: texture costs more than all else."""
        total = self.config.frames * self.config.hop_length
        size = min(total, max(self.texture.sizes[-1] * 2, total // 3))
        start = int(torch.randint(0, total - size + 1, (1,), generator=generator, device=generator.device))
        return slice(start, start + size)

    def _verdicts(self, audio: Tensor, condition: Condition, crop: slice) -> list[Tensor]:
        """The verdicts of both adversaries: maps of the texture at three resolutions, one figure of the whole."""
        maps = [features[-1].float() for features in self.texture(audio[:, crop])]
        return [*maps, self.whole(audio, condition)]

    # --- use ------------------------------------------------------------------------------------------------------

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
        device = self.facts.device
        condition = (condition if condition is not None else Condition.of(n)).to(device)
        rows = self._suitable(condition, generator)
        return self._rendered(rows, condition, generator, seconds=seconds, temperature=manner.temperature)

    @torch.no_grad()
    def by_noise_alone(self, n: int, *, generator: torch.Generator) -> Tensor:
        """n sounds of one wish, course and length [n, 1, T]: only their noise is not the same."""
        one = self._suitable(Condition.of(1).to(self.facts.device), generator)
        return self._rendered(one.expand(n), Condition.of(n).to(one.device), generator)

    def _rendered(
        self,
        rows: Tensor,
        condition: Condition,
        generator: torch.Generator,
        *,
        seconds: float | None = None,
        temperature: float = 1.0,
    ) -> Tensor:
        """Sounds with the courses of remembered ones, `rows` [B], and what the condition leaves open from there too."""
        facts, device = self.facts[rows], rows.device
        condition = replace(
            condition,
            pitch=torch.where(torch.isfinite(condition.pitch), condition.pitch, facts[:, 0]),
            label=torch.where(condition.label == UNKNOWN, facts[:, 2].long(), condition.label),
        )
        frames, ends = self.config.frames, facts[:, 1]
        if seconds is not None:
            frames = max(2, math.ceil(seconds * self.config.sample_rate / self.config.hop_length))
            ends = torch.full_like(ends, frames)
        else:
            frames = min(frames, max(2, math.ceil(float(ends.max()))))
        course = self.course[rows, :frames]
        f0_hz = hertz(condition.pitch[:, None] + course)[:, None]
        seed = int(torch.randint(0, 2**31, (1,), generator=generator, device=generator.device))
        phases = random_phases(torch.arange(frames, device=device), self.generator.head.n_fft // 2 + 1, seed=seed)[None]
        noise = self._noise(len(rows), generator) * temperature
        audio = self.generator(noise, condition, f0_hz, (f0_hz > 0).float(), ends, phases)[:, None]
        return full_scale(audio)

    def _suitable(self, condition: Condition, generator: torch.Generator) -> Tensor:
        """For each condition a remembered sound [B] of its label, near its pitch."""
        if not torch.isfinite(self.facts[:, 1]).all():
            raise ModelError("this model has heard no sounds yet: train it for some steps first")
        pitches, _, labels = self.facts.cpu().unbind(1)
        wishes = zip(condition.pitch.tolist(), condition.label.tolist(), strict=True)
        weights = torch.stack([suiting(pitches, labels, pitch=pitch, label=label) for pitch, label in wishes])
        return torch.multinomial(weights, 1, generator=generator)[:, 0].to(self.facts.device)


def maker_loss(kind: str, made: Sequence[Tensor], real: Sequence[Tensor]) -> Tensor:
    """For the maker, over the verdicts of all adversaries; `real` plays a part in the relativistic one alone."""
    if kind == "relativistic":
        return _mean([F.softplus(b - a) for a, b in zip(made, real, strict=True)])
    if kind == "hinge":
        return _mean([-a for a in made])
    return _mean([(a - 1).square() for a in made])


def judge_loss(kind: str, real: Sequence[Tensor], made: Sequence[Tensor]) -> Tensor:
    """For the judges."""
    if kind == "relativistic":
        return _mean([F.softplus(a - b) for a, b in zip(made, real, strict=True)])
    if kind == "hinge":
        return _mean([F.relu(1 - b).mean() + F.relu(1 + a).mean() for a, b in zip(made, real, strict=True)])
    return _mean([(b - 1).square().mean() + a.square().mean() for a, b in zip(made, real, strict=True)])


def _mean(terms: Sequence[Tensor]) -> Tensor:
    """The mean over adversaries of each one's mean."""
    return torch.stack([term.mean() for term in terms]).mean()


def _halves(verdicts: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    first, second = zip(*(verdict.chunk(2) for verdict in verdicts), strict=True)
    return list(first), list(second)
