"""Frequency modulation does what its equations say, in tune, and without tones that fold back."""

import numpy as np
import pytest
import scipy.signal
from contract import RATE, play
from oracles import amplitudes, at_bin, cents, measured_hz, spectrum_db
from scipy.special import jv

from soundloom.instruments import fm
from soundloom.instruments.base import Event
from soundloom.instruments.fm import FM

N = 32768
# Nothing moves but what a test moves: full sustain, the fastest attack, no touch, no scaling.
STILL = {
    **{f"op{i}_sustain": 1.0 for i in (1, 2, 3, 4)}, **{f"op{i}_attack_s": 0.0005 for i in (1, 2, 3, 4)},
    **{f"op{i}_cents": 0.0 for i in (1, 2, 3, 4)}, **{f"op{i}_ratio": 1.0 for i in (1, 2, 3, 4)},
    "key_scaling": 0.0, "key_decay": 0.0, "gain_db": 0.0,
}  # fmt: skip


def level_for(index):
    """The knob at which a modulator moves a phase by `index` radians."""
    return float(np.sqrt(index / (4 * np.pi)))


@pytest.mark.parametrize("index", [0.3, 1.0, 2.5, 6.0])
def test_sidebands_are_bessel_functions_of_the_index(index):
    pitch, hz = at_bin(40)
    settings = STILL | {"op3_level": 0.0, "op1_level": 1.0, "op1_ratio": 16.0, "op2_level": level_for(index)}
    audio = play(FM(settings), [Event(0, "on", 1, pitch, 1.0)], N + 4096)
    orders = np.arange(-12, 13)
    np.testing.assert_allclose(
        amplitudes(audio, hz, 16 + orders), np.abs(jv(orders, index)) / np.sqrt(2), atol=2e-5
    )  # one of two carriers


@pytest.mark.parametrize("feedback", [0.2, 0.5, 0.8])
def test_feedback_is_kepler_s_equation(feedback):
    """y = sin(t + b y) has the harmonics 2 J_n(n b) / (n b); its own output comes back 1.5 samples late."""
    pitch, hz = at_bin(20)
    settings = STILL | {"algorithm": 8.0, "op1_level": 0.0, "op2_level": 0.0, "op3_level": 0.0, "op4_level": 1.0}
    audio = play(FM(settings | {"feedback": feedback}), [Event(0, "on", 1, pitch, 1.0)], N + 4096)
    n = np.arange(1, 11)
    np.testing.assert_allclose(amplitudes(audio, hz, n), jv(n, n * feedback) / (n * feedback), atol=5e-4)


def reference(algorithm, ratios, indices, outs, feedback, hz, n):
    """What an algorithm should sound like, sample by sample, from its picture: `by` modulates `to`, some are heard."""
    edges = {
        1: [(4, 3), (3, 2), (2, 1)], 2: [(4, 2), (3, 2), (2, 1)], 3: [(4, 1), (3, 2), (2, 1)],
        4: [(2, 1), (4, 3), (3, 1)], 5: [(2, 1), (4, 3)], 6: [(4, 1), (4, 2), (4, 3)], 7: [(4, 3)], 8: [],
    }[algorithm]  # fmt: skip
    heard = {1: [1], 2: [1], 3: [1], 4: [1], 5: [1, 3], 6: [1, 2, 3], 7: [1, 2, 3], 8: [1, 2, 3, 4]}[algorithm]
    audio, before, last = np.zeros(n), 0.0, 0.0
    for t in range(n):
        rise = min(t / 32, 1.0)  # the attack, as short as it gets
        y = {}
        for op in (4, 3, 2, 1):
            phase = 2 * np.pi * hz * ratios[op] / RATE * t
            phase += sum(indices[by] * rise * y[by] for by, to in edges if to == op)
            if op == 4:
                phase += feedback * rise * (before + last) / 2
            y[op] = np.sin(phase)
        before, last = last, y[4]
        audio[t] = sum(outs[op] * rise * y[op] for op in heard) / np.sqrt(len(heard))
    return audio


