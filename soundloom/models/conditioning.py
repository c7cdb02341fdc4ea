"""The shared condition, as networks see it: one vector per sound, whatever of it is known."""

import torch
from torch import Tensor, nn

from soundloom.condition import DESCRIPTORS, GRAMS, UNKNOWN, Condition
from soundloom.models.layers import PITCH_FEATURES, pitch_features

BUMPS = 8  # features of a value from 0 to 1


class ConditionEncoder(nn.Module):
    """What is asked of a sound -> [B, width]. Each value adds its own part, a missing one nothing: so any subset may be
    given, and the sum of none of them is where guidance starts from."""

    def __init__(self, labels: int, width: int) -> None:
        super().__init__()
        self.labels = labels
        self.label = nn.Embedding(max(labels, 1), width)
        self.pitch = nn.Linear(PITCH_FEATURES, width, bias=False)
        self.values = nn.Linear((1 + len(DESCRIPTORS)) * BUMPS, width, bias=False)
        self.text = nn.EmbeddingBag(GRAMS + 1, width, mode="mean", padding_idx=GRAMS)
        self.mix = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))
        nn.init.normal_(self.text.weight, std=0.3)
        with torch.no_grad():
            self.text.weight[GRAMS].zero_()

    def forward(self, condition: Condition) -> Tensor:
        hz = 440.0 * 2.0 ** ((condition.pitch.nan_to_num(0.0) - 69) / 12)
        known = torch.isfinite(condition.pitch).float()
        total = self.pitch(pitch_features(hz * known, known))
        label = condition.label
        total = total + self.label(label.clamp(0, max(self.labels, 1) - 1)) * (label != UNKNOWN).float()[:, None]
        values = torch.cat([condition.velocity[:, None], condition.descriptors], 1)
        total = total + self.values(_bumps(values).flatten(1))
        total = total + self.text(torch.where(condition.text < 0, GRAMS, condition.text))
        mixed: Tensor = self.mix(total)
        return mixed


def _bumps(values: Tensor) -> Tensor:
    """Values [...] from 0 to 1 -> [..., BUMPS], a bump that moves along; a missing one is zero throughout."""
    at = values.nan_to_num(0.0)[..., None] * (BUMPS - 1)
    bumps = torch.exp(-0.5 * (at - torch.arange(BUMPS, device=values.device)).square())
    return bumps * torch.isfinite(values).float()[..., None]
