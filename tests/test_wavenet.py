"""WaveNet: its kernel does what the whole network does, it learns, and what it is asked for in vain it says plainly."""

import math

import numpy as np
import pytest
import torch

from soundloom.bank import Batch
from soundloom.condition import Condition, Manner
from soundloom.errors import ConfigError, ModelError
from soundloom.models import wavekernel
from soundloom.models.base import Continues, Resynthesises, Samples
from soundloom.models.gate import gated
from soundloom.models.logistics import STEP, drawn, log_probability, quantised
from soundloom.models.predictor import Prediction, levinson, measured, predicted_from
from soundloom.models.wavenet import WaveNet, WaveNetConfig

RATE, HOP = 8000, 128
SMALL = WaveNetConfig(
    sample_rate=RATE, hop_length=HOP, labels=("tone",), mels=40, width=32, cycles=2, dilations=5, order=16, guide=32,
    seconds=0.128, batch=4, steps=60, free=0.4,
)  # fmt: skip


def tones(frames: int = 8) -> Batch:
    """Four tones with four partials each."""
    t = torch.arange(frames * HOP) / RATE
    f0 = torch.tensor([220.0, 330.0, 440.0, 110.0])
    audio = 0.2 * sum(torch.sin(2 * math.pi * p * f0[:, None] * t) / p for p in range(1, 5))
    return Batch(
        audio=audio[:, None],
        lengths=torch.full((4,), frames * HOP),
        f0_hz=f0[:, None, None].expand(4, 1, frames).clone(),
        voiced=torch.ones(4, 1, frames),
        inharmonicity=torch.zeros(4),
        condition=Condition.having(pitch=69 + 12 * torch.log2(f0 / 440), label=torch.zeros(4, dtype=torch.int64)),
        clips=torch.arange(4),
    )


def trained(model, batch, steps):
    optimiser = torch.optim.Adam(model.players()["wavenet"].parameters, lr=3e-3)

    def update(player, loss):
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return [
        model.train_step(batch, step=i, generator=torch.Generator().manual_seed(i), update=update) for i in range(steps)
    ]


@pytest.fixture(scope="module")
def net():
    """A net that says different things at different times: its last layers are drawn wide."""
    model = WaveNet.build(SMALL, seed=1).eval()
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        model.say.weight.normal_(std=0.2)
        model.no_frames.normal_()
    return model.requires_grad_(False)


def hissing(frames: int = 8):
    """A tone with some noise [1, T]: a tone alone is foretold to within a step of 16 bits, and what is off by a step or
    two, divided by as much, is rounding and nothing else."""
    noise = torch.randn(1, frames * HOP, generator=torch.Generator().manual_seed(4))
    return quantised(tones(frames).audio[:1, 0] + 0.01 * noise)


def guides(model, audio, *, free=False):
    """Condition and predictors of audio [B, T]."""
    which = torch.full((len(audio),), free)
    with torch.no_grad():
        return model.guided(model._measured(audio), Condition.of(len(audio)), free=which)


