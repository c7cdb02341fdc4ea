"""What a user's folder may hold and what may happen to a scan: nothing is lost, every file has a row."""

import os
import random
import resource
import shutil
import signal
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import soundfile

from soundloom import journal, measuring
from soundloom.bank import SoundBank
from soundloom.errors import BankError, StorageError

RATE = 22050


def tone(hz: float, seconds: float = 0.3) -> np.ndarray:
    t = np.arange(round(seconds * RATE)) / RATE
    return (0.5 * np.exp(-6 * t) * np.sin(2 * np.pi * hz * t)).astype(np.float32)


def save(path: Path, x: np.ndarray, rate: int = RATE, subtype: str = "FLOAT") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, x, rate, subtype=subtype)
    return path


@pytest.fixture
def folder(tmp_path):
    for i in range(12):
        save(tmp_path / "in" / f"tone {i}.wav", tone(150 * 1.2**i))
    return tmp_path / "in"


@pytest.fixture
def anyone():
    """A folder that every user may enter, for tests that give up being root."""
    path = Path(tempfile.mkdtemp())
    path.chmod(0o777)
    yield path
    shutil.rmtree(path)


def in_child(action, *, user: bool = False) -> str:
    """What `action` returns, or the error it raises, in a process of its own, as nobody if `user`."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if user and os.geteuid() == 0:
                os.setgid(65534)
                os.setuid(65534)
            text = str(action())
        except BaseException as error:
            text = f"{type(error).__name__}: {error}"
        os.write(write, text.encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as file:
        text = file.read()
    os.waitpid(child, 0)
    return text


def test_every_kind_of_bad_file_has_a_row_and_its_reason(folder, tmp_path):
    x = tone(440)
    (folder / "text.wav").write_text("this is no sound " * 50)
    (folder / "zero.wav").write_bytes(b"")
    save(folder / "no samples.wav", x[:0])
    save(folder / "silence.wav", x * 0)
    save(folder / "nan.wav", np.where(np.arange(len(x)) == 99, np.nan, x).astype(np.float32))
    save(folder / "infinite.wav", np.where(np.arange(len(x)) == 99, np.inf, x).astype(np.float32))
    whole = save(folder / "truncated.wav", x, subtype="PCM_16").read_bytes()
    (folder / "truncated.wav").write_bytes(whole[: len(whole) // 2])
    whole = save(
        folder / "truncated.flac", np.random.default_rng(0).normal(0, 0.1, RATE), subtype="PCM_16"
    ).read_bytes()
    (folder / "truncated.flac").write_bytes(whole[: len(whole) // 2])
    (folder / "loop").symlink_to(folder)
    (folder / "itself.wav").symlink_to(folder / "itself.wav")
    (folder / "gone.wav").symlink_to(folder / "nowhere.wav")
    os.mkfifo(folder / "pipe.wav")
    (folder / "._tone.wav").write_bytes(b"\0\5\26\7" * 20)
    (folder / "notes.txt").write_text("not looked at")

    bank = SoundBank.scan(folder, tmp_path / "bank")
    reasons = dict(bank.left_out)
    assert len(bank) == 12
    assert {name: words in reasons[name] for name, words in {
        "text.wav": "not recognised",
        "zero.wav": "0 bytes",
        "no samples.wav": "too short: 0 samples",
        "silence.wav": "silent",
        "nan.wav": "1 of 6615 samples are NaN or infinite",
        "infinite.wav": "1 of 6615",
        "truncated.wav": "truncated",
        "truncated.flac": "breaks off",
        "loop/": "a link to a folder that is scanned already",
        "itself.wav": "symbolic links",
        "gone.wav": "No such file",
        "pipe.wav": "not a regular file",
        "._tone.wav": "hidden",
    }.items()} == dict.fromkeys(reasons, True)  # fmt: skip
    page = bank.report().read_text()
    assert all(name.replace("'", "&#x27;") in page for name in reasons)


def test_odd_names_channels_and_rates_are_kept(tmp_path):
    names = ["a b.wav", 'it\'s "quoted".wav', "🥁 kick.wav", "two\nlines.wav", "ümläut/ß.wav", "x" * 200 + ".wav"]
    for i, name in enumerate(names):
        save(tmp_path / "in" / name, tone(300 + 50 * i))
    seven = np.stack([tone(700) * gain for gain in (1, 0.5, 0, 0, 0, 0, 0)], axis=1)
    save(tmp_path / "in" / "seven.wav", seven, RATE)
    fast = np.sin(2 * np.pi * 1000 * np.arange(19200) / 192000).astype(np.float32)
    save(tmp_path / "in" / "fast.wav", fast, 192000)
    bank = SoundBank.scan(tmp_path / "in", tmp_path / "bank")
    assert set(bank.column("path")) == {*names, "seven.wav", "fast.wav"}
    assert bank.sample_rate == 44100
    row = {path: i for i, path in enumerate(bank.column("path"))}
    assert bank.column("channels")[row["seven.wav"]] == 7
    assert bank.column("sample_rate")[row["fast.wav"]] == 192000
    # A mean of seven channels: 1.5 / 7 of the first one's peak.
    assert bank.column("gain_db")[row["seven.wav"]] == pytest.approx(
        20 * np.log10(np.abs(tone(700)).max() * 1.5 / 7), abs=0.3
    )
    heard = bank.audio(row["fast.wav"]).samples[0]
    peak_hz = np.argmax(np.abs(np.fft.rfft(heard * np.hanning(len(heard)), 44100)))
    assert peak_hz == pytest.approx(1000, abs=3)


@pytest.mark.skipif(os.name != "posix", reason="bytes in names are a matter of POSIX")
def test_a_name_that_is_no_text_is_kept(tmp_path):
    source = save(tmp_path / "in" / "a.wav", tone(300))
    os.rename(source, os.fsencode(source.parent) + b"/caf\xe9.wav")
    bank = SoundBank.scan(tmp_path / "in", tmp_path / "bank")
    assert list(bank.column("path")) == ["caf\\xe9.wav"]


def test_one_file_makes_a_bank(tmp_path):
    save(tmp_path / "in" / "only.wav", tone(440))
    assert list(SoundBank.scan(tmp_path / "in", tmp_path / "bank").column("split")) == ["train"]
    assert len(SoundBank.scan(tmp_path / "in" / "only.wav", tmp_path / "other")) == 1


def test_permissions(anyone):
    for name in ("good.wav", "secret.wav", "closed/inside.wav"):
        save(anyone / "in" / name, tone(440 if name == "good.wav" else 600))
    (anyone / "in" / "secret.wav").chmod(0)
    (anyone / "in" / "closed").chmod(0)
    shown = in_child(lambda: SoundBank.scan(anyone / "in", anyone / "bank").left_out, user=True)
    (anyone / "in" / "closed").chmod(0o755)
    assert "'secret.wav', \"cannot read 'secret.wav': Permission denied\"" in shown
    assert "'closed/', 'the folder cannot be read: Permission denied'" in shown


def test_a_read_only_output_folder_is_refused(anyone):
    save(anyone / "in" / "a.wav", tone(440))
    (anyone / "out").mkdir(mode=0o555)
    shown = in_child(lambda: SoundBank.scan(anyone / "in", anyone / "out"), user=True)
    assert shown.startswith("StorageError: cannot write into")
    assert list((anyone / "out").iterdir()) == []


@pytest.mark.parametrize("limit", [4096, 30_000, 150_000])
def test_a_full_disk_is_refused_and_loses_nothing(folder, tmp_path, limit):
    def scan():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))  # the error of a full disk, EFBIG
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        return SoundBank.scan(folder, tmp_path / "bank")

    shown = in_child(scan)
    assert shown.startswith("StorageError: cannot write")
    assert len(SoundBank.scan(folder, tmp_path / "bank")) == 12


def test_refusals_say_what_to_do(tmp_path, folder):
    with pytest.raises(BankError, match="does not exist"):
        SoundBank.scan(tmp_path / "nowhere", tmp_path / "bank")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BankError, match=r"no audio files in .*looked for .*\.wav"):
        SoundBank.scan(tmp_path / "empty", tmp_path / "bank")
    (tmp_path / "empty" / "a.wav").write_text("text")
    with pytest.raises(BankError, match=r"no readable audio in .*a\.wav.*not recognised"):
        SoundBank.scan(tmp_path / "empty", tmp_path / "bank")
    save(tmp_path / "silent" / "a.wav", tone(440) * 0)
    with pytest.raises(BankError, match=r"no usable audio in .*a\.wav: silent"):
        SoundBank.scan(tmp_path / "silent", tmp_path / "bank")
    with pytest.raises(BankError, match="is not a bank"):
        SoundBank.load(tmp_path / "empty")


def test_a_failed_scan_leaves_the_bank_as_it_was(tmp_path, folder):
    before = SoundBank.scan(folder, tmp_path / "bank")
    (tmp_path / "empty").mkdir()
    save(tmp_path / "silent" / "a.wav", tone(440) * 0)
    for other in ("empty", "silent"):
        with pytest.raises(BankError):
            SoundBank.scan(tmp_path / other, tmp_path / "bank")
    after = SoundBank.load(tmp_path / "bank")
    assert list(after.column("hash")) == list(before.column("hash"))
    np.testing.assert_array_equal(after.audio(3).samples, before.audio(3).samples)


def test_damaged_banks_are_refused(tmp_path, folder):
    whole = tmp_path / "bank"
    SoundBank.scan(folder, whole)

    def damaged(name: str, data: bytes) -> Path:
        copy = tmp_path / f"copy{len(list(tmp_path.iterdir()))}"
        shutil.copytree(whole, copy)
        (copy / name).write_bytes(data)
        return copy

    text = (whole / "bank.json").read_bytes()
    for name, data, words in [
        ("bank.json", text.replace(b'"version": 1', b'"version": 7'), "version 7, this Soundloom reads 1: scan again"),
        ("bank.json", b"{", "cannot be read"),
        ("bank.json", text.replace(b'"labels"', b'"lobsters"'), "lacks labels"),
        ("bank.parquet", (whole / "bank.parquet").read_bytes()[:500], "damaged"),
        ("audio.i16", (whole / "audio.i16").read_bytes()[:-2], "bytes of the"),
        ("tracks.f32", b"", "has 0 bytes"),
    ]:
        copy = damaged(name, data)
        with pytest.raises(BankError, match=words):
            SoundBank.load(copy)
        assert len(SoundBank.scan(folder, copy)) == 12  # and a new scan mends it


def table(folder: Path) -> list[dict]:
    """The rows, apart from where in the files the audio happens to be."""
    rows = pyarrow.parquet.read_table(folder / "bank.parquet").to_pylist()
    return [{k: v for k, v in row.items() if k not in ("offset", "track_offset")} for row in rows]


def test_killed_at_any_moment_a_scan_goes_on(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(journal, "SAVE_EVERY_S", 0.0)
    (folder / "bad.wav").write_text("text")
    clicks = np.concatenate([np.concatenate([tone(200 + 30 * i, 1.0), np.zeros(RATE)]) for i in range(15)])
    save(folder / "session.wav", clicks.astype(np.float32))
    expected = SoundBank.scan(folder, tmp_path / "expected")
    rng = random.Random(0)
    for _ in range(12):
        child = os.fork()
        if child == 0:
            SoundBank.scan(folder, tmp_path / "bank")
            os._exit(0)
        time.sleep(rng.uniform(0.0, 0.6))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    bank = SoundBank.scan(folder, tmp_path / "bank")
    assert table(tmp_path / "bank") == table(tmp_path / "expected")
    for clip in range(len(expected)):
        np.testing.assert_array_equal(bank.audio(clip).samples, expected.audio(clip).samples)
        np.testing.assert_array_equal(bank.f0(clip), expected.f0(clip))


def test_what_was_read_before_a_kill_is_not_read_again(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(journal, "SAVE_EVERY_S", 0.0)
    monkeypatch.setattr("soundloom.scanning._PENDING", 2)
    real, read = measuring.clips, []

    def interrupted(found, *args, **kwargs):
        if len(read) == 8:
            raise KeyboardInterrupt
        read.append(found.name)
        return real(found, *args, **kwargs)

    monkeypatch.setattr(measuring, "clips", interrupted)
    with pytest.raises(KeyboardInterrupt):
        SoundBank.scan(folder, tmp_path / "bank")
    first, read[:] = list(read), []
    assert len(SoundBank.scan(folder, tmp_path / "bank")) == 12
    assert len(set(first) & set(read)) <= 2  # those that waited to be measured
    assert set(first) | set(read) == {path.name for path in folder.iterdir()}


def test_two_scans_do_not_write_one_bank(folder, tmp_path):
    with (
        journal.open_journal(Path(tmp_path), sample_rate=RATE, channels=1),
        pytest.raises(BankError, match="another scan is writing"),
    ):
        SoundBank.scan(folder, tmp_path)


def test_storage_error_is_no_lost_bank(folder, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="choose another folder"):
        SoundBank.scan(folder, tmp_path / "file")
