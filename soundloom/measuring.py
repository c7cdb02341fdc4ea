"""From a file to rows of the table: its clips, cut and prepared, and what is measured of them, many at a time."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from soundloom import audio, duplicates, features, preparing
from soundloom.audio import AudioInfo, Waveform
from soundloom.errors import AudioError
from soundloom.finding import Found
from soundloom.preparing import LONG_S, Cut, Prepared, Region
from soundloom.spectral import default_hop

Row = dict[str, Any]
_BATCH_S = 10.0  # audio that is measured at once, padding included: more falls out of the cache


@dataclass(frozen=True)
class Clip:
    """A prepared sound and where it comes from."""

    found: Found
    info: AudioInfo
    prepared: Prepared
    start_s: float
    cut: Cut
    section: str


def clips(
    found: Found, info: AudioInfo, *, sample_rate: int, channels: int, known: frozenset[float] = frozenset()
) -> Iterator[Clip | Row]:
    """The clips of a file, in order, and a row with the reason for each part of it that is left out.

    `known` are the starts (seconds) of the clips that are there already, from a scan that was interrupted.
    """
    if info.seconds <= LONG_S:
        if 0.0 in known:
            return
        try:
            pieces = list(preparing.converted(audio.blocks(found.path), channels=channels, sample_rate=sample_rate))
            whole = np.concatenate([np.zeros((channels, 0), np.float32), *pieces], axis=1)
            prepared = preparing.prepare(whole, sample_rate=sample_rate, cut="whole")
        except AudioError as error:
            yield left_out(found, str(error), info)
            return
        yield Clip(found, info, prepared, 0.0, "whole", found.name)
        return
    broken: list[str] = []

    def passing() -> Iterator[NDArray[np.float32]]:
        return preparing.converted(_unbroken(found, broken), channels=channels, sample_rate=sample_rate)

    regions = preparing.regions(passing(), sample_rate=sample_rate)
    for region, samples in _slices(passing(), regions, channels):
        start_s = round(region.start / sample_rate, 6)
        if start_s in known:
            continue
        try:
            prepared = preparing.prepare(samples, sample_rate=sample_rate, cut=region.cut)
            yield Clip(found, info, prepared, start_s, region.cut, f"{found.name}:{region.section}")
        except AudioError as error:
            yield {**left_out(found, str(error), info), "start_s": start_s, "seconds": samples.shape[1] / sample_rate}
    if broken or not regions:
        reason = broken[0] if broken else "silent: there is nothing in it"
        yield {**left_out(found, reason, info), "start_s": None}


def left_out(found: Found, reason: str, info: AudioInfo | None = None) -> Row:
    """The row of a file, or a part of one, that is no clip."""
    row: Row = {"path": found.name, "reason": reason, "file_size": found.size, "file_mtime_ns": found.mtime_ns}
    if info is not None:
        seconds = info.seconds if info.frames < 2**40 else None
        row |= {"sample_rate": info.sample_rate, "channels": info.channels, "start_s": 0.0, "seconds": seconds}
    return row


def measure(
    batch: Sequence[Clip], *, sample_rate: int, add: Callable[[Row, NDArray[np.int16], NDArray[np.float32]], None]
) -> None:
    """Measures clips, those of like length together, and hands each row, its audio and its track [2, N] to `add`."""
    order = sorted(range(len(batch)), key=lambda i: batch[i].prepared.samples.shape[1])
    done: dict[int, tuple[Row, NDArray[np.float32]]] = {}
    for together in _alike(order, [clip.prepared.samples.shape[1] for clip in batch], sample_rate):
        rows = _measured([batch[i] for i in together], sample_rate)
        done.update(zip(together, rows, strict=True))
    for i, clip in enumerate(batch):
        row, track = done[i]
        add(row, clip.prepared.samples, track)


def _measured(batch: Sequence[Clip], sample_rate: int) -> list[tuple[Row, NDArray[np.float32]]]:
    lengths = [clip.prepared.samples.shape[1] for clip in batch]
    sounds = np.zeros((len(batch), max(lengths)), np.float32)
    for b, clip in enumerate(batch):
        sounds[b, : lengths[b]] = clip.prepared.samples.mean(axis=0, dtype=np.float32) / np.float32(32767)
    with torch.no_grad():
        found = features.describe(torch.from_numpy(sounds), torch.tensor(lengths), sample_rate=sample_rate)
    hop, rows = default_hop(sample_rate), []
    for b, clip in enumerate(batch):
        frames = -(-lengths[b] // hop)
        f0_hz = found.track.f0_hz[b, :frames].numpy()
        track = np.stack([f0_hz, found.track.voiced[b, :frames].numpy()]).astype(np.float32)
        pitch = _known(found.pitch[b])
        rows.append(
            (
                {
                    "path": clip.found.name,
                    "start_s": clip.start_s,
                    "seconds": lengths[b] / sample_rate,
                    "hash": blake2b(clip.prepared.samples.tobytes(), digest_size=16).hexdigest(),
                    "pitch_confidence": _known(found.pitch_confidence[b]),
                    "loudness_lufs": _known(found.loudness_lufs[b] + clip.prepared.gain_db),
                    "brightness_hz": _known(found.brightness_hz[b]),
                    "noisiness": _known(found.noisiness[b]),
                    "attack_s": _known(found.attack_s[b]),
                    "decay_s": _known(found.decay_s[b]),
                    "onset_s": clip.prepared.onset_s,
                    "inharmonicity": _known(found.inharmonicity[b]),
                    "gain_db": clip.prepared.gain_db,
                    "sample_rate": clip.info.sample_rate,
                    "channels": clip.info.channels,
                    "cut": clip.cut,
                    "measured_pitch": pitch,
                    "steadiness": _steadiness(f0_hz, pitch),
                    "section": clip.section,
                    "fingerprint": duplicates.fingerprint(sounds[b, : lengths[b]], sample_rate=sample_rate).hex(),
                    "file_size": clip.found.size,
                    "file_mtime_ns": clip.found.mtime_ns,
                },
                track,
            )
        )
    return rows


def _steadiness(f0_hz: NDArray[np.float32], pitch: float | None) -> float | None:
    """The part of the voiced frames within half a semitone of the clip's pitch: high for a note, low for speech."""
    voiced = f0_hz[f0_hz > 0]
    if pitch is None or not len(voiced):
        return None
    away = 12 * np.log2(voiced / np.median(voiced))
    return float(np.mean(np.abs(away) < 0.5))