def forced(model, audio, splits=(10**9,), free=False):
    """What the kernel says of each sample of audio [1, T], given those before it, asked for in blocks."""
    guide, prediction = guides(model, audio, free=free)
    course = model._course(guide, prediction, 0)
    weights = model.packed()
    stream, said, at = wavekernel.begun(weights, model.config.order), [], 0
    for n in splits:
        given = audio[0, at : at + n].numpy()
        here = wavekernel.Course(*(rows[at // model.config.piece :] for rows in course))
        nothing = np.full((len(given), 2), 0.5, np.float32)
        words, stream = wavekernel.play(weights, here, stream, nothing, piece=model.config.piece, given=given)[1:]
        said.append(words)
        at += n
    return torch.from_numpy(np.concatenate(said))


# --- the contract -----------------------------------------------------------------------------------------------------


def test_one_batch_is_learnt():
    model, batch = WaveNet.build(SMALL, seed=1), tones()
    before = model.validate(batch, generator=torch.Generator())["score"]
    reports = trained(model, batch, 60)
    after = model.validate(batch, generator=torch.Generator())["score"]
    assert all(math.isfinite(value) for report in reports for value in report.values())
    assert after < before - 1.0  # nats a sample


def test_every_parameter_takes_part():
    model = WaveNet.build(SMALL, seed=1)
    generator = torch.Generator().manual_seed(3)  # two of the four sounds are without frames
    model.train_step(tones(), step=0, generator=generator, update=lambda _, loss: loss.backward())
    still = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # A condition that no sound of the batch has may be left out.
    assert [name for name in still if "about" not in name] == []
    assert {id(p) for p in model.players()["wavenet"].parameters} == {id(p) for p in model.parameters()}


def test_training_is_a_function_of_seed_and_batch():
    one, two = (trained(WaveNet.build(SMALL, seed=1), tones(), 2) for _ in range(2))
    assert one == two


def test_what_it_offers(net):
    for offer in (Samples, Continues, Resynthesises):
        assert isinstance(net, offer)


# --- the kernel -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("free", [False, True])
def test_the_kernel_says_what_the_network_says(net, free):
    """Given the same past, every parameter of every sample's mixture within 1e-4, most of them nearer to 1e-6: the two
    add up the same numbers in another order."""
    audio = hissing()
    guide, prediction = guides(net, audio, free=free)
    with torch.no_grad():
        said = net.judged(audio, guide, prediction)[0][0]
    assert said.std(0).min() > 0.01
    difference = (forced(net, audio, free=free) - said).abs()
    assert difference.max() < 1e-4
    assert difference.mean() < 5e-6


def test_the_kernel_plays_what_the_naive_loop_plays(net):
    """The same random numbers, the same sound, sample by sample, as both round to 16 bits; until a rounding difference
    of 1e-6 moves a sample that lies just between two of their steps by one step, after which the two are different
    sounds. Of five sets of random numbers three gave the same 400 samples, two differed from sample 67 and 368 on. So
    what is asked is that they are the same up to their first difference, which is one step; and that each sample, given
    the same past, is the same or one step away, and nearly all are the same."""
    guide, prediction = guides(net, hissing(4))
    uniforms = torch.rand(400, 2, generator=torch.Generator().manual_seed(5))
    weights = net.packed()
    stream = wavekernel.begun(weights, SMALL.order)
    course = net._course(guide, prediction, 0)
    played = torch.from_numpy(wavekernel.play(weights, course, stream, uniforms.numpy(), piece=SMALL.piece)[0])
    slow = net.slowly(guide, prediction, uniforms)[0]
    assert slow.std() > 0.01
    apart = (played - slow).abs() > 0.5 * STEP
    first = int(apart.nonzero()[0]) if apart.any() else 400
    assert (played[: first + 1] - slow[: first + 1]).abs().max() < 1.5 * STEP
    with torch.no_grad():
        whole = torch.nn.functional.pad(played[None], (0, guide.shape[1] * SMALL.piece - 400))
        said, expected, error = (x[0, :400] for x in net.judged(whole, guide, prediction))
    again = quantised(expected + error * drawn(said, uniforms, temperature=1.0))
    assert (again - played).abs().max() < 1.5 * STEP
    assert ((again - played).abs() < 0.5 * STEP).float().mean() > 0.98


@pytest.mark.parametrize("splits", [[32] * 32, [512, 512], [32, 96, 896]])
def test_any_blocks_give_the_same(net, splits):
    audio = hissing()
    assert torch.equal(forced(net, audio, splits), forced(net, audio))


def test_odd_blocks_give_the_same_sound(net):
    """A sound without frames has one piece for ever, so any split is one."""
    guide, prediction = net._unguided(Condition.of(1))
    course = net._course(guide, prediction, 0)
    weights = net.packed()
    uniforms = np.random.default_rng(0).random((300, 2), np.float32)
    sounds = []
    for splits in ([300], [1] * 300, [7, 100, 93, 100]):
        stream, blocks, at = wavekernel.begun(weights, SMALL.order), [], 0
        for n in splits:
            block, _, stream = wavekernel.play(weights, course, stream, uniforms[at : at + n], piece=SMALL.piece)
            blocks.append(block)
            at += n
        sounds.append(np.concatenate(blocks))
    assert stream.at == 300
    assert np.array_equal(sounds[0], sounds[1])
    assert np.array_equal(sounds[0], sounds[2])


def test_the_future_changes_nothing_and_the_reach_is_as_said(net):
    audio = quantised(0.1 * torch.randn(1, 8 * HOP, generator=torch.Generator().manual_seed(0)))
    guide, prediction = guides(net, audio)
    said = []
    at = 500
    for moved in (audio, audio.index_add(1, torch.tensor([at]), torch.tensor([[0.3]]))):
        with torch.no_grad():
            said.append(net.judged(moved, guide, prediction)[0][0])
    changed = (said[0] - said[1]).abs().amax(1) > 0
    assert not changed[: at + 1].any()
    assert changed[at + 1]
    assert int(changed.nonzero().max()) <= at + SMALL.reach
    assert int(changed.nonzero().max()) > at + SMALL.reach - SMALL.order


# --- the parts --------------------------------------------------------------------------------------------------------


def test_the_mixture_is_a_distribution():
    """Over all of the 16-bit grid it adds up to one, however narrow its parts; and a narrow one is as scipy says."""
    said = torch.tensor([0.3, -1.0, 0.2, -0.01, 0.02, 0.1, -6.9, -4.0, -2.5])
    grid = torch.arange(-32767, 32768) * STEP
    log_p = log_probability(said, grid, torch.full_like(grid, STEP))
    assert float(log_p.double().exp().sum()) == pytest.approx(1.0, abs=1e-4)
    weights = torch.softmax(said[:3].double(), 0)
    edges = [(grid.double() + side * STEP / 2)[:, None] for side in (1, -1)]
    cdf = [torch.sigmoid((edge - said[3:6].double()) / said[6:].double().exp()) @ weights for edge in edges]
    middle = slice(32767 - 1500, 32767 + 1500)
    assert torch.allclose(log_p[middle], (cdf[0] - cdf[1])[middle].log().float(), atol=1e-3)


def test_draws_follow_the_mixture():
    said = torch.tensor([0.0, 1.0, -1.0, 2.0, -2.0, -0.5]).expand(20000, 6)
    uniforms = torch.rand(20000, 2, generator=torch.Generator().manual_seed(0))
    values = drawn(said, uniforms, temperature=1.0)
    weights = torch.softmax(said[0, :2], 0)
    for edge in (-2.0, -1.0, 0.0, 1.0, 2.0, 3.0):
        below = torch.sigmoid((edge - said[0, 2:4]) / said[0, 4:].exp()) @ weights
        assert float((values < edge).float().mean()) == pytest.approx(float(below), abs=0.012)


def test_levinson_solves_the_normal_equations():
    sound = np.convolve(np.random.default_rng(0).standard_normal(4000), [1, 0.9, 0.4])
    lags = np.array([sound[: len(sound) - k] @ sound[k:] for k in range(9)])
    taps, left = levinson(torch.from_numpy(lags))
    matrix = lags[np.abs(np.subtract.outer(np.arange(8), np.arange(8)))]
    wanted = np.linalg.solve(matrix, lags[1:])
    assert np.allclose(taps.numpy(), wanted)
    assert float(left) == pytest.approx(lags[0] - wanted @ lags[1:])


def test_the_predictor_is_told_by_the_spectrum():
    """Of noise through a resonance, what it leaves is nearly white and nearly as loud as it says."""
    noise = np.random.default_rng(0).standard_normal(16000)
    sound = np.zeros(16000)
    for t in range(2, 16000):
        sound[t] = noise[t] + 1.8 * sound[t - 1] - 0.9 * sound[t - 2]
    audio = torch.from_numpy(0.3 * sound / np.abs(sound).max()).float()[None]
    frames = measured(audio, sample_rate=RATE, hop_length=HOP, n_mels=80)
    made = predicted_from(frames, sample_rate=RATE, hop_length=HOP, order=16)
    taps, error = made.taps[0, 100], float(made.error[0].median())
    assert torch.allclose(taps[:2], torch.tensor([1.8, -0.9]), atol=0.25)
    scale = 0.3 / np.abs(sound).max()
    assert error == pytest.approx(scale, rel=0.15)


def test_the_compiled_gate_is_the_gate():
    generator = torch.Generator().manual_seed(0)
    z = (3 * torch.randn(2, 64, 32, generator=generator)).bfloat16().requires_grad_()
    place = torch.randn(2, 4, 32, generator=generator).requires_grad_()
    weights = torch.randn(2, 64, 16, generator=generator)
    exact = z.detach().float().requires_grad_()
    made = [gated(x, place) for x in (z, exact)]
    assert torch.allclose(made[0].float(), made[1], atol=0.01)
    slopes = [
        torch.autograd.grad((y.float() * weights).sum(), (x, place)) for x, y in zip((z, exact), made, strict=True)
    ]
    for compiled, plain in zip(*slopes, strict=True):
        assert torch.allclose(compiled.float(), plain, atol=0.03)


# --- use --------------------------------------------------------------------------------------------------------------


def test_a_tone_is_played_again_at_its_pitch():
    """Before any training: the predictor that the mel frames make rings where they are loud."""
    batch = tones(32)
    made = WaveNet.build(SMALL, seed=1).eval().resynthesise(batch.audio[2:3], seed=1)[0, 0]
    assert made.shape == batch.audio[2, 0].shape
    spectrum = torch.fft.rfft(made * torch.hann_window(len(made)), 1 << 15).abs()
    loudest = float(spectrum.argmax()) * RATE / (1 << 15)
    assert abs(1200 * math.log2(loudest / 440)) < 100


def test_sounds_are_keyed_by_their_seed(net):
    def sampled(seed, temperature):
        generator = torch.Generator().manual_seed(seed)
        manner = Manner(temperature=temperature)
        return net.sample(2, seconds=0.05, condition=None, generator=generator, manner=manner)

    assert sampled(1, 1.0).shape == (2, 1, 400)
    assert sampled(1, 1.0).abs().max() <= 1
    assert torch.equal(sampled(1, 1.0), sampled(1, 1.0))
    assert not torch.equal(sampled(1, 1.0), sampled(2, 1.0))
    assert torch.equal(sampled(1, 0.0), sampled(2, 0.0))
    again = [net.resynthesise(tones().audio[:2], seed=seed) for seed in (3, 3, 4)]
    assert torch.equal(again[0], again[1])
    assert not torch.equal(again[0], again[2])


def test_what_is_asked_for_is_heard(net):
    one, two = (
        net.sample(1, seconds=0.05, condition=condition, generator=torch.Generator().manual_seed(1))
        for condition in (Condition.of(1), Condition.of(1, ("tone",), label="tone", pitch=60))
    )
    assert not torch.equal(one, two)


@pytest.mark.parametrize("length", [0, 5, 3000])
def test_it_goes_on_from_where_a_recording_ends(net, length):
    """The kernel, having heard a recording, says of the next sample what the whole network says of it."""
    audio = quantised(0.1 * torch.randn(1, 1, length, generator=torch.Generator().manual_seed(0)))
    made = net.continue_from(audio, seconds=0.01, generator=torch.Generator().manual_seed(2), manner=Manner())
    assert made.shape == (1, 1, 80)
    whole = torch.cat([audio, made], -1)[0]
    whole = torch.nn.functional.pad(whole, (-whole.shape[1] % HOP, 0)) if length == 3000 else whole
    guide, prediction = net._unguided(Condition.of(1))
    with torch.no_grad():
        said, expected, error = (x[0, -80:] for x in net.judged(whole, guide, prediction))
    generator = torch.Generator().manual_seed(2)
    heard = min(length, SMALL.reach)
    uniforms = torch.rand(heard + 80, 2, generator=generator)[heard:]
    wanted = quantised(expected + error * drawn(said, uniforms, temperature=1.0))
    assert (wanted - made[0, 0]).abs().max() < 1.5 * STEP


def test_what_it_cannot_do_it_says(net):
    generator = torch.Generator()
    with pytest.raises(ModelError, match="mel frames have no pitch"):
        net.resynthesise(tones().audio, transpose=2.0)
    with pytest.raises(ModelError, match="no samples"):
        net.resynthesise(torch.zeros(1, 1, 0))
    with pytest.raises(ModelError, match="up to 60 s"):
        net.sample(1, seconds=61.0, condition=None, generator=generator)
    with pytest.raises(ModelError, match="more than 0"):
        net.continue_from(torch.zeros(1, 1, 100), seconds=0.0, generator=generator, manner=Manner())
    for setting, words in (
        ({"channels": 2}, "mono"),
        ({"hop_length": 100}, "power of two"),
        ({"width": 40}, "multiple of 32"),
        ({"dilations": 13}, "1 to 12"),
        ({"free": 0.0}, "between 0 and 1"),
    ):
        with pytest.raises(ConfigError, match=words):
            WaveNetConfig(**setting)


@pytest.mark.parametrize("length", [1, 40, 129])
def test_short_and_silent_sounds_are_played_again(net, length):
    for audio in (torch.zeros(1, 1, length), torch.ones(1, 1, length)):
        made = net.resynthesise(audio)
        assert made.shape == audio.shape
        assert torch.isfinite(made).all()
        assert made.abs().max() <= 1


def test_a_predictor_holds_for_its_piece(net):
    """What the plain network expects is what the taps of that piece make of the samples before."""
    audio = quantised(tones().audio[:1, 0])
    guide, prediction = guides(net, audio)
    assert isinstance(prediction, Prediction)
    expected = net.judged(audio, guide, prediction)[1][0]
    for t in (0, 1, 31, 32, 700):
        past = [float(audio[0, t - k]) if t >= k else 0.0 for k in range(1, SMALL.order + 1)]
        taps = prediction.taps[0, t // SMALL.piece].tolist()
        assert float(expected[t]) == pytest.approx(sum(a * b for a, b in zip(taps, past, strict=True)), abs=1e-5)
