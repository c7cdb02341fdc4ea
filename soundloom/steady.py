"""A pitch track without what no instrument does: brief gaps, blips, and stretches that leap by a simple ratio and back.

The tracker decides frame by frame with a cost for leaps; where a note dies away and only its even partials are left,
the octave wins for a while all the same. Over a whole sound more is known: the longer stretch beside it is right,
unless a new note begins, which the level tells.
"""

import itertools

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Track = NDArray[np.float64]  # [N] Hz, 0 where unvoiced

LEAP = 1.0  # semitones between frames at which one stretch ends and another begins
RATIOS = (2.0, 3.0, 4.0, 1.5, 1 / 2, 1 / 3, 1 / 4, 2 / 3)  # what partials in common make a pitch mistaken for
NEAR = 0.35  # semitones within which a leap is one of these
BLIP_S, GAP_S, BESIDE_S = 0.10, 0.15, 0.5
RISE_DB = 3.0


def steadied(f0_hz: Tensor, audio: Tensor, *, sample_rate: int, hop_length: int) -> Tensor:
    """f0 [B, N] in Hz, 0 where unvoiced, of sounds [B, T] -> the same, put right.

    A stretch at a simple ratio to one at least twice as long beside it is brought to its octave, if the level does not
    rise where it begins; a stretch of less than 0.1 s that stands alone, or leaps elsewhere, is taken out; a gap of
    less than 0.15 s in one pitch is filled.

    >>> track = torch.tensor([[220.0] * 40 + [440.0] * 6 + [220.0] * 10])
    >>> steadied(track, torch.ones(1, 56 * 256), sample_rate=22050, hop_length=256).unique()
    tensor([220.])
    """
    frames = f0_hz.shape[1]
    whole = torch.nn.functional.pad(audio, (0, frames * hop_length - audio.shape[1]))
    power = whole.reshape(len(audio), frames, hop_length).square().mean(-1)
    levels = (10 * torch.log10(power + 1e-12)).double().cpu().numpy()
    tracks = f0_hz.double().cpu().numpy()
    rows = [_steadied(track, level, hop_length / sample_rate) for track, level in zip(tracks, levels, strict=True)]
    return torch.from_numpy(np.stack(rows)).to(f0_hz)


def _begins(level: NDArray[np.float64], at: int) -> bool:
    """Whether a note begins at a frame: within the four frames around it the level rises."""
    before, after = level[max(0, at - 6) : max(1, at - 2)], level[at : at + 4]
    return bool(after.max() > before.mean() + RISE_DB)


def _steadied(track: Track, level: NDArray[np.float64], frame_s: float) -> Track:
    track = track.copy()
    stretches = _stretches(track)
    for start, end in stretches:
        beside = [
            other
            for other in stretches
            if other[1] - other[0] >= 2 * (end - start)
            and track[other[0]] > 0  # else it was taken out before
            and min(abs(other[1] - start), abs(end - other[0])) * frame_s < BESIDE_S
        ]
        brief = (end - start) * frame_s < BLIP_S
        if not beside:
            if brief:
                track[start:end] = 0.0
            continue
        longest = max(beside, key=lambda other: other[1] - other[0])
        apart = _semitones(np.median(track[start:end]), np.median(track[longest[0] : longest[1]]))
        ratio = next((r for r in RATIOS if abs(apart - _semitones(r, 1.0)) < NEAR), None)
        if ratio is not None and not _begins(level, start):
            track[start:end] /= ratio
        elif brief and abs(apart) > LEAP:
            track[start:end] = 0.0
    stretches = _stretches(track)
    for (_, end), (start, _) in itertools.pairwise(stretches):
        if (start - end) * frame_s < GAP_S and abs(_semitones(track[start], track[end - 1])) < 0.5:
            track[end:start] = np.linspace(track[end - 1], track[start], start - end + 2)[1:-1]
    return track


def _semitones(a: float, b: float) -> float:
    return float(12 * np.log2(a / b))


def _stretches(track: Track) -> list[tuple[int, int]]:
    """Where the pitch goes on without a gap or a leap: first frame, and the one after the last."""
    voiced = track > 0
    level = np.log2(np.where(voiced, track, 1.0))
    new = np.ones(len(track), bool)
    new[1:] = ~(voiced[:-1] & (np.abs(np.diff(level)) * 12 < LEAP))
    starts = np.flatnonzero(voiced & new)
    ends = [next((n for n in range(s + 1, len(track)) if not voiced[n] or new[n]), len(track)) for s in starts]
    return list(zip(starts.tolist(), ends, strict=True))
