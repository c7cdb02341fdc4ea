"""Struck objects: their modes are where physics has them, and ring, damp, bend and beat as asked."""

import numpy as np
import pytest
import scipy.optimize
import scipy.signal
import scipy.special
from contract import RATE, play

from soundloom.instruments import modal, objects
from soundloom.instruments.base import Event
from soundloom.instruments.modal import Modal

BAR, FREE_BAR, BELL, BOWL, PLATE, MEMBRANE = (float(kind) for kind in range(6))
PLAIN = {
    "roughness": 0.0, "beating_hz": 0.0, "damping": 0.0, "decay_s": 20.0, "decay_tracking": 0.0, "hardness": 1.0,
    "velocity_hardness": 0.0, "position": 0.0, "gain_db": 0.0,
}  # fmt: skip


def struck(settings, *, pitch=60.0, seconds=2.0, velocity=1.0, events=(), sample_rate=RATE):
    notes = [Event(0, "on", 1, pitch, velocity), *events]
    audio = play(Modal(PLAIN | settings), notes, round(seconds * sample_rate), sample_rate=sample_rate)
    return audio.astype(np.float64)


def spectrum_db(audio):
    size = 1 << 18
    window = scipy.signal.windows.blackmanharris(len(audio))
    level = 20 * np.log10(np.abs(np.fft.rfft(audio * window, size)) + 1e-12)
    return np.fft.rfftfreq(size, 1 / RATE), level - level.max()


def partials(audio, floor_db=-45.0):
    """Frequencies of the spectral peaks, by a parabola through each."""
    hz, level = spectrum_db(audio)
    peaks, _ = scipy.signal.find_peaks(level, height=floor_db, distance=8, prominence=6)
    a, b, c = level[peaks - 1], level[peaks], level[peaks + 1]
    return hz[peaks] + 0.5 * (a - c) / (a - 2 * b + c) * hz[1]


def cents(hz, other):
    return 1200 * np.log2(hz / other)


def wave_numbers(count):
    """Of a bar with free ends, by bisection."""
    return np.array([
        scipy.optimize.brentq(lambda b: np.cos(b) - 1 / np.cosh(b), (k + 0.5) * np.pi - 0.4, (k + 0.5) * np.pi + 0.4)
        for k in range(1, count + 1)
    ])  # fmt: skip


BARS = (wave_numbers(6) / wave_numbers(1)) ** 2
RINGS = np.array([m * (m**2 - 1) / np.sqrt(m**2 + 1) for m in range(2, 7)])
# (kind, where it is struck, the lowest ratios that are heard there)
BOOKS = {
    "tuned bar": (BAR, 1.0, [1, 4, 10]),
    "free bar": (FREE_BAR, 1.0, BARS),
    "bell": (BELL, 0.0, [0.5, 1, 1.183, 1.506, 2, 2.514, 2.662, 3.011]),
    "bowl": (BOWL, 0.0, RINGS / RINGS[0]),
    "plate": (PLATE, 0.37, sorted((m * m + (n / 1.37) ** 2) / 1.532794 for m in (1, 2, 3) for n in (1, 2, 3))[:6]),
    "membrane": (MEMBRANE, 0.45, [1, 1.5933, 2.1355, 2.2954, 2.6531, 2.9173, 3.1555, 3.5001]),
    "membrane, in the middle": (MEMBRANE, 0.0, scipy.special.jn_zeros(0, 5) / scipy.special.jn_zeros(0, 1)),
}  # fmt: skip


@pytest.mark.parametrize("name", BOOKS)
def test_modes_are_where_the_books_have_them(name):
    kind, position, ratios = BOOKS[name]
    found = partials(struck({"object": kind, "position": position, "hardness": 0.8}, pitch=62.0, seconds=3)[4000:])
    key = 440 * 2 ** (-7 / 12)
    np.testing.assert_allclose(cents(found[: len(ratios)], key * np.array(ratios)), 0, atol=1)


