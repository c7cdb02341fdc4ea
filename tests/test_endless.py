"""Instruments that play on and on: pieces that add up, gates and melodies as the knobs say, and the same live."""

from collections import deque

import numpy as np
import pytest
import scipy.signal
import torch
from contract import RATE, play
from fake_models import FakeStream
from oracles import cents, measured_hz
from test_workshop import until

from soundloom import checkpoint
from soundloom.condition import Condition
from soundloom.errors import ModelError
from soundloom.instruments.asks import Ask
from soundloom.instruments.base import Event
from soundloom.instruments.endless import Room, source_of, wish
from soundloom.instruments.melody import RISE_DB, Melody
from soundloom.instruments.neural import instrument_of
from soundloom.instruments.stream import Pump
from soundloom.instruments.texture import Texture
from soundloom.models import wavekernel
from soundloom.models.base import Code
from soundloom.models.codec import Codec, CodecConfig
from soundloom.models.ddsp import DDSP, DDSPConfig
from soundloom.models.rnn import RNN, RNNConfig
from soundloom.models.subband import SubbandConfig, SubbandRNN
from soundloom.models.wavenet import WaveNet, WaveNetConfig
from soundloom.run import Run

CODEC = CodecConfig(
    sample_rate=16000, hop_length=256, width=32, latent=8, partials=16, encoder_blocks=1, decoder_blocks=1
)
ANYTHING = wish(Ask(), None)


def small_ddsp(levels=(-60.0, -6.0)):
    config = DDSPConfig(sample_rate=16000, hop_length=256, width=32, blocks=1, partials=16, seconds=0.5, reverb_s=0.2)
    model = DDSP.build(config, seed=0).eval()
    with torch.no_grad():
        model.reverb.tail.normal_(generator=torch.Generator().manual_seed(1))
        model.courses.levels.copy_(torch.linspace(*levels, 101))
        model.courses.tracks[0, 0], model.courses.tracks[0, 1] = 220.0, -20.0
        model.courses.facts[0] = torch.tensor([20.0, -1.0, 57.0, 0.0, 20.0])
    return model


def taken(source, steers, seed=0):
    """The pieces of a source, one after the other."""
    state, pieces = source.begin(seed), []
    for steer in steers:
        piece, state = source.next(steer, state)
        assert piece.shape == (source.piece,)
        assert piece.dtype == np.float32
        pieces.append(piece)
    return np.concatenate(pieces)


# --- pieces -----------------------------------------------------------------------------------------------------------


def test_a_room_in_pieces_is_a_convolution():
    rng = np.random.default_rng(0)
    response, sound = rng.standard_normal(1000).astype(np.float32), rng.standard_normal(64 * 40).astype(np.float32)
    room = Room(response, 64)
    ringing = room.begin()
    made = np.concatenate([room.step(piece, ringing) for piece in sound.reshape(-1, 64)])
    np.testing.assert_allclose(made, np.convolve(sound, response)[: len(sound)], rtol=0, atol=2e-4)


@torch.no_grad()
def test_ddsp_in_pieces_is_what_it_streams():
    model = small_ddsp()
    rng = np.random.default_rng(1)
    rows = [
        {"f0_hz": float(hz), "level_db": float(db)}
        for hz, db in zip(rng.uniform(100, 900, 60), rng.uniform(-70, -5, 60), strict=True)
    ]
    made = taken(source_of(model), rows, seed=3)
    state, pieces = model.init_state(seed=3), []
    for row in rows:
        code = Code(torch.tensor([[[row["level_db"]]]]), torch.tensor([[[row["f0_hz"]]]]), torch.ones(1, 1, 1))
        piece, state = model.step(code, state)
        pieces.append(piece[0, 0].numpy())
    assert np.abs(made).max() > 0.01
    np.testing.assert_allclose(made, np.concatenate(pieces), rtol=0, atol=1e-5)


