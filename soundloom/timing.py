"""When things happened: callbacks that come with jitter, and MIDI messages between them, on an even grid of samples."""

import math

FAST_HZ, SLOW_HZ = 1.0, 0.2  # how quickly the clock follows: at its start, and later
STEADY = 200  # callbacks after which it is slow
CREEP = 1e-4  # seconds a second by which one clock may gain on another
LOST_S = 0.05  # a stamp that is so far off says nothing


class BlockClock:
    """When each block starts, by a delay-locked loop over the times at which its callback came.

    Callbacks are late now and then, by as much as the system likes; blocks are not. (Adriaensen, "Using a DLL to
    filter time", 2005.)
    """

    def __init__(self, sample_rate: int, block: int) -> None:
        self.period = self._usual = block / sample_rate
        self._block = block
        self._next: float | None = None
        self._seen = 0

    def start(self, now: float, n: int) -> float:
        """The start in seconds of the block of n samples whose callback came at `now`."""
        if self._next is None or abs(now - self._next) > 4 * self.period + LOST_S:  # the first, or after a gap
            self._next, self._seen = now, 0
        omega = 2 * math.pi * self.period * (FAST_HZ if self._seen < STEADY else SLOW_HZ)
        error = now - self._next
        start = self._next
        self._next += math.sqrt(2) * omega * error + n / self._block * self.period
        self.period = min(max(self.period + omega * omega * error, 0.9 * self._usual), 1.1 * self._usual)
        self._seen += 1
        return start

    def lost(self) -> None:
        """A block was lost: those to come are later by no one knows how much."""
        self._next = None


class StampClock:
    """A driver's own stamps, which do not jitter, in the seconds of this process: by the least time that any message
    took to arrive."""

    def __init__(self) -> None:
        self._stamp = 0.0
        self._offset = math.inf
        self._last = 0.0

    def time(self, delta: float, now: float) -> float:
        """When a message happened that the driver puts `delta` seconds after the one before, and that came at `now`."""
        self._stamp += delta
        offset = now - self._stamp
        if offset > self._offset + LOST_S:  # the driver's clock stood still: start again
            self._offset = offset
        self._offset = min(offset, self._offset + CREEP * (now - self._last))
        self._last = now
        return self._stamp + self._offset
