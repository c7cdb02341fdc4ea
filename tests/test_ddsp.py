"""DDSP: in tune, as loud as it is told, in a room that is learnt; and another's melody, fitted to its instrument."""

import math

import numpy as np
import pytest
import scipy.signal
import torch
from test_models import RATE, peak_hz, tones, train

from soundloom.audio import Waveform, write
from soundloom.bank import SoundBank
from soundloom.condition import Condition
from soundloom.errors import BankError, ConfigError, ModelError
from soundloom.models.base import Code, Prepares, Resynthesises, Samples
from soundloom.models.courses import QUANTILES, a_weighted_db, longest_note, matched_levels, octaves_into
from soundloom.models.ddsp import DDSP, DDSPConfig
from soundloom.models.layers import SpectralHead
from soundloom.models.reverb import Reverb

HOP = 256
CONFIG = DDSPConfig(
    sample_rate=RATE, hop_length=HOP, width=48, blocks=2, partials=20, steps=60, batch=4, seconds=0.512, reverb_s=0.2
)


def fresh():
    return DDSP.build(CONFIG, seed=1)


def remembering(model):
    """A model that remembers the four tones: what `prepare` does for a bank."""
    batch = tones()
    code = model._steering(batch.audio[:, 0], batch.f0_hz, batch.voiced)
    lengths = torch.full((4,), batch.f0_hz.shape[-1])
    model.courses.remember(torch.cat([code.f0_hz, code.z], 1), lengths, torch.tensor([0, 0, 1, 1]))
    return model


@pytest.fixture(scope="module")
def played():
    model = remembering(fresh())
    train(model, tones(), 80)
    return model.eval()


@pytest.fixture(scope="module")
def melody():
    """A bank of eight short melodies between A3 and A4, of tones with five partials, loud and soft."""
    rng, sounds = np.random.default_rng(0), []
    for _ in range(8):
        notes = []
        for pitch in rng.choice([57, 59, 60, 62, 64, 65, 67, 69], 4):
            t = np.arange(int(0.4 * RATE)) / RATE
            f0 = 440 * 2 ** ((pitch - 69) / 12)
            tone = sum(np.sin(2 * np.pi * p * f0 * t) / p for p in range(1, 6))
            notes.append(rng.uniform(0.05, 0.3) * tone * np.minimum(1, 50 * t) * np.minimum(1, 50 * (0.4 - t)))
        sounds.append(np.concatenate(notes).astype(np.float32))
    return sounds


def scanned(sounds, folder):
    (folder / "sounds").mkdir()
    for i, sound in enumerate(sounds):
        write(folder / "sounds" / f"{i}.wav", Waveform(sound[None], RATE))
    return SoundBank.scan(folder / "sounds", folder / "bank")


def tracks(pitch, level_db, frames=60):
    f0_hz = torch.full((1, 1, frames), 440 * 2 ** ((pitch - 69) / 12))
    return Code(torch.full((1, 1, frames), float(level_db)), f0_hz, torch.ones_like(f0_hz))


def level(sound):
    return 10 * math.log10(float(sound.square().mean()) + 1e-20)


def cents(sound, wanted_hz):
    return abs(1200 * math.log2(peak_hz(sound, wanted_hz) / wanted_hz))


# --- the family -------------------------------------------------------------------------------------------------------


def test_one_batch_is_learnt():
    model, batch = fresh(), tones()
    before = model.validate(batch, generator=torch.Generator())["score"]
    reports = train(model, batch, 30)
    assert all(math.isfinite(value) for report in reports for value in report.values())
    assert model.validate(batch, generator=torch.Generator())["score"] < 0.5 * before


def test_every_parameter_takes_part():
    model = fresh()
    generator = torch.Generator().manual_seed(0)
    model.train_step(tones(), step=0, generator=generator, update=lambda _, loss: loss.backward())
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []
    owned = [id(p) for player in model.players().values() for p in player.parameters]
    assert sorted(owned) == sorted(id(p) for p in model.parameters())


def test_training_is_a_function_of_seed_and_batch():
    assert train(fresh(), tones(), 2) == train(fresh(), tones(), 2)


def test_what_it_offers():
    assert isinstance(fresh(), Resynthesises)
    assert isinstance(fresh(), Samples)
    assert isinstance(fresh(), Prepares)
    with pytest.raises(ConfigError, match="mono"):
        DDSPConfig(channels=2)


def test_a_head_without_free_part_is_that_of_others_without_its_weights():
    shape = {"sample_rate": RATE, "hop_length": HOP, "n_partials": 4}
    names = [set(SpectralHead(8, **shape, free_rank=rank).state_dict()) for rank in (96, 0)]
    assert {name.split(".")[0] for name in names[0] - names[1]} == {"free_shape", "free", "free_level"}


