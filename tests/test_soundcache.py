"""Made sounds on disk: as they were, or not at all; within the limit; whoever else writes there."""

import multiprocessing
import os
import time
from pathlib import Path

import numpy as np
import pytest
from tiny import ordinary_user, small_disk

from soundloom.instruments import soundcache
from soundloom.instruments.asks import Ask
from soundloom.instruments.soundcache import HEAD, Shelf, SoundCache, clear

RATE = 8000


def sound(seed, samples=1000):
    return np.random.default_rng(seed).standard_normal(samples).astype(np.float32)


def files(folder):
    return sorted(Path(folder).rglob("*.sound"))


def test_a_sound_comes_back_as_it_was(tmp_path):
    cache = SoundCache(tmp_path, owner="a")
    ask = Ask(60.25, velocity=0.4, label="kick", descriptors=(("brightness", 0.5),), place=(0.1, -2.0), guidance=2.0)
    assert cache.get(ask) is None
    cache.put(ask, sound(1), RATE)
    found, rate = SoundCache(tmp_path, owner="a").get(Ask.of(ask.document()))
    assert rate == RATE
    np.testing.assert_array_equal(found, sound(1))
    assert found.flags.writeable
    assert SoundCache(tmp_path, owner="b").get(ask) is None, "another model's"
    for other in (ask.at(60.26), Ask(60.25), Ask.of(ask.document() | {"seed": 1})):
        assert cache.get(other) is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:10],
        lambda data: data[:-1],
        lambda data: data + b"x",
        lambda data: b"RIFF" + data[4:],
        lambda data: data[: HEAD.size + 100] + bytes([data[HEAD.size + 100] ^ 1]) + data[HEAD.size + 101 :],
        lambda data: data[:16] + b"\xff" * 8 + data[24:],
    ],
    ids=["empty", "head", "cut", "longer", "foreign", "a bit", "boasting"],
)
def test_a_damaged_file_is_as_none_and_is_written_anew(tmp_path, damage):
    cache = SoundCache(tmp_path, owner="a")
    cache.put(Ask(60.0), sound(1), RATE)
    (path,) = files(tmp_path)
    path.write_bytes(damage(path.read_bytes()))
    assert cache.get(Ask(60.0)) is None
    cache.put(Ask(60.0), sound(1), RATE)
    np.testing.assert_array_equal(cache.get(Ask(60.0))[0], sound(1))


def test_the_limit_is_kept_and_what_was_used_last_stays(tmp_path):
    size = HEAD.size + 4 * 1000
    cache = SoundCache(tmp_path, owner="a", limit=20 * size)
    for number in range(100):
        cache.put(Ask(float(number)), sound(number), RATE)
        os.utime(cache._path(Ask(float(number))), ns=(0, (number + 1) * 10**9))  # clocks are coarser than this loop
        if cache.get(Ask(0.0)) is not None:  # used again and again
            os.utime(cache._path(Ask(0.0)), ns=(0, 10**15))
        assert sum(path.stat().st_size for path in files(tmp_path)) <= 20 * size
    kept = [number for number in range(100) if cache.get(Ask(float(number))) is not None]
    assert kept[0] == 0
    assert kept[1:] == list(range(100 - len(kept) + 1, 100))
    assert len(kept) >= 17


def test_what_is_larger_than_the_limit_is_not_kept(tmp_path):
    cache = SoundCache(tmp_path, owner="a", limit=1000)
    cache.put(Ask(), sound(0), RATE)
    assert files(tmp_path) == []
    assert cache.trouble == ""


def test_half_written_files_of_killed_processes_are_cleared_away(tmp_path):
    (tmp_path / "a").mkdir()
    old, new = tmp_path / "a" / ".x.sound.1.part", tmp_path / "a" / ".y.sound.2.part"
    for part in (old, new):
        part.write_bytes(b"half")
    os.utime(old, (0, 0))
    clear(tmp_path, limit=1 << 20)
    assert not old.exists()
    assert new.exists(), "somebody is writing it"