@pytest.mark.parametrize("algorithm", range(1, 9))
def test_algorithms_are_what_their_pictures_say(algorithm):
    ratios, levels = {1: 1.0, 2: 3.0, 3: 1.5, 4: 0.5}, {1: 0.9, 2: 0.3, 3: 0.25, 4: 0.35}
    settings = STILL | {f"op{i}_ratio": ratios[i] for i in ratios} | {f"op{i}_level": levels[i] for i in levels}
    settings |= {"algorithm": float(algorithm), "feedback": 0.6}
    audio = play(FM(settings), [Event(0, "on", 1, 45.0, 1.0)], 3000)
    indices = {i: 4 * np.pi * level**2 for i, level in levels.items()}
    outs = {i: level**2 for i, level in levels.items()}
    wanted = reference(algorithm, ratios, indices, outs, 0.6, 110.0, 3000)
    assert np.abs(wanted).max() > 0.05
    np.testing.assert_allclose(audio, wanted, atol=2e-4)


@pytest.mark.parametrize("pitch", [84.0, 96.0, 103.0, 108.0])
@pytest.mark.parametrize("name", ["piano", "chain", "three on one", "saw"])
def test_high_notes_do_not_alias(name, pitch):
    """At C7 (96) and about, nothing but harmonics above -60 dB, though the knobs ask for more than there is room."""
    settings = {
        "piano": {"velocity_brightness": 0.0, "key_scaling": 0.0, "brightness": 2.0},
        "chain": STILL | {"algorithm": 1.0, "op2_level": 0.5, "op3_level": 0.5, "op4_level": 0.5, "feedback": 1.0},
        "three on one": STILL | {"algorithm": 4.0, "op2_level": 0.5, "op3_level": 0.5, "op4_level": 0.5,
                                 "op2_ratio": 3.0, "op4_ratio": 2.0},
        "saw": STILL | {"algorithm": 8.0, "feedback": 1.5},
    }[name]  # fmt: skip
    hz = 440 * 2 ** ((pitch - 69) / 12)
    settings = settings | {"op3_cents": 0.0, "op4_cents": 0.0}
    frequencies, level = spectrum_db(play(FM(settings), [Event(0, "on", 1, pitch, 1.0)], 20_000), n=16384)
    nearest = np.abs(frequencies - hz * np.maximum(np.round(frequencies / hz), 1))
    assert level[(nearest > 25) & (frequencies > 25)].max() < -60  # DC, which feedback makes, is no tone
    assert (level[np.abs(frequencies - 2 * hz) < 10] > -50).any() or name == "piano"  # and it is no mere sine


def test_bright_modulation_is_left_alone_where_there_is_room():
    """The same chain at C2 is as bright as its knobs say: energy beyond the 20th harmonic."""
    settings = STILL | {"algorithm": 1.0, "op2_level": 0.5, "op3_level": 0.5, "op4_level": 0.5}
    frequencies, level = spectrum_db(play(FM(settings), [Event(0, "on", 1, 36.0, 1.0)], 40_000))
    assert level[frequencies > 20 * 65.4].max() > -25


@pytest.mark.parametrize("sample_rate", [44100, 48000])
def test_in_tune_over_the_keyboard(sample_rate):
    for pitch in [*np.arange(21, 109, 6.0), 60.37]:
        hz = 440 * 2 ** ((pitch - 69) / 12)
        n = max(int(12 * sample_rate / hz), 3000)
        settings = STILL | {"op3_level": 0.0, "op2_ratio": 2.0, "op2_level": level_for(0.5)}
        audio = play(FM(settings), [Event(0, "on", 1, pitch, 1.0)], 500 + n, sample_rate=sample_rate)[500:]
        assert abs(cents(measured_hz(audio, hz, sample_rate), hz)) < 0.5, pitch


def test_detune_and_ratio_in_cents():
    settings = STILL | {"op3_level": 0.0, "op2_level": 0.0, "op1_ratio": 3.0, "op1_cents": 50.0}
    audio = play(FM(settings), [Event(0, "on", 1, 57.0, 1.0)], 20_000)[500:]
    assert cents(measured_hz(audio, 679.3), 660.0) == pytest.approx(50.0, abs=0.1)


