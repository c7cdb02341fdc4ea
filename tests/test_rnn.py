"""The RNN: what it says adds up to one, its compiled loop is its network, and a stream is the same in any blocks."""

import itertools
import math

import numpy as np
import pytest
import scipy.integrate
import scipy.special
import scipy.stats
import torch
from test_models import CODEC, HOP, RATE, tones, train
from tiny import TinyBank

from soundloom import checkpoint
from soundloom.checkpoint import Card
from soundloom.condition import Condition, Manner
from soundloom.errors import BankError, ConfigError, ModelError
from soundloom.models import framekernel, seam
from soundloom.models.base import Continues, Prepares, Samples
from soundloom.models.codec import Codec
from soundloom.models.coded import Known
from soundloom.models.nextframe import BESIDE, LEAP, NOTES, SINGLE, STEPS, NextFrame, Said, pitch_likelihood, told
from soundloom.models.rnn import RNN, RNNConfig
from soundloom.models.walk import Onward, Walks, onward

SMALL = {"codec": CODEC, "sample_rate": RATE, "labels": ("tone", "other"), "width": 32, "mixture": 2, "steps": 60}
CONFIG = RNNConfig(**SMALL, seconds=0.6, batch=4, layers=2, dropout=0.0, feedback_noise=0.0)
ENDLESS = RNNConfig(**SMALL, endless=True, seconds=0.5, crop_s=8 * HOP / RATE, batch=4, dropout=0.0, feedback_noise=0.0)


class Conditions:
    """What a bank knows of four tones: nothing."""

    def condition(self, clips):
        return Condition.of(len(clips))


def with_codes(model: RNN) -> RNN:
    """The model as if it had seen a bank: the codes of `tones` are known, and what is usual in them."""
    batch, space = tones(), model.space
    with torch.no_grad():
        code = space.codec.encode(batch.audio, f0_hz=batch.f0_hz)
        for i in range(4):
            midi = 69 + 12 * torch.log2(batch.f0_hz[i, 0] / 440)
            space._known[i] = Known(code.z[i].T, midi, float(midi[0]))
        space.mean.copy_(code.z.mean((0, 2)))
        space.scale.copy_(code.z.std((0, 2)).clamp_min(0.2))
    model._bank = Conditions()
    return model


@pytest.fixture(params=[CONFIG, ENDLESS], ids=["one-shots", "endless"])
def model(request):
    return with_codes(RNN.build(request.param, seed=1))


@pytest.fixture(scope="module")
def learnt():
    model = with_codes(RNN.build(CONFIG, seed=1))
    train(model, tones(), 150)
    return model.eval()


@pytest.fixture(scope="module")
def endless():
    """Learnt from nothing but one tone of 220 Hz."""
    model = with_codes(RNN.build(ENDLESS, seed=1))
    steady = model.space._known[0].z[:1].expand(64, -1) + 0.1 * torch.randn(64, CODEC.latent)
    for clip in range(4):
        model.space._known[clip] = Known(steady, torch.full((64,), 57.0), 57.0)
    train(model, tones(), 150)
    return model.eval()


# --- learning ---------------------------------------------------------------------------------------------------------


def test_one_batch_is_learnt(model):
    before = model.validate(tones(), generator=torch.Generator().manual_seed(0))["score"]
    reports = train(model, tones(), 60)
    after = model.validate(tones(), generator=torch.Generator().manual_seed(0))["score"]
    assert all(math.isfinite(value) for report in reports for value in report.values())
    assert after < before - 0.5


def test_every_parameter_takes_part_and_the_codec_rests(model):
    model.train_step(
        tones(), step=0, generator=torch.Generator().manual_seed(0), update=lambda _, loss: loss.backward()
    )
    learnt = {name: p for name, p in model.named_parameters() if not name.startswith("space.")}
    still = [name for name, p in learnt.items() if p.grad is None or not p.grad.abs().sum() > 0]
    assert [name for name in still if "condition" not in name] == []
    assert all(not p.requires_grad for p in model.space.parameters())
    assert {id(p) for p in model.players()["rnn"].parameters} == {id(p) for p in learnt.values()}


def test_training_is_a_function_of_seed_and_batch(model):
    again = with_codes(RNN.build(model.config, seed=1))
    assert train(model, tones(), 3) == train(again, tones(), 3)


