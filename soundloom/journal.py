"""Writing a bank so that a kill at any moment loses seconds: audio and tracks grow, a journal says what is whole."""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from soundloom import table
from soundloom.errors import BankError, StorageError
from soundloom.paths import sole_writer

Row = dict[str, Any]
SAVE_EVERY_S = 5.0
_NAME = "scan.journal"


@dataclass
class Journal:
    """The growing files of a bank. `known` are the rows of files that were read before, by (path, size, mtime_ns).

    Rows are saved every few seconds: first the audio and the tracks are flushed to disk, then the rows that speak of
    them are appended. What a kill cuts off after the last saved row is overwritten by the next scan.
    """

    folder: Path
    sample_rate: int
    channels: int
    audio_name: str
    tracks_name: str
    known: dict[tuple[str, int, int], list[Row]]
    partial: dict[tuple[str, int, int], list[Row]]
    _audio: IO[bytes]
    _tracks: IO[bytes]
    _file: IO[str]
    _unsaved: list[str] = field(default_factory=list)
    _saved_at: float = field(default_factory=time.monotonic)

    def add(self, row: Row, audio: NDArray[np.int16], track: NDArray[np.float32]) -> None:
        """Appends a clip, audio [C, T] and track [2, N], and its row, completed by where they are."""
        row["offset"], row["frames"] = self._audio.tell() // 2, audio.shape[1]
        row["track_offset"], row["track_frames"] = self._tracks.tell() // 4, track.shape[1]
        self._audio.write(audio.tobytes())
        self._tracks.write(track.astype(np.float32).tobytes())
        self.note(row)

    def note(self, row: Row) -> None:
        """A row without audio of its own: a left-out file, or a clip that is there already under another name."""
        self._unsaved.append(json.dumps(row))
        if time.monotonic() - self._saved_at > SAVE_EVERY_S:
            self.save()

    def done(self, key: tuple[str, int, int]) -> None:
        """All rows of a file have been added."""
        self._unsaved.append(json.dumps({"done": key}))

    def save(self) -> None:
        for file in (self._audio, self._tracks):
            file.flush()
            os.fsync(file.fileno())
        self._file.write("".join(line + "\n" for line in self._unsaved))
        self._file.flush()
        self._unsaved.clear()
        self._saved_at = time.monotonic()

    def remove(self) -> None:
        """The table now says it all. Audio of other names, from before the rate or channels changed, goes too."""
        (self.folder / _NAME).unlink()
        for other in (*self.folder.glob("audio*.i16"), *self.folder.glob("tracks*.f32")):
            if other.name not in (self.audio_name, self.tracks_name):
                other.unlink()


@contextmanager
def open_journal(folder: Path, *, sample_rate: int, channels: int) -> Iterator[Journal]:
    """The journal of a bank folder, with what earlier scans, finished or not, have left in it."""
    header = {"version": table.VERSION, "sample_rate": sample_rate, "channels": channels}
    refusal = BankError(f"another scan is writing {folder}: wait for it, or choose another folder")
    with _writing(folder), sole_writer(folder, refusal=refusal):
        facts, rows = _finished(folder)
        names = (facts["audio"], facts["tracks"]) if facts else ("audio.i16", "tracks.f32")
        same = {key: facts.get(key) for key in header} == header
        if not same:
            rows = []
            if facts:  # the old bank stays whole until the new one is
                names = ("audio-2.i16", "tracks-2.f32") if names[0] == "audio.i16" else ("audio.i16", "tracks.f32")
        full_header = {**header, "names": list(names)}
        whole, begun = _replayed(folder / _NAME, full_header)
        known: dict[tuple[str, int, int], list[Row]] = {}
        for row in rows:
            known.setdefault((row["path"], row["file_size"], row["file_mtime_ns"]), []).append(row)
        known.update(whole)
        every = [row for part in (*known.values(), *begun.values()) for row in part if row.get("frames")]
        ends = (
            max((row["offset"] + channels * row["frames"] for row in every), default=0) * 2,
            max((row["track_offset"] + 2 * row["track_frames"] for row in every), default=0) * 4,
        )
        audio, tracks = (_at_end(folder / name, end) for name, end in zip(names, ends, strict=True))
        fresh = not whole and not begun
        with audio, tracks, open(folder / _NAME, "w" if fresh else "a", encoding="utf-8") as file:
            if fresh:
                file.write(json.dumps(full_header) + "\n")
            else:
                file.write("\n")  # a line that a kill cut off ends here
            journal = Journal(folder, sample_rate, channels, names[0], names[1], known, begun, audio, tracks, file)
            try:
                yield journal
            except KeyboardInterrupt:
                journal.save()
                raise


def _finished(folder: Path) -> tuple[dict[str, Any], list[Row]]:
    """What the last finished scan left, if it can be used."""
    try:
        facts, columns = table.load(folder)
    except BankError:
        return {}, []
    names = list(columns)
    texts = {name for name in names if columns[name].dtype == object}
    rows: list[Row] = []
    for values in zip(*(columns[name].tolist() for name in names), strict=True):
        row = dict(zip(names, values, strict=True))
        row = {k: v if k in texts or v == v else None for k, v in row.items()}
        row["fingerprint"] = row["fingerprint"].hex() if row["fingerprint"] else None
        if row["frames"]:
            row["reason"] = None  # it was left out by a correction, which may be gone by now
        rows.append(row)
    return facts, rows


def _replayed(
    path: Path, header: dict[str, Any]
) -> tuple[dict[tuple[str, int, int], list[Row]], dict[tuple[str, int, int], list[Row]]]:
    """The files that an interrupted scan has read: whole ones, and those it was in the middle of."""
    whole: dict[tuple[str, int, int], list[Row]] = {}
    begun: dict[tuple[str, int, int], list[Row]] = {}
    try:
        lines = path.read_text("utf-8").splitlines()
    except OSError:
        return whole, begun
    for i, line in enumerate(lines):
        try:
            entry = json.loads(line)
        except ValueError:
            continue  # the line during which the scan was killed
        if i == 0 and entry != header:
            return {}, {}
        if "done" in entry:
            name, size, mtime_ns = entry["done"]
            key = (name, size, mtime_ns)
            whole[key] = begun.pop(key, [])
        elif "path" in entry:
            begun.setdefault((entry["path"], entry["file_size"], entry["file_mtime_ns"]), []).append(entry)
    return whole, begun


def _at_end(path: Path, end: int) -> IO[bytes]:
    """A file open for writing after its first `end` bytes; those that follow were never spoken of."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    os.ftruncate(descriptor, end)
    file = os.fdopen(descriptor, "wb")
    file.seek(end)
    return file


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"cannot write into {folder}: {error.strerror or error}; free some space or choose another folder, "
            "what was scanned so far is kept"
        ) from None
