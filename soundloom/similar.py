"""Which sounds are most like another: nearest neighbours among what an ear has heard."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from soundloom.errors import BankError, ConfigError

Floats = NDArray[np.float32]
LEAST = 3  # sounds: of fewer it means nothing that two are alike


def placed(embedding: Floats) -> NDArray[np.bool_]:
    """Which of embeddings [N, E] are the place of a sound, [N]: NaN is none, and zero is that of silence."""
    return np.array([bool(np.isfinite(row).all() and np.any(row)) for row in embedding], dtype=bool)


@dataclass(frozen=True, eq=False)
class Space:
    """Embeddings made comparable: every dimension with mean 0 and deviation 1 over the sounds of a bank, so that none
    speaks louder than the others. `points` is [N, E]; N sounds of which `mean` and `scale` [E] were taken."""

    points: Floats
    mean: Floats
    scale: Floats

    @classmethod
    def of(cls, embedding: Floats) -> "Space":
        """The space of embeddings [N, E], all finite."""
        mean, spread = embedding.mean(axis=0), embedding.std(axis=0)
        # A dimension that hardly moves in this bank holds rounding, not sound.
        scale = np.maximum(spread, 1e-3 * max(float(spread.max(initial=0.0)), 1e-9))
        return cls(((embedding - mean) / scale).astype(np.float32), mean, scale.astype(np.float32))

    def place(self, embedding: Floats) -> Floats:
        """Another sound's embedding [..., E] in this space."""
        placed: Floats = ((embedding - self.mean) / self.scale).astype(np.float32)
        return placed


def similar_to(embedding: Floats, bank: Floats, clips: Sequence[int], *, count: int) -> list[tuple[int, float]]:
    """The clips of a bank, of those given, that are most like the sound of an embedding [E], with their likeness.

    `bank` [N, E] holds the embedding of every clip. `BankError` where fewer than three of them have a place, or the
    sound itself has none.
    """
    if not placed(embedding[None]).all():
        raise BankError("the ear could not place this sound: try another one")
    known = placed(bank)
    if known.sum() < LEAST:
        raise BankError(f"the bank has {int(known.sum())} sounds that can be placed: to compare takes {LEAST} or more")
    space = Space.of(bank[known])
    chosen = [i for i in clips if known[i]]
    found = nearest(space.place(embedding), space.place(bank[chosen]), count=count)
    return [(chosen[i], likeness) for i, likeness in found]


def nearest(point: Floats, points: Floats, *, count: int) -> list[tuple[int, float]]:
    """The `count` rows of points [N, E] most like point [E], best first, with their likeness: the cosine of the angle
    between them, 1 for the same, about 0 for any two.

    >>> nearest(np.float32([1, 0]), np.float32([[0, 1], [2, 0], [1, 1]]), count=2)
    [(1, 1.0), (2, 0.7071)]
    """
    if count < 1:
        raise ConfigError(f"{count} sounds were asked for: ask for 1 or more, as in -n 10")
    length = np.linalg.norm(points, axis=1) * np.linalg.norm(point)
    likeness = (points @ point) / np.maximum(length, 1e-9)
    order = np.argsort(-likeness, kind="stable")[:count]
    return [(int(i), round(float(likeness[i]), 4)) for i in order]