def test_a_run_goes_on_in_the_middle_of_a_recording():
    """The carried state is in the weights' file: a copy takes the same third step as the one that was not cut."""
    whole, copy = (with_codes(RNN.build(ENDLESS, seed=1)) for _ in range(2))

    def third(model):
        generator = torch.Generator().manual_seed(9)
        return model.train_step(tones(), step=2, generator=generator, update=lambda *_: None)

    train(whole, tones(), 2)
    assert whole.walks.hidden.abs().sum() > 0
    copy.load_state_dict(whole.state_dict())
    assert third(copy) == third(whole)


def test_two_crops_with_the_state_carried_are_one_of_twice_the_length():
    model = with_codes(RNN.build(ENDLESS, seed=1)).eval()
    clips, nothing = torch.arange(4), Condition.of(4)

    def nats(crop, at, fresh, hidden):
        frames = model._sequences(clips, crop, torch.full((4,), at), torch.full((4,), fresh))
        parts, hidden = model._surprise(*frames, nothing, hidden, None)
        return sum(parts.values()), hidden

    with torch.no_grad():
        whole, end = nats(16, 3, True, None)
        first, carried = nats(8, 3, True, None)
        second, same_end = nats(8, 11, False, carried)
    assert torch.allclose(torch.cat([first, second], 1), whole, atol=1e-4)
    assert torch.allclose(end, same_end, atol=1e-5)


def test_walks_go_on_into_the_piece_that_follows():
    walks = Walks(2, 1, 3)
    ways, lengths = {5: Onward(6, 10)}, {5: 20, 6: 20, 7: 20}

    def set_out(step):
        generator = torch.Generator().manual_seed(step)
        return walks.set_out(torch.tensor([5, 7]), lengths.__getitem__, ways, 8, generator).tolist()

    assert set_out(0) == [True, True]
    walks.at.copy_(torch.tensor([6, 6]))
    walks.arrive(torch.ones(1, 2, 3), 8)
    assert set_out(1) == [False, True]  # 14 of piece 5 is 4 of piece 6; after 7 comes nothing
    assert walks.clip.tolist() == [6, 7]
    assert walks.at[0] == 4
    assert walks.hidden[0].tolist() == [[1, 1, 1], [0, 0, 0]]


def test_pieces_of_one_recording_follow_each_other():
    class Pieces:
        def clips(self, split):
            return np.arange(4)

        def column(self, name):
            values = {"path": ["a", "b", "a", "a"], "start_s": [3.0, 0.0, 0.0, 12.0], "seconds": [6.0] * 4}
            return np.array(values[name])

    assert onward(Pieces(), frame_rate=100.0) == {2: Onward(0, 300)}


# --- what is said of the next frame -----------------------------------------------------------------------------------


def head(latent=2, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = NextFrame(8, latent, 3)
        with torch.no_grad():
            made.tie.normal_(std=0.7)
            made.single.weight.normal_(std=0.5)
            made.notes.weight.normal_()
            return made.eval(), made(torch.randn(1, 1, 8), torch.randn(1, 1, latent))


def test_what_is_said_of_a_latent_adds_up_to_one():
    made, said = head()
    axis = torch.linspace(-14, 14, 281, dtype=torch.float64)
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1).flatten(0, 1)[:, None]
    wide = Said(*(part.double().expand(len(grid), *part.shape[1:]) for part in said))
    density = made.double().latent_likelihood(wide, grid).exp().reshape(281, 281).detach().numpy()
    total = scipy.integrate.simpson(scipy.integrate.simpson(density, x=axis.numpy()), x=axis.numpy())
    assert total == pytest.approx(1, abs=2e-3)


def test_a_latent_is_a_mixture_of_correlated_gaussians():
    """Against scipy: u = e + tie · u means u has the covariance (1 - tie)⁻¹ (1 - tie)⁻ᵀ."""
    made, said = head(latent=3, seed=4)
    z = torch.tensor([[[0.3, -0.7, 1.1]]])
    mixing = np.linalg.inv(np.eye(3) - made.tie.tril(-1).detach().numpy())
    weights = said.which[0, 0].softmax(-1).detach().numpy()
    total = 0.0
    for weight, mean, spread in zip(weights, said.mean[0, 0], said.spread[0, 0], strict=True):
        spreads = np.diag(spread.detach().numpy())
        covariance = spreads @ mixing @ mixing.T @ spreads
        total += weight * scipy.stats.multivariate_normal(mean.detach().numpy(), covariance).pdf(z[0, 0].numpy())
    assert made.latent_likelihood(said, z).item() == pytest.approx(math.log(total), abs=1e-3)


