"""Mixtures of logistics on the 16-bit grid: how likely a sample is, as a discrete value (Salimans et al., 2017)."""

import torch
import torch.nn.functional as F
from torch import Tensor

STEP = 1.0 / 32767  # of 16 bits
NARROWEST = -7.0  # log-scale


def quantised(audio: Tensor) -> Tensor:
    """The nearest values that 16 bits can hold, halves upwards."""
    return torch.floor(audio.clamp(-1.0, 1.0) / STEP + 0.5) * STEP


def unpacked(parameters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What a network says [..., 3K] -> logits of the weights, means and log-scales, each [..., K]."""
    logits, mean, log_scale = parameters.float().chunk(3, -1)
    return logits, mean, log_scale.clamp(NARROWEST, 4.0)


def log_probability(parameters: Tensor, value: Tensor, step: Tensor) -> Tensor:
    """The log-probability, in nats, of the grid cell of width `step` around `value`.

    Shapes: `parameters` [..., 3K], `value` and `step` [...] in the unit in which means and scales are said.
    The cell's share of one logistic is σ(a) - σ(b) with a - b = step / scale, which is
    σ(a) · σ(-b) · (1 - e^(b-a)): a product, so nothing cancels however thin the cell is.
    """
    logits, mean, log_scale = unpacked(parameters)
    narrow = torch.exp(-log_scale)
    centre = (value[..., None] - mean) * narrow
    half = 0.5 * step[..., None] * narrow
    cell = F.logsigmoid(centre + half) + F.logsigmoid(half - centre) + torch.log(-torch.expm1(-2 * half))
    return torch.logsumexp(torch.log_softmax(logits, -1) + cell, -1)


def drawn(parameters: Tensor, uniforms: Tensor, *, temperature: float) -> Tensor:
    """One value [...] of each mixture [..., 3K], by two uniform numbers [..., 2]: which logistic, and where in it.

    Temperature 0: the middle of the likeliest logistic.
    """
    logits, mean, log_scale = unpacked(parameters)
    if temperature == 0:
        which = logits.argmax(-1, keepdim=True)
    else:
        share = torch.softmax(logits, -1).cumsum(-1)
        which = (share < uniforms[..., :1]).sum(-1, keepdim=True).clamp_max(mean.shape[-1] - 1)
    place = uniforms[..., 1].clamp(1e-6, 1 - 1e-6)
    spread = torch.exp(log_scale.gather(-1, which)[..., 0]) * temperature
    return mean.gather(-1, which)[..., 0] + spread * torch.log(place / (1 - place))
