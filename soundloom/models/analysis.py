"""What an encoder hears: fixed measurements of a sound, per frame; nothing here is learnt."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from soundloom import spectral
from soundloom.models.layers import PITCH_FEATURES, SUBFRAMES, pitch_features

N_MELS = 128
MIDDLE_LOG, SPREAD_LOG = -7.0, 3.0  # of log amplitudes, about: networks like numbers near one


class Analysis(nn.Module):
    """Measurements of a sound, and of each voice in it.

    The short spectrum in mel bands and the level of each eighth of a frame say what has no pitch; for each voice, the
    level around each of its partials, and half-way between, in a longer spectrum, say what has. Windows are `short`
    and `long` hops. What is measured is a sound with `margin` samples around its frames: `surround` puts zeros there,
    a stream has the neighbours.
    """

    filters: Tensor

    def __init__(self, *, sample_rate: int, hop_length: int, n_partials: int, short: int = 4, long: int = 16) -> None:
        super().__init__()
        self.sample_rate, self.hop_length, self.n_partials = sample_rate, hop_length, n_partials
        self.n_short, self.n_long = short * hop_length, long * hop_length
        filters = spectral.mel_filterbank(sample_rate=sample_rate, n_fft=self.n_short, n_mels=N_MELS)
        filters = filters / filters.sum(1, keepdim=True).clamp_min(1e-12)
        self.register_buffer("filters", filters.T.contiguous(), persistent=False)

    @property
    def size(self) -> int:
        return N_MELS + SUBFRAMES

    @property
    def voice_size(self) -> int:
        return 2 * self.n_partials + PITCH_FEATURES + 1

    @property
    def margin(self) -> int:
        """Samples on each side of its own hop that a frame is measured from."""
        return (self.n_long - self.hop_length) // 2

    def surround(self, audio: Tensor) -> Tensor:
        """audio [B, T] -> [B, margin + N * hop_length + margin]."""
        return F.pad(audio, (self.margin, self.margin + -audio.shape[1] % self.hop_length))

    @torch.no_grad()
    def forward(self, audio: Tensor) -> Tensor:
        """Surrounded audio -> [B, N, size]."""
        power = self._power(audio, self.n_short)
        mels = 0.5 * torch.log((power / (self.n_short / 4) ** 2) @ self.filters + 1e-10)
        inner = audio[:, self.margin : -self.margin]
        pieces = inner.reshape(len(audio), -1, SUBFRAMES, self.hop_length // SUBFRAMES)
        levels = 0.5 * torch.log(pieces.square().mean(-1) + 1e-10)
        return (torch.cat([mels, levels], -1) - MIDDLE_LOG) / SPREAD_LOG

    @torch.no_grad()
    def voices(self, audio: Tensor, f0_hz: Tensor, voiced: Tensor, stiffness: Tensor) -> Tensor:
        """Surrounded audio, f0 and voicing [B, K, N], stiffness [B, K] or [B, K, N] -> [B, K, N, voice_size]."""
        power = self._power(audio, self.n_long)
        p = torch.arange(1, self.n_partials + 1, device=audio.device)
        p = torch.stack([p, p + 0.5], -1).flatten().float()
        if stiffness.ndim == 2:
            stiffness = stiffness[..., None]
        stretch = p * torch.sqrt(1 + stiffness[..., None] * p * p)  # [B, K, N or 1, 2P]
        position = f0_hz[..., None] * stretch * (self.n_long / self.sample_rate)  # [B, K, N, 2P]
        nearest = position.round().clamp_max(power.shape[-1] - 2)
        at = nearest.long().clamp_min(1)
        seen = power[:, None].expand(-1, f0_hz.shape[1], -1, -1)
        # A Hann window spreads a partial over a few bins; the sum of three hardly depends on where between two it lies.
        level = sum(seen.gather(-1, at + side) for side in (-1, 0, 1)) / (1.5 * (self.n_long / 4) ** 2)
        level = torch.where(position < power.shape[-1] - 1, level, 0.0)
        level = (0.5 * torch.log(level + 1e-10) - MIDDLE_LOG) / SPREAD_LOG
        stiff = (torch.log(stiffness.clamp_min(1e-6)) + 8)[..., None].expand(*f0_hz.shape, 1)
        known = torch.cat([level, pitch_features(f0_hz, voiced), stiff], -1)
        return torch.where((f0_hz > 0)[..., None], known, 0.0)

    def _power(self, audio: Tensor, n_fft: int) -> Tensor:
        """Surrounded audio -> [B, N, F]."""
        spare = self.margin - (n_fft - self.hop_length) // 2
        framed = audio[:, spare : audio.shape[1] - spare].float().unfold(-1, n_fft, self.hop_length)
        return torch.view_as_real(spectral.rfft(framed * spectral.hann(n_fft, audio.device))).square().sum(-1)
