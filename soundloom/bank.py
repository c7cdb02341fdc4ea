"""A folder of sounds, scanned once: a table of clips and their audio in one memory-mapped file, ready to train on."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from soundloom import scanning, table
from soundloom.audio import Waveform
from soundloom.concluding import Rules
from soundloom.condition import DESCRIPTORS, MEASURES, MOST_GRAMS, UNKNOWN, Condition, grams
from soundloom.config import did_you_mean
from soundloom.errors import BankError
from soundloom.spectral import default_hop

PHASES = 512  # a pitch shift reads the audio in steps of 1/512 sample: exact filter phases, a grid of 3.4 cents
TAPS = 24


@dataclass(frozen=True)
class BatchSpec:
    """What a training batch holds: `size` crops of `samples` at the bank's rate, with pitch per `hop_length`.

    `align` "start": from the clip's start, zero-padded at the end; "random": from anywhere in the clip, every fourth
    from its start, where the attack is. `semitones` and `gain_db` are the ranges (±, uniform) of the augmentation.
    """

    size: int
    samples: int
    hop_length: int
    align: Literal["random", "start"]
    semitones: float = 0.0
    gain_db: float = 0.0

    @property
    def frames(self) -> int:
        return -(-self.samples // self.hop_length)


@dataclass(frozen=True)
class Batch:
    """B crops and what is known of them.

    Shapes: `audio` [B, C, T]; `lengths` [B], samples up to the end of the clip; `f0_hz` and `voiced` [B, 1, N] with
    frame n centred on sample (n + 1/2) * hop_length, 0 where there is no pitch; `inharmonicity` [B]; `clips` [B].
    """

    audio: Tensor
    lengths: Tensor
    f0_hz: Tensor
    voiced: Tensor
    inharmonicity: Tensor
    condition: Condition
    clips: Tensor

    def __len__(self) -> int:
        return len(self.clips)

    def to(self, device: torch.device | str) -> "Batch":
        return Batch(
            audio=self.audio.to(device),
            lengths=self.lengths.to(device),
            f0_hz=self.f0_hz.to(device),
            voiced=self.voiced.to(device),
            inharmonicity=self.inharmonicity.to(device),
            condition=self.condition.to(device),
            clips=self.clips.to(device),
        )


@dataclass(frozen=True, eq=False)
class SoundBank:
    """A scanned folder. A clip is known by its index, which is its row in `bank.parquet`; left-out files come after.

    `name_pitch_offset_semitones` is how far the sounds are above the notes in their file names; None: no notes there.
    """

    folder: Path
    kind: Literal["one-shots", "notes", "long"]
    sample_rate: int
    channels: int
    label_rule: str
    name_pitch_offset_semitones: float | None
    labels: tuple[str, ...]
    columns: dict[str, NDArray[Any]] = field(repr=False)
    left_out: tuple[tuple[str, str], ...] = field(repr=False)  # path and reason
    _audio: NDArray[np.int16] = field(repr=False)
    _tracks: NDArray[np.float32] = field(repr=False)

    @classmethod
    def scan(
        cls,
        folder: Path | str,
        out: Path | str,
        *,
        label_from: str | None = None,
        labels: Path | str | None = None,
        split: Path | str | None = None,
        channels: int = 1,
        progress: Callable[[int, int], None] | None = None,
    ) -> "SoundBank":
        """Reads every sound in `folder` into the bank `out`; what was read before and has not changed is kept.

        `label_from`: "folder", "name", or a regular expression whose first group is the label; by itself it finds out.
        `labels` and `split`: CSV files with the columns path,label and path,split. `progress(done, total)` counts
        files. A bad file is left out with its reason; `BankError` where no sound can be read, `StorageError` where
        `out` cannot be written.
        """
        scanning.scan(
            Path(folder),
            Path(out),
            rules=Rules(label_from=label_from, labels=labels, split=split),
            channels=channels,
            progress=progress,
        )
        return cls.load(out)

    @classmethod
    def load(cls, folder: Path | str) -> "SoundBank":
        """A bank that was scanned before. `BankError` where it is incomplete, damaged or from another version."""
        folder = Path(folder)
        facts, columns = table.load(folder)
        kept = np.array([reason is None for reason in columns["reason"]], dtype=bool)
        left_out = [(columns["path"][i], columns["reason"][i]) for i in np.flatnonzero(~kept)]
        return cls(
            folder=folder,
            kind=facts["kind"],
            sample_rate=facts["sample_rate"],
            channels=facts["channels"],
            label_rule=facts["label_rule"],
            name_pitch_offset_semitones=facts["name_pitch_offset_semitones"],
            labels=tuple(facts["labels"]),
            columns={name: values[kept] for name, values in columns.items()},
            left_out=tuple(left_out),
            _audio=table.mapped(folder / facts["audio"], np.int16),
            _tracks=table.mapped(folder / facts["tracks"], np.float32),
        )

    def __len__(self) -> int:
        return len(self.columns["path"])

    def clips(self, split: str | None = None) -> NDArray[np.int64]:
        """The clips of a split ("train", "validation", "test"), or all of them."""
        if split is None:
            return np.arange(len(self))
        return np.flatnonzero(self.columns["split"] == split)

    def column(self, name: str) -> NDArray[Any]:
        """A column of the table over all clips: NaN or None where a value is not known."""
        if name not in self.columns:
            raise BankError(f"the bank has no column '{name}': {did_you_mean(name, self.columns)}")
        return self.columns[name]

    def audio(self, clip: int) -> Waveform:
        """A clip at a peak of 1; multiplied by 10 ** (gain_db / 20), as loud as its file."""
        stored = self._stored(clip)
        return Waveform(stored.astype(np.float32) / np.float32(32767), self.sample_rate)

    def f0(self, clip: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The pitch of a clip, per frame of `default_hop`: f0 in Hz [N] (0 where unvoiced) and voiced [N], 0 to 1."""
        start, frames = int(self.columns["track_offset"][clip]), int(self.columns["track_frames"][clip])
        f0_hz, voiced = self._tracks[start : start + 2 * frames].reshape(2, frames)
        factor, pitch = self.columns["track_ratio"][clip], self.columns["pitch"][clip]
        one_note = self.kind == "notes" and np.isfinite(pitch)
        hz = 440.0 * 2.0 ** ((pitch - 69) / 12) if one_note else 0.0
        right = _put_right(f0_hz, factor, hz)
        return right, voiced * (right > 0)

    def report(self) -> Path:
        """The page that shows what the scan found."""
        return self.folder / "report.html"

    def draw(self, spec: BatchSpec, *, split: str, generator: torch.Generator) -> Batch:
        """A random batch of a split: a pure function of the generator's state.

        Near-duplicates share the chance of one clip, and a label's chance grows with the square root of its clips, so
        that rare labels are heard without being worn out.
        """
        clips, chances = self._chances(split)
        u = torch.rand(5, spec.size, generator=generator, device=generator.device).cpu().double().numpy()
        drawn = clips[np.minimum(np.searchsorted(chances, u[0], side="right"), len(clips) - 1)]
        steps = np.round(PHASES * 2.0 ** ((2 * u[1] - 1) * spec.semitones / 12)).astype(np.int64)
        gains = 10.0 ** ((2 * u[2] - 1) * spec.gain_db / 20)
        room = self.columns["frames"][drawn] - spec.samples * steps // PHASES
        anywhere = (spec.align == "random") & (u[3] >= 0.25) & (room > 0)
        starts = np.where(anywhere, u[4] * room, 0).astype(np.int64)
        return self._batch(spec, drawn, starts, steps, gains)

    def take(self, spec: BatchSpec, clips: Sequence[int]) -> Batch:
        """Given clips from their start, as they are: for validation. `spec.size` plays no part."""
        chosen = np.asarray(clips, dtype=np.int64)
        if len(chosen) and not (chosen.min() >= 0 and chosen.max() < len(self)):
            raise BankError(f"clip {chosen.max()} does not exist: the bank has 0 to {len(self) - 1}")
        n = len(chosen)
        return self._batch(spec, chosen, np.zeros(n, np.int64), np.full(n, PHASES, np.int64), np.ones(n))

    def _stored(self, clip: int) -> NDArray[np.int16]:
        start, frames = int(self.columns["offset"][clip]), int(self.columns["frames"][clip])
        return self._audio[start : start + self.channels * frames].reshape(self.channels, frames)

    @functools.cache  # noqa: B019  (a bank lives as long as the run that draws from it)
    def _chances(self, split: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        clips = self.clips(split)
        if not len(clips):
            raise BankError(f"the bank {self.folder} has no clips in the split '{split}': it has {len(self)} in all")
        _, group, sizes = np.unique(self.columns["group"][clips], return_inverse=True, return_counts=True)
        weights = 1.0 / sizes[group]
        _, label, _ = np.unique(self.label_indices()[clips], return_inverse=True, return_counts=True)
        weights /= np.sqrt(np.bincount(label, weights))[label]
        return clips, np.cumsum(weights) / weights.sum()

    @functools.cache  # noqa: B019
    def label_indices(self) -> NDArray[np.int64]:
        """Each clip's label as an index into `labels`, -1 where it has none."""
        index = {label: i for i, label in enumerate(self.labels)}
        return np.array([index.get(label, UNKNOWN) for label in self.columns["label"]], dtype=np.int64)

    def condition(self, clips: NDArray[np.int64]) -> Condition:
        """What is known of clips, as a model is told it: descriptors as quantiles of the clips trained on."""
        columns, quantiles, texts = self._conditions()
        return Condition(
            pitch=torch.from_numpy(columns["pitch"][clips]),
            label=torch.from_numpy(self.label_indices()[clips]),
            velocity=torch.from_numpy(columns["velocity"][clips]),
            descriptors=torch.from_numpy(quantiles[clips]),
            text=torch.from_numpy(texts[clips]).long(),
        )

    def quantile(self, name: str, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where values of a descriptor (`condition.DESCRIPTORS`) stand among the clips trained on: 0 lowest, 1 highest.

        Brightness in Hz, attack and decay in seconds, noisiness from 0 to 1, loudness in LUFS at a peak of full scale.
        """
        trained = self.clips("train")
        known = np.sort(self._descriptor(name)[trained if len(trained) else self.clips()])
        known = known[np.isfinite(known)]
        below = (np.searchsorted(known, values, "left") + np.searchsorted(known, values, "right")) / 2
        return np.where(np.isfinite(values) & (len(known) > 0), below / max(len(known), 1), np.nan)

    def _descriptor(self, name: str) -> NDArray[np.float64]:
        values = np.asarray(self.columns[MEASURES[name]], np.float64)
        return values - self.columns["gain_db"] if name == "loudness" else values

    @functools.cache  # noqa: B019
    def _conditions(self) -> tuple[dict[str, NDArray[np.float32]], NDArray[np.float32], NDArray[np.int16]]:
        """Pitch and velocity, descriptors [clips, 5] and hashed captions [clips, MOST_GRAMS] of all clips."""
        columns = {name: np.asarray(self.columns[name], np.float32) for name in ("pitch", "velocity")}
        quantiles = np.stack([self.quantile(name, self._descriptor(name)) for name in DESCRIPTORS], 1)
        texts = np.full((len(self), MOST_GRAMS), UNKNOWN, np.int16)  # there are 4096 grams: a quarter of the memory
        for clip, caption in enumerate(self.columns["caption"]):
            texts[clip] = grams(caption or "").numpy()
        return columns, quantiles.astype(np.float32), texts

    def _batch(
        self,
        spec: BatchSpec,
        clips: NDArray[np.int64],
        starts: NDArray[np.int64],
        steps: NDArray[np.int64],
        gains: NDArray[np.float64],
    ) -> Batch:
        n, hop = len(clips), default_hop(self.sample_rate)
        audio = np.empty((n, self.channels, spec.samples), np.float32)
        tracks = np.zeros((n, 2, spec.frames), np.float32)
        ratios = steps / PHASES
        for b, clip in enumerate(clips):
            stored = self._stored(clip)
            for channel in range(self.channels):
                _read(stored[channel], starts[b], steps[b], _filter(int(steps[b])), gains[b] / 32767, audio[b, channel])
            # Frame n is centred on (n + 1/2) * hop_length in the crop, frame m of the track on (m + 1/2) * hop.
            pace = spec.hop_length * ratios[b] / hop
            _read_track(*self.f0(clip), starts[b] / hop + pace / 2 - 0.5, pace, tracks[b])
            tracks[b, 0] *= ratios[b]
        left = np.ceil((self.columns["frames"][clips] - starts) / ratios).astype(np.int64)
        pitch = self.columns["pitch"][clips] + 12 * np.log2(ratios)
        return Batch(
            audio=torch.from_numpy(audio),
            lengths=torch.from_numpy(np.clip(left, 0, spec.samples)),
            f0_hz=torch.from_numpy(tracks[:, :1].copy()),
            voiced=torch.from_numpy(tracks[:, 1:].copy()),
            inharmonicity=torch.from_numpy(np.nan_to_num(self.columns["inharmonicity"][clips]).astype(np.float32)),
            condition=replace(self.condition(clips), pitch=torch.from_numpy(pitch.astype(np.float32))),
            clips=torch.from_numpy(clips.copy()),
        )


def spread_evenly(clips: NDArray[np.int64], most: int) -> list[int]:
    """Up to `most` of the clips, first and last among them.

    >>> spread_evenly(np.arange(10), 4)
    [0, 3, 6, 9]
    """
    places = np.linspace(0, len(clips) - 1, min(most, len(clips))).round().astype(int)
    return [int(clip) for clip in clips[places]]


@functools.lru_cache(maxsize=1024)
def _filter(step: int) -> NDArray[np.float32]:
    """Windowed-sinc low-pass filters [PHASES, TAPS] for reading every step / PHASES samples (Kaiser window).

    Reading faster than the audio was recorded would fold its highest partials: the cut-off goes down with the step.
    """
    cutoff = 0.94 * min(1.0, PHASES / step)
    t = np.arange(TAPS) - (TAPS // 2 - 1) - np.arange(PHASES)[:, None] / PHASES
    window = np.i0(6.5 * np.sqrt(np.maximum(0, 1 - (t / (TAPS / 2)) ** 2)))
    taps = np.sinc(cutoff * t) * window
    return np.ascontiguousarray(taps / taps.sum(axis=1, keepdims=True), np.float32)


@numba.njit(cache=True, fastmath=True, nogil=True)  # type: ignore[untyped-decorator]
def _read(source: Any, start: int, step: int, taps: Any, gain: float, out: Any) -> None:
    """out[n] = gain * source at start + n * step / PHASES; zero beyond the ends of the source."""
    scale = np.float32(gain)
    first = start if step == PHASES else start - (TAPS // 2 - 1)
    x = np.zeros(out.shape[0] * step // PHASES + TAPS, np.float32)
    for i in range(max(0, -first), min(x.shape[0], source.shape[0] - first)):
        x[i] = scale * np.float32(source[first + i])
    if step == PHASES:
        out[:] = x[: out.shape[0]]
        return
    for n in range(out.shape[0]):
        position = n * step
        heard, row = x[position // PHASES :], taps[position % PHASES]
        total = np.float32(0)
        for k in range(TAPS):
            total += heard[k] * row[k]
        out[n] = total


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _put_right(f0_hz: Any, factor: float, note_hz: float) -> Any:
    """A track, times `factor`; in a clip that is one note (`note_hz`, 0 where it is not), frames that miss it by an
    octave, a twelfth or two octaves are the tracker's and not the sound's: a decaying piano string is not retuned.
    Frames more than a fifth away are no glide either: the note is over, and what is left is rumble without pitch.
    """
    found = f0_hz * np.float32(factor)
    if note_hz > 0:
        for i in range(found.shape[0]):
            for ratio in (0.25, 1 / 3, 0.5, 2.0, 3.0, 4.0):
                if abs(found[i] / (ratio * note_hz) - 1) < 0.044:  # 75 cents
                    found[i] /= ratio
                    break
            if not 2 / 3 < found[i] / note_hz < 3 / 2:
                found[i] = 0
    return found


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _read_track(f0_hz: Any, voiced: Any, first: float, step: float, out: Any) -> None:
    """out [2, N] = the track at fractional frames first + n * step, up to its end: f0, linear between two voiced
    frames, else that of the nearer one (0 is no pitch to blend with), and voiced.
    """
    last = f0_hz.shape[0] - 1
    for n in range(out.shape[1]):
        where = min(max(first + n * step, 0.0), float(last))
        if first + n * step > last + 0.5:
            break
        low = int(where)
        high, part = min(low + 1, last), np.float32(where - low)
        nearer = low if part < 0.5 else high
        out[1, n] = voiced[nearer]
        if f0_hz[low] > 0 and f0_hz[high] > 0:
            out[0, n] = f0_hz[low] + part * (f0_hz[high] - f0_hz[low])
        else:
            out[0, n] = f0_hz[nearer]
