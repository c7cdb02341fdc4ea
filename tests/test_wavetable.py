"""Wavetables sound as their frames say, in tune, without aliases; files of Serum and Vital are read as meant."""

import struct

import numpy as np
import pytest
import scipy.signal
from contract import RATE, play
from oracles import amplitudes, at_bin, cents, measured_hz, spectrum_db

from soundloom.audio import Waveform
from soundloom.errors import ConfigError
from soundloom.instruments import tables, wavetable
from soundloom.instruments.base import Event
from soundloom.instruments.opening import Opener
from soundloom.instruments.wavetable import Wavetable

N = 32768
STILL = {"osc2_level": 0.0, "sustain": 1.0, "gain_db": 0.0, "attack_s": 0.001}
SAW_TO_SQUARE, PULSES, SYNC = 0.0, 1.0, 5.0


def wav(path, samples, frame=None):
    """A WAV of floats with, where `frame` is given, the chunk that Serum writes."""
    data = np.asarray(samples, "<f4").tobytes()
    chunks = b"fmt " + struct.pack("<IHHIIHH", 16, 3, 1, RATE, 4 * RATE, 4, 32)
    if frame is not None:
        text = f"<!>{frame} 10000000 wavetable (www.xferrecords.com)".encode()
        chunks += b"clm " + struct.pack("<I", len(text)) + text + b"\0" * (len(text) % 2)
    chunks += b"data" + struct.pack("<I", len(data)) + data
    path.write_bytes(b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks)
    return path


def sines(count, frame):
    """Frames of harmonics 1, 2, ... count."""
    t = np.arange(frame) / frame
    return np.concatenate([np.sin(2 * np.pi * k * t) for k in range(1, count + 1)])


@pytest.mark.parametrize(("frame", "said"), [(2048, 2048), (2048, None), (1024, 1024), (256, 256), (600, 600)])
def test_files_are_read_as_they_are_meant(tmp_path, frame, said):
    """Four frames, each another harmonic: the position plays them in turn, whatever the length of a frame."""
    path = wav(tmp_path / "four.wav", sines(4, frame), said)
    pitch, hz = at_bin(40)
    for k in range(4):
        synth = Wavetable(STILL | {"position": k / 3}, source=path)
        found = amplitudes(play(synth, [Event(0, "on", 1, pitch, 1.0)], N + 4000), hz, range(1, 6))
        assert found[k] == pytest.approx(np.sqrt(2) * tables.LEVEL, rel=0.002)
        assert np.delete(found, k).max() < 1e-4


def test_a_patch_plays_a_file_in_the_frames_that_it_says_it_has(tmp_path):
    wav(tmp_path / "waves.wav", sines(4, 1024), 1024)
    (tmp_path / "mine.toml").write_text('name = "Mine"\nengine = "wavetable"\nsource = "waves.wav"\n')
    assert Opener().opened("mine.toml", folder=tmp_path).instrument.tables.count.tolist() == [4]


def test_a_single_cycle_of_any_length_is_a_table():
    t = np.arange(601) / 601
    cycle = np.sin(2 * np.pi * t) + 0.5 * np.sin(2 * np.pi * 3 * t + 1)
    source = Waveform(np.stack([cycle, cycle]).astype(np.float32), 48000)  # stereo; the rate says nothing
    pitch, hz = at_bin(100)
    found = amplitudes(
        play(Wavetable(STILL, source=source), [Event(0, "on", 1, pitch, 1.0)], N + 4000), hz, range(1, 5)
    )
    np.testing.assert_allclose(found / found[0], [1, 0, 0.5, 0], atol=2e-3)


@pytest.mark.parametrize(
    ("samples", "frame", "message"),
    [
        (sines(3, 1500), None, "4500 samples: a wavetable is frames of 2048 .* single cycle"),
        (sines(2, 2048), 600, "4096 samples: a wavetable is frames of 600 samples, as it says"),
        (np.zeros(4096), None, "silent"),
        (sines(1, 2048 * 300), None, "300 frames of 2048 samples: a wavetable has 256 at most"),
        (np.ones(4), None, "4 samples"),
    ],
)
def test_what_is_no_wavetable_is_refused(tmp_path, samples, frame, message):
    with pytest.raises(ConfigError, match=message):
        Wavetable(source=wav(tmp_path / "odd.wav", samples, frame))


