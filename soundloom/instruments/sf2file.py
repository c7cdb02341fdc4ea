"""The tables and the samples of a SoundFont 2 file, checked before anything believes them (SoundFont 2.04, 1999)."""

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from soundloom.audio import Waveform
from soundloom.errors import InstrumentError
from soundloom.riff import Bytes, Chunk, chunks, listed

# The nine tables: their records, and the fields that count on through the next table (and must not fall).
_TABLES: dict[str, Any] = {
    "phdr": [("name", "S20"), ("program", "<u2"), ("bank", "<u2"), ("bag", "<u2"), ("unused", "V12")],
    "pbag": [("generator", "<u2"), ("modulator", "<u2")],
    "pmod": [("record", "V10")],
    "pgen": [("kind", "<u2"), ("amount", "<i2")],
    "inst": [("name", "S20"), ("bag", "<u2")],
    "ibag": [("generator", "<u2"), ("modulator", "<u2")],
    "imod": [("record", "V10")],
    "igen": [("kind", "<u2"), ("amount", "<i2")],
    "shdr": [
        *[("name", "S20"), ("start", "<u4"), ("end", "<u4"), ("loop_start", "<u4"), ("loop_end", "<u4")],
        *[("rate", "<u4"), ("pitch", "u1"), ("correction", "i1"), ("link", "<u2"), ("type", "<u2")],
    ],
}
_NEXT = (
    ("phdr", "bag", "pbag"),
    ("pbag", "generator", "pgen"),
    ("pbag", "modulator", "pmod"),
    ("inst", "bag", "ibag"),
    ("ibag", "generator", "igen"),
    ("ibag", "modulator", "imod"),
)
ROM = 0x8000  # of a sample's type: it lies in the chip of a sound card
SLOWEST_HZ, FASTEST_HZ = 400, 400_000


@dataclass(frozen=True, eq=False)
class Font:
    """The tables as record arrays, by their names in the file; the samples stay on disk until they are asked for."""

    path: Path
    tables: dict[str, NDArray[Any]]
    data: Bytes
    samples: Chunk
    low_bytes: Chunk | None

    @classmethod
    def read(cls, path: Path) -> "Font":
        """`InstrumentError` where the file is none, is cut short, or its tables contradict each other."""
        what = f"'{path.name}'"
        try:
            with open(path, "rb") as file:
                data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        except (OSError, ValueError) as error:  # ValueError: the file is empty
            raise InstrumentError(f"cannot read {what}: {getattr(error, 'strerror', None) or error}") from None
        whole = listed(data, "sfbk", what=what)
        lists: dict[str, dict[str, Chunk]] = {}
        for chunk in chunks(data, whole.start, whole.end, what=what):
            if chunk.name == "LIST" and chunk.size >= 4:
                kind = bytes(data[chunk.start : chunk.start + 4]).decode("latin-1")
                inner = chunks(data, chunk.start + 4, chunk.end, what=f"{what}, list {kind!r},")
                lists.setdefault(kind, {part.name: part for part in inner})
        if "pdta" not in lists or "smpl" not in lists.get("sdta", {}):
            raise InstrumentError(
                f"{what} has no tables of presets, or no samples: it is no SoundFont that can be played"
            )
        samples = lists["sdta"]["smpl"]
        low = lists["sdta"].get("sm24")
        low = low if low and low.size >= samples.size // 2 else None
        return cls(path, _tables(data, lists["pdta"], what), data, samples, low)

    def waveform(self, sample: int) -> Waveform:
        """A sample, mono. `InstrumentError` where its header points outside of the samples."""
        header = self.tables["shdr"][sample]
        start, end, rate = int(header["start"]), int(header["end"]), int(header["rate"])
        if not start < end <= self.samples.size // 2:
            there = f"goes from {start} to {end}, of {self.samples.size // 2} that are there"
            raise InstrumentError(f"'{self.path.name}' is broken: sample {sample} {there}")
        if not SLOWEST_HZ <= rate <= FASTEST_HZ:
            raise InstrumentError(f"'{self.path.name}' is broken: sample {sample} has a rate of {rate} Hz")
        at = self.samples.start
        high = np.frombuffer(self.data, "<i2", end - start, at + 2 * start).astype(np.float32)
        if self.low_bytes is not None:
            high += np.frombuffer(self.data, np.uint8, end - start, self.low_bytes.start + start) / np.float32(256)
        return Waveform((high / np.float32(32768))[None], rate)


def _tables(data: Bytes, parts: dict[str, Chunk], what: str) -> dict[str, NDArray[Any]]:
    tables: dict[str, NDArray[Any]] = {}
    for name, fields in _TABLES.items():
        record = np.dtype(fields)
        part = parts.get(name)
        if part is None or part.size % record.itemsize or (part.size == 0 and name not in ("pmod", "imod")):
            size = "is missing" if part is None else f"has {part.size} bytes, no multiple of {record.itemsize}"
            raise InstrumentError(f"{what} is broken: its table {name} {size}")
        tables[name] = np.frombuffer(data, record, part.size // record.itemsize, part.start)
    for name, field, other in _NEXT:
        places = tables[name][field].astype(np.int64)
        last = int(places[-1])
        # Some programs leave the tables of modulators empty where there are none.
        if (np.diff(places) < 0).any() or (last > len(tables[other]) and field != "modulator"):
            raise InstrumentError(f"{what} is broken: its table {name} does not fit its table {other}")
    return tables


def text(name: bytes) -> str:
    """A name of twenty letters, which end at the first zero."""
    return name.partition(b"\0")[0].decode("latin-1").strip()


def low_high(amount: int) -> tuple[int, int]:
    """A range of keys or velocities, which is kept in one number."""
    low, high = struct.unpack("<BB", struct.pack("<h", amount))
    return low, high
