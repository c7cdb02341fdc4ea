"""Quality and variety, told apart: whether sounds lie where real ones lie, and whether they reach all those places.

Sets are points [N, D] that an ear gives sounds, or chances [N, L] that a classifier gives each of L labels.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

Array = NDArray[np.floating]
Exact = NDArray[np.float64]
Indices = NDArray[np.int64]

NEIGHBOURS = 5
LEAST_CHANCE = 1e-6  # a classifier that is surer than one in a million is taken at that: it has not seen a million


@dataclass(frozen=True)
class Manifold:
    """How two sets overlap. `precision`: the share of made sounds that lie among real ones; `recall`: the share of real
    ones that lie among made ones; `density`: how deep among the real ones the made ones lie (1 is as real ones do, it
    may be more); `coverage`: the share of real sounds that have a made one next to them.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def manifold(real: Array, made: Array, *, neighbours: int = NEIGHBOURS) -> Manifold:
    """Precision and recall (Kynkäänniemi 2019), density and coverage (Naeem 2020), from balls around each point that
    reach to its `neighbours`-th neighbour in its own set. real [N, D], made [M, D], both of more than `neighbours`.

    >>> points = np.random.default_rng(0).normal(size=(40, 8))
    >>> manifold(points, points + 100.0)
    Manifold(precision=0.0, recall=0.0, density=0.0, coverage=0.0)
    """
    apart = distances(real, made)
    real_reach, made_reach = (_reach(points, neighbours) for points in (real, made))
    inside_real = apart < real_reach[:, None]  # [N, M]
    return Manifold(
        precision=float(inside_real.any(0).mean()),
        recall=float((apart < made_reach).any(1).mean()),
        density=float(inside_real.sum(0).mean() / neighbours),
        coverage=float((apart.min(1) < real_reach).mean()),
    )


def distances(a: Array, b: Array) -> Exact:
    """Euclidean distances [N, M] between points [N, D] and [M, D]: exactly 0 between equal points up to rounding."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    square = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T
    apart: Exact = np.sqrt(np.maximum(square, 0))
    return apart


@dataclass(frozen=True)
class Bins:
    """Real sounds sorted into bins, and how many of the bins hold a statistically different share of the made ones.

    `different` goes from 0 to 1 (NDB / K). By chance it is about 0.05, and more where sounds lie in no clusters at
    all: regions drawn around the real ones then hold more of them (0.2 for 128 independent dimensions).
    `divergence` is the Jensen-Shannon divergence of the shares in bits, 0 to 1.
    """

    count: int
    different: float
    divergence: float


def different_bins(real: Array, made: Array, *, generator: np.random.Generator, per_bin: int = 10) -> Bins:
    """The number of statistically different bins, against mode collapse (Richardson and Weiss 2018).

    The bins are k-means clusters of real [N, D]; in each the shares of real and made [M, D] are compared by a test of
    two proportions at 5 %. As many bins, up to 100, as hold `per_bin` of the smaller set on average.
    """
    count = int(np.clip(min(len(real), len(made)) // per_bin, 2, 100))
    centres = kmeans(real, count, generator=generator)
    hits = [np.bincount(distances(x, centres).argmin(1), minlength=count) for x in (real, made)]
    shares = [hit / len(points) for hit, points in zip(hits, (real, made), strict=True)]
    pooled = (hits[0] + hits[1]) / (len(real) + len(made))
    error = np.sqrt(pooled * (1 - pooled) * (1 / len(real) + 1 / len(made)))
    z = np.abs(shares[0] - shares[1]) / np.maximum(error, 1e-12)
    both, middle = np.stack(shares), np.stack([sum(shares) / 2] * 2)
    divergence = float(_divergence(both, middle).mean() / np.log(2))
    return Bins(count, float((2 * ndtr(-z) < 0.05).mean()), divergence)


def kmeans(points: Array, count: int, *, generator: np.random.Generator, steps: int = 30) -> Exact:
    """Centres [count, D] of clusters: k-means++ (Arthur and Vassilvitskii 2007), then Lloyd's steps until they rest."""
    points = np.asarray(points, np.float64)
    centres = np.array(points[[generator.integers(len(points))]], np.float64)
    while len(centres) < count:
        near = distances(points, centres).min(1) ** 2
        chances = near / near.sum() if near.sum() > 0 else None
        centres = np.concatenate([centres, points[[generator.choice(len(points), p=chances)]]])
    for _ in range(steps):
        member = distances(points, centres).argmin(1)
        sizes = np.bincount(member, minlength=count)
        sums = np.zeros_like(centres)
        np.add.at(sums, member, points)
        moved = np.where(sizes[:, None] > 0, sums / np.maximum(sizes, 1)[:, None], centres)
        if np.allclose(moved, centres):
            break
        centres = moved
    return centres