def test_each_operator_has_its_envelope():
    """The carrier rises and falls in its times; the modulator's decay is heard as the sideband's."""
    settings = STILL | {
        "op3_level": 0.0, "op1_level": 1.0, "op1_ratio": 8.0, "op2_level": level_for(0.2), "op1_attack_s": 0.05,
        "op2_decay_s": 0.5, "op2_sustain": 0.0, "release_s": 0.3,
    }  # fmt: skip
    audio = play(FM(settings), [Event(0, "on", 1, 69.0, 1.0), Event(RATE, "off", 1)], 2 * RATE).astype(float)
    narrow, turns = scipy.signal.butter(4, 60, fs=RATE, output="sos"), np.arange(2 * RATE) / RATE
    carrier, sideband = (
        np.abs(scipy.signal.sosfiltfilt(narrow, audio * np.exp(-2j * np.pi * hz * turns))) for hz in (3520, 3960)
    )
    peak = carrier[RATE // 2]
    assert np.argmax(carrier > 0.5 * peak) / RATE == pytest.approx(0.025, abs=0.002)
    at = [int(s * RATE) for s in (0.15, 0.25)]
    fall = 20 * np.log10(sideband[at[1]] / sideband[at[0]])
    assert fall == pytest.approx(-60 * 0.1 / 0.5, abs=0.3)
    fall = 20 * np.log10(carrier[RATE + 8820] / carrier[RATE + 4410])
    assert fall == pytest.approx(-60 * 0.1 / 0.3, abs=0.3)


def brightness(settings, *, pitch=60.0, velocity=1.0):
    audio = play(FM(settings), [Event(0, "on", 1, pitch, velocity)], N)
    power = np.abs(np.fft.rfft(audio)) ** 2
    hz = 440 * 2 ** ((pitch - 69) / 12)
    return np.sum(power * np.fft.rfftfreq(N, 1 / RATE)) / power.sum() / hz


def test_touch_and_key_change_the_brightness():
    soft, hard = (brightness({"velocity_brightness": 1.0}, velocity=v) for v in (0.2, 1.0))
    assert soft - 1 < 0.3 * (hard - 1)  # a sine is at 1
    plain, scaled = (brightness(STILL | {"key_scaling": s}, pitch=72.0) for s in (0.0, 1.0))
    assert scaled - 1 < 0.3 * (plain - 1)


def test_key_decay_shortens_high_notes():
    """At 1 a decay is a quarter as long two octaves above C3."""
    settings = STILL | {"op3_level": 0.0, "op2_level": 0.0, "op1_sustain": 0.0, "op1_decay_s": 2.0, "key_decay": 1.0}
    audio = play(FM(settings), [Event(0, "on", 1, 72.0, 1.0)], RATE // 2).astype(float)
    level = np.abs(scipy.signal.hilbert(audio))
    assert 20 * np.log10(level[13_230] / level[4410]) == pytest.approx(-60 * 0.2 / 0.5, abs=0.2)


def test_a_knob_glides_without_a_click():
    """Brightness jumps while a low note sounds: far less of a corner than where one sound is cut to the other."""
    on, jump = Event(0, "on", 1, 36.0, 1.0), Event(9000, "set", param="brightness", value=2.0)
    settings = STILL | {"op2_ratio": 2.0}
    plain, bright = (play(FM(settings | {"brightness": value}), [on], 12_000) for value in (1.0, 2.0))
    corner, cut = (
        np.abs(np.diff(audio, n=2))[8900:9400].max()
        for audio in (play(FM(settings), [on, jump], 12_000), np.where(np.arange(12_000) < 9000, plain, bright))
    )
    assert corner < 0.02 * cut


def test_kernels_are_compiled_once():
    for kernel in (fm._render, fm._tick, fm._tame, fm._voice, fm._alone, fm._feed_back):
        assert len(kernel.signatures) <= 1, kernel
