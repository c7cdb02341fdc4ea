"""The sounds that the bundled ear is trained on are what their labels say, as far as numbers can tell."""

import shutil

import numpy as np
import pytest
import torch

from soundloom.pitch import track_pitch
from training import effects, kits, midi_notes, pieces, recipes, speech, tones
from training.clips import DRUMS, LABELS, PEAK, SAMPLE_RATE, Facts, Writer, clip
from training.production import Chain, crushed, gated, held, produced

needs_soundfont = pytest.mark.skipif(
    shutil.which("fluidsynth") is None or not midi_notes.SOUNDFONT.exists(),
    reason="needs fluidsynth and the FluidR3 soundfont",
)
needs_espeak = pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="needs espeak-ng")


def spectrum(sound):
    """Power [K] and frequencies in hertz."""
    power = np.abs(np.fft.rfft(sound * np.hanning(len(sound)))) ** 2
    return power, np.fft.rfftfreq(len(sound), 1 / SAMPLE_RATE)


def brightness(sound):
    power, hz = spectrum(sound.astype(np.float64))
    return float((power * hz).sum() / power.sum())


def ringing_s(sound):
    """How long the sound stays within 20 dB of its loudest 5 ms."""
    n = SAMPLE_RATE // 200
    level = np.array([np.sqrt(np.mean(part**2)) for part in np.array_split(sound / 32768, max(len(sound) // n, 1))])
    return (np.flatnonzero(level > 0.1 * level.max())[-1] + 1) / 200


@pytest.fixture(scope="module")
def kinds():
    """Sixteen drums of every recipe, by label."""
    made = {label: [] for label in DRUMS}
    for recipe in recipes.RECIPES:
        made[recipe.label] += list(recipes.drums_of(recipe, numbers=range(16), seed=3))
    return made


def test_every_drum_kind_is_made(kinds):
    assert set(recipes.counts(1100)) == set(recipes.RECIPES)
    for label in DRUMS:
        shares = [recipe.share for recipe in recipes.RECIPES if recipe.label == label]
        assert sum(shares) == pytest.approx(1)
        assert len(kinds[label]) == 16 * len(shares)


def test_clips_are_normalised_and_start_at_once(kinds):
    for made in (made for clips in kinds.values() for made in clips):
        assert np.abs(made.audio).max() == round(PEAK * 32767)
        assert 0.01 <= len(made.audio) / SAMPLE_RATE <= 2.0
        assert np.abs(made.audio[: round(0.1 * SAMPLE_RATE)]).max() > 0.02 * 32767
        assert np.isnan(made.pitch)


def test_drums_are_as_bright_and_as_long_as_their_names(kinds):
    bright = {label: np.median([brightness(made.audio) for made in clips]) for label, clips in kinds.items()}
    lasting = {label: np.median([ringing_s(made.audio) for made in clips]) for label, clips in kinds.items()}
    assert bright["kick"] < 500 < bright["snare"] < 6000
    assert bright["kick"] < bright["tom"] < bright["hand drum"] < bright["cowbell"] < bright["closed hat"]
    assert bright["tom"] < 900
    assert all(bright[label] > 5000 for label in ("closed hat", "open hat", "shaker"))
    assert bright["cymbal"] > 3000
    assert lasting["rim"] < 0.05
    assert lasting["closed hat"] < 0.08 < 0.15 < lasting["open hat"] < lasting["cymbal"]
    assert lasting["kick"] < lasting["tom"]


def test_the_same_seed_makes_the_same_drum():
    recipe = recipes.RECIPES[0]
    once, again = (recipes.drum(recipe, number=5, seed=1) for _ in range(2))
    other = recipes.drum(recipe, number=5, seed=2)
    assert np.array_equal(once.audio, again.audio)
    assert len(other.audio) != len(once.audio) or not np.array_equal(other.audio, once.audio)


@pytest.mark.parametrize("engine", tones.ENGINES, ids=lambda engine: engine.name)
def test_notes_sound_at_their_pitch(engine):
    errors = []
    rng = np.random.default_rng(5)
    for _ in range(6):
        pitch = float(rng.uniform(max(engine.low, 36), min(engine.high, 84)))
        sound = engine.make(rng, pitch)[: SAMPLE_RATE // 2]
        track = track_pitch(torch.tensor(sound[None], dtype=torch.float32), sample_rate=SAMPLE_RATE, hop_length=320)
        f0_hz = track.f0_hz[0].numpy()
        if (f0_hz > 0).any():
            errors.append(69 + 12 * np.log2(np.median(f0_hz[f0_hz > 0]) / 440) - pitch)
    assert len(errors) >= 4
    assert np.median(np.abs(errors)) < 0.25


@pytest.mark.parametrize("kind", range(len(effects.EFFECTS)), ids=lambda kind: effects.EFFECTS[kind].__name__)
def test_effects_are_heard(kind):
    made = list(effects.effects_of(kind, numbers=range(3), seed=0))
    assert [one.label for one in made] == ["effect"] * 3
    assert all(np.sqrt(np.mean((one.audio / 32768.0) ** 2)) > 0.005 for one in made)


def test_a_mode_is_a_decaying_sine():
    n = SAMPLE_RATE
    sound = pieces.modes([440.0], [1.0], [0.5], n)
    power, hz = spectrum(sound)
    assert hz[power.argmax()] == pytest.approx(440, abs=1)
    window = slice(SAMPLE_RATE // 2 - 73, SAMPLE_RATE // 2)  # a period
    assert np.abs(sound[window]).max() == pytest.approx(1e-3, rel=0.1)


def test_a_square_has_odd_harmonics_and_little_alias():
    power, hz = spectrum(pieces.square(1000.0, SAMPLE_RATE))
    level = {k: 10 * np.log10(power[np.abs(hz - 1000 * k).argmin()] / power.max()) for k in (1, 2, 3)}
    assert level[3] == pytest.approx(-9.5, abs=0.5)
    assert level[2] < -50
    power, hz = spectrum(pieces.square(2311.0, SAMPLE_RATE))
    own = np.any(np.abs(hz[:, None] - 2311 * np.arange(1, 7)[None]) < 20, axis=1)
    assert 10 * np.log10(power[~own].sum() / power.sum()) < -20


def test_holding_leaves_images_and_a_guard_takes_them():
    tone = np.sin(2 * np.pi * 3000 * np.arange(SAMPLE_RATE) / SAMPLE_RATE)
    power, hz = spectrum(held(tone, 8000, None))
    image = power[np.abs(hz - 5000).argmin()] / power[np.abs(hz - 3000).argmin()]
    assert 10 * np.log10(image) == pytest.approx(-4.4, abs=1)  # sinc(5/8) / sinc(3/8), squared
    power, hz = spectrum(held(tone, 8000, 0.5))
    assert power[np.abs(hz - 3000).argmin()] < 0.2 * (SAMPLE_RATE / 4) ** 2


def test_bits_are_counted():
    ramp = np.linspace(-1, 1, 10001)
    assert len(np.unique(crushed(ramp, 6, companded=False))) == 65
    fine, coarse = (np.abs(crushed(ramp, 8, companded=c) - ramp)[4900:5100].max() for c in (True, False))
    assert fine < 0.3 * coarse


def test_a_gate_and_a_room():
    tone = np.sin(2 * np.pi * 200 * np.arange(SAMPLE_RATE) / SAMPLE_RATE)
    assert len(gated(tone, 0.25)) == SAMPLE_RATE // 4
    tick = np.zeros(1000)
    tick[0] = 1.0
    wet = produced(tick, Chain(room_s=0.5, room_level=0.3), np.random.default_rng(0))
    tail = 20 * np.log10(np.std(wet[8000:8800]) / np.std(wet[2000:2800]))
    assert tail == pytest.approx(-60 * 6000 / SAMPLE_RATE / 0.5, abs=4)


def test_silence_is_no_clip():
    assert clip(np.zeros(1000), Facts("kick", "drums", "none")) is None


def test_the_folder_holds_the_clips(tmp_path):
    made = list(recipes.drums_of(recipes.RECIPES[0], numbers=range(4), seed=0))
    writer = Writer(tmp_path)
    writer.add(made)
    assert writer.close() == {"kick": 4}
    facts, audio = np.load(tmp_path / "clips.npz"), np.fromfile(tmp_path / "audio.i16", np.int16)
    for one, start, frames in zip(made, facts["start"], facts["frames"], strict=True):
        assert np.array_equal(audio[start : start + frames], one.audio)
    assert list(facts["group"]) == [one.group for one in made]


def test_every_program_and_key_has_a_label():
    assert sorted(midi_notes.LABEL) == list(range(128))
    assert set(midi_notes.LABEL.values()) < set(LABELS)
    assert set(kits.LABEL.values()) == set(DRUMS)


@needs_soundfont
def test_soundfont_notes_sound_at_their_pitch():
    made = [one for one in midi_notes.program_notes(73, seed=0) if 60 <= one.pitch <= 84]  # the flute
    track = track_pitch(
        torch.tensor(np.stack([np.resize(one.audio, 6400) for one in made]) / 32768.0, dtype=torch.float32),
        sample_rate=SAMPLE_RATE,
        hop_length=320,
    )
    measured = np.array([np.median(row[row > 0]) for row in track.f0_hz.numpy()])
    assert np.median(np.abs(69 + 12 * np.log2(measured / 440) - [one.pitch for one in made])) < 0.3


@needs_espeak
def test_speech_is_spoken():
    made = list(speech.said_by(0, numbers=range(4), seed=0))
    assert [one.label for one in made] == ["speech"] * 4
    assert all(0.1 < len(one.audio) / SAMPLE_RATE <= 2 for one in made)
