"""Recordings as a sampler's kernel reads them: twice oversampled, band-limited for higher pitches, loops laid out."""

import math
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.signal
import soxr
from numpy.typing import NDArray

from soundloom.errors import InstrumentError
from soundloom.instruments.reading import BEFORE, POSITION_BITS, TAPS
from soundloom.instruments.zones import Keymap, Loop, Zone

LEVELS = 20
# How much faster than its band allows a level may be played: what folds back then lies above 19 kHz.
NEAR = 1.12
MARGIN = 256  # frames around the places that a loop jumps between: there the oversampling filter sees the loop only
SHORTEST = 1024  # frames between two jumps: shorter loops are laid out several times
RING = 64  # frames of silence after a recording, for filters to ring out in
FAST = 64_000  # Hz: recordings from here on are oversampled as they are
MOST_FRAMES = 1 << 27  # of all recordings of an instrument together: a gigabyte at level 0
HEADROOM = 2.0  # semitones that an instrument is bent or tuned by without aliasing

PIECE = np.dtype(
    [
        ("left", "i8", (LEVELS,)),  # where each level starts in the data, per channel
        ("right", "i8", (LEVELS,)),
        ("stereo", "i8"),
        ("levels", "i8"),  # how many there are
        ("over_at", "i8"),  # positions, in samples of level 0: the sound is over;
        ("wrap_at", "i8"),  # here the position goes back
        ("wrap_length", "i8"),  # by this much,
        ("rest", "i8"),  # or, when the key is up, to the piece that plays the rest, where there is one (not -1),
        ("rest_at", "i8"),  # at this position
    ]
)


@dataclass(frozen=True, eq=False)
class Pieces:
    """All recordings of an instrument in one array.

    `table` [P] are `PIECE` records; `of_zone` says which piece a zone plays and `rate_hz` at how many samples of level
    0 a second it plays as recorded.
    """

    data: NDArray[np.float32]
    table: NDArray[Any]
    of_zone: NDArray[np.int64]
    rate_hz: NDArray[np.float64]

    @classmethod
    def of(cls, zones: Sequence[Zone]) -> "Pieces":
        """Lays the recordings out. Zones that play the same frames in the same loop share a piece."""
        highest: dict[_Key, float] = {}
        for zone in zones:
            key = _key(zone)
            highest[key] = max(highest.get(key, -math.inf), _semitones(zone))
        builder = _Builder()
        places: dict[_Key, int] = {}
        for zone in zones:
            key = _key(zone)
            if key not in places:
                places[key] = builder.add(zone, zone.loop, _count(zone, highest[key]))
        of_zone = np.array([places[_key(zone)] for zone in zones], dtype=np.int64)
        rate_hz = np.array([zone.waveform.sample_rate * _factor(zone) for zone in zones], dtype=np.float64)
        return cls(np.concatenate(builder.data), np.array(builder.table, dtype=PIECE), of_zone, rate_hz)


_MADE: weakref.WeakKeyDictionary[Keymap, Pieces] = weakref.WeakKeyDictionary()


def pieces_of(keymap: Keymap) -> Pieces:
    """The recordings of an instrument, laid out once, however many samplers play them."""
    if keymap not in _MADE:
        _MADE[keymap] = Pieces.of(keymap.zones)
    return _MADE[keymap]


_Key = tuple[int, tuple[int, int], Loop | None]


def _key(zone: Zone) -> _Key:
    return id(zone.waveform), zone.frames, zone.loop


def _semitones(zone: Zone) -> float:
    """How far above its recording a zone is played at most."""
    ends = (zone.low_key - zone.pitch, zone.high_key - zone.pitch)
    return max(zone.key_tracking * end for end in ends) + zone.tune + HEADROOM


def _factor(zone: Zone) -> int:
    return 1 if zone.waveform.sample_rate >= FAST else 2


def _count(zone: Zone, semitones: float) -> int:
    """How many levels are needed for playing so high at 44.1 kHz: each half an octave narrower than the last."""
    step = 2 ** (semitones / 12) * zone.waveform.sample_rate * _factor(zone) / 44_100
    return min(max(1 + math.ceil(2 * math.log2(step / (2 * NEAR))), 1), LEVELS)


