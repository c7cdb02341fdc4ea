"""A recording made ready: no DC or rumble, begun at its onset, without dead ends, at full scale; long ones cut."""

import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import soxr
from numpy.typing import NDArray
from scipy import signal

from soundloom.audio import Waveform
from soundloom.errors import AudioError

Cut = Literal["whole", "onset", "piece"]

LONG_S = 20.0  # a file beyond this is cut
PIECE_S, HOP_S = 6.0, 3.0  # pieces of long audio without gaps overlap by half
SECTION_S = 60.0  # pieces overlap within a section, never across: a split goes by sections
PRE_ROLL_S = 0.001  # what stays before an onset, so that no attack is shaved
SILENT_DB = -80.0
SHORTEST_S = 0.002
_RUMBLE_HZ = 10.0  # below the lowest note of a piano by more than an octave: 27.5 Hz loses 0.08 dB
_ENVELOPE_S = 0.001
_GAP_DB, _GAP_S = -45.0, 0.12


@dataclass(frozen=True)
class Prepared:
    """`samples` [C, T] int16 at full scale; times `10 ** (gain_db / 20)` they are as loud as in the file.

    `skipped` samples were cut off before them (negative: silence was added); the onset is at `onset_s`.
    """

    samples: NDArray[np.int16]
    gain_db: float
    onset_s: float
    skipped: int


def mixed(samples: NDArray[np.float32], channels: int) -> NDArray[np.float32]:
    """[C, T] as mono (the mean of all channels) or stereo (the first two)."""
    if channels == 1:
        return samples.mean(axis=0, keepdims=True, dtype=np.float32) if len(samples) > 1 else samples
    return samples[:channels] if len(samples) >= channels else np.repeat(samples[:1], channels, axis=0)


def prepare(samples: NDArray[np.float32], *, sample_rate: int, cut: Cut) -> Prepared:
    """samples [C, T] -> a clip. `AudioError` says why where nothing can be made of them.

    Pieces of long audio keep their ends: there is no onset to begin at.
    """
    bad = samples.size - int(np.isfinite(samples).sum())
    if bad:
        raise AudioError(f"{bad} of {samples.size} samples are NaN or infinite")
    if samples.shape[1] < SHORTEST_S * sample_rate:
        raise AudioError(f"too short: {samples.shape[1]} samples, a sound needs {round(SHORTEST_S * sample_rate)}")
    x = _without_rumble(samples.astype(np.float64), sample_rate)
    peak = float(np.abs(x).max())
    if peak < 10 ** (SILENT_DB / 20):
        shown = f"{20 * np.log10(peak):.0f} dB" if peak > 0 else "nothing at all"
        raise AudioError(f"silent: its peak is {shown}, the least is {SILENT_DB:.0f} dB")
    skipped, onset = 0, 0
    if cut != "piece":
        x, skipped, onset = _trimmed(x, peak, sample_rate)
        peak = float(np.abs(x).max())
    stored = np.round(x * (32767 / peak)).astype(np.int16)
    return Prepared(stored, float(20 * np.log10(peak)), onset / sample_rate, skipped)


def _without_rumble(x: NDArray[np.float64], sample_rate: int) -> NDArray[np.float64]:
    # The median finds the DC of a one-shot that sits on it, also where the mean is moved by a few cycles of a kick.
    # A sample in eight tells it as well, at an eighth of the cost.
    x = x - np.median(x[:, :: 8 if x.shape[1] > 8000 else 1], axis=1, keepdims=True)
    filtered: NDArray[np.float64] = signal.sosfilt(_rumble_filter(sample_rate), x, axis=1)
    return filtered


@functools.cache
def _rumble_filter(sample_rate: int) -> NDArray[np.float64]:
    return np.asarray(signal.butter(2, _RUMBLE_HZ, "highpass", fs=sample_rate, output="sos"))


