"""The sub-band RNN: its filter bank comes back, its kernel is its net, and its streams do not depend on the split."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from soundloom import spectral
from soundloom.bank import Batch
from soundloom.condition import Condition, Manner
from soundloom.errors import ConfigError, ModelError
from soundloom.models import filterbank, subkernel, subtensors
from soundloom.models.bandspectrum import LAGS, band_predictors
from soundloom.models.base import Continues, Resynthesises, Samples
from soundloom.models.filterbank import BANDS, DELAY
from soundloom.models.subband import PIECE, SubbandConfig, SubbandRNN

RATE, HOP = 16000, 128
SMALL = SubbandConfig(
    sample_rate=RATE, labels=("tone",), hop_length=HOP, mels=40, width=32, head=16, guide=16, batch=4, seconds=0.25,
    stretch=128, steps=60, mixtures=2,
)  # fmt: skip


def tones(frames: int = 32) -> Batch:
    """Four decaying tones with four partials each, and what a bank knows of them."""
    t = torch.arange(frames * HOP) / RATE
    f0 = torch.tensor([220.0, 330.0, 440.0, 110.0])
    partials = sum(torch.sin(2 * math.pi * p * f0[:, None] * t) / p for p in range(1, 5))
    return Batch(
        audio=(0.3 * partials * torch.exp(-3 * t))[:, None],
        lengths=torch.full((4,), frames * HOP),
        f0_hz=f0[:, None, None].expand(4, 1, frames).clone(),
        voiced=torch.ones(4, 1, frames),
        inharmonicity=torch.zeros(4),
        condition=Condition.having(pitch=69 + 12 * torch.log2(f0 / 440), label=torch.zeros(4, dtype=torch.int64)),
        clips=torch.arange(4),
    )


def train(model, batch, steps):
    """The plainest of loops: the losses of the steps."""
    players = model.players()
    optimisers = {n: torch.optim.Adam(p.parameters, lr=3e-3, betas=p.betas) for n, p in players.items()}

    def update(player, loss):
        optimisers[player].zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(players[player].parameters, 1.0)
        optimisers[player].step()

    return [
        model.train_step(batch, step=step, generator=torch.Generator().manual_seed(step), update=update)
        for step in range(steps)
    ]


@pytest.fixture(scope="module")
def model():
    """One that has learnt a little: random weights say nearly nothing."""
    made = SubbandRNN.build(SMALL, seed=1)
    train(made, tones(), 6)
    return made.eval()


# --- the filter bank --------------------------------------------------------------------------------------------------


def db(ratio):
    return 10 * math.log10(float(ratio) + 1e-30)


def test_the_bank_gives_back_what_it_took():
    sound = torch.randn(2, 400 * BANDS, generator=torch.Generator().manual_seed(0))
    bands = filterbank.analysed(sound)
    lost = (filterbank.synthesised(bands) - sound)[:, DELAY:-DELAY]
    assert bands.shape == (2, 400, BANDS)
    assert db(lost.square().mean() / sound.square().mean()) < -78
    # Energy is kept too, but for what hangs over the ends: the bank is all but orthonormal.
    inner = torch.zeros_like(sound)
    inner[:, 400:-400] = sound[:, 400:-400]
    kept = filterbank.analysed(inner).square().sum() / inner.square().sum()
    assert float(kept) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("band", range(BANDS))
def test_a_tone_stays_in_its_band(band):
    t = torch.arange(500 * BANDS, dtype=torch.float64)
    tone = torch.sin(math.pi * (band + 0.5) / BANDS * t + 0.3).float()[None]
    power = filterbank.analysed(tone)[0, 50:-50].square().mean(0)
    beside, beyond = (torch.cat([power[: max(0, band - n)], power[band + 1 + n :]]) for n in (0, 1))
    assert db(beside.max() / power[band]) < -50  # a neighbour's slope ends in the middle of the band
    assert db(beyond.max() / power[band]) < -75


def test_a_tone_between_two_bands_is_in_these_two():
    tone = torch.sin(math.pi * 5 / BANDS * torch.arange(500 * BANDS, dtype=torch.float64) + 0.3).float()[None]
    power = filterbank.analysed(tone)[0, 50:-50].square().mean(0)
    assert db(power[4:6].sum() / power.sum()) == pytest.approx(0, abs=1e-6)
    assert db(torch.cat([power[:4], power[6:]]).max() / power[4:6].max()) < -75


@pytest.mark.parametrize("splits", [[60], [1] * 60, [7, 1, 40, 12]])
def test_the_bank_streams(splits):
    bands = torch.randn(1, 60, BANDS, generator=torch.Generator().manual_seed(0))
    tail, pieces = filterbank.no_tail(), []
    for part in bands[0].split(splits):
        pieces.append(filterbank.synthesised_on(part.numpy(), tail))
    streamed = np.concatenate([*pieces, tail[:DELAY]])[DELAY:]
    assert np.abs(streamed - filterbank.synthesised(bands)[0].numpy()).max() < 1e-5
    assert np.array_equal(np.concatenate(pieces), filterbank.synthesised_on(bands[0].numpy(), filterbank.no_tail()))


# --- the predictor ----------------------------------------------------------------------------------------------------


def test_the_predictor_is_the_lattice_written_out():
    order, bands = subkernel.ORDER, torch.randn(80, BANDS, generator=torch.Generator().manual_seed(0)).numpy()
    told, expected = np.empty((80, subkernel.TOLD), np.float32), np.empty_like(bands)
    subkernel.observed(subkernel.no_past(), bands, told, expected)
    for band in (0, 9):
        k, products, powers, before = (np.zeros(order) for _ in range(4))
        for t, x in enumerate(bands[:, band].astype(float)):
            assert abs(k @ before - expected[t, band]) < 1e-5
            f, b = np.zeros(order + 1), np.zeros(order + 1)
            f[0] = b[0] = x
            for m in range(order):
                f[m + 1], b[m + 1] = f[m] - k[m] * before[m], before[m] - k[m] * f[m]
            products = subkernel.MEMORY * products + 2 * f[:-1] * before
            powers = subkernel.MEMORY * powers + f[:-1] ** 2 + before**2
            k, before = subkernel.SHRINK * products / (powers + subkernel.FAINTEST**2), b[:-1]


def test_a_tone_goes_on_as_a_tone():
    tone = torch.sin(2 * math.pi * 0.0123 * torch.arange(300 * BANDS, dtype=torch.float64)).float()[None]
    bands = filterbank.analysed(tone)
    _, expected = subtensors.observed(bands)
    off = (expected - bands)[0, 150:-10, 0]
    assert db(off.square().mean() / bands[0, 150:-10, 0].square().mean()) < -50


def test_the_spectrum_tells_the_predictor_of_each_band():
    """Coloured noise: what mel frames say of levels, and of how well each band can be predicted, is what it is."""
    noise = torch.randn(1, 4 * RATE, generator=torch.Generator().manual_seed(0))
    taps = torch.tensor([1.0, 0.9, 0.5])
    sound = F.conv1d(F.pad(0.05 * noise, (2, 0))[:, None], taps[None, None])[:, 0]
    mels = spectral.log_mel(sound, sample_rate=RATE, n_fft=1024, hop_length=HOP, n_mels=80).transpose(1, 2)
    foretold, logs = band_predictors(mels, sample_rate=RATE, n_fft=1024)
    bands = filterbank.analysed(sound)
    assert torch.isfinite(foretold).all()
    level = 10 * torch.log10(torch.exp(2 * logs[0, :, BANDS:]).mean(0))
    real = 10 * torch.log10(bands[0].square().mean(0))
    assert (level - real).abs().max() < 1.0


# --- the model --------------------------------------------------------------------------------------------------------


def test_one_batch_is_learnt():
    model = SubbandRNN.build(replace(SMALL, free=0.5), seed=1)
    before = model.validate(tones(), generator=torch.Generator().manual_seed(0))
    reports = train(model, tones(), 20)
    after = model.validate(tones(), generator=torch.Generator().manual_seed(0))
    assert all(math.isfinite(value) for report in reports for value in report.values())
    assert after["score"] < before["score"] - 0.3
    assert after["free"] < before["free"] - 0.3


def test_every_parameter_takes_part():
    model = SubbandRNN.build(replace(SMALL, free=0.5, nothing=0.0), seed=1)
    batch = tones()
    batch = replace(batch, condition=Condition.of(4, ("tone",), pitch=60, label="tone", velocity=0.5, text="a tone"))
    model.train_step(batch, step=0, generator=torch.Generator().manual_seed(0), update=lambda _, loss: loss.backward())
    still = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert still == []
    owned = [id(p) for player in model.players().values() for p in player.parameters]
    assert sorted(owned) == sorted(id(p) for p in model.parameters())


def test_training_is_a_function_of_seed_and_batch():
    models = [SubbandRNN.build(SMALL, seed=1) for _ in range(2)]
    assert train(models[0], tones(), 2) == train(models[1], tones(), 2)


def test_what_it_offers(model):
    assert isinstance(model, Samples)
    assert isinstance(model, Continues)
    assert isinstance(model, Resynthesises)


def test_a_part_of_the_condition_is_that_part_of_the_whole(model):
    batch = tones()
    mels, free = model._measured(batch.audio[:, 0]), torch.tensor([False, True, False, False])
    whole = model.guided(mels, batch.condition, free=free)
    part = model._guided_part(mels, batch.condition, free, slice(112, 200))
    assert torch.allclose(part, whole[:, 112 // PIECE : 200 // PIECE], atol=1e-5)


def test_the_likelihood_adds_up_to_one(model):
    """The density of one value, integrated numerically over all that it could be, is the cell's width in 16 bits."""
    generator = torch.Generator().manual_seed(0)
    said = torch.randn(1, 1, SMALL.said, generator=generator).expand(1, 400001, -1)
    kept = torch.tensor([0.01, math.log(0.003), 0.02]).repeat_interleave(BANDS)[None, None]
    values = torch.linspace(-2, 2, 400001)
    nats = subtensors.surprise(said, values[None, :, None].expand(-1, -1, BANDS), kept)
    total = torch.exp(-nats.double()).sum(1) * (4 / 400000) / subtensors.STEP
    assert torch.allclose(total, torch.ones(1, BANDS, dtype=torch.float64), atol=1e-3)


