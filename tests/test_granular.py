"""Grains: how many, when, of what pitch, from where, to which side; and what they add up to."""

import numpy as np
import pytest
import scipy.signal
from contract import RATE, play

from soundloom.audio import Waveform
from soundloom.errors import AudioError
from soundloom.instruments import grainsource, granular
from soundloom.instruments.base import Event
from soundloom.instruments.granular import Granular

PLAIN = {
    "position_spray_s": 0.0, "pitch_spray_cents": 0.0, "pan_spray": 0.0, "jitter": 0.0, "scan": 0.0, "reverse": 0.0,
    "attack_s": 0.0005, "gain_db": 0.0,
}  # fmt: skip


def tone(hz, seconds=4.0, sample_rate=RATE):
    t = np.arange(round(seconds * sample_rate)) / sample_rate
    return Waveform((0.5 * np.sin(2 * np.pi * hz * t)).astype(np.float32)[None], sample_rate)


def noise(seconds=4.0, channels=1):
    rng = np.random.default_rng(0)
    return Waveform(0.2 * rng.standard_normal((channels, round(seconds * RATE))).astype(np.float32), RATE)


def sound(settings, source, *, pitch=60.0, seconds=2.0, events=(), sample_rate=RATE):
    instrument = Granular(PLAIN | settings, source=source)
    notes = [Event(0, "on", 1, pitch, 1.0), *events]
    return play(instrument, notes, round(seconds * sample_rate), sample_rate=sample_rate).astype(np.float64)


def hertz(audio, sample_rate=RATE):
    """The frequency of a lone tone, by the advance of its phase where it is loud."""
    z = scipy.signal.hilbert(audio)
    weight = np.abs(z[1:]) ** 2
    weight[:200] = weight[-200:] = 0
    return sample_rate / (2 * np.pi) * np.sum(weight * np.angle(z[1:] * np.conj(z[:-1]))) / weight.sum()


def level_db(audio):
    return 10 * np.log10((audio**2).mean())


@pytest.mark.parametrize(("settings", "pitch", "semitones"), [
    ({}, 60.0, 0), ({}, 72.0, 12), ({}, 51.5, -8.5), ({}, 67.0, 7), ({"root_pitch": 48.0}, 60.0, 12),
    ({"key_tracking": 0.5}, 70.0, 5), ({"key_tracking": 0.0}, 90.0, 0), ({"reverse": 1.0}, 67.0, 7),
])  # fmt: skip
def test_a_grain_has_the_pitch_of_its_key(settings, pitch, semitones):
    audio = sound({"size_ms": 500.0, "density_hz": 0.5} | settings, tone(441.0), pitch=pitch, seconds=0.5)[0]
    assert 1200 * np.log2(hertz(audio) / 441) == pytest.approx(100 * semitones, abs=0.1)


@pytest.mark.parametrize(("source_rate", "rate"), [(22050, 44100), (44100, 48000), (96000, 44100)])
def test_a_grain_has_the_pitch_of_its_key_at_any_rate(source_rate, rate):
    source = tone(500.0, sample_rate=source_rate)
    audio = sound({"size_ms": 500.0, "density_hz": 0.5}, source, seconds=0.5, sample_rate=rate)[0]
    assert abs(1200 * np.log2(hertz(audio, rate) / 500)) < 0.1