# --- played -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pitch", [57.0, 62.5, 69.0])
def test_asked_pitch_comes_out(played, pitch):
    assert cents(played.play(tracks(pitch, -15)), 440 * 2 ** ((pitch - 69) / 12)) < 5


@pytest.mark.parametrize("pitch", [33.0, 88.0])
def test_beyond_its_range_it_plays_in_tune_with_the_timbre_it_knows(played, pitch):
    inside = played.play(tracks(69.0 if pitch > 69 else 45.0, -15))
    beyond = played.play(tracks(pitch, -15))
    assert cents(beyond, 440 * 2 ** ((pitch - 69) / 12)) < 10
    assert abs(level(beyond) - level(inside)) < 15


def test_louder_in_is_louder_out(played):
    levels = [level(played.play(tracks(64.0, db))) for db in (-36, -24, -12)]
    assert 6 < levels[1] - levels[0] < 18
    assert 6 < levels[2] - levels[1] < 18


def test_silence_in_is_silence_out(played):
    assert level(played.resynthesise(torch.zeros(1, 1, RATE))) < -90
    assert level(fresh().resynthesise(torch.zeros(1, 1, RATE))) < -90


def test_it_plays_again_what_it_hears(played):
    audio = tones(40).audio[..., :-37]
    made = played.resynthesise(audio)
    assert made.shape == audio.shape
    for sound, f0 in zip(made, tones().f0_hz[:, 0, 0].tolist(), strict=True):
        assert cents(sound, f0) < 10
    up = played.resynthesise(audio, transpose=7.0)
    for sound, f0 in zip(up, tones().f0_hz[:, 0, 0].tolist(), strict=True):
        assert cents(sound, f0 * 2 ** (7 / 12)) < 10


def test_same_seed_same_sound(played):
    code = tracks(60.0, -15)
    assert torch.equal(played.play(code, seed=1), played.play(code, seed=1))
    assert not torch.equal(played.play(code, seed=1), played.play(code, seed=2))


@pytest.mark.parametrize("splits", [[1] * 40, [40], [3, 1, 17, 2, 9, 8]])
def test_a_stream_is_the_whole(played, splits):
    f0 = torch.cat([torch.full((1, 1, 12), 200.0), torch.zeros(1, 1, 9), torch.linspace(300, 150, 19)[None, None]], -1)
    levels = torch.linspace(-90, 0, 40)[None, None]
    whole = played.play(Code(levels, f0, (f0 > 0).float()), seed=5)
    state, pieces, at = played.init_state(seed=5), [], 0
    for n in splits:
        block = Code(*(t[..., at : at + n] for t in (levels, f0, (f0 > 0).float())))
        audio, state = played.step(block, state)
        pieces.append(audio)
        at += n
    streamed, late = torch.cat(pieces, -1), played.head.latency
    assert (streamed[..., late:] - whole[..., :-late]).abs().max() < 1e-4


# --- new sounds -------------------------------------------------------------------------------------------------------


def test_new_notes_at_the_pitch_and_length_asked(played):
    generator = torch.Generator().manual_seed(0)
    sounds = played.sample(3, seconds=1.0, condition=Condition.of(3, pitch=62.5), generator=generator)
    assert sounds.shape[:2] == (3, 1)
    assert abs(sounds.shape[-1] - RATE) <= HOP
    for sound in sounds:
        assert cents(sound, 440 * 2 ** ((62.5 - 69) / 12)) < 10
    assert sounds.abs().max() <= 1


def test_new_sounds_are_keyed_and_obey_their_label(played):
    def drawn(seed, label):
        condition = Condition.having(label=torch.tensor([label, label]))
        return played.sample(2, seconds=None, condition=condition, generator=torch.Generator().manual_seed(seed))

    assert torch.equal(drawn(4, 0), drawn(4, 0))
    heard = {round(12 * math.log2(_f0(played, sound) / 440)) for seed in range(4) for sound in drawn(seed, 1)}
    assert heard <= {0, -24}  # the tones of label 1 are at 440 and 110 Hz


def _f0(model, sound):
    f0 = model.tracks(sound[None]).f0_hz
    return float(f0[f0 > 0].median())


def test_it_refuses_what_it_cannot_do(played):
    generator = torch.Generator()
    with pytest.raises(ModelError, match="up to 60 s"):
        played.sample(1, seconds=100.0, condition=None, generator=generator)
    with pytest.raises(ModelError, match="heard no sounds"):
        fresh().sample(1, seconds=None, condition=None, generator=generator)
    with pytest.raises(ModelError, match="no pitch was found"):
        played.transfer(torch.zeros(1, 1, RATE))


# --- the bank ---------------------------------------------------------------------------------------------------------


