"""Tracks put right: what no instrument does is mended, what one does is left alone."""

import numpy as np
import pytest
import torch

from soundloom.steady import steadied

RATE, HOP = 44100, 512


def put_right(track, level=None):
    """A track through `steadied`, with a sound that dies away steadily or has the given level per frame."""
    level = np.exp(-0.01 * np.arange(len(track))) if level is None else level
    audio = torch.from_numpy(np.repeat(level, HOP)).float()[None]
    return steadied(torch.from_numpy(track).float()[None], audio, sample_rate=RATE, hop_length=HOP)[0].numpy()


def mended(*parts):
    return put_right(np.concatenate([np.full(n, hz) for hz, n in parts]))


@pytest.mark.parametrize("ratio", [2, 3, 0.5, 1.5])
def test_a_dying_note_stays_in_its_octave(ratio):
    assert np.allclose(mended((123.5, 200), (123.5 * ratio, 50)), 123.5)


def test_a_short_gap_is_filled_and_a_long_one_left():
    assert (mended((220, 60), (0, 8), (221, 60)) > 0).all()
    assert (mended((220, 60), (0, 40), (221, 60)) == 0).sum() == 40


def test_a_blip_in_silence_is_no_note():
    assert not mended((0, 50), (24.8, 4), (0, 50)).any()


def test_a_melody_is_left_alone():
    parts = [
        (261.6, 30),
        (392.0, 25),
        (523.3, 40),
        (329.6, 30),
        (261.6, 35),
    ]  # a fifth, a fourth, an octave up and back
    track = np.concatenate([np.full(n, hz) for hz, n in parts])
    level = np.concatenate([np.exp(-0.03 * np.arange(n)) for _, n in parts])
    assert np.allclose(put_right(track, level), track, rtol=1e-5)


def test_a_short_octave_that_is_played_is_left_alone():
    track = np.concatenate([np.full(80, 261.6), np.full(20, 523.2), np.full(60, 261.6)])
    level = np.concatenate([np.exp(-0.03 * np.arange(n)) for n in (80, 20, 60)])
    assert np.allclose(put_right(track, level), track, rtol=1e-5)
    assert np.allclose(put_right(track), 261.6, rtol=1e-5)  # the same without an attack is no note


def test_a_glide_is_left_alone():
    track = np.geomspace(200, 45, 80)  # a tom
    assert np.allclose(put_right(track), track, rtol=1e-5)


def test_nothing_stays_nothing():
    assert not mended((0, 30)).any()


@pytest.mark.filterwarnings("error")
def test_any_track_at_all_is_put_right_without_a_division_by_zero():
    """Stretches of every length and leap, gaps too: what was taken out is nobody's neighbour."""
    random = np.random.default_rng(0)
    for _ in range(200):
        parts = [(hz, int(random.integers(1, 9))) for hz in random.choice([0, 100, 137, 200, 300, 411], 12)]
        assert np.isfinite(mended(*parts)).all()
