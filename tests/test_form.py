"""The parts of a recording: where timbre, level or harmony change, and which parts come again."""

from itertools import pairwise

import numpy as np
import pytest

from soundloom.audio import Waveform, resample
from soundloom.form import find_form

RATE = 22050


def tone(hz: float, seconds: float) -> np.ndarray:
    """A note of eight partials, struck twice a second."""
    t = np.arange(round(seconds * RATE)) / RATE
    return sum(np.sin(2 * np.pi * hz * k * t) / k for k in range(1, 9)) * np.exp(-4 * (t % 0.5))


def hiss(seconds: float, *, seed: int, dull: int = 1) -> np.ndarray:
    return np.convolve(np.random.default_rng(seed).normal(size=round(seconds * RATE)), np.ones(dull) / dull, "same")


def form(*parts: np.ndarray) -> list[tuple[float, str]]:
    whole = Waveform((np.concatenate(parts) / 10)[None].astype(np.float32), RATE)
    found = find_form(whole)
    assert found[0].start_s == 0
    assert found[-1].end_s == pytest.approx(whole.seconds)
    assert all(a.end_s == b.start_s for a, b in pairwise(found))
    return [(part.start_s, part.label) for part in found]


def same(found: list[tuple[float, str]], wanted: list[tuple[float, str]]) -> bool:
    return [label for _, label in found] == [label for _, label in wanted] and all(
        abs(a - b) <= 1.0 for (a, _), (b, _) in zip(found, wanted, strict=True)
    )


def test_a_part_that_comes_again_has_its_letter_again():
    a, b, c = tone(220, 10), hiss(12, seed=0), hiss(9, seed=1, dull=12)
    assert same(form(a, b, a, c, b), [(0, "A"), (10, "B"), (22, "A"), (32, "C"), (41, "B")])


def test_a_change_of_harmony_alone():
    assert same(form(tone(220, 12), tone(311, 12), tone(220, 12)), [(0, "A"), (12, "B"), (24, "A")])


def test_a_change_of_level_alone():
    assert same(form(hiss(10, seed=0), hiss(10, seed=1) / 4), [(0, "A"), (10, "B")])


@pytest.mark.parametrize("x", [tone(150, 30), hiss(30, seed=3), np.zeros(30 * RATE)], ids=["notes", "noise", "silence"])
def test_what_does_not_change_is_one_part(x):
    assert form(x) == [(0.0, "A")]


def test_boundaries_are_those_that_mir_eval_counts_as_right():
    segment = pytest.importorskip("mir_eval.segment")
    lengths, parts = (9, 14, 11, 8, 13), []
    for i, seconds in enumerate(lengths):
        parts.append((tone(150, seconds), hiss(seconds, seed=i), tone(400, seconds))[i % 3])
    found = find_form(Waveform((np.concatenate(parts) / 10)[None].astype(np.float32), RATE))
    edges = np.concatenate([[0], np.cumsum(lengths)])
    mine = np.array([[part.start_s, part.end_s] for part in found])
    truth = np.stack([edges[:-1], edges[1:]], axis=1)
    _, _, hit = segment.detection(truth, mine, window=0.75)
    _, _, pairs = segment.pairwise(truth.astype(float), list("ABCAB"), mine, [part.label for part in found])
    assert hit == 1.0
    assert pairs > 0.9


def test_short_and_empty_sounds():
    assert [part.label for part in find_form(Waveform(np.ones((1, 441), np.float32), 22050))] == ["A"]
    assert find_form(Waveform(np.zeros((1, 0), np.float32), 22050)) == ()


def test_other_rates_and_stereo():
    x = np.concatenate([tone(220, 10), hiss(10, seed=0)])[None].astype(np.float32)
    sound = resample(Waveform(np.repeat(x, 2, axis=0) / 10, RATE), 48000)
    assert [(round(part.start_s), part.label) for part in find_form(sound)] == [(0, "A"), (10, "B")]
