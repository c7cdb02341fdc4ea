"""Maps and neighbours: against scikit-learn, and on points whose place is known."""

import numpy as np
import pytest

from soundloom.atlas import neighbours, principal
from soundloom.errors import BankError, ConfigError
from soundloom.similar import Space, nearest, placed, similar_to

RNG = np.random.default_rng(0)
CLOUD = (RNG.normal(size=(60, 12)) * np.linspace(4, 0.2, 12)).astype(np.float32)


def test_principal_components_are_scikit_learn_s():
    decomposition = pytest.importorskip("sklearn.decomposition")
    theirs = decomposition.PCA(3).fit(CLOUD)
    mine = principal(CLOUD, 3)
    np.testing.assert_allclose(np.abs(mine.points), np.abs(theirs.transform(CLOUD)), atol=1e-4)
    np.testing.assert_allclose(mine.parts, theirs.explained_variance_ratio_, atol=1e-6)


def test_the_map_does_not_depend_on_the_sign_of_a_direction():
    mine = principal(CLOUD, 3).points
    assert (mine[np.abs(mine).argmax(axis=0), range(3)] > 0).all()


def test_equal_points_and_fewer_directions_than_asked():
    same = principal(np.ones((5, 4), np.float32), 3)
    np.testing.assert_array_equal(same.points, 0)
    assert principal(CLOUD[:, :2], 3).points.shape == (60, 3)


def test_t_sne_keeps_groups_together_and_its_seed():
    groups = np.repeat(np.arange(3), 20)
    points = (RNG.normal(size=(60, 8)) + 8 * np.eye(3, 8)[groups]).astype(np.float32)
    made = neighbours(points, dimensions=2, seed=0)
    apart = np.linalg.norm(made[:, None] - made[None], axis=-1) + 1e9 * np.eye(60)
    assert (groups[apart.argmin(axis=1)] == groups).all()
    np.testing.assert_array_equal(made, neighbours(points, dimensions=2, seed=0))


def test_t_sne_of_three_points():
    assert np.isfinite(neighbours(CLOUD[:3], dimensions=3, seed=0)).all()


def test_without_the_extra_it_says_so(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sklearn.manifold", None)
    with pytest.raises(ConfigError, match=r"soundloom\[analysis\]"):
        neighbours(CLOUD, dimensions=2, seed=0)


def test_neighbours_are_scikit_learn_s():
    metrics = pytest.importorskip("sklearn.metrics.pairwise")
    theirs = metrics.cosine_similarity(CLOUD[:1], CLOUD)[0]
    found = nearest(CLOUD[0], CLOUD, count=5)
    assert [i for i, _ in found] == np.argsort(-theirs)[:5].tolist()
    assert found[0] == (0, 1.0)
    assert found[3][1] == pytest.approx(theirs[found[3][0]], abs=1e-4)


def test_a_dimension_of_large_numbers_does_not_decide():
    points = np.stack([[1000.0 + i % 2, i] for i in range(6)]).astype(np.float32)
    space = Space.of(points)
    np.testing.assert_allclose(space.points.std(axis=0), 1, atol=1e-5)
    np.testing.assert_allclose(space.place(points[2]), space.points[2], atol=1e-6)


def test_what_has_no_place_is_no_neighbour():
    bank = CLOUD.copy()
    bank[1], bank[2] = np.nan, 0
    assert placed(bank).sum() == 58
    found = similar_to(CLOUD[1], bank, range(60), count=100)
    assert len(found) == 58
    assert not {1, 2} & {i for i, _ in found}
    assert all(np.isfinite(likeness) for _, likeness in found)
    with pytest.raises(BankError, match="could not place"):
        similar_to(bank[1], CLOUD, range(60), count=3)
    with pytest.raises(BankError, match="has 1 sounds"):
        similar_to(CLOUD[0], bank[:3], range(3), count=3)
