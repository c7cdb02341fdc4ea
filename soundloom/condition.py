"""What a sound is asked to be: pitch, velocity, label, descriptors, words; each of which may be missing."""

import math
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from soundloom.config import did_you_mean
from soundloom.errors import ConditionError

UNKNOWN = -1
MEASURES = {  # of a bank's table and of `features.describe`, by what they are asked as: quantiles of the bank, 0 to 1
    "brightness": "brightness_hz",
    "noisiness": "noisiness",
    "attack": "attack_s",
    "decay": "decay_s",
    "loudness": "loudness_lufs",
}
DESCRIPTORS = tuple(MEASURES)
GRAMS = 4096  # places into which words and parts of words are hashed
MOST_GRAMS = 96  # of a text are kept; captions have 40 to 80


@dataclass(frozen=True)
class Condition:
    """A batch of B conditions. A missing value is NaN, a missing label `UNKNOWN`, a missing text has no grams.

    Shapes: `pitch` [B] float, MIDI number; `label` [B] int64, an index into the model's labels; `velocity` [B], 0 to 1;
    `descriptors` [B, 5], quantiles of the bank in the order of `DESCRIPTORS`; `text` [B, MOST_GRAMS] int64, hashed
    words and parts of words (see `grams`), `UNKNOWN` where there are no more.
    """

    pitch: Tensor
    label: Tensor
    velocity: Tensor
    descriptors: Tensor
    text: Tensor

    @classmethod
    def of(
        cls,
        n: int,
        labels: Sequence[str] = (),
        *,
        pitch: float | None = None,
        label: str | None = None,
        velocity: float | None = None,
        descriptors: Mapping[str, float] | None = None,
        text: str | None = None,
    ) -> "Condition":
        """The same condition n times. `labels` are those the model knows.

        Raises:
            ConditionError: a label that is not among them, an unknown descriptor, a value out of its range.
        """
        index = UNKNOWN
        if label is not None:
            if label not in labels:
                raise ConditionError(f"the label '{label}' is not in this model: {did_you_mean(label, labels)}")
            index = list(labels).index(label)
        for name, value in {"velocity": velocity, **(descriptors or {})}.items():
            if name != "velocity" and name not in DESCRIPTORS:
                raise ConditionError(f"there is no descriptor '{name}': {did_you_mean(name, DESCRIPTORS)}")
            if value is not None and not 0 <= value <= 1:
                raise ConditionError(f"{name} is {value:g}: it goes from 0, the least in the bank, to 1, the most")
        if pitch is not None and not math.isfinite(pitch):
            raise ConditionError(f"pitch is {pitch}: give a MIDI number such as 60, or a note name such as C4")
        row = [(descriptors or {}).get(name, math.nan) for name in DESCRIPTORS]
        return cls(
            pitch=torch.full((n,), math.nan if pitch is None else float(pitch)),
            label=torch.full((n,), index, dtype=torch.int64),
            velocity=torch.full((n,), math.nan if velocity is None else float(velocity)),
            descriptors=torch.tensor(row, dtype=torch.float32).repeat(n, 1),
            text=grams(text or "").repeat(n, 1),
        )

    @classmethod
    def having(
        cls, *, pitch: Tensor | None = None, label: Tensor | None = None, descriptors: Tensor | None = None
    ) -> "Condition":
        """A condition of the given values (at least one), each with one row a sound; all others are missing."""
        given = {"pitch": pitch, "label": label, "descriptors": descriptors}
        known = {name: value for name, value in given.items() if value is not None}
        return replace(cls.of(len(next(iter(known.values())))), **known)

    def __len__(self) -> int:
        return len(self.pitch)

    def __getitem__(self, index: Tensor | slice) -> "Condition":
        return Condition(*(getattr(self, field.name)[index] for field in fields(self)))

    def to(self, device: torch.device | str) -> "Condition":
        return Condition(*(getattr(self, field.name).to(device) for field in fields(self)))

    def joined(self, other: "Condition") -> "Condition":
        """Both batches, one after the other."""
        return Condition(*(torch.cat([getattr(self, f.name), getattr(other, f.name)]) for f in fields(self)))

    def dropped(self, nothing: float, *, few: float = 0.4, generator: torch.Generator) -> "Condition":
        """Values made missing at random, so that any subset can be asked for later.

        Of a share `nothing` of the sounds, every value. Of a share `few`, all but the label, or all but label and
        pitch: that is what is asked for most. Of the rest, each value with a chance that is drawn anew for each
        sound: nearly all, nearly none, and what lies between are then equally common.
        """
        n, device, others = len(self), self.pitch.device, len(DESCRIPTORS) + 2
        draw = torch.rand(4 + others, n, generator=generator, device=generator.device).to(device)
        kind, chance = draw[0], draw[1]
        usual = torch.where(kind < nothing + few, 1.0, chance)
        of_label, of_pitch = (
            torch.where(kind < nothing, 1.0, torch.where(kind < nothing + few, share, chance)) for share in (0.1, 0.5)
        )
        drop = draw[4:] < usual
        return Condition(
            pitch=torch.where(draw[2] < of_pitch, torch.nan, self.pitch),
            label=torch.where(draw[3] < of_label, UNKNOWN, self.label),
            velocity=torch.where(drop[0], torch.nan, self.velocity),
            descriptors=torch.where(drop[1:-1].T, torch.nan, self.descriptors),
            text=torch.where(drop[-1, :, None], UNKNOWN, self.text),
        )


