"""WaveNet: one sample at a time, each given all that came before it.

    mel frames ──▶ blocks ──┬──▶ linear predictor: what is expected, and how far off it usually is ──┐
    label, pitch, words ────┤                                                                        │
                            ▼ per layer, four times a frame                                          ▼
    the last sample ──▶ dilated gated convolutions 1, 2, 4 … 512, three times ──▶ a mixture of logistics around it

(van den Oord et al., 2016.) With mel frames of a recording it is a vocoder; without them, which it learns too, it runs
free and goes on where a recording ends. What it says is relative to a linear predictor computed from the mel frames
(`predictor`), so it starts as a filter on noise and learns what that lacks. `wavekernel` plays it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from soundloom import spectral
from soundloom.bank import Batch, BatchSpec, SoundBank
from soundloom.condition import AS_LEARNT, Condition, Manner
from soundloom.config import override
from soundloom.errors import ConfigError, ModelError
from soundloom.models import wavekernel
from soundloom.models.base import EVERYTHING, AbstractModel, Player, Update, random_crops
from soundloom.models.conditioning import ConditionEncoder
from soundloom.models.gate import gated
from soundloom.models.layers import Stack, autocast
from soundloom.models.logistics import STEP, drawn, log_probability, quantised
from soundloom.models.predictor import SUBFRAMES, Prediction, measured, predicted_from
from soundloom.models.tiles import tiled

FEATURES = 3  # of each moment: how far off the last prediction was, the last sample, the prediction of this one
LONGEST_S = 60.0
TOGETHER = 256  # pieces of sound whose conditions are laid out for the kernel at once
RESYNTHESIS_TEMPERATURE = 1.0


@dataclass(frozen=True)
class WaveNetConfig:
    sample_rate: int = 16000
    channels: int = 1
    labels: tuple[str, ...] = ()
    hop_length: int = 256  # of the mel frames
    mels: int = 128
    width: int = 64  # channels of the residual stream, of the gates and of the skips
    cycles: int = 3  # each of dilations 1, 2, 4 …
    dilations: int = 10
    mixtures: int = 4
    order: int = 128  # of the linear predictor: more than the period of a voice, so that it hums by itself
    guide: int = 96  # channels of the condition
    steps: int = 5000
    batch: int = 2
    seconds: float = 0.4  # of a training crop
    learning_rate: float = 3e-3
    semitones: float = 1.0  # augmentation: pitch up or down by at most this
    gain_db: float = 6.0
    free: float = 0.1  # share of training sounds without mel frames
    nothing: float = 0.2  # of the sounds are learnt without any condition

    def __post_init__(self) -> None:
        if self.channels != 1:
            raise ConfigError(f"channels is {self.channels}: WaveNet is mono so far; scan the bank with one channel")
        if self.hop_length % SUBFRAMES or self.hop_length & (self.hop_length - 1):
            raise ConfigError(f"hop_length is {self.hop_length}: it must be a power of two, {SUBFRAMES} or more")
        if self.width % 32:
            raise ConfigError(f"width is {self.width}: it must be a multiple of 32, as 64 is")
        if not 1 <= self.dilations <= 12 or self.cycles < 1:
            raise ConfigError(
                f"cycles {self.cycles} and dilations {self.dilations}: take 1 or more cycles of 1 to 12 dilations"
            )
        if not 0 < self.free < 1:
            raise ConfigError(f"free is {self.free:g}: a share of sounds between 0 and 1, such as 0.1")

    @property
    def layers(self) -> int:
        return self.cycles * self.dilations

    @property
    def reach(self) -> int:
        """How many samples a prediction is made from: the layers reach back over so many moments, the first of which is
        told of the sample before it and of how far the prediction of that one was off."""
        return self.cycles * ((1 << self.dilations) - 1) + 1 + self.order + 1

    @property
    def piece(self) -> int:
        """Samples for which the condition stays the same."""
        return self.hop_length // SUBFRAMES


class Layer(nn.Module):
    """A dilated gated convolution of two taps: the newest sample's and that `dilation` samples before it."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.dilation = dilation
        self.taps = nn.Linear(2 * width, 2 * width, bias=False)  # [past, newest] -> [tanh, sigmoid]
        nn.init.normal_(self.taps.weight, std=1 / math.sqrt(2 * width))

    def forward(self, h: Tensor, place: Tensor) -> Tensor:
        """h [B, T, C] and what the condition adds [B, S, 2C] -> the gated values [B, T, C]."""
        past = F.pad(h[:, : max(0, h.shape[1] - self.dilation)], (0, 0, min(self.dilation, h.shape[1]), 0))
        return gated(self.taps(torch.cat([past, h], -1)), place)


