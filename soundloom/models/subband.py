"""The sub-band RNN: sixteen samples at a time, one of each band, each step given all that came before.

    mel frames ──▶ predictor of each band, features ─┬─────────────────────────────┐
    label, pitch, words ─────────────────────────────┤                             ▼
    sound so far ──▶ filter bank ──▶ 16 bands ───────┴──▶ recurrent cell ──▶ mixtures of logistics around the prediction
                                                                                   │
    sound ◀── filter bank ◀── 16 values drawn ◀────────────────────────────────────┘

(Kalchbrenner et al., 2018, for the recurrent vocoder; Yu et al., 2020, for the bands.) With mel frames of a recording
it is a vocoder, whose predictors come from these (`bandspectrum`): it starts as a filter on noise and learns what that
lacks. Without them, which it learns too, it runs free and goes on where a recording ends; its predictors are then
fitted to the past (`subkernel`), so that a tone goes on as a tone. The bank is all but orthonormal, so the density over
the bands is one over the samples.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from soundloom import spectral
from soundloom.bank import Batch, BatchSpec, SoundBank
from soundloom.condition import AS_LEARNT, Condition, Manner
from soundloom.config import override
from soundloom.errors import ConfigError, ModelError
from soundloom.models import filterbank, subkernel
from soundloom.models.bandspectrum import LAGS, band_predictors
from soundloom.models.base import EVERYTHING, AbstractModel, Player, Update, random_crops
from soundloom.models.conditioning import ConditionEncoder
from soundloom.models.filterbank import BANDS
from soundloom.models.layers import Stack, random_phases
from soundloom.models.subkernel import TOLD, UNIT, ZERO, Floats, Past, Weights
from soundloom.models.subtensors import dithered, observed, packed, rows, surprise

PIECE = 8  # steps for which the condition stays the same
PIECE_SAMPLES = PIECE * BANDS
LONGEST_S = 60.0
RARE, OUTSIDE = 0.03, 0.1  # quantiles of the bounds of scales and of levels
REACH = 8  # frames by which the blocks and the interpolation look around


@dataclass(frozen=True)
class SubbandConfig:
    sample_rate: int = 44100
    channels: int = 1
    labels: tuple[str, ...] = ()
    hop_length: int = 256  # of the mel frames
    mels: int = 128
    width: int = 256  # of the recurrent cell
    head: int = 128
    mixtures: int = 3
    guide: int = 96  # channels of the condition
    steps: int = 2000
    batch: int = 12
    seconds: float = 0.75  # of a training crop
    stretch: int = 256  # steps through which a gradient flows
    learning_rate: float = 3e-3
    semitones: float = 1.0  # augmentation: pitch up or down by at most this
    gain_db: float = 6.0
    free: float = 0.1  # share of training sounds without mel frames
    nothing: float = 0.2  # of the sounds are learnt without any condition

    def __post_init__(self) -> None:
        if self.channels != 1:
            raise ConfigError(
                f"channels is {self.channels}: the sub-band RNN is mono so far; scan the bank with one channel"
            )
        if self.hop_length % PIECE_SAMPLES or self.hop_length & (self.hop_length - 1):
            raise ConfigError(f"hop_length is {self.hop_length}: it must be a power of two, {PIECE_SAMPLES} or more")
        if self.width % 16 or self.head % 16:
            raise ConfigError(f"width {self.width} and head {self.head}: both must be multiples of 16, as 256 and 128")
        if not 0 < self.free < 1:
            raise ConfigError(f"free is {self.free:g}: a share of sounds between 0 and 1, such as 0.1")

    @property
    def said(self) -> int:
        """Values the net says a step: for each band how far the prediction is trusted, and a mixture."""
        return BANDS * (1 + 3 * self.mixtures)


@dataclass
class SubbandState:
    """Where a stream stands: the past of the bands, the cell, the tail of the filter bank, the next step."""

    past: Past
    hidden: Floats  # [width]
    tail: Floats
    weights: Weights
    seed: int
    step: int = 0


class SubbandRNN(AbstractModel):
    family = "subband"
    Config = SubbandConfig
    conditions = EVERYTHING
    chaotic = True
    manners = frozenset({"temperature"})
    config: SubbandConfig

    def __init__(self, config: SubbandConfig) -> None:
        super().__init__()
        self.config = config
        c = config
        self.frames = Stack(c.mels, c.guide, blocks=2, causal=False, expansion=2)
        self.about = ConditionEncoder(len(c.labels), c.guide)
        # What stands in for mel frames where there are none, usual errors and levels included.
        usual = torch.tensor([-5.0, -2.0]).repeat_interleave(BANDS)
        self.no_frames = nn.Parameter(torch.cat([torch.zeros(c.guide), (usual + ZERO) / UNIT]))
        known = c.guide + 2 * BANDS
        self.cell = nn.GRU(TOLD + BANDS + known, c.width, batch_first=True)
        self.head = nn.Linear(c.width + TOLD + BANDS + known, c.head)
        self.say = nn.Linear(c.head, c.said)
        self.straight = nn.Linear(TOLD + BANDS + known, c.said, bias=False)
        self.bounds = nn.Linear(known, 4 * BANDS)
        nn.init.normal_(self.say.weight, std=0.02)
        nn.init.normal_(self.straight.weight, std=0.005)
        with torch.no_grad():  # it starts as the predictor on three scales of noise, the middle one the usual
            self.say.bias.zero_()
            # Its bounds start from what the spectrum says of errors and levels.
            self.bounds.bias.copy_(torch.tensor([-4.0, 1.0, -1.5, 1.0]).repeat_interleave(BANDS) - ZERO)
            at = torch.arange(BANDS)
            for row, column in ((0, 0), (1, 0), (2, 1), (3, 1)):
                self.bounds.weight[row * BANDS + at] = 0.0
                self.bounds.weight[row * BANDS + at, c.guide + column * BANDS + at] = UNIT
            scales = torch.linspace(-1.4, 0.2, c.mixtures) if c.mixtures > 1 else torch.tensor([-0.6])
            self.say.bias[-BANDS * c.mixtures :] = scales.repeat_interleave(BANDS)

    @classmethod
    def configure(cls, bank: SoundBank, settings: Sequence[str] = ()) -> SubbandConfig:
        hop = max(spectral.default_hop(bank.sample_rate) // 2, PIECE_SAMPLES)
        config = SubbandConfig(sample_rate=bank.sample_rate, labels=bank.labels, hop_length=hop)
        return override(config, settings)

    @property
    def n_fft(self) -> int:
        """Of the mel frames: 46 ms at 44.1 kHz."""
        return 4 * spectral.default_hop(self.config.sample_rate)

    @property
    def batch_spec(self) -> BatchSpec:
        c = self.config
        frames = max(2, round(c.seconds * c.sample_rate / c.hop_length))
        return random_crops(c, frames=frames)

    def players(self) -> Mapping[str, Player]:
        return {"subband": Player(tuple(self.parameters()), self.config.learning_rate)}

    # --- training -------------------------------------------------------------------------------------------------

    def train_step(self, batch: Batch, *, step: int, generator: torch.Generator, update: Update) -> dict[str, float]:
        """One update a stretch: the cell's state is carried on, the gradient is not."""
        condition = batch.condition.dropped(self.config.nothing, generator=generator)
        free = torch.rand(len(batch), generator=generator, device=generator.device) < self.config.free
        free = free.to(batch.audio.device)
        audio = dithered(batch.audio[:, 0], generator)
        bands = filterbank.analysed(audio)
        told, expected = observed(bands)
        mels = self._measured(audio)
        hidden, totals = None, torch.zeros(2, device=audio.device)
        starts = range(0, bands.shape[1], self.config.stretch)
        for start in starts:
            here = slice(start, min(start + self.config.stretch, bands.shape[1]))
            guide = self._guided_part(mels, condition, free, here)
            past = F.pad(bands, (0, 0, LAGS, 0))[:, here.start : here.stop + LAGS]
            nats, pinball, hidden = self._judged(past, told[:, here], expected[:, here], guide, hidden)
            nats, hidden = nats.mean(), hidden.detach()
            update("subband", nats + pinball)
            totals += torch.stack([nats.detach(), pinball.detach()])
        nats, pinball = (totals / len(starts)).tolist()
        return {"nats": nats, "bounds": pinball}

    @torch.no_grad()
    def validate(self, batch: Batch, *, generator: torch.Generator) -> dict[str, float]:
        """`score`: nats a sample, of 16 bits, given mel frames, within the sounds; `free`: without mel frames."""
        audio = dithered(batch.audio[:, 0], generator)
        bands = filterbank.analysed(audio)
        sounding = torch.arange(bands.shape[1], device=audio.device) * BANDS < batch.lengths[:, None]
        scores = {}
        for name, free in (("score", False), ("free", True)):
            which = torch.full((len(batch),), free, device=audio.device)
            nats = self.nats(bands, self._measured(audio), batch.condition, free=which).mean(-1)
            scores[name] = float((nats * sounding).sum() / sounding.sum().clamp_min(1))
        return scores

    def nats(self, bands: Tensor, mels: Tensor, condition: Condition, *, free: Tensor) -> Tensor:
        """How surprising each value of bands [B, N, 16] is given those before it, in nats, as of a cell of 16 bits.

        `mels` [B, frames, mels]; `free` [B]: which sounds are judged without their mel frames.
        """
        told, expected = observed(bands)
        guide = self.guided(mels, condition, free=free)
        return self._judged(F.pad(bands, (0, 0, LAGS, 0)), told, expected, guide, None)[0]

    def _judged(
        self, bands: Tensor, told: Tensor, expected: Tensor, guide: Tensor, hidden: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """bands [B, LAGS + N, 16], what is told and expected of the last N steps, `guide` [B, N / PIECE, G] -> nats
        [B, N, 16], how wrong the bounds are, a scalar, and the cell's state."""
        told, known, kept, pinball = self.kept(bands, told, expected, guide)
        said, hidden = self(told, known, hidden)
        return surprise(said, bands[:, LAGS:], kept), pinball, hidden

    def kept(
        self, bands: Tensor, told: Tensor, expected: Tensor, guide: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What the net is told [B, N, TOLD + 16] and knows [B, N, known]; what the past expects, the log-scale of what
        is off, and what the condition expects [B, N, 3 · 16]; and how wrong the bounds are, a scalar.

        A scale that follows the net's own draws, and a level that follows its own predictions, have nothing to hold
        them: they run away within a second. So the condition alone sets bounds, quantiles found by pinball losses
        (Koenker and Bassett, 1978).
        """
        n = told.shape[1]
        guide = guide.repeat_interleave(PIECE, 1)[:, :n]
        known, taps, alone = guide[..., : -LAGS * BANDS - 1], guide[..., -LAGS * BANDS - 1 : -1], guide[..., -1:]
        past = bands[:, :-1].unfold(1, LAGS, 1).flip(-1).transpose(-1, -2)  # [B, N, LAGS, 16], the newest first
        foreseen = (past * taps.reshape(*taps.shape[:2], LAGS, BANDS)).sum(2)
        log_scale, log_level = (told[..., i * BANDS : (i + 1) * BANDS] * UNIT - ZERO for i in (3, 4))
        low, high, least, most = self.bounds(known).chunk(4, -1)
        off = [
            (log_scale - low, RARE),
            (log_scale - high, 1 - RARE),
            (log_level - least, OUTSIDE),
            (log_level - most, 1 - OUTSIDE),
        ]
        pinball = sum((torch.maximum(part * x, (part - 1) * x).mean() for x, part in off), torch.zeros(()))
        scale = torch.minimum(torch.maximum(log_scale, low.detach()), high.detach())
        error = known[..., -2 * BANDS : -BANDS] * UNIT - ZERO
        scale = alone * scale + (1 - alone) * error
        seen = foreseen * torch.exp(-log_level)
        told = torch.cat([told, torch.copysign(torch.log1p(seen.abs()), seen)], -1)
        return told, known, torch.cat([alone * expected, scale, foreseen], -1), pinball

    def forward(self, told: Tensor, known: Tensor, hidden: Tensor | None) -> tuple[Tensor, Tensor]:
        """told [B, N, TOLD + 16], known [B, N, known] -> said [B, N, said], hidden [1, B, width]."""
        inputs = torch.cat([told, known], -1)
        h, hidden = self.cell(inputs, hidden)
        assert hidden is not None
        said: Tensor = self.say(F.relu(self.head(torch.cat([h, inputs], -1)))) + self.straight(inputs)
        return said, hidden

    def guided(self, frames: Tensor, condition: Condition, *, free: Tensor) -> Tensor:
        """log-mel frames [B, N, mels] -> what steers the cell [B, S, G], S pieces of `PIECE` steps: features, what the
        spectrum says of errors and levels, the taps of its predictors, and whether there are none. The sounds that are
        `free` [B] do without.
        """
        scale = self.config.hop_length // PIECE_SAMPLES
        guide = self.frames((frames + 8) / 4).transpose(1, 2)
        guide = F.interpolate(guide, scale_factor=scale, mode="linear", align_corners=False).transpose(1, 2)
        taps, logs = band_predictors(frames, sample_rate=self.config.sample_rate, n_fft=self.n_fft)
        heard = torch.cat([guide, (logs.repeat_interleave(scale, 1) + ZERO) / UNIT], -1)
        heard = F.pad(torch.cat([heard, taps.flatten(2).repeat_interleave(scale, 1)], -1), (0, 1))
        return torch.where(free[:, None, None], self._nothing(), heard) + self._asked(condition)

    def _nothing(self) -> Tensor:
        """What stands in for what mel frames say, [G]: no taps, and a one for "alone"."""
        return F.pad(F.pad(self.no_frames, (0, LAGS * BANDS)), (0, 1), value=1.0)

    def _asked(self, condition: Condition) -> Tensor:
        """What is asked of each sound, [B, 1, G]."""
        about: Tensor = self.about(condition)
        return F.pad(about, (0, 2 * BANDS + LAGS * BANDS + 1))[:, None]

    def _guided_part(self, frames: Tensor, condition: Condition, free: Tensor, steps: slice) -> Tensor:
        """`guided` of some steps only, from the frames that these see."""
        per = self.config.hop_length // BANDS
        first = max(0, steps.start // per - REACH)
        guide = self.guided(frames[:, first : -(-steps.stop // per) + REACH], condition, free=free)
        start = (steps.start - first * per) // PIECE
        return guide[:, start : start + -(-(steps.stop - steps.start) // PIECE)]

    def _measured(self, audio: Tensor) -> Tensor:
        """audio [B, T] -> log-mel frames [B, N, mels], of a window of 46 ms at 44.1 kHz."""
        c = self.config
        setting = {"sample_rate": c.sample_rate, "n_fft": self.n_fft, "hop_length": c.hop_length, "n_mels": c.mels}
        return spectral.log_mel(audio, **setting).transpose(1, 2)

    # --- use ------------------------------------------------------------------------------------------------------

    def weights(self) -> Weights:
        """What the kernel plays."""
        return packed(self.cell, head=self.head, say=self.say, straight=self.straight, bounds=self.bounds)

    def init_state(self, *, seed: int = 0) -> SubbandState:
        hidden = np.zeros(self.config.width, np.float32)
        return SubbandState(subkernel.no_past(), hidden, filterbank.no_tail(), self.weights(), seed)

    @torch.no_grad()
    def step(self, guide: Tensor, state: SubbandState, *, temperature: float = 1.0) -> tuple[Tensor, SubbandState]:
        """The next S pieces, steered by `guide` [1, S, guide] -> their 128 S samples [1, 1, T], `filterbank.DELAY`
        late, and the new state. Randomness is keyed by (seed, absolute step), so that any split gives the same."""
        n = guide.shape[1] * PIECE
        bands = np.empty((n, BANDS), np.float32)
        at = torch.arange(state.step, state.step + n)
        uniforms = random_phases(at, 2 * BANDS, seed=state.seed).numpy()
        steering = rows(guide[0])
        subkernel.generated(state.weights, state.past, state.hidden, steering, PIECE, uniforms, temperature, bands)
        audio = filterbank.synthesised_on(bands, state.tail)
        return torch.from_numpy(audio)[None, None].to(guide.device), replace(state, step=state.step + n)

    @torch.no_grad()
    def primed(self, audio: Tensor, guide: Tensor, state: SubbandState) -> SubbandState:
        """A stream that has heard the first S pieces of audio [1, 1, T] instead of playing them itself; `guide`
        [1, S, guide]."""
        padded = F.pad(audio[:, 0], (0, -audio.shape[-1] % BANDS))
        bands = rows(filterbank.analysed(padded)[0, : guide.shape[1] * PIECE])
        said, kept = (np.empty((len(bands), size), np.float32) for size in (self.config.said, 3 * BANDS))
        steering = rows(guide[0])
        subkernel.forced(state.weights, state.past, state.hidden, steering, PIECE, bands, said, kept)
        filterbank.synthesised_on(bands, state.tail)
        return replace(state, step=state.step + len(bands))

    def free_running(self, condition: Condition, pieces: int) -> Tensor:
        """What steers a stream without mel frames, [B, pieces, G]."""
        return (self._nothing() + self._asked(condition)).expand(-1, pieces, -1)

    def _played(self, guide: Tensor, state: SubbandState, samples: int, *, temperature: float = 1.0) -> Tensor:
        """guide [1, S, guide] -> the stream's next `samples` [1, 1, T], the delay taken off."""
        late = -(-filterbank.DELAY // PIECE_SAMPLES)
        guide = torch.cat([guide, guide[:, -1:].expand(-1, late, -1)], 1)
        audio, _ = self.step(guide, state, temperature=temperature)
        return audio[..., filterbank.DELAY : filterbank.DELAY + samples].clamp(-1, 1)

    @torch.no_grad()
    def resynthesise(self, audio: Tensor, *, transpose: float = 0.0, seed: int = 0) -> Tensor:
        """audio [B, 1, T] -> its mel frames played [B, 1, T].

        Raises:
            ModelError: `transpose` is not 0: mel frames hold no pitch that could be moved.
        """
        if transpose:
            raise ModelError(
                f"transpose is {transpose:g}: a sub-band RNN plays mel frames, which hold no pitch to move; a codec can"
            )
        samples = audio.shape[-1]
        padded = F.pad(audio[:, 0], (0, -samples % self.config.hop_length))
        known = torch.zeros(len(audio), dtype=torch.bool, device=audio.device)
        guide = self.guided(self._measured(padded), Condition.of(len(audio)).to(audio.device), free=known)
        return torch.cat(
            [self._played(row[None], self.init_state(seed=seed + i), samples) for i, row in enumerate(guide)]
        )

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
        """n new sounds [n, 1, T], running free; `seconds` None: 2 s."""
        seconds = 2.0 if seconds is None else seconds
        samples = self._samples(seconds)
        device = self.no_frames.device
        condition = (condition if condition is not None else Condition.of(n)).to(device)
        guide = self.free_running(condition, -(-samples // PIECE_SAMPLES))
        seeds = torch.randint(0, 2**31, (n,), generator=generator, device=generator.device).tolist()
        return torch.cat(
            [
                self._played(row[None], self.init_state(seed=seed), samples, temperature=manner.temperature)
                for row, seed in zip(guide, seeds, strict=True)
            ]
        )

    @torch.no_grad()
    def continue_from(self, audio: Tensor, *, seconds: float, generator: torch.Generator, manner: Manner) -> Tensor:
        """audio [1, 1, T] -> the `seconds` that follow it [1, 1, T']; T may be 0, to begin from nothing."""
        samples = self._samples(seconds)
        seed = int(torch.randint(0, 2**31, (1,), generator=generator, device=generator.device))
        condition = Condition.of(1).to(self.no_frames.device)
        heard = audio[..., -round(LONGEST_S * self.config.sample_rate) :].to(self.no_frames.device)
        # The last steps of the bands need samples that are not there yet: they are drawn, not heard.
        known = max(0, heard.shape[-1] - filterbank.DELAY) // PIECE_SAMPLES * PIECE_SAMPLES
        ahead = heard.shape[-1] - known
        state = self.init_state(seed=seed)
        if known:
            state = self.primed(heard, self.free_running(condition, known // PIECE_SAMPLES), state)
        pieces = -(-(samples + ahead) // PIECE_SAMPLES)
        made = self._played(
            self.free_running(condition, pieces), state, ahead + samples, temperature=manner.temperature
        )
        return made[..., ahead:]

    def _samples(self, seconds: float) -> int:
        if not 0 < seconds <= LONGEST_S or not math.isfinite(seconds):
            raise ModelError(f"seconds is {seconds:g}: it goes up to {LONGEST_S:g} at a time")
        return round(seconds * self.config.sample_rate)
