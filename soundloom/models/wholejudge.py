"""The adversary of whole sounds: one verdict for a sound, under what it was asked to be.

The shared adversary judges texture, cell by cell; this one hears a whole sound at a glance, so that it can tell whether
it is a "seven", and, from the sounds beside it in the batch, whether they are too much alike.
"""

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from soundloom import spectral
from soundloom.condition import Condition
from soundloom.models.conditioning import ConditionEncoder
from soundloom.models.layers import autocast

N_MELS = 96
GROUP = 4  # sounds whose features are held against each other
STRETCHES = 8  # of time, that are told apart at the end
FLOOR = 1e-3  # amplitude below which nothing is told apart: -60 dB
SUMMARY = 256


class WholeJudge(nn.Module):
    filters: Tensor

    def __init__(self, *, sample_rate: int, hop_length: int, labels: int, channels: int = 32) -> None:
        super().__init__()
        self.n_fft, self.hop_length = 4 * hop_length, hop_length
        filters = spectral.mel_filterbank(sample_rate=sample_rate, n_fft=self.n_fft, n_mels=N_MELS)
        filters = filters / filters.sum(1, keepdim=True).clamp_min(1e-12)
        self.register_buffer("filters", filters.T.contiguous(), persistent=False)
        sizes = [2, channels, 2 * channels, 4 * channels, 6 * channels]
        self.layers = nn.ModuleList(nn.Conv2d(a, b, 4, stride=2, padding=1) for a, b in itertools.pairwise(sizes))
        self.summary = nn.Linear(sizes[-1] * (N_MELS // 16) * STRETCHES, SUMMARY)
        self.alike = nn.Linear(SUMMARY + 1, SUMMARY)
        self.verdict = nn.Linear(SUMMARY, 1)
        self.asked = ConditionEncoder(labels, SUMMARY)

    def forward(self, audio: Tensor, condition: Condition) -> Tensor:
        """audio [B, T] and what each sound was asked to be -> verdicts [B], higher for what sounds real.

        The condition enters by projection (Miyato and Koyama, 2018): what was asked, times what is heard.
        """
        levels = self.levels(audio) / 3 - 1
        with autocast(audio.device):
            height = torch.linspace(-1, 1, N_MELS, device=audio.device).expand_as(levels)
            x = torch.stack([levels, height], 1).contiguous(memory_format=torch.channels_last)
            for layer in self.layers:
                x = F.leaky_relu(layer(x), 0.2)
            x = F.adaptive_avg_pool2d(x, (STRETCHES, x.shape[-1]))
            h = F.leaky_relu(self.summary(x.flatten(1)), 0.2)
            h = F.leaky_relu(self.alike(torch.cat([h, spread_in_groups(h)], 1)), 0.2)
            told = self.verdict(h)[:, 0] + (self.asked(condition) * h).sum(1) / math.sqrt(SUMMARY)
        verdict: Tensor = told.float()
        return verdict

    def levels(self, audio: Tensor) -> Tensor:
        """audio [B, T] -> log amplitudes above the floor [B, N, bands], 0 to 7."""
        power = spectral.power(audio, n_fft=self.n_fft, hop_length=self.hop_length).transpose(1, 2)  # [B, N, F]
        unit = (self.n_fft / 4) ** 2
        above: Tensor = 0.5 * torch.log(power @ self.filters / unit + FLOOR**2) - math.log(FLOOR)
        return above


def spread_in_groups(h: Tensor) -> Tensor:
    """Features [B, C] -> [B, 1]: how far they are apart, on average, within each group of sounds (Karras et al., 2018).
    Sounds that a generator repeats are told by it."""
    if len(h) < 2:
        return h.new_zeros(len(h), 1)
    size = GROUP if len(h) % GROUP == 0 else len(h)
    groups = h.float().unflatten(0, (-1, size))  # type: ignore[no-untyped-call]
    spread: Tensor = (groups.var(1, correction=0) + 1e-6).sqrt().mean(1)
    return spread.repeat_interleave(size)[:, None].to(h.dtype)
