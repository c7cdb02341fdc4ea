"""Spectra against librosa, scipy and what is known of sines and clicks."""

import librosa
import numpy as np
import pytest
import scipy.fft
import torch

from soundloom import spectral
from soundloom.errors import ConfigError


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_a_click_is_in_the_frame_whose_hop_holds_it():
    for at in (0, 510, 514, 5000, 9999):
        audio = torch.zeros(1, 10000)
        audio[0, at] = 1
        loudest = spectral.power(audio, n_fft=1024, hop_length=512).sum(1).argmax().item()
        assert loudest == at // 512


@pytest.mark.parametrize(("n_fft", "hop_length"), [(2048, 512), (1024, 512), (512, 64)])
def test_back_and_forth_is_exact_up_to_the_edges(n_fft, hop_length):
    audio = noise(2, 3, 10 * hop_length)
    spectrum = spectral.stft(audio, n_fft=n_fft, hop_length=hop_length)
    assert spectrum.shape == (2, 3, n_fft // 2 + 1, 10)
    assert (spectral.istft(spectrum, n_fft=n_fft, hop_length=hop_length) - audio).abs().max() < 1e-5


def test_stft_is_librosas_on_the_shifted_signal():
    audio = noise(20 * 512)
    mine = spectral.stft(audio, n_fft=2048, hop_length=512)
    padded = np.pad(audio.numpy(), (768, 768))
    theirs = librosa.stft(padded, n_fft=2048, hop_length=512, center=False)
    assert np.abs(mine.numpy() - theirs).max() < 1e-3


def test_gradients_are_those_of_the_formulas():
    audio = noise(1, 64).double().requires_grad_()

    def there_and_back(x):
        windowed = spectral.frame(x, n_fft=16, hop_length=4) * torch.hann_window(16, dtype=torch.float64)
        return torch.view_as_real(spectral.rfft(windowed))

    assert torch.autograd.gradcheck(there_and_back, audio)


def test_spectra_stay_precise_under_autocast():
    audio = noise(1, 8192)
    exact = spectral.mel(audio, sample_rate=44100)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(spectral.mel(audio, sample_rate=44100), exact)


def test_what_is_made_in_inference_mode_can_be_trained_through_later():
    with torch.inference_mode():
        spectral.mel(noise(1, 4096), sample_rate=22050, n_fft=1024, hop_length=256, n_mels=24)
    audio = noise(1, 4096).requires_grad_()
    spectral.mel(audio, sample_rate=22050, n_fft=1024, hop_length=256, n_mels=24).sum().backward()
    assert audio.grad.abs().sum() > 0


@pytest.mark.parametrize(("sample_rate", "n_fft", "n_mels"), [(44100, 2048, 128), (16000, 512, 40), (8000, 256, 80)])
def test_mel_filters_and_bands_are_librosas(sample_rate, n_fft, n_mels):
    filters = spectral.mel_filterbank(sample_rate=sample_rate, n_fft=n_fft, n_mels=n_mels)
    theirs = librosa.filters.mel(sr=sample_rate, n_fft=n_fft, n_mels=n_mels)
    assert np.abs(filters.numpy() - theirs).max() < 1e-6
    audio = noise(2, 200 * n_fft // 4)  # several pieces of frames
    bands = spectral.mel(audio, sample_rate=sample_rate, n_fft=n_fft, hop_length=n_fft // 4, n_mels=n_mels)
    expected = filters @ spectral.power(audio, n_fft=n_fft, hop_length=n_fft // 4)
    assert torch.allclose(bands, expected, rtol=1e-4, atol=1e-6)


def test_mfcc_is_scipys_cosine_transform():
    bands = noise(2, 40, 7)
    expected = scipy.fft.dct(bands.numpy(), axis=1, norm="ortho")[:, :13]
    assert np.abs(spectral.mfcc(bands, n_mfcc=13).numpy() - expected).max() < 1e-5


def test_each_resolution_has_its_own_frames():
    made = spectral.multi_resolution(noise(1, 8192), n_ffts=(256, 1024))
    assert [tuple(spectrum.shape) for spectrum in made] == [(1, 129, 128), (1, 513, 32)]


def test_a_chord_comes_back_from_its_power_and_from_its_mel_bands():
    t = torch.arange(16384) / 22050
    chord = sum(torch.sin(2 * torch.pi * f * t) for f in (220.0, 277.2, 329.6))[None] / 3
    setting = {"n_fft": 1024, "hop_length": 256}
    power = spectral.power(chord, **setting)
    made = spectral.griffin_lim(power, **setting, generator=torch.Generator().manual_seed(0))
    miss = (spectral.power(made, **setting).sqrt() - power.sqrt()).square().sum() / power.sum()
    assert 10 * torch.log10(miss) < -15  # random phases: -3
    bands = spectral.mel(chord, sample_rate=22050, **setting, n_mels=96)
    guess = spectral.power_from_mel(bands, sample_rate=22050, n_fft=1024)
    again = spectral.mel_filterbank(sample_rate=22050, n_fft=1024, n_mels=96) @ guess
    assert (again - bands).norm() / bands.norm() < 0.05
    assert guess.min() >= 0


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: spectral.frame(torch.zeros(9), n_fft=100, hop_length=33), "n_fft 100 and hop_length 33"),
        (lambda: spectral.istft(torch.zeros(301, 4) + 0j, n_fft=600, hop_length=400), "take 1600"),
        (lambda: spectral.mel_filterbank(sample_rate=8000, n_fft=256, n_mels=8, high_hz=5000), "4000"),
        (lambda: spectral.mfcc(torch.zeros(4, 2), n_mfcc=9), "1 to 4"),
    ],
)
def test_refusals_name_value_and_bound(call, words):
    with pytest.raises(ConfigError, match=words):
        call()