@pytest.mark.parametrize("known", [0.0, 1.0])
def test_what_is_said_of_a_pitch_adds_up_to_one(known):
    _, said = head(seed=2)
    pitch = torch.arange(-20, 150, 0.005, dtype=torch.float64)[:, None]
    wide = Said(*(part.double().expand(len(pitch), *part.shape[1:]) for part in said))
    one = torch.ones_like(pitch)
    density = pitch_likelihood(wide, pitch, 61.3 * one, 61.1 * one, known * one).exp().detach().numpy()[:, 0]
    assert scipy.integrate.trapezoid(density, dx=0.005) == pytest.approx(1, abs=1e-3)


def test_a_note_is_held_to_its_mean_and_a_leap_begins_another():
    pitches = torch.tensor([60.0, 60.1, 60.2, 64.0, 64.2, math.nan, 64.2])
    frames = told(torch.zeros(7, 1), pitches)
    assert torch.allclose(frames[:, 3], torch.tensor([60.0, 60.05, 60.1, 64.0, 64.1, 64.1, 64.2]), atol=1e-4)
    assert frames[:, 1].tolist() == [1, 1, 1, 1, 1, 0, 1]
    assert frames[5, 2] == pytest.approx(64.2)
    assert LEAP < 1


# --- the compiled loop ------------------------------------------------------------------------------------------------


def given(frames=30):
    generator = torch.Generator().manual_seed(7)
    midi = 60 + torch.randn(frames, generator=generator).cumsum(0)
    midi[:3], midi[10:14] = torch.nan, torch.nan
    return torch.randn(frames, CODEC.latent, generator=generator), midi


def through_torch(model, z, midi, condition):
    """Hidden vectors [N + 1, H] before every frame and after the last, as training computes them."""
    frames = told(z, midi)
    before = torch.cat([torch.zeros(1, frames.shape[1]), frames])[None]
    begins = torch.zeros(1, before.shape[1])
    begins[0, 0] = 1
    return before, *model._heard_through(before, begins, condition, None)


@torch.no_grad()
def test_the_compiled_loop_is_the_network(learnt):
    z, midi = given()
    condition = Condition.of(1, learnt.config.labels, pitch=61.0, label="tone", velocity=0.5)
    state = learnt.begin(condition, temperature=0.0)
    state = learnt.hear(Known(z * learnt.space.scale + learnt.space.mean, midi, 60.0), state)
    before, h, _ = through_torch(learnt, z, midi, condition)
    said = learnt.next(h[:, -1:], before[:, -1:, : CODEC.latent])
    made, state = learnt.foretell(1, state)
    assert np.abs(state.memory.hidden[-1] - h[0, -1].numpy()).max() < 1e-4
    likeliest = said.mean[0, 0, said.which[0, 0].argmax()]
    assert torch.allclose((made.z[0] - learnt.space.mean) / learnt.space.scale, likeliest, atol=1e-3)
    assert bool(torch.isfinite(made.midi[0])) == bool(said.single[0, 0, 1] > 0)


@torch.no_grad()
def test_draws_are_as_likely_as_said(learnt):
    """Means, spreads and choices of a thousand next frames after the same thirty, at temperature 1."""
    z, midi = given()
    known = Known(z * learnt.space.scale + learnt.space.mean, midi, 60.0)
    before, h, _ = through_torch(learnt, z, midi, Condition.of(1))
    said = learnt.next(h[:, -1:], before[:, -1:, : CODEC.latent])
    heard = learnt.hear(known, learnt.begin())
    latents, pitches = [], []
    for seed in range(3000):
        memory = framekernel.Memory(*(part.copy() for part in heard.memory))
        some, pitch, _ = framekernel.draw(
            heard.weights, heard.asked, memory, 1, seed=seed, at=30, temperature=1.0, ends=False
        )
        latents.append(some[0])
        pitches.append(pitch[0])
    drawn, weights = np.array(latents), said.which[0, 0].softmax(-1)
    mean = weights @ said.mean[0, 0]
    mixing = torch.linalg.inv(torch.eye(CODEC.latent) - learnt.next.tie.tril(-1))
    spread = said.spread[0, 0] * (mixing @ mixing.T).diagonal().sqrt()
    variance = weights @ (spread.square() + (said.mean[0, 0] - mean).square())
    z_scores = (drawn.mean(0) - mean.numpy()) / np.sqrt(variance.numpy() / len(drawn))
    assert np.abs(z_scores).max() < 4.5
    assert np.allclose(drawn.std(0), variance.sqrt().numpy(), rtol=0.1)
    sounding = np.array(pitches) > 0
    assert sounding.mean() == pytest.approx(float(said.single[0, 0, 1].sigmoid()), abs=0.03)
    course = before[0, -1, CODEC.latent + 1 :]
    uniform = pitch_cdf(said, np.array(pitches)[sounding], *course.tolist())
    assert scipy.stats.kstest(uniform, "uniform").statistic < 1.9 / math.sqrt(sounding.sum())


