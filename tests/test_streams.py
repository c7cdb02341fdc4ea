"""What stands between an instrument and the air: rings, the limiter, clocks, the tape."""

import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import soundfile
from jackserver import until

from soundloom.errors import AudioError, StorageError
from soundloom.guard import Guard
from soundloom.midiin import Inbox
from soundloom.rates import Resampler
from soundloom.ring import Ring
from soundloom.tape import Tape, header
from soundloom.timing import BlockClock, StampClock

RATE = 48000
NOTE, LATER = bytes([0x90, 60, 100]), bytes([0x90, 61, 100])


# --- what goes between threads ------------------------------------------------------------------------------------


def test_a_ring_passes_on_everything_in_order_between_two_threads():
    ring, rng = Ring(2, 257), np.random.default_rng(0)
    total = 40_000
    sound = np.stack([np.arange(total), -np.arange(total)]).astype(np.float32)
    heard = np.zeros_like(sound)

    def write():
        at = 0
        while at < total:
            at += ring.write(sound[:, at : at + int(rng.integers(1, 300))])
            time.sleep(0)

    writer = threading.Thread(target=write)
    writer.start()
    at = 0
    while at < total:
        at += ring.read(heard[:, at : at + 130])
        time.sleep(0)
    writer.join()
    np.testing.assert_array_equal(heard, sound)


def test_a_full_ring_takes_no_more_and_loses_nothing():
    ring = Ring(1, 100)
    assert [ring.write(np.ones((1, 70), np.float32)) for _ in range(3)] == [70, 30, 0]
    out = np.zeros((1, 200), np.float32)
    assert (ring.read(out), out.sum()) == (100, 100.0)


# --- the last thing before the loudspeakers -----------------------------------------------------------------------


def guarded(sound, blocks=None):
    protector, parts, at = Guard(RATE), [], 0
    for n in blocks or [sound.shape[1]]:
        block = np.ascontiguousarray(sound[:, at : at + n])
        protector.pass_through(block)
        parts.append(block)
        at += n
    return np.concatenate(parts, axis=1)


def test_nothing_goes_out_above_its_ceiling():
    rng = np.random.default_rng(0)
    for gain in (1.0, 4.0, 1e3, 1e5):
        sound = (gain * rng.standard_normal((2, 20_000))).astype(np.float32)
        sound[:, 5000:5100] = 0.9e6  # as loud as something can be and still pass for a sound
        assert 20 * np.log10(np.abs(guarded(sound)).max()) <= -0.3


def test_what_is_soft_enough_passes_untouched_and_any_split_is_the_same():
    rng = np.random.default_rng(0)
    soft = rng.uniform(-0.7, 0.7, (2, 5000)).astype(np.float32)
    np.testing.assert_array_equal(guarded(soft), soft)
    loud = (2 * rng.standard_normal((2, 5000))).astype(np.float32)
    np.testing.assert_array_equal(guarded(loud, [1, 999, 3000, 1000]), guarded(loud))


