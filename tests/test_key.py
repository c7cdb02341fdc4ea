"""The key: of chords and scales in all 24, at any tuning; and none for drums, noise and speech."""

import numpy as np
import pytest

from soundloom.audio import Waveform, resample
from soundloom.instruments.pluck import Pluck
from soundloom.instruments.subtractive import Subtractive
from soundloom.key import find_key
from soundloom.render import render
from soundloom.score import NAMES, Note, Score

RATE = 22050
CHORDS = {  # tonic, fourth, fifth (major in minor too: its leading note tells the key), tonic
    "major": ((0, 4, 7), (5, 9, 12), (7, 11, 14), (0, 4, 7)),
    "minor": ((0, 3, 7), (5, 8, 12), (7, 11, 14), (0, 3, 7)),
}
SCALES = {
    "major": (0, 2, 4, 5, 7, 9, 11, 12, 11, 9, 7, 5, 4, 2, 0),
    "minor": (0, 2, 3, 5, 7, 8, 11, 12, 8, 7, 5, 3, 2, 0),
}
KEYS = [(tonic, mode) for mode in CHORDS for tonic in range(12)]


def chords(tonic: int, mode: str, *, cents: float = 0.0) -> Score:
    base = 48 + tonic + cents / 100
    return Score(tuple(Note(0.7 * i, 0.66, base + p) for i, chord in enumerate(CHORDS[mode]) for p in chord))


def scale(tonic: int, mode: str) -> Score:
    return Score(tuple(Note(0.3 * i, 0.29, 60 + tonic + p) for i, p in enumerate(SCALES[mode])))


@pytest.mark.parametrize("engine", [Pluck, Subtractive])
@pytest.mark.parametrize("made", [chords, scale])
def test_all_24_keys(engine, made):
    right = 0
    for tonic, mode in KEYS:
        found = find_key(render(made(tonic, mode), {0: engine()}, sample_rate=RATE))
        right += found is not None and (found.tonic, found.mode) == (tonic, mode)
    assert right == 24


def test_its_name():
    assert find_key(render(chords(6, "minor"), {0: Pluck()}, sample_rate=RATE)).name == "F# minor"


@pytest.mark.parametrize("cents", [-40, -20, 0, 20, 40])
def test_the_tuning_is_heard_and_does_not_change_the_key(cents):
    found = find_key(render(chords(2, "major", cents=cents), {0: Pluck()}, sample_rate=RATE))
    assert found.name == "D major"
    assert found.tuning_cents == pytest.approx(cents, abs=5)


@pytest.mark.parametrize("rate", [8000, 44100, 96000])
def test_any_rate_and_channels(rate):
    sound = resample(render(chords(9, "minor"), {0: Subtractive()}, sample_rate=44100), rate)
    assert find_key(Waveform(np.repeat(sound.samples, 2, axis=0), rate)).name == "A minor"


def test_the_profile_is_librosa_s_too():
    """Pitch classes against librosa's constant-Q chroma of the same sound: the same notes stand out."""
    librosa = pytest.importorskip("librosa")
    from soundloom import key

    sound = render(chords(4, "major"), {0: Subtractive()}, sample_rate=RATE)
    hz, weight, _ = key._peaks(sound)
    mine = key._pitch_classes(hz, weight, key._tuning(hz, weight))
    theirs = librosa.feature.chroma_cqt(y=sound.samples[0], sr=RATE).mean(axis=1)
    assert np.corrcoef(mine, theirs)[0, 1] > 0.75
    assert {NAMES[i] for i in np.argsort(mine)[-3:]} <= {NAMES[i] for i in np.argsort(theirs)[-5:]}


def test_drums_noise_and_silence_have_no_key():
    rng = np.random.default_rng(0)
    t = np.arange(RATE // 2) / RATE
    drum = np.sin(2 * np.pi * (60 * t - 5 * np.exp(-t / 0.03))) * np.exp(-t / 0.1) + 0.3 * rng.normal(
        size=len(t)
    ) * np.exp(-t / 0.04)
    for name, x in {
        "drums": np.tile(drum, 16),
        "noise": rng.normal(size=8 * RATE),
        "silence": np.zeros(8 * RATE),
        "20 ms": np.sin(0.1 * np.arange(RATE // 50)),
        "nothing": np.zeros(0),
    }.items():
        assert find_key(Waveform(x[None].astype(np.float32), RATE)) is None, name


def test_recorded_drums_and_speech_have_no_key(sounds):
    from soundloom.audio import read

    for names in (
        ["one-shots/bd_haus", "one-shots/drum_cymbal_closed", "one-shots/sn_dub", "one-shots/drum_cymbal_closed"],
        ["one-shots/bd_808", "one-shots/hat_snap", "one-shots/sn_generic", "one-shots/hat_snap"],
        ["one-shots/drum_tom_hi_hard", "one-shots/drum_tom_mid_hard", "one-shots/drum_tom_lo_hard"],
    ):
        hits = [resample(read(sounds / f"{name}.flac").mono(), RATE).samples[0][: RATE // 2] for name in names]
        x = np.concatenate([np.pad(hit, (0, RATE // 2 - len(hit))) for hit in hits * 4])
        assert find_key(Waveform(x[None], RATE)) is None, names
    digits = sorted((sounds / "spoken-digits").glob("*.wav"))[::110]
    assert find_key(Waveform(np.concatenate([read(f).samples for f in digits], axis=1), 8000)) is None
