"""The memorisation test: it screams at a copied training set and at nothing that is new."""

import numpy as np
import pytest
import scipy.stats

from soundloom.copies import copying, nearest_sounds

D = 32


def cloud(n, *, seed):
    random = np.random.default_rng(seed)
    centres = 4 * np.random.default_rng(5).normal(size=(6, D))
    return centres[random.integers(6, size=n)] + random.normal(size=(n, D))


def judged(made, *, held_out=80):
    return copying(made, cloud(300, seed=0), cloud(held_out, seed=1), generator=np.random.default_rng(0))


def test_new_sounds_show_no_sign_of_copying():
    found = [judged(cloud(200, seed=seed)) for seed in range(2, 12)]
    assert [one.verdict for one in found] == ["no sign of copying"] * 10
    assert sum(one.p_value < 0.05 for one in found) <= 3
    assert np.mean([one.near for one in found]) == pytest.approx(0.05, abs=0.03)


@pytest.mark.parametrize("held_out", [20, 80])
def test_a_copied_training_set_screams(held_out):
    copied = cloud(300, seed=0)[:200]
    found = judged(copied, held_out=held_out)
    assert found.verdict == "copies"
    assert found.z < -5
    assert found.p_value < 1e-6
    assert found.near == 1
    assert np.array_equal(found.nearest, np.arange(200))
    assert found.distance.max() < 1e-5


def test_copies_with_a_little_noise_scream_too():
    copied = cloud(300, seed=0)[:200] + 0.2 * np.random.default_rng(3).normal(size=(200, D))
    assert judged(copied).verdict == "copies"


def test_half_of_the_sounds_copied_is_found():
    mixed = np.concatenate([cloud(300, seed=0)[:100], cloud(100, seed=2)])
    found = judged(mixed)
    assert found.verdict == "copies"
    assert found.near == pytest.approx(0.5 + 0.5 * 0.05, abs=0.05)


def test_sounds_far_from_everything_are_no_copies():
    found = judged(cloud(200, seed=2) + 50)
    assert found.verdict == "no sign of copying"
    assert found.z > 3
    assert found.p_value > 0.99


def test_the_p_value_is_scipys():
    made = cloud(60, seed=2)
    found = judged(made)
    _, unseen = nearest_sounds(cloud(80, seed=1), cloud(300, seed=0))
    assert found.p_value == scipy.stats.mannwhitneyu(found.distance, unseen, alternative="less").pvalue
    assert found.median_held_out == np.median(unseen)
    assert found.median_train == pytest.approx(found.median_held_out, rel=0.15)


def test_typical_sounds_are_no_copies():
    """A model that keeps to the middle is near to many training sounds and repeats none."""
    random = np.random.default_rng(5)
    train, held_out = random.normal(size=(300, 16)), random.normal(size=(60, 16))
    found = copying(0.5 * random.normal(size=(150, 16)), train, held_out, generator=random)
    assert found.verdict == "closer than unseen sounds"
    assert found.near < 0.2


def test_a_third_of_copies_is_found_out():
    """The rest being new must not hide them."""
    random = np.random.default_rng(6)
    train, held_out = random.normal(size=(300, 16)), random.normal(size=(60, 16))
    made = np.concatenate([train[:50] + 0.01, random.normal(size=(100, 16))])
    found = copying(made, train, held_out, generator=random)
    assert found.verdict == "copies"
    assert found.near == pytest.approx(1 / 3, abs=0.1)
