"""What can be played: an engine with named parameters that turns events into audio, block by block."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from soundloom.config import did_you_mean
from soundloom.errors import ConfigError


@dataclass(frozen=True)
class Param:
    """One knob: the single source for the command line, sliders, MIDI, prompts and exports.

    `curve` says how a position 0..1 maps to low..high: "linear", or "log" for what is heard in ratios.
    """

    name: str
    unit: str
    low: float
    high: float
    default: float
    curve: Literal["linear", "log"] = "linear"
    help: str = ""

    def at(self, position: float) -> float:
        """The value at a knob position from 0 to 1."""
        position = min(max(position, 0.0), 1.0)
        if self.curve == "log":
            value = float(self.low * (self.high / self.low) ** position)
        else:
            value = self.low + (self.high - self.low) * position
        return min(max(value, self.low), self.high)  # rounding may lead over an end, where `checked` refuses it

    def position(self, value: float) -> float:
        """The knob position from 0 to 1 of a value."""
        if self.curve == "log":
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def checked(self, value: float) -> float:
        if not self.low <= value <= self.high:
            raise ConfigError(f"{self.name} is {value:g} {self.unit}: it goes from {self.low:g} to {self.high:g}")
        return float(value)


@dataclass(frozen=True)
class Event:
    """Something that happens at a frame of the block being processed.

    `kind` "on" and "off" carry `note`, a number that pairs them (two notes of one pitch may sound at once);
    `pitch` is a MIDI number and may be fractional; `velocity` is 0 to 1. "set" gives `param` a `value`; "bend" moves
    all that sounds by `value` semitones; "pedal" holds what is released while `value` is 0.5 or more; "release"
    lets go of all keys, "stop" fades all at once. `part` says whom it is for, where several play (`mixer.Mixer`).
    """

    frame: int
    kind: Literal["on", "off", "set", "bend", "pedal", "release", "stop"]
    note: int = 0
    pitch: float = 60.0
    velocity: float = 0.8
    param: str = ""
    value: float = 0.0
    part: int = 0


class AbstractInstrument(ABC):
    """The contract, which every instrument passes as a shared test:

    any split into blocks gives the same audio; silence some time after release; output bounded and finite at every
    corner of the parameters; the same seed gives the same sound. State is a value: passed in, maybe written in
    place, returned; the old one is dead.
    """

    params: tuple[Param, ...]
    channels: int = 1  # of what `process` returns

    @abstractmethod
    def init_state(self, sample_rate: int, *, seed: int = 0) -> Any: ...

    @abstractmethod
    def process(self, state: Any, events: Sequence[Event], n: int) -> tuple[NDArray[np.float32], Any]:
        """The next n samples, [C, n] float32, with `events` (sorted by frame, 0 <= frame < n) taking effect in them."""

    def prepare(self, events: Sequence[Event], sample_rate: int) -> None:  # noqa: B027 (most have nothing to prepare)
        """Makes ready what these events will need, and blocks until it is. Rendering calls it, live playing not."""

    def values(self, settings: Mapping[str, float]) -> dict[str, float]:
        """All parameters, the defaults overridden by `settings`; unknown names and values out of range are refused."""
        return checked(self, settings)


class AbstractEffect(ABC):
    """What changes sound: the same contract as an instrument's, with stereo audio in. Any split into blocks gives the
    same audio; finite at every corner of the parameters; silence in, silence out some time later."""

    params: tuple[Param, ...]

    @abstractmethod
    def init_state(self, sample_rate: int) -> Any: ...

    def process(
        self, state: Any, events: Sequence[Event], audio: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], Any]:
        """The next block [2, n] -> [2, n], the input left alone; only "set" events mean something to it."""
        block = np.array(audio, np.float32, order="C")
        return block, self.treat(state, events, block)

    @abstractmethod
    def treat(self, state: Any, events: Sequence[Event], block: NDArray[np.float32]) -> Any:
        """The same in place, for a block in one piece (C-contiguous: kernels are compiled for one kind of array);
        returns the state."""

    def values(self, settings: Mapping[str, float]) -> dict[str, float]:
        return checked(self, settings)


def checked(knobs: AbstractInstrument | AbstractEffect, settings: Mapping[str, float]) -> dict[str, float]:
    """All parameters, the defaults overridden by `settings`; unknown names and values out of range are refused."""
    values = {param.name: float(param.default) for param in knobs.params}
    return values | {name: checked_one(knobs, name, value) for name, value in settings.items()}


def checked_one(knobs: AbstractInstrument | AbstractEffect, name: str, value: float) -> float:
    """The value of one parameter; an unknown name and a value out of range are refused."""
    for param in knobs.params:
        if param.name == name:
            return param.checked(value)
    known = did_you_mean(name, [param.name for param in knobs.params])
    raise ConfigError(f"{type(knobs).__name__} has no parameter '{name}': {known}")
