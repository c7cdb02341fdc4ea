"""A texture: a model whose sound has no end, behind a gate."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from soundloom.instruments import playhead
from soundloom.instruments.asks import Asking, knows
from soundloom.instruments.base import Param
from soundloom.instruments.endless import Source, wish
from soundloom.instruments.stream import AbstractStream, Key, Streaming, opened
from soundloom.models.base import AbstractModel
from soundloom.run import Run

SOURCE_PITCH = 60.0  # where a model that knows no pitch plays as it is
ENVELOPE = (
    Param("attack_s", "s", 0.001, 10, 0.05, "log", "how slowly the gate opens"),
    Param("release_s", "s", 0.005, 20, 0.3, "log", "the level's fall by 60 dB after the key"),
    Param("tune_cents", "cents", -100, 100, 0, help="against the keyboard"),
    Param("gain_db", "dB", -60, 6, -6, help="the level"),
)


class Texture(AbstractStream):
    """A model that goes on for ever, behind a gate: a key opens it, and it goes on from where it was.

    Which sound it is follows the knobs and, where the model knows them, pitch and velocity; where it knows no pitch,
    keys away from C4 are read faster or slower. The level follows the velocity.

    >>> from soundloom.instruments.base import Event
    >>> from soundloom.models.subband import SubbandConfig, SubbandRNN
    >>> rain = Texture(SubbandRNN.build(SubbandConfig(sample_rate=16000), seed=0))
    >>> block, state = rain.process(rain.init_state(44100), [Event(0, "on", note=1)], 512)
    >>> block.shape
    (1, 512)
    """

    ahead_s = 0.2

    def __init__(
        self, played: Run | Source | AbstractModel, settings: Mapping[str, float] | None = None, *,
        label: str | None = None, text: str | None = None, seed: int = 0,
    ) -> None:  # fmt: skip
        source, folder = opened(played)
        self._asking = Asking(source.model, label=label, text=text, seed=seed)
        self._pitched = knows(source.model, "pitch")
        self.params = (*self._asking.params, *ENVELOPE)
        super().__init__(source, folder, settings, seed=seed)

    @property
    def latency_s(self) -> float:
        """Live, from a knob to what is heard of it; the gate itself opens at once."""
        return self._ahead * self.source.piece / self.source.sample_rate if self.live else 0.0

    @property
    def _envelope(self) -> tuple[str, str]:
        return "attack_s", "release_s"

    def _bent(self, state: Streaming) -> float:
        return state.bend + state.values["tune_cents"] / 100

    def _usual(self) -> Mapping[str, Any]:
        return self._wish(self.settings, SOURCE_PITCH, 0.8)

    def _wish(self, values: Mapping[str, float], pitch: float, velocity: float) -> dict[str, Any]:
        ask = self._asking.ask(values, pitch if self._pitched else 0.0, velocity)
        return wish(ask, ask.pitch if self._pitched else None)

    def _steer(self, state: Streaming) -> Mapping[str, Any]:
        if state.keys:
            state.steer = self._wish(state.values, state.keys[-1].pitch, state.keys[-1].velocity)
        return state.steer  # in its release a note stays what it was

    def _begin(self, state: Streaming, key: Key) -> None:
        row, before = state.row[0], state.steer
        self._level(state, key)
        row["gain"] = row["aim"]
        steer = self._steer(state)
        if not before or steer["ask"]["seed"] != before["ask"]["seed"]:
            self._fresh(state, state.seed + steer["ask"]["seed"])
        elif steer != before:  # what was made ahead is of another kind
            state.sound, state.skip = np.zeros(playhead.HALF, np.float32), self.source.latency
            row["position"] = 0.0
            if self._pump is not None:
                while self._pump.under_way:
                    self._pump.take()
        if self._pump is not None:
            for _ in range(self._ahead + math.ceil(state.skip / self.source.piece) - self._pump.under_way):
                self._pump.order(steer)
            row["waiting"] = 0 if self._pump.ready() else 1

    def _turn(self, state: Streaming, key: Key) -> None:
        row = state.row[0]
        row["rise"] *= row["fade"]
        row["fade"], row["held"] = 1.0, 1
        self._level(state, key)

    def _level(self, state: Streaming, key: Key) -> None:
        row = state.row[0]
        row["aim"] = key.velocity**2
        row["shift"] = 0.0 if self._pitched else key.pitch - SOURCE_PITCH

    def _release(self, state: Streaming) -> None:
        state.row[0]["held"] = 0

    def _waited(self, state: Streaming, n: int) -> int:
        row = state.row[0]
        if not row["waiting"] or not row["active"]:
            return 0
        assert self._pump is not None
        if self._pump.ready():
            row["waiting"] = 0
            return 0
        if not state.keys or self.trouble:
            row["active"] = row["waiting"] = 0  # nothing was heard of it
        return n
