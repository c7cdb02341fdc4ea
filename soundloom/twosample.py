"""Whether a classifier, trained for nothing else, can tell two sets of sounds apart (Lopez-Paz and Oquab, 2017).

Logistic regression with a quadratic penalty on the places of the sounds, judged only on sounds that it was not fitted
to: each of some folds in turn is left out. The answer is the area under the ROC curve: 0.5 is guessing, 1 always right.
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
Exact = NDArray[np.float64]

FOLDS = 5
PENALTY = 10.0  # of the squared weights, on features of variance 1
NEWTON_STEPS = 12


def two_sample_auc(a: Array, b: Array, *, generator: np.random.Generator, folds: int = FOLDS) -> float:
    """The area under the ROC curve of a classifier that tells a [N, E] from b [M, E], on sounds left out of its fit.

    Both sets count alike, whatever their sizes. Below 0.5 it is chance.

    >>> generator = np.random.default_rng(0)
    >>> same, other = generator.normal(size=(2, 200, 8))
    >>> two_sample_auc(same, other + 3, generator=generator) > 0.99
    True
    >>> 0.35 < two_sample_auc(same, other, generator=generator) < 0.65
    True
    """
    x = np.concatenate([a, b]).astype(np.float64)
    y = np.concatenate([np.ones(len(a)), np.zeros(len(b))])
    fold = np.concatenate([generator.permutation(len(part)) % folds for part in (a, b)])
    areas = []
    for left_out in range(folds):
        fitted, judged = fold != left_out, fold == left_out
        if len(set(y[judged])) < 2:
            continue
        centre, scale = x[fitted].mean(0), x[fitted].std(0) + 1e-9
        weights = logistic_fit((x[fitted] - centre) / scale, y[fitted])
        told = _with_one((x[judged] - centre) / scale) @ weights
        areas.append(area_under_roc(told[y[judged] == 1], told[y[judged] == 0]))
    return float(np.mean(areas))


def logistic_fit(x: Exact, y: Exact, *, penalty: float = PENALTY) -> Exact:
    """Weights [E + 1], the last one the offset, by Newton's method; the two classes of y [N] count alike."""
    x = _with_one(x)
    counts = np.where(y == 1, 0.5 / max(y.sum(), 1), 0.5 / max((1 - y).sum(), 1)) * len(y)
    weights = np.zeros(x.shape[1])
    ridge = np.full(x.shape[1], penalty)
    ridge[-1] = 1e-6
    for _ in range(NEWTON_STEPS):
        chance = 1 / (1 + np.exp(-np.clip(x @ weights, -30, 30)))
        gradient = x.T @ (counts * (chance - y)) + ridge * weights
        curvature = (x.T * (counts * chance * (1 - chance))) @ x + np.diag(ridge)
        weights = weights - np.linalg.solve(curvature, gradient)
    return weights


def area_under_roc(positive: Array, negative: Array) -> float:
    """The chance that a positive is above a negative, a tie counting half.

    >>> area_under_roc(np.array([3.0, 1.0]), np.array([2.0, 1.0]))
    0.625
    """
    above = (positive[:, None] > negative).mean() + 0.5 * (positive[:, None] == negative).mean()
    return float(above)


def _with_one(x: Exact) -> Exact:
    return np.concatenate([x, np.ones((len(x), 1))], 1)
