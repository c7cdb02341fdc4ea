"""The courses of pitch and loudness that an instrument was heard to take, and how another's are fitted to them."""

import math
from functools import lru_cache

import torch
from torch import Tensor, nn

from soundloom import spectral
from soundloom.models.base import suiting

SILENCE_DB = -100.0
SOUNDING_DB = 50.0  # below the loudest frame: what is quieter is between the notes
REMEMBERED = 128
QUANTILES = 101
RELEASE_FRAMES = 8  # over which a note that is cut out of a phrase dies away
FALL_DB = 60.0
SLUR = 0.7  # semitones between frames at which another note begins


def a_weighted_db(audio: Tensor, *, sample_rate: int, hop_length: int) -> Tensor:
    """audio [B, T] -> its level in dB per frame [B, N], weighted as the ear does (IEC 61672, curve A), from -100 on.

    A sine of 1 kHz at full scale is at 0 dB.

    >>> tone = torch.sin(2 * torch.pi * 1000 * torch.arange(16000) / 16000)[None]
    >>> round(abs(a_weighted_db(tone, sample_rate=16000, hop_length=256)[0, 30].item()), 1)
    0.0
    """
    n_fft = 4 * hop_length
    power = spectral.power(audio, n_fft=n_fft, hop_length=hop_length)
    # By Parseval: one-sided power over n_fft and the energy of the window (3/8 n_fft); a full sine has mean square 1/2.
    square = torch.einsum("f,bfn->bn", _a_weight(sample_rate, n_fft, audio.device), power) * (4 / (0.375 * n_fft**2))
    return 10 * torch.log10(square + 10 ** (SILENCE_DB / 10))