def _known(value: torch.Tensor | float) -> float | None:
    number = float(value)
    return number if np.isfinite(number) else None


def _alike(order: Sequence[int], lengths: Sequence[int], sample_rate: int) -> Iterator[list[int]]:
    """Clips in the order of their lengths, in groups that are little padded and not too much at once."""
    group: list[int] = []
    for i in order:
        padded = lengths[i] * (len(group) + 1)
        if group and (padded > _BATCH_S * sample_rate or lengths[i] > 1.3 * lengths[group[0]] + 0.05 * sample_rate):
            yield group
            group = []
        group.append(i)
    if group:
        yield group


def _unbroken(found: Found, broken: list[str]) -> Iterator[Waveform]:
    """The pieces of a long file up to where it breaks off, if it does: an hour is not lost for its last second."""
    try:
        yield from audio.blocks(found.path)
    except AudioError as error:
        broken[:] = [str(error)]


def _slices(
    blocks: Iterable[NDArray[np.float32]], regions: Sequence[Region], channels: int
) -> Iterator[tuple[Region, NDArray[np.float32]]]:
    """The audio of each region, in one pass over the blocks, holding no more than the longest region needs."""
    assert all(a.start <= b.start for a, b in pairwise(regions))
    held, first, blocks = np.zeros((channels, 0), np.float32), 0, iter(blocks)
    for region in regions:
        while first + held.shape[1] < region.end:
            block = next(blocks, None)
            if block is None:
                break
            drop = min(max(0, region.start - first), held.shape[1])
            held, first = np.concatenate([held[:, drop:], block], axis=1), first + drop
        yield region, held[:, region.start - first : region.end - first]
