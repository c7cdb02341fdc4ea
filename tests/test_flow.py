"""The flow: what it learns, what its solvers do, and that its way goes both ways."""

import math

import numpy as np
import pytest
import torch
from test_models import CODEC, HOP, RATE, tones, train
from tiny import TinyBank

from soundloom import checkpoint
from soundloom.checkpoint import Card
from soundloom.condition import AS_LEARNT, Condition, Manner
from soundloom.errors import BankError, ConfigError, ModelError
from soundloom.models import solver
from soundloom.models.codec import Codec
from soundloom.models.coded import BESIDE, CodeSpace, Known, codec_config
from soundloom.models.flow import Flow, FlowConfig

SMALL = {"codec": CODEC, "sample_rate": RATE, "labels": ("tone", "other"), "seconds": 0.5, "width": 32, "blocks": 2}
CONFIG = FlowConfig(**SMALL, heads=2, batch=4, steps=60, dropout=0.0)


def with_codes(model: Flow) -> Flow:
    """The model as if it had seen a bank: the codes of `tones` are known, and what is usual in them."""
    batch, space = tones(), model.space
    with torch.no_grad():
        code = space.codec.encode(batch.audio, f0_hz=batch.f0_hz)
        for i in range(4):
            midi = 69 + 12 * torch.log2(batch.f0_hz[i, 0] / 440)
            space._known[i] = Known(code.z[i].T, midi, float(midi[0]))
        space.mean.copy_(code.z.mean((0, 2)))
        space.scale.copy_(code.z.std((0, 2)).clamp_min(0.2))
    return model


@pytest.fixture
def model():
    return with_codes(Flow.build(CONFIG, seed=1))


@pytest.fixture(scope="module")
def learnt():
    model = with_codes(Flow.build(CONFIG, seed=1))
    train(model, tones(), 250)
    return model.eval()


def test_one_batch_is_learnt(model):
    before = model.validate(tones(), generator=torch.Generator().manual_seed(0))["score"]
    reports = train(model, tones(), 60)
    after = model.validate(tones(), generator=torch.Generator().manual_seed(0))["score"]
    assert all(math.isfinite(value) for report in reports for value in report.values())
    assert after < 0.6 * before


def test_every_parameter_takes_part_and_the_codec_rests(model):
    model.train_step(
        tones(), step=0, generator=torch.Generator().manual_seed(0), update=lambda _, loss: loss.backward()
    )
    learnt = {name: p for name, p in model.named_parameters() if not name.startswith("space.")}
    still = [name for name, p in learnt.items() if p.grad is None or not p.grad.abs().sum() > 0]
    assert [name for name in still if "condition" not in name] == []
    assert all(not p.requires_grad for p in model.space.parameters())
    assert {id(p) for p in model.players()["flow"].parameters} == {id(p) for p in learnt.values()}


def test_training_is_a_function_of_seed_and_batch(model):
    again = with_codes(Flow.build(CONFIG, seed=1))
    assert train(model, tones(), 2) == train(again, tones(), 2)


# --- sounds as sequences ----------------------------------------------------------------------------------------------


def test_a_sequence_gives_its_code_back(model):
    space = model.space
    known = space.known(1)
    code, ends = space.unpacked(space.packed(known, 40)[None])
    n = len(known.z)
    assert ends.tolist() == [n]
    assert torch.allclose(code.z[0, :, :n], known.z.T, atol=1e-4)
    cents = 1200 * torch.log2(code.f0_hz[0, 0, :n] / tones().f0_hz[1, 0, :n])
    assert cents.abs().max() < 0.1
    assert not code.f0_hz[0, 0, n:].any()


def test_an_asked_pitch_takes_the_place_of_the_sounds_own(model):
    sequence = model.space.packed(model.space.known(0), 40)[None].repeat(2, 1, 1)
    code, _ = model.space.unpacked(sequence, pitch=torch.tensor([math.nan, 64.0]))
    assert code.f0_hz[0, 0, 5] == pytest.approx(220.0, rel=1e-4)
    assert code.f0_hz[1, 0, 5] == pytest.approx(440 * 2 ** (-5 / 12), rel=1e-4)


