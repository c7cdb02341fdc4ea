"""The classifier: a convolutional network that hears what a sound is and which pitch it has.

    audio ──▶ log-frequency levels, three windows ──▶ ConvNeXt in two dimensions ──▶ what is where on the axis
                                                                                      ├──▶ embedding ──▶ timbre head
                                                                                      │              └─▶ tonal or not
                                                                                      └──▶ pitch head

Labels that name several things at once, joined with "+" ("clap+snare"), make the timbre head multi-label: every part
has a chance of its own. Otherwise the chances of a sound add up to 1.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from soundloom.bank import Batch, BatchSpec, SoundBank
from soundloom.condition import UNKNOWN
from soundloom.config import override
from soundloom.errors import BankError, ConfigError
from soundloom.models.base import AbstractModel, Opinion, Player, Update
from soundloom.models.layers import autocast
from soundloom.models.logspectrum import BANDS_TOGETHER, RANGE_DB, LogSpectrum

KERNEL = 7
PATCH = 4  # semitones and frames that the network reads at a time
LOWEST_NOTE, HIGHEST_NOTE = 12, 132  # of the pitch head, MIDI
PER_SEMITONE = 2  # bins of the pitch head
PITCH_BINS = (HIGHEST_NOTE - LOWEST_NOTE) * PER_SEMITONE
SHORTEST_S, LONGEST_S = 0.32, 1.28  # heard at a time; a bank's sounds decide between the two
TONAL_WEIGHT = 0.2
TEMPERATURES = 2.0 ** torch.linspace(-2, 3, 101)  # that are tried


@dataclass(frozen=True)
class ClassifierConfig:
    sample_rate: int = 44100
    channels: int = 1
    labels: tuple[str, ...] = ()
    seconds: float = 1.28  # of a sound that are heard at a time
    widths: tuple[int, ...] = (48, 96, 192)
    depths: tuple[int, ...] = (2, 3, 3)
    expansion: int = 3
    embedding: int = 128
    steps: int = 2000
    batch: int = 48
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    semitones: float = 1.0  # augmentation: faster and higher, or slower and lower, by at most this
    mixed: float = 0.5  # share of sounds that are mixed with another (mixup)
    masked: float = 0.5  # share of sounds of which stripes are hidden (SpecAugment)
    recoloured: float = 0.5  # share of sounds that are heard as through another microphone and room
    tones: float = 0.1  # share of synthetic tones of known pitch among the sounds
    smoothing: float = 0.05  # of the labels
    pitch_weight: float = 0.5

    def __post_init__(self) -> None:
        if self.channels != 1:
            raise ConfigError(f"channels is {self.channels}: the classifier is mono; scan the bank with one channel")
        if len(self.widths) != len(self.depths):
            raise ConfigError(f"widths has {len(self.widths)} stages and depths {len(self.depths)}: give as many")
        if 2 ** (len(self.widths) - 1) * PATCH > BANDS_TOGETHER:
            raise ConfigError(f"widths has {len(self.widths)} stages: 1 to 3 fit the frequency axis")

    @property
    def tags(self) -> tuple[str, ...]:
        """What the timbre head answers for: the labels, or their parts where some have several."""
        return tuple(dict.fromkeys(part for label in self.labels for part in label.split("+")))

    @property
    def exclusive(self) -> bool:
        """Whether a sound is one thing only."""
        return self.tags == self.labels


@dataclass(frozen=True)
class Lesson:
    """Sounds and what is true of them. Shapes: `audio` [B, T]; `tags` [B, L], 0 to 1; `tagged` [B], 1 where the tags
    are known; `pitch` [B] MIDI, NaN where there is none or it is not known; `tonal` [B], 1 or 0, NaN: not known."""

    audio: Tensor
    tags: Tensor
    tagged: Tensor
    pitch: Tensor
    tonal: Tensor

    def to(self, device: torch.device | str) -> "Lesson":
        return Lesson(*(getattr(self, field.name).to(device) for field in fields(self)))


class Classifier(AbstractModel):
    family = "classifier"
    Config = ClassifierConfig
    validation_clips = 512  # they are short, and a share of right ones needs many
    config: ClassifierConfig
    temperature: Tensor  # scalar: logits are divided by it, so that a confidence of 0.8 is right in 8 of 10 sounds
    members: Tensor  # [labels, tags]

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        self.config = config
        self.spectrum = LogSpectrum(sample_rate=config.sample_rate)
        widths = config.widths
        rows = self.spectrum.bands // PATCH
        self.enter = nn.Linear(3 * PATCH * PATCH, widths[0])
        self.place = nn.Parameter(torch.zeros(1, rows, 1, widths[0]))
        self.enter_norm = nn.LayerNorm(widths[0])
        self.stages = nn.ModuleList(
            nn.ModuleList(Block2d(width, expansion=config.expansion) for _ in range(depth))
            for width, depth in zip(widths, config.depths, strict=True)
        )
        self.halves = nn.ModuleList(Halve(a, b) for a, b in itertools.pairwise(widths))
        rows //= 2 ** (len(widths) - 1)
        self.leave_norm = nn.LayerNorm(widths[-1])
        self.narrow = nn.Linear(widths[-1], 48)
        self.attend = nn.Linear(widths[-1], 1)
        self.embed_in = nn.Linear(rows * 48 + widths[-1], config.embedding)
        self.embed_norm = nn.LayerNorm(config.embedding)
        self.timbre = nn.Linear(config.embedding, len(config.tags))
        self.tonal = nn.Linear(config.embedding, 1)
        self.pitch_in = nn.Linear(widths[-1], 48)
        self.pitch = nn.Linear(rows * 48, PITCH_BINS)
        self.register_buffer("temperature", torch.ones(()))
        members = torch.zeros(len(config.labels), len(config.tags))
        for i, label in enumerate(config.labels):
            for part in label.split("+"):
                members[i, config.tags.index(part)] = 1.0
        self.register_buffer("members", members, persistent=False)

    @classmethod
    def configure(cls, bank: SoundBank, settings: Sequence[str] = ()) -> ClassifierConfig:
        if len(bank.labels) < 2:
            raise BankError(
                f"the bank has {len(bank.labels)} label(s), and a classifier needs two or more to tell apart: "
                "scan it with --label-from, or give labels with --labels FILE.csv"
            )
        lengths = bank.column("frames")[bank.clips("train")] / bank.sample_rate
        seconds = float(np.clip(np.quantile(lengths, 0.9), SHORTEST_S, LONGEST_S))
        return override(ClassifierConfig(bank.sample_rate, labels=bank.labels, seconds=round(seconds, 2)), settings)

    @property
    def samples(self) -> int:
        """How many samples are heard at a time: whole patches at every stage."""
        step = self.spectrum.hop_length * PATCH * 2 ** (len(self.config.widths) - 1)
        return int(step * max(1, round(self.config.seconds * self.config.sample_rate / step)))

    @property
    def batch_spec(self) -> BatchSpec:
        c = self.config
        return BatchSpec(
            size=c.batch,
            samples=self.samples,
            hop_length=self.spectrum.hop_length,
            align="start",
            semitones=c.semitones,
        )

    def players(self) -> Mapping[str, Player]:
        c = self.config
        return {
            "classifier": Player(
                list(self.parameters()), c.learning_rate, betas=(0.9, 0.98), weight_decay=c.weight_decay
            )
        }

    # --- training -------------------------------------------------------------------------------------------------

    def train_step(self, batch: Batch, *, step: int, generator: torch.Generator, update: Update) -> dict[str, float]:
        lesson = self._lesson(batch)
        lesson = with_tones(lesson, self.config.tones, sample_rate=self.config.sample_rate, generator=generator)
        lesson = mixed(lesson, self.config.mixed, generator=generator)
        terms = self.losses(lesson, generator=generator)
        update("classifier", self.weighted(terms))
        return {name: float(value.detach()) for name, value in terms.items()}

    def weighted(self, terms: Mapping[str, Tensor]) -> Tensor:
        """What is trained down."""
        return terms["timbre"] + self.config.pitch_weight * terms["pitch"] + TONAL_WEIGHT * terms["tonal"]

    def losses(self, lesson: Lesson, *, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Unweighted means over the sounds of which the truth is known. With a generator, stripes are hidden."""
        with autocast(lesson.audio.device):
            levels = self.spectrum(lesson.audio)
            if generator is not None:
                levels = recoloured(levels, self.config.recoloured, generator=generator)
                levels = hide_stripes(levels, self.config.masked, generator=generator)
            over_time, summary = self._look(levels)
        heard = self._say(over_time.float(), summary.float())
        known = torch.isfinite(lesson.pitch).float()
        truth = torch.isfinite(lesson.tonal).float()
        pitched = F.cross_entropy(heard.pitch, pitch_targets(lesson.pitch.nan_to_num()), reduction="none")
        sounding = F.binary_cross_entropy_with_logits(heard.tonal, lesson.tonal.nan_to_num(), reduction="none")
        return {
            "timbre": _mean(self._timbre_loss(heard.timbre, lesson.tags), lesson.tagged),
            "pitch": _mean(pitched, known),
            "tonal": _mean(sounding, truth),
        }

    def _timbre_loss(self, logits: Tensor, tags: Tensor) -> Tensor:
        """[B, L] and [B, L] -> [B]."""
        smooth = self.config.smoothing if self.training else 0.0
        if self.config.exclusive:
            return F.cross_entropy(logits, tags * (1 - smooth) + smooth / tags.shape[1], reduction="none")
        return F.binary_cross_entropy_with_logits(logits, tags * (1 - smooth) + smooth / 2, reduction="none").mean(1)

    def _lesson(self, batch: Batch) -> Lesson:
        """What a batch of a bank says: its label, and its pitch or that it has none."""
        label = batch.condition.label
        tagged = (label != UNKNOWN).float()
        pitch = batch.condition.pitch
        return Lesson(
            audio=batch.audio[:, 0],
            tags=self.members[label.clamp(min=0)] * tagged[:, None],
            tagged=tagged,
            pitch=pitch,
            tonal=torch.isfinite(pitch).float(),
        )

    @torch.no_grad()
    def validate(self, batch: Batch, *, generator: torch.Generator) -> dict[str, float]:
        lesson = self._lesson(batch)
        terms = self.losses(lesson)
        opinion = self.classify(lesson.audio)
        right = lesson.tags.gather(1, opinion.logits.argmax(1, keepdim=True))[:, 0]  # of several, one will do
        return {
            "score": float(terms["timbre"]),
            "accuracy": float(_mean(right, lesson.tagged)),
            "pitch": float(terms["pitch"]),
        }

    @torch.no_grad()
    def calibrate(self, bank: SoundBank, clips: Sequence[int]) -> None:
        """Sets the temperature with which the chances of these clips, held out of training, are likeliest
        (Guo et al., 2017)."""
        self.temperature.fill_(1.0)
        found = []
        for i in range(0, len(clips), self.config.batch):
            batch = bank.take(self.batch_spec, clips[i : i + self.config.batch]).to(self.temperature.device)
            lesson = self._lesson(batch)
            known = lesson.tagged > 0
            found.append((self.classify(lesson.audio).logits[known], lesson.tags[known]))
        logits, tags = torch.cat([a for a, _ in found]), torch.cat([b for _, b in found])
        self.temperature.copy_(best_temperature(logits, tags, exclusive=self.config.exclusive))

    # --- use ------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def classify(self, audio: Tensor) -> Opinion:
        """audio [B, T], from the onset on: what is heard of its first `seconds`. Silent where it is shorter."""
        audio = F.pad(audio[..., : self.samples], (0, max(0, self.samples - audio.shape[-1])))
        with autocast(audio.device):
            over_time, summary = self._look(self.spectrum(audio))
        heard = self._say(over_time.float(), summary.float())
        pitch, confidence = decode_pitch(heard.pitch)
        return Opinion(
            logits=heard.timbre / self.temperature,
            pitch=pitch,
            pitch_confidence=confidence,
            tonal=torch.sigmoid(heard.tonal),
            embedding=heard.embedding,
        )

    def _look(self, levels: Tensor) -> tuple[Tensor, Tensor]:
        """levels [B, 3, bands, N] -> what is at each place of the axis [B, rows, width], and the most there is of
        anything anywhere [B, width]."""
        b, _, bands, n = levels.shape
        patches = levels.reshape(b, 3, bands // PATCH, PATCH, n // PATCH, PATCH).permute(0, 2, 4, 1, 3, 5)
        x = self.enter_norm(self.enter(patches.flatten(3)) + self.place)  # [B, rows, frames, width]
        for i, stage in enumerate(self.stages):
            assert isinstance(stage, nn.ModuleList)
            if i:
                x = self.halves[i - 1](x)
            for block in stage:
                x = block(x)
        x = self.leave_norm(x)
        weight = torch.softmax(self.attend(x).mean(1, keepdim=True).float(), 2).to(x.dtype)  # [B, 1, frames, 1]
        return (x * weight).sum(2), x.amax((1, 2))

    def _say(self, over_time: Tensor, most: Tensor) -> "_Heard":
        embedding = self.embed_norm(self.embed_in(torch.cat([self.narrow(over_time).flatten(1), most], 1)))
        acted = F.gelu(embedding)
        return _Heard(
            timbre=self.timbre(acted),
            tonal=self.tonal(acted)[:, 0],
            pitch=self.pitch(F.gelu(self.pitch_in(over_time).flatten(1))),
            embedding=embedding,
        )


@dataclass(frozen=True)
class _Heard:
    timbre: Tensor  # [B, L] logits
    tonal: Tensor  # [B] logits
    pitch: Tensor  # [B, PITCH_BINS] logits
    embedding: Tensor  # [B, E]


class Block2d(nn.Module):
    """ConvNeXt block over frequency and time, x [B, rows, frames, C]: a depthwise convolution, wide in frequency (a
    kernel three frames long has a fast backward pass on processors, a longer one has none), norm, pointwise step."""

    def __init__(self, width: int, *, expansion: int) -> None:
        super().__init__()
        self.depthwise = nn.Parameter(torch.randn(width, 1, KERNEL, 3) / math.sqrt(3 * KERNEL))
        self.norm = nn.LayerNorm(width)
        self.widen = nn.Linear(width, expansion * width)
        self.shrink = nn.Linear(expansion * width, width)
        self.scale = nn.Parameter(torch.full((width,), 0.3))

    def forward(self, x: Tensor) -> Tensor:
        seen = F.conv2d(x.permute(0, 3, 1, 2), self.depthwise, padding=(KERNEL // 2, 1), groups=x.shape[-1])
        mixed: Tensor = self.shrink(F.gelu(self.widen(self.norm(seen.permute(0, 2, 3, 1)))))
        return x + self.scale * mixed


class Halve(nn.Module):
    """Half the rows and half the frames, wider: x [B, R, N, a] -> [B, R / 2, N / 2, b]."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(a)
        self.linear = nn.Linear(4 * a, b)

    def forward(self, x: Tensor) -> Tensor:
        b, r, n, c = x.shape
        tiles = self.norm(x).reshape(b, r // 2, 2, n // 2, 2, c).permute(0, 1, 3, 2, 4, 5)
        out: Tensor = self.linear(tiles.flatten(3))
        return out


def best_temperature(logits: Tensor, tags: Tensor, *, exclusive: bool) -> Tensor:
    """The temperature, a scalar, under which the true tags [N, L] are likeliest; 1 where there is nothing to go by."""
    if len(logits) == 0:
        return torch.ones(())
    tried = TEMPERATURES.to(logits.device)
    if exclusive:
        costs = torch.stack([F.cross_entropy(logits / t, tags) for t in tried])
    else:
        costs = torch.stack([F.binary_cross_entropy_with_logits(logits / t, tags) for t in tried])
    return tried[costs.argmin()]


def pitch_targets(pitch: Tensor) -> Tensor:
    """MIDI [B] -> shares of the pitch bins [B, PITCH_BINS]: the two next to it, so that the cents are told."""
    place = ((pitch - LOWEST_NOTE) * PER_SEMITONE).clamp(0, PITCH_BINS - 1)
    bins = torch.arange(PITCH_BINS, device=pitch.device)
    return (1 - (bins - place[:, None]).abs()).clamp(min=0)


def decode_pitch(logits: Tensor) -> tuple[Tensor, Tensor]:
    """logits [B, PITCH_BINS] -> MIDI [B], the mean around the likeliest bin, and how likely it is to lie there [B]."""
    chances = torch.softmax(logits.float(), -1)
    best = chances.argmax(-1, keepdim=True)
    around = (best + torch.arange(-2, 3, device=logits.device)).clamp(0, PITCH_BINS - 1)
    near = chances.gather(-1, around)
    mean = (near * around).sum(-1) / near.sum(-1)
    return LOWEST_NOTE + mean / PER_SEMITONE, near.sum(-1).clamp(max=1)


def mixed(lesson: Lesson, share: float, *, generator: torch.Generator) -> Lesson:
    """Mixup (Zhang et al., 2018): a share of the sounds gets another one added, and its tags to the same part.

    The pitch of a mixture is that of neither: it is not asked for.
    """
    n, device = len(lesson.audio), lesson.audio.device
    u = torch.rand(2, n, generator=generator, device=generator.device).to(device)
    other = torch.randperm(n, generator=generator, device=generator.device).to(device)
    part = torch.where(u[0] < share, 0.5 * u[1] ** 2, 0.0)  # of the other: mostly little
    part = part * lesson.tagged * lesson.tagged[other]
    alone = part == 0
    return Lesson(
        audio=lesson.audio * (1 - part)[:, None] + lesson.audio[other] * part[:, None],
        tags=lesson.tags * (1 - part)[:, None] + lesson.tags[other] * part[:, None],
        tagged=lesson.tagged,
        pitch=torch.where(alone, lesson.pitch, torch.nan),
        tonal=torch.where(alone, lesson.tonal, torch.nan),
    )


def recoloured(levels: Tensor, share: float, *, generator: torch.Generator) -> Tensor:
    """A share of the sounds as other equipment would have brought them: a tilt and a bow of up to 12 dB over frequency,
    and a noise floor up to 40 dB higher; some lose all above 2 to 8 kHz, some all below 25 to 200 Hz.
    levels [B, 3, bands, N]."""
    b, _, bands, _ = levels.shape
    u = torch.rand(9, b, 1, generator=generator, device=generator.device).to(levels.device)
    x = torch.linspace(-1, 1, bands, device=levels.device)
    curve = (2 * u[0] - 1) * x + (2 * u[1] - 1) * torch.cos(math.pi * (x + 2 * u[2]))
    coloured = levels + 12 / RANGE_DB * curve[:, None, :, None]
    band = torch.arange(bands, device=levels.device)
    lost = ((band > bands - 36 * u[5]) & (u[6] < 0.3)) | ((band < 36 * u[7]) & (u[8] < 0.3))
    coloured = torch.where(lost[:, None, :, None], -1.0, coloured)
    coloured = coloured - coloured.amax((1, 2, 3), keepdim=True)
    floor = (-1 + 0.5 * u[4])[..., None, None]
    return torch.where((u[3] < share)[..., None, None], torch.maximum(coloured, floor), levels)


def hide_stripes(levels: Tensor, share: float, *, generator: torch.Generator) -> Tensor:
    """SpecAugment (Park et al., 2019): in a share of the sounds a stripe of up to a fifth of the frequencies, and in a
    share one of up to a fifth of the time, is silenced. levels [B, 3, bands, N]."""
    b, _, *sizes = levels.shape
    u = torch.rand(3, 2, b, generator=generator, device=generator.device).to(levels.device)
    stripes = []
    for axis, size in enumerate(sizes):
        width = u[0, axis] * size / 5
        start = u[1, axis] * (size - width)
        at = torch.arange(size, device=levels.device)
        inside = (at >= start[:, None]) & (at < (start + width)[:, None])
        stripes.append(inside & (u[2, axis] < share)[:, None])
    rows, frames = stripes
    return torch.where(rows[:, None, :, None] | frames[:, None, None, :], -1.0, levels)


def with_tones(lesson: Lesson, share: float, *, sample_rate: int, generator: torch.Generator) -> Lesson:
    """A share of new sounds at the end of the lesson: harmonic tones of known pitch, without tags."""
    n = round(share * len(lesson.audio))
    if n == 0:
        return lesson
    device = lesson.audio.device
    pitch = 24 + 84 * torch.rand(n, generator=generator, device=generator.device)
    audio = tones(pitch, samples=lesson.audio.shape[-1], sample_rate=sample_rate, generator=generator)
    return Lesson(
        audio=torch.cat([lesson.audio, audio.to(device)]),
        tags=torch.cat([lesson.tags, lesson.tags.new_zeros(n, lesson.tags.shape[1])]),
        tagged=torch.cat([lesson.tagged, lesson.tagged.new_zeros(n)]),
        pitch=torch.cat([lesson.pitch, pitch.to(device)]),
        tonal=torch.cat([lesson.tonal, torch.ones(n, device=device)]),
    )


def tones(pitch: Tensor, *, samples: int, sample_rate: int, generator: torch.Generator) -> Tensor:
    """Tones [B, samples] at MIDI pitches [B]: random partials (some with a weak first), slope, decay, end and noise."""
    n, device = len(pitch), pitch.device
    number = torch.arange(1, 25, device=device)
    u = torch.rand(6, n, 1, generator=generator, device=device)
    hz = 440 * 2 ** ((pitch[:, None] - 69) / 12) * number
    level = number ** -(0.2 + 2 * u[0]) * torch.rand(n, 24, generator=generator, device=device)
    level = level * (hz < 0.48 * sample_rate) * torch.where((u[1] < 0.3) & (number % 2 == 0), 0.1, 1.0)
    level[:, 0] += 0.2 * level.amax(1) * (u[2, :, 0] > 0.2)
    time = torch.arange(samples, device=device) / sample_rate
    phase = torch.rand(n, 24, generator=generator, device=device)
    audio = torch.zeros(n, samples, device=device)
    for k in range(24):
        audio += level[:, k, None] * torch.sin(2 * math.pi * (hz[:, k, None] * time + phase[:, k, None]))
    audio = audio * torch.exp(-time * (0.1 + 8 * u[3])) * (time < 0.15 + 2 * u[4])
    audio = audio / audio.abs().amax(1, keepdim=True).clamp(min=1e-6)
    noise = torch.randn(n, samples, generator=generator, device=device)
    return audio + noise * 10 ** (-(10 + 60 * u[5]) / 20)


def _mean(values: Tensor, weight: Tensor) -> Tensor:
    return (values * weight).sum() / weight.sum().clamp(min=1)
