"""Every instrument keeps the contract of `AbstractInstrument`; and the engines are in tune, clean and exact."""

import numpy as np
import pytest
import scipy.signal
from contract import RATE, EffectContract, InstrumentContract, play
from fake_models import FakeModel, FakeStream

from soundloom.instruments import pluck, subtractive
from soundloom.instruments.base import Event
from soundloom.instruments.chain import Chain
from soundloom.instruments.engines import EFFECTS, ENGINES, effect, engine
from soundloom.instruments.melody import Melody
from soundloom.instruments.neural import OneShot
from soundloom.instruments.pluck import Pluck
from soundloom.instruments.subtractive import Subtractive
from soundloom.instruments.texture import Texture


def chained(settings, voices):
    """A string through a delay and a still room that ring for half a second."""
    made = {"delay": {"time_s": 0.05, "feedback": 0.2}, "reverb": {"decay_s": 0.2, "modulation": 0.0}}
    own: dict[str, float] = {}
    for key, value in (settings or {}).items():
        name, _, knob = key.partition(".")
        (made[name] if knob else own)[knob or key] = value
    return Chain(Pluck(own, voices=voices), [(name, effect(name)(knobs)) for name, knobs in made.items()])


# Every engine passes the contract by its name in ENGINES; besides, what has no name there, or more to it.
INSTRUMENTS = {
    **{name: lambda settings=None, voices=4, name=name: engine(name)(settings, voices=voices) for name in ENGINES},
    "subtractive, all of it": lambda settings=None, voices=4: Subtractive(
        {
            "osc1_shape": 2.6, "osc2_shape": 0.5, "osc2_level": 0.4, "noise_level": 0.2, "pitch_env_semitones": 12,
            "vibrato_cents": 30, "cutoff_hz": 900, "resonance": 0.6, "filter_shape": 0.4, "filter_env_octaves": 3,
            "drive_db": 9, "velocity_octaves": 2, "key_tracking": 0.5,
        }
        | (settings or {}),
        voices=voices,
    ),
    "chain": lambda settings=None, voices=4: chained(settings, voices),
    "one-shot": lambda settings=None, voices=4: OneShot(FakeModel(), settings, voices=voices),
    "texture": lambda settings=None, voices=1: Texture(FakeStream(), settings),
    "melody": lambda settings=None, voices=1: Melody(FakeStream(melodic=True), settings),
}  # fmt: skip


class TestContract(InstrumentContract):
    @pytest.fixture(params=INSTRUMENTS)
    def name(self, request):
        return request.param

    @pytest.fixture
    def make(self, name):
        return INSTRUMENTS[name]


class TestEffects(EffectContract):
    @pytest.fixture(params=EFFECTS)
    def name(self, request):
        return request.param

    @pytest.fixture
    def make(self, name):
        return lambda settings=None: effect(name)(settings)


def measured_hz(audio, near_hz, sample_rate=RATE):
    """The frequency of a partial: the phase advance between two windows, which is exact for a lone decaying sine.

    The windows are as far apart as keeps the phase unambiguous at a twelfth of a semitone.
    """
    half = len(audio) // 2
    window = scipy.signal.windows.blackmanharris(half)
    t = np.arange(len(audio)) / sample_rate
    mixed = audio * np.exp(-2j * np.pi * near_hz * t)
    first, second = (np.sum(window * part) for part in (mixed[:half], mixed[half : 2 * half]))
    return near_hz + np.angle(second / first) / (2 * np.pi * half / sample_rate)


def cents(hz, other):
    return 1200 * np.log2(hz / other)


@pytest.mark.parametrize("sample_rate", [44100, 48000])
@pytest.mark.parametrize("make", [
    lambda: Subtractive({"osc1_shape": 2.0, "sustain": 1.0}),
    lambda: Pluck({"decay_s": 20.0, "damping": 0.3}),
    lambda: Pluck({"decay_s": 5.0, "damping": 0.8, "body": 0.0}),
], ids=["subtractive", "pluck", "felt pluck"])  # fmt: skip
def test_in_tune_over_the_keyboard(make, sample_rate):
    """Within a cent from A0 to C8, and between the keys."""
    for pitch in [*np.arange(21, 109, 3.0), 108.0, 60.37]:
        hz = 440 * 2 ** ((pitch - 69) / 12)
        n = max(int(12 * sample_rate / hz), 3000)
        skip = 15_000 if hz < 600 else 500  # until the body, which has pitches of its own, has rung out
        audio = play(make(), [Event(0, "on", 1, pitch, 1.0)], skip + n, sample_rate=sample_rate)[skip:]
        assert abs(cents(measured_hz(audio, hz, sample_rate), hz)) < 1, pitch