def test_a_source_leaves_no_table_to_pick():
    synth = Wavetable(source=Waveform(sines(1, 2048)[None].astype(np.float32), RATE))
    assert "table" not in {param.name for param in synth.params}
    with pytest.raises(ConfigError, match="no parameter 'table'"):
        Wavetable({"table": 1.0}, source=Waveform(sines(1, 2048)[None].astype(np.float32), RATE))


@pytest.mark.parametrize(("position", "even"), [(0.0, 1.0), (0.25, 0.75), (0.5, 0.5), (1.0, 0.0)])
def test_morphing_is_linear_between_frames(position, even):
    """From saw to square: harmonic k is 1 / k, the even ones fade."""
    pitch, hz = at_bin(82)
    settings = STILL | {"table": SAW_TO_SQUARE, "position": position}
    k = np.arange(1, 60)
    found = amplitudes(play(Wavetable(settings), [Event(0, "on", 1, pitch, 1.0)], N + 4000), hz, k)
    # The filter, wide open at 20 kHz, is two real poles there: it takes a little off the top.
    ratio = np.tan(np.pi * k * hz / RATE) / np.tan(np.pi * 20000 / RATE)
    square = np.sqrt(np.sum(1 / np.arange(1, 1025) ** 2) / np.sum(1 / np.arange(1, 1025, 2) ** 2))  # of one loudness
    odd_level = (1 - position) + position * square
    expected = np.where(k % 2 == 1, 1.0, even / odd_level) / k / (1 + ratio**2)
    np.testing.assert_allclose(found / found[0] * (1 / (1 + ratio[0] ** 2)), expected, atol=1e-3)


@pytest.mark.parametrize("table", range(len(tables.NAMES)))
@pytest.mark.parametrize("hz", [110.0, 1234.5, 5000.0])
def test_nothing_aliases(table, hz):
    """Beside the harmonics nothing is above -70 dB, at both ends of every table and between two frames."""
    pitch = 69 + 12 * np.log2(hz / 440)
    for position in (0.0, 0.52, 1.0):
        settings = STILL | {"table": float(table), "position": position}
        frequencies, level = spectrum_db(play(Wavetable(settings), [Event(0, "on", 1, pitch, 1.0)], N + 4000))
        nearest = np.abs(frequencies - hz * np.maximum(np.round(frequencies / hz), 1))
        assert level[nearest > 12].max() < -70, position


def test_harmonics_reach_up_to_fifteen_kilohertz():
    """What is left out to keep aliases away is half an octave below half the rate at most."""
    for pitch in np.arange(36.0, 72.0, 1.7):
        hz = 440 * 2 ** ((pitch - 69) / 12)
        audio = play(Wavetable(STILL | {"cutoff_hz": 20000.0}), [Event(0, "on", 1, pitch, 1.0)], N + 4000)
        top = int(15_000 / hz) * hz
        window = np.hanning(N)
        found, fundamental = (abs(np.sum(window * audio[-N:] * np.exp(-2j * np.pi * f / RATE * np.arange(N))))
                              for f in (top, hz))  # fmt: skip
        assert 20 * np.log10(found / fundamental * top / hz) > -8, pitch  # the open filter takes 4 dB there


@pytest.mark.parametrize("sample_rate", [44100, 48000])
def test_in_tune_over_the_keyboard(sample_rate):
    for pitch in [*np.arange(21, 109, 6.0), 60.37]:
        hz = 440 * 2 ** ((pitch - 69) / 12)
        n = max(int(12 * sample_rate / hz), 3000)
        audio = play(Wavetable(STILL), [Event(0, "on", 1, pitch, 1.0)], 500 + n, sample_rate=sample_rate)[500:]
        assert abs(cents(measured_hz(audio, hz, sample_rate), hz)) < 0.5, pitch


def test_the_second_oscillator_is_detuned():
    settings = STILL | {"osc2_level": 1.0, "osc2_semitones": 7.0}
    audio = play(Wavetable(settings), [Event(0, "on", 1, 57.0, 1.0)], N + 4000)[4000:]
    assert cents(measured_hz(audio, 329.6), 220.0) == pytest.approx(700, abs=1)
    assert cents(measured_hz(audio, 220.0), 220.0) == pytest.approx(0, abs=1)


