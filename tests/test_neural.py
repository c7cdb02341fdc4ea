"""Trained models as instruments: what is asked of them, when, and how what they make is played, rendered and live."""

import os
import signal
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from contract import RATE, play
from fake_models import FakeModel
from oracles import cents, measured_hz
from test_models import FAMILIES, tones, train
from test_workshop import gone, until
from tiny import ordinary_user

from soundloom import checkpoint
from soundloom.errors import ConditionError, ConfigError, ModelError
from soundloom.instruments import playhead
from soundloom.instruments.asks import Ask, Asking, Maker, knows
from soundloom.instruments.base import Event
from soundloom.instruments.melody import Melody
from soundloom.instruments.neural import OneShot, instrument_of, sounds_of
from soundloom.instruments.opening import Opener
from soundloom.instruments.soundmaking import owner_of, plan, serve
from soundloom.instruments.workshop import Workshop
from soundloom.models.codec import Codec, CodecConfig
from soundloom.models.flow import Flow, FlowConfig
from soundloom.models.gan import GAN, GANConfig
from soundloom.run import Run

CARD = checkpoint.Card(data="tones", data_hash="0", sounds=4, licence="none", seed=0)
SMALL_CODEC = CodecConfig(
    sample_rate=16000, hop_length=256, width=32, latent=8, partials=16, encoder_blocks=1, decoder_blocks=1
)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("SOUNDLOOM_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A VAE that has learnt four tones."""
    model = FAMILIES["vae"]()
    train(model, tones(), 40)
    folder = tmp_path_factory.mktemp("run") / "vae"
    checkpoint.save(model.eval(), folder, card=CARD)
    return folder


@pytest.fixture
def run(folder):
    return Run.load(folder, device="cpu")


def notes(*pitches, apart=4000, velocity=0.8):
    return [Event(apart * i, "on", i, pitch, velocity) for i, pitch in enumerate(pitches)]


# --- rendered ---------------------------------------------------------------------------------------------------------


def test_a_model_is_asked_once_a_pitch_and_plays_in_tune():
    model = FakeModel(sample_rate=32000)
    instrument = OneShot(model, {"gain_db": 0.0}, label="bell", seconds=0.5)
    events = [Event(0, "on", 1, 69.0, 1.0), Event(12_000, "on", 2, 69.0, 0.5), Event(24_000, "on", 3, 72.0, 1.0)]
    audio = play(instrument, events, 36_000)
    assert model.made == 2
    np.testing.assert_array_equal(play(instrument, events, 36_000), audio)
    assert model.made == 2
    assert abs(cents(measured_hz(audio[200:8200], 440.0), 440.0)) < 1
    assert abs(cents(measured_hz(audio[24_200:32_200], 523.2511), 523.2511)) < 2


def test_what_it_cannot_be_is_refused_at_once():
    with pytest.raises(ConditionError, match="did you mean bell"):
        OneShot(FakeModel(), label="bel")
    with pytest.raises(ModelError, match="a codec has no sounds of its own"):
        OneShot(Codec.build(SMALL_CODEC, seed=0))
    with pytest.raises(ModelError, match="not the model alone"):
        OneShot(FakeModel()).start()


def test_a_sound_of_its_own_pitch_is_played_as_the_model_made_it():
    """Sample for sample, but for the level: nothing is read between the samples where nothing has to be."""
    instrument = OneShot(FakeModel(), {"gain_db": 0.0})
    audio = play(instrument, [Event(0, "on", 1, 57.0, 0.5)], 20_000)
    sound = instrument.sound(57.0, RATE)[:20_000]
    np.testing.assert_allclose(audio[100:], 0.25 * sound[100:], rtol=0, atol=1e-7)


def test_preparing_makes_everything_that_the_events_need():
    model = FakeModel()
    events = [
        *notes(60, 64, 60, 67.5),
        Event(20_000, "set", param="brightness", value=0.9),
        Event(21_000, "on", 9, 60.0, 0.8),
        Event(22_000, "set", param="variation", value=3.0),
        Event(22_000, "set", param="brightness", value=-0.1),
        Event(23_000, "on", 10, 60.0, 0.8),
        Event(24_000, "on", 11, 60.0, 0.0),
    ]
    prepared = OneShot(model)
    prepared.prepare(events, RATE)
    assert model.made == 5
    audio = play(prepared, events, 30_000)
    assert model.made == 5, "the rendering made none"
    np.testing.assert_array_equal(play(OneShot(FakeModel()), events, 30_000), audio)


@pytest.mark.parametrize("bend", [-12.0, -0.37, 3.0, 12.0])
def test_the_bend_is_in_tune(bend):
    audio = play(OneShot(FakeModel()), [Event(0, "bend", value=bend), *notes(69)], 20_000)
    hz = 440 * 2 ** (bend / 12)
    assert abs(cents(measured_hz(audio[500:12_500], hz), hz)) < 0.5


def test_tuning_moves_what_already_sounds():
    events = [*notes(69), Event(10_000, "set", param="tune_cents", value=50.0)]
    audio = play(OneShot(FakeModel()), events, 30_000)
    assert abs(cents(measured_hz(audio[500:8500], 440.0), 440.0)) < 0.5
    hz = 440 * 2 ** (0.5 / 12)
    assert abs(cents(measured_hz(audio[11_000:25_000], hz), hz)) < 0.5


def test_a_gliding_bend_has_no_steps():
    """A bend in steps of a block, as a wheel sends it: a staircase of the speed would be heard beside the tone."""
    events = [*notes(69), *(Event(2000 + 128 * i, "bend", value=0.02 * i) for i in range(100))]
    audio = play(OneShot(FakeModel()), events, 16_000).astype(np.float64)
    t = np.arange(16_000)
    spectrum = np.abs(np.fft.rfft(audio[2000:14_000] * np.hanning(12_000)))
    far = np.fft.rfftfreq(12_000, 1 / RATE) > 8000
    assert 20 * np.log10(spectrum[far].max() / spectrum.max()) < -80
    assert t.size == audio.size


@pytest.mark.parametrize("shift", [-7.0, -0.5, 5.0, 7.0, 12.0])
def test_reading_between_the_samples_is_clean(shift):
    """White noise, read faster or slower: what lies below 15 kHz of it comes back at its level, at 440 Hz nothing else.

    A tone at 3 kHz beside which nothing may be above -80 dB, and one at 17 kHz which, read faster, has to vanish."""

    def heard(hz):
        tone = (0.5 * np.sin(2 * np.pi * hz / RATE * np.arange(4 * RATE))).astype(np.float32)
        row, out = np.zeros(1, playhead.ROW), np.zeros(1 << 15)
        row["active"], row["held"], row["fade"], row["gain"], row["aim"], row["shift"] = 1, 1, 1, 1, 1, shift
        knobs = playhead.knobs(RATE, attack_s=1e-4, release_s=1.0, gain_db=0.0)
        sound = playhead.padded(tone)
        playhead.read(row, sound, len(sound), True, knobs, 0.0, playhead.sincs(), out)
        window = np.blackman(1 << 14)
        return 2 * np.abs(np.fft.rfft(out[-(1 << 14) :] * window)) / window.sum()

    frequencies = np.fft.rfftfreq(1 << 14, 1 / RATE)
    spectrum, expected = heard(3000.0), 3000 * 2 ** (shift / 12)
    near = np.abs(frequencies - expected) < 30
    assert spectrum[near].max() == pytest.approx(0.5, rel=0.13)  # between two bins the window reads a little low
    assert 20 * np.log10(spectrum[~near].max() / 0.5) < -80
    if shift > 4:
        assert 20 * np.log10(heard(17_000.0)[frequencies < 20_000].max() / 0.5) < -75


def test_the_level_follows_the_velocity_and_the_release_takes_its_time():
    settings = {"release_s": 0.2, "gain_db": 0.0}
    levels = [np.abs(play(OneShot(FakeModel(), settings), notes(69, velocity=v), 4000)).max() for v in (0.25, 0.5, 1.0)]
    assert levels[1] / levels[0] == pytest.approx(4, rel=1e-3)
    assert levels[2] / levels[1] == pytest.approx(4, rel=1e-3)
    off = 8000
    held, released = (
        play(OneShot(FakeModel(), settings), [*notes(69), *ends], 20_000) for ends in ([], [Event(off, "off", 0)])
    )
    after = slice(off + 4410, off + 4410 + 400)
    fall = 20 * np.log10(np.abs(released[after]).max() / np.abs(held[after]).max())
    assert fall == pytest.approx(-60 * (4410 + 200) / RATE / 0.2, abs=1.5)


# --- what is asked ----------------------------------------------------------------------------------------------------


def test_knobs_are_rounded_and_what_is_not_asked_is_left_open():
    asking = Asking(FakeModel(), label="bell", seed=5)
    values = {param.name: param.default for param in asking.params}
    usual = asking.ask(values, 60.123, 0.8)
    assert usual == Ask(60.12, label="bell", seed=5, guidance=2.0)
    turned = asking.ask(values | {"brightness": 0.512, "attack_asked": 0.0, "variation": 2.3}, 60.123, 0.8)
    assert turned == replace(usual, seed=7, descriptors=(("brightness", 0.5), ("attack", 0.0)))
    assert asking.ask(values | {"brightness": 0.49}, 60.12, 0.1) == asking.ask(
        values | {"brightness": 0.51}, 60.12, 0.9
    ), "a model that knows no velocity is not told of one"


def small_gan():
    """One that has been told of velocity, and one that has not."""
    gan = GAN.build(GANConfig(sample_rate=16000, clips=6, hop_length=256, seconds=0.3, width=32, blocks=1), seed=0)
    gan.course.zero_()
    gan.facts[:] = torch.tensor([[40.0 + 8 * i, 10.0 + i, -1.0] for i in range(6)])
    return gan.eval()


def test_velocity_is_asked_in_layers_of_a_model_that_has_learnt_it():
    gan = small_gan()
    assert not knows(gan, "velocity")
    with torch.no_grad():
        weights = gan.generator.condition.values.weight
        weights[:, :8] += 0.05 * torch.randn(weights[:, :8].shape, generator=torch.Generator().manual_seed(1))
    assert knows(gan, "velocity")
    asking = Asking(gan)
    values = {param.name: param.default for param in asking.params}
    asked = [asking.ask(values, 60.0, velocity).velocity for velocity in (0.01, 0.24, 0.26, 0.6, 0.99, 1.0)]
    assert asked == [0.125, 0.125, 0.375, 0.625, 0.875, 0.875]
    order = [ask.velocity for ask, _ in plan(asking.ask(values, 60.0, 0.6), 60, 60, RATE)]
    assert order == [0.625, 0.375, 0.875, 0.125]


def small_flow():
    config = FlowConfig(sample_rate=16000, codec=SMALL_CODEC, seconds=0.3, width=32, blocks=1, heads=2, patch=2)
    return Flow.build(config, seed=0).eval()


@pytest.mark.parametrize("make", [small_gan, small_flow, lambda: FAMILIES["vae"]()], ids=["gan", "flow", "vae"])
def test_a_sound_is_the_same_alone_and_beside_others(make):
    model = make().eval()
    if model.family == "vae":
        train(model, tones(), 1)
    maker = Maker(model)
    asks = [Ask(pitch, seed=seed) for seed in (3, 4) for pitch in (45.0, 57.0, 61.0, 74.0, 90.0)]
    together = maker(asks)
    for ask, sound in zip(asks, together, strict=True):
        (alone,) = maker([ask])
        n = max(len(alone), len(sound))
        error = np.pad(alone, (0, n - len(alone))) - np.pad(sound, (0, n - len(sound)))
        assert np.sqrt((error**2).mean() / (alone**2).mean()) < 0.03, ask
    different = np.abs(together[0][:2000] - together[5][:2000]).max()
    assert different > 0.01, "another seed is another sound"


def test_the_directions_of_a_latent_are_those_in_which_its_sounds_differ():
    """Of a memory that is spread along one axis, then another, z1 and z2 go along these, by standard deviations."""
    vae = FAMILIES["vae"]()
    latents = torch.zeros(4, 8)
    latents[:, 2] = torch.tensor([-3.0, -1.0, 1.0, 3.0])
    latents[:, 5] = torch.tensor([0.5, -0.5, -0.5, 0.5])
    vae.memory[:] = latents
    vae.memory_facts[:] = torch.tensor([[60.0, 0.4, 0.0]] * 4)
    maker = Maker(vae.eval())
    usual, along = (maker._points([Ask(place=place)]).z[0] for place in ((), (1.0, 0.0, 0.0, 0.0)))
    moved = along - usual
    drawn = vae.draw(Ask().condition(("tone",), pitch=None), generator=torch.Generator().manual_seed(0)).z
    assert drawn.shape == (1, 8)
    assert moved[2] == pytest.approx(np.sqrt(5.0), rel=0.15)
    assert moved.abs().sum() - moved[2].abs() < 0.05
    second = maker._points([Ask(place=(0.0, -2.0, 0.0, 0.0))]).z[0] - usual
    assert abs(second[5]) == pytest.approx(1.0, rel=0.15)


# --- kept -------------------------------------------------------------------------------------------------------------


def count_samples(run, monkeypatch):
    """How many sounds the model of a run is asked for from now on."""
    made = []
    render = run.model.render
    monkeypatch.setattr(run.model, "render", lambda points, **how: made.extend(points.z) or render(points, **how))
    return made


def test_sounds_are_kept_for_the_next_time(run, folder, home, monkeypatch):
    made = count_samples(run, monkeypatch)
    events = notes(57, 60, 64)
    audio = play(OneShot(run, label="tone"), events, 20_000)
    assert len(made) == 3
    again = Run.load(folder, device="cpu")
    made = count_samples(again, monkeypatch)
    np.testing.assert_array_equal(play(OneShot(again, label="tone"), events, 20_000), audio)
    assert made == []
    for path in home.rglob("*.sound"):
        path.write_bytes(path.read_bytes()[:-8])
    np.testing.assert_allclose(play(OneShot(again, label="tone"), events, 20_000), audio, rtol=0, atol=1e-5)
    assert len(made) == 3, "damaged ones are made again"


def test_another_model_has_sounds_of_its_own(run, monkeypatch):
    play(OneShot(run), notes(60), 1000)
    with torch.no_grad():
        run.model.latent.bias += 0.1
    made = count_samples(run, monkeypatch)
    play(OneShot(run), notes(60), 1000)
    assert len(made) == 1


def test_where_nothing_can_be_kept_it_still_plays(run, home):
    audio = play(OneShot(run), notes(57), 8000)
    for path in home.rglob("*.sound"):
        path.unlink()
    instrument = OneShot(run)
    with ordinary_user(home / "sounds" / "x"):
        np.testing.assert_allclose(play(instrument, notes(57), 8000), audio, rtol=0, atol=1e-6)
        assert "cannot write" in instrument.trouble


def test_sounds_of_a_run_for_other_engines(run):
    found = sounds_of(run, pitches=[52, 64], velocities=[0.3, 0.9], label="tone", seed=2)
    assert [(pitch, velocity) for _, pitch, velocity in found] == [(52, 0.3), (52, 0.9), (64, 0.3), (64, 0.9)]
    for sound, pitch, _ in found:
        assert sound.sample_rate == 16000
        hz = 440 * 2 ** ((pitch - 69) / 12)
        assert abs(cents(measured_hz(sound.samples[0, 500:5500], hz, 16000), hz)) < 30
    np.testing.assert_array_equal(found[0][0].samples, found[1][0].samples)


def test_a_run_is_played_as_what_it_is(run):
    assert isinstance(instrument_of(run, {"gain_db": -3.0}, label="tone"), OneShot)
    with pytest.raises(ModelError, match="a vae does not play on and on"):
        Melody(run)


# --- live -------------------------------------------------------------------------------------------------------------


def blocks(instrument, state, events, n, *, block=256):
    """n samples in blocks, the events all in the first; and the longest that a block took."""
    parts, slowest = [], 0.0
    for start in range(0, n, block):
        before = time.perf_counter()
        made, state = instrument.process(state, events if start == 0 else [], block)
        slowest = max(slowest, time.perf_counter() - before)
        parts.append(made[0])
    return np.concatenate(parts), slowest


def fetch(instrument, state, pitch):
    """Until the sound of a key is there; what is played meanwhile is thrown away."""
    ask = instrument._asking.ask(state.values, pitch, 0.8)

    def there():
        instrument.process(state, [], 64)
        return ask in instrument._shelf(state.sample_rate)

    until(there)


def test_live_sounds_come_from_another_process(run, home):
    """One after the other, since each workshop takes seconds to open."""
    instrument = OneShot(run, live=True)
    instrument.start()
    try:
        state = instrument.init_state(RATE)
        early, _ = blocks(instrument, state, notes(40), 4000)
        assert np.abs(early).max() == 0, "not there yet, and nobody waited for it"
        until(lambda: instrument.ready)
        instrument.process(state, [Event(0, "stop")], 64)
        process_id = instrument.process_id
        fetch(instrument, state, 57.0)

        # What is there starts at once, and is what is made here.
        audio, _ = blocks(instrument, state, notes(57.0), 8192)
        expected = play(OneShot(run), notes(57.0), 8192)
        np.testing.assert_allclose(audio, expected, rtol=0, atol=1e-5)
        instrument.process(state, [Event(0, "stop")], 2048)

        # A variation of which nothing is there: the note begins when its sound comes.
        instrument.process(state, [Event(0, "set", param="variation", value=1.0)], 64)
        heard = []

        def sounds():
            made, _ = instrument.process(state, notes(57.0) if not heard else [], 64)
            heard.append(np.abs(made).max())
            return heard[-1] > 0.001

        until(sounds)
        assert heard[0] == 0
        instrument.process(state, [Event(0, "stop")], 2048)

        # Keys near one that is there are played from it, in tune, and then get their own.
        fresh = instrument.init_state(48_000)
        fetch(instrument, fresh, 57.0)
        asked = instrument._asking.ask(fresh.values, 59.03, 0.8)
        audio, _ = blocks(instrument, fresh, notes(59.03), 16_384)
        hz = 440 * 2 ** ((59.03 - 69) / 12)
        assert abs(cents(measured_hz(audio[1000:13_000], hz, 48_000), hz)) < 30
        assert fresh.asks[fresh.rows["slot"][0]] == asked
        fetch(instrument, fresh, 59.03)

        # The keyboard fills by itself, around what is played; what came is kept on disk too.
        until(lambda: instrument.process(fresh, [], 64) and len(instrument._shelf(48_000)._sounds) >= 12)
        assert len(list(home.rglob("*.sound"))) >= 12

        # It is killed: what is there goes on playing, the rest is silent, and it is told.
        os.kill(process_id, signal.SIGKILL)
        assert "signal 9" in until(lambda: instrument.trouble)
        audio, _ = blocks(instrument, fresh, notes(57.0), 4096)
        assert np.abs(audio).max() > 0.01
        state = instrument.init_state(22_050)
        audio, _ = blocks(instrument, state, notes(57.0), 22_050 * 3, block=2048)
        assert np.abs(audio).max() == 0
        assert not state.rows["active"].any(), "it is not waited for any longer"

        # Opened again, all is well; closed, sounds are made here.
        instrument.start()
        assert instrument.trouble == ""
        fetch(instrument, state, 57.0)
        process_id = instrument.process_id
    finally:
        instrument.close()
    assert gone(process_id)
    audio, _ = blocks(instrument, instrument.init_state(22_050), notes(43.0), 4096)
    assert np.abs(audio).max() > 0.01


class Bench:
    """The workshop's bench, with what it is told written down: at each step the messages that have come by then."""

    def __init__(self, told):
        self.told, self.sent, self.word = list(told), [], None

    def ready(self, word):
        self.word = word

    def next(self, *, wait):
        if not self.told:
            raise EOFError
        return self.told.pop(0)

    def send(self, message, sound=None):
        self.sent.append((message, sound))


def test_what_is_asked_for_comes_before_what_is_made_ahead(run, folder, home):
    """The keyboard is filled from the middle on; asked meanwhile for two keys, the later one comes first."""
    usual = Ask(60.0, label="tone")
    fill = {"fill": usual.document(), "rate": RATE, "low": 48.0, "high": 72.0}
    now = [{"now": usual.at(pitch).document(), "rate": RATE} for pitch in (61.5, 62.5)]
    bench = Bench([fill, None, None, *now, None, None, None, None])
    settings = {"folder": str(folder), "device": "cpu", "sounds": str(home / "sounds"), "usual": usual.document()}
    with pytest.raises(EOFError):
        serve(settings, bench)
    assert bench.word == owner_of(run)
    assert [message["made"]["pitch"] for message, _ in bench.sent] == [60.0, 54.0, 62.5, 61.5, 66.0, 48.0]
    played = OneShot(run, label="tone")._made(usual.at(62.5), RATE)
    np.testing.assert_allclose(bench.sent[2][1], played, rtol=0, atol=1e-6)
    assert len(list(home.rglob("*.sound"))) == 6


def test_a_wish_that_cannot_be_met_is_told(folder, home):
    usual = Ask(60.0, seconds=0.3)
    bench = Bench([{"now": replace(usual, label="tune").document(), "rate": RATE}, None, None])
    settings = {"folder": str(folder), "device": "cpu", "sounds": str(home / "sounds"), "usual": usual.document()}
    with pytest.raises(EOFError):
        serve(settings, bench)
    ((message, _),) = bench.sent
    assert "did you mean tone" in message["trouble"]


def test_sounds_that_cannot_be_kept_are_sent_all_the_same(folder, tmp_path):
    (tmp_path / "sounds").write_text("no folder")
    usual = Ask(60.0)
    fill = {"fill": usual.document(), "rate": RATE, "low": 55.0, "high": 65.0}
    bench = Bench([fill, None, None, None])
    settings = {"folder": str(folder), "device": "cpu", "sounds": str(tmp_path / "sounds"), "usual": usual.document()}
    with pytest.raises(EOFError):
        serve(settings, bench)
    assert sum("made" in message for message, _ in bench.sent) == 3
    assert sum("trouble" in message for message, _ in bench.sent) == 1, "told once"


def test_a_run_that_was_trained_on_meanwhile_is_told(run, monkeypatch):
    """The workshop says of which weights its sounds are."""
    monkeypatch.setattr(Workshop, "start", lambda self: None)
    instrument = OneShot(run)
    instrument.start()
    assert not instrument.ready
    monkeypatch.setattr(Workshop, "ready", property(lambda self: owner_of(run)))
    assert instrument.ready
    assert instrument.trouble == ""
    monkeypatch.setattr(Workshop, "ready", property(lambda self: "other weights"))
    assert "open it again" in instrument.trouble


# --- opened by a few words --------------------------------------------------------------------------------------------


def test_a_run_plays_through_patches_effects_and_other_engines(folder, tmp_path):
    """By its folder, as a patch with effects, as the sampler's zones, and torn into grains."""
    texts = {
        "neural.toml": 'engine = "neural"\n[[effects]]\neffect = "delay"\nmix = 0.5\ntime_s = 0.1\n',
        "tape.toml": 'engine = "sampler"\n[parameters]\ncutoff_hz = 900.0\n',
        "grains.toml": 'engine = "granular"\n',
    }
    for name, rest in texts.items():
        (tmp_path / name).write_text(f'name = "mine"\nsource = "{folder}"\n{rest}')
    heard = {}
    for text in (str(folder), *texts, f"{folder},played_as=sounds"):
        instrument = Opener().opened(text, folder=tmp_path).instrument
        heard[text] = play(instrument, notes(60.0), 20_000)
        assert np.abs(heard[text]).max() > 0.005, text
    np.testing.assert_array_equal(heard[str(folder)], heard[f"{folder},played_as=sounds"])
    with pytest.raises(ConfigError, match="did you mean sounds"):
        Opener().opened(f"{folder},played_as=sound")
