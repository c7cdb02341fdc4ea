"""The sub-band RNN on tensors, as training sees it: what a step is told, how likely it is, and its weights packed."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from soundloom.models import subkernel
from soundloom.models.filterbank import BANDS
from soundloom.models.subkernel import LEAST_LOG_SCALE, MOST_LOG_SCALE, TOLD, TRUSTED, Floats, Weights

STEP = 1.0 / 32767  # of 16 bits


def packed(cell: nn.GRU, *, head: nn.Linear, say: nn.Linear, straight: nn.Linear, bounds: nn.Linear) -> Weights:
    """The layers of the net as the kernel plays them; their inputs are, in this order, the cell, what is told of the
    past, what is known of the condition."""
    width, n = cell.hidden_size, TOLD + BANDS
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    weight, recurrent, into, inside = (getattr(cell, f"{name}_l0") for name in names)
    beside = head.weight[:, width:]
    gates = into + F.pad(inside[: 2 * width], (0, width))
    return Weights(
        guide=rows(torch.cat([weight[:, n:], beside[:, n:], straight.weight[:, n:]]).T),
        bias=rows(torch.cat([gates, head.bias, say.bias])),
        told=rows(torch.cat([weight[:, :n], beside[:, :n], straight.weight[:, :n]]).T),
        hidden=rows(recurrent.T),
        hidden_bias=rows(inside[2 * width :]),
        head=rows(head.weight[:, :width].T),
        say=rows(say.weight.T),
        bounds=rows(bounds.weight.T),
        bounds_bias=rows(bounds.bias),
    )


def rows(x: Tensor) -> Floats:
    """A tensor as the kernel reads it."""
    array: Floats = np.ascontiguousarray(x.detach().cpu().float().numpy())
    return array


def dithered(audio: Tensor, generator: torch.Generator) -> Tensor:
    """Evenly spread over the cells of 16 bits: what is silent has a density too (Uria et al., 2013)."""
    noise = torch.rand(audio.shape, generator=generator, device=generator.device).to(audio) - 0.5
    return audio + STEP * noise


def observed(bands: Tensor) -> tuple[Tensor, Tensor]:
    """bands [B, N, 16] -> what the net is told before each step [B, N, TOLD], and what is expected [B, N, 16]."""
    sounds = rows(bands)
    told, expected = np.empty((*sounds.shape[:2], TOLD), np.float32), np.empty_like(sounds)
    for i, sound in enumerate(sounds):
        subkernel.observed(subkernel.no_past(), sound, told[i], expected[i])
    return torch.from_numpy(told).to(bands.device), torch.from_numpy(expected).to(bands.device)


def surprise(said: Tensor, bands: Tensor, kept: Tensor) -> Tensor:
    """Minus the log-probability of each value [B, N, 16] in nats, as of a cell of 16 bits, under what was said."""
    expected, base, foreseen = kept.chunk(3, -1)
    trust, rest = torch.sigmoid(said[..., :BANDS] + TRUSTED), said[..., BANDS:]
    logits, mean, log_scale = rest.reshape(*rest.shape[:2], 3, -1, BANDS).unbind(2)  # each [B, N, K, 16]
    log_scale = log_scale.clamp(LEAST_LOG_SCALE, MOST_LOG_SCALE)
    off = (bands - trust * expected - foreseen) * torch.exp(-base)
    z = (off[:, :, None] - mean) * torch.exp(-log_scale)
    density = F.logsigmoid(z) + F.logsigmoid(-z) - log_scale
    return -torch.logsumexp(torch.log_softmax(logits, 2) + density, 2) + base - math.log(STEP)
