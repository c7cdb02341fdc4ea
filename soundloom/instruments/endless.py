"""Models whose sound has no end, piece by piece: each piece is steered by what is wanted when it is made.

A piece is as short as a model can work well: it is what a player waits for between a key and what it does.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from soundloom.condition import Condition
from soundloom.errors import ModelError
from soundloom.instruments.asks import Ask
from soundloom.models import filterbank, wavekernel
from soundloom.models.base import Code
from soundloom.models.courses import SILENCE_DB
from soundloom.models.ddsp import DDSP, DDSPState
from soundloom.models.rnn import RNN, RNNState
from soundloom.models.subband import PIECE_SAMPLES, SubbandRNN, SubbandState
from soundloom.models.wavenet import WaveNet
from soundloom.run import families_that

FRAMES = 4  # of the RNN's codec in a piece
PIECES = 8  # of the sub-band RNN's
SAMPLES = 512  # of the WaveNet's

Sound = NDArray[np.float32]


@runtime_checkable
class Source(Protocol):
    """Where pieces come from. The state is a value: passed in, maybe written in place, returned; the old one is dead.
    `steer` holds nothing but what JSON can hold, so that it can go to another process."""

    model: Any
    levels: Sound | None  # in dB, quantiles of what it has heard, where it is played by pitch and level
    sample_rate: int
    piece: int  # samples
    latency: int  # samples by which the sound comes after what it was steered by

    def begin(self, seed: int) -> Any:
        """Before the first piece."""

    def next(self, steer: Mapping[str, Any], state: Any) -> tuple[Sound, Any]:
        """The next piece [piece] and the new state."""


def source_of(model: Any) -> Source:
    """The pieces of a model; a family that has none is refused with `ModelError`."""
    kinds: dict[type[Any], Any] = {DDSP: Played, RNN: Frames, SubbandRNN: Bands, WaveNet: Samples}
    for family, kind in kinds.items():
        if isinstance(model, family):
            source: Source = kind(model)
            return source
    raise ModelError(f"a {model.family} does not play on and on: train a {families_that('continue_from')} or a ddsp")


def wish(ask: Ask, pitch: float | None) -> dict[str, Any]:
    """An ask as what steers a piece; `pitch` None: the model is not told of any."""
    return {"ask": ask.document(), "pitch": pitch}


def _condition(steer: Mapping[str, Any], labels: Any) -> tuple[Condition, float]:
    """What a piece is asked to be, and how daring it is."""
    ask = Ask.of(steer["ask"])
    return ask.condition(labels, pitch=steer["pitch"]), ask.temperature


class Frames:
    """The RNN's: some of its codec's frames at a time."""

    levels: Sound | None = None

    def __init__(self, model: RNN) -> None:
        self.model = model
        self.sample_rate = model.config.sample_rate
        self.piece = FRAMES * model.config.codec.hop_length
        self.latency = model.space.codec.head.latency

    def begin(self, seed: int) -> tuple[RNNState, Mapping[str, Any]]:
        return self.model.begin(seed=seed), {}

    @torch.inference_mode()
    def next(
        self, steer: Mapping[str, Any], state: tuple[RNNState, Mapping[str, Any]]
    ) -> tuple[Sound, tuple[RNNState, Mapping[str, Any]]]:
        now, before = state
        if steer != before:
            condition, temperature = _condition(steer, self.model.config.labels)
            now = replace(now, asked=self.model.begin(condition).asked, temperature=temperature)
        audio, now = self.model.advance(FRAMES, now)
        return _sound(audio), (now, steer)


class Bands:
    """The sub-band RNN's."""

    levels: Sound | None = None

    def __init__(self, model: SubbandRNN) -> None:
        self.model = model
        self.sample_rate = model.config.sample_rate
        self.piece = PIECES * PIECE_SAMPLES
        self.latency = filterbank.DELAY

    def begin(self, seed: int) -> SubbandState:
        return self.model.init_state(seed=seed)

    @torch.inference_mode()
    def next(self, steer: Mapping[str, Any], state: SubbandState) -> tuple[Sound, SubbandState]:
        condition, temperature = _condition(steer, self.model.config.labels)
        guide = self.model.free_running(condition.to(self.model.no_frames.device), PIECES)
        audio, state = self.model.step(guide, state, temperature=temperature)
        return _sound(audio.clamp(-1, 1)), state


@dataclass
class SamplesState:
    weights: wavekernel.Weights
    stream: wavekernel.Stream
    generator: torch.Generator
    steer: Mapping[str, Any]
    course: wavekernel.Course | None = None
    temperature: float = 1.0


