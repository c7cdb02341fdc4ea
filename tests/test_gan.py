"""The GAN: its game is stable and learns, its pitch is asked and not learnt, and its measures against collapse work."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_models import HOP, RATE, tones, train
from tiny import TinyBank

from soundloom.condition import Condition, Manner
from soundloom.errors import BankError, ConditionError, ConfigError, ModelError
from soundloom.models.gan import GAN, GANConfig, judge_loss, maker_loss
from soundloom.models.wholejudge import WholeJudge, spread_in_groups

CONFIG = GANConfig(
    sample_rate=RATE, hop_length=HOP, labels=("tone", "other"), clips=4, seconds=0.512, width=48, blocks=2, noise=8,
    partials=20, batch=4, steps=60, tries=2,
)  # fmt: skip


def with_memory(model: GAN) -> GAN:
    """The model as if it had seen a bank of the four tones."""
    pitch = tones().condition.pitch
    model.course[:] = 0.0
    model.facts.copy_(torch.stack([pitch, torch.full((4,), 32.0), torch.zeros(4)], 1))
    return model


@pytest.fixture
def model():
    return with_memory(GAN.build(CONFIG, seed=1))


@pytest.fixture(scope="module")
def learnt():
    model = with_memory(GAN.build(CONFIG, seed=1))
    train(model, tones(), 40)
    return model.eval()


def test_one_batch_is_learnt(model):
    before = model.validate(tones(), generator=torch.Generator().manual_seed(0))["score"]
    reports = train(model, tones(), 40)
    after = model.validate(tones(), generator=torch.Generator().manual_seed(0))["score"]
    assert all(math.isfinite(value) for report in reports for value in report.values())
    assert after < 0.75 * before


@pytest.mark.parametrize("loss", ["relativistic", "hinge", "least-squares"])
def test_every_parameter_takes_part(loss):
    model = with_memory(GAN.build(replace(CONFIG, loss=loss), seed=1))
    for seed in range(4):  # a condition is left out now and then
        generator = torch.Generator().manual_seed(seed)
        model.train_step(tones(), step=0, generator=generator, update=lambda _, loss: loss.backward())
    still = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # a label, words and values that no sound of the batch has
    assert [name for name in still if not any(part in name for part in ("label", "text", "values"))] == []
    owned = [id(p) for player in model.players().values() for p in player.parameters]
    assert sorted(owned) == sorted(id(p) for p in model.parameters())


def test_training_is_a_function_of_seed_and_batch(model):
    again = with_memory(GAN.build(CONFIG, seed=1))
    assert train(model, tones(), 2) == train(again, tones(), 2)


@pytest.mark.parametrize("loss", ["relativistic", "hinge", "least-squares"])
def test_each_loss_pulls_the_right_way(loss):
    """The maker wants its sounds to seem more real, the judge wants to tell them from real ones."""
    real, made = [torch.tensor([0.3, -0.2])], [torch.tensor([0.1, 0.0], requires_grad=True)]
    maker_loss(loss, made, real).backward()
    assert (made[0].grad < 0).all()
    made[0].grad, real[0].requires_grad = None, True
    judge_loss(loss, real, made).backward()
    assert (made[0].grad >= 0).all()
    assert (made[0].grad > 0).any()
    assert (real[0].grad <= 0).all()
    assert (real[0].grad < 0).any()


def test_the_pitch_that_is_asked_is_the_pitch_that_sounds(learnt):
    """Any pitch, also between those that were heard: the loudest peak lies on a partial of it, within 10 cents."""
    asked = [48.0, 57.3, 66.66]
    condition = Condition.having(pitch=torch.tensor(asked))
    sounds = learnt.sample(3, seconds=None, condition=condition, generator=torch.Generator().manual_seed(0))
    for sound, pitch in zip(sounds, asked, strict=True):
        f0 = 440 * 2 ** ((pitch - 69) / 12)
        spectrum = np.log(np.abs(np.fft.rfft(sound[0].numpy() * np.hanning(sound.shape[-1]), 1 << 16)) + 1e-9)
        loudest = spectrum[10:].argmax() + 10
        hz = loudest * RATE / (1 << 16)
        partial = round(hz / f0)
        assert partial >= 1
        assert abs(1200 * math.log2(hz / (partial * f0))) < 10


def test_new_sounds_differ_and_end(learnt):
    generator = torch.Generator().manual_seed(3)
    sounds = learnt.sample(4, seconds=None, condition=Condition.of(4, CONFIG.labels, label="tone"), generator=generator)
    assert sounds.abs().amax((1, 2)).allclose(torch.tensor(0.98))
    assert not sounds[..., 32 * HOP :].any()
    levels = learnt.whole.levels(sounds[:, 0])
    assert torch.pdist(levels.flatten(1)).min() > 0.1


def test_same_seed_same_sound_and_temperature_tames(learnt):
    def draw(seed, **manner):
        generator, condition = torch.Generator().manual_seed(seed), Condition.of(4, pitch=60.0)
        return learnt.sample(4, seconds=0.25, condition=condition, generator=generator, manner=Manner(**manner))

    assert torch.equal(draw(4), draw(4))
    assert not torch.equal(draw(4), draw(5))
    spread = [torch.pdist(learnt.whole.levels(draw(4, temperature=t)[:, 0]).flatten(1)).mean() for t in (0.2, 1.0)]
    assert spread[0] < spread[1]


def test_repetition_is_heard_in_groups():
    varied = torch.randn(8, 16, generator=torch.Generator().manual_seed(0))
    repeated = varied[:1].expand(8, -1)
    assert spread_in_groups(repeated).max() < 0.01
    assert spread_in_groups(varied).min() > 0.5
    assert torch.allclose(spread_in_groups(varied), spread_in_groups(varied[[1, 0, 3, 2, 5, 4, 7, 6]]))


def test_a_whole_judge_hears_levels_in_decibels():
    judge = WholeJudge(sample_rate=RATE, hop_length=HOP, labels=2)
    tone = 0.5 * torch.sin(2 * math.pi * 1000 * torch.arange(32 * HOP) / RATE)[None]
    levels = judge.levels(torch.cat([tone, 0.1 * tone, 0 * tone]))
    band = int(levels[0, 16].argmax())
    assert float(levels[0, 16, band] - levels[1, 16, band]) == pytest.approx(math.log(10), abs=0.05)
    assert levels[2].abs().max() < 1e-3


def test_the_nearest_of_several_noises_is_taken(model):
    """Implicit maximum likelihood: with more tries the nearest is nearer."""
    batch = tones()
    real = model.whole.levels(batch.audio[:, 0])
    apart = []
    for tries in (1, 8):
        several = with_memory(GAN.build(replace(CONFIG, tries=tries), seed=1))
        generator = torch.Generator().manual_seed(5)
        noise = several._nearest(batch, batch.condition, generator)
        made = several._made(noise, batch, batch.condition, torch.Generator().manual_seed(0))
        apart.append((several.whole.levels(made) - real).square().mean().item())
    assert apart[1] < apart[0]


def test_bad_wishes_are_refused(learnt, tmp_path):
    generator = torch.Generator().manual_seed(0)
    with pytest.raises(ModelError, match=r"up to 0\.512 s"):
        learnt.sample(1, seconds=3.0, condition=None, generator=generator)
    with pytest.raises(ModelError, match="heard no sounds"):
        GAN.build(CONFIG, seed=0).sample(1, seconds=None, condition=None, generator=generator)
    with pytest.raises(ConditionError, match="tone"):
        Condition.of(1, CONFIG.labels, label="tune")
    with pytest.raises(ConfigError, match="relativistic"):
        GANConfig(loss="best")
    with pytest.raises(BankError, match="8 or more"):
        GAN.configure(TinyBank(tmp_path, sounds=6))