class _Builder:
    """Collects the data and the records of pieces."""

    def __init__(self) -> None:
        self.data: list[NDArray[np.float32]] = []
        self.table: list[Any] = []
        self.at = 0
        self.frames = 0

    def add(self, zone: Zone, loop: Loop | None, count: int) -> int:
        """Lays out a recording, its loop and what follows the loop; returns the number of its record."""
        factor, (first, last) = _factor(zone), zone.frames
        self.frames += last - first
        if self.frames > MOST_FRAMES:
            raise InstrumentError(
                f"an instrument's recordings have more than {MOST_FRAMES} frames: give it fewer or shorter ones"
            )
        samples = zone.waveform.samples[:, first:last]
        record = np.zeros((), PIECE)
        record["rest"] = -1
        if loop is None:
            over = factor * (last - first) + factor * RING * 3 // 4
            record["over_at"], record["wrap_at"], record["wrap_length"] = over, over + 16, 16  # silence, until noticed
            samples = np.pad(samples, ((0, 0), (0, RING)))
        else:
            start, length = loop.start - first, loop.end - loop.start
            back = length * math.ceil(SHORTEST / length)
            if loop.until_release:
                record["rest"] = self.add(zone, None, count)
                record["rest_at"] = factor * (start + MARGIN % length)
            samples = _looped(samples, start, length, loop.crossfade, back + 2 * MARGIN)
            record["wrap_at"], record["wrap_length"] = factor * (start + MARGIN + back), factor * back
            record["over_at"] = np.iinfo(np.int64).max >> POSITION_BITS
        for name in ("over_at", "wrap_at", "wrap_length", "rest_at"):
            record[name] <<= POSITION_BITS
        levels = _levels(_oversampled(samples, factor), count)
        record["levels"], record["stereo"] = len(levels), len(samples) - 1
        for i, level in enumerate(levels):
            record["left"][i] = self._append(level[0])
            record["right"][i] = self._append(level[1]) if len(level) > 1 else record["left"][i]
        self.table.append(record)
        return len(self.table) - 1

    def _append(self, samples: NDArray[np.float32]) -> int:
        at = self.at
        self.data += [np.zeros(BEFORE, np.float32), samples.astype(np.float32), np.zeros(TAPS, np.float32)]
        self.at += BEFORE + len(samples) + TAPS
        return at


def _looped(samples: NDArray[np.float32], start: int, length: int, crossfade: int, more: int) -> NDArray[np.float32]:
    """A recording [C, T] up to its loop's end, the seam faded, and the loop again for `more` frames from its start.

    The weights of the fade keep the power, whatever the correlation r of the two sides: the root of
    a² + b² + 2 r a b is 1.
    """
    body = samples[:, : start + length].copy()
    fade = min(crossfade, start, length)
    if fade > 0:
        out, into = body[:, start + length - fade :], body[:, start - fade : start]
        power = math.sqrt(float(np.sum(np.square(out, dtype=np.float64)) * np.sum(np.square(into, dtype=np.float64))))
        r = max(float(np.sum(out.astype(np.float64) * into)) / power, -0.9) if power > 0 else 1.0
        b = (np.arange(fade) + 0.5) / fade
        a = 1 - b
        body[:, start + length - fade :] = (a * out + b * into) / np.sqrt(a * a + b * b + 2 * r * a * b)
    repeated = np.arange(start + length, start + more)
    return np.concatenate([body, body[:, start + (repeated - start) % length]], axis=1)


def _oversampled(samples: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """Level 0: nothing above a quarter of its rate."""
    if factor == 1:
        return _low_passed(samples, 0.25)
    return np.asarray(soxr.resample(samples.T, 1, factor, quality="VHQ"), dtype=np.float32).T


def _levels(level: NDArray[np.float32], count: int) -> list[NDArray[np.float32]]:
    """Level 0 and narrower ones: each ends half an octave lower, and every second one from the third has half the rate.

    So all but level 0 end below the 0.18 cycles a sample up to which `reading` is exact.
    """
    levels = [level]
    for i in range(1, count):
        ends = 0.25 / math.sqrt(2) if i % 2 else 0.125
        levels.append(_low_passed(level, ends) if i < 3 else _low_passed(levels[i - 2], ends / 2)[:, ::2])
    return levels


def _low_passed(samples: NDArray[np.float32], cutoff: float) -> NDArray[np.float32]:
    """What lies below a cutoff (in cycles a sample): flat to 0.91 of it, 100 dB down from it on, no phase moved."""
    width = 0.09 * cutoff
    taps = math.ceil((100 - 7.95) / (14.36 * width)) | 1
    kernel = scipy.signal.firwin(taps, cutoff - width / 2, window=("kaiser", 10.06), fs=1.0)
    wide = np.pad(samples, ((0, 0), (taps // 2, taps // 2)))
    return np.asarray(scipy.signal.oaconvolve(wide, kernel[None], mode="valid", axes=1), dtype=np.float32)
