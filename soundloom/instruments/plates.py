"""What hats and cymbals ring with: the modes of beaten bronze, or the square waves of a drum machine, or both."""

import functools
import math

import numpy as np
from numpy.typing import NDArray

from soundloom.instruments.drumkernels import MODES
from soundloom.instruments.drumkit import SQUARES_HZ, Modes

Bank = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]  # hertz, levels, seconds to -60 dB


@functools.lru_cache(maxsize=256)
def bank(modes: Modes, metal: float) -> Bank:
    """Bronze and squares, as much of each as asked and as loud together; what rings longest comes first."""
    parts = [_bronze(modes)]
    if modes.squares_hz:
        weights = math.cos(math.pi / 2 * metal), math.sin(math.pi / 2 * metal)
        made = zip((_bronze(modes), _squares(modes)), weights, strict=True)
        parts = [(hz, weight * level, seconds) for (hz, level, seconds), weight in made if weight > 1e-3]
    hz, level, seconds = (np.concatenate(part) for part in zip(*parts, strict=True))
    order = np.argsort(-seconds, kind="stable")
    return hz[order], level[order], seconds[order]


def _bronze(modes: Modes) -> Bank:
    """Modes that lie closer the lower they are, and those that stand out."""
    rng = np.random.default_rng(modes.seed)
    place = (np.arange(modes.count) + rng.random(modes.count)) / modes.count
    hz = modes.low_hz + (modes.high_hz - modes.low_hz) * place**1.5
    level = 10 ** ((modes.db_per_octave * np.log2(hz / modes.low_hz) + 4 * rng.standard_normal(modes.count)) / 20)
    strong = np.array(modes.strong).reshape(-1, 2)
    loud = np.sqrt(0.5 * np.mean(level**2)) * strong[:, 1]
    hz = np.concatenate([strong[:, 0] * (1 - modes.split / 2), strong[:, 0] * (1 + modes.split / 2), hz])
    return hz, _leveled(np.concatenate([loud, loud, level]), modes), _decays(hz, modes)


def _squares(modes: Modes) -> Bank:
    """The odd harmonics of six square waves behind a high-pass, the strongest there is room for: nothing to alias."""
    harmonics, levels = [], []
    for base in SQUARES_HZ:
        k = np.arange(1, int(16000 / base) + 1, 2)
        cut = (k * base / modes.squares_hz) ** 4
        harmonics.append(k * base)
        levels.append(cut / (1 + cut) / k)
    hz, level = np.concatenate(harmonics), np.concatenate(levels)
    room = np.argsort(-level)[: MODES - modes.count - 2 * len(modes.strong)]
    return hz[room], _leveled(level[room], modes), _decays(hz[room], modes)


def _leveled(level: NDArray[np.float64], modes: Modes) -> NDArray[np.float64]:
    return np.asarray(level * modes.level / math.sqrt(float(np.sum(level**2)) / 2))


def _decays(hz: NDArray[np.float64], modes: Modes) -> NDArray[np.float64]:
    place = np.clip(np.log(hz / modes.low_hz) / math.log(modes.high_hz / modes.low_hz), -0.5, 1.5)
    first, last = modes.seconds
    return np.asarray(first * (last / first) ** place)
