"""The pitch of a stream: the tracker of `pitch`, fed as the sound comes in.

    samples ──▶ chunks, one a frame ──▶ decimated, windowed, scored ──▶ open paths ──▶ the pitch `delay` frames ago

A frame is scored as soon as its longest window is full, by the same windows and combs as offline; `track_pitch` then
sees all frames before it chooses a path through them, a stream only the next `delay`. The work goes in chunks that lie
on the grid of frames, wherever the blocks that come in are cut: so any split gives the same pitch, bit for bit.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from soundloom.errors import ConfigError
from soundloom.peaks import frame_spectra, low_pass
from soundloom.pitch import CANDIDATES, Level, PitchTrack, advance, find_levels, lookahead, score_levels

DELAY = 2  # frames; see `track_step`


@dataclass(frozen=True)
class Follower:
    """What a stream of pitch is tracked with. `latency`: samples from the centre of a frame to its pitch, at most."""

    sample_rate: int
    hop_length: int
    levels: tuple[Level, ...]
    delay: int  # frames

    @property
    def latency(self) -> int:
        return lookahead(self.levels) + self.delay * self.hop_length


@dataclass
class PitchState:
    """Where a stream of pitch stands: the samples that frames to come still need, and the paths that are still open."""

    follower: Follower
    waiting: Tensor  # [< wanted] samples
    wanted: int  # samples that complete the next frame
    filters: list[Tensor]  # a level: the samples that its low-pass still spans; none where it shares a rate
    windows: list[Tensor]  # a level: the decimated samples from where the next frame's window begins
    f0_hz: NDArray[np.float32]  # [delay + 1, CANDIDATES] of the last frames, the oldest first
    score: NDArray[np.float32]  # [delay + 1, CANDIDATES]
    came: NDArray[np.int64]  # [delay + 1, CANDIDATES + 1]: the way back
    value: NDArray[np.float64]  # [CANDIDATES + 1] of the best path to each
    frame: int  # frames scored


def init_pitch_state(
    *, sample_rate: int, hop_length: int, low_hz: float = 24.0, high_hz: float = 5000.0, delay: int = DELAY
) -> PitchState:
    """Before the first `track_step`. `delay`: frames that a decision waits for what follows; 0 decides at once."""
    if delay < 0:
        raise ConfigError(f"delay is {delay} frames: a pitch cannot be known before it is heard; take 0 or more")
    levels = tuple(find_levels(sample_rate, hop_length, low_hz, high_hz))
    shortest = min(level.decimation * level.window for level in levels)
    if hop_length > shortest:
        raise ConfigError(f"hop_length is {hop_length}: at {sample_rate} Hz pitch can be followed up to {shortest}")
    filters, windows, factor = [], [], 1
    for level in levels:
        filters.append(torch.zeros(8 * level.decimation // factor if level.decimation > factor else 0))
        factor = level.decimation
        windows.append(torch.zeros((level.window - hop_length // factor) // 2))
    follower = Follower(sample_rate, hop_length, levels, delay)
    return PitchState(
        follower=follower,
        waiting=torch.zeros(0),
        wanted=hop_length // 2 + lookahead(levels),
        filters=filters,
        windows=windows,
        f0_hz=np.zeros((delay + 1, CANDIDATES), np.float32),
        score=np.zeros((delay + 1, CANDIDATES), np.float32),
        came=np.zeros((delay + 1, CANDIDATES + 1), np.int64),
        value=np.zeros(CANDIDATES + 1),
        frame=0,
    )


def track_step(audio: Tensor, state: PitchState) -> tuple[PitchTrack, PitchState]:
    """The next samples [T], any number of them -> the pitch [1, n] of the frames that can now be told.

    The first frame of all is told when `hop_length / 2 + latency` samples are in, and one more with every hop.

    >>> tone = torch.sin(2 * torch.pi * 440 * torch.arange(22050) / 44100)
    >>> state = init_pitch_state(sample_rate=44100, hop_length=512)
    >>> track, state = track_step(tone, state)
    >>> round(track.f0_hz[0, 20].item())
    440
    """
    if audio.ndim != 1:
        raise ConfigError(f"audio has shape {list(audio.shape)}, but a stream of pitch is one signal [T]")
    state.waiting = torch.cat([state.waiting, audio.detach().float().cpu()])
    told = []
    while len(state.waiting) >= state.wanted:
        chunk, state.waiting = state.waiting[: state.wanted], state.waiting[state.wanted :]
        state.wanted = state.follower.hop_length
        _hear(chunk, state)
        if state.frame > state.follower.delay:
            told.append(_oldest(state))
    f0_hz, score = torch.tensor(told).reshape(-1, 2).T[:, None]
    return PitchTrack(f0_hz, (f0_hz > 0).float(), score.clamp(0, 1)), state


def _hear(chunk: Tensor, state: PitchState) -> None:
    """Takes in the samples that complete one frame, and scores it."""
    follower = state.follower
    parts, factor = [], 1
    for i, level in enumerate(follower.levels):
        if level.decimation > factor:
            ratio, factor = level.decimation // factor, level.decimation
            span = torch.cat([state.filters[i], chunk])
            chunk = span.unfold(0, 16 * ratio + 1, ratio) @ low_pass(ratio)
            state.filters[i] = span[len(chunk) * ratio :]
        seen = torch.cat([state.windows[i], chunk])
        parts.append(frame_spectra(seen[None, : level.window]))
        state.windows[i] = seen[follower.hop_length // factor :]
    before = state.f0_hz[-1]
    state.f0_hz, state.score = np.roll(state.f0_hz, -1, axis=0), np.roll(state.score, -1, axis=0)
    state.came = np.roll(state.came, -1, axis=0)
    state.f0_hz[-1:], state.score[-1:] = score_levels(follower.levels, parts, 1, sample_rate=follower.sample_rate)
    advance(before, state.f0_hz[-1], state.score[-1], state.value, state.came[-1], state.frame > 0)
    state.value -= state.value.max()  # only differences count: an hour shall be told as the first second is
    state.frame += 1


def _oldest(state: PitchState) -> tuple[float, float]:
    """The pitch and score of the oldest frame kept, on the path that is the best so far; 0 and 0 where unvoiced."""
    at = int(state.value.argmax())
    for came in state.came[:0:-1]:
        at = int(came[at])
    return (float(state.f0_hz[0, at]), float(state.score[0, at])) if at < CANDIDATES else (0.0, 0.0)