def pitch_cdf(said, pitch, last, anchor, known):
    """How likely a pitch [N] is as low or lower, by scipy."""
    assert known == 1
    single = said.single[0, 0].numpy()
    logits, pull, shift, spread = single[5:].reshape(4, STEPS)
    goes_on = scipy.stats.norm(anchor + pull * (last - anchor) + shift, 0.005 + np.exp(spread)).cdf(pitch[:, None])
    new = scipy.stats.norm(np.arange(NOTES) + single[3], 0.005 + np.exp(single[4])).cdf(pitch[:, None])
    jump = scipy.special.expit(single[2])
    notes = said.notes[0, 0].softmax(-1).numpy()
    return (1 - jump) * goes_on @ scipy.special.softmax(logits) + jump * new @ notes


def test_numbers_said_have_their_places():
    assert SINGLE == 5 + 4 * STEPS
    assert told(torch.zeros(1, 3), torch.tensor([60.0])).shape == (1, 3 + BESIDE)


# --- streams ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("splits", [[1] * 40, [3, 1, 17, 2, 9, 8], [20, 20]])
def test_a_stream_is_the_same_in_any_blocks(endless, splits):
    known, _ = endless.foretell(40, endless.begin(seed=5))
    whole, _ = endless.advance(40, endless.begin(seed=5))
    state, codes, coded = endless.begin(seed=5), [], endless.begin(seed=5)
    pieces = []
    for n in splits:
        audio, state = endless.advance(n, state)
        part, coded = endless.foretell(n, coded)
        assert audio.shape == (1, 1, n * HOP)
        pieces.append(audio)
        codes.append(part.z)
    assert torch.equal(torch.cat(codes), known.z)
    assert (torch.cat(pieces, -1) - whole).abs().max() < 1e-4


def test_a_stream_keeps_as_much_after_a_minute_as_after_a_second(endless):
    def size(state):
        tensors = [state.codec.head.phase, state.codec.head.tail, state.codec.head.gains, *state.codec.blocks]
        return sum(t.numel() for t in tensors) + sum(part.size for part in state.memory)

    state, sizes = endless.begin(seed=1), []
    for block in itertools.islice(endless.stream(state), 3):
        assert block.abs().max() <= 1
    for _ in range(60):
        _, state = endless.advance(64, state)
        sizes.append(size(state))
    assert state.at == 60 * 64
    assert len(set(sizes)) == 1


def test_an_endless_model_obeys_seconds_exactly(endless):
    for seconds in (0.3, 1.234):
        made = endless.sample(2, seconds=seconds, condition=None, generator=torch.Generator().manual_seed(0))
        assert made.shape == (2, 1, round(seconds * RATE))
        assert torch.isfinite(made).all()


def test_same_seed_same_sound(learnt, endless):
    for one in (learnt, endless):
        sounds = [
            one.sample(2, seconds=None, condition=None, generator=torch.Generator().manual_seed(seed))
            for seed in (4, 4, 5)
        ]
        assert torch.equal(sounds[0], sounds[1])
        assert not torch.equal(sounds[0], sounds[2])
        assert sounds[0].abs().max() <= 1


def test_without_temperature_there_is_one_sound(learnt):
    sounds = [learnt.foretell(30, learnt.begin(seed=seed, temperature=0.0))[0] for seed in (1, 2)]
    assert torch.equal(sounds[0].z, sounds[1].z)
    assert torch.equal(sounds[0].midi.nan_to_num(0), sounds[1].midi.nan_to_num(0))


def test_one_shots_end_and_sound_at_the_pitch_asked(learnt):
    """Learnt: tones of 32 frames."""
    ends = [len(learnt.foretell(CONFIG.frames, learnt.begin(seed=seed))[0].z) for seed in range(12)]
    assert sum(5 < end < CONFIG.frames for end in ends) >= 4  # of twelve; so little training tells no better when
    asked = Condition.of(1, CONFIG.labels, pitch=58.5)
    known, _ = learnt.foretell(CONFIG.frames, learnt.begin(asked, seed=3))
    sequence = learnt.space.packed(known, CONFIG.frames)[None]
    code, _ = learnt.space.unpacked(sequence, pitch=asked.pitch)
    sounding = code.f0_hz[code.f0_hz > 0]
    assert abs(1200 * math.log2(float(sounding.median()) / (440 * 2 ** ((58.5 - 69) / 12)))) < 5