def test_pieces_of_the_others_are_what_they_stream():
    with torch.no_grad():
        rnn = RNN.build(RNNConfig(sample_rate=16000, codec=CODEC, endless=True, width=32), seed=0).eval()
        whole, _ = rnn.advance(20, rnn.begin(Condition.of(1), seed=4))
        np.testing.assert_allclose(taken(source_of(rnn), [ANYTHING] * 5, seed=4), whole[0, 0], rtol=0, atol=1e-4)

        bands = SubbandRNN.build(SubbandConfig(sample_rate=16000, width=32, head=32), seed=0).eval()
        whole, _ = bands.step(bands.free_running(Condition.of(1), 24), bands.init_state(seed=4))
        made = taken(source_of(bands), [ANYTHING] * 3, seed=4)
        np.testing.assert_allclose(made, whole[0, 0].clamp(-1, 1), rtol=0, atol=1e-5)

        config = WaveNetConfig(cycles=1, dilations=4, width=32, order=16, guide=16)
        wavenet = WaveNet.build(config, seed=0).eval()
        made = taken(source_of(wavenet), [ANYTHING] * 3, seed=4)
        generator = torch.Generator().manual_seed(4)
        uniforms = np.concatenate([wavekernel.uniform_numbers(512, generator) for _ in range(3)])
        weights = wavenet.packed()
        stream = wavekernel.begun(weights, config.order)
        course = wavenet.free_course(Condition.of(1))
        whole, _, _ = wavekernel.play(weights, course, stream, uniforms, piece=config.piece)
        np.testing.assert_allclose(made, whole, rtol=0, atol=1e-5)


def test_what_is_asked_changes_on_the_way():
    """Another label from the third piece on: the pieces before are the same, those after are not."""
    config = SubbandConfig(sample_rate=16000, width=32, head=32, labels=("rain", "wind"))
    model = SubbandRNN.build(config, seed=0).eval()
    rain, wind = (wish(Ask(label=label), None) for label in config.labels)
    one, other = taken(source_of(model), [rain] * 6), taken(source_of(model), [rain, rain, wind, wind, wind, wind])
    same = 2 * 1024
    np.testing.assert_array_equal(one[:same], other[:same])
    assert np.abs(one[same:] - other[same:]).max() > 1e-3


def test_a_family_that_ends_is_refused():
    with pytest.raises(ModelError, match="does not play on and on"):
        Texture(Codec.build(CODEC, seed=0))
    with pytest.raises(ModelError, match="not played by pitch and loudness"):
        Melody(FakeStream())
    with pytest.raises(ModelError, match="not the model alone"):
        Texture(FakeStream()).start()


# --- a texture --------------------------------------------------------------------------------------------------------


def level_at(audio, at, *, width=441):
    return np.abs(audio[at : at + width]).max()


def test_the_gate_of_a_texture_is_what_the_knobs_say():
    settings = {"attack_s": 0.1, "release_s": 0.3, "gain_db": 0.0}
    audio = play(Texture(FakeStream(), settings), [Event(1000, "on", 1, 60.0, 0.5), Event(22_050, "off", 1)], 44_100)
    full = level_at(audio, 15_000)
    assert full == pytest.approx(0.25 * 0.375, rel=0.01)  # velocity², and the source's own level
    assert level_at(audio, 1000 + 2205 - 85, width=170) == pytest.approx(0.5 * full, rel=0.06)
    fall = 20 * np.log10(level_at(audio, 22_050 + 6615) / level_at(audio, 22_050 + 2205))
    assert fall == pytest.approx(-60 * 0.1 / 0.3, abs=1)


@pytest.mark.parametrize("pitch", [48.0, 60.0, 63.5, 72.0])
def test_keys_read_a_texture_faster_or_slower(pitch):
    audio = play(Texture(FakeStream()), [Event(0, "on", 1, pitch, 1.0)], 44_100)
    hz = 440 * 2 ** ((pitch - 69) / 12)
    assert abs(cents(measured_hz(audio[8000:40_000], hz), hz)) < 0.5