class WaveNet(AbstractModel):
    family = "wavenet"
    conditions = EVERYTHING
    chaotic = True
    Config = WaveNetConfig
    manners = frozenset({"temperature"})
    config: WaveNetConfig

    def __init__(self, config: WaveNetConfig) -> None:
        super().__init__()
        self.config = config
        c = config.width
        self.frames = Stack(config.mels, config.guide, blocks=2, causal=False, expansion=2)
        self.about = ConditionEncoder(len(config.labels), config.guide)
        self.place = nn.Linear(config.guide, config.layers * 2 * c)
        self.enter = nn.Linear(FEATURES, c)
        self.layers = nn.ModuleList(Layer(c, 2 ** (i % config.dilations)) for i in range(config.layers))
        self.residuals = nn.ModuleList(nn.Linear(c, c) for _ in range(config.layers - 1))  # the last leads nowhere
        self.skip = nn.Linear(config.layers * c, c)
        self.leave = nn.Linear(c, c)
        self.say = nn.Linear(c, 3 * config.mixtures)
        for residual in self.residuals:
            assert isinstance(residual, nn.Linear)
            nn.init.normal_(residual.weight, std=0.3 / math.sqrt(c))
            nn.init.zeros_(residual.bias)
        nn.init.normal_(self.skip.weight, std=1 / math.sqrt(config.layers * c) * 2)
        nn.init.kaiming_normal_(self.leave.weight, nonlinearity="relu")
        nn.init.normal_(self.say.weight, std=0.03)
        with torch.no_grad():
            self.say.bias.zero_()
            self.say.bias[2 * config.mixtures :] = torch.linspace(-2.5, -0.3, config.mixtures)
        # What stands in for mel frames where there are none: a condition, a predictor, its error and the level.
        self.no_frames = nn.Parameter(torch.zeros(config.guide))
        self.no_taps = nn.Parameter(0.9 * F.one_hot(torch.tensor(0), config.order).float())
        self.no_levels = nn.Parameter(torch.tensor([math.log(0.03), math.log(0.1)]))

    @classmethod
    def configure(cls, bank: SoundBank, settings: Sequence[str] = ()) -> WaveNetConfig:
        config = WaveNetConfig(
            sample_rate=bank.sample_rate, labels=bank.labels, hop_length=spectral.default_hop(bank.sample_rate)
        )
        return override(config, settings)

    @property
    def batch_spec(self) -> BatchSpec:
        c = self.config
        frames = max(2, round(c.seconds * c.sample_rate / c.hop_length))
        return random_crops(c, frames=frames)

    def players(self) -> Mapping[str, Player]:
        return {"wavenet": Player(tuple(self.parameters()), self.config.learning_rate)}

    # --- training -------------------------------------------------------------------------------------------------

    def train_step(self, batch: Batch, *, step: int, generator: torch.Generator, update: Update) -> dict[str, float]:
        condition = batch.condition.dropped(self.config.nothing, generator=generator)
        free = torch.rand(len(batch), generator=generator, device=generator.device) < self.config.free
        audio = quantised(batch.audio[:, 0])
        nats = -self.log_likelihood(audio, condition, free=free.to(audio.device)).mean()
        update("wavenet", nats)
        return {"nats": float(nats.detach())}

    @torch.no_grad()
    def validate(self, batch: Batch, *, generator: torch.Generator) -> dict[str, float]:
        """`score`: nats a sample, of 16 bits, given mel frames, within the sounds; `free`: without mel frames."""
        audio = quantised(batch.audio[:, 0])
        sounding = torch.arange(audio.shape[1], device=audio.device) < batch.lengths[:, None]
        scores = {}
        for name, free in (("score", False), ("free", True)):
            which = torch.full((len(batch),), free, device=audio.device)
            nats = -self.log_likelihood(audio, batch.condition, free=which)
            scores[name] = float((nats * sounding).sum() / sounding.sum().clamp_min(1))
        return scores

    def log_likelihood(self, audio: Tensor, condition: Condition, *, free: Tensor) -> Tensor:
        """audio [B, T] on the 16-bit grid, T a multiple of the hop -> the log-probability of each sample, nats [B, T].

        `free` [B]: which sounds are judged without their mel frames.
        """
        with autocast(audio.device):
            guide, prediction = self.guided(self._measured(audio), condition, free=free)
            parameters, expected, error = self.judged(audio, guide, prediction)
        return log_probability(parameters, (audio - expected) / error, STEP / error)

    def judged(self, audio: Tensor, guide: Tensor, prediction: Prediction) -> tuple[Tensor, Tensor, Tensor]:
        """What is said of each sample given those before it: the mixture [B, T, 3K], in units of the error and around
        what is expected; what is expected, and the error, [B, T]."""
        expected, error, features = self._features(audio, prediction)
        return self(features, self.place(guide)), expected, error

    def forward(self, features: Tensor, place: Tensor) -> Tensor:
        """features [B, T, FEATURES], conditions [B, S, layers * 2C] with S pieces of T / S samples -> [B, T, 3K]."""
        h, every = self.enter(features), list[Tensor]()
        for i, here in enumerate(place.chunk(len(self.layers), -1)):
            every.append(self.layers[i](h, here))
            if i < len(self.residuals):
                h = h + self.residuals[i](every[-1])
        said: Tensor = self.say(F.relu(self.leave(F.relu(self.skip(torch.cat(every, -1))))))
        return said

    def guided(self, frames: Tensor, condition: Condition, *, free: Tensor) -> tuple[Tensor, Prediction]:
        """log-mel frames [B, N, mels] -> the condition [B, S, guide] and the predictors of S = N * SUBFRAMES pieces;
        of the sounds that are `free` [B], those that need no frames."""
        c = self.config
        guide = self.frames((frames + 8) / 4).float()
        guide = F.interpolate(guide.transpose(1, 2), scale_factor=SUBFRAMES, mode="linear", align_corners=False)
        guide = torch.where(free[:, None, None], self.no_frames, guide.transpose(1, 2))
        known = predicted_from(frames, sample_rate=c.sample_rate, hop_length=c.hop_length, order=c.order)
        usual = torch.exp(self.no_levels).clamp_min(STEP)
        prediction = Prediction(
            taps=torch.where(free[:, None, None], self.no_taps, known.taps),
            error=torch.where(free[:, None], usual[0], known.error),
            level=torch.where(free[:, None], usual[1], known.level),
        )
        return guide + self.about(condition)[:, None].float(), prediction

    def _measured(self, audio: Tensor) -> Tensor:
        c = self.config
        return measured(audio, sample_rate=c.sample_rate, hop_length=c.hop_length, n_mels=c.mels)

    def _features(self, audio: Tensor, prediction: Prediction) -> tuple[Tensor, Tensor, Tensor]:
        """audio [B, T] -> what is expected [B, T], the usual error [B, T], and what the network is told [B, T, 3]."""
        order, pieces = self.config.order, prediction.taps.shape[1]
        past = F.pad(audio, (order, 0))[:, :-1].unfold(1, order, 1).flip(-1)  # [B, T, order], the newest first
        expected = torch.einsum("bspk,bsk->bsp", past.reshape(len(audio), pieces, -1, order), prediction.taps).flatten(
            1
        )
        width = audio.shape[1] // pieces
        error, level = (x.repeat_interleave(width, 1) for x in (prediction.error, prediction.level))
        off = F.pad((audio - expected) / error, (1, 0))[:, :-1]
        told = torch.stack([off, past[..., 0] / level, expected / level], -1)
        return expected, error, torch.asinh(told)

    # --- use ------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def resynthesise(self, audio: Tensor, *, transpose: float = 0.0, seed: int = 0) -> Tensor:
        """Sounds [B, 1, T] played again from their mel frames alone."""
        if transpose != 0:
            raise ModelError(
                f"transpose is {transpose:g}: mel frames have no pitch to move; a codec or DDSP transposes"
            )
        if audio.shape[-1] == 0:
            raise ModelError("there is no sound to play again: the audio has no samples")
        generator, made = torch.Generator().manual_seed(seed), []
        for sound in audio[:, 0]:
            guide, prediction = self.guided(self._measured(sound[None]), self._anything(sound), free=_no(sound))
            made.append(self._played(guide, prediction, len(sound), generator, RESYNTHESIS_TEMPERATURE)[0])
        return torch.stack(made)[:, None].to(audio)

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
        """n new sounds [n, 1, T], one after the other; `seconds` None: as long as what it was trained on."""
        seconds = self.config.seconds if seconds is None else seconds
        if not 0 < seconds <= LONGEST_S:
            raise ModelError(f"seconds is {seconds:g}: a WaveNet makes sounds of up to {LONGEST_S:g} s")
        samples = max(1, round(seconds * self.config.sample_rate))
        condition = Condition.of(n) if condition is None else condition
        made = []
        for i in range(n):
            guide, prediction = self._unguided(condition[i : i + 1])
            made.append(self._played(guide, prediction, samples, generator, manner.temperature)[0])
        return torch.stack(made)[:, None].to(self.no_frames.device)

    @torch.no_grad()
    def continue_from(self, audio: Tensor, *, seconds: float, generator: torch.Generator, manner: Manner) -> Tensor:
        """audio [1, 1, T] -> the `seconds` that follow [1, 1, T']: the recording is heard first, as far back as the
        network reaches."""
        if not seconds > 0:
            raise ModelError(f"seconds is {seconds:g}: give how long to go on, more than 0")
        heard = audio[0, 0, -self.config.reach :].cpu()
        guide, prediction = self._unguided(Condition.of(1))
        samples = max(1, round(seconds * self.config.sample_rate))
        made = self._played(guide, prediction, len(heard) + samples, generator, manner.temperature, given=heard)[0]
        return made[None, None, len(heard) :].to(audio)

    @torch.no_grad()
    def slowly(self, guide: Tensor, prediction: Prediction, uniforms: Tensor, *, temperature: float = 1.0) -> Tensor:
        """What the kernel does, by running the whole network anew for each sample: what it is held against.

        guide [1, S, guide] and its predictors, uniforms [T, 2], T up to S pieces -> sound [1, T].
        """
        piece = self.config.piece
        sound = torch.zeros(1, guide.shape[1] * piece)
        for t in range(len(uniforms)):
            low, high = max(0, (t - self.config.reach) // piece), t // piece + 1
            near = Prediction(
                prediction.taps[:, low:high], prediction.error[:, low:high], prediction.level[:, low:high]
            )
            window, here = sound[:, low * piece : high * piece], t - low * piece
            parameters, expected, error = (x[:, here] for x in self.judged(window, guide[:, low:high], near))
            value = drawn(parameters, uniforms[t : t + 1], temperature=temperature)
            sound[:, t] = quantised(expected + error * value)
        return sound[:, : len(uniforms)]

    def _played(
        self,
        guide: Tensor,
        prediction: Prediction,
        samples: int,
        generator: torch.Generator,
        temperature: float,
        *,
        given: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """`samples` samples [T] by the kernel and what was said of each [T, 3K]. The first ones may be `given`. Of one
        piece alone (S = 1) the sound is all of it."""
        weights = self.packed()
        stream = wavekernel.begun(weights, self.config.order)
        together = TOGETHER * self.config.piece
        known = torch.full((samples,), wavekernel.DRAWN)
        if given is not None:
            known[: len(given)] = quantised(given)
        sounds, words = [], []
        for start in range(0, samples, together):
            first = 0 if guide.shape[1] == 1 else start // self.config.piece
            course = self._course(guide[:, first : first + TOGETHER], prediction, first)
            now = known[start : start + together]
            uniforms = wavekernel.uniform_numbers(len(now), generator)
            sound, said, stream = wavekernel.play(
                weights, course, stream, uniforms, piece=self.config.piece, temperature=temperature, given=now.numpy()
            )
            sounds.append(torch.from_numpy(sound))
            words.append(torch.from_numpy(said))
        return torch.cat(sounds), torch.cat(words)

    def packed(self) -> wavekernel.Weights:
        """The weights as the kernel reads them."""
        c = self.config.width
        taps, dilations, residuals = list[wavekernel.Floats](), list[int](), list[nn.Linear]()
        for layer in self.layers:
            assert isinstance(layer, Layer)
            taps.append(wavekernel.rows(layer.taps.weight))
            dilations.append(layer.dilation)
        for residual in self.residuals:
            assert isinstance(residual, nn.Linear)
            residuals.append(residual)
        nowhere = torch.zeros(c, c, device=self.skip.weight.device)
        ways = zip([*(r.weight for r in residuals), nowhere], self.skip.weight.chunk(len(taps), 1), strict=True)
        return wavekernel.Weights(
            enter=wavekernel.rows(self.enter.weight),
            enter_bias=wavekernel.rows(self.enter.bias),
            past=np.stack([tiled(both[:c]) for both in taps]),
            newest=np.stack([tiled(both[c:]) for both in taps]),
            onward=np.stack([tiled(wavekernel.rows(torch.cat(pair))) for pair in ways]),
            onward_bias=np.stack([*(wavekernel.rows(r.bias) for r in residuals), wavekernel.rows(nowhere[0])]),
            skip_bias=wavekernel.rows(self.skip.bias),
            leave=wavekernel.rows(self.leave.weight),
            leave_bias=wavekernel.rows(self.leave.bias),
            say=wavekernel.rows(self.say.weight),
            say_bias=wavekernel.rows(self.say.bias),
            dilations=np.array(dilations, np.int64),
        )

    def _course(self, guide: Tensor, prediction: Prediction, first: int) -> wavekernel.Course:
        """guide [1, S, guide] and the predictors from piece `first` on -> what the kernel is given."""
        some = slice(first, first + guide.shape[1])
        return wavekernel.Course(
            place=self.place(guide)[0].reshape(guide.shape[1], len(self.layers), -1).cpu().numpy(),
            taps=prediction.taps[0, some].flip(-1).contiguous().cpu().numpy(),
            error=prediction.error[0, some].contiguous().cpu().numpy(),
            level=prediction.level[0, some].contiguous().cpu().numpy(),
        )

    def free_course(self, condition: Condition) -> wavekernel.Course:
        """What the kernel is given for a sound without mel frames, however long it is."""
        guide, prediction = self._unguided(condition)
        return self._course(guide, prediction, 0)

    def _unguided(self, condition: Condition) -> tuple[Tensor, Prediction]:
        """The one piece of condition and predictor that holds for a whole sound without mel frames."""
        silence = torch.zeros(1, 1, self.config.mels, device=self.no_frames.device)
        guide, prediction = self.guided(silence, condition.to(silence.device), free=~_no(silence))
        return guide[:, :1], Prediction(prediction.taps[:, :1], prediction.error[:, :1], prediction.level[:, :1])

    def _anything(self, near: Tensor) -> Condition:
        return Condition.of(1).to(near.device)


def _no(near: Tensor) -> Tensor:
    return torch.zeros(1, dtype=torch.bool, device=near.device)
