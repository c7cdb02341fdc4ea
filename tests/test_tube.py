"""A blown tube: in tune however it is blown, speaking at every touch, hollow or full, and silent after the key."""

import math

import numpy as np
import pytest
import scipy.signal
from contract import RATE, play

from soundloom.instruments import tube, waveguide
from soundloom.instruments.base import Event
from soundloom.instruments.tube import Tube


def blown(settings, *, pitch=60.0, seconds=1.0, velocity=0.8, events=(), sample_rate=RATE):
    notes = [Event(0, "on", 1, pitch, velocity), *events]
    return play(Tube(settings), notes, round(seconds * sample_rate), sample_rate=sample_rate).astype(np.float64)


def hertz(pitch):
    return 440 * 2 ** ((pitch - 69) / 12)


def cents_off(audio, hz, sample_rate=RATE):
    """Of the period, by where the autocorrelation of the whole tone peaks, many periods on."""
    power = np.abs(np.fft.rfft(audio * np.hanning(len(audio)), 2 * len(audio))) ** 2
    alike = np.fft.irfft(power)
    period = sample_rate / hz
    at = max(1, int(0.2 * len(audio) / period)) * period  # many periods on, a step is a small part of the whole
    low, high = math.ceil(at - 0.3 * period), math.floor(at + 0.3 * period)
    top = low + int(np.argmax(alike[low : high + 1]))
    a, b, c = alike[top - 1 : top + 2]
    return -1200 * np.log2((top + 0.5 * (a - c) / (a - 2 * b + c)) / at)


def partials_db(audio, hz, count=8, sample_rate=RATE):
    window = scipy.signal.windows.blackmanharris(len(audio))
    t = np.arange(len(audio)) / sample_rate
    return np.array([20 * np.log10(abs(np.sum(window * audio * np.exp(-2j * np.pi * k * hz * t))) / window.sum() + 1e-9)
                     for k in range(1, count + 1)])  # fmt: skip


