"""What mel frames say of each band of the filter bank: a linear predictor for it, how far off that is, how loud it is.

A band's values are the sound through the filter g_k, every sixteenth of them, so their autocorrelation is that of the
filtered sound at every sixteenth lag: with P the power spectrum,

    r_k[n] = Σ_f P(f) · |G_k(f)|² · cos(2π f · 16 n)

which is linear in the mel bands. So one matrix product and sixteen small recursions give all predictors of a frame.
"""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from soundloom import spectral
from soundloom.models import filterbank
from soundloom.models.filterbank import BANDS
from soundloom.models.predictor import levinson

LAGS = 32  # past values of its own band from which a band is predicted
FLOOR = 1e-6  # white noise added, as a share of a band's power, and
FAINTEST = 1e-5  # its least amplitude


def band_predictors(frames: Tensor, *, sample_rate: int, n_fft: int) -> tuple[Tensor, Tensor]:
    """log-mel frames [B, N, mels] -> taps [B, N, LAGS, BANDS], the newest value first; and the natural logs of what
    they are usually off by and of the level, [B, N, 2 · BANDS]."""
    lags = torch.exp(frames.double()) @ _to_lags(sample_rate, n_fft, frames.shape[-1], frames.device)
    lags = lags.reshape(*lags.shape[:2], BANDS, LAGS + 1)
    lags = torch.cat([lags[..., :1] * (1 + FLOOR) + FAINTEST**2, lags[..., 1:]], -1)
    taps, left = levinson(lags)
    logs = 0.5 * torch.log(torch.cat([left.clamp_min(FAINTEST**2), lags[..., 0]], -1))
    return taps.transpose(-1, -2).float(), logs.float()


@lru_cache(maxsize=8)
def _to_lags(sample_rate: int, n_fft: int, n_mels: int, device: torch.device) -> Tensor:
    """Mel power -> the autocorrelations of the bands, [n_mels, BANDS · (LAGS + 1)], float64."""
    with torch.inference_mode(False):
        filters = spectral.mel_filterbank(sample_rate=sample_rate, n_fft=n_fft, n_mels=n_mels).double()
        spread = filters / filters.sum(0).clamp_min(1e-12) * (sample_rate / n_fft)  # each bin the mean of its bands
        bins = np.arange(n_fft // 2 + 1) / n_fft  # in turns a sample
        gain = np.abs(np.exp(-2j * np.pi * np.outer(bins, np.arange(filterbank.TAPS))) @ filterbank.filters().T) ** 2
        turns = np.cos(2 * np.pi * BANDS * np.outer(bins, np.arange(LAGS + 1)))
        counts = np.where((bins == 0) | (bins == 0.5), 1.0, 2.0)
        matrix = torch.from_numpy((counts[:, None] * gain)[:, :, None] * turns[:, None, :]).flatten(1)
        window = spectral.hann(n_fft, torch.device("cpu")).double().square().sum()
        return (spread @ matrix / (n_fft * window)).to(device)
