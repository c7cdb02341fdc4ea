"""Loudness is the standard's, and the limiter lets nothing over and little else change."""

import numpy as np
import pytest
import scipy.signal

from soundloom.audio import Waveform
from soundloom.loudness import integrated_lufs, limited, true_peak


def tone(hz, seconds, db, rate=48000, channels=2):
    t = np.arange(round(seconds * rate)) / rate
    return Waveform(np.tile(10 ** (db / 20) * np.sin(2 * np.pi * hz * t), (channels, 1)).astype(np.float32), rate)


@pytest.mark.parametrize("rate", [44100, 48000, 96000])
def test_the_cases_of_the_standard(rate):
    """EBU Tech 3341: a stereo sine of 1 kHz at -23 dBFS is -23 LUFS, at -33 dBFS -33; one channel alone is 3 less."""
    assert integrated_lufs(tone(1000, 20, -23, rate)) == pytest.approx(-23, abs=0.1)
    assert integrated_lufs(tone(1000, 20, -33, rate)) == pytest.approx(-33, abs=0.1)
    assert integrated_lufs(tone(1000, 5, -23, rate, channels=1)) == pytest.approx(-26, abs=0.1)


def test_quiet_parts_do_not_count():
    """EBU Tech 3341, case 3: 10 s at -36, 60 s at -23, 10 s at -36 is -23 LUFS."""
    parts = [tone(1000, 10, -36), tone(1000, 60, -23), tone(1000, 10, -36)]
    whole = Waveform(np.concatenate([part.samples for part in parts], axis=1), 48000)
    assert integrated_lufs(whole) == pytest.approx(-23, abs=0.1)
    assert integrated_lufs(tone(1000, 2, -120)) == -np.inf


def test_the_weighting_is_the_standards():
    """Against the coefficients printed in BS.1770-4 for 48 kHz."""
    noise = np.random.default_rng(0).standard_normal((1, 48000)).astype(np.float32)
    shelf = scipy.signal.lfilter([1.53512485958697, -2.69169618940638, 1.19839281085285],
                                 [1, -1.69065929318241, 0.73248077421585], noise)  # fmt: skip
    weighted = scipy.signal.lfilter([1, -2, 1], [1, -1.99004745483398, 0.99007225036621], shelf)
    blocks = [np.mean(weighted[0, i : i + 19200] ** 2) for i in range(0, 48000 - 19200 + 1, 4800)]
    expected = -0.691 + 10 * np.log10(np.mean(blocks))
    assert integrated_lufs(Waveform(noise, 48000)) == pytest.approx(expected, abs=0.005)


def test_true_peaks_lie_between_samples():
    """A sine at a quarter of the rate, 45 degrees off: its samples are 3 dB below its peaks."""
    t = np.arange(4800)
    wave = Waveform(np.sin(np.pi * t / 2 + np.pi / 4)[None].astype(np.float32), 48000)
    assert np.abs(wave.samples).max() < 0.71
    assert true_peak(wave) == pytest.approx(1.0, abs=0.02)


def test_nothing_goes_over_and_the_rest_stays():
    rng = np.random.default_rng(0)
    samples = 0.3 * scipy.signal.lfilter([0.2], [1, -0.8], rng.standard_normal((2, 96000)))
    samples[:, 40000:40300] *= 20
    wave = Waveform(samples.astype(np.float32), 48000)
    out = limited(wave, peak_db=-1.0)
    assert true_peak(wave) > 2
    assert 20 * np.log10(true_peak(out)) == pytest.approx(-1, abs=0.05)
    np.testing.assert_allclose(out.samples[:, :39000], wave.samples[:, :39000], atol=1e-3)
    assert np.abs(out.samples[:, 80000:] - wave.samples[:, 80000:]).max() < 0.01
    assert np.abs(limited(out).samples - out.samples).max() < 1e-3


def test_a_limited_sine_is_a_sine():
    """A steady tone 6 dB over is turned down, not bent: its harmonics stay 60 dB below it."""
    loud = tone(220, 2, 5)
    out = limited(loud).samples[0, 48000:]
    spectrum = np.abs(np.fft.rfft(out * np.hanning(len(out))))
    hz = np.fft.rfftfreq(len(out), 1 / 48000)
    rest = spectrum[np.abs(hz - 220) > 30].max()
    assert 20 * np.log10(rest / spectrum.max()) < -60
