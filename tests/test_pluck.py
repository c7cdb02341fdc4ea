"""The plucked string is in tune, bends, and decays as its knobs say."""

import numpy as np
import pytest
import scipy.signal
from contract import RATE, play
from oracles import cents, measured_hz, spectrum_db

from soundloom.instruments import pluck
from soundloom.instruments.base import Event
from soundloom.instruments.pluck import Pluck


@pytest.mark.parametrize("sample_rate", [44100, 48000])
@pytest.mark.parametrize("settings", [
    {"decay_s": 20.0, "damping": 0.3},
    {"decay_s": 5.0, "damping": 0.8, "body": 0.0},
], ids=["steel", "felt"])  # fmt: skip
def test_in_tune_over_the_keyboard(settings, sample_rate):
    """Within a cent from A0 to C8, and between the keys."""
    for pitch in [*np.arange(21, 109, 3.0), 108.0, 60.37]:
        hz = 440 * 2 ** ((pitch - 69) / 12)
        n = max(int(12 * sample_rate / hz), 3000)
        skip = 15_000 if hz < 600 else 500  # until the body, which has pitches of its own, has rung out
        audio = play(Pluck(settings), [Event(0, "on", 1, pitch, 1.0)], skip + n, sample_rate=sample_rate)[skip:]
        assert abs(cents(measured_hz(audio, hz, sample_rate), hz)) < 1, pitch


def partial(audio, hz):
    return abs(np.sum(np.hanning(len(audio)) * audio * np.exp(-2j * np.pi * hz / RATE * np.arange(len(audio)))))


@pytest.mark.parametrize("pitch", [40.0, 57.0, 76.0, 93.0])
@pytest.mark.parametrize("bend", [2.0, -2.0, 0.37])
def test_a_bent_string_is_in_tune_and_goes_on(pitch, bend):
    """Bent in full swing, up and down: in tune after it, its fundamental as loud as if it had not been bent."""
    settings = {"decay_s": 4.0, "damping": 0.05, "body": 0.0}
    on, wheel = Event(0, "on", 1, pitch, 1.0), Event(10_000, "bend", value=bend)
    bent = play(Pluck(settings), [on, wheel], 40_000)[16_000:]
    plain = play(Pluck(settings), [on], 40_000)[16_000:]
    before, after = (440 * 2 ** ((at - 69) / 12) for at in (pitch, pitch + bend))
    assert abs(cents(measured_hz(bent, after), after)) < 0.2
    assert 20 * np.log10(partial(bent, after) / partial(plain, before)) == pytest.approx(0, abs=0.5)


def test_a_bend_does_not_crackle():
    """A dull string, bent by a tone within milliseconds: what appears above 6 kHz is 60 dB below it."""
    settings = {"brightness": 0.0, "noise": 0.0, "velocity_brightness": 0.0, "damping": 0.6, "body": 0.0}
    events = [Event(0, "on", 1, 57.0, 1.0), Event(20_000, "bend", value=2.0), Event(24_000, "bend", value=-2.0)]
    audio = play(Pluck(settings), events, 30_000)
    high = scipy.signal.sosfilt(scipy.signal.butter(8, 6000, "highpass", fs=RATE, output="sos"), audio)
    assert np.abs(high[19_000:]).max() < 1e-3 * np.abs(audio[19_000:]).max()


def test_the_pitch_of_a_bend_glides():
    """A hundred small steps of the wheel are one movement: the pitch, read from the phase, never leaves its path."""
    wheel = [Event(20_000 + 200 * step, "bend", value=step / 50) for step in range(101)]
    audio = play(Pluck({"decay_s": 20.0, "damping": 0.6, "body": 0.0}), [Event(0, "on", 1, 57.0, 1.0), *wheel], 50_000)
    low = scipy.signal.sosfiltfilt(scipy.signal.butter(4, 300, fs=RATE, output="sos"), audio)
    hz = np.gradient(np.unwrap(np.angle(scipy.signal.hilbert(low)))) * RATE / (2 * np.pi)
    path = np.interp(np.arange(50_000) - 300, [20_000, 40_000], [0.0, 200.0])  # it follows with 5 ms and a little
    off = cents(np.convolve(hz, np.ones(400) / 400, "same"), 220.0) - path
    assert np.abs(off[21_000:45_000]).max() < 6


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
    for kernel in vars(pluck).values():
        assert len(getattr(kernel, "signatures", ())) <= 1, kernel
