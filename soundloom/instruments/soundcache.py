"""Made sounds, kept: on disk for the next time, within a size limit, and ready in memory for the next note.

A file holds one sound and the checksum of its samples. Several processes may read, write and clear at once: files
appear whole or not at all, one that is gone or damaged is made again, and a folder that cannot be written is let be.
"""

import hashlib
import json
import os
import struct
import time
import zlib
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import soundloom
from soundloom.errors import StorageError
from soundloom.instruments.asks import Ask
from soundloom.paths import home, make_folder, replacing

LIMIT = 1 << 30  # bytes on disk
MEMORY = 1 << 28  # bytes in memory, of an instrument
KEPT = 0.9  # of the limit are left when it is passed, so that not every sound that is added sends for a broom
LOOKS = 32  # while so manyth parts of the limit are written, nobody looks how much there is
HEAD = struct.Struct("<8sIIQ")  # what it is, sample rate, checksum, samples
MAGIC = b"SLsound1"
STALE_S = 3600.0  # a half-written file of a killed process is cleared away after this
NEAR = 7.0  # semitones: further off, a sound read faster or slower is no longer the instrument


def sounds_folder() -> Path:
    return home() / "sounds"


class SoundCache:
    """Sounds by what was asked of which model: `owner` is the model's fingerprint.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     cache = SoundCache(Path(folder), owner="0a1b2c")
    ...     print(cache.get(Ask(60.0)))
    ...     cache.put(Ask(60.0), np.ones(3, np.float32), 8000)
    ...     print(cache.get(Ask(60.0)))
    None
    (array([1., 1., 1.], dtype=float32), 8000)
    """

    def __init__(self, folder: Path, *, owner: str, limit: int = LIMIT) -> None:
        self.folder, self.owner, self.limit = folder, owner, limit
        self.trouble = ""  # why sounds are no longer kept on disk
        self._unseen = limit  # bytes written since somebody looked; none looked yet

    def get(self, ask: Ask) -> tuple[NDArray[np.float32], int] | None:
        """A sound [T] and its sample rate; None: it is not there, or no longer as it was written."""
        path = self._path(ask)
        try:
            content = path.read_bytes()
            magic, rate, checksum, samples = HEAD.unpack_from(content)
        except (OSError, struct.error):
            return None
        data = content[HEAD.size :]
        if magic != MAGIC or len(data) != 4 * samples or zlib.crc32(data) != checksum:
            with suppress(OSError):
                path.unlink()
            return None
        with suppress(OSError):
            os.utime(path)  # what was used last is cleared away last
        return np.frombuffer(bytearray(data), "<f4").astype(np.float32, copy=False), rate

    def put(self, ask: Ask, sound: NDArray[np.float32], sample_rate: int) -> None:
        """Keeps a sound [T]. Where the disk is full or may not be written, `trouble` says so and nothing is kept."""
        if self.trouble:
            return
        data = np.ascontiguousarray(sound, "<f4").tobytes()
        if HEAD.size + len(data) > self.limit:
            return
        path = self._path(ask)
        try:
            if not path.parent.is_dir():
                make_folder(path.parent)
            with replacing(path) as part:
                part.write_bytes(HEAD.pack(MAGIC, sample_rate, zlib.crc32(data), len(sound)) + data)
            self._unseen += HEAD.size + len(data)
            if self._unseen * LOOKS >= self.limit:
                clear(self.folder, limit=self.limit)
                self._unseen = 0
        except (StorageError, OSError) as error:
            self.trouble = str(error)

    def _path(self, ask: Ask) -> Path:
        wish: Mapping[str, Any] = {"ask": ask.document(), "soundloom": soundloom.__version__}
        name = hashlib.sha256(json.dumps(wish, sort_keys=True).encode()).hexdigest()[:32]
        return self.folder / self.owner / f"{name}.sound"


def clear(folder: Path, *, limit: int) -> None:
    """Removes the sounds that were not used for longest, until what is left keeps well within the limit."""
    found, now = [], time.time()
    for path in folder.glob("*/*"):
        with suppress(OSError):  # another process clears too
            facts = path.stat()
            if path.suffix == ".part" and now - facts.st_mtime > STALE_S:
                path.unlink()
            elif path.suffix == ".sound":
                found.append((facts.st_mtime_ns, facts.st_size, path))
    total = sum(size for _, size, _ in found)
    if total <= limit * (1 - 1 / LOOKS):
        return
    for _, size, path in sorted(found):
        if total <= limit * KEPT:
            break
        with suppress(OSError):
            path.unlink()
            total -= size


class Shelf:
    """Sounds in memory, as `playhead.read` takes them: those used last, within so many bytes."""

    def __init__(self, memory: int = MEMORY) -> None:
        self.memory, self.size = memory, 0
        self._sounds: OrderedDict[Ask, NDArray[np.float32]] = OrderedDict()
        self._pitches: dict[Ask, dict[float, Ask]] = {}  # by all else that was asked

    def __contains__(self, ask: Ask) -> bool:
        return ask in self._sounds

    def get(self, ask: Ask) -> NDArray[np.float32] | None:
        sound = self._sounds.get(ask)
        if sound is not None:
            self._sounds.move_to_end(ask)
        return sound

    def put(self, ask: Ask, sound: NDArray[np.float32]) -> None:
        if ask in self._sounds:
            return
        self._sounds[ask] = sound
        self._pitches.setdefault(ask.at(0.0), {})[ask.pitch] = ask
        self.size += sound.nbytes
        while self.size > self.memory and len(self._sounds) > 1:
            oldest, gone = self._sounds.popitem(last=False)
            self.size -= gone.nbytes
            timbre = oldest.at(0.0)
            del self._pitches[timbre][oldest.pitch]
            if not self._pitches[timbre]:
                del self._pitches[timbre]

    def nearest(self, ask: Ask) -> Ask | None:
        """The sound nearest in pitch of those that are like it in all else, `NEAR` semitones off at most."""
        pitches = self._pitches.get(ask.at(0.0), {})
        pitch = min(pitches, key=lambda pitch: abs(pitch - ask.pitch), default=None)
        return pitches[pitch] if pitch is not None and abs(pitch - ask.pitch) <= NEAR else None