def test_a_bend_reaches_grains_that_sound():
    """A long grain is bent on its way: before, after, and without a step in its phase."""
    bend = [Event(RATE // 4, "bend", value=3.0)]
    audio = sound({"size_ms": 1000.0, "density_hz": 0.5, "window": 1.0}, tone(440.0), seconds=1, events=bend)[0]
    assert abs(1200 * np.log2(hertz(audio[2000 : RATE // 4]) / 440)) < 0.5
    assert 1200 * np.log2(hertz(audio[RATE // 4 + 4410 : 40_000]) / 440) == pytest.approx(300, abs=0.5)
    hiss = scipy.signal.sosfilt(scipy.signal.butter(8, 4000, "highpass", fs=RATE, output="sos"), audio)
    assert np.abs(hiss[6000:40_000]).max() < 1e-3 * np.abs(audio).max()


def onsets(audio, height=0.05):
    """Where grains that do not overlap start, in samples."""
    loud = np.abs(audio) > height * np.abs(audio).max()
    loud = scipy.ndimage.maximum_filter1d(loud.astype(int), 60)
    return np.flatnonzero(np.diff(loud) == 1)


def test_grains_are_as_many_as_asked_and_on_time():
    settings = {"size_ms": 4.0, "density_hz": 37.0, "window": 1.0}
    at = onsets(sound(settings, tone(5000.0), seconds=4)[0])
    assert len(at) == pytest.approx(4 * 37, abs=1)
    np.testing.assert_allclose(np.diff(at), RATE / 37, atol=6)
    assert np.diff(at).mean() == pytest.approx(RATE / 37, rel=1e-3)


def test_jitter_moves_grains_and_keeps_their_number():
    settings = {"size_ms": 2.0, "density_hz": 10.0, "window": 1.0, "jitter": 1.0}
    at = onsets(sound(settings, tone(5000.0), seconds=12)[0])
    assert len(at) == pytest.approx(120, abs=3)
    # The difference of two chances of one interval each: a deviation of 1 / sqrt 6 of it.
    assert np.diff(at).std() == pytest.approx(RATE / 10 / np.sqrt(6), rel=0.2)


def test_grains_start_between_samples():
    """At a thousand grains a second and a bit, the line of the density is clean: no jitter of a sample around it."""
    audio = sound({"size_ms": 1.5, "density_hz": 1003.7}, tone(2007.4), seconds=2)[0][RATE // 2 :]
    power = np.abs(np.fft.rfft(audio * np.blackman(len(audio)))) ** 2
    hz = np.fft.rfftfreq(len(audio), 1 / RATE)
    off = np.abs(hz / 1003.7 - np.rint(hz / 1003.7)) > 0.1
    assert 10 * np.log10(power[off].max() / power.max()) < -60


@pytest.mark.parametrize("settings", [{"position_spray_s": 1.0, "position": 0.5}, {"scan": 1.0}, {"scan": 0.4}])
def test_the_level_does_not_depend_on_how_many_overlap(settings):
    """From 5 to 600 at once: related grains that add up as levels, and unrelated ones that add up as powers."""
    levels = [
        level_db(sound(settings | {"size_ms": 150.0, "density_hz": density}, noise(), seconds=2.5)[:, RATE // 2 :])
        for density in (33.0, 250.0, 4000.0)
    ]
    assert max(levels) - min(levels) < 1.5
    assert levels[0] == pytest.approx(20 * np.log10(grainsource.LEVEL / np.sqrt(3)), abs=1.5)  # Gauss: m4 = 3 m2²


def test_the_level_of_the_source_does_not_matter():
    quiet, loud = noise(), noise()
    quiet.samples[:] *= 0.003
    np.testing.assert_allclose(sound({}, quiet, seconds=0.5), sound({}, loud, seconds=0.5), atol=1e-5)


def test_grains_that_follow_the_recording_are_the_recording():
    """Read as fast as it was recorded, without chance, the grains add up to what they were cut from."""
    source = noise(3.0, channels=2)
    lowpass = scipy.signal.butter(8, 4000, fs=RATE, output="sos")
    source = Waveform(scipy.signal.sosfiltfilt(lowpass, source.samples).astype(np.float32), RATE)
    audio = sound({"scan": 1.0, "position": 0.0, "size_ms": 40.0, "density_hz": 100.0}, source, seconds=2.5)
    part = slice(RATE // 2, 2 * RATE)
    for channel in range(2):
        x, y = source.samples[channel, part].astype(np.float64), audio[channel, part]
        x -= source.samples[channel].mean()
        rest = y - x * (x @ y) / (x @ x)
        assert 10 * np.log10((rest @ rest) / (y @ y)) < -45


def test_time_is_stretched_and_pitch_stays():
    """A glide of an octave in four seconds, read at a quarter of its pace."""
    t = np.arange(4 * RATE) / RATE
    glide = np.sin(2 * np.pi * 300 * 4 / np.log(2) * (2 ** (t / 4) - 1)).astype(np.float32)
    settings = {"scan": 0.25, "position": 0.25, "size_ms": 60.0, "density_hz": 200.0, "jitter": 1.0}
    settings["position_spray_s"] = 0.01  # else neighbours cancel each other at some pitches
    audio = sound(settings, Waveform(0.5 * glide[None], RATE), seconds=6)[0]
    for second in (1, 3, 5):
        there = 1.0 + 0.25 * second + 0.02  # the middle of a grain is ahead of its start
        near = audio[round((second - 0.3) * RATE) : round((second + 0.3) * RATE)]
        assert 1200 * np.log2(hertz(near) / (300 * 2 ** (there / 4))) == pytest.approx(0, abs=15)


def test_position_is_where_it_reads():
    halves = np.concatenate([tone(400.0, 2.0).samples, tone(1000.0, 2.0).samples], axis=1)
    source = Waveform(halves, RATE)
    for position, hz in ((0.0, 400), (0.4, 400), (0.6, 1000), (1.0, 1000)):
        audio = sound({"position": position, "size_ms": 100.0, "density_hz": 3.0}, source, seconds=1)[0]
        assert hertz(audio) == pytest.approx(hz, rel=0.005)
    both = sound({"position": 0.5, "position_spray_s": 2.0, "size_ms": 20.0, "density_hz": 20.0}, source, seconds=10)[0]
    power = np.abs(np.fft.rfft(both)) ** 2
    hz = np.fft.rfftfreq(len(both), 1 / RATE)
    low, high = (power[np.abs(hz - at) < 150].sum() for at in (400, 1000))
    assert abs(10 * np.log10(low / high)) < 2


def test_reversed_grains_run_backwards():
    t = np.arange(4 * RATE) / RATE
    source = Waveform((0.5 * np.sin(2 * np.pi * (500 * t + 100 * t**2))).astype(np.float32)[None], RATE)
    for reverse, sign in ((0.0, 1), (1.0, -1)):
        audio = sound({"reverse": reverse, "size_ms": 1000.0, "density_hz": 0.5, "window": 1.0}, source, seconds=1)[0]
        rise = hertz(audio[30_000:40_000]) - hertz(audio[5000:15_000])
        assert rise == pytest.approx(sign * 200 * 25_000 / RATE, abs=1)


def test_the_stereo_image():
    mono = sound({}, noise(), seconds=1)
    np.testing.assert_array_equal(mono[0], mono[1])
    spread = sound({"pan_spray": 1.0, "size_ms": 20.0, "density_hz": 20.0}, tone(1000.0), seconds=20)
    sides = np.stack([spread[:, at + 200 : at + 600].std(axis=1) for at in range(0, 19 * RATE, RATE // 20)])
    angle = np.arctan2(sides[:, 1], sides[:, 0])
    assert angle.min() < 0.1
    assert angle.max() > np.pi / 2 - 0.1
    assert angle.mean() == pytest.approx(np.pi / 4, abs=0.08)
    power = (sides**2).sum(axis=1)
    assert power.max() / power.min() < 1.05  # as loud wherever it is put
    left = np.concatenate([noise().samples, np.zeros((1, 4 * RATE), np.float32)])
    audio = sound({}, Waveform(left, RATE), seconds=1)
    assert np.abs(audio[1]).max() == 0  # what was recorded on the left stays there


@pytest.mark.parametrize("semitones", [12.0, 19.0, 31.0])
def test_reading_faster_does_not_fold(semitones):
    """Tones that would end above half the rate are gone instead of coming back from there; those below are kept."""
    ratio = 2 ** (semitones / 12)
    settings = {"size_ms": 300.0, "density_hz": 20.0, "jitter": 1.0}
    kept = level_db(sound(settings, tone(5000 / ratio), pitch=60 + semitones)[0])
    folded = level_db(sound(settings, tone(min(30_000 / ratio, 21_000)), pitch=60 + semitones)[0])
    assert folded < kept - 60
    assert kept == pytest.approx(level_db(sound(settings, tone(5000.0))[0]), abs=1.5)


def test_reading_slower_adds_no_images():
    audio = sound({"size_ms": 1000.0, "density_hz": 0.5}, tone(3000.0), pitch=41.3, seconds=1)[0]
    hz = np.fft.rfftfreq(len(audio), 1 / RATE)
    level = 20 * np.log10(np.abs(np.fft.rfft(audio * np.blackman(len(audio)))) + 1e-12)
    assert level[np.abs(hz - 3000 * 2 ** (-18.7 / 12)) > 50].max() < level.max() - 55


def test_windows_have_their_shapes():
    """Round at first, flat between short edges, then a stroke: loud at once and dying away."""

    def envelope(shape):
        audio = sound({"window": shape, "size_ms": 200.0, "density_hz": 0.5}, tone(5000.0), seconds=0.2)[0]
        level = np.abs(scipy.signal.hilbert(audio))
        return level / level.max()

    t = (np.arange(8820) + 0.5) / 8820
    np.testing.assert_allclose(envelope(0.0)[50:-50], np.sin(np.pi * t)[50:-50] ** 2, atol=0.02)
    flat = envelope(1.0)
    assert flat[1000:-1000].min() > 0.97
    stroke = envelope(2.0)
    assert np.argmax(stroke) < 100
    np.testing.assert_allclose(stroke[100:-1000], (1 - t)[100:-1000] ** 4, atol=0.03)


def test_the_built_in_source_is_a_middle_c_that_changes():
    audio = play(Granular(PLAIN | {"scan": 1.0, "density_hz": 100.0}), [Event(0, "on", 1, 60.0)], 5 * RATE)[0]
    power = np.abs(np.fft.rfft(audio * np.hanning(len(audio)))) ** 2
    hz = np.fft.rfftfreq(len(audio), 1 / RATE)
    for k in (1, 2, 3, 5):
        near = np.abs(hz - k * 261.6256) < 20
        assert abs(1200 * np.log2(np.sum(hz[near] * power[near]) / power[near].sum() / (k * 261.6256))) < 8
    brightness = [np.abs(np.fft.rfft(audio[at : at + 8192]))[200:].sum() for at in range(0, 4 * RATE, RATE // 2)]
    assert max(brightness) > 1.5 * min(brightness)


def test_a_short_source_and_extreme_keys_are_played():
    for pitch in (0.0, 60.0, 127.0):
        audio = sound({"size_ms": 1000.0, "density_hz": 100.0}, tone(1000.0, 0.01), pitch=pitch, seconds=0.5)
        assert np.isfinite(audio).all()
        assert np.abs(audio).max() < 4


@pytest.mark.parametrize(("samples", "message"), [
    (np.zeros((1, 0)), "empty"), (np.zeros((2, 500)), "silent"), (np.full((1, 500), 0.3), "silent"),
    (np.full((1, 500), np.nan), "NaN"),
])  # fmt: skip
def test_a_source_without_sound_is_refused(samples, message):
    with pytest.raises(AudioError, match=message):
        Granular(source=Waveform(samples.astype(np.float32), RATE))


def test_kernels_are_compiled_once():
    for kernel in (
        granular._render,
        granular._tick,
        granular._grow,
        granular._sow,
        granular._level,
        grainsource.related,
    ):
        assert len(kernel.signatures) <= 1, kernel