def test_what_is_drawn_is_what_is_said(model):
    """The kernel's draws against the distribution function of the mixture, written out."""
    said = torch.randn(SMALL.said, generator=torch.Generator().manual_seed(1))
    parts, band = SMALL.mixtures, 3
    trust, logits, mean, log_scale = said.split([BANDS, *[parts * BANDS] * 3])
    uniforms = np.random.default_rng(0).random((20000, 2 * BANDS)).astype(np.float32)
    kept = np.repeat(np.float32([0.2, math.log(0.1), -0.3]), BANDS)
    drawn = np.array([subkernel._draw(said.numpy(), band, kept, row, 1.0) for row in uniforms])
    weight = torch.softmax(logits.view(parts, BANDS)[:, band], 0).numpy()
    trusted = torch.sigmoid(trust[band] + subkernel.TRUSTED).item()
    middle = trusted * 0.2 - 0.3 + 0.1 * mean.view(parts, BANDS)[:, band].numpy()
    spread = 0.1 * torch.exp(log_scale.view(parts, BANDS)[:, band]).numpy()
    for value in np.quantile(drawn, [0.05, 0.3, 0.5, 0.7, 0.95]):
        below = float((weight / (1 + np.exp(-(value - middle) / spread))).sum())
        assert below == pytest.approx(float((drawn < value).mean()), abs=0.015)


