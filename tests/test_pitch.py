"""Pitch against sounds of known pitch: synthetic ones to a few cents, a piano's notes by their names."""

import re

import librosa
import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from soundloom import pitch
from soundloom.chords import track_pitches
from soundloom.errors import ConfigError
from soundloom.partials import inharmonicity
from soundloom.pitch import track_pitch

SEMITONES = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}


def cents(a, b):
    return 1200 * np.log2(np.asarray(a, dtype=float) / b)


def tone(f0: float, *, sample_rate=44100, seconds=1.0, partials=10, stiffness=0.0, tilt=1.0, noise_db=-100.0) -> Tensor:
    """Partials at p·f0·√(1 + stiffness·p²), as loud as p^-tilt, random phases, in white noise: [1, T]."""
    generator = np.random.default_rng(int(f0))
    t = np.arange(round(seconds * sample_rate)) / sample_rate
    p = np.arange(1, partials + 1)
    f = p * f0 * np.sqrt(1 + stiffness * p**2)
    p, f = p[f < 0.45 * sample_rate], f[f < 0.45 * sample_rate]
    phase = generator.uniform(0, 2 * np.pi, len(p))
    x = (p[:, None] ** -tilt * np.sin(2 * np.pi * f[:, None] * t + phase[:, None])).sum(0)
    x = 0.3 * x / np.abs(x).max()
    x += 10 ** (noise_db / 20) * generator.standard_normal(len(t))
    return torch.from_numpy(x.astype(np.float32))[None]


def tracked(audio: Tensor, sample_rate=44100, hop_length=512) -> np.ndarray:
    return track_pitch(audio, sample_rate=sample_rate, hop_length=hop_length).f0_hz[0].numpy()


@pytest.mark.parametrize("f0", [27.5, 30.9, 41.2, 55.0, 82.4, 98.0, 110.0, 196.0, 440.0, 1108.7, 2637.0, 4186.0])
@pytest.mark.parametrize("tilt", [0.3, 1.5])
def test_steady_tones_are_right_within_five_cents_in_every_frame(f0, tilt):
    inner = tracked(tone(f0, tilt=tilt, noise_db=-60))[8:-8]
    assert np.abs(cents(inner, f0)).max() < 5


@pytest.mark.parametrize("f0", [61.0, 220.0, 880.0, 3000.0])
def test_pure_sines_are_right(f0):
    assert np.abs(cents(tracked(tone(f0, partials=1))[8:-8], f0)).max() < 3


@pytest.mark.parametrize(
    ("sample_rate", "hop_length"), [(8000, 128), (16000, 256), (22050, 256), (48000, 512), (96000, 1024)]
)
def test_any_sample_rate(sample_rate, hop_length):
    for f0 in (100.0, 300.0, 1500.0):
        found = tracked(tone(f0, sample_rate=sample_rate), sample_rate, hop_length)[8:-8]
        assert np.abs(cents(found, f0)).max() < 5


def test_missing_fundamental_and_odd_partials_only():
    t = np.arange(44100) / 44100
    without = sum(np.sin(2 * np.pi * 150 * p * t) for p in (2, 3, 4, 5, 6)) * 0.1
    odd = sum(np.sin(2 * np.pi * 150 * p * t) / p for p in (1, 3, 5, 7, 9)) * 0.3
    for x in (without, odd):
        assert np.abs(cents(tracked(torch.from_numpy(x.astype(np.float32))[None])[8:-8], 150)).max() < 5


def test_stiff_strings_give_the_f0_of_the_formula():
    for f0, stiffness in ((55.0, 3e-4), (220.0, 5e-4), (880.0, 3e-3)):
        found = tracked(tone(f0, stiffness=stiffness, partials=12))[8:-8]
        assert abs(cents(np.median(found), f0)) < 8


def test_noise_has_no_pitch():
    generator = np.random.default_rng(0)
    white = torch.from_numpy(generator.standard_normal((1, 44100)).astype(np.float32))
    high = white - torch.nn.functional.avg_pool1d(white, 9, 1, padding=4)
    for sound in (white, 0.01 * white, high, torch.zeros(1, 44100)):
        assert (tracked(sound) > 0).mean() < 0.02
    assert (tracked(white[:, :16000], 8000, 128) > 0).mean() < 0.02


