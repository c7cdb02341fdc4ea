"""The additive synthesiser's partials are where they should be, as loud as asked, and fade as asked."""

import numpy as np
import pytest
import scipy.signal
from contract import RATE, play
from oracles import amplitudes, at_bin, cents, measured_hz, spectrum_db

from soundloom.instruments import additive
from soundloom.instruments.additive import Additive
from soundloom.instruments.base import Event

N = 32768
STILL = {"sustain": 1.0, "gain_db": 0.0, "attack_s": 0.001, "overtone_decay_s": 600.0}


def track(audio, hz, *, width=40.0):
    """The complex envelope of a partial."""
    narrow = scipy.signal.butter(4, width, fs=RATE, output="sos")
    return scipy.signal.sosfiltfilt(narrow, audio * np.exp(-2j * np.pi * hz / RATE * np.arange(len(audio))))


@pytest.mark.parametrize("tilt", [-18.0, -6.0, 0.0])
@pytest.mark.parametrize("balance", [-1.0, 0.0, 0.4])
def test_the_spectrum_is_what_the_knobs_say(tilt, balance):
    """60 partials, `tilt` dB less an octave; of one RMS, whatever they are."""
    pitch, hz = at_bin(82)
    settings = STILL | {"partials": 60.0, "tilt_db": tilt, "balance": balance}
    audio = play(Additive(settings), [Event(0, "on", 1, pitch, 1.0)], N + 200)
    k = np.arange(1, 64)
    wanted = 10 ** (tilt * np.log2(k) / 20) * (k <= 60)
    wanted[1::2] *= min(1 + balance, 1)
    wanted[2::2] *= min(1 - balance, 1)
    wanted *= 0.5 * np.sqrt(2) / np.sqrt(np.sum(wanted**2))
    # Partial k falls by 60 dB of itself in 600 s * 9 / (k - 1): by this much on the mean over the window.
    fall = np.exp(-np.log(1000) * (k - 1) / 9 / 600 * (N / 2 + 200) / RATE)
    np.testing.assert_allclose(amplitudes(audio, hz, k), wanted * fall, rtol=2e-3, atol=5e-5)


def test_drawbars_are_ranks_in_steps_of_three_decibels():
    pitch, hz = at_bin(60)
    drawn = {"foot_16": 8, "foot_5_13": 7, "foot_8": 6, "foot_4": 5, "foot_2_23": 4, "foot_2": 3, "foot_1_35": 2,
             "foot_1_13": 1, "foot_1": 0.5}  # fmt: skip
    settings = STILL | {"partials": 1.0} | {name: float(at) for name, at in drawn.items()}
    numbers = np.array([0.5, 1.5, 1, 2, 3, 4, 5, 6, 8])
    found = amplitudes(play(Additive(settings), [Event(0, "on", 1, pitch, 1.0)], N + 200), hz, numbers)
    level = 20 * np.log10(found / found[0])
    wanted = np.array([0, -3, -6, -9, -12, -15, -18, -21, -21 - 6.02])
    np.testing.assert_allclose(level - level[0], wanted, atol=0.06)
    between = amplitudes(play(Additive(settings), [Event(0, "on", 1, pitch, 1.0)], N + 200), hz, [2.5, 3.5, 7, 9])
    assert between.max() < 1e-4 * found[0]


def test_a_rank_brings_its_own_series():
    """4' alone sounds as 8' does an octave higher; 16' an octave lower."""
    plain = dict.fromkeys(additive.RANKS, 0.0)
    pitch, _ = at_bin(160)
    for rank, octave in (("foot_4", 12), ("foot_16", -12)):
        settings = STILL | {"partials": 20.0, "velocity_tilt_db": 0.0}
        one = play(Additive(settings | plain | {rank: 8.0}), [Event(0, "on", 1, pitch, 1.0)], 8000)
        other = play(Additive(settings), [Event(0, "on", 1, pitch + octave, 1.0)], 8000)
        power = [np.abs(np.fft.rfft(audio[2000:] * np.hanning(6000))) for audio in (one, other)]
        np.testing.assert_allclose(power[0], power[1], atol=0.01 * power[1].max())


def test_a_voice_is_as_loud_as_its_loudest_rank():
    """Of one RMS with two ranks or five, 6 dB less two steps further in, and silent with all of them in."""
    levels = []
    for settings in (
        {},
        {"foot_4": 8.0, "foot_2": 8.0, "foot_16": 5.0, "tilt_db": -3.0},
        {"foot_8": 6.0},
        {"foot_8": 0.0},
    ):
        audio = play(Additive(STILL | settings), [Event(0, "on", 1, 45.0, 1.0)], RATE)[2000:]
        levels.append(np.sqrt(np.mean(audio**2)))
    assert levels[:2] == pytest.approx([0.5, 0.5], rel=0.02)
    assert 20 * np.log10(levels[2] / levels[0]) == pytest.approx(-6, abs=0.05)
    assert levels[3] == 0