def _trimmed(x: NDArray[np.float64], peak: float, sample_rate: int) -> tuple[NDArray[np.float64], int, int]:
    """The sound from a little before its onset to where it has died away; what was skipped; where the onset is now."""
    size = max(1, round(_ENVELOPE_S * sample_rate))
    loudest = np.abs(x).max(axis=0)
    padded = np.zeros(-(-len(loudest) // size) * size)
    padded[: len(loudest)] = loudest
    envelope = padded.reshape(-1, size).max(axis=1)

    risen = int(np.argmax(envelope >= peak * 10 ** (-30 / 20)))
    floor = float(np.median(envelope[:risen])) if risen >= 5 else 0.0
    least = float(np.clip(3 * floor, peak * 10 ** (-60 / 20), peak * 10 ** (-30 / 20)))
    below = np.flatnonzero(envelope[:risen] < least)
    block = int(below[-1]) + 1 if len(below) else 0
    onset = block * size + int(np.argmax(padded[block * size :] >= least))
    end = min(len(loudest), (int(np.flatnonzero(envelope >= peak * 10 ** (-66 / 20))[-1]) + 1) * size)

    before = max(1, round(PRE_ROLL_S * sample_rate))
    start = onset - before
    x = x[:, max(0, start) : max(end, onset + 1)]
    x = np.pad(x, ((0, 0), (max(0, -start), 0)))
    if start > 0:
        x[:, :before] *= np.sin(np.linspace(0, np.pi / 2, before, endpoint=False)) ** 2
    if end < len(loudest):
        fade = min(round(0.005 * sample_rate), x.shape[1] // 4)
        if fade:
            x[:, -fade:] *= np.cos(np.linspace(0, np.pi / 2, fade)) ** 2
    return x, start, before


def converted(pieces: Iterable[Waveform], *, channels: int, sample_rate: int) -> Iterator[NDArray[np.float32]]:
    """The pieces of a file, mixed and brought to the bank's rate without seams: [channels, T] each."""
    stream = None
    for piece in pieces:
        x = mixed(piece.samples, channels)
        if piece.sample_rate == sample_rate:
            yield x
            continue
        if stream is None:
            stream = soxr.ResampleStream(piece.sample_rate, sample_rate, channels, dtype="float32", quality="HQ")
        yield np.ascontiguousarray(stream.resample_chunk(np.ascontiguousarray(x.T)).T)
    if stream is not None:
        tail = stream.resample_chunk(np.zeros((0, channels), np.float32), last=True)
        yield np.ascontiguousarray(tail.T)


@dataclass(frozen=True)
class Region:
    """A part of a long file, in samples of the bank's rate, and the section of the file it belongs to."""

    start: int
    end: int
    cut: Cut
    section: int


def regions(blocks: Iterable[NDArray[np.float32]], *, sample_rate: int) -> list[Region]:
    """Where to cut a long file, whose audio passes by in blocks [C, T].

    At onsets, where gaps of silence part it into sounds (a session of one-shots); else into overlapping pieces.
    """
    size = round(0.005 * sample_rate)
    rest = np.zeros(0, np.float32)
    parts: list[NDArray[np.float32]] = []
    total = 0
    for block in blocks:
        total += block.shape[1]
        x = np.concatenate([rest, np.nan_to_num(np.abs(block).max(axis=0), posinf=0)])
        whole = len(x) // size * size
        parts.append(x[:whole].reshape(-1, size).max(axis=1))
        rest = x[whole:]
    envelope = np.concatenate([*parts, [rest.max() if len(rest) else 0.0]])
    sounds = _between_gaps(envelope)
    lengths = [(end - start) * 0.005 for start, end in sounds]
    cut_at_gaps = len(sounds) >= 3 and np.median(lengths) <= LONG_S / 2
    found: list[Region] = []
    for i, (start, end) in enumerate(sounds if cut_at_gaps else [(0, len(envelope))]):
        first, last = start * size, min(end * size, total)
        if cut_at_gaps and (end - start) * 0.005 <= LONG_S:
            found.append(Region(first, last, "onset", i))
        else:
            found.extend(_pieces(first, last, sample_rate=sample_rate, section=1000 * i))
    return found


def _between_gaps(envelope: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Runs of 5 ms blocks that are not silent, from 10 ms before each onset to the next gap's end."""
    gap = round(_GAP_S / 0.005)
    loud = np.flatnonzero(envelope > envelope.max() * 10 ** (_GAP_DB / 20))
    if not len(loud):
        return []
    breaks = np.flatnonzero(np.diff(loud) > gap)
    starts = [int(loud[0]), *(int(loud[i + 1]) for i in breaks)]
    # A sound's tail below the threshold belongs to it: it ends where the next one is about to begin.
    ends = [start - 2 for start in starts[1:]] + [len(envelope)]
    return [(max(0, start - 2), end) for start, end in zip(starts, ends, strict=True)]


def _pieces(first: int, last: int, *, sample_rate: int, section: int) -> list[Region]:
    length, piece, hop = last - first, round(PIECE_S * sample_rate), round(HOP_S * sample_rate)
    # Ten sections or more where there is room for them, so that a split can hold some back.
    size = int(np.clip(length / 12, 2 * piece, SECTION_S * sample_rate))
    size = size // hop * hop
    found = []
    for i, start in enumerate(range(first, last, size)):
        end = min(start + size, last)
        places = list(range(start, max(start + 1, end - piece + 1), hop))
        if places[-1] + piece < end:
            places.append(end - piece)
        for at in places:
            found.append(Region(at, min(at + piece, end), "piece", section + i))
    return found
