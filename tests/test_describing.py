"""A sound in words and figures, short and long, at any rate; and what cannot be described says why."""

import numpy as np
import pytest

from soundloom.audio import Waveform
from soundloom.describing import Judgement, describe
from soundloom.errors import AudioError
from soundloom.instruments.pluck import Pluck
from soundloom.instruments.subtractive import Subtractive
from soundloom.render import render
from soundloom.score import Note, Score

RATE = 22050


def kick(*, seconds: float = 0.3, rate: int = 44100) -> Waveform:
    t = np.arange(round(seconds * rate)) / rate
    return Waveform((0.5 * np.sin(2 * np.pi * 55 * t) * np.exp(-20 * t))[None].astype(np.float32), rate)


def piece(root: float, bars: int, *, engine: type, bpm: float = 100.0) -> np.ndarray:
    """Tonic, fourth, fifth, tonic, a chord a beat: a bar each."""
    beat, notes = 60 / bpm, []
    for bar in range(bars):
        for at in range(4):
            for p in ((0, 4, 7), (5, 9, 12), (7, 11, 14), (0, 4, 7))[bar % 4]:
                notes.append(Note((4 * bar + at) * beat, 0.6 * beat, root + p, 0.9 if at else 1.0))
    made = render(Score(tuple(notes)), {0: engine()}, sample_rate=RATE).samples[0]
    return made[: round(4 * bars * beat * RATE)] / np.abs(made).max()


def test_the_sentence_of_the_readme():
    found = describe(kick(), Judgement(label="kick", confidence=0.9, pitch=33.0, pitch_confidence=0.8))
    assert found.sentence == "short dark kick, A1, sharp attack, 0.3 s"
    assert found.document()["note"] == "A1"
    assert (found.tempo, found.key, found.sections) == (None, None, None)


def test_without_an_ear_the_pitch_is_measured():
    found = describe(kick(seconds=0.6))
    assert found.label is None
    assert found.pitch == pytest.approx(33, abs=0.3)


def test_loudness_is_that_of_the_file():
    loud, soft = kick(), Waveform(kick().samples / 10, 44100)
    assert describe(loud).loudness_lufs - describe(soft).loudness_lufs == pytest.approx(20, abs=0.1)
    long = Waveform(np.tile(kick(seconds=0.5).samples, (1, 40)), 44100)
    quiet = Waveform(long.samples / 10, 44100)
    assert describe(long).loudness_lufs - describe(quiet).loudness_lufs == pytest.approx(20, abs=0.1)


def test_a_recording_has_tempo_key_and_parts():
    a, b = piece(50, 4, engine=Pluck), piece(50, 4, engine=Subtractive)
    whole = Waveform(np.concatenate([a, b, a])[None].astype(np.float32), RATE)
    found = describe(whole, Judgement(label="guitar", confidence=0.7, pitch=50.0, pitch_confidence=0.5))
    assert found.tempo.bpm == pytest.approx(100, rel=0.01)
    assert found.key.name == "D major"
    assert [part.label for part in found.sections] == ["A", "B", "A"]
    assert found.pitch is None
    assert "guitar, 29 s, 100 BPM, D major, parts A B A" in found.sentence
    document = found.document()
    assert document["key"]["name"] == "D major"
    assert document["sections"][1]["start_s"] == pytest.approx(9.6, abs=1)


def test_noise_has_none_of_them():
    noise = np.random.default_rng(0).normal(size=(2, 20 * RATE)).astype(np.float32) / 10
    found = describe(Waveform(noise, RATE))
    assert (found.tempo, found.key) == (None, None)
    assert [part.label for part in found.sections] == ["A"]
    assert found.sentence == "very long bright noisy recording, 20 s"


@pytest.mark.parametrize(("rate", "channels"), [(8000, 1), (48000, 2), (96000, 1)])
def test_any_rate_and_channels(rate, channels):
    sound = kick(rate=rate)
    found = describe(Waveform(np.repeat(sound.samples, channels, axis=0), rate))
    assert found.pitch == pytest.approx(33, abs=0.3)
    assert "dark" in found.sentence


def test_20_ms_are_enough():
    t = np.arange(882) / 44100
    assert describe(Waveform(np.sin(2 * np.pi * 2000 * t)[None].astype(np.float32), 44100)).seconds <= 0.021


@pytest.mark.parametrize(
    ("samples", "why"),
    [(np.zeros((1, RATE)), "silent"), (np.zeros((1, 0)), "too short"), (np.full((1, RATE), np.nan), "NaN")],
)
def test_what_cannot_be_described_says_why(samples, why):
    with pytest.raises(AudioError, match=why):
        describe(Waveform(samples.astype(np.float32), RATE))
