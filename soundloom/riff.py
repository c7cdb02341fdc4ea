"""Chunks of RIFF files (WAV, SoundFont, some MIDI): found without trusting what they say of their sizes."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from soundloom.errors import InstrumentError

Bytes = bytes | memoryview
MOST_CHUNKS = 4096  # in one list


@dataclass(frozen=True)
class Chunk:
    """`name` of four letters, and where its content lies: `start` to `end`, always within the file."""

    name: str
    start: int
    end: int

    @property
    def size(self) -> int:
        return self.end - self.start


def chunks(data: Bytes, start: int, end: int, *, what: str) -> Iterator[Chunk]:
    """The chunks between two places. `InstrumentError` where one says that it is longer than what there is.

    What is left after the last whole header (a byte of padding, say) is no chunk.
    """
    count = 0
    while start + 8 <= end:
        name, size = struct.unpack_from("<4sI", data, start)
        text = bytes(name).decode("latin-1")
        if size > end - start - 8:
            raise InstrumentError(
                f"{what} is broken: its chunk {text!r} says it has {size} bytes, {end - start - 8} are left"
            )
        count += 1
        if count > MOST_CHUNKS:
            raise InstrumentError(f"{what} is broken: it has more than {MOST_CHUNKS} chunks in one list")
        yield Chunk(text, start + 8, start + 8 + size)
        start += 8 + size + size % 2


def listed(data: Bytes, form: str, *, what: str) -> Chunk:
    """The content of a whole RIFF file of a form ("sfbk", "WAVE"), after the form's name."""
    if len(data) < 12 or bytes(data[:4]) != b"RIFF" or bytes(data[8:12]) != form.encode("latin-1"):
        raise InstrumentError(f"{what} is no {form} file: it does not begin as one")
    size = struct.unpack_from("<I", data, 4)[0]
    if size + 8 > len(data):
        raise InstrumentError(f"{what} is cut short: it says it has {size + 8} bytes, {len(data)} are there")
    return Chunk(form, 12, 8 + size)


def wav_loop(data: Bytes) -> tuple[int, int] | None:
    """The first loop that a WAV file holds (frames, the end not included), if it is one and holds one."""
    try:
        whole = listed(data, "WAVE", what="a WAV file")
        for chunk in chunks(data, whole.start, whole.end, what="a WAV file"):
            if chunk.name == "smpl" and chunk.size >= 60 and struct.unpack_from("<I", data, chunk.start + 28)[0]:
                start, end = struct.unpack_from("<II", data, chunk.start + 44)
                return (start, end + 1) if start < end else None
    except InstrumentError:  # what is wrong with it, `audio` says when it reads the sound
        pass
    return None