@pytest.mark.parametrize("f0", [60.0, 118.9, 205.0, 269.1, 1500.0])
def test_hiss_does_not_lower_the_octave(f0):
    found = tracked(tone(f0, stiffness=1e-4, partials=20, noise_db=-40))[8:-8]
    assert (found > 0).mean() > 0.9
    assert np.abs(cents(found[found > 0], f0)).max() < 20


def test_a_falling_kick_is_followed():
    t = np.arange(22050) / 44100
    f = 50 + 150 * np.exp(-t / 0.06)
    kick = np.sin(2 * np.pi * np.cumsum(f) / 44100) * np.exp(-t / 0.25)
    found = tracked(torch.from_numpy(kick.astype(np.float32))[None])
    centre = (np.arange(len(found)) + 0.5) * 512 / 44100
    expected = np.interp(centre, t, f)
    late = (centre > 0.06) & (centre < 0.4)
    assert np.abs(cents(found[late], expected[late])).max() < 80  # 93 ms of a falling tone are in each frame
    assert np.median(np.abs(cents(found[late], expected[late]))) < 15


def test_vibrato_is_followed():
    t = np.arange(44100) / 44100
    f = 330 * 2 ** (0.5 / 12 * np.sin(2 * np.pi * 5 * t))
    phase = 2 * np.pi * np.cumsum(f) / 44100
    x = sum(np.sin(p * phase) / p for p in range(1, 8)) * 0.2
    found = tracked(torch.from_numpy(x.astype(np.float32))[None])
    expected = np.interp((np.arange(len(found)) + 0.5) * 512 / 44100, t, f)
    assert np.abs(cents(found, expected))[8:-8].max() < 12


def test_a_frame_sees_no_further_than_it_says():
    audio = tone(110.0, noise_db=-30)
    setting = {"sample_rate": 44100, "hop_length": 512}
    whole = pitch.candidates(audio, **setting)
    ahead = pitch.lookahead_s(**setting)
    assert 0.05 < ahead < 0.12
    cut = 22050
    early = pitch.candidates(audio[:, :cut], **setting)
    known = int((cut / 44100 - ahead) * 44100 / 512 - 0.5)
    assert known > 20
    assert np.array_equal(whole.f0_hz[:, :known], early.f0_hz[:, :known])
    assert np.array_equal(whole.score[:, :known], early.score[:, :known])


def test_rows_of_a_batch_do_not_hear_each_other():
    a, b = tone(200.0, seconds=0.4), tone(1234.0, seconds=0.4)
    both = track_pitch(torch.cat([a, b]), sample_rate=44100, hop_length=512)
    alone = track_pitch(b, sample_rate=44100, hop_length=512)
    assert torch.equal(both.f0_hz[1:], alone.f0_hz)
    assert both.confidence.min() >= 0
    assert both.confidence.max() <= 1


def test_speech_agrees_with_pyin(sounds):
    agree = total = 0
    for name in ("0_george_7", "1_nicolas_7", "9_jackson_7", "4_lucas_8"):
        x, rate = soundfile.read(sounds / "spoken-digits" / f"{name}.wav", dtype="float32")
        found = tracked(torch.from_numpy(x)[None], rate, 128)
        theirs, voiced, _ = librosa.pyin(x, fmin=60, fmax=400, sr=rate, frame_length=1024, hop_length=128)
        n = min(len(found), len(theirs) - 1)
        both = voiced[:n] & voiced[1 : n + 1] & (found[:n] > 0)
        between = (theirs[:n] + theirs[1 : n + 1]) / 2
        agree += (np.abs(cents(found[:n][both], between[both])) < 100).sum()
        total += both.sum()
    assert total > 60
    assert agree / total > 0.9


def test_vowels_whose_fundamental_is_weak_are_no_octave_higher(sounds):
    """Where the formants stand far apart, most teeth of the true comb between them are empty."""
    voiced = found = wrong = 0
    for name in ("2_jackson_34", "4_george_17", "0_jackson_40", "2_george_25", "7_jackson_16", "0_nicolas_44"):
        x, rate = soundfile.read(sounds / "spoken-digits" / f"{name}.wav", dtype="float32")
        ours = tracked(torch.from_numpy(x)[None], rate, 128)
        around = np.pad(x, (256 - 64, 640))  # their frames of 64 ms, centred where ours are
        setting = {"fmin": 60, "fmax": 600, "sr": rate, "frame_length": 512, "hop_length": 128, "center": False}
        theirs, _, probability = librosa.pyin(around, **setting, fill_na=0.0)
        sure = (theirs[: len(ours)] > 0) & (probability[: len(ours)] > 0.05)
        both = sure & (ours > 0)
        voiced, found = voiced + sure.sum(), found + both.sum()
        wrong += (np.abs(cents(ours[both], theirs[: len(ours)][both])) > 100).sum()
    assert voiced > 60
    assert found > 0.9 * voiced
    assert wrong < 0.1 * found


