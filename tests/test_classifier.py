"""The classifier: what it sees, what it is taught, and that it learns it."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from soundloom import checkpoint
from soundloom.audio import Waveform, write
from soundloom.bank import Batch, SoundBank
from soundloom.condition import Condition
from soundloom.ears import Ear
from soundloom.errors import BankError, ConfigError
from soundloom.models import classifier
from soundloom.models.base import Classifies
from soundloom.models.classifier import Classifier, ClassifierConfig, Lesson
from soundloom.models.logspectrum import LOWEST_HZ, LogSpectrum
from soundloom.train import TrainConfig, fit

RATE = 16000
SMALL = ClassifierConfig(
    sample_rate=RATE, labels=("tone", "noise"), seconds=0.32, widths=(8, 16), depths=(1, 1), batch=8, embedding=16
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def lesson(n: int = 8, *, samples: int, seed: int = 0) -> Lesson:
    """Half tones of random pitch, half noises."""
    pitch = 40 + 40 * torch.rand(n, generator=seeded(seed))
    time = torch.arange(samples) / RATE
    tone = torch.sin(2 * math.pi * 440 * 2 ** ((pitch[:, None] - 69) / 12) * time)
    noise = torch.randn(n, samples, generator=seeded(seed))
    is_tone = torch.arange(n) % 2 == 0
    return Lesson(
        audio=torch.where(is_tone[:, None], tone, noise),
        tags=torch.nn.functional.one_hot((~is_tone).long(), 2).float(),
        tagged=torch.ones(n),
        pitch=torch.where(is_tone, pitch, torch.nan),
        tonal=is_tone.float(),
    )


@pytest.mark.parametrize(("rate", "bands"), [(8000, 96), (16000, 112), (32000, 112), (44100, 128)])
def test_the_axis_reaches_half_the_rate(rate, bands):
    spectrum = LogSpectrum(sample_rate=rate)
    assert spectrum.bands == bands
    assert LOWEST_HZ * 2 ** ((bands + 2) / 12) >= rate / 2 * 0.99


@pytest.mark.parametrize("pitch", [45, 60, 76, 93])
def test_a_tone_is_seen_at_its_semitone(pitch):
    hz = 440 * 2 ** ((pitch - 69) / 12)
    levels = LogSpectrum(sample_rate=RATE)(torch.sin(2 * math.pi * hz * torch.arange(RATE) / RATE)[None])
    middle = levels[0, :, :, levels.shape[-1] // 2]
    band = 12 * math.log2(hz / LOWEST_HZ)
    assert abs(int(middle[2].argmax()) - band) < 0.6
    assert middle.max() == pytest.approx(0, abs=0.02)  # as loud as it gets
    far = [k for k in range(levels.shape[2]) if abs(k - band) > 12 and LOWEST_HZ * 2 ** (k / 12) > 200]
    assert middle[2, far].max() < -0.5  # 40 dB


def test_a_click_is_seen_when_it_comes():
    audio = torch.zeros(1, RATE)
    audio[0, 8000] = 1.0
    spectrum = LogSpectrum(sample_rate=RATE)
    levels = spectrum(audio)[0]
    for i, window in enumerate((2, 8, 32)):
        frames = (levels[i, -20] > -0.9).nonzero()[:, 0] * spectrum.hop_length
        assert frames.min() >= 8000 - (window / 2 + 9) * spectrum.hop_length
        assert frames.max() <= 8000 + (window / 2 + 9) * spectrum.hop_length


def test_level_does_not_matter():
    spectrum, audio = LogSpectrum(sample_rate=RATE), torch.randn(1, RATE, generator=seeded())
    torch.testing.assert_close(spectrum(audio), spectrum(0.01 * audio), atol=1e-4, rtol=0)


def test_silence_has_no_level():
    assert (LogSpectrum(sample_rate=RATE)(torch.zeros(2, RATE)) == -1).all()


@pytest.mark.parametrize("pitch", [21.0, 60.25, 60.5, 69.0, 107.9])
def test_a_pitch_is_told_with_its_cents(pitch):
    shares = classifier.pitch_targets(torch.tensor([pitch]))
    assert float(shares.sum()) == pytest.approx(1)
    found, sure = classifier.decode_pitch(torch.log(shares + 1e-9))
    assert float(found[0]) == pytest.approx(pitch, abs=0.01)
    assert float(sure[0]) > 0.99


def test_what_is_mixed_has_the_tags_of_both_and_no_pitch():
    before = lesson(64, samples=1000)
    after = classifier.mixed(before, 0.5, generator=seeded(1))
    changed = (after.audio != before.audio).any(1)
    assert 16 < int(changed.sum()) < 48
    torch.testing.assert_close(after.tags.sum(1), torch.ones(64))
    assert torch.isnan(after.pitch[changed]).all()
    assert torch.equal(after.audio[~changed], before.audio[~changed])
    own = (after.tags * before.tags).sum(1)
    assert own.min() >= 0.5  # a sound stays what it mostly is


def test_hidden_stripes_are_at_most_a_fifth():
    hidden = classifier.hide_stripes(torch.zeros(200, 3, 96, 40), 1.0, generator=seeded()) == -1
    rows, frames = hidden[:, 0].all(2).sum(1), hidden[:, 0].all(1).sum(1)
    assert rows.max() <= 96 / 5 + 1
    assert frames.max() <= 40 / 5 + 1
    assert rows.float().mean() > 5
    assert (hidden[:, 0] == hidden[:, 2]).all()


def test_recoloured_levels_stay_levels():
    levels = LogSpectrum(sample_rate=RATE)(torch.randn(64, RATE // 2, generator=seeded()))
    made = classifier.recoloured(levels, 0.5, generator=seeded())
    changed = (made != levels).flatten(1).any(1)
    assert 16 < int(changed.sum()) < 48
    assert made.min() >= -1
    assert made.max() <= 0


def test_synthetic_tones_have_the_pitch_they_say():
    pitch = torch.tensor([45.0, 57.3, 69.0, 81.5])
    audio = classifier.tones(pitch, samples=4 * RATE, sample_rate=RATE, generator=seeded())
    power = torch.fft.rfft(audio).abs().square()
    for row, midi in zip(power, pitch.tolist(), strict=True):
        f0 = 440 * 2 ** ((midi - 69) / 12)
        near = torch.zeros_like(row)
        for k in range(1, int(RATE / 2 / f0) + 1):
            near[max(0, round(k * f0 * 4) - 20) : round(k * f0 * 4) + 21] = 1
        assert (row * near).sum() / row.sum() > 0.75  # the rest is the noise


def test_one_lesson_is_learnt_and_labels_and_pitch_are_heard():
    config = replace(SMALL, mixed=0.0, masked=0.0, recoloured=0.0, smoothing=0.0)
    model = Classifier.build(config, seed=0).train()
    some = lesson(16, samples=model.samples)
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(60):
        optimiser.zero_grad()
        model.weighted(model.losses(some)).backward()
        optimiser.step()
    opinion = model.eval().classify(some.audio)
    assert (opinion.logits.argmax(1) == some.tags.argmax(1)).all()
    assert ((opinion.tonal > 0.5) == (some.tonal > 0.5)).all()
    assert (opinion.pitch - some.pitch)[some.tonal > 0].abs().max() < 0.5


def test_every_parameter_takes_part():
    model = Classifier.build(SMALL, seed=0).train()
    model.weighted(model.losses(lesson(samples=model.samples), generator=seeded())).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


def test_labels_joined_by_a_plus_are_several():
    config = replace(SMALL, labels=("clap", "clap+snare", "snare"))
    assert config.tags == ("clap", "snare")
    assert not config.exclusive
    model = Classifier.build(config, seed=0)
    assert model.members.tolist() == [[1, 0], [1, 1], [0, 1]]
    both = Lesson(torch.randn(1, model.samples), model.members[1:2], torch.ones(1), torch.zeros(1), torch.zeros(1))
    assert torch.isfinite(model.losses(both)["timbre"])


def test_as_many_parts_as_labels_are_still_several():
    assert not replace(SMALL, labels=("clap+snare", "snare")).exclusive
    assert replace(SMALL, labels=("clap", "snare")).exclusive


def test_of_several_labels_either_one_is_right():
    model = Classifier.build(replace(SMALL, labels=("clap+snare", "hat")), seed=0).eval()
    model.timbre.weight.data.zero_()
    condition = Condition.having(label=torch.tensor([0]))
    frames, one = torch.zeros(1, 1, 1), torch.zeros(1)
    batch = Batch(torch.randn(1, 1, model.samples), one, frames, frames, one, condition, one)
    for likeliest, accuracy in ((0, 1.0), (1, 1.0), (2, 0.0)):
        model.timbre.bias.data = torch.eye(3)[likeliest]
        assert model.validate(batch, generator=seeded())["accuracy"] == accuracy


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_the_temperature_of_scaled_logits_is_found(factor):
    logits = torch.randn(4000, 5, generator=seeded())
    truth = torch.multinomial(torch.softmax(logits, 1), 1, generator=seeded())[:, 0]
    tags = torch.nn.functional.one_hot(truth, 5).float()
    assert float(classifier.best_temperature(logits * factor, tags, exclusive=True)) == pytest.approx(factor, rel=0.12)


def test_any_length_is_heard():
    model = Classifier.build(SMALL, seed=0).eval()
    audio = torch.randn(2, 10 * RATE)
    assert isinstance(model, Classifies)
    short = model.classify(audio[:, :320])
    assert torch.isfinite(short.logits).all()
    torch.testing.assert_close(model.classify(audio).logits, model.classify(audio[:, : model.samples]).logits)


def test_configs_that_cannot_be_are_refused():
    with pytest.raises(ConfigError, match="mono"):
        ClassifierConfig(channels=2)
    with pytest.raises(ConfigError, match="stages"):
        ClassifierConfig(widths=(8, 16), depths=(1,))


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    """Sixty short sounds of three kinds: low tones, high tones, noises."""
    folder = tmp_path_factory.mktemp("classifier")
    rng = np.random.default_rng(0)
    time = np.arange(RATE // 4) / RATE
    for i in range(20):
        decay = np.exp(-time * rng.uniform(3, 12))
        kinds = {
            "low": np.sin(2 * np.pi * rng.uniform(80, 160) * time),
            "high": np.sin(2 * np.pi * rng.uniform(1500, 3000) * time),
            "noise": rng.standard_normal(len(time)) / 3,
        }
        for name, x in kinds.items():
            (folder / "sounds" / name).mkdir(parents=True, exist_ok=True)
            write(folder / "sounds" / name / f"{i}.wav", Waveform((0.5 * x * decay)[None].astype(np.float32), RATE))
    return SoundBank.scan(folder / "sounds", folder / "bank", label_from="folder")


def test_a_run_hears_held_out_sounds(bank, tmp_path):
    settings = ["widths=8,16", "depths=1,1", "batch=24", "embedding=16"]
    result = fit("classifier", bank, TrainConfig(steps=60, threads=1), tmp_path / "run", settings=settings)
    assert result.score < 0.5
    checkpoint.verify(checkpoint.load(tmp_path / "run"), tmp_path / "run")
    ear = Ear.load(tmp_path / "run")
    assert ear.labels == bank.labels
    clips = np.concatenate([bank.clips("validation"), bank.clips("test")])
    heard = ear.hear([bank.audio(int(clip)) for clip in clips])
    right = [h.label == bank.column("label")[clip] for h, clip in zip(heard, clips, strict=True)]
    assert np.mean(right) > 0.9


def test_one_label_is_refused(bank, tmp_path):
    only = SoundBank.scan(bank.folder.parent / "sounds" / "low", tmp_path / "bank", label_from="folder")
    with pytest.raises(BankError, match="two or more"):
        Classifier.configure(only)
