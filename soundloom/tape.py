"""What is played, written to a file as it goes: a crash, a pulled plug or a full disk leaves a file that plays."""

import struct
import threading
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from soundloom.errors import AudioError, StorageError
from soundloom.ring import Ring

BUFFER_S = 4.0  # what the disk may fall behind
PAUSE_S = 0.1  # between two looks at what there is to write
HEADER = 80  # bytes before the first sample
CHANNELS, BYTES = 2, 3  # of a frame, and of a sample: 24 bits
WIDTH = CHANNELS * BYTES
LARGEST = (1 << 32) - 1  # bytes that a WAV file can say of itself; beyond, it becomes an RF64


class Tape:
    """A stereo WAV file of what it hears, 24 bits. `hear` is for an audio callback: it copies, and never waits.

    The file is written by a thread of its own ten times a second, and is whole after each time. Beyond 4 GiB it
    becomes an RF64, for which room is left in its header. `lost` counts frames for which the disk was too slow.

    Raises:
        AudioError: the file's name does not end in .wav.
        StorageError: it cannot be written; on leaving the block, if that happened on the way.
    """

    def __init__(self, path: Path | str, sample_rate: int) -> None:
        self.path, self.sample_rate = Path(path), sample_rate
        if self.path.suffix.lower() != ".wav":
            raise AudioError(f"cannot record into '{self.path.name}': what is written as it is played is .wav")
        self.frames = self.lost = 0
        self._ring = Ring(CHANNELS, round(BUFFER_S * sample_rate))
        self._over = threading.Event()
        self._trouble: OSError | None = None
        try:
            self._file: BinaryIO = open(self.path, "wb")  # noqa: SIM115  (open as long as the tape runs)
            self._file.write(header(0, sample_rate))
            self._file.flush()
        except OSError as error:
            raise self._refusal(error) from None
        self._thread = threading.Thread(target=self._run, name="tape", daemon=True)

    def __enter__(self) -> "Tape":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        self._file.close()
        if self._trouble is not None and error is None:
            raise self._refusal(self._trouble)

    def hear(self, block: NDArray[np.float32]) -> None:
        """The next samples [2, n]."""
        self.lost += block.shape[1] - self._ring.write(block)

    def _run(self) -> None:
        while not self._over.wait(PAUSE_S) and self._trouble is None:
            self._write()
        if self._trouble is None:
            self._write()

    def _write(self) -> None:
        block = np.zeros((CHANNELS, self._ring.ready), np.float32)
        self._ring.read(block)
        try:
            self._file.write(packed(block))
            self.frames += block.shape[1]
            end = self._file.tell()
            self._file.seek(0)
            self._file.write(header(self.frames, self.sample_rate))
            self._file.seek(end)
            self._file.flush()
        except OSError as error:
            self._trouble = error

    def _refusal(self, error: OSError) -> StorageError:
        return StorageError(f"cannot record into {self.path}: {error.strerror or error}; choose another with --record")


def packed(block: NDArray[np.float32]) -> bytes:
    """Samples [2, n] as 24-bit numbers, frame by frame."""
    scaled = np.clip(np.rint(block.T * 2.0**23), -(2**23), 2**23 - 1)
    return np.ascontiguousarray(scaled, "<i4")[..., None].view(np.uint8)[..., :BYTES].tobytes()


def header(frames: int, sample_rate: int) -> bytes:
    """What stands before the samples of a WAV file, or of an RF64 (EBU Tech 3306) where a WAV cannot be as long."""
    size = frames * WIDTH
    total = HEADER - 8 + size
    shape = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, CHANNELS, sample_rate, sample_rate * WIDTH, WIDTH, 8 * BYTES)
    if total <= LARGEST:
        room = struct.pack("<4sI28x", b"JUNK", 28)
        return struct.pack("<4sI4s", b"RIFF", total, b"WAVE") + room + shape + struct.pack("<4sI", b"data", size)
    long = struct.pack("<4sIQQQI", b"ds64", 28, total, size, frames, 0)
    return struct.pack("<4sI4s", b"RF64", LARGEST, b"WAVE") + long + shape + struct.pack("<4sI", b"data", LARGEST)
