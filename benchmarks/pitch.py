"""Pitch, chords, inharmonicity

Every note of a concert grand: right is a median over voiced frames within 60 cents of the name (an octave low).
pyin and yin have the same range and hop; pyin hears the first second of each note only, for its slowness.
Chords are mixes of piano notes of equal level; a note is found when a track's median lies within 50 cents of it.
"""

import re
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import librosa
import numpy as np
import soundfile
import torch

from benchmarks import common
from soundloom import features

HOP, LOW_HZ, HIGH_HZ = 512, 24.0, 5000.0
SEMITONES = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
Note = tuple[float, np.ndarray, int]  # the pitch that sounds, samples, sample rate


def main() -> list[dict]:
    common.one_thread()
    notes = [_read(path) for path in sorted(common.sounds("piano").glob("*.flac"))]
    first = [(f0, x[:rate], rate) for f0, x, rate in notes]
    rows = [
        _judge("Soundloom track_pitch", _soundloom, notes) | {"target × real time": 150, "target right": 0.97},
        _judge("Soundloom track_pitch, first second", _soundloom, first),
        _judge("librosa yin", _yin, notes),
        _judge("librosa pyin, first second", _pyin, first),
    ]
    middle = [note for note in notes if 90 < note[0] < 1400]
    rows += [_chords(f"{voices} notes at random", _mixes(middle, voices)) for voices in (2, 3)]
    rows += [_chords("triads", _triads(notes))]
    rows += [_stiffness(noise_db) for noise_db in (-80, -40)]
    return rows


def _read(path: Path) -> Note:
    letter, sharp, octave = re.fullmatch(r".. ([A-G])(#?)(-?\d)", path.stem).groups()  # type: ignore[union-attr]
    note = SEMITONES[letter] + bool(sharp) + 12 * (int(octave) + 2)
    x, rate = soundfile.read(path, dtype="float32")
    return 440 * 2 ** ((note - 69) / 12), x.mean(1), rate


def _soundloom(x: np.ndarray, rate: int) -> np.ndarray:
    track = features.track_pitch(torch.from_numpy(x)[None], sample_rate=rate, hop_length=HOP)
    return track.f0_hz[0].numpy()


def _yin(x: np.ndarray, rate: int) -> np.ndarray:
    return librosa.yin(x, fmin=LOW_HZ, fmax=HIGH_HZ, sr=rate, frame_length=4096, hop_length=HOP)


def _pyin(x: np.ndarray, rate: int) -> np.ndarray:
    setting = {"fmin": LOW_HZ, "fmax": HIGH_HZ, "sr": rate, "frame_length": 4096, "hop_length": HOP}
    return librosa.pyin(x, **setting, fill_na=0.0)[0]


def _judge(what: str, tracker: Callable[[np.ndarray, int], np.ndarray], notes: Iterable[Note]) -> dict:
    tracker(np.zeros(8192, np.float32), 44100)
    right, agree, seconds, cpu = [], [], 0.0, 0.0
    for f0, x, rate in notes:
        start = time.process_time()
        found = tracker(x, rate)
        cpu += time.process_time() - start
        seconds += len(x) / rate
        voiced = found[found > 0]
        off = np.abs(1200 * np.log2(voiced / f0))
        right.append(len(voiced) > 0 and abs(1200 * np.log2(np.median(voiced) / f0)) < 60)
        agree.append(np.mean(off < 60) if len(voiced) else 0.0)
    return {"what": what, "sounds": len(right), "right": float(np.mean(right)),
            "right frames": float(np.mean(agree)), "× real time": seconds / cpu}  # fmt: skip


def _mixes(notes: list[Note], voices: int, count: int = 60) -> list[list[Note]]:
    """Notes at random, none closer than two semitones."""
    rng = np.random.default_rng(voices)
    chosen: list[list[Note]] = []
    while len(chosen) < count:
        chord = [notes[i] for i in rng.choice(len(notes), voices, replace=False)]
        pitches = np.sort([np.log2(f0) for f0, _, _ in chord])
        if (np.diff(pitches) > 1.5 / 12).all():
            chosen.append(chord)
    return chosen


def _triads(notes: list[Note]) -> list[list[Note]]:
    """Every major and minor triad, open and close, and root, fifth and octave, that the notes at hand can make."""
    at = {round(69 + 12 * np.log2(f0 / 440)): (f0, x, rate) for f0, x, rate in notes}
    shapes = ((0, 4, 7), (0, 3, 7), (0, 5, 9), (0, 7, 16), (0, 7, 12))
    chords = [[root + step for step in shape] for root in range(36, 84) for shape in shapes]
    return [[at[note] for note in chord] for chord in chords if all(note in at for note in chord)]


def _chords(what: str, chords: list[list[Note]]) -> dict:
    found, frames, cpu = [], [], 0.0
    for chord in chords:
        mix = sum(0.05 * x[:66150] / x[:22050].std() for _, x, _ in chord)
        audio = torch.from_numpy(np.asarray(mix, np.float32))[None]
        start = time.process_time()
        tracks = features.track_pitches(audio, sample_rate=44100, hop_length=HOP, voices=len(chord))[0][0].numpy()
        cpu += time.process_time() - start
        medians = np.array([np.median(track[track > 0]) for track in tracks if (track > 0).any()])
        for f0, _, _ in chord:
            found.append(len(medians) > 0 and np.abs(1200 * np.log2(medians / f0)).min() < 50)
            frames.append((np.abs(1200 * np.log2(np.maximum(tracks, 1) / f0)) < 50).any(0).mean())
    return {"what": f"Soundloom track_pitches, {what}", "sounds": len(chords), "right": float(np.mean(found)),
            "right frames": float(np.mean(frames)), "× real time": len(chords) * 1.5 / cpu}  # fmt: skip


def _stiffness(noise_db: float) -> dict:
    """Strings of known B from 40 to 800 Hz: how far off the 15th partial would be."""
    rng = np.random.default_rng(0)
    t = np.arange(44100) / 44100
    miss, cpu = [], 0.0
    for f0 in np.geomspace(40, 800, 12):
        for stiff in (0.0, 3e-5, 1e-4, 3e-4, 1e-3):
            p = np.arange(1, 21)
            f = p * f0 * np.sqrt(1 + stiff * p**2)
            p, f = p[f < 20000, None], f[f < 20000, None]
            x = (p**-0.8 * np.exp(-t * 3 * p**0.5) * np.sin(2 * np.pi * f * t + rng.uniform(0, 6, p.shape))).sum(0)
            x = 0.3 * x / np.abs(x).max() + 10 ** (noise_db / 20) * rng.standard_normal(len(t))
            audio = torch.from_numpy(x.astype(np.float32))[None]
            setting = {"sample_rate": 44100, "hop_length": HOP}
            f0_hz = features.track_pitch(audio, **setting).f0_hz
            start = time.process_time()
            found = features.inharmonicity(audio, f0_hz, **setting).item()
            cpu += time.process_time() - start
            miss.append(abs(600 * np.log2((1 + 225 * found) / (1 + 225 * stiff))))
    return {"what": f"Soundloom inharmonicity, noise at {noise_db} dBFS", "sounds": len(miss),
            "right": float(np.mean(np.array(miss) < 10)), "median cents at partial 15": float(np.median(miss)),
            "× real time": len(miss) / cpu}  # fmt: skip


if __name__ == "__main__":
    common.print_table(main())