def grams(text: str) -> Tensor:
    """A text as hashed words and parts of words, [MOST_GRAMS] int64: "clicks" shares most of its parts with "click".

    Words, and their runs of three and four letters with the ends marked (Bojanowski et al., 2017). The hash is CRC-32,
    the same on every machine.

    >>> (grams("short dark click") >= 0).sum().item()
    27
    >>> shared = set(grams("clicks").tolist()) & set(grams("click").tolist()) - {UNKNOWN}
    >>> len(shared)
    7
    """
    found: list[str] = []
    for word in re.findall(r"\w+", text.lower()):
        ended = f"<{word}>"
        found += [word, *(ended[i : i + n] for n in (3, 4) for i in range(len(ended) - n + 1))]
    places = [zlib.crc32(gram.encode()) % GRAMS for gram in dict.fromkeys(found)][:MOST_GRAMS]
    return torch.tensor(places + [UNKNOWN] * (MOST_GRAMS - len(places)), dtype=torch.int64)


@dataclass(frozen=True)
class Manner:
    """How new sounds are drawn, where a family lets one choose; None leaves it to the model's own setting.

    `guidance`: how strongly the condition is obeyed: 1 as learnt, 2 more so, at the cost of variety (Ho and Salimans,
    2022). `temperature`: how daring: 1 as learnt, 0 the most likely. `steps` and `solver` ("euler", "midpoint", "heun")
    are a flow's. `best_of`: so many are drawn for each sound asked for, and the most likely one is kept.
    """

    guidance: float | None = None
    temperature: float = 1.0
    steps: int | None = None
    solver: str | None = None
    best_of: int = 1

    def __post_init__(self) -> None:
        if self.guidance is not None and not 0 <= self.guidance <= 10:
            raise ConditionError(f"guidance is {self.guidance:g}: it goes from 0 to 10; 1 is as learnt, 2 obeys more")
        if not 0 <= self.temperature <= 2:
            raise ConditionError(f"temperature is {self.temperature:g}: it goes from 0 to 2; 1 is as learnt")
        if self.steps is not None and not 1 <= self.steps <= 200:
            raise ConditionError(f"steps is {self.steps}: it goes from 1 to 200; 8 are usual")
        if not 1 <= self.best_of <= 64:
            raise ConditionError(f"best_of is {self.best_of}: it goes from 1, the first one drawn, to 64")


AS_LEARNT = Manner()
