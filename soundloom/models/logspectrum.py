"""What the ear sees: a sound on a log-frequency axis, a semitone a band, through three windows at once.

A short window tells when, a long one tells which pitch; both are on the same axis, so that one network reads them
together as it would the colours of a picture.

    at 32 kHz    16 ms    64 ms    256 ms
    channel        0        1         2        [B, 3, bands, frames], 0 is as loud as the sound gets, -1 is 80 dB below
"""

import math

import torch
from torch import Tensor, nn

from soundloom import spectral
from soundloom.spectral import default_hop

LOWEST_HZ = 24.5  # G0: two semitones below the lowest note of a piano
BANDS_TOGETHER = 16  # the network halves the axis four times
RANGE_DB = 80.0
WINDOWS = (2, 8, 32)  # in hops
STEPS = (1, 2, 8)  # in hops: longer windows change less


class LogSpectrum(nn.Module):
    """audio [B, T] -> levels [B, 3, bands, N] of a log-frequency axis, one band a semitone from G0 up to half the rate.

    Each band is a triangle over frequency that reaches to its neighbours' centres, or a bin to each side where the
    window resolves less than that; of unit peak, so that a steady partial has the same level in every window.
    """

    filters_0: Tensor  # [bands, F]
    filters_1: Tensor
    filters_2: Tensor

    def __init__(self, *, sample_rate: int) -> None:
        super().__init__()
        self.hop_length = default_hop(sample_rate) // 2
        octaves = math.log2(sample_rate / 2 / LOWEST_HZ)
        self.bands = BANDS_TOGETHER * math.ceil((12 * octaves - 2) / BANDS_TOGETHER)  # two at the top may be missing
        for i, window in enumerate(WINDOWS):
            filters = triangles(self.bands, n_fft=window * self.hop_length, sample_rate=sample_rate)
            self.register_buffer(f"filters_{i}", filters, persistent=False)

    @torch.no_grad()
    def forward(self, audio: Tensor) -> Tensor:
        audio = audio.float()
        # One sound after the other stays in a processor's cache; elsewhere all go at once.
        parts = audio.split(1) if audio.device.type == "cpu" else (audio,)  # type: ignore[no-untyped-call]
        power = torch.cat([self._power(part) for part in parts])
        loudest = power.amax((1, 2, 3), keepdim=True).clamp(min=1e-9)
        decibels = 10 * torch.log10((power / loudest).clamp(min=10 ** (-RANGE_DB / 10)))
        return decibels / RANGE_DB

    def _power(self, audio: Tensor) -> Tensor:
        """audio [B, T] -> power [B, 3, bands, N]."""
        n = spectral.frames(audio.shape[-1], hop_length=self.hop_length)
        levels = []
        for i, (window, step) in enumerate(zip(WINDOWS, STEPS, strict=True)):
            n_fft = window * self.hop_length
            spectrum = spectral.power(audio, n_fft=n_fft, hop_length=step * self.hop_length)
            banded = self.get_buffer(f"filters_{i}") @ spectrum * (16 / n_fft**2)
            levels.append(banded.repeat_interleave(step, -1)[..., :n] if step > 1 else banded)
        return torch.stack(levels, 1)


def triangles(bands: int, *, n_fft: int, sample_rate: int) -> Tensor:
    """[bands, n_fft / 2 + 1]; bands above half the sample rate stay empty."""
    bin_hz = sample_rate / n_fft
    centre = LOWEST_HZ * 2.0 ** (torch.arange(bands, dtype=torch.float64) / 12)
    below = torch.maximum(centre * (1 - 2 ** (-1 / 12)), torch.tensor(bin_hz))
    above = torch.maximum(centre * (2 ** (1 / 12) - 1), torch.tensor(bin_hz))
    off = torch.arange(n_fft // 2 + 1) * bin_hz - centre[:, None]
    reach = torch.where(off < 0, below[:, None], above[:, None])
    inside = (centre < sample_rate / 2)[:, None]
    return ((1 - off.abs() / reach).clamp(min=0) * inside).float()
