"""Sounds go to disk and come back as they were, at any rate, depth and channel count; what is no sound is refused."""

import os
import resource
import signal

import numpy as np
import pytest
import scipy.signal
import soundfile

from soundloom import audio
from soundloom.audio import Waveform
from soundloom.errors import AudioError, StorageError

RATE = 48000  # one that Opus takes


def music(seconds: float = 2.0, channels: int = 2) -> Waveform:
    """Noise below 2 kHz: every codec keeps its wave form."""
    x = np.random.default_rng(0).standard_normal((channels, round(seconds * RATE)))
    low = scipy.signal.sosfilt(scipy.signal.butter(4, 2000, fs=RATE, output="sos"), x)
    return Waveform((0.3 * low / np.abs(low).max()).astype(np.float32), RATE)


def snr_db(wanted: np.ndarray, got: np.ndarray) -> float:
    n = min(wanted.shape[1], got.shape[1])
    error = np.sum((got[:, :n] - wanted[:, :n]) ** 2) + 1e-30
    return 10 * np.log10(np.sum(wanted[:, :n] ** 2) / error)


@pytest.mark.parametrize(
    ("suffix", "least_db"),
    [("wav", 120), ("flac", 120), ("aiff", 120), ("ogg", 10), ("opus", 15), ("mp3", 15)],
)
def test_what_is_written_is_read_again(tmp_path, suffix, least_db):
    x, path = music(), tmp_path / f'it\'s\na "🥁".{suffix}'
    audio.write(path, x)
    found = audio.info(path)
    assert (found.sample_rate, found.channels) == (RATE, 2)
    assert found.seconds == pytest.approx(2, abs=0.1)
    back = audio.read(path)
    assert snr_db(x.samples, back.samples) > least_db  # and so without delay
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW"])
def test_any_depth_is_read(tmp_path, subtype):
    x = music(0.2, 1)
    audio.write(tmp_path / "a.wav", x, subtype=subtype)
    assert snr_db(x.samples, audio.read(tmp_path / "a.wav").samples) > (20 if subtype in ("PCM_U8", "ULAW") else 70)