def test_a_texture_goes_on_from_where_it_was():
    """Two notes, a pause between them: what is heard is one stream, cut; nothing is made in the pause."""
    source = FakeStream()
    instrument = Texture(source, {"attack_s": 0.001, "release_s": 0.005})
    state = instrument.init_state(RATE)
    _, state = instrument.process(state, [Event(0, "on", 1, 60.0, 1.0), Event(10_000, "off", 1)], 20_000)
    made = source.made
    assert made == pytest.approx(10_000 * 32_000 / RATE / 256, abs=4)
    _, state = instrument.process(state, [], 100_000)
    assert source.made == made
    position = state.row[0]["position"]
    _, state = instrument.process(state, [Event(0, "on", 2, 60.0, 1.0)], 1)
    assert state.row[0]["position"] == position, "the next sample is the one that was not heard any more"
    _, state = instrument.process(state, [Event(0, "stop")], 4000)
    before = state.making[0]
    turn = Event(0, "set", param="variation", value=5.0)
    _, state = instrument.process(state, [turn, Event(0, "on", 3, 60.0, 1.0)], 64)
    assert state.making[0] != before, "another variation is another stream"


def test_a_texture_that_is_tied_does_not_click():
    events = [Event(0, "on", 1, 60.0, 1.0), Event(10_000, "on", 2, 60.0, 0.4), Event(12_000, "off", 2)]
    events += [Event(14_000, "off", 1), Event(14_100, "on", 3, 60.0, 1.0)]
    audio = play(Texture(FakeStream(), {"attack_s": 0.05}), events, 24_000)
    high = scipy.signal.butter(8, 3000, "highpass", fs=RATE, output="sos")
    hiss = np.abs(scipy.signal.sosfilt(high, audio))[8000:].max()
    cut = np.abs(scipy.signal.sosfilt(high, audio * (np.arange(24_000) < 10_000)))[8000:].max()
    assert hiss < 0.01 * cut


# --- a melody ---------------------------------------------------------------------------------------------------------


def melody(settings=None, **events):
    return Melody(FakeStream(melodic=True), {"gain_db": 0.0, "glide_s": 0.001, **(settings or {})})


