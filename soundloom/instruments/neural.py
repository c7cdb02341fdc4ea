"""A trained one-shot model as an instrument: each pitch is made once, the first time it is played, and kept."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import soxr
import torch
from numpy.typing import NDArray
from torch import nn

from soundloom.condition import Condition
from soundloom.instruments.base import Event, Param
from soundloom.instruments.voices import FIELDS, SILENT, AbstractPolyphonic, Voices
from soundloom.models.base import Embeds, Samples


class MakesOneShots(Samples, Protocol):
    """A family that makes new sounds, and its config: `sample_rate` and `labels`."""

    config: Any

    def parameters(self) -> Iterator[nn.Parameter]: ...


class OneShot(AbstractPolyphonic):
    """A sound of a model, over the keyboard: drawn with the same `seed` at every pitch that is asked.

    The first note of a pitch (to 1/100 of a semitone) takes as long as the model needs for a sound; the next ones
    are played from memory. The velocity sets the level: models know no velocity yet. A note ends with its sound, or
    with its release. A `label` that the model does not know is refused with `ConditionError`.
    """

    params = (
        Param("attack_s", "s", 0.0005, 5, 0.001, "log", "a slower rise than the sound's own"),
        Param("release_s", "s", 0.005, 10, 0.15, "log", "the level's fall by 60 dB after the key"),
        Param("tune_cents", "cents", -100, 100, 0, help="all notes from now on, against the keyboard"),
        Param("gain_db", "dB", -60, 6, -6, help="the level of all notes from now on"),
    )
    row = np.dtype([*FIELDS, ("gain", "f8"), ("off_age", "i8"), ("sound", "O")])

    def __init__(
        self,
        model: MakesOneShots,
        settings: Mapping[str, float] | None = None,
        *,
        label: str | None = None,
        seconds: float | None = None,
        seed: int = 0,
        voices: int = 16,
    ) -> None:
        super().__init__(settings, voices=voices)
        self.model, self.label, self.seconds, self.seed = model, label, seconds, seed
        Condition.of(1, model.config.labels, label=label)  # a wrong label is refused here, not at the first note
        self._made: dict[tuple[float, int], NDArray[np.float64]] = {}

    def sound(self, pitch: float, sample_rate: int) -> NDArray[np.float64]:
        """The model's sound at a pitch, [T] at `sample_rate`: made if it was not yet."""
        key = (round(pitch, 2), sample_rate)
        if key not in self._made:
            config = self.model.config
            device = next((parameter.device for parameter in self.model.parameters()), torch.device("cpu"))
            generator = torch.Generator().manual_seed(self.seed)  # the same for all pitches
            with torch.inference_mode():
                if isinstance(self.model, Embeds):
                    # One point, rendered at every pitch: a melody keeps to one sound.
                    drawn = self.model.draw(Condition.of(1, config.labels, label=self.label), generator=generator)
                    audio = self.model.render(
                        replace(drawn, pitch=torch.full((1,), key[0], device=device)),
                        seconds=self.seconds,
                        seed=self.seed,
                    )
                else:
                    condition = Condition.of(1, config.labels, pitch=key[0], label=self.label).to(device)
                    audio = self.model.sample(1, seconds=self.seconds, condition=condition, generator=generator)
            samples = audio[0].mean(dim=0).to("cpu", torch.float64).numpy()
            if sample_rate != config.sample_rate:
                samples = soxr.resample(samples, config.sample_rate, sample_rate, quality="HQ")
            self._made[key] = samples
        return self._made[key]

    def _derive(self, values: Mapping[str, float], sample_rate: int) -> NDArray[Any]:
        attack = values["attack_s"] * sample_rate
        release_factor = 0.001 ** (1 / (values["release_s"] * sample_rate))
        return np.array([(attack, release_factor)], dtype=[("attack", "f8"), ("release_factor", "f8")])

    def _start(self, state: Voices, slot: int, event: Event) -> None:
        row, values = state.rows[slot], state.values
        row["sound"] = self.sound(event.pitch + values["tune_cents"] / 100, state.sample_rate)
        row["gain"] = 10 ** (values["gain_db"] / 20) * event.velocity**2
        row["off_age"] = -1

    def _render(self, state: Voices, rows: NDArray[Any], memory: NDArray[np.float64], out: NDArray[np.float64]) -> None:
        knobs = state.derived[0]
        for row in (rows[slot] for slot in np.flatnonzero(rows["active"])):
            # The level is a closed form of the age, so that any split into blocks gives the same one.
            if not row["held"] and row["off_age"] < 0:
                row["off_age"] = row["age"]
            last = len(row["sound"])
            if row["off_age"] >= 0:
                last = min(last, row["off_age"] + int(math.log(SILENT) / math.log(knobs["release_factor"])))
            age = np.arange(row["age"], min(row["age"] + out.shape[1], last))
            level = row["gain"] * np.minimum((age + 1) / knobs["attack"], 1.0)
            if row["off_age"] >= 0:
                level *= knobs["release_factor"] ** (age - row["off_age"] + 1)
            out[0, : len(age)] += level * row["sound"][age]
            row["age"] += out.shape[1]
            if row["age"] >= last:
                row["active"] = 0