class Samples:
    """The WaveNet's."""

    levels: Sound | None = None

    def __init__(self, model: WaveNet) -> None:
        self.model = model
        self.sample_rate = model.config.sample_rate
        self.piece, self.latency = SAMPLES, 0

    def begin(self, seed: int) -> SamplesState:
        weights = self.model.packed()
        stream = wavekernel.begun(weights, self.model.config.order)
        return SamplesState(weights, stream, torch.Generator().manual_seed(seed), {})

    @torch.inference_mode()
    def next(self, steer: Mapping[str, Any], state: SamplesState) -> tuple[Sound, SamplesState]:
        if state.course is None or steer != state.steer:
            condition, state.temperature = _condition(steer, self.model.config.labels)
            state.steer, state.course = steer, self.model.free_course(condition)
        uniforms = wavekernel.uniform_numbers(SAMPLES, state.generator)
        sound, _, state.stream = wavekernel.play(
            state.weights,
            state.course,
            state.stream,
            uniforms,
            piece=self.model.config.piece,
            temperature=state.temperature,
        )
        return sound, state


class Played:
    """DDSP's: a frame at a time, steered by `f0_hz` and `level_db`; what else it is told is as it usually was."""

    def __init__(self, model: DDSP) -> None:
        self.model = model
        self.sample_rate = model.config.sample_rate
        self.piece, self.latency = model.config.hop_length, model.head.latency
        self.levels: Sound | None = model.courses.levels.detach().float().cpu().numpy()
        response = model.reverb.response().detach().float().cpu().numpy()
        self._room = Room(np.concatenate([[1.0], response]).astype(np.float32), self.piece)
        self._timbre = _usual_timbre(model)

    def begin(self, seed: int) -> tuple[DDSPState, "Ringing"]:
        return self.model.init_state(seed=seed), self._room.begin()

    @torch.inference_mode()
    def next(
        self, steer: Mapping[str, Any], state: tuple[DDSPState, "Ringing"]
    ) -> tuple[Sound, tuple[DDSPState, "Ringing"]]:
        now, ringing = state
        near = self._timbre
        z = torch.cat([near.new_tensor([[[steer["level_db"]]]]), near], 1)
        f0_hz = near.new_tensor([[[steer["f0_hz"]]]])
        dry, now = self.model.dry(Code(z, f0_hz, (f0_hz > 0).float()), now)
        return self._room.step(dry[0].float().cpu().numpy(), ringing), (now, ringing)


def _usual_timbre(model: DDSP) -> Tensor:
    """The mean of the cepstra that it remembers of what sounded, [1, cepstrum, 1]."""
    tracks = model.courses.tracks[: len(model.courses)].detach()
    cepstra = tracks[:, 2:].transpose(1, 2)[tracks[:, 1] > SILENCE_DB / 2]
    return (
        torch.nan_to_num(cepstra.mean(0))[None, :, None]
        if len(cepstra)
        else tracks.new_zeros(1, tracks.shape[1] - 2, 1)
    )


@dataclass
class Ringing:
    """What a room still has to give: the spectra of the last pieces, the newest at `at`, and the last sum's end."""

    spectra: NDArray[np.complex64]
    tail: Sound
    at: int = 0


class Room:
    """Convolution with a response [L] in pieces of n samples, without delay: each part of the response has a spectrum
    of its own, which waits for the piece that is that old (uniformly partitioned convolution)."""

    def __init__(self, response: Sound, n: int) -> None:
        self.n = n
        parts = np.pad(response, (0, -len(response) % n)).reshape(-1, n)
        self._parts = np.fft.rfft(parts, 2 * n).astype(np.complex64)

    def begin(self) -> Ringing:
        return Ringing(np.zeros_like(self._parts), np.zeros(self.n, np.float32))

    def step(self, piece: Sound, ringing: Ringing) -> Sound:
        """The next piece [n] of the sound in the room; `ringing` is written in place."""
        k = len(self._parts)
        ringing.at = (ringing.at - 1) % k
        ringing.spectra[ringing.at] = np.fft.rfft(piece, 2 * self.n)
        first = k - ringing.at  # the newest spectrum belongs to the first part of the response, and so on around
        total = np.einsum("kf,kf->f", ringing.spectra[ringing.at :], self._parts[:first])
        total = total + np.einsum("kf,kf->f", ringing.spectra[: ringing.at], self._parts[first:])
        whole = np.fft.irfft(total, 2 * self.n).astype(np.float32)
        sound: Sound = whole[: self.n] + ringing.tail
        ringing.tail = whole[self.n :].copy()
        return sound


def _sound(audio: Tensor) -> Sound:
    sound: Sound = audio[0, 0].float().cpu().numpy()
    return sound