@pytest.mark.parametrize("sample_rate", [32_000, 44_100, 48_000])
def test_a_melody_is_in_tune_and_in_time(sample_rate):
    for pitch in (40.0, 69.0, 81.37):
        hz = 440 * 2 ** ((pitch - 69) / 12)
        audio = play(melody(), [Event(5000, "on", 1, pitch, 1.0)], 30_000, sample_rate=sample_rate)
        assert abs(cents(measured_hz(audio[12_000:], hz, sample_rate), hz)) < 0.5
        full = np.abs(audio[20_000:]).max()
        assert np.abs(audio[:5000]).max() == 0
        assert np.abs(audio[5000 : 5000 + sample_rate // 50]).max() > 0.003 * full, (
            "what the source is late by is skipped"
        )


def decibel(audio, at, *, width=2205):
    return 20 * np.log10(np.abs(audio[at : at + width]).max())


def test_loudness_follows_velocity_pressure_and_dynamics():
    """In dB, along the levels that the model has heard: from -60 to -6, of which the upper 70 % are played."""

    def level(velocity, **settings):
        return decibel(play(melody(settings), [Event(0, "on", 1, 69.0, velocity)], 20_000), 15_000)

    assert level(1.0) - level(0.5) == pytest.approx(0.5 * 0.7 * 54, abs=0.2)
    assert level(0.2, pressure=1.0) == pytest.approx(level(1.0), abs=0.1)
    assert level(0.2, pressure=0.5) == pytest.approx(level(0.6), abs=0.1)
    assert level(0.5, dynamics_db=6.0) - level(0.5) == pytest.approx(6, abs=0.1)
    assert -12 < level(0.8) < 0, "whatever the bank, notes are as loud as those of other instruments"


def test_times_of_a_melody_are_what_the_knobs_say():
    settings = {"attack_s": 0.2, "decay_db_s": 20.0, "release_s": 0.5}
    audio = play(melody(settings), [Event(0, "on", 1, 81.0, 0.8), Event(44_100, "off", 1)], 80_000)
    rise = decibel(audio, 6615, width=441) - decibel(audio, 2205, width=441)
    assert rise == pytest.approx(RISE_DB * 0.1 / 0.2, abs=1.0)
    assert decibel(audio, 39_000) - decibel(audio, 21_360) == pytest.approx(-20 * 0.4, abs=0.6)
    assert decibel(audio, 53_000) - decibel(audio, 48_590) == pytest.approx(-60 * 0.1 / 0.5, abs=0.6)


def frequency(audio):
    """The instantaneous frequency, smoothed over 2 ms."""
    phase = np.unwrap(np.angle(scipy.signal.hilbert(audio.astype(np.float64))))
    return scipy.ndimage.uniform_filter1d(np.diff(phase) * RATE / (2 * np.pi), 88)


def test_tied_notes_glide_and_the_first_key_comes_back():
    events = [Event(0, "on", 1, 69.0, 0.8), Event(15_000, "on", 2, 81.0, 0.8), Event(40_000, "off", 2)]
    hz = frequency(play(melody({"glide_s": 0.1}), events, 66_000))
    assert cents(hz[14_000], 440) == pytest.approx(0, abs=3)
    assert cents(hz[15_000 + 1470], 440) == pytest.approx(1200 * (1 - np.exp(-1)), abs=150)  # a third of the time
    assert cents(hz[38_000], 880) == pytest.approx(0, abs=3)
    assert cents(hz[64_000], 440) == pytest.approx(0, abs=3)


def test_vibrato_and_bend_of_a_melody():
    settings = {"vibrato_cents": 50.0, "vibrato_hz": 5.0}
    bent = [Event(0, "bend", value=-1.0), Event(0, "on", 1, 81.0, 0.8)]
    hz = frequency(play(melody(settings), bent, 66_000))[20_000:60_000]
    middle = 440 * 2 ** (11 / 12)
    swing = cents(hz, middle)
    assert swing.max() == pytest.approx(50, abs=4)
    assert swing.min() == pytest.approx(-50, abs=4)
    turns = np.sum(np.diff(np.sign(swing - swing.mean())) != 0) / 2 / (40_000 / RATE)
    assert turns == pytest.approx(5, abs=0.7)


# --- live -------------------------------------------------------------------------------------------------------------


class Shop:
    """A workshop that works while it is told, and hands out what it made when it is let."""

    trouble, ready = "", ""

    def __init__(self, source):
        self.source, self.state, self.made, self.open = source, None, deque(), True

    def tell(self, message):
        if "begin" in message:
            self.state = self.source.begin(message["begin"])
        else:
            piece, self.state = self.source.next(message["steer"], self.state)
            self.made.append(({"stream": message["stream"]}, piece))

    def arrived(self):
        found = list(self.made) if self.open else []
        if self.open:
            self.made.clear()
        return found

    def close(self):
        pass


def live(instrument):
    """The instrument as if started, its workshop in this process."""
    shop = Shop(instrument.source)
    instrument._pump, instrument.live = Pump(shop), True
    return shop


def test_a_live_texture_is_the_rendered_one():
    events = [Event(500, "on", 1, 60.0, 0.7), Event(9000, "on", 2, 67.0, 0.9), Event(20_000, "off", 2)]
    instrument = Texture(FakeStream())
    live(instrument)
    audio = play(instrument, events, 30_000, blocks=[500] * 60)
    np.testing.assert_allclose(audio, play(Texture(FakeStream()), events, 30_000), rtol=0, atol=1e-6)
    assert instrument.underruns == 0


def test_a_live_melody_is_the_rendered_one_later():
    events = [Event(500, "on", 1, 60.0, 0.7), Event(9000, "off", 1), Event(40_000, "on", 2, 67.0, 0.9)]
    instrument = melody()
    live(instrument)
    audio = play(instrument, events, 60_000, blocks=[500] * 120, sample_rate=32_000)
    late = round(instrument.latency_s * 32_000)
    assert 0.02 < instrument.latency_s < 0.06
    expected = play(melody(), events, 60_000, sample_rate=32_000)
    np.testing.assert_allclose(audio[late:9000], expected[: 9000 - late], rtol=0, atol=1e-6)
    assert np.abs(audio[500 + late : 40_000]).max() == pytest.approx(np.abs(expected[500:40_000]).max(), rel=0.01)
    assert instrument.underruns == 0


def test_pieces_that_come_too_late_are_silent_and_counted():
    """Nothing comes for a while: silence, and afterwards the stream is where it would have been."""
    instrument = melody()
    shop = live(instrument)
    steady = melody()
    live(steady)
    states = [one.init_state(32_000) for one in (instrument, steady)]
    on = [Event(0, "on", 1, 69.0, 0.8)]
    heard, expected = [], []
    for number in range(40):
        shop.open = not 20 <= number < 30
        for one, state, parts in ((instrument, states[0], heard), (steady, states[1], expected)):
            made, _ = one.process(state, on if number == 0 else [], 256)
            parts.append(made[0])
    heard, expected = np.concatenate(heard), np.concatenate(expected)
    assert 5 <= instrument.underruns <= 10
    np.testing.assert_array_equal(heard[: 20 * 256], expected[: 20 * 256])
    assert np.abs(heard[26 * 256 : 30 * 256]).max() == 0
    np.testing.assert_allclose(heard[32 * 256 :], expected[32 * 256 :], rtol=0, atol=1e-6)


def test_a_texture_waits_for_its_first_piece_and_not_for_one_that_never_comes():
    instrument = Texture(FakeStream(), {"attack_s": 0.001})
    shop = live(instrument)
    shop.open = False
    state = instrument.init_state(RATE)
    made, _ = instrument.process(state, [Event(0, "on", 1, 60.0, 1.0)], 4000)
    assert np.abs(made).max() == 0
    shop.open = True
    made, _ = instrument.process(state, [], 400)
    assert np.abs(made).max() > 0.05
    instrument.process(state, [Event(0, "stop")], 4000)
    shop.open, shop.trouble = False, "it broke down"
    instrument.process(state, [Event(0, "set", param="variation", value=1.0)], 64)
    instrument.process(state, [Event(0, "on", 2, 60.0, 1.0)], 64)
    assert not state.row["active"].any()
    assert instrument.trouble == "it broke down"


def test_a_melody_through_a_process_of_its_own(tmp_path):
    """A small DDSP from its folder: what comes from the workshop is what is made here, so many pieces later."""
    model = small_ddsp()
    card = checkpoint.Card(data="tones", data_hash="0", sounds=1, licence="none", seed=0)
    checkpoint.save(model, tmp_path / "ddsp", card=card)
    instrument = instrument_of(Run.load(tmp_path / "ddsp", device="cpu"), {"gain_db": 0.0})
    assert isinstance(instrument, Melody)
    instrument.start()
    try:
        until(lambda: instrument.ready)
        state, parts = instrument.init_state(16_000), []
        for number in range(40):
            made, state = instrument.process(state, [Event(0, "on", 1, 69.0, 0.8)] if number == 0 else [], 256)
            parts.append(made[0])
            until(lambda: instrument._pump.ready() >= instrument._pump.under_way)
        audio = np.concatenate(parts)
    finally:
        instrument.close()
    late = round(instrument._ahead * 256)
    expected = play(Melody(model, {"gain_db": 0.0}), [Event(0, "on", 1, 69.0, 0.8)], 40 * 256, sample_rate=16_000)
    assert np.abs(expected).max() > 0.01
    np.testing.assert_allclose(audio[late:], expected[:-late], rtol=0, atol=1e-5)
    assert instrument.underruns == 0
