"""Damaged copies of a file, for tests that damage must not hurt."""

from collections.abc import Iterator

import numpy as np


def mutations(whole: bytes, *, count: int, seed: int) -> Iterator[bytes]:
    """`count` copies with bits flipped, bytes replaced, a piece cut out, doubled or moved, or numbers made extreme."""
    rng = np.random.default_rng(seed)
    extremes = [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\x01\0\0\0"]
    for i in range(count):
        data = bytearray(whole)
        for _ in range(int(rng.integers(1, 4))):
            at = int(rng.integers(0, max(len(data), 1)))
            length = int(rng.integers(1, 40))
            way = (i + int(rng.integers(0, 2))) % 6
            if way == 0:
                for place in rng.integers(0, len(data), 4):
                    data[place] ^= 1 << int(rng.integers(0, 8))
            elif way == 1:
                data[at : at + length] = rng.bytes(length)
            elif way == 2:
                del data[at : at + length]
            elif way == 3:
                data[at:at] = data[at : at + length] if rng.random() < 0.5 else rng.bytes(length)
            elif way == 4:
                other = int(rng.integers(0, len(data)))
                piece = data[at : at + length]
                data[at : at + length] = data[other : other + length]
                data[other : other + length] = piece
            else:
                at &= ~1
                data[at : at + 4] = extremes[int(rng.integers(0, len(extremes)))]
            if not data:
                break
        yield bytes(data)
