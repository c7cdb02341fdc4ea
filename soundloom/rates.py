"""A stream at another sample rate, at once: thirty samples late, where convolution in blocks waits for a block."""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

HALF = 32  # zero crossings of the filter on each side
BETA = 9.0  # of the Kaiser window: what the filter takes out is 90 dB down
EDGE = 0.93  # of the lower half rate: the middle of the slope, which ends at the half rate


class Resampler:
    """Passes on one channel as it comes, in any blocks; all splits give the same. `latency_s` is the filter's delay.

    >>> down = Resampler(48000, 24000)
    >>> sum(len(down.process(np.ones(n, np.float32))) for n in (100, 1, 99))
    100
    """

    def __init__(self, source: int, target: int) -> None:
        self.source, self.target = source, target
        common = math.gcd(source, target)
        self._step, self._phases = source // common, target // common  # an output is step / phases of an input further
        scale = min(1.0, target / source)  # a filter for the lower rate is longer at the higher one
        reach = math.ceil(HALF / scale)
        self.latency_s = 0.0 if source == target else (reach - 1) / source
        taps = np.arange(2 * reach)[None, :] - reach - np.arange(self._phases)[:, None] / self._phases
        inside = np.sqrt(np.maximum(1 - (taps / reach) ** 2, 0))
        window = np.where(np.abs(taps) <= reach, np.i0(BETA * inside) / np.i0(BETA), 0)
        weights = EDGE * scale * np.sinc(EDGE * scale * taps) * window  # [phases, taps]
        self._weights = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
        self._past = np.zeros(2 * reach - 1, np.float32)
        self._position = 0  # of the next output, in 1 / phases of an input, from the first one that has not come yet

    def process(self, block: NDArray[np.float32]) -> NDArray[np.float32]:
        """The next samples [n] -> those [m] that follow from them."""
        if self.source == self.target:
            return block
        inputs = np.concatenate([self._past, block])
        m = max(-(-(len(block) * self._phases - self._position) // self._step), 0)
        out = np.empty(m, np.float32)
        _convolve(inputs, self._weights, self._position, self._step, out)
        self._position += m * self._step - len(block) * self._phases
        self._past = inputs[len(block) :]
        return out


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _convolve(inputs, weights, position, step, out):  # type: ignore[no-untyped-def]
    """Each output is a row of weights, chosen by where it lies between two inputs, times the inputs around it."""
    phases, taps = weights.shape
    for k in range(len(out)):
        at = position + k * step
        start, row = at // phases, weights[at % phases]
        total = np.float32(0.0)
        for i in range(taps):
            total += row[i] * inputs[start + i]
        out[k] = total