def test_a_bank_is_remembered_and_saved(melody, tmp_path):
    bank = scanned(melody, tmp_path)
    model = DDSP.build(DDSP.configure(bank, ["width=16", "blocks=1", "batch=4"]), seed=0)
    model.prepare(bank, fresh=True)
    low, high = (69 + 12 * math.log2(float(hz) / 440) for hz in model.courses.range_hz)
    assert 56.5 < low < 62
    assert 64 < high < 69.5
    again = DDSP.build(model.config, seed=1)
    again.load_state_dict(model.state_dict())
    again.prepare(bank, fresh=False)
    assert torch.equal(again.courses.levels, model.courses.levels)


def test_a_bank_without_pitch_is_refused(tmp_path):
    rng = np.random.default_rng(0)
    bank = scanned([(0.2 * rng.standard_normal(4000)).astype(np.float32) for _ in range(6)], tmp_path)
    with pytest.raises(BankError, match=r"ddsp plays by pitch .* gan or vae"):
        DDSP.configure(bank)


# --- timbre transfer --------------------------------------------------------------------------------------------------


def test_a_bass_voice_is_moved_by_octaves_into_the_range(played):
    played.courses.range_hz.copy_(torch.tensor([300.0, 700.0]))
    t = torch.arange(RATE) / RATE
    bass = sum(torch.sin(2 * torch.pi * 98 * p * t) / p for p in range(1, 6))[None, None] * 0.2
    assert cents(played.transfer(bass), 392.0) < 10
    assert cents(played.transfer(bass, transpose=7.0), 98 * 2 ** (7 / 12)) < 10


def test_octaves_into_a_range():
    moved = {hz: octaves_into(torch.tensor([0.0, hz]), torch.tensor([300.0, 700.0])) for hz in (80, 98, 400, 2000)}
    assert moved == {80: 2, 98: 2, 400: 0, 2000: -2}
    assert octaves_into(torch.tensor([110.0]), torch.tensor([400.0, 450.0])) == 2  # less than an octave: the nearest
    assert octaves_into(torch.zeros(3), torch.tensor([300.0, 700.0])) == 0


def test_levels_are_matched_by_quantile():
    wanted = torch.linspace(-30, -10, QUANTILES)
    own = torch.cat([torch.linspace(-60, -20, 401), torch.full((50,), -100.0)])[None]
    matched = matched_levels(own, wanted)[0]
    assert torch.allclose(matched[:401], torch.linspace(-30, -10, 401), atol=0.2)
    assert (matched[401:] == -100).all()


def test_level_is_weighted_as_the_ear_does():
    t = torch.arange(RATE) / RATE
    known = {100: -19.1, 1000: 0.0, 4000: 1.0}  # dB, the table of IEC 61672
    for hz, db in known.items():
        tone = torch.sin(2 * torch.pi * hz * t)[None]
        assert float(a_weighted_db(tone, sample_rate=RATE, hop_length=HOP)[0, 30]) == pytest.approx(db, abs=0.5)


def test_the_longest_note_of_a_phrase():
    phrase = torch.tensor([0.0] * 3 + [220.0] * 5 + [330.0] * 9 + [0.0] * 2 + [220.0] * 4)
    pitch, start, end = longest_note(phrase)
    assert (start, end) == (8, 17)
    assert pitch == pytest.approx(64.02, abs=0.01)
    assert math.isnan(longest_note(torch.zeros(4))[0])


# --- the room ---------------------------------------------------------------------------------------------------------


def test_an_empty_room_changes_nothing():
    room = Reverb(sample_rate=RATE, seconds=0.1)
    torch.nn.init.zeros_(room.tail)
    sound = torch.randn(2, 5000, generator=torch.Generator().manual_seed(0))
    assert (room(sound) - sound).abs().max() < 1e-6


@pytest.mark.parametrize("length", [100, 1600, 5001])
def test_a_room_is_a_convolution(length):
    room = Reverb(sample_rate=RATE, seconds=0.1)
    torch.nn.init.normal_(room.tail)
    sound = torch.randn(2, length, generator=torch.Generator().manual_seed(0))
    impulse = np.concatenate([[1.0], room.response().detach().numpy()])
    for dry, wet in zip(sound.numpy(), room(sound).detach().numpy(), strict=True):
        assert np.abs(wet - scipy.signal.convolve(dry, impulse, method="direct")[:length]).max() < 1e-4


def test_a_room_is_learnt():
    """From a dry and a wet sound it finds the response, and lets it die away."""
    truth, room = (Reverb(sample_rate=RATE, seconds=0.05) for _ in range(2))
    with torch.no_grad():
        truth.tail.normal_(generator=torch.Generator().manual_seed(1))
    dry = torch.randn(4, 8000, generator=torch.Generator().manual_seed(0))
    wet = truth(dry).detach()
    optimiser = torch.optim.Adam(room.parameters(), 0.05)
    for _ in range(60):
        optimiser.zero_grad()
        (room(dry) - wet).square().mean().backward()
        optimiser.step()
    error = (room.response() - truth.response()).square().sum() / truth.response().square().sum()
    assert error.item() < 0.05