@pytest.mark.parametrize("bore", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("velocity", [0.1, 0.5, 1.0])
def test_in_tune_over_five_octaves(bore, velocity):
    for pitch in (33.0, 41.0, 50.0, 58.5, 65.0, 74.0, 82.0, 90.0, 96.0):
        audio = blown({"bore": bore}, pitch=pitch, velocity=velocity)[RATE // 2 :]
        assert abs(cents_off(audio, hertz(pitch))) < 2, pitch


def test_in_tune_at_another_rate():
    for pitch in (45.0, 62.0, 86.0):
        audio = blown({"bore": 1.0}, pitch=pitch, sample_rate=48000)[24000:]
        assert abs(cents_off(audio, hertz(pitch), 48000)) < 2, pitch


def test_in_tune_at_every_corner():
    """Breath, reed and bell at their ends move a tube's pitch by half a semitone; the player's lip takes it back."""
    rng = np.random.default_rng(0)
    for corner in range(16):
        knobs = {name: float(corner >> bit & 1) for bit, name in enumerate(("bore", "pressure", "reed", "brightness"))}
        for pitch in rng.uniform(40, 90, 3):
            audio = blown(knobs | {"velocity_pressure": 0.0}, pitch=pitch, velocity=1.0)[RATE // 2 :]
            assert abs(cents_off(audio, hertz(pitch))) < 4, (knobs, pitch)
            assert partials_db(audio, hertz(pitch))[0] > -40, (knobs, pitch)  # its own pitch, no octave above


def test_it_starts_in_tune():
    for bore in (0.0, 1.0):
        for pitch in (48.0, 60.0, 72.0, 84.0):
            start = blown({"bore": bore}, pitch=pitch)[int(0.08 * RATE) : int(0.25 * RATE)]
            assert abs(cents_off(start, hertz(pitch))) < 12, (bore, pitch)


@pytest.mark.parametrize("bore", [0.0, 1.0])
def test_it_speaks_at_every_touch(bore):
    for pitch in (36.0, 55.0, 72.0, 91.0):
        levels = []
        for velocity in (0.02, 0.2, 0.5, 1.0):
            level = np.abs(scipy.signal.hilbert(blown({"bore": bore}, pitch=pitch, velocity=velocity)))
            assert np.argmax(level > 0.5 * level[RATE // 2 :].max()) < 0.13 * RATE
            levels.append(level[RATE // 2 :].mean())
        assert (np.diff(20 * np.log10(levels)) > 4).all()
        assert 0.03 < levels[2] < 0.5


def test_a_cylinder_is_hollow_and_a_cone_is_full():
    hollow, full = (partials_db(blown({"bore": bore, "breath": 0.0})[RATE // 2 :], hertz(60)) for bore in (0.0, 1.0))
    assert (hollow[[1, 3, 5]] < hollow[[0, 2, 4]] - 20).all()
    assert (full[[1, 3]] > full[[0, 2]] - 12).all()


def brightness(settings, **how):
    audio = blown(settings | {"breath": 0.0}, **how)[RATE // 2 :]
    power = np.abs(np.fft.rfft(audio * np.hanning(len(audio)))) ** 2
    return np.sum(power * np.fft.rfftfreq(len(audio), 1 / RATE)) / power.sum()


def test_what_makes_it_brighter():
    assert brightness({}, velocity=1.0) > 1.1 * brightness({}, velocity=0.1)
    assert brightness({"pressure": 1.0}) > 1.1 * brightness({"pressure": 0.0})
    assert brightness({"reed": 1.0}) > 1.1 * brightness({"reed": 0.0})
    assert brightness({"brightness": 1.0}) > 1.2 * brightness({"brightness": 0.0})


def test_breath_is_noise_between_the_partials():
    def noise_db(breath):
        audio = blown({"breath": breath}, seconds=2.0)[RATE:]
        level = np.abs(np.fft.rfft(audio * scipy.signal.windows.blackmanharris(len(audio))))
        at = np.fft.rfftfreq(len(audio), 1 / RATE) / hertz(60)
        between = (np.abs(at - np.rint(at)) > 0.3) & (at > 1) & (at < 20)
        return 20 * np.log10(np.sqrt((level[between] ** 2).mean()) / level.max())

    assert noise_db(0.0) < -70
    assert -75 < noise_db(0.15) < -45
    assert noise_db(1.0) > noise_db(0.15) + 12


def test_the_pitch_swings_as_asked():
    audio = blown({"vibrato_cents": 50.0, "vibrato_hz": 4.0, "breath": 0.0}, pitch=72.0, seconds=3.0)
    band = scipy.signal.butter(4, (400, 650), "bandpass", fs=RATE, output="sos")
    phase = np.unwrap(np.angle(scipy.signal.hilbert(scipy.signal.sosfiltfilt(band, audio))))
    cents = 1200 * np.log2(np.gradient(phase)[RATE : 3 * RATE - 4000] * RATE / (2 * np.pi) / hertz(72))
    swing = np.abs(np.fft.rfft(cents[: 44100 * 7 // 4] * np.hanning(44100 * 7 // 4))) / (44100 * 7 / 4 / 4)
    assert swing[7] == pytest.approx(50, rel=0.12)  # bin 7 of 1.75 s is 4 Hz
    assert abs(cents.mean()) < 5


def test_a_bend_glides():
    audio = blown({"bore": 1.0}, pitch=60.0, seconds=2.0, events=[Event(RATE // 2, "bend", value=2.0)])
    assert abs(cents_off(audio[RATE // 4 : RATE // 2], hertz(60))) < 3
    assert abs(cents_off(audio[RATE:], hertz(62))) < 2
    level = np.abs(scipy.signal.hilbert(audio))
    assert level[RATE // 2 : RATE].max() < 1.6 * level[RATE // 4 : RATE // 2].max()


def test_it_ends_in_the_time_asked():
    audio = blown({"release_s": 0.3, "breath": 0.0}, seconds=2.0, events=[Event(RATE, "off", 1)])
    level = np.sqrt(np.convolve(audio**2, np.ones(400) / 400, "same"))
    assert 20 * np.log10(level[RATE + 6615] / level[RATE - 400]) < -28  # half the time: 30 dB, or sooner
    assert np.abs(audio[RATE + int(0.6 * RATE) :]).max() < 1e-5
    assert np.abs(blown({"release_s": 0.3}, seconds=2.0)[RATE:]).max() > 0.1


def test_pitches_beyond_its_reach_are_silent():
    for pitch in (10.0, 120.0):
        assert np.abs(blown({}, pitch=pitch, seconds=0.2)).max() < 1e-12


@pytest.mark.parametrize("semitones", [-12.0, -5.0, 7.0, 12.0])
def test_it_follows_a_bend_however_far(semitones):
    for pitch in (43.0, 60.0, 77.0):
        audio = blown({}, pitch=pitch, seconds=2.0, events=[Event(RATE // 2, "bend", value=semitones)])
        assert abs(cents_off(audio[RATE // 4 : RATE // 2], hertz(pitch))) < 5, pitch
        assert abs(cents_off(audio[3 * RATE // 2 :], hertz(pitch + semitones))) < 3, pitch
        assert partials_db(audio[3 * RATE // 2 :], hertz(pitch + semitones))[0] > -45, pitch


def test_kernels_are_compiled_once():
    for kernel in (tube._render, tube._play, tube._breathe, tube._block_dc, waveguide.travel, waveguide.listen):
        assert len(kernel.signatures) <= 1, kernel
