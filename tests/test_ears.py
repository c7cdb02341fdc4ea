"""The ears on any sound there may be, and what the bundled ear makes of sounds of known kind."""

import math

import numpy as np
import pytest
import torch

from soundloom import factory
from soundloom.audio import Waveform, read
from soundloom.checkpoint import Card, save
from soundloom.ears import Ear, likeliest, merged_pitch
from soundloom.errors import AudioError, ModelError
from soundloom.models.classifier import Classifier, ClassifierConfig
from soundloom.models.codec import Codec, CodecConfig

RATE = 16000
LABELS = ("tone", "noise", "click")
CONFIG = ClassifierConfig(sample_rate=RATE, labels=LABELS, seconds=0.32, widths=(8, 16), depths=(1, 1), embedding=16)


@pytest.fixture(scope="module")
def ear():
    """An ear that has learnt nothing: what it says is random, but it says it of any sound."""
    return Ear(Classifier.build(CONFIG, seed=0).eval(), name="untaught")


def tone(hz: float = 440.0, *, seconds: float = 0.5, rate: int = 44100, channels: int = 1) -> Waveform:
    time = np.arange(round(seconds * rate)) / rate
    x = sum(np.sin(2 * np.pi * hz * k * time) / k for k in range(1, 6)) * np.exp(-2 * time)
    return Waveform(np.tile(0.3 * x, (channels, 1)).astype(np.float32), rate)


@pytest.mark.parametrize("seconds", [0.02, 0.5, 6.0, 600.0])
def test_any_length_is_heard(ear, seconds):
    [heard] = ear.hear([tone(seconds=seconds, rate=8000)])
    assert sum(heard.chances) == pytest.approx(1, abs=1e-5)
    assert heard.confidence == pytest.approx(max(heard.chances))
    assert heard.embedding.shape == (16,)
    assert np.isfinite(heard.embedding).all()


@pytest.mark.parametrize(("rate", "channels"), [(22050, 1), (44100, 2), (96000, 1)])
def test_rate_and_channels_do_not_matter(ear, rate, channels):
    ours = ear.embed([tone(rate=RATE)])[0]
    other = ear.embed([tone(rate=rate, channels=channels)])[0]
    assert np.linalg.norm(ours - other) < 0.15 * np.linalg.norm(ours)


def test_level_and_silence_before_do_not_matter(ear):
    sound = tone(rate=RATE)
    late = Waveform(np.pad(0.01 * sound.samples, ((0, 0), (4000, 0))), RATE)
    np.testing.assert_allclose(*(ear.embed([x])[0] for x in (sound, late)), atol=0.05)


def test_together_and_alone_are_the_same(ear):
    sounds = [tone(220), tone(seconds=7), tone(880, seconds=0.03)]
    np.testing.assert_allclose(ear.embed(sounds), np.concatenate([ear.embed([x]) for x in sounds]), atol=1e-4)


def test_the_quiet_part_of_a_recording_has_no_say(ear):
    loud = np.concatenate([tone(rate=RATE, seconds=3).samples] * 2, axis=1)
    hiss = 1e-4 * np.random.default_rng(0).standard_normal((1, 6 * RATE))
    [a, b] = ear.embed([Waveform(loud, RATE), Waveform(np.concatenate([loud, hiss], 1).astype(np.float32), RATE)])
    assert np.linalg.norm(a - b) < 0.5 * np.linalg.norm(a)


def test_silence_is_nothing(ear):
    [heard] = ear.hear([Waveform(np.zeros((1, 1000), np.float32), RATE)])
    assert (heard.label, heard.confidence, heard.pitch, heard.tonal) == (None, 0.0, None, 0.0)
    assert not heard.embedding.any()
    assert ear.embed([]).shape == (0, 16)


def test_chances_are_those_that_it_hears_with(ear):
    sounds = [tone(220), Waveform(np.zeros((1, 900), np.float32), RATE), tone(seconds=7)]
    np.testing.assert_allclose(ear.chances(sounds), [one.chances for one in ear.hear(sounds)], atol=1e-6)
    assert ear.chances([]).shape == (0, 3)


def test_nan_is_refused(ear):
    with pytest.raises(AudioError, match="NaN"):
        ear.hear([Waveform(np.full((1, 100), np.nan, np.float32), RATE)])


def test_pitch_is_measured_to_the_cent(ear):
    [heard] = ear.hear([tone(443.0)])
    assert heard.pitch == pytest.approx(69 + 12 * math.log2(443 / 440), abs=0.03)