@pytest.mark.parametrize("sample_rate", [44100, 48000])
def test_in_tune_over_the_keyboard(sample_rate):
    for pitch in [*np.arange(21, 109, 6.0), 108.0, 60.37]:
        audio = struck({"damping": 1.0}, pitch=pitch, seconds=0.6, sample_rate=sample_rate)[sample_rate // 10 :]
        t = np.arange(len(audio)) / sample_rate
        hz = 440 * 2 ** ((pitch - 69) / 12)
        mixed = audio * np.exp(-2j * np.pi * hz * t)
        half = len(t) // 2
        window = scipy.signal.windows.blackmanharris(half)
        turn = np.angle(np.sum(window * mixed[half : 2 * half]) / np.sum(window * mixed[:half]))
        assert abs(cents(hz + turn / (2 * np.pi * half / sample_rate), hz)) < 0.5, pitch


def fall_db(audio, hz, start_s, stop_s):
    """How far a partial falls between two times."""
    mixed = audio * np.exp(-2j * np.pi * hz * np.arange(len(audio)) / RATE)
    window = np.hanning(4410)
    early, late = (abs(np.sum(window * mixed[round(s * RATE) :][:4410])) for s in (start_s, stop_s))
    return 20 * np.log10(late / early)


def test_modes_decay_in_the_time_asked():
    key = 261.6256
    audio = struck({"object": FREE_BAR, "position": 1.0, "decay_s": 3.0, "damping": 0.5})
    assert fall_db(audio, key, 0.2, 1.2) == pytest.approx(-60 / 3, abs=0.1)
    assert fall_db(audio, key * BARS[1], 0.2, 0.7) == pytest.approx(-30 / 3 * BARS[1], abs=0.2)  # ratio ** -1
    even = struck({"object": FREE_BAR, "position": 1.0, "decay_s": 3.0, "damping": 0.0})
    assert fall_db(even, key * BARS[1], 0.2, 1.2) == pytest.approx(-60 / 3, abs=0.1)
    low = struck({"decay_s": 3.0, "decay_tracking": 1.0}, pitch=48.0)
    assert fall_db(low, key / 2, 0.2, 1.2) == pytest.approx(-60 / 6, abs=0.1)


def test_a_free_mode_is_a_clean_decaying_tone():
    """What is left beside the one exponential that fits best is below -110 dB: single precision does not add up."""
    audio = struck({"damping": 1.0, "decay_s": 1.0, "object": BOWL, "position": 1.0}, seconds=1.0)[RATE // 2 :]
    z = np.exp((2j * np.pi * 261.6255653 + np.log(0.001)) * np.arange(len(audio)) / RATE)
    basis = np.stack([z.real, z.imag], axis=1)
    rest = audio - basis @ np.linalg.lstsq(basis, audio, rcond=None)[0]
    assert 20 * np.log10(np.abs(rest).max() / np.abs(audio).max()) < -110


def test_where_it_is_struck():
    """The first mode of a free bar rests at 0.224 of its length: struck there, the second is the lowest that sounds."""
    node = 1 - 2 * 0.22416
    middle, at_node = (partials(struck({"object": FREE_BAR, "position": p, "hardness": 0.7})[4000:]) for p in (0, node))
    assert abs(cents(middle[0], 261.6256)) < 1
    assert abs(cents(at_node[0], 261.6256 * BARS[1])) < 1


def centroid(audio):
    power = np.abs(np.fft.rfft(audio[:8000])) ** 2
    return np.sum(power * np.fft.rfftfreq(8000, 1 / RATE)) / power.sum()


def test_hard_mallets_and_hard_strokes_are_brighter():
    bright = [centroid(struck({"object": PLATE, "position": 0.4, "hardness": hard})) for hard in (0.0, 0.4, 1.0)]
    assert bright[1] > 1.2 * bright[0]
    assert bright[2] > 1.5 * bright[1]
    strokes = {"object": PLATE, "position": 0.4, "velocity_hardness": 1.0, "hardness": 0.8}
    assert centroid(struck(strokes, velocity=1.0)) > 1.5 * centroid(struck(strokes, velocity=0.4))
    strokes["velocity_hardness"] = 0.0
    soft, hard = struck(strokes, velocity=0.5), struck(strokes, velocity=1.0)
    np.testing.assert_allclose(4 * soft, hard, atol=1e-6)


def test_the_mallet_is_a_low_pass():
    """A touch of sin² lasts T: half as strong at 1 / T as at 0, and nothing at 2 / T. Measured on a plate's modes."""
    hard = struck({"object": MEMBRANE, "position": 0.4, "hardness": 1.0}, pitch=36.0)
    soft = struck({"object": MEMBRANE, "position": 0.4, "hardness": 0.35}, pitch=36.0)
    touch_s = 0.012 * 0.01**0.35 / np.sqrt(0.25)
    hz, there = spectrum_db(soft[4000:])
    _, here = spectrum_db(hard[4000:])
    at = partials(hard[4000:], floor_db=-30.0)
    gain = np.array([(there - here)[np.argmin(np.abs(hz - one))] for one in at])
    expected = 20 * np.log10(np.abs(np.sinc(at * touch_s) / (1 - (at * touch_s) ** 2)) + 1e-6)
    part = at < 1.5 / touch_s
    assert part.sum() > 10
    np.testing.assert_allclose((gain - expected)[part], (gain - expected)[0], atol=1.0)


def test_the_hand_damps_after_the_key():
    audio = struck({"release_s": 0.4}, events=[Event(RATE // 2, "off", 1)])
    assert fall_db(audio, 261.6256, 0.52, 0.62) == pytest.approx(-15 - 0.1 * 60 / 20, abs=0.3)
    assert fall_db(audio, 261.6256, 0.1, 0.35) > -1


def test_low_modes_beat():
    audio = struck({"object": BOWL, "beating_hz": 4.0}, seconds=6)[4000:]
    near = partials(audio)
    near = near[np.abs(cents(near, 261.6256)) < 100]
    assert len(near) == 2
    assert near[0] == pytest.approx(261.6256, abs=0.05)
    assert near[1] - near[0] == pytest.approx(4.0, abs=0.1)


def test_a_bend_takes_all_modes_along():
    events = [Event(RATE // 2, "bend", value=2.0)]
    audio = struck({"object": FREE_BAR, "position": 1.0, "hardness": 0.5}, events=events)
    settled = partials(audio[RATE // 2 + 4000 :])
    np.testing.assert_allclose(cents(settled[:4], 261.6256 * BARS[:4]), 200, atol=1)
    hiss = scipy.signal.sosfilt(scipy.signal.butter(8, 12_000, "highpass", fs=RATE, output="sos"), audio)
    assert np.abs(hiss[RATE // 2 - 500 :]).max() < 3 * np.abs(hiss[10_000 : RATE // 2 - 500]).max()  # its own highs
    assert np.abs(hiss[10_000:]).max() < 3e-4 * np.abs(audio).max()


def test_what_is_bent_beyond_half_the_rate_is_gone():
    settings = {"object": MEMBRANE, "position": 0.5}
    audio = struck(settings, pitch=96.0, events=[Event(4000, "bend", value=12.0)])[8000:]
    found = partials(audio, floor_db=-60.0)
    assert found.min() == pytest.approx(4186.0, rel=1e-3)
    ratios = np.array(sorted(z for m in range(16) for z in scipy.special.jn_zeros(m, 10))) / 2.404826
    off = [np.abs(cents(one, 4186.009 * ratios)).min() for one in found]
    assert max(off) < 5


@pytest.mark.parametrize("kind", range(6))
def test_all_objects_are_alike_loud(kind):
    for pitch in (36.0, 60.0, 84.0):
        audio = play(Modal({"object": float(kind)}), [Event(0, "on", 1, pitch, 0.8)], RATE)
        assert 0.2 < np.abs(audio).max() < 0.75


def test_between_two_objects_is_between():
    here, there, between = (objects.modes(kind, 0.3) for kind in (FREE_BAR, BELL, 1.5))
    np.testing.assert_allclose(between[0], np.sqrt(here[0] * there[0]))
    audio = struck({"object": 1.5})[4000:]
    assert np.abs(cents(partials(audio), 261.6256 * between[0][0])).min() < 1


def test_a_rough_stroke_is_never_the_same():
    settings = {"roughness": 1.0, "hardness": 0.2, "object": PLATE, "position": 0.4}
    audio = struck(settings, seconds=3, events=[Event(RATE, "stop"), Event(2 * RATE, "on", 2, 60.0, 1.0)])
    first, second = audio[:8000], audio[2 * RATE : 2 * RATE + 8000]
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.95
    assert centroid(first) > 1.5 * centroid(struck(settings | {"roughness": 0.0})[:8000])


def test_kernels_are_compiled_once():
    for kernel in (modal._render, modal._tick, modal._touched, modal._settle, modal._free, modal._move):
        assert len(kernel.signatures) <= 1, kernel