def spectrum_db(audio, *, n=32768):
    window = scipy.signal.windows.blackmanharris(n)
    level = 20 * np.log10(np.abs(np.fft.rfft(audio[-n:] * window)) + 1e-12)
    return np.fft.rfftfreq(n, 1 / RATE), level - level.max()


@pytest.mark.parametrize("shape", [1.0, 2.0, 2.5, 3.0])
@pytest.mark.parametrize("hz", [110.0, 1234.5, 5000.0])
def test_oscillators_do_not_alias(shape, hz):
    """Beside the harmonics nothing is above -80 dB (at 5 kHz -60 dB was asked for; two-point polyBLEP gives -24)."""
    pitch = 69 + 12 * np.log2(hz / 440)
    settings = {"osc1_shape": shape, "sustain": 1.0, "pulse_width": 0.3}
    frequencies, level = spectrum_db(play(Subtractive(settings), [Event(0, "on", 1, pitch, 1.0)], 44100))
    nearest = np.abs(frequencies - hz * np.maximum(np.round(frequencies / hz), 1))
    assert level[nearest > 12].max() < -80


def test_a_saw_is_a_saw():
    """Harmonic k is 1 / k. The pitch lies on a bin of the spectrum, so that peaks are read without loss."""
    hz = 82 * RATE / 32768
    audio = play(Subtractive({"sustain": 1.0}), [Event(0, "on", 1, 69 + 12 * np.log2(hz / 440), 1.0)], 44100)
    frequencies, level = spectrum_db(audio)
    for k in (2, 3, 10, 50, 100):
        # The filter, wide open at 20 kHz, is two real poles there: it takes a little off the top.
        ratio = np.tan(np.pi * k * hz / RATE) / np.tan(np.pi * 20000 / RATE)
        expected = -20 * np.log10(k) - 20 * np.log10(1 + ratio**2)
        assert level[np.abs(frequencies - k * hz) < 5].max() == pytest.approx(expected, abs=0.2), k


@pytest.mark.parametrize("cutoff_hz", [50.0, 440.0, 3000.0, 12000.0])
def test_filter_cutoff_is_where_the_knob_says(cutoff_hz):
    """A saw whose fourth harmonic lies on the cutoff, with and without the filter: the gain there says where it cuts.

    At a quality of 1 / sqrt 2 it is a Butterworth filter: -3.01 dB at the cutoff, and its slope tells the error.
    """
    butterworth = np.log(np.sqrt(2) / 2) / np.log(0.01)  # the resonance at which 1 / Q is sqrt 2
    hz = cutoff_hz / 4
    pitch = 69 + 12 * np.log2(hz / 440)
    n = 1 << 17
    spectra = []
    for cutoff in (cutoff_hz, 20000.0):
        settings = {"cutoff_hz": cutoff, "resonance": butterworth, "sustain": 1.0}
        audio = play(Subtractive(settings), [Event(0, "on", 1, pitch, 1.0)], n + 8192)[8192:]
        window = scipy.signal.windows.blackmanharris(n)
        turn = -2j * np.pi * hz * np.arange(n) / RATE
        spectra.append([abs(np.sum(window * audio * np.exp(k * turn))) for k in (1, 4)])

    def gain(frequency, at):  # of the trapezoidal Butterworth low-pass
        return 1 / np.sqrt(1 + (np.tan(np.pi * frequency / RATE) / np.tan(np.pi * at / RATE)) ** 4)

    ratio = (spectra[0][1] / spectra[0][0]) / (spectra[1][1] / spectra[1][0])

    def expected(at):
        return gain(4 * hz, at) / gain(hz, at) * gain(hz, 20000) / gain(4 * hz, 20000)

    assert expected(cutoff_hz * 0.99) < ratio < expected(cutoff_hz * 1.01)
    assert gain(cutoff_hz, cutoff_hz) == pytest.approx(np.sqrt(0.5))


def test_subtractive_envelope_is_what_the_knobs_say():
    """Attack in its time, decay and release by 60 dB in theirs, measured on a sine."""
    settings = {"osc1_shape": 0.0, "attack_s": 0.05, "decay_s": 0.4, "sustain": 0.25, "release_s": 0.3, "gain_db": 0.0}
    events = [Event(0, "on", 1, 93.0, 1.0), Event(RATE, "off", 1)]
    audio = play(Subtractive(settings), events, 2 * RATE)
    level = np.abs(scipy.signal.hilbert(audio.astype(np.float64)))
    peak = level.max()
    assert peak == pytest.approx(0.5, rel=0.02)  # the level of oscillator 1
    assert np.argmax(level > 0.99 * peak) / RATE == pytest.approx(0.05, abs=0.002)
    assert level[int(0.95 * RATE)] / peak == pytest.approx(0.25, rel=0.02)
    fall = 20 * np.log10(level[RATE + 4410] / level[RATE + 441])
    assert fall == pytest.approx(-60 * 0.09 / 0.3, abs=0.2)


