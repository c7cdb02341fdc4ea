"""What a note asks of a trained model, and the sounds that the model makes of it.

An `Ask` is one sound to the last detail: the same ask gives the same sound, whoever makes it, when, and beside which
others. So sounds can be kept, made ahead, and made in a process of their own.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from soundloom.condition import DESCRIPTORS, Condition, Manner
from soundloom.instruments.base import Param
from soundloom.models.base import Embedding, Embeds, Samples
from soundloom.models.conditioning import BUMPS, ConditionEncoder
from soundloom.models.layers import full_scale

LAYERS = 4  # of velocity, where a model knows it; within one the level alone follows
DIRECTIONS = 4  # of a latent, that become knobs
DRAWS = 512  # points from which the directions of a latent are found
TOGETHER = 8  # sounds made at once
FAR_FROM_UNIFORM = 1.8  # largest weight over their root mean square: √3 as they are drawn, more once they have learnt
# Families that make sounds side by side faster than one after the other, and draw their chance sound by sound.
SIDE_BY_SIDE = ("flow", "gan")
KNOBS = {name: f"{name}_asked" if name in ("attack", "decay") else name for name in DESCRIPTORS}
HELP = {
    "brightness": "how bright its sounds are",
    "noisiness": "how noisy",
    "attack": "how slowly they rise",
    "decay": "how long they ring",
    "loudness": "how dense",
}


class Makes(Samples, Protocol):
    """A family that makes new sounds, its config (`sample_rate`, `labels`), what it is told and how it may draw."""

    family: Any
    config: Any
    conditions: Any
    manners: Any

    def parameters(self) -> Iterator[nn.Parameter]: ...

    def modules(self) -> Iterator[nn.Module]: ...


@dataclass(frozen=True)
class Ask:
    """One sound. What is None is left to the model; `descriptors` are quantiles of the bank by name; `place` is how
    far along the directions of a latent, in standard deviations."""

    pitch: float = 60.0
    velocity: float | None = None
    label: str | None = None
    text: str | None = None
    seconds: float | None = None
    seed: int = 0
    descriptors: tuple[tuple[str, float], ...] = ()
    place: tuple[float, ...] = ()
    temperature: float = 1.0
    guidance: float | None = None

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> "Ask":
        """Back from `document`."""
        values = dict(document)
        values["descriptors"] = tuple((name, value) for name, value in values["descriptors"])
        values["place"] = tuple(values["place"])
        return cls(**values)

    def document(self) -> dict[str, Any]:
        return asdict(self)

    def at(self, pitch: float) -> "Ask":
        """The same at another pitch."""
        return replace(self, pitch=pitch)

    def condition(self, labels: Sequence[str], *, pitch: float | None) -> Condition:
        return Condition.of(
            1, labels, pitch=pitch, label=self.label, velocity=self.velocity, descriptors=dict(self.descriptors),
            text=self.text,
        )  # fmt: skip


def knows(model: Makes, value: Literal["pitch", "velocity"]) -> bool:
    """Whether a model has ever been told a value: what it never learnt would only disturb its sounds.

    The weights of a value are drawn evenly from an interval, and nothing but learning takes them out of it.
    """
    if value not in model.conditions:
        return False
    for module in model.modules():
        if isinstance(module, ConditionEncoder):  # of its values, velocity comes first
            weights = (module.pitch.weight if value == "pitch" else module.values.weight[:, :BUMPS]).detach()
            return float(weights.abs().max() / weights.square().mean().sqrt()) > FAR_FROM_UNIFORM
    return value == "pitch"  # where it is no condition to be learnt, it is a part of the code


class Asking:
    """What can be asked of a model: as knobs (`params`), and by a note. A label it does not know is refused with
    `ConditionError`."""

    def __init__(
        self, model: Makes, *, label: str | None = None, text: str | None = None, seconds: float | None = None,
        seed: int = 0,
    ) -> None:  # fmt: skip
        Condition.of(1, model.config.labels, label=label)  # a wrong label is refused here, not at the first note
        self._usual = Ask(label=label, text=text, seconds=seconds, seed=seed)
        self._velocity = knows(model, "velocity")
        params = [Param("variation", "", 0, 127, 0, help="which of its sounds, from the next note on")]
        for name in DESCRIPTORS:
            if "descriptors" in model.conditions:
                wish = f"{HELP[name]}, 0 to 1 of what the bank had; below 0: as it comes"
                params.append(Param(KNOBS[name], "", -0.1, 1, -0.1, help=wish))
        if "temperature" in model.manners:
            params.append(Param("temperature", "", 0, 2, 1, help="how daring: 1 as learnt, 0 the most likely"))
        if "guidance" in model.manners:
            usual = float(model.config.guidance)
            params.append(Param("guidance", "", 0, 10, usual, help="how strongly what is asked for is obeyed"))
        if isinstance(model, Embeds):
            params += [
                Param(f"z{i + 1}", "", -3, 3, 0, help=f"along the latent's direction {i + 1}, in standard deviations")
                for i in range(DIRECTIONS)
            ]
        self.params = tuple(params)

    def ask(self, values: Mapping[str, float], pitch: float, velocity: float) -> Ask:
        """What a note asks for where the knobs stand at `values`. Knobs and velocity are rounded, so that a turned
        knob asks for some twenty sounds and not for thousands; the pitch to 1/100 of a semitone."""
        descriptors = [(name, round(20 * values[knob]) / 20) for name, knob in KNOBS.items() if knob in values]
        layer = min(int(velocity * LAYERS), LAYERS - 1)
        place = [round(10 * values[f"z{i + 1}"]) / 10 for i in range(DIRECTIONS) if f"z{i + 1}" in values]
        return replace(
            self._usual,
            pitch=round(pitch, 2),
            velocity=(layer + 0.5) / LAYERS if self._velocity else None,
            seed=self._usual.seed + round(values["variation"]),
            descriptors=tuple((name, value) for name, value in descriptors if value >= 0),
            place=tuple(place) if any(place) else (),
            temperature=round(20 * values.get("temperature", 1.0)) / 20,
            guidance=round(4 * values["guidance"]) / 4 if "guidance" in values else None,
        )


class Maker:
    """Makes the sounds of asks: [T] each, at the model's rate, without the silence after their end.

    With an `Embeds` all pitches are one point of the latent, rendered at each: a melody keeps to one sound. The others
    start from the same chance at every pitch. Sounds made side by side are the same as alone but for rounding, which
    is some -40 dB where a network computes in 16 bits.
    """

    def __init__(self, model: Makes) -> None:
        self.model = model
        self._directions: dict[str | None, Tensor] = {}

    @property
    def sample_rate(self) -> int:
        return int(self.model.config.sample_rate)

    def __call__(self, asks: Sequence[Ask]) -> list[NDArray[np.float32]]:
        together: dict[Any, list[int]] = defaultdict(list)
        for i, ask in enumerate(asks):
            alike = (ask.seed, ask.seconds, ask.temperature, ask.guidance)
            side_by_side = isinstance(self.model, Embeds) or self.model.family in SIDE_BY_SIDE
            together[(alike, 0 if side_by_side else i)].append(i)
        sounds: dict[int, NDArray[np.float32]] = {}
        for rows in together.values():
            for start in range(0, len(rows), TOGETHER):
                some = rows[start : start + TOGETHER]
                with torch.inference_mode():
                    audio = self._made([asks[i] for i in some])
                sounds |= {i: _trimmed(one) for i, one in zip(some, audio, strict=True)}
        return [sounds[i] for i in range(len(asks))]

    def _made(self, asks: Sequence[Ask]) -> Tensor:
        """Sounds [B, C, T] of asks that differ in neither seed nor manner."""
        labels = self.model.config.labels
        if isinstance(self.model, Embeds):
            made: Tensor = self.model.render(self._points(asks), seconds=asks[0].seconds, seed=asks[0].seed)
            return full_scale(made)
        condition = asks[0].condition(labels, pitch=asks[0].pitch)
        for ask in asks[1:]:
            condition = condition.joined(ask.condition(labels, pitch=ask.pitch))
        manner = Manner(temperature=asks[0].temperature, guidance=asks[0].guidance)
        device = next((parameter.device for parameter in self.model.parameters()), torch.device("cpu"))
        generator = torch.Generator().manual_seed(asks[0].seed)
        with _SameChance(len(asks)):
            return self.model.sample(
                len(asks),
                seconds=asks[0].seconds,
                condition=condition.to(device),
                generator=generator,
                manner=manner,
            )

    def _points(self, asks: Sequence[Ask]) -> Embedding:
        """Each ask's point: drawn without its pitch, moved along the directions, and put at its pitch."""
        model = self.model
        assert isinstance(model, Embeds)
        points = []
        for ask in asks:
            generator = torch.Generator().manual_seed(ask.seed)
            drawn = model.draw(ask.condition(model.config.labels, pitch=None), generator=generator)
            z = drawn.z
            if ask.place:
                z = z + torch.tensor([ask.place]).to(z) @ self._directions_of(ask.label).to(z)
            points.append(replace(drawn, z=z, pitch=torch.full_like(drawn.pitch, ask.pitch)))
        names = [field.name for field in fields(Embedding)]
        return Embedding(*(torch.cat([getattr(point, name) for point in points]) for name in names))

    def _directions_of(self, label: str | None) -> Tensor:
        """The directions in which new points of a label differ most, [DIRECTIONS, D], one standard deviation long."""
        if label not in self._directions:
            assert isinstance(self.model, Embeds)
            condition = Condition.of(DRAWS, self.model.config.labels, label=label)
            z = self.model.draw(condition, generator=torch.Generator().manual_seed(0)).z.double().cpu()
            _, lengths, ways = torch.linalg.svd(z - z.mean(0), full_matrices=False)
            largest = ways.gather(1, ways.abs().argmax(1, keepdim=True))  # gives each the same sign at every call
            found = torch.zeros(DIRECTIONS, z.shape[1], dtype=z.dtype)
            some = min(DIRECTIONS, len(ways))
            found[:some] = (ways * largest.sign() * lengths[:, None] / math.sqrt(DRAWS))[:some]
            self._directions[label] = found
        return self._directions[label]


class _SameChance(TorchFunctionMode):
    """Inside, what is drawn for the sounds of a batch is drawn once, as for a sound alone, and given to each of n."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.n = n

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        generator = kwargs.get("generator")
        if generator is None or self.n == 1:
            return func(*args, **kwargs)
        if func is torch.multinomial:  # a row of weights for each sound
            before, rows = generator.get_state(), []
            for row in args[0]:
                generator.set_state(before)
                rows.append(func(row[None], *args[1:], **kwargs))
            return torch.cat(rows)
        if func in (torch.randn, torch.rand):
            shape = args[0] if isinstance(args[0], Sequence) else args
            if shape[0] == self.n:
                return func((1, *shape[1:]), **kwargs).expand(*shape)
        return func(*args, **kwargs)


def _trimmed(audio: Tensor) -> NDArray[np.float32]:
    """A sound [C, T] -> [T], mixed to one channel, without the silence after its end."""
    sound: NDArray[np.float32] = audio.float().mean(dim=0).cpu().numpy()
    sounding = np.flatnonzero(sound)
    return sound[: int(sounding[-1]) + 1 if len(sounding) else 1].copy()