def test_pitches_are_merged():
    nan = math.nan
    assert merged_pitch(60.02, 0.7, 60.2, 0.9) == (60.02, 0.9)
    assert merged_pitch(60.02, 0.7, 40.0, 0.3) == (60.02, 0.7)
    assert merged_pitch(nan, 0.0, 60.2, 0.95) == (60.2, 0.95)
    assert math.isnan(merged_pitch(nan, 0.0, 60.2, 0.4)[0])


def test_another_family_hears_nothing(tmp_path):
    model = Codec.build(CodecConfig(width=16, latent=4, partials=8, encoder_blocks=1, decoder_blocks=1), seed=0)
    save(model, tmp_path, card=Card(data="x", data_hash="0", sounds=1, licence="", seed=0))
    with pytest.raises(ModelError, match="classifier"):
        Ear.load(tmp_path)


def test_confidence_below_a_half_is_unknown():
    model = Classifier.build(CONFIG, seed=0).eval()
    torch.nn.init.zeros_(model.timbre.weight)
    model.timbre.bias.data = torch.log(torch.tensor([0.45, 0.3, 0.25]))
    [heard] = Ear(model, name="").hear([tone()])
    assert heard.label is None
    assert heard.confidence == pytest.approx(0.45, abs=1e-4)
    model.timbre.bias.data = torch.log(torch.tensor([0.55, 0.3, 0.15]))
    assert Ear(model, name="").hear([tone()])[0].label == "tone"


# The ear that comes with Soundloom

BUILT_IN = {
    "kick": {"kick"},
    "snare": {"snare"},
    "hat": {"closed hat", "open hat"},
    "bass": {"bass"},
    "pluck": {"guitar"},
    "pad": {"synth pad"},
}


@pytest.fixture(scope="module")
def bundled():
    return Ear.bundled()


@pytest.fixture(scope="module")
def built_in(tmp_path_factory):
    """Sounds of the built-in bank with the kind of each. The ear was trained on engines such as theirs, not on them."""
    folder = tmp_path_factory.mktemp("built-in")
    factory.make(folder, seed=11)
    return [(path.name.split("_")[0], read(path)) for path in sorted(folder.glob("*.wav"))[::5]]


def test_the_bundled_ear_names_the_built_in_sounds(bundled, built_in):
    chances = bundled.chances([sound for _, sound in built_in])
    right = [likeliest(row, bundled.labels) in BUILT_IN[kind] for (kind, _), row in zip(built_in, chances, strict=True)]
    assert len(right) > 50
    assert np.mean(right) > 0.7  # 0.82 when it was made; of 25 labels one or two are right
    for one in BUILT_IN:
        assert np.mean([ok for ok, (kind, _) in zip(right, built_in, strict=True) if kind == one]) > 0.35


def test_the_bundled_ear_places_sounds_of_a_kind_together(bundled, built_in):
    kinds = np.array([kind for kind, _ in built_in])
    places = bundled.embed([sound for _, sound in built_in])
    assert places.shape[1] == bundled.size == 128
    apart = np.linalg.norm(places[:, None] - places, axis=-1) + np.where(np.eye(len(kinds)), np.inf, 0)
    assert np.mean(kinds[apart.argmin(1)] == kinds) > 0.9  # one of six by chance


def test_the_bundled_ear_tells_tones_from_noise(bundled, built_in):
    def tonal(kind):
        return np.median([one.tonal for one in bundled.hear([sound for name, sound in built_in if name == kind][:6])])

    assert max(tonal("hat"), tonal("snare")) < 0.3
    assert min(tonal("bass"), tonal("pluck")) > 0.7
    for midi in (45, 69, 84):
        [heard] = bundled.hear([tone(440 * 2 ** ((midi - 69) / 12))])
        assert heard.pitch == pytest.approx(midi, abs=0.05)


def test_the_bundled_ear_on_what_is_hardly_a_sound(bundled):
    nothing, short, long = bundled.hear(
        [
            Waveform(np.zeros((2, 9000), np.float32), 48000),
            tone(880, seconds=0.02, rate=192000),
            tone(220, seconds=600, rate=8000),
        ]
    )
    assert (nothing.label, nothing.pitch, nothing.confidence) == (None, None, 0.0)
    for heard in (short, long):
        assert sum(heard.chances) == pytest.approx(1, abs=1e-4)
        assert np.isfinite(heard.embedding).all()
    with pytest.raises(AudioError, match="NaN"):
        bundled.hear([Waveform(np.full((1, 4000), np.nan, np.float32), 44100)])
