"""What is known of the next sample from the spectrum alone: a linear predictor, and how far off it usually is.

    mel frames ──▶ power spectrum ──▶ autocorrelation, between frames by interpolation ──▶ Levinson ──▶ taps, error

A network that is told the prediction, and says how the sample differs from it in units of the usual error, knows the
spectral envelope before its first step (Valin and Skoglund's LPCNet, 2019). Interpolating autocorrelations keeps every
predictor stable, which interpolating taps does not.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from soundloom import spectral
from soundloom.models.logistics import STEP

SUBFRAMES = 4  # predictors a frame
BLUR_HZ = 3.0  # by which the spectrum is blurred, and
FLOOR = 1e-7  # the white noise added to it, as a share of its power: both keep the equations well-posed
QUIETEST = 1e-10  # of a mel band's power, as in `spectral.log_mel`


@dataclass(frozen=True)
class Prediction:
    """Linear predictors for S pieces of sound, each for `samples` samples.

    Shapes: `taps` [B, S, order], the newest sample first; `error` and `level` [B, S], the usual size of what it
    leaves and of the sound itself.
    """

    taps: Tensor
    error: Tensor
    level: Tensor


def measured(audio: Tensor, *, sample_rate: int, hop_length: int, n_mels: int) -> Tensor:
    """audio [B, T] -> log-mel frames [B, N, n_mels]: what the vocoder is given."""
    frames = spectral.log_mel(
        audio, sample_rate=sample_rate, n_fft=4 * hop_length, hop_length=hop_length, n_mels=n_mels, floor=QUIETEST
    )
    return frames.transpose(1, 2)


def predicted_from(frames: Tensor, *, sample_rate: int, hop_length: int, order: int) -> Prediction:
    """log-mel frames [B, N, n_mels] -> predictors for N * SUBFRAMES pieces of hop_length / SUBFRAMES samples."""
    to_lags = _to_lags(sample_rate, 4 * hop_length, frames.shape[-1], order, frames.device)
    with torch.autocast(frames.device.type, enabled=False):
        lags = torch.exp(frames.double()) @ to_lags  # [B, N, order + 1]
        lags = F.interpolate(lags.transpose(1, 2), scale_factor=SUBFRAMES, mode="linear", align_corners=False)
        lags = lags.transpose(1, 2)
        lags[..., 0] = lags[..., 0] * (1 + FLOOR) + STEP**2 / 12
        taps, left = levinson(lags)
        error = torch.sqrt(left).clamp_min(STEP)
        level = torch.sqrt(lags[..., 0]).clamp_min(STEP)
    return Prediction(taps.float(), error.float(), level.float())


def levinson(lags: Tensor) -> tuple[Tensor, Tensor]:
    """Autocorrelation [..., order + 1] -> its best linear predictor [..., order], the power it leaves [...]."""
    order = lags.shape[-1] - 1
    taps, left = lags[..., :0], lags[..., 0]
    for i in range(order):
        reached = (taps * lags[..., 1 : i + 1].flip(-1)).sum(-1)
        reflection = ((lags[..., i + 1] - reached) / left)[..., None]
        taps = torch.cat([taps - reflection * taps.flip(-1), reflection], -1)
        left = left * (1 - reflection[..., 0].square())
    return taps, left


@lru_cache(maxsize=8)
def _to_lags(sample_rate: int, n_fft: int, n_mels: int, order: int, device: torch.device) -> Tensor:
    """Mel power -> autocorrelation: the bands spread over their bins, then the cosines of the power spectrum, scaled
    to the mean square of the sound. [n_mels, order + 1], float64."""
    with torch.inference_mode(False):
        filters = spectral.mel_filterbank(sample_rate=sample_rate, n_fft=n_fft, n_mels=n_mels).double()
        spread = filters / filters.sum(0).clamp_min(1e-12) * (sample_rate / n_fft)  # each bin the mean of its bands
        counts = torch.full((n_fft // 2 + 1,), 2.0, dtype=torch.float64)
        counts[0] = counts[-1] = 1.0
        bins, lags = torch.arange(n_fft // 2 + 1).double(), torch.arange(order + 1).double()
        cosines = torch.cos(2 * torch.pi * bins[:, None] * lags / n_fft) * counts[:, None]
        window = spectral.hann(n_fft, torch.device("cpu")).double().square().sum()
        smooth = torch.exp(-0.5 * (2 * torch.pi * BLUR_HZ / sample_rate * lags).square())
        return (spread @ cosines / (n_fft * window) * smooth).to(device)
