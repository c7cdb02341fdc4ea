"""The RNN: a codec's frames one after the other, each foretold from all before it; for as long as one likes.

    last frame, condition ──▶ gated units, which remember ──▶ what the next frame may be ──▶ drawn ──▶ codec ──▶ audio
        ▲                                                                                      │
        └──────────────────────────────────────────────────────────────────────────────────────┘

One-shots and notes are learnt from their beginning to their end, which is foretold too. Long recordings are walked
through crop by crop, with the hidden state carried from one crop to the next but no gradient (Williams and Peng, 1990).
In use the loop is compiled, and what it keeps is a state of a few kilobytes, however long the sound.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from soundloom.bank import Batch, BatchSpec, SoundBank
from soundloom.condition import AS_LEARNT, Condition, Manner
from soundloom.config import override
from soundloom.errors import ConfigError, ModelError
from soundloom.models import framekernel, seam
from soundloom.models.base import EVERYTHING, AbstractModel, Code, Player, Update, refuse_fewer, usual_longest
from soundloom.models.codec import CodecConfig, CodecState
from soundloom.models.coded import CodeSpace, Known, codec_for
from soundloom.models.conditioning import ConditionEncoder
from soundloom.models.framekernel import Floats
from soundloom.models.layers import full_scale, hertz, keyed_dropout
from soundloom.models.nextframe import BESIDE, FEATURES, NextFrame, features, told
from soundloom.models.walk import Onward, Walks, onward

FEWEST = 8  # training sounds
FEWEST_PIECES = 2  # of long recordings
LONGEST_S = 6.0
ASKED = 64  # numbers in which the network is told the condition, with every frame
BLOCK = 64  # frames decoded at a time: fewer are slower, more wait longer
EDGE = 3  # last frames of a recording, whose windows hang over its end, are made anew
WARM = 96  # last frames of a recording that the decoder hears again before it goes on


@dataclass(frozen=True)
class RNNConfig:
    sample_rate: int = 44100
    channels: int = 1
    labels: tuple[str, ...] = ()
    codec: CodecConfig = field(default_factory=CodecConfig)
    codec_folder: str = ""  # where its weights were taken from; they are in the model since
    endless: bool = False  # learnt from long recordings: its sounds have no end
    seconds: float = 1.0  # the longest sound it makes; of an endless one, the usual
    crop_s: float = 2.0  # of a long recording, between two steps of the state that is carried
    width: int = 256
    layers: int = 1
    mixture: int = 4
    steps: int = 5000
    batch: int = 32
    learning_rate: float = 2e-3
    feedback_noise: float = 0.1  # on the latents that it is fed back in training, in units of the bank's spread
    dropout: float = 0.1
    nothing: float = 0.2  # of the sounds are learnt without any condition

    def __post_init__(self) -> None:
        if self.channels != 1:
            raise ConfigError(f"channels is {self.channels}: the rnn is mono; scan the bank with one channel")
        if not 0 < self.seconds <= 30:
            raise ConfigError(f"seconds is {self.seconds:g}: an rnn learns sounds of up to 30 s, or endless ones")
        if self.layers < 1 or self.mixture < 1:
            raise ConfigError(f"layers is {self.layers} and mixture {self.mixture}: both start at 1")

    @property
    def frames(self) -> int:
        """Of the longest sound."""
        return max(4, math.ceil(self.seconds * self.codec.sample_rate / self.codec.hop_length))

    @property
    def crop(self) -> int:
        """Frames of a training sequence."""
        return (
            max(4, round(self.crop_s * self.codec.sample_rate / self.codec.hop_length)) if self.endless else self.frames
        )


@dataclass
class RNNState:
    """Where a sound stands. `at` is the number of the next frame; the rest is how it is played."""

    memory: framekernel.Memory
    codec: CodecState
    at: int
    seed: int
    temperature: float
    weights: framekernel.Weights
    asked: Floats  # [3H], what the condition adds to every frame


class RNN(AbstractModel):
    family = "rnn"
    Config = RNNConfig
    conditions = EVERYTHING
    manners = frozenset({"temperature"})
    needs_codec = True
    validation_clips = 64
    config: RNNConfig

    def __init__(self, config: RNNConfig) -> None:
        super().__init__()
        self.config = config
        self.space = CodeSpace(config.codec)
        latent, width = config.codec.latent, config.width
        self.condition = ConditionEncoder(len(config.labels), ASKED)
        self.gru = nn.GRU(latent + FEATURES + ASKED, width, config.layers, batch_first=True)
        self.dropout = nn.Dropout(config.dropout)
        self.next = NextFrame(width, latent, config.mixture)
        self.walks = Walks(config.batch if config.endless else 0, config.layers, width)
        self._told: dict[int, Tensor] = {}
        self._ways: dict[int, Onward] = {}
        self._bank: SoundBank | None = None

    @classmethod
    def configure(cls, bank: SoundBank, settings: Sequence[str] = ()) -> RNNConfig:
        codec, folder, others = codec_for(bank, settings, family="rnn")
        endless = bank.kind == "long"
        sounds = refuse_fewer(bank, FEWEST_PIECES if endless else FEWEST, family="rnn")
        config = RNNConfig(
            sample_rate=bank.sample_rate,
            labels=bank.labels,
            codec=codec,
            codec_folder=folder,
            endless=endless,
            seconds=LONGEST_S if endless else usual_longest(bank, most=LONGEST_S),
            batch=16 if endless else 64 if sounds > 500 else 32,
        )
        return override(config, others)

    @property
    def pitch_range(self) -> tuple[float, float] | None:
        return self.space.pitch_range

    @property
    def batch_spec(self) -> BatchSpec:
        hop = self.config.codec.hop_length
        return BatchSpec(size=self.config.batch, samples=self.config.crop * hop, hop_length=hop, align="start")

    def players(self) -> Mapping[str, Player]:
        learnt = [parameter for parameter in self.parameters() if parameter.requires_grad]
        return {"rnn": Player(learnt, learning_rate=self.config.learning_rate, weight_decay=1e-2)}

    # --- training -------------------------------------------------------------------------------------------------

    def prepare(self, bank: SoundBank, *, fresh: bool) -> None:
        """Takes the codec's weights, what is usual in the bank's codes, and which of its pieces follow which."""
        self.space.prepare(bank, self.config.codec_folder, fresh=fresh)
        self._told, self._bank = {}, bank
        if self.config.endless:
            self._ways = onward(bank, frame_rate=self.space.frame_rate)

    def train_step(self, batch: Batch, *, step: int, generator: torch.Generator, update: Update) -> dict[str, float]:
        if self.config.endless:
            crop = self.config.crop
            fresh = self.walks.set_out(batch.clips, self._length, self._ways, crop, generator)
            condition = self._known(self.walks.clip, batch.condition)
            frames = self._sequences(self.walks.clip, crop, self.walks.at, fresh)
            hidden = self.walks.hidden.clone()
        else:
            condition, hidden = batch.condition, None
            frames = self._sequences(batch.clips, self.config.frames)
        condition = condition.dropped(self.config.nothing, generator=generator)
        with keyed_dropout(generator):
            parts, hidden = self._surprise(*frames, condition, hidden, generator)
        loss = self._nats(parts, frames[3])
        update("rnn", loss)
        if self.config.endless:
            self.walks.arrive(hidden, self.config.crop)
        return {"nats": float(loss.detach()), **self._each(parts, frames[3])}

    @torch.no_grad()
    def validate(self, batch: Batch, *, generator: torch.Generator) -> dict[str, float]:
        frames = self._sequences(batch.clips, self.config.frames)
        parts, _ = self._surprise(*frames, batch.condition, None, None)
        return {"score": float(self._nats(parts, frames[3])), **self._each(parts, frames[3])}

    def _nats(self, parts: Mapping[str, Tensor], inside: Tensor) -> Tensor:
        """The mean surprise of a value, in nats: latent's, voicing, pitch and, where sounds end, that they go on."""
        values = self.config.codec.latent + len(parts) - 1
        return sum(parts.values(), torch.zeros(())).sum() / (values * inside.sum())

    def _each(self, parts: Mapping[str, Tensor], inside: Tensor) -> dict[str, float]:
        """Nats a frame of each part."""
        return {name: float(nats.detach().sum() / inside.sum()) for name, nats in parts.items()}

    def _surprise(
        self,
        before: Tensor,
        now: Tensor,
        begins: Tensor,
        inside: Tensor,
        condition: Condition,
        hidden: Tensor | None,
        generator: torch.Generator | None,
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Nats [B, N] of each part of the frames `now`, and the hidden state after them; with a generator, the latents
        fed back are as far off as drawn ones are."""
        last = before
        if generator is not None and self.config.feedback_noise > 0:
            latent = self.config.codec.latent
            noise = torch.randn(*before.shape[:2], latent, generator=generator, device=generator.device).to(before)
            last = before + F.pad(self.config.feedback_noise * noise, (0, BESIDE)) * (1 - begins)[..., None]
        h, hidden = self._heard_through(last, begins, condition, hidden)
        said = self.next(self.dropout(h), last[..., : self.config.codec.latent])
        return self.next.surprise(said, before, now, inside, ends=not self.config.endless), hidden

    def _heard_through(
        self, before: Tensor, begins: Tensor, condition: Condition, hidden: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Frames [B, N, D + BESIDE] -> hidden vectors [B, N, H], and the state after the last [L, B, H]."""
        latent = self.config.codec.latent
        asked = self.condition(condition)[:, None].expand(-1, before.shape[1], -1)
        heard = torch.cat([before[..., :latent], features(before, latent), begins[..., None], asked], -1)
        h, hidden = self.gru(heard, hidden)
        return h, hidden

    def _sequences(
        self, clips: Tensor, frames: int, at: Tensor | None = None, fresh: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Clips from a frame on: the frames before [B, N, D + BESIDE], the frames themselves, where there is nothing
        before [B, N], and where the sound is not over [B, N]. A `fresh` one has nothing before its first frame."""
        every = [self._frames(int(clip)) for clip in clips]
        starts = [0] * len(every) if at is None else at.tolist()
        longest = max(len(one) - start for one, start in zip(every, starts, strict=True))
        n = min(frames, longest + 1)
        now = every[0].new_zeros(len(every), n, every[0].shape[1])
        before, inside, begins = torch.zeros_like(now), torch.zeros_like(now[..., 0]), torch.zeros_like(now[..., 0])
        for b, (one, start) in enumerate(zip(every, starts, strict=True)):
            part = one[start : start + n]
            now[b, : len(part)], inside[b, : len(part)] = part, 1.0
            before[b, 1:] = now[b, :-1]
            if fresh is None or bool(fresh[b]):
                begins[b, 0] = 1.0
            else:
                before[b, 0] = one[start - 1]
        return before, now, begins, inside

    def _frames(self, clip: int) -> Tensor:
        """A clip of the bank as told frames [N, D + BESIDE], remembered."""
        if clip not in self._told:
            known = self.space.known(clip)
            self._told[clip] = told((known.z - self.space.mean) / self.space.scale, known.midi)
        return self._told[clip]

    def _length(self, clip: int) -> int:
        return len(self._frames(clip))

    def _known(self, clips: Tensor, drawn: Condition) -> Condition:
        """What the bank knows of the clips that the streams are in."""
        assert self._bank is not None, "prepare comes first"
        return self._bank.condition(clips.cpu().numpy()).to(drawn.pitch.device)

    # --- use ------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def begin(
        self, condition: Condition | None = None, *, seed: int = 0, temperature: float = 1.0, at: int = 0
    ) -> RNNState:
        """Before the first frame of one sound; every random number to come is keyed by `seed` and the frame's number,
        which starts at `at`."""
        condition = condition if condition is not None else Condition.of(1)
        weights, adds, bias = framekernel.packed(self.gru, self.next)
        encoded = self.condition(condition.to(self.space.mean.device))[0].float().cpu().numpy()
        return RNNState(
            memory=framekernel.begun(weights),
            codec=self.space.codec.init_state(seed=seed),
            at=at,
            seed=seed,
            temperature=temperature,
            weights=weights,
            asked=adds @ encoded + bias,
        )

    def hear(self, known: Known, state: RNNState) -> RNNState:
        """Takes a given code into the state, as if it had been drawn."""
        z = ((known.z - self.space.mean) / self.space.scale).float().cpu().numpy()
        pitches = known.midi.nan_to_num(0.0).float().cpu().numpy()
        framekernel.hear(state.weights, state.asked, state.memory, np.ascontiguousarray(z), pitches)
        return replace(state, at=state.at + len(z))

    @torch.no_grad()
    def foretell(self, frames: int, state: RNNState) -> tuple[Known, RNNState]:
        """The next `frames` frames as a code, fewer where the sound ends among them, and the new state."""
        latents, pitches, drawn = framekernel.draw(
            state.weights,
            state.asked,
            state.memory,
            frames,
            seed=state.seed,
            at=state.at,
            temperature=state.temperature,
            ends=not self.config.endless,
        )
        device = self.space.mean.device
        z = torch.from_numpy(latents[:drawn]).to(device) * self.space.scale + self.space.mean
        midi = torch.from_numpy(pitches[:drawn]).to(device)
        midi = torch.where(midi > 0, midi, torch.nan)
        sounding = midi[torch.isfinite(midi)]
        centre = float(sounding.median()) if len(sounding) else 60.0
        return Known(z, midi, centre), replace(state, at=state.at + frames)

    @torch.no_grad()
    def advance(self, frames: int, state: RNNState) -> tuple[Tensor, RNNState]:
        """The next `frames` frames as audio [1, 1, frames * hop_length], `codec.head.latency` samples behind, and the
        new state; the same sound in whatever blocks. After a sound's end there is silence."""
        known, state = self.foretell(frames, state)
        rest = frames - len(known.z)
        if rest:
            z = torch.cat([known.z, self.space.silence.expand(rest, -1)])
            known = Known(z, F.pad(known.midi, (0, rest), value=torch.nan), known.centre)
        audio, codec = self.space.codec.step(_code(known), state.codec)
        return audio.clamp(-1, 1), replace(state, codec=codec)

    def stream(self, state: RNNState, *, samples: int | None = None, skip: int | None = None) -> Iterator[Tensor]:
        """The sound block by block [1, 1, T], from its first sample on: so many `samples` in all, or without an end.

        `skip`: samples left out at the beginning; by itself, those by which the codec is behind.
        """
        skip = self.space.codec.head.latency if skip is None else skip
        while samples is None or samples > 0:
            audio, state = self.advance(BLOCK, state)
            audio, skip = audio[..., skip:], max(0, skip - audio.shape[-1])
            if samples is not None:
                audio = audio[..., :samples]
                samples -= audio.shape[-1]
            if audio.shape[-1]:
                yield audio

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
        """n new sounds [n, 1, T]: of an endless model exactly so many seconds, else each silent after its end."""
        most = math.inf if self.config.endless else self.config.seconds
        if seconds is not None and not 0 < seconds <= most:
            raise ModelError(f"seconds is {seconds:g}: this model makes sounds of up to {self.config.seconds:g} s")
        condition = condition if condition is not None else Condition.of(n)
        seeds = torch.randint(0, 2**31, (n,), generator=generator, device=generator.device).tolist()
        states = [
            self.begin(condition[i : i + 1], seed=seed, temperature=manner.temperature) for i, seed in enumerate(seeds)
        ]
        samples = round((seconds or self.config.seconds) * self.config.sample_rate)
        if self.config.endless:
            return torch.cat([torch.cat(list(self.stream(state, samples=samples)), -1) for state in states])
        frames = self.config.frames
        known = [self.foretell(frames, state)[0] for state in states]
        sequences = torch.stack([self.space.packed(one, frames) for one in known])
        audio = self.space.decoded(sequences, pitch=condition.pitch.to(sequences.device), seed=seeds[0])
        return full_scale(audio[..., :samples] if seconds is not None else audio)

    @torch.no_grad()
    def continue_from(
        self, audio: Tensor, *, seconds: float, generator: torch.Generator, manner: Manner = AS_LEARNT
    ) -> Tensor:
        """A recording [1, 1, T] -> the seconds that follow it [1, 1, T']; T may be 0, to begin from nothing."""
        if not 0 < seconds < math.inf:
            raise ModelError(f"seconds is {seconds:g}: ask for more than 0")
        seed = int(torch.randint(0, 2**31, (1,), generator=generator, device=generator.device))
        blocks = list(self.following(audio, seconds=seconds, seed=seed, temperature=manner.temperature))
        return torch.cat(blocks, -1)

    @torch.no_grad()
    def following(self, audio: Tensor, *, seconds: float, seed: int = 0, temperature: float = 1.0) -> Iterator[Tensor]:
        """As `continue_from`, block by block, in constant memory."""
        hop, rate = self.config.codec.hop_length, self.config.sample_rate
        state = self.begin(seed=seed, temperature=temperature)
        skip, peak = self.space.codec.head.latency, 1.0
        kept = audio.shape[-1] // hop - EDGE
        if kept > 0:
            peak = float(audio.abs().max().clamp_min(1e-4))  # every clip of a bank has its peak at full scale
            known = self.space.heard(audio[0] / peak)
            known = Known(known.z[:kept], known.midi[:kept], known.centre)
            state = self.hear(known, state)
            warm = Known(known.z[-WARM:], known.midi[-WARM:], known.centre)
            state = replace(state, codec=self.space.codec.step(_code(warm), state.codec)[1])
            skip += audio.shape[-1] - kept * hop
        left = round(seconds * rate)
        blocks = self.stream(state, samples=left + round(seam.SEARCH_S * rate), skip=skip)
        for i, block in enumerate(blocks):
            if i == 0 and kept > 0:
                recording = audio[0, 0].to(block.device) / peak
                block = seam.joined(recording, block[0, 0], sample_rate=rate)[None, None]
            if left > 0:
                yield (block * peak)[..., :left]
            left -= block.shape[-1]


def _code(known: Known) -> Code:
    """One sound as the codec's `Code`, one voice."""
    f0_hz = hertz(known.midi.clamp(10, 130))[None, None]
    return Code(known.z.T[None], f0_hz, (f0_hz > 0).float())
