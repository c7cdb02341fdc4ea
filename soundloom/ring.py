"""Sound on its way from one thread to another, neither of which ever waits for the other."""

import numpy as np
from numpy.typing import NDArray


class Ring:
    """Room for `frames` of sound. One thread writes, one reads: each moves only its own counter, so that no lock is
    needed and an audio callback can be either of them.

    >>> ring = Ring(1, 4)
    >>> ring.write(np.ones((1, 3), np.float32)), ring.write(np.ones((1, 3), np.float32))
    (3, 1)
    >>> ring.read(np.zeros((1, 8), np.float32)), ring.ready
    (4, 0)
    """

    def __init__(self, channels: int, frames: int) -> None:
        self.samples = np.zeros((channels, frames), np.float32)
        self.written = self.taken = 0  # frames in all

    @property
    def ready(self) -> int:
        """How many frames can be read now."""
        return self.written - self.taken

    def write(self, block: NDArray[np.float32]) -> int:
        """Takes in as much of [C, n] as there is room for, and says how much that was."""
        size = self.samples.shape[1]
        n = min(int(block.shape[1]), size - self.ready)
        at = self.written % size
        first = min(n, size - at)
        self.samples[:, at : at + first] = block[:, :first]
        self.samples[:, : n - first] = block[:, first:n]
        self.written += n  # last: what is counted is there
        return n

    def read(self, out: NDArray[np.float32]) -> int:
        """Fills [C, n] from its beginning with as much as is ready, and says how much that was."""
        size = self.samples.shape[1]
        n = min(int(out.shape[1]), self.ready)
        at = self.taken % size
        first = min(n, size - at)
        out[:, :first] = self.samples[:, at : at + first]
        out[:, first:n] = self.samples[:, : n - first]
        self.taken += n
        return n