def test_a_sound_ends_where_most_frames_say():
    space = CodeSpace(CODEC)
    sequence = torch.zeros(1, 20, space.size)
    sequence[..., -1] = torch.tensor([1.0] * 9 + [-0.1] + [0.8] * 2 + [-1.0] * 8)  # one frame too early is no end
    assert space.unpacked(sequence)[1].tolist() == [12]
    sequence[0, 17:, -1] = 1.0  # a second burst after a gap is not the sound's
    assert space.unpacked(sequence)[1].tolist() == [12]
    audio = space.decoded(sequence)
    assert audio[..., 12 * HOP :].abs().max() == 0


# --- the solver -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("midpoint", 2), ("heun", 2)])
def test_the_error_of_a_solver_falls_with_its_order(method, order):
    def turn(x, t):  # exact: a rotation by one radian, at a pace that changes with time
        return torch.stack([-x[:, 1], x[:, 0]], 1) * 2 * t[:, None]

    start = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    exact = torch.tensor([[math.cos(1), math.sin(1)]], dtype=torch.float64)
    errors = [
        float((solver.follow(turn, start, start=0.0, end=1.0, steps=n, method=method) - exact).norm()) for n in (16, 32)
    ]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.2)


def test_likelihood_of_a_gaussian_is_exact():
    """The flow of dx/dt = x·log(s) takes N(0, 1) to N(0, s²): its density is known."""
    scale = torch.tensor([2.0, 0.5, 3.0], dtype=torch.float64)
    x = torch.tensor([[0.3, -0.2, 1.0], [2.0, 0.1, -4.0]], dtype=torch.float64)
    nats, noise = solver.log_likelihood(
        lambda x, t: x * torch.log(scale), x, steps=64, generator=torch.Generator().manual_seed(0)
    )
    assert torch.allclose(noise, x / scale, atol=1e-3)
    assert torch.allclose(nats, torch.distributions.Normal(0, scale).log_prob(x).sum(1), atol=1e-3)


def test_the_traces_estimate_is_without_bias():
    """A linear flow with everything off the diagonal: single estimates differ, their mean is the trace."""
    matrix = torch.randn(4, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64) / 2
    x = torch.zeros(4000, 4, dtype=torch.float64)
    nats, _ = solver.log_likelihood(lambda x, t: x @ matrix.T, x, steps=1, generator=torch.Generator().manual_seed(0))
    found = -(nats + 2 * math.log(2 * math.pi))
    assert found.std() > 0.1
    assert float(found.mean()) == pytest.approx(float(matrix.trace()), abs=4 * float(found.std()) / 4000**0.5)


# --- use --------------------------------------------------------------------------------------------------------------


def test_what_was_learnt_is_what_is_drawn(learnt):
    """Four tones were learnt: each drawn sound is near one of them, and asked for by pitch it is that one."""
    sounds = learnt.sample(
        4,
        seconds=None,
        condition=Condition.having(pitch=tones().condition.pitch),
        generator=torch.Generator().manual_seed(0),
        manner=Manner(steps=16),
    )
    for sound, f0 in zip(sounds, (220.0, 330.0, 440.0, 110.0), strict=True):
        spectrum = np.abs(np.fft.rfft(sound[0].numpy() * np.hanning(sound.shape[-1]), 1 << 15))
        loudest = spectrum.argmax() * RATE / (1 << 15)
        nearest = round(loudest / f0)
        assert nearest >= 1
        assert abs(1200 * math.log2(loudest / (nearest * f0))) < 20


def test_guidance_beyond_one_goes_further_the_same_way(learnt):
    condition = Condition.having(pitch=tones().condition.pitch)
    x, t = learnt._noise(4, torch.Generator().manual_seed(0)), torch.full((4,), 0.5)
    with torch.no_grad():
        without, plain, more = (learnt.direction(condition, guidance=g)(x, t) for g in (0.0, 1.0, 2.0))
    # bfloat16 in the blocks: the three were computed in batches of different size
    assert (more - (2 * plain - without)).abs().max() < 0.05 * plain.abs().max()
    assert (plain - without).abs().max() > 0.05


def test_the_way_back_and_forth_gives_the_sound_again(learnt):
    sequence = learnt.space.sequences(torch.arange(4), CONFIG.frames)
    noise = learnt.invert(sequence, steps=32)
    again = learnt._forward(noise, Condition.of(4), Manner(steps=32))
    inside = sequence[..., -1] > 0
    error = (again - sequence)[inside][:, :-BESIDE].square().mean().sqrt()
    assert error < 0.15 * sequence[inside][:, :-BESIDE].std()