@pytest.mark.parametrize(("rate", "channels"), [(192000, 1), (8000, 7), (44100, 32), (11025, 2)])
def test_any_rate_and_channel_count_is_read(tmp_path, rate, channels):
    x = Waveform(np.tile(np.linspace(-0.5, 0.5, 2000, dtype=np.float32), (channels, 1)), rate)
    audio.write(tmp_path / "a.wav", x, subtype="FLOAT")
    back = audio.read(tmp_path / "a.wav")
    assert (back.sample_rate, back.channels) == (rate, channels)
    np.testing.assert_array_equal(back.samples, x.samples)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_a_part_is_the_part_of_the_whole(tmp_path, suffix):
    audio.write(tmp_path / f"a.{suffix}", music())
    whole = audio.read(tmp_path / f"a.{suffix}").samples
    part = audio.read(tmp_path / f"a.{suffix}", start_s=0.5, seconds=0.25).samples
    assert part.shape[1] == RATE // 4
    assert snr_db(whole[:, RATE // 2 : RATE // 2 + RATE // 4], part) > 40
    pieces = list(audio.blocks(tmp_path / f"a.{suffix}", seconds=0.3))
    assert max(piece.samples.shape[1] for piece in pieces) <= round(0.3 * RATE)
    np.testing.assert_array_equal(np.concatenate([piece.samples for piece in pieces], axis=1), whole)


def test_aac_is_read_with_the_extra(tmp_path):
    av = pytest.importorskip("av")
    x, path = music(), tmp_path / "a.m4a"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=RATE)
        stream.layout = "stereo"
        frame = av.AudioFrame.from_ndarray(x.samples, format="fltp", layout="stereo")
        frame.rate = RATE
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    back = audio.read(path)
    assert (back.channels, audio.info(path).sample_rate) == (2, RATE)
    assert audio.info(path).seconds == pytest.approx(2, abs=0.1)
    lag = np.argmax(np.correlate(back.samples[0, :8000], x.samples[0, :4000], "valid"))
    assert snr_db(x.samples[:, : RATE // 2], back.samples[:, lag : lag + RATE // 2]) > 15
    part = audio.read(path, start_s=0.5, seconds=0.25).samples
    np.testing.assert_array_equal(part, back.samples[:, RATE // 2 : RATE // 2 + RATE // 4])
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(AudioError, match=r"'a\.m4a'"):
        audio.read(path)


def test_without_the_extra_aac_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    (tmp_path / "a.m4a").write_bytes(b"x" * 100)
    with pytest.raises(AudioError, match=r"pip install 'soundloom\[aac\]'"):
        audio.read(tmp_path / "a.m4a")


def test_resampling_keeps_pitch_level_and_place():
    t = np.arange(48000) / 48000
    click = np.exp(-(((t - 0.5) / 0.001) ** 2)) * np.cos(2 * np.pi * 1000 * (t - 0.5))
    x = Waveform((0.5 * click).astype(np.float32)[None], 48000)
    for rate in (8000, 22050, 44100, 96000):
        y = audio.resample(x, rate)
        assert (y.sample_rate, y.samples.shape[1]) == (rate, rate)
        assert np.argmax(y.samples[0]) == pytest.approx(rate / 2, abs=1)
        assert y.samples.max() == pytest.approx(0.5, rel=0.02)
    tone = Waveform(np.sin(2 * np.pi * 15000 * t).astype(np.float32)[None], 48000)
    assert np.abs(audio.resample(tone, 16000).samples[0, 1000:-1000]).max() < 1e-4  # nothing folds
    assert audio.resample(x, 48000) is x


def test_a_long_vorbis_file_is_written(tmp_path):
    x = Waveform(np.random.default_rng(0).uniform(-0.1, 0.1, (1, 40 * 8000)).astype(np.float32), 8000)
    audio.write(tmp_path / "long.ogg", x)
    assert audio.info(tmp_path / "long.ogg").frames == 40 * 8000


def test_a_waveform_is_channels_by_samples():
    assert Waveform(np.array([[1, 0], [0, 1]], np.float32), 2).mono().samples.tolist() == [[0.5, 0.5]]
    assert Waveform(np.zeros((1, 5), np.float32), 10).seconds == 0.5
    with pytest.raises(AudioError, match=r"float64 of shape \(5,\)"):
        Waveform(np.zeros(5), 10)
    with pytest.raises(AudioError, match="must be 1 or more"):
        Waveform(np.zeros((1, 5), np.float32), 0)


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.wav", b"hello " * 99, "not recognised"),
        ("b.wav", b"", "the file is empty"),
        ("c.raw", b"abc", "no header"),
        ("d.flac", b"fLaC", "cannot read"),
    ],
)
def test_what_is_no_sound_is_refused(tmp_path, name, data, words):
    (tmp_path / name).write_bytes(data)
    for function in (audio.read, audio.info):
        with pytest.raises(AudioError, match=words):
            function(tmp_path / name)


def test_what_is_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")
    for name, words in [("nowhere.wav", "No such file"), ("pipe.wav", "not a regular file"), ("", "regular file")]:
        with pytest.raises(AudioError, match=words):
            audio.read(tmp_path / name)


@pytest.mark.parametrize("suffix", ["wav", "aiff", "flac", "mp3"])
def test_a_truncated_file_says_how_much_is_there(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    audio.write(path, Waveform(np.random.default_rng(0).uniform(-0.5, 0.5, (1, RATE)).astype(np.float32), RATE))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(AudioError, match=r"truncated|breaks off"):
        audio.read(path)


def test_a_stream_of_unknown_length_is_not_truncated(tmp_path):
    path = tmp_path / "piped.wav"
    soundfile.write(path, np.zeros(1000, np.float32), 8000, subtype="PCM_16")
    data = bytearray(path.read_bytes())
    at = data.index(b"data") + 4
    data[at : at + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(data)
    assert audio.read(path).samples.shape[1] == 1000


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_not_written(tmp_path, bad):
    with pytest.raises(AudioError, match="NaN or infinite"):
        audio.write(tmp_path / "a.wav", Waveform(np.array([[0, bad]], np.float32), 8000))
    assert list(tmp_path.iterdir()) == []


def test_formats_that_cannot_be_written_are_refused(tmp_path):
    x = Waveform(np.zeros((1, 100), np.float32), 44101)
    for name, more, words in [
        ("a.xyz", {}, r"'\.xyz' is none of \.wav"),
        ("a.opus", {}, "48000 is usual"),
        ("a.wav", {"subtype": "PCM_12"}, "PCM_12"),
    ]:
        with pytest.raises(AudioError, match=words):
            audio.write(tmp_path / name, x, **more)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg"])
def test_a_full_disk_leaves_the_old_file(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    audio.write(path, music(0.1))
    before = path.read_bytes()
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, resource.RLIM_INFINITY))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        try:
            audio.write(path, music(20))
        except StorageError:
            os._exit(3)
        except BaseException:
            os._exit(4)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
