"""The classifier is scikit-learn's, and does no better than chance where there is nothing to tell."""

import numpy as np
import pytest

from soundloom.twosample import PENALTY, area_under_roc, logistic_fit, two_sample_auc

linear_model = pytest.importorskip("sklearn.linear_model")
sklearn_metrics = pytest.importorskip("sklearn.metrics")


def test_the_fit_is_scikit_learns():
    generator = np.random.default_rng(0)
    x = generator.normal(size=(120, 10))
    y = (x[:, 0] + generator.normal(size=120) > 0.5).astype(float)
    mine = logistic_fit(x, y)
    theirs = linear_model.LogisticRegression(C=1 / PENALTY, class_weight="balanced", tol=1e-10, max_iter=1000).fit(x, y)
    assert np.allclose(mine[:-1], theirs.coef_[0], atol=1e-4)
    assert mine[-1] == pytest.approx(theirs.intercept_[0], abs=1e-4)


def test_the_area_is_scikit_learns():
    generator = np.random.default_rng(1)
    a, b = generator.integers(0, 6, 40).astype(float), generator.integers(1, 8, 30).astype(float)
    theirs = sklearn_metrics.roc_auc_score(np.r_[np.ones(40), np.zeros(30)], np.r_[a, b])
    assert area_under_roc(a, b) == pytest.approx(theirs)


def test_chance_where_sets_are_one_and_certainty_where_they_are_not():
    """Also with fewer sounds than dimensions, where a fit without left-out sounds would be perfect."""
    generator = np.random.default_rng(2)
    areas = [two_sample_auc(*generator.normal(size=(2, 50, 128)), generator=generator) for _ in range(10)]
    assert abs(np.mean(areas) - 0.5) < 0.06
    near = generator.normal(size=(50, 128))
    far = generator.normal(size=(50, 128)) + 0.6
    assert two_sample_auc(near, far, generator=generator) > 0.95


def test_sizes_may_differ():
    generator = np.random.default_rng(3)
    few, many = generator.normal(size=(25, 16)), generator.normal(size=(400, 16))
    assert 0.3 < two_sample_auc(few, many, generator=generator) < 0.7