def test_variations_are_nearer_for_less_strength(learnt):
    sound = tones().audio[:1]
    apart = []
    for strength in (0.1, 1.0):
        varied, again, _ = learnt.vary(sound, 16, strength=strength, generator=torch.Generator().manual_seed(1))
        window = torch.hann_window(512)
        loud = (x[:, 0] / x.abs().amax((1, 2))[:, None] for x in (varied, again))
        levels = [torch.log(torch.stft(x, 512, window=window, return_complex=True).abs() + 1e-1) for x in loud]
        apart.append(float((levels[0] - levels[1]).abs().mean()))
    assert apart[0] < apart[1]


def sequences_of(model, make):
    """What `make` has decoded, as the sequence that it was before."""
    kept, decoded = [], model.space.decoded
    model.space.decoded = lambda sequence, **more: kept.append(sequence) or decoded(sequence, **more)
    try:
        make()
    finally:
        del model.space.decoded
    return kept[-1]


def test_what_is_given_stays_when_a_part_is_made_anew(learnt):
    sound, generator = tones().audio[:1], torch.Generator().manual_seed(0)
    made = sequences_of(learnt, lambda: learnt.fill(sound, start_s=0.2, end_s=0.3, generator=generator))[0]
    given = learnt.space.packed(learnt.space.heard(sound[0]), CONFIG.frames)
    at_s = torch.arange(CONFIG.frames) * HOP / RATE
    anew = (at_s >= 0.2) & (at_s < 0.3)
    assert torch.equal(made[~anew], given[~anew])
    error = (made - given)[anew].square().mean().sqrt()
    assert 0 < error < 0.7 * given[anew].std()  # it was learnt, so it is found again, about


def test_the_likelier_of_many_are_kept(learnt):
    likelihood = []
    condition = Condition.of(3)
    for best_of in (1, 6):
        manner = Manner(best_of=best_of)
        generator = torch.Generator().manual_seed(2)
        drawing = {"seconds": None, "condition": condition, "generator": generator, "manner": manner}
        kept = sequences_of(learnt, lambda drawing=drawing: learnt.sample(3, **drawing))
        generator = torch.Generator().manual_seed(9)
        likelihood.append(float(learnt.log_likelihood(kept, condition, generator=generator, steps=12).mean()))
    assert likelihood[1] > likelihood[0]


def test_same_seed_same_sound(learnt):
    def draw(seed):
        generator = torch.Generator().manual_seed(seed)
        return learnt.sample(2, seconds=None, condition=None, generator=generator, manner=AS_LEARNT)

    assert torch.equal(draw(4), draw(4))
    assert not torch.equal(draw(4), draw(5))


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_a_missing_codec_is_told_with_the_command(tmp_path):
    bank = TinyBank(tmp_path)
    with pytest.raises(ConfigError, match="soundloom train BANK --family codec"):
        Flow.configure(bank)
    with pytest.raises(ModelError, match="no model folder"):
        Flow.configure(bank, [f"codec={tmp_path / 'nothing'}"])


def test_another_family_or_rate_is_no_codec_for_it(tmp_path):
    checkpoint.save(Flow.build(CONFIG, seed=0).space.codec, tmp_path / "codec", card=Card("x", "0", 1, "none", 0))
    found, folder, others = codec_config([f"codec={tmp_path / 'codec'}", "width=64"], family="flow")
    assert found == CODEC
    assert others == ["width=64"]
    with pytest.raises(ConfigError, match="16000 Hz"):
        Flow.configure(TinyBank(tmp_path), [f"codec={folder}"])


def test_too_few_sounds_and_too_long_ones_are_refused(tmp_path, learnt):
    generator = torch.Generator().manual_seed(0)
    with pytest.raises(ModelError, match=r"up to 0\.5 s"):
        learnt.sample(1, seconds=2.0, condition=None, generator=generator)
    bank = TinyBank(tmp_path, sounds=4)
    codec = Codec.build(CODEC, seed=0)
    checkpoint.save(codec, tmp_path / "codec", card=Card("x", "0", 1, "none", 0))
    bank.sample_rate = RATE
    with pytest.raises(BankError, match="8 or more"):
        Flow.configure(bank, [f"codec={tmp_path / 'codec'}"])


def test_unknown_solver_is_refused():
    with pytest.raises(ConfigError, match="did you mean midpoint"):
        FlowConfig(solver="midpoints")
