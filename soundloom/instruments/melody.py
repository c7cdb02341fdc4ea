"""A melody: a model that is played by pitch and loudness, one note at a time."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from soundloom.errors import ModelError
from soundloom.instruments.base import Param
from soundloom.instruments.endless import Sound, Source
from soundloom.instruments.stream import AbstractStream, Key, Streaming, opened
from soundloom.models.base import AbstractModel
from soundloom.models.courses import SILENCE_DB
from soundloom.run import Run

SOFTEST = 0.3  # of the levels that a model has heard, so many are softer than its softest note
USUAL_DB = -8.0  # of a note at velocity 0.8, before `gain_db`: about a peak of 0.7
RISE_DB = 40.0  # a note begins so far below its level
SETTLE_DB_S = 200.0  # how fast a louder note gives way to a softer one
LOUDEST_DB = 6.0  # beyond it no model has been told of a level
NOTHING_DB = -150.0  # a released note sinks so far: a model leads what is below -70 dB to silence twice as fast
QUIET = 1e-5  # -100 dB: pieces below it are the end of a note
QUIET_PIECES = 4


class Melody(AbstractStream):
    """A model that is played by pitch and loudness, one note at a time; keys that overlap are tied.

    Velocity and pressure say how loud, out of what the model has heard; bend and vibrato move the pitch, the partials
    and the noise follow as they do in the instrument that was learnt. Rendered, a note begins when its key does; live
    `latency_s` later.

    >>> from soundloom.instruments.base import Event
    >>> from soundloom.models.ddsp import DDSP, DDSPConfig
    >>> flute = Melody(DDSP.build(DDSPConfig(sample_rate=16000), seed=0))
    >>> block, state = flute.process(flute.init_state(44100), [Event(0, "on", note=1, pitch=72)], 512)
    >>> block.shape
    (1, 512)
    """

    ahead_s = 0.03
    params = (
        Param("attack_s", "s", 0.002, 5, 0.03, "log", "how long a note takes to rise by 40 dB to its level"),
        Param("decay_db_s", "dB/s", 0, 60, 0, help="how fast a held note sinks"),
        Param("release_s", "s", 0.01, 10, 0.2, "log", "the level's fall by 60 dB after the key"),
        Param("glide_s", "s", 0.001, 2, 0.03, "log", "how long a note takes from the pitch that still sounds"),
        Param("vibrato_hz", "Hz", 0.1, 12, 5.5, "log", "how fast the pitch swings"),
        Param("vibrato_cents", "cents", 0, 100, 0, help="how far the pitch swings"),
        Param("pressure", "", 0, 1, 0, help="how much louder than the velocity said, up to the loudest"),
        Param(
            "dynamics_db", "dB", -24, 24, 0, help="how loud the instrument is blown, bowed or sung, against as learnt"
        ),
        Param("tune_cents", "cents", -100, 100, 0, help="against the keyboard"),
        Param("gain_db", "dB", -60, 6, -6, help="the level"),
    )

    def __init__(
        self, played: Run | Source | AbstractModel, settings: Mapping[str, float] | None = None, *, seed: int = 0
    ) -> None:
        source, folder = opened(played)
        if source.levels is None:
            raise ModelError(f"a {source.model.family} is not played by pitch and loudness: train a ddsp")
        self._levels = source.levels
        super().__init__(source, folder, settings, seed=seed)

    @property
    def latency_s(self) -> float:
        """Live, from a key to its sound."""
        return self._ahead * self.source.piece / self.source.sample_rate if self.live else 0.0

    def _derive(self, values: Mapping[str, float], sample_rate: int) -> NDArray[Any]:
        """Banks are louder or softer than one another: here all are made alike."""
        raised = min(max(USUAL_DB - self._level_of(0.8), -12.0), 24.0)
        return super()._derive({**values, "gain_db": values["gain_db"] + raised}, sample_rate)

    def _begin(self, state: Streaming, key: Key) -> None:
        state.row["rise"] = state.row["gain"] = state.row["aim"] = 1.0
        self._fresh(state, state.seed + state.starts)
        state.pitch, state.seconds, state.sunk_db, state.quiet = key.pitch, 0.0, 0.0, 0
        state.level_db = self._goal(state, key) - RISE_DB
        if self._pump is not None:
            for _ in range(math.ceil(state.skip / self.source.piece)):
                self._pump.order(self._steer(state))
            state.behind = self._ahead

    def _turn(self, state: Streaming, key: Key) -> None:
        state.sunk_db = 0.0
        state.level_db = max(state.level_db, self._goal(state, key) - RISE_DB)

    def _release(self, state: Streaming) -> None:
        """The level falls in `_steer`."""

    def _goal(self, state: Streaming, key: Key) -> float:
        """The level in dB of a key, as the model knows levels."""
        loud = key.velocity + state.values["pressure"] * (1 - key.velocity)
        level = self._level_of(loud) + state.values["dynamics_db"] - state.sunk_db
        return min(max(level, SILENCE_DB), LOUDEST_DB)

    def _level_of(self, loud: float) -> float:
        """The level in dB of what is played so loud, 0 to 1: out of the louder part of what the model has heard, since
        the softer part is how its notes begin and end."""
        return float(np.interp(SOFTEST + (1 - SOFTEST) * loud, np.linspace(0, 1, len(self._levels)), self._levels))

    def _usual(self) -> Mapping[str, Any]:
        return {"f0_hz": 440.0, "level_db": -20.0}

    def _steer(self, state: Streaming) -> Mapping[str, Any]:
        values, step = state.values, self.source.piece / self.source.sample_rate
        if state.keys:
            key = state.keys[-1]
            state.pitch += (key.pitch - state.pitch) * (1 - math.exp(-3 * step / values["glide_s"]))
            goal = self._goal(state, key)
            state.sunk_db += step * values["decay_db_s"]
            rising, falling = step * RISE_DB / values["attack_s"], step * SETTLE_DB_S
            state.level_db = min(max(goal, state.level_db - falling), state.level_db + rising)
        else:
            state.level_db = max(state.level_db - step * 60 / values["release_s"], NOTHING_DB)
        swing = values["vibrato_cents"] * math.sin(2 * math.pi * values["vibrato_hz"] * state.seconds)
        state.seconds += step
        pitch = state.pitch + state.bend + (values["tune_cents"] + swing) / 100
        pitch = min(max(pitch, 0.0), 135.0)
        return {"f0_hz": 440.0 * 2 ** ((pitch - 69) / 12), "level_db": state.level_db}

    def _made(self, state: Streaming, piece: Sound) -> None:
        over = not state.keys and state.level_db <= NOTHING_DB and float(np.abs(piece).max()) < QUIET
        state.quiet = state.quiet + 1 if over else 0
        if state.quiet >= QUIET_PIECES + (self._ahead if self._pump is not None else 0):
            state.row["active"] = 0