def test_the_limiter_is_soft_and_lets_go():
    """A sine 6 dB over: a hard clip would put -22 dB of overtones on it; after it, levels are as before."""
    t = np.arange(RATE) / RATE
    sine = (2.0 * np.sin(2 * np.pi * 440 * t)).astype(np.float32)
    sine[RATE // 2 :] *= 0.05
    out = guarded(np.stack([sine, sine]))[0]
    spectrum = np.abs(np.fft.rfft(out[4800:14400] * np.hanning(9600)))
    overtones = np.sqrt(sum(spectrum[k * 88 - 3 : k * 88 + 4].max() ** 2 for k in (3, 5, 7, 9)))
    assert 20 * np.log10(overtones / spectrum[85:92].max()) < -35
    assert np.abs(out[-4800:]).max() == pytest.approx(0.1, rel=0.05)


def test_what_is_no_number_is_silent_and_told():
    block = np.full((2, 64), 0.1, np.float32)
    block[0, 3], block[1, 10], block[0, 20] = np.nan, np.inf, 1e30
    assert Guard(RATE).pass_through(block) == 3
    assert np.isfinite(block).all()
    assert np.flatnonzero(block[0] == 0).tolist() == np.flatnonzero(block[1] == 0).tolist() == [3, 10, 20]


# --- time ---------------------------------------------------------------------------------------------------------


def test_a_block_starts_when_it_does_and_not_when_its_callback_came():
    """Callbacks up to 2 ms late, the sound card 80 ppm off: starts are even to a twentieth of that, and keep up."""
    rng = np.random.default_rng(0)
    clock, period = BlockClock(RATE, 256), 256 / RATE * (1 + 80e-6)
    true = np.arange(4000) * period
    late = np.where(rng.random(4000) < 0.1, rng.uniform(0, 2e-3, 4000), rng.uniform(0, 1e-4, 4000))
    starts = np.array([clock.start(t, 256) for t in true + late])
    error = (starts - true)[1000:]
    assert error.std() < 1e-4
    assert abs(error.mean() - late.mean()) < 1e-4


def test_a_clock_that_stood_still_starts_again():
    clock = BlockClock(RATE, 256)
    for k in range(300):
        clock.start(k * 256 / RATE, 256)
    assert clock.start(100.0, 256) == 100.0


def test_stamps_of_a_driver_outlast_a_busy_interpreter():
    """Messages that arrive up to 3 ms late are put where the driver says, to a quarter of a millisecond."""
    rng = np.random.default_rng(0)
    clock, at, errors = StampClock(), 5.0, []
    for k in range(400):
        delta = float(rng.uniform(0.001, 0.1))
        at += delta
        arrived = at + 2e-4 + (float(rng.uniform(0, 3e-3)) if k % 3 else 0.0)
        errors.append(clock.time(0.0 if k == 0 else delta, arrived) - at)
    assert np.abs(np.array(errors[20:]) - 2e-4).max() < 2.5e-4


def test_messages_are_late_by_one_block_and_by_nothing_else():
    rng = np.random.default_rng(0)
    inbox, n = Inbox(), 128
    at = np.sort(rng.uniform(0, 1, 300))
    heard, k = [], 0
    for block in range(1, 380):
        start = block * n / RATE
        while k < len(at) and at[k] < start:
            inbox.put(float(at[k]), NOTE)
            k += 1
        heard += [block * n + frame for frame, _ in inbox.take(start, n, RATE)]
    assert len(heard) == 300
    late = np.array(heard) - at * RATE
    assert n - 1 < late.min() < late.max() <= n


def test_a_message_that_comes_late_is_played_at_once_and_a_later_one_waits():
    inbox = Inbox()
    inbox.put(0.5, NOTE)
    inbox.put(1.2, LATER)
    assert inbox.take(1.0, 64, RATE) == [(0, NOTE)]
    assert inbox.take(1.2005, 64, RATE) == [(40, LATER)]


# --- the tape -----------------------------------------------------------------------------------------------------


def test_a_tape_holds_what_it_heard(tmp_path):
    sound = np.random.default_rng(0).uniform(-1, 1, (2, 30_001)).astype(np.float32)
    with Tape(tmp_path / "a.wav", RATE) as tape:
        for at in range(0, 30_001, 128):
            tape.hear(sound[:, at : at + 128])
    back, rate = soundfile.read(tmp_path / "a.wav", dtype="float64")
    assert (rate, tape.lost, tape.frames) == (RATE, 0, 30_001)
    np.testing.assert_allclose(back.T, sound, rtol=0, atol=0.51 / 2**23)


RECORDS = """
import sys, time, numpy as np
from soundloom.tape import Tape
with Tape(sys.argv[1], 48000) as tape:
    for k in range(10 ** 6):
        tape.hear(np.full((2, 480), 0.25, np.float32))
        time.sleep(0.01)
"""


def test_a_kill_leaves_a_file_that_plays(tmp_path):
    path = tmp_path / "a.wav"
    process = subprocess.Popen([sys.executable, "-c", RECORDS, str(path)])
    assert until(lambda: path.exists() and path.stat().st_size > 48000)
    process.kill()
    process.wait()
    sound, _ = soundfile.read(path)
    assert len(sound) > 4800
    assert path.stat().st_size - 80 - 6 * len(sound) < 6 * 48000  # at most what came since it was last written
    np.testing.assert_allclose(sound, 0.25, atol=1e-6)


def test_what_is_longer_than_a_wav_can_say_is_an_rf64(tmp_path):
    frames = 800_000_000  # 4.8 GB, of which nothing is written
    with open(tmp_path / "a.wav", "wb") as file:
        file.write(header(frames, RATE))
        file.truncate(80 + 6 * frames)
    info = soundfile.info(tmp_path / "a.wav")
    assert (info.frames, info.format) == (frames, "RF64")


def record(path):
    with Tape(path, RATE) as tape:
        for _ in range(60):
            tape.hear(np.full((2, 480), 0.1, np.float32))
            time.sleep(0.01)


def test_a_disk_that_fills_up_is_told_and_what_was_played_is_kept(tmp_path):
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, before[1]))  # no file of this process gets longer
    try:
        with pytest.raises(StorageError, match="File too large"):
            record(tmp_path / "a.wav")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert len(soundfile.read(tmp_path / "a.wav")[0]) > 4000
    with pytest.raises(AudioError, match=r"is \.wav"):
        Tape(tmp_path / "a.flac", RATE)
    with pytest.raises(StorageError, match="choose another"):
        Tape(tmp_path / "none" / "a.wav", RATE)


# --- rates --------------------------------------------------------------------------------------------------------


def resampled(sound, source, target, sizes=None):
    resampler, at, parts = Resampler(source, target), 0, []
    for n in sizes or [len(sound)]:
        parts.append(resampler.process(sound[at : at + n]))
        at += n
    return np.concatenate(parts), resampler.latency_s


def tone(hz, rate):
    return np.sin(2 * np.pi * hz * np.arange(rate) / rate).astype(np.float32)


@pytest.mark.parametrize(("source", "target"), [(48000, 44100), (44100, 48000), (48000, 16000), (16000, 48000)])
def test_a_stream_at_another_rate_is_the_same_sound_a_little_later(source, target):
    for hz in (60, 997, 0.84 * min(source, target) / 2):
        out, late_s = resampled(tone(hz, source), source, target)
        assert len(out) == target
        assert late_s < 0.0025
        wanted = np.sin(2 * np.pi * hz * (np.arange(target) / target - late_s))
        error = (out - wanted)[target // 10 :]
        assert 20 * np.log10(np.sqrt(np.mean(error**2) / 0.5)) < -75


def test_what_a_lower_rate_cannot_hold_is_taken_out():
    for hz in (24_000, 30_000, 40_000):
        out, _ = resampled(tone(hz, 96000), 96000, 44100)
        assert 20 * np.log10(np.sqrt(np.mean(out[4000:-4000] ** 2) / 0.5)) < -85


def test_any_split_of_a_stream_is_resampled_alike():
    sound = np.random.default_rng(0).standard_normal(5000).astype(np.float32)
    whole, _ = resampled(sound, 48000, 44100)
    other, _ = resampled(sound, 48000, 44100, [1] * 50 + [128] * 30 + [1000, 110])
    np.testing.assert_array_equal(other, whole)