def spread(points: Array, labels: Array) -> dict[int, float]:
    """The mean distance between two sounds of each label that has two: points [N, D], labels [N] -> label -> spread."""
    found = {}
    for label in np.unique(labels):
        mine = points[labels == label]
        if len(mine) >= 2:
            found[int(label)] = float(distances(mine, mine).sum() / (len(mine) * (len(mine) - 1)))
    return found


def inception_score(chances: Array) -> float:
    """exp of the mean divergence of each sound's chances [N, L] from those of all: 1 (all alike, or no opinion) to L
    (each sound surely of one label, all labels equally often) (Salimans 2016).

    >>> inception_score(np.eye(4)), inception_score(np.full((9, 4), 0.25))
    (4.0, 1.0)
    """
    p = np.asarray(chances, np.float64)
    return float(np.exp(_divergence(p, np.broadcast_to(p.mean(0), p.shape)).mean()))


def modified_inception_score(chances: Array, labels: Array) -> float:
    """How different the sounds of one label are to a classifier: exp of the mean divergence between the chances of two
    sounds of a label, averaged over labels that have two (Gurumurthy 2017). 1: all alike. chances [N, L], labels [N].

    NaN where no label has two sounds.
    """
    p = np.maximum(np.asarray(chances, np.float64), LEAST_CHANCE)
    p = p / p.sum(1, keepdims=True)
    scores = []
    for label in np.unique(labels):
        mine = p[labels == label]
        if len(mine) >= 2:
            logs = np.log(mine)
            own = (mine * logs).sum(1)  # E_j KL(p_i | p_j) = sum p_i log p_i - sum p_i E_j log p_j
            scores.append(np.exp((own - mine @ logs.mean(0)).mean()))
    return float(np.mean(scores)) if scores else float("nan")


def am_score(chances: Array, real_chances: Array) -> float:
    """How far the mix of labels is from the real one, plus how unsure the classifier is of each sound: 0 is best (Zhou
    2018). chances [N, L] of made sounds, real_chances [M, L] of real ones.
    """
    p, real = np.asarray(chances, np.float64), np.asarray(real_chances, np.float64).mean(0)
    mix = np.maximum(p.mean(0), LEAST_CHANCE)
    unsure = -np.where(p > 0, p * np.log(np.maximum(p, 1e-300)), 0).sum(1).mean()
    return float(_divergence(real[None], mix[None])[0] + unsure)


def _divergence(p: Exact, q: Exact) -> Exact:
    """Kullback-Leibler divergence of each row of p [N, L] from the same row of q, in nats."""
    terms = np.where(p > 0, p * (np.log(np.maximum(p, 1e-300)) - np.log(np.maximum(q, 1e-300))), 0)
    total: Exact = terms.sum(1)
    return total


def _reach(points: Array, neighbours: int) -> Exact:
    """The distance from each point to its n-th neighbour, itself not counted, [N]."""
    apart = np.sort(distances(points, points) * ~np.eye(len(points), dtype=bool), axis=1)
    reach: Exact = apart[:, neighbours]
    return reach
