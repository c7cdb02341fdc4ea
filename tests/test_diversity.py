"""Quality and variety: against the prdc package, and where the answer is known."""

import numpy as np
import pytest
from prdc import compute_prdc

from soundloom import diversity

D = 16


def classes(n, *, seed, kinds=range(8)):
    """n points of each kind, kinds far apart, and their kinds."""
    centres = 10 * np.random.default_rng(99).normal(size=(8, D))
    random = np.random.default_rng(seed)
    return (
        np.concatenate([centres[kind] + random.normal(size=(n, D)) for kind in kinds]),
        np.repeat(list(kinds), n),
    )


@pytest.mark.parametrize("neighbours", [3, 5])
@pytest.mark.parametrize("scale", [0.7, 1.0, 1.3])
def test_manifold_is_what_the_prdc_package_gives(neighbours, scale, capsys):
    real = np.random.default_rng(0).normal(size=(150, D))
    made = scale * np.random.default_rng(1).normal(size=(90, D)) + 0.2
    expected = compute_prdc(real, made, nearest_k=neighbours)
    mine = diversity.manifold(real, made, neighbours=neighbours)
    for name, value in expected.items():
        assert getattr(mine, name) == pytest.approx(value, abs=1e-9), name


def test_equal_sets_overlap_and_disjoint_ones_do_not():
    real, _ = classes(30, seed=0)
    same = diversity.manifold(real, real)
    assert (same.precision, same.recall, same.coverage) == (1, 1, 1)
    assert same.density == pytest.approx(1, abs=0.3)
    assert diversity.manifold(real, real + 1000) == diversity.Manifold(0, 0, 0, 0)


def test_half_the_classes_missing_is_precise_and_covers_half():
    real, _ = classes(30, seed=0)
    made, _ = classes(60, seed=1, kinds=range(4))
    found = diversity.manifold(real, made)
    whole = diversity.manifold(real, classes(30, seed=1)[0])
    assert found.precision == pytest.approx(whole.precision, abs=0.1)
    assert found.coverage == pytest.approx(0.5, abs=0.05)
    assert found.recall == pytest.approx(0.5, abs=0.1)


def test_bins_differ_by_chance_only_where_sets_are_alike():
    found = [
        diversity.different_bins(
            classes(30, seed=2 * i)[0], classes(30, seed=2 * i + 1)[0], generator=np.random.default_rng(i)
        )
        for i in range(10)
    ]
    assert np.mean([bins.different for bins in found]) < 0.12
    assert all(bins.count == 24 for bins in found)


def test_bins_find_collapsed_modes():
    made, _ = classes(60, seed=1, kinds=range(4))
    bins = diversity.different_bins(classes(30, seed=0)[0], made, generator=np.random.default_rng(0))
    assert bins.different > 0.5
    assert bins.divergence > 0.2
    one = np.repeat(made[:1], 240, axis=0)
    assert diversity.different_bins(classes(30, seed=0)[0], one, generator=np.random.default_rng(0)).different > 0.7


def test_kmeans_finds_clusters_that_are_there():
    points, kinds = classes(25, seed=3)
    member = diversity.distances(points, diversity.kmeans(points, 8, generator=np.random.default_rng(0))).argmin(1)
    assert all(len(set(member[kinds == kind])) == 1 for kind in range(8))
    assert len(set(member)) == 8
    equal = diversity.kmeans(np.ones((20, D)), 5, generator=np.random.default_rng(0))
    assert np.array_equal(equal, np.ones((5, D)))


def test_spread_is_the_mean_distance_within_a_label_and_needs_two():
    points = np.array([[0.0, 0], [3, 4], [100, 100], [7, 7]])
    assert diversity.spread(points, np.array([0, 0, 1, 2])) == {0: pytest.approx(5, abs=1e-6)}
    points, kinds = classes(20, seed=0)
    assert diversity.spread(0.5 * points, kinds)[3] == pytest.approx(0.5 * diversity.spread(points, kinds)[3])


def test_inception_score_of_known_chances():
    sure = np.eye(5)[np.arange(100) % 5]
    assert diversity.inception_score(sure) == pytest.approx(5)
    assert diversity.inception_score(sure[:, :1].repeat(5, 1) * 0 + 0.2) == pytest.approx(1)
    assert diversity.inception_score(np.eye(5)[np.arange(100) % 2]) == pytest.approx(2)
    assert diversity.inception_score(np.eye(5)[np.zeros(100, int)]) == pytest.approx(1)


def test_modified_inception_score_is_the_mean_over_pairs():
    random = np.random.default_rng(0)
    chances = random.dirichlet(np.ones(4), size=12)
    labels = np.arange(12) % 2
    expected = []
    for label in (0, 1):
        mine = chances[labels == label]
        expected.append(np.exp(np.mean([[np.sum(p * np.log(p / q)) for q in mine] for p in mine])))
    assert diversity.modified_inception_score(chances, labels) == pytest.approx(np.mean(expected), rel=1e-3)
    assert diversity.modified_inception_score(chances[:1].repeat(6, 0), np.zeros(6)) == pytest.approx(1)
    assert np.isnan(diversity.modified_inception_score(chances[:2], np.array([0, 1])))


def test_am_score_of_known_chances():
    real = np.eye(4)[np.arange(40) % 4]
    assert diversity.am_score(real, real) == pytest.approx(0, abs=1e-9)
    assert diversity.am_score(np.full((9, 4), 0.25), real) == pytest.approx(np.log(4))  # as unsure as can be
    half = np.eye(4)[np.arange(40) % 2]
    assert diversity.am_score(half, real) == pytest.approx(0.5 * np.log(0.5) + 0.5 * np.log(0.25 / 1e-6))