def test_a_kick_falls_in_pitch():
    """The pitch envelope: a third of the way down after its time constant, at rest in the end."""
    settings = {"osc1_shape": 0.0, "pitch_env_semitones": 24.0, "pitch_env_s": 0.1, "sustain": 1.0}
    audio = play(Subtractive(settings), [Event(0, "on", 1, 57.0, 1.0)], 2 * RATE)
    phase = np.unwrap(np.angle(scipy.signal.hilbert(audio.astype(np.float64))))
    hz = np.gradient(phase) * RATE / (2 * np.pi)
    at = int(0.1 * RATE)
    assert cents(hz[at - 100 : at + 100].mean(), 220) == pytest.approx(2400 / np.e, abs=10)
    assert cents(hz[RATE : RATE + 4000].mean(), 220) == pytest.approx(0, abs=1)


def test_noise_is_white_and_differs_from_note_to_note():
    settings = {"osc1_level": 0.0, "noise_level": 1.0, "sustain": 1.0}
    first = play(Subtractive(settings), [Event(0, "on", 1)], 1 << 16)[4000:]
    _, power = scipy.signal.welch(first, RATE, nperseg=1024)
    assert 10 * np.log10(power[2:300].max() / power[2:300].min()) < 4
    both = play(Subtractive(settings), [Event(0, "on", 1), Event(40_000, "off", 1), Event(50_000, "on", 2)], 60_000)
    assert abs(np.corrcoef(both[4000:9000], both[54_000:59_000])[0, 1]) < 0.1


def test_drive_makes_odd_harmonics_and_no_dc():
    settings = {"osc1_shape": 2.8, "pulse_width": 0.2, "drive_db": 24.0, "cutoff_hz": 2000.0, "sustain": 1.0}
    audio = play(Subtractive(settings), [Event(0, "on", 1, 40.0, 1.0)], 2 * RATE)
    assert abs(audio[RATE:].mean()) < 2e-3 * np.abs(audio).max()
    _, level = spectrum_db(play(
        Subtractive({"osc1_shape": 0.0, "drive_db": 12.0, "sustain": 1.0}),
        [Event(0, "on", 1, 69 + 12 * np.log2(RATE * 512 / 32768 / 440), 1.0)], RATE,
    ))  # fmt: skip
    assert level[3 * 512] > -20
    assert level[2 * 512] < -70


def test_string_decays_in_the_time_asked():
    audio = play(Pluck({"decay_s": 2.0, "damping": 0.0, "body": 0.0}), [Event(0, "on", 1, 57.0, 1.0)], 2 * RATE)
    t = np.arange(len(audio)) / RATE
    mixed = audio * np.exp(-2j * np.pi * 220 * t)
    early, late = (20 * np.log10(abs(mixed[at : at + 4410].mean())) for at in (4410, 4410 + RATE))
    assert late - early == pytest.approx(-30, abs=0.5)


def test_pick_position_takes_out_its_harmonics():
    """Plucked at a quarter of the string, every fourth harmonic is missing."""
    settings = {"pick_position": 0.25, "noise": 0.0, "damping": 0.0, "body": 0.0, "brightness": 1.0, "decay_s": 30.0}
    audio = play(Pluck(settings), [Event(0, "on", 1, 69 + 12 * np.log2(110.25 / 440), 1.0)], 1 << 16)
    frequencies, level = spectrum_db(audio)
    of = [level[np.abs(frequencies - k * 110.25) < 8].max() for k in range(1, 9)]
    assert of[3] < of[2] - 30
    assert of[7] < of[6] - 30


def test_a_soft_pluck_is_duller():
    def centroid(velocity):
        audio = play(Pluck({"velocity_brightness": 1.0, "noise": 0.0}), [Event(0, "on", 1, 52.0, velocity)], 8192)
        power = np.abs(np.fft.rfft(audio)) ** 2
        return np.sum(power * np.fft.rfftfreq(8192, 1 / RATE)) / power.sum()

    assert centroid(0.2) < 0.7 * centroid(1.0)


def test_kernels_are_compiled_once():
    """One signature a kernel: a second would double the compile time of the first note."""
    for kernel in (subtractive._render, pluck._render, pluck._resonate, pluck._excite):
        assert len(kernel.signatures) <= 1, kernel