@lru_cache(maxsize=16)
def _a_weight(sample_rate: int, n_fft: int, device: torch.device) -> Tensor:
    """|A|² at the bins of the STFT, 1 at 1 kHz."""
    with torch.inference_mode(False):
        square = torch.cat([torch.linspace(0, sample_rate / 2, n_fft // 2 + 1), torch.tensor([1000.0])]).double() ** 2
        slopes = (square + 20.6**2) * (square + 12194.0**2)
        response = square**2 / (slopes * torch.sqrt((square + 107.7**2) * (square + 737.9**2)))
        return (response[:-1] / response[-1]).square().float().to(device)


def octaves_into(f0_hz: Tensor, range_hz: Tensor) -> int:
    """By how many octaves a melody f0 [...] (0: no pitch) has to move so that its median lies in the range [2].

    As few as will do; where the range is less than an octave and none does, those that bring it nearest.
    """
    sung = f0_hz[f0_hz > 0]
    if not len(sung):
        return 0
    low, high = (math.log2(float(hz)) for hz in range_hz)
    middle = math.log2(float(sung.median()))

    def outside(octaves: int) -> tuple[float, int]:
        return max(low - middle - octaves, middle + octaves - high, 0.0), abs(octaves)

    return min(range(-8, 9), key=outside)


def matched_levels(level_db: Tensor, levels: Tensor) -> Tensor:
    """Levels [1, N] given the distribution of `levels` [QUANTILES]; frames between the notes stay as far below."""
    sounding = level_db[level_db > max(float(level_db.max()) - SOUNDING_DB, SILENCE_DB + 10)]
    if not len(sounding):
        return level_db
    own = torch.quantile(sounding, torch.linspace(0, 1, QUANTILES, device=level_db.device))
    above = torch.searchsorted(own, level_db.contiguous()).clamp(1, QUANTILES - 1)
    low, high = own[above - 1], own[above]
    part = ((level_db - low) / (high - low).clamp_min(1e-3)).clamp(0, 1)
    matched = levels[above - 1] + part * (levels[above] - levels[above - 1])
    matched = matched + (level_db - own[0]).clamp_max(0.0)
    return torch.where(level_db <= SILENCE_DB + 1, level_db, matched)


class Courses(nn.Module):
    """Up to `REMEMBERED` courses, each from the start of a sound; and over all of them the range of pitch and the
    quantiles of level. Buffers: they are saved with the model, and nothing else of the bank is needed."""

    tracks: Tensor  # [REMEMBERED, 1 + D, N]: f0 in Hz, level in dB, and what else there is
    facts: Tensor  # [REMEMBERED, 5]: frames (0: none), label, MIDI pitch of its longest note (NaN: none), its bounds
    range_hz: Tensor  # [2]
    levels: Tensor  # [QUANTILES] dB

    def __init__(self, *, tracks: int, frames: int) -> None:
        super().__init__()
        self.most = REMEMBERED
        self.register_buffer("tracks", torch.zeros(REMEMBERED, tracks, frames))
        self.register_buffer("facts", torch.zeros(REMEMBERED, 5))
        self.register_buffer("range_hz", torch.tensor([20.0, 5000.0]))
        self.register_buffer("levels", torch.linspace(-60.0, 0.0, QUANTILES))

    def __len__(self) -> int:
        return int((self.facts[:, 0] > 0).sum())

    def remember(self, tracks: Tensor, lengths: Tensor, labels: Tensor) -> None:
        """Courses [M, 1 + D, N], of which the first lengths [M] frames count, and their labels [M]."""
        tracks, lengths, labels = tracks[: self.most], lengths[: self.most], labels[: self.most]
        facts = torch.zeros_like(self.facts)
        for i, (row, length) in enumerate(zip(tracks.cpu(), lengths.tolist(), strict=True)):
            pitch, start, end = longest_note(row[0, :length])
            facts[i] = torch.tensor([length, float(labels[i]), pitch, start, end])
        self.facts.copy_(facts)
        self.tracks[: len(tracks)] = tracks
        inside = torch.arange(tracks.shape[-1], device=lengths.device) < lengths[:, None]
        f0_hz, level = tracks[:, 0][inside], tracks[:, 1][inside]
        heard = level > max(float(level.max()) - SOUNDING_DB, SILENCE_DB + 10)
        if heard.any():
            self.levels.copy_(quantiles(level[heard], torch.linspace(0, 1, QUANTILES)))
        if (heard & (f0_hz > 0)).any():
            self.range_hz.copy_(quantiles(f0_hz[heard & (f0_hz > 0)], torch.tensor([0.01, 0.99])))

    def drawn(self, pitch: float, label: int, *, frames: int | None, generator: torch.Generator) -> Tensor:
        """A course [1 + D, n]. `pitch` MIDI, or NaN for all of one as it was; `label` or `UNKNOWN`; `frames` is the
        length asked for: a longer course is cut, a shorter one drawn out."""
        facts = self.facts[: len(self)].cpu()
        weights = suiting(facts[:, 2], facts[:, 1], pitch=pitch, label=label)
        one_note = math.isfinite(pitch) and bool((weights * torch.isfinite(facts[:, 2])).any())
        if one_note:
            weights = weights * torch.isfinite(facts[:, 2])
        row = int(torch.multinomial(weights, 1, generator=generator))
        length, _, own, start, end = facts[row].tolist()
        course = self.tracks[row, :, : int(length)].cpu().clone()
        if one_note:
            course = course[:, int(start) : int(end)]
            course[0] *= 2.0 ** ((pitch - own) / 12)
        if frames is not None and frames > course.shape[1]:
            course = course[:, torch.arange(frames) * course.shape[1] // frames]
        if frames is not None:
            course = course[:, : max(1, frames - RELEASE_FRAMES)]
        return released(course)


def released(course: Tensor) -> Tensor:
    """A course [1 + D, n] and the frames in which it dies away."""
    after = course[:, -1:].repeat(1, RELEASE_FRAMES)
    after[1] -= torch.linspace(FALL_DB / RELEASE_FRAMES, FALL_DB, RELEASE_FRAMES)
    return torch.cat([course, after], 1)


def longest_note(f0_hz: Tensor) -> tuple[float, int, int]:
    """MIDI pitch (NaN: none), first frame and end of the longest stretch of f0 [N] without a leap or a gap."""
    midi = [69 + 12 * math.log2(hz / 440) if hz > 0 else math.nan for hz in f0_hz.tolist()]
    best = (0, 0)
    start = 0
    for n in range(len(midi) + 1):
        # NaN compares false: a gap ends a note, and so does the end of the course.
        if n < len(midi) and n > start and abs(midi[n] - midi[n - 1]) < SLUR:
            continue
        if n > start and math.isfinite(midi[start]) and n - start > best[1] - best[0]:
            best = (start, n)
        start = n
    start, end = best
    if end == start:
        return math.nan, 0, 0
    return float(torch.tensor(midi[start:end]).median()), start, end


def quantiles(values: Tensor, at: Tensor) -> Tensor:
    """torch.quantile refuses more than 2^24 values; every so manyth will do."""
    step = 1 + len(values) // 1_000_000
    return torch.quantile(values.flatten()[::step].float(), at.to(values.device))
