"""The shared adversary: small convolutions on complex spectra of three resolutions, judging crops.

After the multi-resolution discriminators of UnivNet (Jang et al., 2021) and EnCodec's complex input (Défossez et al.,
2022), with few channels: it is there to judge texture, which a distance of log amplitudes does not reward.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from soundloom import spectral
from soundloom.losses import weighted
from soundloom.models.base import Player, Update
from soundloom.models.layers import autocast

RESOLUTIONS = (0.0116, 0.0232, 0.0464)  # seconds of a window


class Discriminator(nn.Module):
    def __init__(self, *, sample_rate: int, channels: int = 16) -> None:
        super().__init__()
        self.sizes = [2 ** round(torch.log2(torch.tensor(s * sample_rate)).item()) for s in RESOLUTIONS]
        self.judges = nn.ModuleList(_SpectrogramJudge(channels) for _ in self.sizes)

    def forward(self, audio: Tensor) -> list[list[Tensor]]:
        """audio [B, T] -> for each resolution the features of every layer, the verdicts last."""
        heard = []
        for n_fft, judge in zip(self.sizes, self.judges, strict=True):
            spectrum = spectral.stft(audio, n_fft=n_fft, hop_length=n_fft // 4) * (4 / n_fft)
            # Compressed to the cube root: quiet cells are heard, and the phase is kept.
            parts = torch.view_as_real(spectrum)
            power = parts.square().sum(-1, keepdim=True) + 1e-8
            parts = parts * power ** (-1 / 3)
            with autocast(audio.device):
                heard.append(judge(parts.permute(0, 3, 2, 1).contiguous(memory_format=torch.channels_last)))
        return heard


class _SpectrogramJudge(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        weight_norm = nn.utils.parametrizations.weight_norm
        # Most cells are in the first layer: it takes four bins at a step.
        sizes, strides = [2, channels, channels, 2 * channels], [(1, 4), (1, 2), (2, 2)]
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv2d(a, b, (3, 7), stride=s, padding=(1, 3)))
            for a, b, s in zip(sizes[:-1], sizes[1:], strides, strict=True)
        )
        self.verdict = weight_norm(nn.Conv2d(sizes[-1], 1, 3, padding=1))

    def forward(self, x: Tensor) -> list[Tensor]:
        """x [B, 2, N, F] -> the features of each layer, then verdicts [B, 1, N', F']."""
        features = []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), 0.2)
            features.append(x)
        return [*features, self.verdict(x)]


def maker_and_judge(
    name: str, model: nn.Module, discriminator: Discriminator, *, learning_rate: float
) -> dict[str, Player]:
    """The two players: all of a model but its discriminator, called `name`, and the discriminator, the "judge"."""
    judge = list(discriminator.parameters())
    judged = {id(parameter) for parameter in judge}
    maker = [parameter for parameter in model.parameters() if id(parameter) not in judged]
    return {
        name: Player(maker, learning_rate=learning_rate, betas=(0.8, 0.99), weight_decay=1e-3),
        "judge": Player(judge, learning_rate=learning_rate / 4, betas=(0.5, 0.9), ema=False),
    }


def crops(made: Tensor, real: Tensor, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The same third of both [B, T], from anywhere: the adversary costs more than all else."""
    size = made.shape[1] // 3
    start = int(torch.randint(0, made.shape[1] - size + 1, (1,), generator=generator, device=generator.device))
    return made[:, start : start + size], real[:, start : start + size]


def adversarial_loss(discriminator: Discriminator, made: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
    """For the maker: hinge loss of its sounds, and feature matching relative to the size of the real features."""
    with torch.no_grad():
        wanted = discriminator(real)
    heard = discriminator(made)
    fooled = torch.stack([-f[-1].float().mean() for f in heard]).mean()
    apart = [
        (a.float() - b.float()).abs().mean() / b.float().abs().mean().clamp_min(1e-4)
        for mine, theirs in zip(heard, wanted, strict=True)
        for a, b in zip(mine[:-1], theirs[:-1], strict=True)
    ]
    return fooled, torch.stack(apart).mean()


def discriminator_loss(discriminator: Discriminator, made: Tensor, real: Tensor) -> Tensor:
    """For the judge: hinge loss (Lim and Ye, 2017) on real and made sounds [B, T]."""
    verdicts = [f[-1].float() for f in discriminator(torch.cat([real, made]))]
    losses = []
    for verdict in verdicts:
        on_real, on_made = verdict.chunk(2)
        losses.append(F.relu(1 - on_real).mean() + F.relu(1 + on_made).mean())
    return torch.stack(losses).mean()


def play(
    discriminator: Discriminator,
    made: Tensor,
    real: Tensor,
    *,
    maker: str,
    losses: Sequence[tuple[float, Tensor]],
    weight: float,
    update: Update,
) -> dict[str, Tensor]:
    """One turn of both players: the maker's on its own weighted losses and the adversary's, then the judge's."""
    adversarial, matching = adversarial_loss(discriminator, made, real)
    update(maker, weighted([*losses, (weight, adversarial), (2 * weight, matching)]))
    judge = discriminator_loss(discriminator, made.detach(), real)
    update("judge", judge)
    return {"adversarial": adversarial, "matching": matching, "judge": judge}