def test_the_position_envelope_takes_its_time():
    """Even harmonics fade in a straight line over the attack, and are gone after it."""
    settings = STILL | {"position_env": 1.0, "position_attack_s": 0.8, "position_sustain": 1.0}
    audio = play(Wavetable(settings), [Event(0, "on", 1, 57.0, 1.0)], RATE).astype(float)
    narrow = scipy.signal.butter(4, 40, fs=RATE, output="sos")
    turns = np.arange(RATE) / RATE
    second = np.abs(scipy.signal.sosfiltfilt(narrow, audio * np.exp(-2j * np.pi * 440 * turns)))
    early, late = second[int(0.2 * RATE)], second[int(0.6 * RATE)]
    assert late / early == pytest.approx(0.25 / 0.75, rel=0.02)
    assert second[int(0.9 * RATE)] < 0.01 * early


def test_the_position_swings_at_its_rate():
    settings = STILL | {"position": 0.5, "position_lfo": 0.4, "position_lfo_hz": 3.0}
    audio = play(Wavetable(settings), [Event(0, "on", 1, 57.0, 1.0)], 2 * RATE).astype(float)
    narrow = scipy.signal.butter(4, 40, fs=RATE, output="sos")
    second = np.abs(scipy.signal.sosfiltfilt(narrow, audio * np.exp(-2j * np.pi * 440 / RATE * np.arange(2 * RATE))))
    swing = second[RATE // 2 : RATE // 2 + RATE]
    assert np.argmax(np.abs(np.fft.rfft(swing - swing.mean()))) == 3
    assert swing.min() / swing.max() == pytest.approx(0.1 / 0.9, abs=0.02)


@pytest.mark.parametrize("cutoff_hz", [440.0, 3000.0])
def test_filter_cuts_where_the_knob_says(cutoff_hz):
    """At a quality of 1 / sqrt 2 the fundamental on the cutoff loses 3 dB, the next octave what Butterworth says."""
    pitch = 69 + 12 * np.log2(cutoff_hz / 440)
    butterworth = np.log(np.sqrt(2) / 2) / np.log(0.01)  # the resonance at which 1 / Q is sqrt 2
    levels = []
    for settings in ({"cutoff_hz": cutoff_hz, "resonance": butterworth}, {"cutoff_hz": 20000.0}):
        audio = play(Wavetable(STILL | settings), [Event(0, "on", 1, pitch, 1.0)], N + 4000)[-N:]
        turn = np.exp(-2j * np.pi * cutoff_hz / RATE * np.arange(N))
        levels.append([abs(np.sum(np.hanning(N) * audio * turn**k)) for k in (1, 2)])
    ratio = np.tan(np.pi * np.array([1, 2]) * cutoff_hz / RATE)
    wanted = 1 / np.sqrt(1 + (ratio / ratio[0]) ** 4) * (1 + (ratio / np.tan(np.pi * 20000 / RATE)) ** 2)
    np.testing.assert_allclose(np.divide(*levels), wanted, rtol=0.01)


def test_a_sounding_note_keeps_its_table():
    on, pick = Event(0, "on", 1, 57.0, 1.0), Event(6000, "set", param="table", value=SYNC)
    plain = play(Wavetable(STILL | {"position": 0.5}), [on], 20_000)
    picked = play(Wavetable(STILL | {"position": 0.5}), [on, pick, Event(12_000, "on", 2, 57.0, 1.0)], 20_000)
    np.testing.assert_array_equal(picked[:12_000], plain[:12_000])
    second = picked[14_000:] - plain[14_000:]
    sync = play(Wavetable(STILL | {"position": 0.5, "table": SYNC}), [on], 8000)[2000:]
    np.testing.assert_allclose(second, sync, atol=1e-6)


def test_gliding_through_the_levels_does_not_click():
    """A frame that is its 23rd harmonic alone, bent until that has no place below half the rate: it fades. Cut off at
    once it would leave a click of a seventh of its level below 5 kHz."""
    source = Waveform(np.sin(2 * np.pi * 23 * np.arange(2048) / 2048)[None].astype(np.float32), RATE)
    events = [Event(0, "on", 1, 81.0, 1.0), Event(6000, "bend", value=4.0)]
    audio = play(Wavetable(STILL, source=source), events, 12_000)
    level = np.abs(audio[5000:6000]).max()
    low = np.abs(scipy.signal.sosfilt(scipy.signal.butter(8, 5000, fs=RATE, output="sos"), audio))
    assert level > 0.2
    assert np.abs(audio[9000:]).max() < 1e-6
    assert low[5000:].max() < 0.01 * level


def test_kernels_are_compiled_once():
    for kernel in (wavetable._render, wavetable._begin, wavetable._tick, wavetable._oscillate, wavetable._read,
                   wavetable._read_two, wavetable._move_pitch, tables.level):  # fmt: skip
        assert len(kernel.signatures) <= 1, kernel
