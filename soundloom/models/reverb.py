"""A room that is learnt: an impulse response with an exponential decay, applied by FFT convolution.

    y = x + x * h        h[t] = unit · tail[t] · e^(-t / decay),  t = 1, 2, ...

The direct sound always passes untouched; `tail` is white noise to begin with, and what a room makes of an impulse is
close to that: noise that dies away (Moorer, 1979). Both the noise and the decay are learnt (Engel et al., 2020, have
the noise alone); a Gaussian prior on `tail` is then one on h that decays.
"""

import math

import torch
from scipy.fft import next_fast_len
from torch import Tensor, nn

DECAY_S = 0.1  # to begin with: 60 dB in 0.7 s
UNIT_DB = -10.0  # energy of the reverberation, against the direct sound, where the tail is of unit variance
FAINT = 0.01  # the tail at the start: 40 dB below that


class Reverb(nn.Module):
    """Sound in a room, as long as the sound or block by block: any split gives the same."""

    def __init__(self, *, sample_rate: int, seconds: float) -> None:
        super().__init__()
        self.sample_rate = sample_rate
        self.tail = nn.Parameter(FAINT * torch.randn(max(1, round(seconds * sample_rate))))
        self.log_decay_s = nn.Parameter(torch.tensor(math.log(DECAY_S)))

    def response(self) -> Tensor:
        """The impulse response without its direct sound, which comes one sample earlier: [L]."""
        decay = torch.exp(self.log_decay_s.clamp(math.log(0.01), math.log(3.0))) * self.sample_rate
        t = torch.arange(len(self.tail), device=self.tail.device)
        unit = math.sqrt(10 ** (UNIT_DB / 10) * 2 / (DECAY_S * self.sample_rate))
        return unit * self.tail * torch.exp(-t / decay)

    def prior(self) -> Tensor:
        """What the tail costs, a scalar: 1 where it is as loud as the prior expects it at most."""
        return self.tail.square().mean()

    def forward(self, audio: Tensor) -> Tensor:
        """audio [B, T] -> [B, T]; what would sound on after the end is cut."""
        reverberation = convolved(audio, self.response())[:, : audio.shape[1] - 1]
        return audio + nn.functional.pad(reverberation, (1, 0))

    def init_state(self) -> Tensor:
        return self.tail.new_zeros(1, len(self.tail))

    def step(self, audio: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """The next samples [1, n] of a stream -> [1, n], and what is still to sound [1, L]."""
        n = audio.shape[1]
        sounding = nn.functional.pad(state, (0, n))
        sounding[:, 1:] += convolved(audio, self.response())
        return audio + sounding[:, :n], sounding[:, n:]


def convolved(audio: Tensor, response: Tensor) -> Tensor:
    """audio [B, T] * response [L] -> [B, T + L - 1]."""
    length = audio.shape[1] + len(response) - 1
    size = next_fast_len(length, real=True)
    size += size % 2
    spectrum = torch.fft.rfft(audio, size) * torch.fft.rfft(response, size)
    whole: Tensor = torch.fft.irfft(spectrum, size)
    return whole[:, :length]