def piano(path) -> tuple[float, Tensor, int]:
    """The pitch that sounds (the names are an octave below it), the sound [1, T], the rate."""
    letter, sharp, octave = re.fullmatch(r".. ([A-G])(#?)(-?\d)", path.stem).groups()
    note = SEMITONES[letter] + bool(sharp) + 12 * (int(octave) + 2)
    x, rate = soundfile.read(path, dtype="float32")
    return 440 * 2 ** ((note - 69) / 12), torch.from_numpy(x.mean(1))[None], rate


def test_piano_notes_are_named_right(sounds):
    files = sorted((sounds / "piano").glob("*.flac"))
    right = 0
    for path in files:
        f0, audio, rate = piano(path)
        found = tracked(audio, rate)
        right += bool((found > 0).any()) and abs(cents(np.median(found[found > 0]), f0)) < 60
    assert right >= 0.97 * len(files)


@pytest.mark.parametrize("stiffness", [0.0, 2e-5, 1e-4, 4e-4, 1.5e-3])
@pytest.mark.parametrize("f0", [55.0, 130.8, 261.6])
@pytest.mark.parametrize("noise_db", [-80.0, -45.0])
def test_the_fifteenth_partial_of_a_stiff_string_is_found(f0, stiffness, noise_db):
    audio = tone(f0, stiffness=stiffness, partials=20, tilt=0.8, noise_db=noise_db)
    track = track_pitch(audio, sample_rate=44100, hop_length=512)
    found = inharmonicity(audio, track.f0_hz, sample_rate=44100, hop_length=512).item()
    miss = 600 * np.log2((1 + 225 * found) / (1 + 225 * stiffness))
    assert abs(miss) < 10


def test_no_inharmonicity_where_there_is_no_pitch_or_one_partial():
    silence, hum = torch.zeros(1, 22050), tone(300.0, partials=1)
    for audio in (silence, hum):
        track = track_pitch(audio, sample_rate=44100, hop_length=512)
        assert inharmonicity(audio, track.f0_hz, sample_rate=44100, hop_length=512).item() == 0


@pytest.mark.parametrize("notes", [(220.0, 277.2), (130.8, 196.0), (261.6, 329.6, 392.0), (110.0, 164.8, 277.2)])
def test_chords_are_taken_apart(notes):
    audio = sum(tone(f0, tilt=1.0) for f0 in notes)
    f0_hz, voiced = track_pitches(audio, sample_rate=44100, hop_length=512, voices=len(notes))
    assert f0_hz.shape == voiced.shape == (1, len(notes), 87)
    found = sorted(np.median(row[row > 0]) for row in f0_hz[0].numpy())
    assert np.abs(cents(found, sorted(notes))).max() < 15


def test_three_note_mixes_of_a_piano(sounds):
    chords = [
        ("FF C3", "FF E3", "FF G3"),
        ("PP A2", "PP C4", "PP E4"),
        ("FF D2", "FF A2", "FF F3"),
        ("FF G1", "FF D3", "FF B3"),
    ]
    found = 0
    for names in chords:
        notes = [piano(sounds / "piano" / f"{name}.flac") for name in names]
        mix = sum(audio[:, :66150] / audio[:, :22050].std() for _, audio, _ in notes) * 0.05
        f0_hz, _ = track_pitches(mix, sample_rate=44100, hop_length=512, voices=3)
        medians = [np.median(row[row > 0]) for row in f0_hz[0].numpy() if (row > 0).any()]
        found += sum(min(abs(cents(m, f0)) for m in medians) < 50 for f0, _, _ in notes)
    assert found >= 10  # of 12


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: track_pitch(torch.zeros(9), sample_rate=8000, hop_length=128), "B, T"),
        (lambda: track_pitch(torch.zeros(1, 9), sample_rate=8000, hop_length=128, low_hz=4100), "4100"),
        (lambda: track_pitches(torch.zeros(1, 9), sample_rate=8000, hop_length=128, voices=0), "voices is 0"),
    ],
)
def test_refusals_name_value_and_bound(call, words):
    with pytest.raises(ConfigError, match=words):
        call()