def test_partials_fade_before_they_reach_half_the_rate():
    """A pure tone bent from 19.8 kHz up: gone at 21.6 kHz, without a click on the way."""
    events = [Event(0, "on", 1, 69 + 12 * np.log2(19_800 / 440), 1.0), Event(9000, "bend", value=2.0)]
    audio = play(Additive(STILL | {"partials": 1.0}), events, 14_000)
    low = np.abs(scipy.signal.sosfilt(scipy.signal.butter(8, 12_000, fs=RATE, output="sos"), audio))
    assert np.abs(audio[8000:9000]).max() > 0.6
    assert np.abs(audio[11_000:]).max() < 1e-4
    assert low[8000:].max() < 2e-3


def test_stiffness_stretches_partials():
    """f_k = k f sqrt((1 + B k²) / (1 + B)): the fundamental stays in tune."""
    b = additive.STIFFEST * 0.4**2
    audio = play(Additive(STILL | {"inharmonicity": 0.4, "tilt_db": -3.0}), [Event(0, "on", 1, 57.0, 1.0)], RATE)[2000:]
    for k in (1, 2, 3, 5, 9):
        wanted = k * 220 * np.sqrt((1 + b * k * k) / (1 + b))
        assert abs(cents(measured_hz(audio, wanted), wanted)) < 0.3, k


def test_overtones_die_in_their_times():
    """Partial 10 by 60 dB in the time asked, partial k in proportion to k - 1, the fundamental not at all."""
    settings = STILL | {"overtone_decay_s": 2.0, "tilt_db": 0.0, "partials": 12.0}
    audio = play(Additive(settings), [Event(0, "on", 1, 69.0, 1.0)], RATE)
    for k in (1, 2, 5, 10):
        level = 20 * np.log10(np.abs(track(audio, 440.0 * k)))
        assert level[30_000] - level[10_000] == pytest.approx(-30 * (k - 1) / 9 * 20_000 / RATE, abs=0.1), k


def test_key_decay_shortens_all_decays_of_high_notes():
    """At 1, two octaves above C3 the level and its overtones take a quarter of their times."""
    settings = STILL | {"key_decay": 1.0, "sustain": 0.0, "decay_s": 8.0, "overtone_decay_s": 8.0, "tilt_db": 0.0}
    audio = play(Additive(settings | {"partials": 4.0}), [Event(0, "on", 1, 72.0, 1.0)], RATE)
    for k in (1, 4):
        level = 20 * np.log10(np.abs(track(audio, 440 * 2 ** (3 / 12) * k)))
        wanted = -60 * 20_000 / RATE / 2 * (1 + (k - 1) / 9)
        assert level[30_000] - level[10_000] == pytest.approx(wanted, abs=0.1), k


def test_a_formant_stays_where_it_is():
    """A resonance at 1760 Hz: 20 dB there whatever the key, its flanks half an octave away at half its height."""
    for pitch in (45.0, 57.0):
        hz = 440 * 2 ** ((pitch - 69) / 12)
        settings = STILL | {"tilt_db": 0.0, "formant_hz": 1760.0, "formant_db": 20.0, "formant_octaves": 1.0}
        audio = play(Additive(settings), [Event(0, "on", 1, pitch, 1.0)], N + 200)
        k = np.arange(1, 40)
        q = 1 / (2**0.5 - 2**-0.5)
        gain = 1 + 9 / (1 + (q * (k * hz / 1760 - 1760 / (k * hz))) ** 2)
        window = np.hanning(N)
        found = np.array(
            [abs(np.sum(window * audio[-N:] * np.exp(-2j * np.pi * f * hz / RATE * np.arange(N)))) for f in k]
        )
        fall = np.exp(-np.log(1000) * (k - 1) / 9 / 600 * (N / 2 + 200) / RATE)
        np.testing.assert_allclose(found / found[0], gain * fall / gain[0], rtol=0.003)


@pytest.mark.parametrize("pitch", [36.0, 72.3, 84.2, 100.7, 108.0])
@pytest.mark.parametrize("cents_apart", [0.0, 1e-6])
def test_nothing_sounds_above_half_the_rate_nor_between_the_partials(pitch, cents_apart):
    """128 equal partials asked for: what there is no room for is silent. Both ways of adding them up, the series and
    each on its own."""
    hz = 440 * 2 ** ((pitch - 69) / 12)
    settings = STILL | {"tilt_db": 0.0, "partials": 128.0, "shimmer_cents": cents_apart}
    frequencies, level = spectrum_db(play(Additive(settings), [Event(0, "on", 1, pitch, 1.0)], N + 4000))
    nearest = np.abs(frequencies - hz * np.maximum(np.round(frequencies / hz), 1))
    assert level[nearest > 8].max() < -90
    assert level[frequencies > 0.49 * RATE].max() < -90


def test_the_series_is_the_sum_of_its_sines():
    """Added up by their recursion or one by one, bent and with halves: the same samples."""
    events = [Event(0, "on", 1, 45.0, 0.9), Event(3000, "bend", value=1.5), Event(9000, "bend", value=-0.7)]
    settings = STILL | {"foot_16": 7.0, "foot_5_13": 6.0, "vibrato_cents": 20.0, "tilt_db": -4.0}
    series = play(Additive(settings), events, 16_000)
    sines = play(Additive(settings | {"shimmer_cents": 1e-9}), events, 16_000)
    assert np.abs(series).max() > 0.3
    np.testing.assert_allclose(series, sines, atol=2e-4)