def test_after_the_end_there_is_silence(learnt):
    state = learnt.begin(seed=1)
    state.memory.begun[1] = 1
    audio, state = learnt.advance(20, state)
    assert audio.shape == (1, 1, 20 * HOP)
    assert state.at == 20


# --- going on ---------------------------------------------------------------------------------------------------------


def test_a_tone_goes_on_at_its_pitch(endless):
    """Minutes of it: what is foretold is the last pitch no more than the note's, so nothing walks away."""
    state = endless.hear(Known(endless.space.known(0).z, torch.full((64,), 57.0), 57.0), endless.begin(seed=2))
    known, _ = endless.foretell(64, state)
    assert len(known.z) == 64
    cents = 100 * (known.midi[torch.isfinite(known.midi)] - 57)
    assert len(cents) > 50
    assert cents.median().abs() < 10


def test_a_recording_is_continued_for_as_long_as_asked(endless):
    generator = torch.Generator()
    audio = 0.3 * tones().audio[:1]
    for recording in (audio, audio[..., :-100], audio[..., :0]):
        made = endless.continue_from(recording, seconds=0.7, generator=generator.manual_seed(0), manner=Manner())
        assert made.shape == (1, 1, round(0.7 * RATE))
        assert torch.isfinite(made).all()
    again = endless.continue_from(audio[..., :0], seconds=0.7, generator=generator.manual_seed(0), manner=Manner())
    assert torch.equal(made, again)


@pytest.mark.parametrize("hertz", [110.0, 441.0])
def test_the_seam_has_no_click(hertz):
    t = torch.arange(RATE) / RATE
    tone = 0.5 * torch.sin(2 * math.pi * hertz * t) + 0.2 * torch.sin(2 * math.pi * 3 * hertz * t)
    new = 0.5 * torch.sin(2 * math.pi * hertz * t[:4000] + 2.5)
    together = torch.cat([tone, seam.joined(tone, new, sample_rate=RATE)])
    bend = together.diff(n=2).abs()
    assert bend[len(tone) - 20 : len(tone) + 600].max() < 1.5 * bend[: len(tone) - 20].max()
    assert torch.equal(together[-3000:], new[-3000:])
    levels = together[len(tone) - 800 : len(tone) + 800].unfold(0, 320, 40).std(1)
    assert levels.max() / levels.min() < 1.15


def test_seams_of_nothing_are_left_alone():
    new = torch.ones(1000)
    for recording in (torch.zeros(0), torch.zeros(5000), torch.ones(50)):
        assert torch.equal(seam.joined(recording, new, sample_rate=RATE), new)


# --- a model folder, and what is refused ------------------------------------------------------------------------------


def test_it_is_saved_and_plays_the_same(learnt, tmp_path):
    card = Card(data="tones", data_hash="", sounds=4, licence="", seed=0)
    checkpoint.save(learnt, tmp_path, card=card)
    again = checkpoint.load(tmp_path)
    assert checkpoint.verify(again, tmp_path) < -60
    assert isinstance(again, Samples)
    assert isinstance(again, Continues)
    assert isinstance(again, Prepares)


def test_it_takes_its_codec_from_a_folder(tmp_path):
    bank = TinyBank(tmp_path)
    codec = Codec.build(CODEC, seed=3)
    checkpoint.save(codec, tmp_path / "codec", card=Card(data="", data_hash="", sounds=0, licence="", seed=0))
    with pytest.raises(ConfigError, match=r"a rnn models .* soundloom train BANK --family codec"):
        RNN.configure(bank)
    with pytest.raises(ConfigError, match=r"the codec in .* is for 16000 Hz, the bank has 8000"):
        RNN.configure(bank, [f"codec={tmp_path / 'codec'}"])
    few = TinyBank(tmp_path, sounds=5)
    few.sample_rate = RATE
    with pytest.raises(BankError, match="the family rnn needs 8 or more"):
        RNN.configure(few, [f"codec={tmp_path / 'codec'}"])


def test_what_it_cannot_do_is_refused(learnt):
    generator = torch.Generator()
    with pytest.raises(ModelError, match=r"up to 0\.6 s"):
        learnt.sample(1, seconds=3.0, condition=None, generator=generator)
    with pytest.raises(ModelError, match="more than 0"):
        learnt.continue_from(torch.zeros(1, 1, 0), seconds=0.0, generator=generator, manner=Manner())
    with pytest.raises(ConfigError, match="mono"):
        RNNConfig(channels=2)
    with pytest.raises(ConfigError, match="up to 30 s"):
        RNNConfig(seconds=40.0)
