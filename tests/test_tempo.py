"""The tempo: of rhythms made to a known one, plain and with swing; and none where there is none."""

import numpy as np
import pytest

from soundloom.audio import Waveform
from soundloom.tempo import find_tempo

RATE = 22050
FOUR, OFF = (0, 1, 2, 3), (0.5, 1.5, 2.5, 3.5)


def kick() -> np.ndarray:
    t = np.arange(round(0.25 * RATE)) / RATE
    return np.sin(2 * np.pi * (50 * t + 8 * (1 - np.exp(-t / 0.03)))) * np.exp(-t / 0.08)


def noise(seconds: float, *, seed: int, dull: int = 1) -> np.ndarray:
    t = np.arange(round(4 * seconds * RATE)) / RATE
    rough = np.random.default_rng(seed).normal(size=len(t))
    return np.convolve(rough, np.ones(dull) / dull, "same") * np.exp(-t / seconds)


KICK, SNARE, HAT = kick(), noise(0.06, seed=1, dull=4), np.diff(noise(0.02, seed=2))
PATTERNS = {
    "clicks": [(HAT, 1.0, FOUR)],
    "backbeat": [(KICK, 1.0, (0, 2)), (SNARE, 0.6, (1, 3))],
    "four on the floor": [(KICK, 1.0, FOUR), (HAT, 0.3, OFF)],
    "rock": [(KICK, 1.0, (0, 2)), (SNARE, 0.6, (1, 3)), (HAT, 0.2, (*FOUR, *OFF))],
}


def rhythm(pattern: str, *, bpm: float, seconds: float = 12.0, swing: float = 0.5, rate: int = RATE) -> Waveform:
    """A bar of 4/4 again and again, its offbeats at `swing` of a beat, every hit up to 5 ms off, as people play."""
    rng, beat_s = np.random.default_rng(int(bpm)), 60 / bpm
    x = np.zeros(round((seconds + 1) * RATE))
    for sound, gain, places in PATTERNS[pattern]:
        for bar in range(int(seconds / beat_s / 4) + 1):
            for place in places:
                swung = int(place) + swing if place % 1 else place
                at = round(RATE * max(0.0, (4 * bar + swung) * beat_s + rng.uniform(-0.005, 0.005)))
                if at < seconds * RATE:
                    x[at : at + len(sound)] += gain * rng.uniform(0.7, 1.0) * sound[: len(x) - at]
    return Waveform((x[: round(seconds * RATE)] / np.abs(x).max())[None].astype(np.float32), RATE)


@pytest.mark.parametrize("bpm", [60, 75, 90, 105, 120, 135, 150, 165, 180])
def test_clicks_have_their_tempo(bpm):
    found = find_tempo(rhythm("clicks", bpm=bpm))
    assert found is not None
    assert found.bpm == pytest.approx(bpm, rel=0.004)
    assert found.confidence > 0.8


@pytest.mark.parametrize("pattern", ["backbeat", "four on the floor", "rock"])
@pytest.mark.parametrize("swing", [0.5, 0.62, 0.667])
@pytest.mark.parametrize("bpm", [88, 104, 121.5, 138])
def test_beats_of_drums_with_swing_and_offbeats(pattern, swing, bpm):
    found = find_tempo(rhythm(pattern, bpm=bpm, swing=swing))
    assert found is not None
    assert found.bpm == pytest.approx(bpm, rel=0.006)


@pytest.mark.parametrize("bpm", [60, 72, 160, 178])
def test_far_from_what_people_tap_to_it_may_be_double_or_half_but_nothing_else(bpm):
    for pattern in PATTERNS:
        found = find_tempo(rhythm(pattern, bpm=bpm, swing=0.62))
        assert found is not None
        assert min(abs(found.bpm / (bpm * part) - 1) for part in (0.5, 1, 2)) < 0.01, pattern


@pytest.mark.parametrize("pattern", ["clicks", "four on the floor", "rock"])
def test_beats_fall_where_they_are_played(pattern):
    found = find_tempo(rhythm(pattern, bpm=112, seconds=15))
    away = (np.array(found.beats_s) * 112 / 60 + 0.5) % 1 - 0.5
    assert len(found.beats_s) == pytest.approx(28, abs=1)
    assert np.abs(away * 60 / 112).max() < 0.02


def test_the_beats_are_those_that_mir_eval_counts_as_right():
    mir_eval = pytest.importorskip("mir_eval")
    sound = rhythm("rock", bpm=100, seconds=20)
    found = find_tempo(sound)
    assert mir_eval.beat.f_measure(np.arange(33) * 0.6, np.array(found.beats_s), f_measure_threshold=0.03) > 0.95


def test_a_drift_of_five_percent_is_followed():
    times = np.cumsum(np.linspace(0.5, 0.525, 40))
    x = np.zeros(round(22 * RATE))
    for t in times:
        x[round(t * RATE) :][: len(HAT)] += HAT
    found = find_tempo(Waveform(x[None].astype(np.float32), RATE))
    near = [np.abs(np.array(found.beats_s) - t).min() for t in times]
    assert found.bpm == pytest.approx(60 / np.diff(times).mean(), rel=0.01)
    assert np.max(near) < 0.03


@pytest.mark.parametrize("rate", [8000, 48000, 96000])
def test_any_rate_and_channels(rate):
    from soundloom.audio import resample

    heard = resample(rhythm("rock", bpm=120), rate)
    found = find_tempo(Waveform(np.concatenate([heard.samples, 0.2 * heard.samples]), rate))
    assert found.bpm == pytest.approx(120, rel=0.004)


def steady(seconds: float = 12.0) -> np.ndarray:
    return np.sin(2 * np.pi * 220 * np.arange(round(seconds * RATE)) / RATE)


def test_what_has_no_beat_has_no_tempo():
    rng = np.random.default_rng(0)
    scattered = np.zeros(round(20 * RATE))
    for at in rng.uniform(0, 19, 30):
        scattered[round(at * RATE) :][: len(SNARE)] += SNARE
    once = np.zeros(10 * RATE)
    once[RATE : RATE + len(SNARE)] = SNARE
    for name, x in {
        "noise": rng.normal(size=12 * RATE),
        "tone": steady(),
        "silence": np.zeros(12 * RATE),
        "scattered": scattered,
        "one hit": once,
        "20 ms": steady(0.02),
        "nothing": np.zeros(0),
    }.items():
        assert find_tempo(Waveform(x[None].astype(np.float32), RATE)) is None, name


def test_speech_has_no_tempo(sounds):
    from soundloom.audio import read

    files = sorted((sounds / "spoken-digits").glob("*.wav"))
    for seed in range(4):
        rng = np.random.default_rng(seed)
        words = [np.pad(read(f).samples[0], (0, int(rng.uniform(300, 3000)))) for f in rng.choice(files, 25)]
        assert find_tempo(Waveform(np.concatenate(words)[None], 8000)) is None
