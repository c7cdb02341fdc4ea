"""A decoder of whole sounds: what a sound is, once, and the time since its onset become frames."""

import math

import torch
from torch import Tensor, nn

from soundloom.models.layers import KERNEL, PITCH_FEATURES, Stack, pitch_features

MOMENTS = 32  # features of the time since the onset


def moments(frames: Tensor, *, frame_s: float, seconds: float) -> Tensor:
    """Features of the time of frames [...] -> [..., MOMENTS]: bumps along its logarithm up to `seconds`; before the
    onset, zero."""
    at_s = (frames + 0.5) * frame_s
    low, high = math.log(0.005), math.log(max(seconds, 0.1))
    place = (torch.log(at_s.clamp_min(1e-4)) - low) / (high - low) * (MOMENTS - 1)
    bumps = torch.exp(-0.5 * (place[..., None] - torch.arange(MOMENTS, device=frames.device)).square())
    return bumps * (frames >= 0)[..., None]


class MomentDecoder(nn.Module):
    """What a sound is [B, about], at frames [B, N] with a pitch each -> frames [B, N, width] for a `SpectralHead`.

    How a level moves in time depends on the sound: so there are products of time and what the sound is, which sums
    would have to imitate.
    """

    def __init__(self, about: int, width: int, *, blocks: int, frame_s: float, seconds: float, beside: int = 0) -> None:
        super().__init__()
        self.frame_s, self.seconds = frame_s, seconds
        self.when, self.what = nn.Linear(MOMENTS, width), nn.Linear(about, width)
        inputs = about + MOMENTS + PITCH_FEATURES + width + beside
        self.stack = Stack(inputs, width, blocks=blocks, causal=True, expansion=2)
        self.run_in = (KERNEL - 1) * blocks

    def moments(self, frames: Tensor) -> Tensor:
        return moments(frames, frame_s=self.frame_s, seconds=self.seconds)

    def forward(self, about: Tensor, at: Tensor, f0_hz: Tensor, voiced: Tensor, beside: Tensor | None = None) -> Tensor:
        """about [B, A], frames `at` [B, N] in a row, f0 and voicing [B, K, N], what else is known `beside`
        [B, N, beside] -> [B, N, width].

        The blocks run in over the frames before, also those before the onset, where time is zero: so a part of a sound
        is the same whether rendered alone or with all of it.
        """
        early = at[:, :1] + torch.arange(-self.run_in, 0, device=at.device)
        where = torch.cat([early, at], 1)
        known = pitch_features(f0_hz, voiced).sum(1)
        if beside is not None:
            known = torch.cat([known, beside], -1)
        known = torch.cat([known[:, :1].expand(-1, self.run_in, -1), known], 1)
        passed = self.moments(where)
        both = self.when(passed) * self.what(about)[:, None]
        inputs = [about[:, None].expand(-1, where.shape[1], -1), passed, known, both]
        h: Tensor = self.stack(torch.cat(inputs, -1))[:, self.run_in :]
        return h


def faded(audio: Tensor, ends: Tensor) -> Tensor:
    """audio [B, T] falling to silence over the last 20 ms or fifth before each end [B], in samples."""
    at = torch.arange(audio.shape[1], device=audio.device)
    width = (ends / 5).clamp(8, 900)
    return audio * ((ends[:, None] - at) / width[:, None]).clamp(0, 1)
