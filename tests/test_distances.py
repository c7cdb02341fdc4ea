"""Distances of sets: against scipy and scikit-learn, and where the answer is known."""

import numpy as np
import pytest
import scipy.linalg
from sklearn.metrics.pairwise import polynomial_kernel

from soundloom.distances import (
    between_halves,
    fewest_for_frechet,
    frechet,
    frechet_infinity,
    kernel_distance,
    kernel_estimate,
)

D = 128


def points(n, *, seed, shift=0.0, dimensions=D):
    """A cloud of unit variance per dimension on average, with a spectrum that falls as those of ears do."""
    scale = np.exp(-np.arange(dimensions) / 60)
    scale /= np.sqrt((scale**2).mean())
    cloud = np.random.default_rng(seed).normal(size=(n, dimensions)) * scale
    cloud[:, 0] += shift
    return cloud


def rng():
    return np.random.default_rng(7)


@pytest.mark.parametrize(("n", "m"), [(400, 300), (60, 90)])
def test_frechet_is_what_scipys_matrix_root_gives(n, m):
    a, b = points(n, seed=0), 1.3 * points(m, seed=1, shift=0.5)
    root = scipy.linalg.sqrtm(np.cov(a.T) @ np.cov(b.T))
    apart = a.mean(0) - b.mean(0)
    expected = apart @ apart + np.trace(np.cov(a.T) + np.cov(b.T)) - 2 * np.trace(root).real
    assert frechet(a, b) == pytest.approx(expected, rel=1e-4)


def test_frechet_is_real_and_never_negative_with_fewer_points_than_dimensions():
    for seed in range(5):
        value = frechet(points(20, seed=seed), points(25, seed=seed + 50))
        assert isinstance(value, float)
        assert value > 0
    a = points(20, seed=0)
    assert frechet(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet(a, np.zeros((20, D))) == pytest.approx(np.cov(a.T).trace() + (a.mean(0) ** 2).sum(), rel=1e-9)


def test_of_two_equal_sets_the_plain_distance_is_biased_and_the_extrapolated_is_not():
    a, b = points(300, seed=0), points(300, seed=1)
    estimate = frechet_infinity(a, b, generator=rng())
    assert frechet(a, b) / D > 0.1
    assert estimate.low < 0 < estimate.high
    assert abs(estimate.value) / D < 0.02


def test_a_known_shift_is_within_the_interval():
    estimate = frechet_infinity(points(400, seed=2), points(400, seed=3, shift=4.0), generator=rng())
    assert estimate.low <= 16.0 <= estimate.high
    assert not estimate.reaches_zero
    assert estimate.high - estimate.low < 10


def test_what_frechet_needs_grows_with_the_dimensions():
    assert fewest_for_frechet(128) == 192
    assert fewest_for_frechet(1) == 2


def test_kernel_distance_is_what_scikit_learn_gives():
    a, b = points(50, seed=0), points(70, seed=1, shift=1.0)
    inside_a, inside_b, between = (polynomial_kernel(x, y, degree=3, coef0=1) for x, y in ((a, a), (b, b), (a, b)))
    within = sum((k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)) for k in (inside_a, inside_b))
    assert kernel_distance(a, b) == pytest.approx(within - 2 * between.mean(), rel=1e-9)


def test_kernel_distance_of_equal_sets_is_as_often_negative_as_positive():
    found = [kernel_distance(points(30, seed=2 * i), points(30, seed=2 * i + 1)) for i in range(60)]
    assert 15 <= sum(value < 0 for value in found) <= 45
    assert abs(np.mean(found)) < 3 * np.std(found) / np.sqrt(60)


def test_intervals_of_equal_sets_reach_zero_and_of_different_ones_do_not():
    reached = [
        kernel_estimate(points(40, seed=2 * i), points(40, seed=2 * i + 1), generator=rng()).reaches_zero
        for i in range(20)
    ]
    assert sum(reached) >= 19
    assert not kernel_estimate(points(40, seed=0), points(40, seed=1, shift=4.0), generator=rng()).reaches_zero


def test_distances_grow_with_noise():
    a, b = points(250, seed=0), points(250, seed=1)
    noise = np.random.default_rng(2).normal(size=b.shape)
    noisy = [b + level * noise for level in (0.0, 0.3, 1.0, 3.0)]
    for measure in (frechet, kernel_distance):
        found = [measure(a, points) for points in noisy]
        assert found == sorted(found)


def test_the_same_generator_gives_the_same_interval():
    a, b = points(200, seed=0), points(200, seed=1)
    assert frechet_infinity(a, b, generator=rng()) == frechet_infinity(a, b, generator=rng())
    assert kernel_estimate(a, b, generator=rng()) == kernel_estimate(a, b, generator=rng())


def test_halves_of_one_set_are_apart_by_chance_only():
    a = points(200, seed=0)
    halves = between_halves(a, kernel_distance, generator=rng())
    assert 0 < halves < 0.5 * kernel_distance(a, points(200, seed=1, shift=2.0))
    assert halves < between_halves(a[:40], kernel_distance, generator=rng())
