"""What a sound is asked to be: pitch and label for now, each of which may be missing."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from soundloom.config import did_you_mean
from soundloom.errors import ConditionError

UNKNOWN = -1


@dataclass(frozen=True)
class Condition:
    """A batch of B conditions. A missing value is NaN (pitch) or `UNKNOWN` (label).

    Shapes: `pitch` [B] float, MIDI number; `label` [B] int64, an index into the model's labels.
    """

    pitch: Tensor
    label: Tensor

    @classmethod
    def of(
        cls, n: int, labels: Sequence[str] = (), *, pitch: float | None = None, label: str | None = None
    ) -> "Condition":
        """The same condition n times. `labels` are those the model knows; another is refused with `ConditionError`."""
        index = UNKNOWN
        if label is not None:
            if label not in labels:
                raise ConditionError(f"the label '{label}' is not in this model: {did_you_mean(label, labels)}")
            index = list(labels).index(label)
        return cls(
            pitch=torch.full((n,), float("nan") if pitch is None else float(pitch)),
            label=torch.full((n,), index, dtype=torch.int64),
        )

    def __len__(self) -> int:
        return len(self.pitch)

    def __getitem__(self, index: Tensor | slice) -> "Condition":
        return Condition(self.pitch[index], self.label[index])

    def to(self, device: torch.device | str) -> "Condition":
        return Condition(self.pitch.to(device), self.label.to(device))

    def dropped(self, probability: float, *, generator: torch.Generator) -> "Condition":
        """Each value made missing with `probability`, independently, so that any subset can be asked for later."""
        device = self.pitch.device
        drop = torch.rand(2, len(self), generator=generator, device=generator.device).to(device) < probability
        return Condition(
            pitch=torch.where(drop[0], torch.nan, self.pitch),
            label=torch.where(drop[1], UNKNOWN, self.label),
        )
