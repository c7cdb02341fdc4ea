"""Whether a model makes sounds or repeats them: how near new sounds come to those it was trained on.

A training sound played back has every virtue but one. So new sounds are held against real ones that the model never
heard: those too lie near some training sound, and sounds that lie nearer still were not made but kept.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import mannwhitneyu

from soundloom.diversity import distances, kmeans

Array = NDArray[np.floating]

FEWEST = 20  # of each set
SURE = 3.0  # standard errors of a region, on average over regions
NEAR = 0.05  # of the held-out sounds are nearer to one training sound than what is called near
NEXT = 5  # th nearest training sound: near is said against its distance, so that typical sounds are no copies
MANY = 0.25  # of the new sounds may be near before they are called copies: five times what unseen sounds are

Verdict = Literal["copies", "closer than unseen sounds", "no sign of copying"]


@dataclass(frozen=True)
class Copying:
    """What the nearest training sounds say.

    `nearest` [N]: for each new sound, the index of its nearest training sound, `distance` [N] away. `near`: the share
    of new sounds that are as near to that one, against their fifth nearest, as the nearest 5 % of held-out ones: a
    sound among many that are alike is near to all of them, a copy to one. `z`: how much nearer new sounds are than
    held-out ones in the same region, in standard errors of a region, negative is nearer (C_T of Meehan 2020: the mean
    over regions, which by chance stays the nearer to 0 the more there are); `p_value`: the chance
    of so many near ones if the model did not copy (Mann-Whitney, one-sided). The medians are of the distances to the
    nearest training sound; `median_train` is from training sounds to others of their own.
    """

    nearest: NDArray[np.int64]
    distance: NDArray[np.float64]
    near: float
    z: float
    p_value: float
    median: float
    median_held_out: float
    median_train: float
    verdict: Verdict


def nearest_sounds(points: Array, train: Array) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Of each point [N, D] the nearest training sound's index and distance, both [N]. train [M, D]."""
    apart = distances(points, train)
    return apart.argmin(1), apart.min(1)


def copying(made: Array, train: Array, held_out: Array, *, generator: np.random.Generator) -> Copying:
    """The memorisation test. made [N, D], train [M, D], held_out [K, D]: at least `FEWEST` of each.

    >>> points = np.random.default_rng(0).normal(size=(120, 4))
    >>> copying(points[:40], points[:80], points[80:], generator=np.random.default_rng(0)).verdict
    'copies'
    """
    nearest, distance = nearest_sounds(made, train)
    _, unseen = nearest_sounds(held_out, train)
    own = distances(train, train)
    np.fill_diagonal(own, np.inf)
    near = float((_singled_out(made, train) <= np.quantile(_singled_out(held_out, train), NEAR)).mean())
    z = _by_region(made, train, held_out, distance, unseen, generator)
    verdict: Verdict = "closer than unseen sounds" if z < -SURE else "no sign of copying"
    if near > MANY:  # whatever the others are: z is a mean, and would let a third of copies pass
        verdict = "copies"
    return Copying(
        nearest=nearest,
        distance=distance,
        near=near,
        z=z,
        p_value=float(mannwhitneyu(distance, unseen, alternative="less").pvalue),
        median=float(np.median(distance)),
        median_held_out=float(np.median(unseen)),
        median_train=float(np.median(own.min(1))),
        verdict=verdict,
    )


def _singled_out(points: Array, train: Array) -> Array:
    """How near each point [N, D] is to its nearest training sound against its `NEXT` nearest: 0 a copy, 1 none, [N]."""
    apart = np.sort(distances(points, train), axis=1)
    return np.asarray(apart[:, 0] / np.maximum(apart[:, NEXT - 1], 1e-9))


def _by_region(
    made: Array, train: Array, held_out: Array, distance: Array, unseen: Array, generator: np.random.Generator
) -> float:
    """The z of Mann-Whitney's U in each k-means cell of the training sounds, averaged with the held-out sounds' shares:
    a region where everything lies close together is compared with itself only. One cell per 20 held-out sounds."""
    centres = kmeans(train, max(1, len(held_out) // FEWEST), generator=generator)
    of_made, of_unseen = (distances(points, centres).argmin(1) for points in (made, held_out))
    total, weight = 0.0, 0
    for cell in range(len(centres)):
        mine, theirs = distance[of_made == cell], unseen[of_unseen == cell]
        if len(mine) >= 2 and len(theirs) >= 2:
            total += len(theirs) * _z(mine, theirs)
            weight += len(theirs)
    return total / weight if weight else _z(distance, unseen)


def _z(mine: Array, theirs: Array) -> float:
    """How far Mann-Whitney's U is below (-) what it is for two samples of one distribution, in standard deviations."""
    n, m = len(mine), len(theirs)
    larger = (mine[:, None] > theirs).sum() + 0.5 * (mine[:, None] == theirs).sum()
    return float((larger - n * m / 2) / np.sqrt(n * m * (n + m + 1) / 12))
