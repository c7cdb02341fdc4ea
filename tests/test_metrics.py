"""The figures by which models are judged: known answers for sounds of known content."""

import librosa
import mir_eval
import numpy as np
import pytest
import scipy.signal

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


def at_snr(sound, snr_db, seed=0):
    """The sound with white noise so many dB below it, exactly, and no part of it in the noise."""
    added = noise(1.0, seed)
    added = added - added.mean()
    centred = sound - sound.mean()
    added = added - (added @ centred) / (centred @ centred) * centred
    return sound + added * np.sqrt((centred @ centred) / (added @ added)) * 10 ** (-snr_db / 20)


def librosa_mels(sound, n_fft=2048):
    """Mel amplitudes [N, 128] by librosa: HTK's scale, each band the mean over its bins."""
    filters = librosa.filters.mel(sr=RATE, n_fft=n_fft, n_mels=128, htk=True, norm=None)
    amplitudes = np.abs(librosa.stft(sound, n_fft=n_fft, hop_length=n_fft // 4, window="hann")) * 2 / (n_fft / 2)
    return ((filters / filters.sum(1, keepdims=True)) @ amplitudes).T


def test_log_mel_l1_is_what_librosa_gives():
    a, b = comb(220), at_snr(comb(220), 20)
    logs = [np.log(np.maximum(librosa_mels(x), 1e-5)) for x in (a, b)]
    expected = np.abs(logs[0] - logs[1]).mean()
    assert metrics.log_mel_l1(a, b, sample_rate=RATE) == pytest.approx(expected, rel=0.02)


def test_mfcc_distortion_is_what_librosa_gives():
    a, b = comb(220), at_snr(comb(220), 20)
    mels = [librosa_mels(x) for x in (a, b)]
    top = mels[0].max()
    heard = (np.maximum(*mels) > top * 1e-3).any(1)
    levels = [20 * np.log10(np.maximum(x[heard], top * 1e-3)) for x in mels]
    cepstra = [librosa.feature.mfcc(S=level.T, n_mfcc=13, dct_type=2, norm="ortho")[1:] for level in levels]
    expected = np.sqrt(((cepstra[0] - cepstra[1]) ** 2).sum(0) / 128).mean()
    assert metrics.mfcc_distortion(a, b, sample_rate=RATE) == pytest.approx(expected, rel=0.02)


def test_mfcc_distortion_knows_no_level_and_measures_colour_in_db():
    sound = noise(0.1)
    assert metrics.mfcc_distortion(sound, 0.5 * sound, sample_rate=RATE, range_db=90) < 0.05
    tilted = scipy.signal.lfilter([1, -0.9], [1], sound)  # 0 dB at about 10 kHz, -20 dB at the bottom
    assert 4 < metrics.mfcc_distortion(sound, tilted, sample_rate=RATE, range_db=90) < 10


def test_multi_resolution_stft_is_the_formula_on_scipys_spectra():
    a, b = comb(220), at_snr(comb(220), 20)
    expected = 0.0
    for size in (512, 1024, 2048):
        setting = {"window": "hann", "nperseg": size, "noverlap": size * 3 // 4, "padded": True}
        x, y = (np.abs(scipy.signal.stft(sound, **setting)[2]) * 2 for sound in (a, b))
        logs = np.log(np.maximum(x, 1e-5)) - np.log(np.maximum(y, 1e-5))
        expected += np.linalg.norm(x - y) / np.linalg.norm(x) + np.abs(logs).mean()
    assert metrics.multi_resolution_stft(a, b, sample_rate=RATE) == pytest.approx(expected / 3, rel=0.02)


def test_si_sdr_is_the_ratio_that_was_set_at_any_gain():
    for snr in (-10, 0, 20, 60):
        assert metrics.si_sdr(comb(220), 0.3 * at_snr(comb(220), snr)) == pytest.approx(snr, abs=0.01)
    assert metrics.si_sdr(comb(220), 2 * comb(220)) > 200


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_si_sdr_is_close_to_mir_eval_which_allows_a_filter():
    sound, other = noise(0.2), at_snr(noise(0.2), 10, seed=1)
    (theirs,), _, _, _ = mir_eval.separation.bss_eval_sources(sound[None, :RATE], other[None, :RATE])
    assert metrics.si_sdr(sound[:RATE], other[:RATE]) == pytest.approx(theirs, abs=0.3)


def test_correlations_are_pearsons():
    a, b = comb(220), at_snr(comb(220), 3)
    assert metrics.waveform_correlation(a, b) == pytest.approx(np.corrcoef(a, b)[0, 1])
    assert metrics.waveform_correlation(a, -a) == pytest.approx(-1)
    rms = [np.sqrt((x.reshape(-1, 441) ** 2).mean(1)) for x in (a, b)]
    assert metrics.envelope_correlation(a, b, sample_rate=RATE) == pytest.approx(np.corrcoef(*rms)[0, 1])
    assert metrics.envelope_correlation(a, -a, sample_rate=RATE) == pytest.approx(1)


def test_every_closeness_is_monotone_in_noise():
    sound = comb(220)
    noisy = [at_snr(sound, snr) for snr in (60, 40, 20, 0)]
    for measure in (metrics.multi_resolution_stft, metrics.log_mel_l1, metrics.mfcc_distortion):
        found = [measure(sound, x, sample_rate=RATE) for x in (sound, *noisy)]
        assert found[0] == 0
        assert found == sorted(found), measure.__name__
    for measure in (metrics.si_sdr, metrics.waveform_correlation):
        found = [measure(sound, x) for x in noisy]
        assert found == sorted(found, reverse=True), measure.__name__


def test_what_silence_cannot_tell_is_no_number():
    sound, silence = comb(220), np.zeros(len(T))
    assert np.isnan(metrics.multi_resolution_stft(silence, sound, sample_rate=RATE))
    assert np.isnan(metrics.mfcc_distortion(silence, sound, sample_rate=RATE))
    assert np.isnan(metrics.si_sdr(silence, sound))
    assert np.isnan(metrics.si_sdr(sound, silence))
    assert np.isnan(metrics.waveform_correlation(sound, silence))
    assert np.isnan(metrics.envelope_correlation(sound, silence, sample_rate=RATE))
    assert metrics.log_mel_l1(silence, silence, sample_rate=RATE) == 0
    assert metrics.mfcc_distortion(sound, silence, sample_rate=RATE) > 5
