"""The flow: noise and a condition become a codec's code, along a path that can be walked in both directions.

    x₀ ~ N(0, 1)  ──▶  dx/dt = v(x, t, condition)  ──▶  x₁, a sequence of frames  ──▶  codec  ──▶  audio

Flow matching (Lipman et al., 2023; Liu et al., 2023): on the straight line x_t = (1 - t)·x₀ + t·x₁ from noise to a
sound, v learns the direction x₁ - x₀. The condition enters every block by adaptive normalisation (Peebles and Xie,
2023), and is left out at times, so that guidance can tell what it adds (Ho and Salimans, 2022). For some training
sounds a part is given and the rest is to be found: that is inpainting, and with the beginning given, continuation.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from soundloom.bank import Batch, BatchSpec, SoundBank
from soundloom.condition import AS_LEARNT, Condition, Manner
from soundloom.config import override
from soundloom.errors import ConfigError, ModelError
from soundloom.models import solver
from soundloom.models.base import EVERYTHING, AbstractModel, Player, Update, refuse_fewer, usual_longest
from soundloom.models.codec import CodecConfig
from soundloom.models.coded import CodeSpace, codec_for
from soundloom.models.conditioning import ConditionEncoder
from soundloom.models.layers import KERNEL, autocast, full_scale, keyed_dropout

FEWEST = 8  # training sounds
LONGEST_S = 4.0
TIME_FEATURES = 64
VALIDATION_TIMES = (0.1, 0.3, 0.5, 0.7, 0.9)
EXACT_STEPS = 32  # of the solver, on the way back and forth
RANKING_STEPS = 6
SILENT_WEIGHT = 0.3  # in the loss, of frames after a sound's end


@dataclass(frozen=True)
class FlowConfig:
    sample_rate: int = 44100
    channels: int = 1
    labels: tuple[str, ...] = ()
    codec: CodecConfig = field(default_factory=CodecConfig)
    codec_folder: str = ""  # where its weights were taken from; they are in the model since
    seconds: float = 1.0  # the longest sound it makes
    width: int = 256
    blocks: int = 8
    heads: int = 4
    patch: int = 2  # frames to a token
    solver: str = "midpoint"
    solver_steps: int = 8
    guidance: float = 2.0  # where nobody asks for another; chosen on digits and drums
    steps: int = 5000
    batch: int = 64
    learning_rate: float = 8e-4
    dropout: float = 0.1
    nothing: float = 0.12  # of the sounds are learnt without any condition
    infill: float = 0.2  # of the sounds are learnt with a part of them given

    def __post_init__(self) -> None:
        if self.channels != 1:
            raise ConfigError(f"channels is {self.channels}: the flow is mono; scan the bank with one channel")
        if not 0 < self.seconds <= 30:
            raise ConfigError(f"seconds is {self.seconds:g}: a flow makes sounds of up to 30 s")
        solver.method(self.solver)
        if self.width % (2 * self.heads):
            raise ConfigError(f"width is {self.width}: it must be a multiple of twice the {self.heads} heads")

    @property
    def frames(self) -> int:
        """Of the longest sound: whole tokens."""
        frames = self.seconds * self.codec.sample_rate / self.codec.hop_length
        return self.patch * max(4, math.ceil(frames / self.patch))


class FlowBlock(nn.Module):
    """Attention over all tokens, then convolution and a widened pointwise step over near ones; what the condition says
    shifts and scales what enters each and gates what leaves it."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.offset = nn.Parameter(torch.zeros(6, width))  # this block's own, beside what all share
        self.query_key_value = nn.Linear(width, 3 * width)
        self.attended = nn.Linear(width, width)
        self.depthwise = nn.Parameter(torch.randn(width, 1, KERNEL, 1) / math.sqrt(KERNEL))
        self.widen = nn.Linear(width, 3 * width)
        self.narrow = nn.Linear(3 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, modulation: Tensor) -> Tensor:
        """x [B, N, W], modulation [B, 6, W] -> [B, N, W]."""
        shift, scale, gate, shift2, scale2, gate2 = (modulation + self.offset)[:, :, None].unbind(1)
        y = _normed(x) * (1 + scale) + shift
        q, k, v = self.query_key_value(y).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x + gate * self.dropout(self.attended(y))
        y = _normed(x) * (1 + scale2) + shift2
        y = self._spread(F.pad(y, (0, 0, KERNEL // 2, KERNEL // 2)))
        out: Tensor = x + gate2 * self.dropout(self.narrow(F.gelu(self.widen(y))))
        return out

    def _spread(self, y: Tensor) -> Tensor:
        """The depthwise convolution, [B, N + KERNEL - 1, W] -> [B, N, W]."""
        if torch.is_grad_enabled():
            # As a two-dimensional convolution on a channels-last view, which has a fast kernel; Conv1d has none.
            seen = y.transpose(1, 2).unsqueeze(-1)
            return F.conv2d(seen, self.depthwise.to(y.dtype), groups=y.shape[-1]).squeeze(-1).transpose(1, 2)
        n, taps = y.shape[1] - KERNEL + 1, self.depthwise[:, 0, :, 0].to(y.dtype)
        total = y[:, :n] * taps[:, 0]
        for k in range(1, KERNEL):
            total.addcmul_(y[:, k : k + n], taps[:, k])
        return total


class Flow(AbstractModel):
    family = "flow"
    Config = FlowConfig
    conditions = EVERYTHING
    manners = frozenset({"guidance", "temperature", "steps", "solver", "best_of"})
    needs_codec = True
    validation_clips = 64
    config: FlowConfig

    def __init__(self, config: FlowConfig) -> None:
        super().__init__()
        self.config = config
        self.space = CodeSpace(config.codec)
        width, values = config.width, config.patch * self.space.size
        self.enter = nn.Linear(2 * values + config.patch, width)  # what is sought, what is given, and where it is
        self.place = nn.Parameter(0.02 * torch.randn(config.frames // config.patch, width))
        self.time = nn.Sequential(nn.Linear(TIME_FEATURES, width), nn.SiLU(), nn.Linear(width, width))
        self.condition = ConditionEncoder(len(config.labels), width)
        self.modulate = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))
        self.blocks = nn.ModuleList(FlowBlock(width, config.heads, config.dropout) for _ in range(config.blocks))
        self.last = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))
        self.leave = nn.Linear(width, values)
        for layer in (self.modulate[1], self.last[1], self.leave):
            assert isinstance(layer, nn.Linear)
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)
        with torch.no_grad():  # gates a little open, so that every part learns from the first step
            for block in self.blocks:
                assert isinstance(block, FlowBlock)
                block.offset[2::3].fill_(0.3)

    @classmethod
    def configure(cls, bank: SoundBank, settings: Sequence[str] = ()) -> FlowConfig:
        codec, folder, others = codec_for(bank, settings, family="flow")
        sounds = refuse_fewer(bank, FEWEST, family="flow")
        config = FlowConfig(
            sample_rate=bank.sample_rate,
            labels=bank.labels,
            codec=codec,
            codec_folder=folder,
            seconds=usual_longest(bank, most=LONGEST_S),
            patch=4 if codec.sample_rate / codec.hop_length > 75 else 2,
            batch=64 if sounds > 500 else 32,
        )
        return override(config, others)

    @property
    def pitch_range(self) -> tuple[float, float] | None:
        return self.space.pitch_range

    @property
    def batch_spec(self) -> BatchSpec:
        hop = self.config.codec.hop_length
        return BatchSpec(size=self.config.batch, samples=self.config.frames * hop, hop_length=hop, align="start")

    def players(self) -> Mapping[str, Player]:
        learnt = [parameter for parameter in self.parameters() if parameter.requires_grad]
        return {"flow": Player(learnt, learning_rate=self.config.learning_rate, betas=(0.9, 0.98), weight_decay=1e-2)}

    # --- training -------------------------------------------------------------------------------------------------

    def prepare(self, bank: SoundBank, *, fresh: bool) -> None:
        """Takes the codec's weights, and what is usual in the bank's codes."""
        self.space.prepare(bank, self.config.codec_folder, fresh=fresh)

    def train_step(self, batch: Batch, *, step: int, generator: torch.Generator, update: Update) -> dict[str, float]:
        sought = self.space.sequences(batch.clips, self.config.frames)
        given, mask = self._given(sought, generator)
        condition = batch.condition.dropped(self.config.nothing, generator=generator)
        draw = torch.randn(len(sought), generator=generator, device=generator.device).to(sought.device)
        t = torch.sigmoid(draw)  # most often half-way, where the direction is hardest to tell (Esser et al., 2024)
        noise = torch.randn(sought.shape, generator=generator, device=generator.device).to(sought)
        with keyed_dropout(generator):
            loss = self._matching(sought, noise, t, condition, given, mask)
        update("flow", loss)
        return {"matching": float(loss.detach())}

    @torch.no_grad()
    def validate(self, batch: Batch, *, generator: torch.Generator) -> dict[str, float]:
        sought = self.space.sequences(batch.clips, self.config.frames)
        noise = torch.randn(sought.shape, generator=generator, device=generator.device).to(sought)
        given, mask = torch.zeros_like(sought), torch.zeros_like(sought[..., :1])
        losses = [
            float(self._matching(sought, noise, sought.new_full((len(sought),), t), batch.condition, given, mask))
            for t in VALIDATION_TIMES
        ]
        return {"score": sum(losses) / len(losses), "early": losses[0], "late": losses[-1]}

    def _matching(
        self, sought: Tensor, noise: Tensor, t: Tensor, condition: Condition, given: Tensor, mask: Tensor
    ) -> Tensor:
        """The mean square error of the direction, over the frames to be found."""
        x = torch.lerp(noise, sought, t[:, None, None])
        velocity = self._velocity(x, t, self.condition(condition), given, mask)
        weight = torch.where(sought[..., -1:] > 0, 1.0, SILENT_WEIGHT) * (1 - mask)
        error = (velocity - (sought - noise)).square().mean(-1, keepdim=True)
        return (error * weight).sum() / weight.sum().clamp_min(1.0)

    def _given(self, sought: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Of some sounds all but a stretch is given, or their beginning: what is given, and where, 1 or 0 a frame."""
        n = sought.shape[1]
        draw = torch.rand(4, len(sought), generator=generator, device=generator.device).to(sought.device)
        some, to_the_end = draw[0] < self.config.infill, draw[1] < 0.5
        start = (draw[2] * n).long()
        end = torch.where(to_the_end, n, start + (draw[3] * (n - start)).long() + 1)
        at = torch.arange(n, device=sought.device)
        mask = (((at < start[:, None]) | (at >= end[:, None])) & some[:, None]).float()[..., None]
        return sought * mask, mask

    def _velocity(self, x: Tensor, t: Tensor, condition: Tensor, given: Tensor, mask: Tensor) -> Tensor:
        """x [B, N, size] at times t [B], an encoded condition [B, W], what is given -> the direction [B, N, size]."""
        patch = self.config.patch
        with autocast(x.device):
            h = self.enter(torch.cat([_tokens(part, patch) for part in (x, given, mask)], -1)) + self.place
            about = self.time(_time_features(t)) + condition
            modulation = self.modulate(about).unflatten(-1, (6, -1))
            for block in self.blocks:
                h = block(h, modulation)
            shift, scale = self.last(about)[:, None].chunk(2, -1)
            out = self.leave(_normed(h) * (1 + scale) + shift)
        velocity: Tensor = out.float().unflatten(-1, (patch, -1)).flatten(1, 2)
        return velocity

    # --- use ------------------------------------------------------------------------------------------------------

    def direction(self, condition: Condition, *, guidance: float = 1.0, given: Tensor | None = None,
                  mask: Tensor | None = None) -> solver.Velocity:  # fmt: skip
        """The flow of a condition as a function of x [B, N, size] and t [B]; `guidance` takes it beyond what the
        condition adds: v(nothing) + guidance · (v(condition) - v(nothing))."""
        device = self.place.device
        asked = self.condition(condition.to(device))
        shape = (len(condition), self.config.frames)
        given = torch.zeros(*shape, self.space.size, device=device) if given is None else given
        mask = torch.zeros(*shape, 1, device=device) if mask is None else mask
        if guidance == 1.0:
            return lambda x, t: self._velocity(x, t, asked, given, mask)
        nothing = self.condition(Condition.of(len(condition)).to(device))
        both, given2, mask2 = torch.cat([asked, nothing]), given.repeat(2, 1, 1), mask.repeat(2, 1, 1)

        def guided(x: Tensor, t: Tensor) -> Tensor:
            with_it, without = self._velocity(x.repeat(2, 1, 1), t.repeat(2), both, given2, mask2).chunk(2)
            return without + guidance * (with_it - without)

        return guided

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
        """n new sounds [n, 1, T], each silent after its end. With `best_of`, so many are drawn for each and the most
        likely one is kept."""
        if seconds is not None and not 0 < seconds <= self.config.seconds:
            raise ModelError(f"seconds is {seconds:g}: this model makes sounds of up to {self.config.seconds:g} s")
        if condition is None:  # nothing to be guided by, which would cost as much again
            condition, manner = Condition.of(n), replace(manner, guidance=1.0)
        rows = torch.arange(n).repeat_interleave(manner.best_of)
        asked = condition[rows.to(condition.pitch.device)]
        noise = self._noise(len(asked), generator) * manner.temperature
        found = self._forward(noise, asked, manner)
        if manner.best_of > 1:
            likely = self.log_likelihood(found, asked, generator=generator).reshape(n, -1)
            best = likely.argmax(1) + torch.arange(n, device=likely.device) * manner.best_of
            found = found[best]
        seed = int(torch.randint(0, 2**31, (1,), generator=generator, device=generator.device))
        audio = self.space.decoded(found, pitch=condition.pitch.to(found.device), seed=seed)
        if seconds is not None:
            audio = audio[..., : math.ceil(seconds * self.config.sample_rate)]
        return full_scale(audio)

    def _noise(self, n: int, generator: torch.Generator) -> Tensor:
        shape = (n, self.config.frames, self.space.size)
        return torch.randn(shape, generator=generator, device=generator.device).to(self.place.device)

    def _forward(
        self,
        noise: Tensor,
        condition: Condition,
        manner: Manner,
        *,
        given: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        guidance = self.config.guidance if manner.guidance is None else manner.guidance
        steps = manner.steps or self.config.solver_steps
        velocity = self.direction(condition, guidance=guidance, given=given, mask=mask)
        method = solver.method(manner.solver or self.config.solver)
        with autocast(noise.device):  # around all steps, so that weights are cast once and not at every one
            return solver.follow(velocity, noise, start=0.0, end=1.0, steps=steps, method=method)

    @torch.no_grad()
    def invert(self, sequence: Tensor, *, steps: int = EXACT_STEPS, method: solver.Method = "midpoint") -> Tensor:
        """A sound as a sequence [B, N, size] -> the noise that becomes it, by the flow without a condition."""
        velocity = self.direction(Condition.of(len(sequence)))
        return solver.follow(velocity, sequence, start=1.0, end=0.0, steps=steps, method=method)

    @torch.no_grad()
    def vary(
        self, audio: Tensor, n: int, *, strength: float, generator: torch.Generator, manner: Manner = AS_LEARNT
    ) -> tuple[Tensor, Tensor, Tensor]:
        """A recording [1, 1, T] -> n sounds like it [n, 1, T'], the sound made again from its own noise [1, 1, T'], and
        as the codec alone has it.

        The noise of the sound is mixed with new noise, as far as `strength` says: 0 is the sound made again, 1 a new
        one. A sound longer than the model's is cut.
        """
        sequence = self.space.packed(self.space.heard(audio[0]), self.config.frames)[None]
        steps = manner.steps or EXACT_STEPS
        own = self.invert(sequence, steps=steps, method=solver.method(manner.solver or self.config.solver))
        noise = math.cos(strength * math.pi / 2) * own + math.sin(strength * math.pi / 2) * self._noise(n, generator)
        made = self._forward(torch.cat([own, noise]), Condition.of(n + 1), replace(manner, guidance=1.0, steps=steps))
        seed = int(torch.randint(0, 2**31, (1,), generator=generator, device=generator.device))
        sounds = self.space.decoded(torch.cat([made, sequence]), seed=seed)
        return full_scale(sounds[1:-1]), sounds[:1], sounds[-1:]

    @torch.no_grad()
    def fill(
        self, audio: Tensor, *, start_s: float, end_s: float, generator: torch.Generator, manner: Manner = AS_LEARNT
    ) -> Tensor:
        """A recording [1, 1, T] -> the same with what lies between two moments made anew [1, 1, T']."""
        sequence = self.space.packed(self.space.heard(audio[0]), self.config.frames)[None]
        at = torch.arange(self.config.frames, device=sequence.device) / self.space.frame_rate
        mask = ((at < start_s) | (at >= end_s)).float()[None, :, None]
        noise = self._noise(1, generator) * manner.temperature
        manner = replace(manner, guidance=1.0)  # there is no condition to be guided by
        made = self._forward(noise, Condition.of(1), manner, given=sequence * mask, mask=mask)
        made = torch.where(mask > 0, sequence, made)
        seed = int(torch.randint(0, 2**31, (1,), generator=generator, device=generator.device))
        return self.space.decoded(made, seed=seed)

    def log_likelihood(
        self, sequence: Tensor, condition: Condition, *, generator: torch.Generator, steps: int = RANKING_STEPS
    ) -> Tensor:
        """Nats per value of sounds as sequences [B, N, size], under the condition [B]."""
        nats, _ = solver.log_likelihood(self.direction(condition), sequence, steps=steps, generator=generator)
        return nats / sequence[0].numel()


def _tokens(x: Tensor, patch: int) -> Tensor:
    """Frames [B, N, size] -> tokens [B, N / patch, patch * size]."""
    return x.reshape(len(x), -1, patch * x.shape[-1])


def _normed(x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:])


def _time_features(t: Tensor) -> Tensor:
    rates = torch.exp(torch.linspace(0, math.log(200), TIME_FEATURES // 2, device=t.device))
    return torch.cat([torch.sin(t[:, None] * rates), torch.cos(t[:, None] * rates)], -1)