def test_going_from_the_series_to_sines_is_not_heard():
    on, jump = Event(0, "on", 1, 45.0, 1.0), Event(8000, "set", param="shimmer_cents", value=1e-6)
    plain, gone = (play(Additive(STILL), events, 16_000) for events in ([on], [on, jump]))
    np.testing.assert_array_equal(gone[:8000], plain[:8000])
    np.testing.assert_allclose(gone, plain, atol=1e-4)
    assert (gone[9000:] != plain[9000:]).any()  # they are added up in another way


def test_shimmer_moves_levels_and_pitches_within_its_bounds():
    settings = STILL | {"shimmer_hz": 3.0, "partials": 4.0, "tilt_db": 0.0}
    on = [Event(0, "on", 1, 69.0, 1.0)]
    plain, levels, pitches = (
        play(Additive(settings | extra), on, 3 * RATE) for extra in ({}, {"shimmer": 0.5}, {"shimmer_cents": 30.0})
    )
    inner = slice(4000, -4000)
    swing = np.abs(track(levels, 880.0))[inner] / np.abs(track(plain, 880.0))[inner]
    assert 0.5 <= swing.min() < 0.9
    assert 1.1 < swing.max() <= 1.51
    hz = np.gradient(np.unwrap(np.angle(track(pitches, 880.0))))[inner] * RATE / 2 / np.pi
    moved = cents(880 + hz, 880)
    assert 8 < np.abs(moved).max() <= 30.5
    assert np.abs(np.corrcoef(moved, cents(1320 + np.gradient(np.unwrap(np.angle(track(pitches, 1320.0))))[inner]
                                           * RATE / 2 / np.pi, 1320))[0, 1]) < 0.9  # fmt: skip


@pytest.mark.parametrize("sample_rate", [44100, 48000])
@pytest.mark.parametrize("cents_apart", [0.0, 1e-6])
def test_in_tune_over_the_keyboard(sample_rate, cents_apart):
    for pitch in [*np.arange(21, 109, 6.0), 60.37]:
        hz = 440 * 2 ** ((pitch - 69) / 12)
        n = max(int(12 * sample_rate / hz), 3000)
        synth = Additive(STILL | {"shimmer_cents": cents_apart})
        audio = play(synth, [Event(0, "on", 1, pitch, 1.0)], 500 + n, sample_rate=sample_rate)[500:]
        assert abs(cents(measured_hz(audio, hz, sample_rate), hz)) < 0.5, pitch


def test_a_soft_touch_is_steeper():
    pitch, hz = at_bin(100)
    soft, hard = (
        amplitudes(
            play(Additive(STILL | {"velocity_tilt_db": 6.0}), [Event(0, "on", 1, pitch, v)], N + 200), hz, [1, 2, 4]
        )
        for v in (0.25, 1.0)
    )
    lost = 20 * np.log10((soft / soft[0]) / (hard / hard[0]))
    np.testing.assert_allclose(lost, [0, -4.5, -9], atol=0.02)


def test_breath_is_noise_around_the_octave():
    settings = STILL | {"partials": 1.0, "breath": 1.0}
    audio = play(Additive(settings), [Event(0, "on", 1, 81.0, 1.0)], 4 * RATE)
    turns = np.arange(4 * RATE) * 880 / RATE
    noise = audio - 2 * np.real(np.mean(audio[RATE:] * np.exp(-2j * np.pi * turns[RATE:])) * np.exp(2j * np.pi * turns))
    frequencies, power = scipy.signal.welch(noise[RATE:], RATE, nperseg=2048)
    assert np.sqrt(np.mean(noise[RATE:] ** 2)) == pytest.approx(0.5, rel=0.1)
    smooth = scipy.signal.savgol_filter(10 * np.log10(power), 15, 2)
    assert frequencies[np.argmax(smooth)] == pytest.approx(1760, rel=0.15)


def test_the_envelope_is_what_the_knobs_say():
    settings = {"partials": 1.0, "attack_s": 0.05, "decay_s": 0.4, "sustain": 0.25, "release_s": 0.3, "gain_db": 0.0}
    audio = play(Additive(settings), [Event(0, "on", 1, 93.0, 1.0), Event(RATE, "off", 1)], 2 * RATE).astype(float)
    level = np.abs(scipy.signal.hilbert(audio))
    assert np.argmax(level > 0.99 * level.max()) / RATE == pytest.approx(0.05, abs=0.002)
    assert level[int(0.95 * RATE)] / level.max() == pytest.approx(0.25, rel=0.02)
    assert 20 * np.log10(level[RATE + 4410] / level[RATE + 441]) == pytest.approx(-60 * 0.09 / 0.3, abs=0.2)


def test_kernels_are_compiled_once():
    for kernel in (additive._render, additive._tick, additive._move, additive._shape, additive._series, additive._sine,
                   additive._waves, additive._partials, additive._blow):  # fmt: skip
        assert len(kernel.signatures) <= 1, kernel