def test_the_kernel_is_the_net(model):
    batch = tones()
    mels, free = model._measured(batch.audio[:, 0]), torch.zeros(4, dtype=torch.bool)
    bands = filterbank.analysed(batch.audio[:, 0])
    with torch.no_grad():
        guide = model.guided(mels, batch.condition, free=free)
        told, expected = subtensors.observed(bands)
        told, known, wanted_kept, _ = model.kept(F.pad(bands, (0, 0, LAGS, 0)), told, expected, guide)
        wanted, hidden = model(told, known, None)
        for i in range(4):
            state = model.init_state()
            said, kept = np.empty(wanted.shape[1:], np.float32), np.empty((bands.shape[1], 3 * BANDS), np.float32)
            subkernel.forced(
                state.weights, state.past, state.hidden, guide[i].numpy(), PIECE, bands[i].numpy(), said, kept
            )
            assert np.abs(said - wanted[i].numpy()).max() < 1e-4
            assert np.abs(kept - wanted_kept[i].numpy()).max() < 1e-4
            assert np.abs(state.hidden - hidden[0, i].numpy()).max() < 1e-5


@pytest.mark.parametrize("splits", [[1] * 40, [3, 30, 1, 6]])
def test_streamed_is_whole(model, splits):
    guide = model.free_running(Condition.of(1, ("tone",), label="tone", pitch=57), 40)
    whole, _ = model.step(guide, model.init_state(seed=3))
    state, pieces = model.init_state(seed=3), []
    for part in guide.split(splits, 1):
        audio, state = model.step(part, state)
        assert audio.shape == (1, 1, part.shape[1] * PIECE * BANDS)
        pieces.append(audio)
    assert torch.equal(torch.cat(pieces, -1), whole)


