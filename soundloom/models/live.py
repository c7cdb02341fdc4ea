"""The codec on a live stream: blocks of sound in, blocks of the same sound out, re-synthesised and transposed.

    block ──┬──▶ pitch, frame by frame ──────────────────┐
            └──▶ wait for the frame's longest window ──▶ encoder ──▶ z, f0 · 2^(transpose / 12) ──▶ decoder ──▶ block

Every block gives one of the same length, `latency` samples behind. The windows that tell a low note reach some 90 ms
beyond the moment that they describe: that, and not the work, is what is waited for.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from soundloom.errors import AudioError, ModelError
from soundloom.follow import DELAY, PitchState, init_pitch_state, track_step
from soundloom.models.codec import Codec, CodecState

TOGETHER = 32  # frames worked on at once, however long the block


@dataclass
class LiveState:
    """Where a stream stands: what was heard and is not yet all used, what was made and is not yet played."""

    heard: Tensor  # [1, 1, *] from where the next frame is measured
    pitch: PitchState
    f0_hz: Tensor  # [*] of frames told but not yet made
    encoder: tuple[Tensor, ...]
    decoder: CodecState
    made: Tensor  # [*]


class LiveCodec:
    """A causal codec that is played through: one voice, in blocks of any length, the same sound in any split.

    `delay`: frames by which the pitch is decided later than it could be, to be surer of it.

    Raises:
        ModelError: the codec's encoder looks ahead.
    """

    def __init__(self, codec: Codec, *, delay: int = DELAY) -> None:
        if not codec.config.causal:
            raise ModelError(
                "this codec's encoder looks ahead, so it cannot hear a live stream: "
                "train one that does not with `soundloom train BANK --family codec --set causal=true`"
            )
        self.codec, self.delay = codec, delay

    @property
    def latency(self) -> int:
        """Samples by which the output comes after what `decode(encode(input))` would make of the whole input."""
        return self._ahead - 1 + self.codec.head.latency

    @property
    def _ahead(self) -> int:
        """Samples that complete the first frame; every frame after it takes a hop more."""
        hop = self.codec.config.hop_length
        return max(self.codec.analysis.margin + hop, self._pitch().follower.latency + hop // 2)

    def _pitch(self) -> PitchState:
        config = self.codec.config
        return init_pitch_state(sample_rate=config.sample_rate, hop_length=config.hop_length, delay=self.delay)

    def init_state(self, *, seed: int = 0) -> LiveState:
        """Before the first block; `seed` keys the noise in the sound."""
        silence = self.codec.usual_stiffness.new_zeros
        return LiveState(
            heard=silence(1, 1, self.codec.analysis.margin),
            pitch=self._pitch(),
            f0_hz=silence(0),
            encoder=self.codec.encoder.init_state(),
            decoder=self.codec.init_state(seed=seed),
            made=silence(self._ahead - 1),
        )

    @torch.no_grad()
    def process(self, block: Tensor, state: LiveState, *, transpose: float = 0.0) -> tuple[Tensor, LiveState]:
        """The next samples [T] at the codec's rate, any number of them -> as many [T], `transpose` semitones higher.

        Raises:
            AudioError: the block is not one signal of finite numbers.
        """
        if block.ndim != 1 or not torch.isfinite(block).all():
            raise AudioError(
                f"a block of shape {list(block.shape)}{'' if block.ndim != 1 else ' with NaN or infinity in it'} "
                "cannot be played: give one channel of finite samples [T]"
            )
        made = [state.made]
        for piece in torch.split(block, TOGETHER * self.codec.config.hop_length):
            made.append(self._advance(piece, state, transpose))
        ready = torch.cat(made)  # outside inference mode, so that a player may write into what it is given
        state.made = ready[len(block) :]
        return ready[: len(block)], state

    @torch.inference_mode()
    def _advance(self, piece: Tensor, state: LiveState, transpose: float) -> Tensor:
        """Takes in samples, and makes the sound [*] of the frames that they complete."""
        hop, margin = self.codec.config.hop_length, self.codec.analysis.margin
        track, state.pitch = track_step(piece, state.pitch)
        state.f0_hz = torch.cat([state.f0_hz, track.f0_hz[0].to(state.f0_hz)])
        state.heard = torch.cat([state.heard, piece.to(state.heard)[None, None]], -1)
        n = min(len(state.f0_hz), (state.heard.shape[-1] - 2 * margin) // hop)
        if n < 1:
            return state.heard.new_zeros(0)
        f0_hz = state.f0_hz[None, None, :n]
        around = state.heard[..., : 2 * margin + n * hop]
        code, state.encoder = self.codec.encode_step(around, f0_hz, (f0_hz > 0).float(), state.encoder)
        sound, state.decoder = self.codec.step(code.transposed(transpose), state.decoder)
        state.f0_hz, state.heard = state.f0_hz[n:], state.heard[..., n * hop :]
        return sound[0, 0]
