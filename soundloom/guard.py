"""The last thing before the loudspeakers: nothing louder than -0.3 dB goes out, and nothing that is no number."""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

CEILING_DB, KNEE_DB = -0.3, -3.0
ATTACK_S, RELEASE_S = 0.001, 0.15
BROKEN = 1e6  # beyond this a sample is no sound but a filter that ran away


class Guard:
    """Turns down what goes over -3 dB, in a millisecond, and rounds off what is faster than that. What is below passes
    as it is, and nothing is delayed. Once `ending` is set, the next block falls to silence, which is kept."""

    def __init__(self, sample_rate: int) -> None:
        self.state = np.ones(1)  # the gain
        self.ending = self._over = False
        self.ceiling = 10 ** (CEILING_DB / 20) * (1 - 1e-6)  # so much less that no rounding brings it over
        self.knee = 10 ** (KNEE_DB / 20)
        self.attack = 1 - math.exp(-1 / (ATTACK_S * sample_rate))
        self.release = 1 - math.exp(-1 / (RELEASE_S * sample_rate))

    def pass_through(self, block: NDArray[np.float32]) -> int:
        """Changes [2, n] in place, and says how many frames of it were no sound (and are silent now)."""
        broken = int(_guard(block, self.state, self.knee, self.ceiling, self.attack, self.release))
        if self._over:
            block[:] = 0.0
        elif self.ending:
            block *= np.linspace(1, 0, block.shape[1], dtype=np.float32)
            self._over = True
        return broken


@njit(cache=True)
def _guard(block, state, knee, ceiling, attack, release):  # type: ignore[no-untyped-def]
    gain = state[0]
    room = ceiling - knee
    broken = 0
    for j in range(block.shape[1]):
        peak = max(abs(block[0, j]), abs(block[1, j]))
        if not (abs(block[0, j]) < BROKEN and abs(block[1, j]) < BROKEN):  # no comparison with NaN is true
            block[0, j] = block[1, j] = 0.0
            broken += 1
            continue
        allowed = 1.0 if peak <= knee else knee / peak
        gain += (allowed - gain) * (attack if allowed < gain else release)
        if gain > 1.0 - 1e-9:
            gain = 1.0
        for c in range(2):
            y = gain * block[c, j]
            if abs(y) > knee:
                y = math.copysign(knee + room * math.tanh((abs(y) - knee) / room), y)
            block[c, j] = y
    state[0] = gain
    return broken