def test_same_seed_same_sound(model):
    def sound(seed, temperature=1.0):
        generator = torch.Generator().manual_seed(seed)
        manner = Manner(temperature=temperature)
        return model.sample(2, seconds=0.2, condition=None, generator=generator, manner=manner)

    assert sound(1).shape == (2, 1, 3200)
    assert sound(1).abs().max() <= 1
    assert torch.equal(sound(1), sound(1))
    assert not torch.equal(sound(1), sound(2))
    assert not torch.equal(sound(1)[0], sound(1)[1])
    assert torch.equal(sound(1, 0.0), sound(2, 0.0))  # the likeliest has nothing to do with chance


def test_it_plays_what_it_measured(model):
    audio = tones().audio[:2]
    made = model.resynthesise(audio[..., :-50], seed=1)
    assert made.shape == audio[..., :-50].shape
    assert torch.equal(made, model.resynthesise(audio[..., :-50], seed=1))
    with pytest.raises(ModelError, match="no pitch to move"):
        model.resynthesise(audio, transpose=1.0)


def test_going_on_knows_what_was_heard(model):
    """What a primed stream knows is what the net knows after the same sound; and it shows in what follows."""
    audio = tones().audio[:1]
    pieces = (audio.shape[-1] - DELAY) // (PIECE * BANDS)
    guide = model.free_running(Condition.of(1), pieces)
    state = model.primed(audio, guide, model.init_state())
    with torch.no_grad():
        bands = filterbank.analysed(audio[:, 0])[:, : pieces * PIECE]
        told, known, _, _ = model.kept(F.pad(bands, (0, 0, LAGS, 0)), *subtensors.observed(bands), guide)
        _, hidden = model(told, known, None)
    assert state.step == pieces * PIECE
    assert np.abs(state.hidden - hidden[0, 0].numpy()).max() < 1e-5

    def after(heard):
        generator = torch.Generator().manual_seed(0)
        return model.continue_from(heard, seconds=0.1, generator=generator, manner=Manner(temperature=0.5))

    assert after(audio).shape == (1, 1, 1600)
    assert not torch.equal(after(audio), after(tones().audio[1:2]))
    assert after(audio[..., :0]).shape == after(audio[..., :5]).shape == (1, 1, 1600)


def test_a_tone_is_gone_on_with():
    """Even before training, where the net has nothing to add: the predictor knows how a tone goes on."""
    model = SubbandRNN.build(SMALL, seed=1).eval()
    with torch.no_grad():
        model.say.weight.zero_()
        model.straight.weight.zero_()
        model.say.bias[:BANDS] = 9.0  # full trust
        model.bounds.bias[2 * BANDS :] = -20.0
        model.bounds.bias[3 * BANDS :] = 9.0  # any level
    t = torch.arange(2 * RATE) / RATE
    tone = 0.3 * torch.sin(2 * math.pi * 440 * t)[None, None]
    heard, follows = tone[..., :RATE], tone[..., RATE : RATE + 800]
    made = model.continue_from(
        heard, seconds=0.05, generator=torch.Generator().manual_seed(0), manner=Manner(temperature=0.0)
    )
    assert db((made - follows).square().mean() / follows.square().mean()) < -15


def test_bad_input_is_refused(model):
    generator = torch.Generator()
    for seconds in (0.0, -1.0, 61.0, math.nan):
        with pytest.raises(ModelError, match="goes up to 60"):
            model.sample(1, seconds=seconds, condition=None, generator=generator)
    with pytest.raises(ConfigError, match="mono"):
        SubbandConfig(channels=2)
    with pytest.raises(ConfigError, match="power of two"):
        SubbandConfig(hop_length=200)
    with pytest.raises(ConfigError, match="multiples of 16"):
        SubbandConfig(width=100)
    with pytest.raises(ConfigError, match="between 0 and 1"):
        SubbandConfig(free=0.0)