def writes(folder, seed, found):
    """What one of several processes does: uses what is there, makes what is not."""
    cache, rng = SoundCache(folder, owner="a", limit=100_000), np.random.default_rng(seed)
    count = 0
    for _ in range(300):
        number = int(rng.integers(0, 60))
        kept = cache.get(Ask(float(number)))
        if kept is None:
            cache.put(Ask(float(number)), np.full(1000, number, np.float32), RATE)
            continue
        assert (kept[0] == number).all()
        assert kept[1] == RATE
        count += 1
    assert not cache.trouble
    found.put(count)


def test_processes_share_it_while_all_of_them_write_and_clear(tmp_path):
    """Sixty sounds of which a third fit: they are made, used and cleared away by three at once."""
    context = multiprocessing.get_context("fork")
    found = context.SimpleQueue()
    writers = [context.Process(target=writes, args=(tmp_path, seed, found)) for seed in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    assert all(found.get() > 20 for _ in writers)
    clear(tmp_path, limit=100_000)
    assert sum(path.stat().st_size for path in files(tmp_path)) <= 100_000
    assert list(tmp_path.rglob("*.part")) == []


def test_a_full_disk_is_told_once_and_sounds_are_no_longer_kept(tmp_path):
    with small_disk(tmp_path / "disk", kilobytes=40) as folder:
        cache = SoundCache(folder, owner="a")
        for number in range(20):
            cache.put(Ask(float(number)), sound(number), RATE)
        assert "free some space" in cache.trouble
        kept = [number for number in range(20) if cache.get(Ask(float(number))) is not None]
        assert 1 <= len(kept) < 12
        assert list(folder.rglob("*.part")) == []


def test_a_folder_that_may_only_be_read_still_gives(tmp_path):
    cache = SoundCache(tmp_path / "sounds", owner="a")
    cache.put(Ask(1.0), sound(1), RATE)
    with ordinary_user(tmp_path / "sounds"):
        np.testing.assert_array_equal(cache.get(Ask(1.0))[0], sound(1))
        cache.put(Ask(2.0), sound(2), RATE)
        assert "cannot write" in cache.trouble
        assert cache.get(Ask(2.0)) is None


def test_a_file_where_the_folder_should_be(tmp_path):
    (tmp_path / "sounds").write_text("mine")
    cache = SoundCache(tmp_path / "sounds", owner="a")
    assert cache.get(Ask()) is None
    cache.put(Ask(), sound(0), RATE)
    assert cache.trouble


def test_clearing_takes_its_time_from_nobody(tmp_path, monkeypatch):
    """Hundreds of sounds are added with some thirty looks at how many there are."""
    cache = SoundCache(tmp_path, owner="a", limit=320 * (HEAD.size + 40))
    looks = []
    monkeypatch.setattr(soundcache, "clear", lambda folder, limit: looks.append(folder))
    for number in range(320):
        cache.put(Ask(float(number)), sound(number, 10), RATE)
    assert 20 <= len(looks) <= 40


def test_a_shelf_holds_what_was_used_last():
    shelf = Shelf(memory=10 * 4000)
    for number in range(15):
        shelf.put(Ask(float(number)), sound(number))
        shelf.get(Ask(0.0))
    kept = [number for number in range(15) if Ask(float(number)) in shelf]
    assert kept == [0, *range(6, 15)]
    assert shelf.size == 10 * 4000
    shelf.put(Ask(14.0), sound(14))
    assert shelf.size == 10 * 4000, "the same sound again"


def test_the_nearest_sound_is_the_same_in_all_but_pitch():
    shelf = Shelf()
    for pitch, label in ((48.0, "a"), (60.0, "a"), (62.0, "b")):
        shelf.put(Ask(pitch, label=label), sound(0))
    assert shelf.nearest(Ask(61.5, label="a")) == Ask(60.0, label="a")
    assert shelf.nearest(Ask(53.0, label="a")) == Ask(48.0, label="a")
    assert shelf.nearest(Ask(67.1, label="a")) is None, "more than 7 semitones"
    assert shelf.nearest(Ask(60.0, label="c")) is None
    assert shelf.nearest(Ask(60.0, label="b", seed=1)) is None


def test_a_file_is_used_when_it_is_read(tmp_path):
    cache = SoundCache(tmp_path, owner="a")
    cache.put(Ask(), sound(0), RATE)
    (path,) = files(tmp_path)
    os.utime(path, (0, 0))
    cache.get(Ask())
    assert time.time() - path.stat().st_mtime < 60
