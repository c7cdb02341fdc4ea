"""The figures by which models are judged: known answers for sounds of known content."""

import numpy as np
import pytest

from soundloom import metrics

RATE = 44100
T = np.arange(2 * RATE) / RATE


def comb(f0, *, stiffness=0.0, gain=1.0, count=12):
    partials = [np.sin(2 * np.pi * f0 * p * np.sqrt(1 + stiffness * p * p) * T) / p for p in range(1, count + 1)]
    return gain * 0.2 * sum(partials) * np.exp(-1.5 * T)


def noise(level, seed=0):
    return level * np.random.default_rng(seed).standard_normal(len(T))


def test_a_sound_is_at_no_distance_from_itself():
    assert metrics.log_mel_distance(comb(220), comb(220), sample_rate=RATE) == 0
    assert metrics.partials_found(comb(220), comb(220), sample_rate=RATE) == 1


def test_half_the_level_is_at_most_log_two_away():
    # Cells near the floor are cut off there, so the mean stays a little below ln 2.
    distance = metrics.log_mel_distance(comb(220), comb(220, gain=0.5), sample_rate=RATE)
    assert 0.6 < distance <= np.log(2)


def test_noise_that_nobody_hears_costs_nothing():
    sound = comb(220)
    quiet = sound + noise(1e-3 * np.sqrt(np.mean(sound**2)))  # 60 dB below
    assert metrics.log_mel_distance(sound, quiet, sample_rate=RATE) < 0.1
    assert metrics.partials_found(sound, quiet, sample_rate=RATE) > 0.99


def test_distance_grows_with_noise():
    distances = [
        metrics.log_mel_distance(comb(220), comb(220) + noise(a), sample_rate=RATE) for a in (1e-4, 1e-3, 1e-2)
    ]
    assert distances == sorted(distances)
    assert distances[-1] > 0.5


def test_silence_scores_badly_and_is_no_error():
    assert metrics.log_mel_distance(comb(220), np.zeros(len(T)), sample_rate=RATE) > 1
    assert metrics.partials_found(comb(220), np.zeros(len(T)), sample_rate=RATE) == 0
    assert metrics.log_mel_distance(np.zeros(100), np.zeros(100), sample_rate=RATE) == 0


@pytest.mark.parametrize(("cents", "low", "high"), [(0, 1, 1), (15, 0.95, 1), (100, 0, 0.2)])
def test_partials_are_found_when_in_tune(cents, low, high):
    other = comb(880 * 2 ** (cents / 1200))
    assert low <= metrics.partials_found(comb(880), other, sample_rate=RATE) <= high


def test_partials_need_the_right_level():
    assert metrics.partials_found(comb(440), comb(440, gain=10 ** (-3 / 20)), sample_rate=RATE) > 0.95
    assert metrics.partials_found(comb(440), comb(440, gain=10 ** (-9 / 20)), sample_rate=RATE) < 0.1


def test_partials_that_are_not_there_count_against_a_sound():
    half = metrics.partials_found(comb(440, count=3), comb(440, count=12), sample_rate=RATE)
    assert half < 0.7


def test_exact_multiples_miss_a_stiff_string():
    stiff = comb(220, stiffness=1e-3, count=30)
    assert metrics.partials_found(stiff, comb(220, count=30), sample_rate=RATE) < 0.7


def test_noise_with_an_envelope_has_that_envelope():
    sound = comb(220)
    made = metrics.noise_with_envelope(sound, sample_rate=RATE, generator=np.random.default_rng(0))
    assert np.sqrt(np.mean(made**2)) == pytest.approx(np.sqrt(np.mean(sound**2)), rel=1e-3)
    assert metrics.log_mel_distance(sound, made, sample_rate=RATE) < 1.5
    assert metrics.partials_found(sound, made, sample_rate=RATE) < 0.3


def test_onset_is_found_to_the_sample():
    sound = np.concatenate([np.zeros(1234), comb(440)])
    found = metrics.onset_s(sound, sample_rate=RATE) * RATE
    assert 1234 <= found < 1234 + 20


def test_cents():
    assert metrics.cents_between(880, 440) == pytest.approx(1200)
