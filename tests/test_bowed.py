"""A bowed string: Helmholtz's motion at every touch and wherever it is bowed, in tune, with a body, ringing on."""

import numpy as np
import pytest
import scipy.signal
from contract import RATE, play
from test_tube import cents_off, hertz, partials_db

from soundloom.instruments import bowed, waveguide
from soundloom.instruments.base import Event
from soundloom.instruments.bowed import Bowed

PLAIN = {"vibrato_cents": 0.0, "body": 0.0, "velocity_brightness": 0.0, "rosin": 0.1}


def drawn(settings, *, pitch=60.0, seconds=1.0, velocity=0.8, events=(), sample_rate=RATE):
    notes = [Event(0, "on", 1, pitch, velocity), *events]
    audio = play(Bowed(PLAIN | settings), notes, round(seconds * sample_rate), sample_rate=sample_rate)
    return audio.astype(np.float64)


@pytest.mark.parametrize("velocity", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("position", [0.11, 0.13, 0.2])
def test_in_tune_over_five_octaves(position, velocity):
    for pitch in (36.0, 43.0, 50.0, 57.5, 65.0, 74.0, 82.0, 90.0, 96.0):
        audio = drawn({"position": position}, pitch=pitch, velocity=velocity, seconds=1.2)[int(0.7 * RATE) :]
        assert abs(cents_off(audio, hertz(pitch))) < 3, pitch


def test_in_tune_at_another_rate():
    for pitch in (45.0, 62.0, 86.0):
        audio = drawn({}, pitch=pitch, sample_rate=48000)[24000:]
        assert abs(cents_off(audio, hertz(pitch), 48000)) < 3, pitch


def test_it_speaks_at_every_corner():
    """However it is bowed, it slips once a period: the lowest partial is there, and it is in tune."""
    rng = np.random.default_rng(0)
    for corner in range(16):
        high = [bool(corner >> bit & 1) for bit in range(4)]
        knobs = {
            "position": 0.2 if high[0] else 0.11, "pressure": float(high[1]), "brightness": float(high[2]),
            "attack_s": 0.3 if high[3] else 0.005,
        }  # fmt: skip
        for pitch in rng.uniform(40, 92, 3):
            audio = drawn(knobs, pitch=pitch, seconds=1.3)[int(0.8 * RATE) :]
            assert abs(cents_off(audio, hertz(pitch))) < 5, (knobs, pitch)
            levels = partials_db(audio, hertz(pitch), 4)
            assert levels[0] > levels[1:].max() - 3, (knobs, pitch)
            assert np.abs(audio).max() > 0.05, (knobs, pitch)


def test_it_speaks_at_every_touch():
    for pitch in (36.0, 55.0, 72.0, 91.0):
        levels = []
        for velocity in (0.02, 0.2, 0.5, 1.0):
            level = np.abs(scipy.signal.hilbert(drawn({}, pitch=pitch, velocity=velocity)))
            assert np.argmax(level > 0.5 * level[RATE // 2 :].max()) < 0.25 * RATE
            levels.append(level[RATE // 2 :].mean())
        assert (np.diff(20 * np.log10(levels)) > 4).all()
        assert 0.04 < levels[2] < 0.4


def test_it_moves_as_helmholtz_saw():
    """A string that sticks and slips once a period is a saw at the bridge: partial k has 1 / k of the first. Towards
    the one that would rest under the bow, here the seventh, this bow is a little stronger."""
    levels = partials_db(drawn({"brightness": 1.0})[RATE // 2 :], hertz(60), 4)
    np.testing.assert_allclose(levels - levels[0], -20 * np.log10([1, 2, 3, 4]), atol=3.5)


def test_highs_and_softness():
    def centroid(settings, velocity=0.8):
        audio = drawn(settings | {"rosin": 0.0}, velocity=velocity)[RATE // 2 :]
        power = np.abs(np.fft.rfft(audio * np.hanning(len(audio)))) ** 2
        return np.sum(power * np.fft.rfftfreq(len(audio), 1 / RATE)) / power.sum()

    assert centroid({"brightness": 1.0}) > 1.3 * centroid({"brightness": 0.0})
    soft = {"velocity_brightness": 1.0}
    assert centroid(soft, 1.0) > 1.1 * centroid(soft, 0.2)


def test_rosin_is_noise_between_the_partials():
    def noise_db(rosin):
        audio = drawn({"rosin": rosin}, seconds=2.0)[RATE:]
        level = np.abs(np.fft.rfft(audio * scipy.signal.windows.blackmanharris(len(audio))))
        at = np.fft.rfftfreq(len(audio), 1 / RATE) / hertz(60)
        between = (np.abs(at - np.rint(at)) > 0.3) & (at > 1) & (at < 20)
        return 20 * np.log10(np.sqrt((level[between] ** 2).mean()) / level.max())

    assert noise_db(1.0) > noise_db(0.0) + 12
    assert noise_db(0.0) < -60


def test_the_body_answers_where_a_violin_does():
    """The gain of the body, read at the partials of a low note: its air at 275 Hz, its modes at 450 and 550."""
    with_body, without = (partials_db(drawn({"body": body, "rosin": 0.0}, pitch=36.0)[RATE // 2 :], hertz(36), 24)
                          for body in (1.0, 0.0))  # fmt: skip
    gain = with_body - without
    at = hertz(36) * np.arange(1, 25)

    def near(hz):
        return gain[np.argmin(np.abs(at - hz))]

    assert near(275) > near(200) + 3
    assert near(275) > near(350) + 2
    assert near(460) > near(350) + 3
    assert near(550) > near(700) + 3


def test_the_string_rings_on_when_the_bow_leaves():
    audio = drawn({"release_s": 5.0, "rosin": 0.0}, pitch=57.0, seconds=3.0, events=[Event(RATE, "off", 1)])
    level = 20 * np.log10(np.sqrt(np.convolve(audio**2, np.ones(2000) / 2000, "same")) + 1e-9)
    assert -30 < level[RATE + 13_000] - level[RATE - 2000] < -3
    assert level[RATE + 60_000] < level[RATE + 13_000] - 10
    assert abs(cents_off(audio[RATE + 4000 : RATE + 16_000], hertz(57))) < 15


def test_the_pitch_swings_as_asked():
    audio = drawn({"vibrato_cents": 40.0, "vibrato_hz": 4.0, "rosin": 0.0}, pitch=72.0, seconds=3.0)
    band = scipy.signal.butter(4, (400, 650), "bandpass", fs=RATE, output="sos")
    phase = np.unwrap(np.angle(scipy.signal.hilbert(scipy.signal.sosfiltfilt(band, audio))))
    cents = 1200 * np.log2(np.gradient(phase)[RATE : 3 * RATE - 4000] * RATE / (2 * np.pi) / hertz(72))
    n = RATE * 7 // 4
    swing = np.abs(np.fft.rfft(cents[:n] * np.hanning(n))) / (n / 4)
    assert swing[7] == pytest.approx(40, rel=0.15)  # bin 7 of 1.75 s is 4 Hz


@pytest.mark.parametrize("semitones", [-12.0, -5.0, 7.0, 12.0])
def test_it_follows_a_bend_however_far(semitones):
    for pitch in (43.0, 60.0, 77.0):
        audio = drawn({}, pitch=pitch, seconds=2.0, events=[Event(RATE // 2, "bend", value=semitones)])
        assert abs(cents_off(audio[RATE // 4 : RATE // 2], hertz(pitch))) < 5, pitch
        assert abs(cents_off(audio[3 * RATE // 2 :], hertz(pitch + semitones))) < 3, pitch
        assert partials_db(audio[3 * RATE // 2 :], hertz(pitch + semitones))[0] > -45, pitch


def test_kernels_are_compiled_once():
    shared = (waveguide.travel, waveguide.listen, waveguide.tuned, waveguide.level_out)
    for kernel in (bowed._render, bowed._play, bowed._draw, bowed._resonate, *shared):
        assert len(kernel.signatures) <= 1, kernel
