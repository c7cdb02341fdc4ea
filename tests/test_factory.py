"""The built-in bank: complete, varied, in tune, without clicks, DC or clipping, the same for the same seed."""

import dataclasses
from collections import Counter, defaultdict

import librosa
import numpy as np
import pytest

from soundloom import factory
from soundloom.audio import read
from soundloom.score import parse_pitch


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    """{(kind, pitch, velocity): [T] samples} of the whole bank."""
    folder = tmp_path_factory.mktemp("factory")
    count = factory.make(folder, seed=3)
    sounds = {}
    for path in folder.iterdir():
        kind, note, velocity = path.stem.split("_")
        waveform = read(path)
        assert (waveform.sample_rate, waveform.channels, path.suffix) == (44100, 1, ".wav")
        sounds[kind, parse_pitch(note), int(velocity)] = waveform.samples[0]
    assert count == len(sounds)
    return sounds


def test_six_kinds_fair_in_number(bank):
    counts = Counter(kind for kind, _, _ in bank)
    assert set(counts) == {"pluck", "bass", "pad", "kick", "snare", "hat"}
    assert 290 <= sum(counts.values()) <= 310
    assert max(counts.values()) - min(counts.values()) <= 2


def test_levels_are_clean(bank):
    """Peaks follow the velocity and never clip; no DC; a start from rest and an end in silence."""
    for (kind, pitch, velocity), audio in bank.items():
        name = (kind, pitch, velocity)
        peak = np.abs(audio).max()
        assert 20 * np.log10(peak) == pytest.approx(-1 - 15 * (1 - velocity / 127), abs=0.01), name
        assert abs(audio.mean()) < 0.01 * peak, name
        assert np.abs(audio[-20:]).max() < 2e-3 * peak, name
        if kind != "pluck":  # a string starts where it was pulled to
            assert abs(audio[0]) < 0.05 * peak, name
        assert 0.05 < len(audio) / 44100 < 3, name


@pytest.mark.parametrize("kind", ["pluck", "bass", "pad"])
def test_the_pitch_in_the_name_is_the_pitch(bank, kind):
    """By an independent tracker (pYIN), on every fifth sound: within 25 cents (detuned pairs swing by 10)."""
    names = sorted(name for name in bank if name[0] == kind)[::5]
    for name in names:
        audio = bank[name][2205 : 2205 + 33_075]
        low = max(librosa.midi_to_hz(name[1]) * 0.45, 25)
        hz, voiced, _ = librosa.pyin(audio, fmin=low, fmax=low * 8, sr=44100, frame_length=8192, hop_length=1024)
        assert voiced.mean() > 0.5, name
        assert np.nanmedian(librosa.hz_to_midi(hz[voiced])) == pytest.approx(name[1], abs=0.25), name


def test_a_kick_comes_to_rest_at_its_pitch(bank):
    for name in [name for name in bank if name[0] == "kick"][::7]:
        audio = bank[name][int(0.15 * 44100) : int(0.35 * 44100)]
        spectrum = np.abs(np.fft.rfft(audio * np.hanning(len(audio)), 1 << 17))
        peak = np.fft.rfftfreq(1 << 17, 1 / 44100)[spectrum.argmax()]
        assert librosa.hz_to_midi(peak) == pytest.approx(name[1], abs=1.0), name


def test_kinds_sound_like_what_they_are(bank):
    """Spectral centroids in order; hats have no lows, kicks no highs; plucks and drums start at once, pads swell."""

    def centroid(audio):
        power = np.abs(np.fft.rfft(audio)) ** 2
        return (np.fft.rfftfreq(len(audio), 1 / 44100) * power).sum() / power.sum()

    def rise_s(audio):
        level = np.maximum.accumulate(np.abs(audio))
        return np.argmax(level > 0.7 * level[-1]) / 44100

    of, rise = defaultdict(list), defaultdict(list)
    for (kind, _, _), audio in bank.items():
        of[kind].append(centroid(audio))
        rise[kind].append(rise_s(audio))
    assert max(of["kick"]) < 400
    assert np.median(of["bass"]) < np.median(of["snare"]) < np.median(of["hat"])
    assert min(of["hat"]) > 5000
    for kind in ("pluck", "kick", "snare", "hat"):
        assert np.median(rise[kind]) < 0.02, kind
    assert np.median(rise["pad"]) > 0.15


def test_sounds_of_a_kind_differ(bank):
    """No two sounds of a kind are close to equal, not even the velocities of a note."""
    for kind in {name[0] for name in bank}:
        sounds = [
            audio[:8000] / np.linalg.norm(audio[:8000]) for name, audio in sorted(bank.items()) if name[0] == kind
        ]
        padded = np.stack([np.pad(audio, (0, 8000 - len(audio))) for audio in sounds])
        alike = np.abs(padded @ padded.T) - np.eye(len(padded))
        assert alike.max() < 0.99999, kind
        assert np.median(alike) < 0.5, kind


def test_the_same_seed_gives_the_same_bank(bank, tmp_path, monkeypatch):
    few = (dataclasses.replace(kind, pitches=kind.pitches[:2]) for kind in factory.KINDS[:1])
    monkeypatch.setattr(factory, "KINDS", tuple(few))
    for folder, seed in (("a", 3), ("b", 3), ("c", 4)):
        assert factory.make(tmp_path / folder, seed=seed) == 4
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
        assert path.read_bytes() != (tmp_path / "c" / path.name).read_bytes()
        kind, note, velocity = path.stem.split("_")
        np.testing.assert_array_equal(read(path).samples[0], bank[kind, parse_pitch(note), int(velocity)])
