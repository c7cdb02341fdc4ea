"""An instrument followed by effects is an instrument."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from soundloom.errors import ConfigError
from soundloom.instruments.base import AbstractEffect, AbstractInstrument, Event, checked_one


@dataclass
class ChainState:
    """The state of the instrument and of each effect."""

    instrument: Any
    effects: list[Any]


class Chain(AbstractInstrument):
    """An instrument and what its sound goes through, in order. Stereo, also after a mono instrument.

    Its knobs are the instrument's, by their names, and the effects', as in "reverb.mix". An effect goes on ringing
    after the notes.

    >>> from soundloom.instruments.pluck import Pluck
    >>> from soundloom.instruments.reverb import Reverb
    >>> harp = Chain(Pluck(), [("reverb", Reverb({"decay_s": 3}))])
    >>> state = harp.init_state(44100)
    >>> events = [Event(0, "on", note=1, pitch=45), Event(0, "set", param="reverb.mix", value=0.5)]
    >>> block, state = harp.process(state, events, 512)
    >>> block.shape
    (2, 512)
    """

    channels = 2

    def __init__(self, instrument: AbstractInstrument, effects: Sequence[tuple[str, AbstractEffect]]) -> None:
        self.instrument = instrument
        self.effects = tuple(effects)
        names = [name for name, _ in self.effects]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ConfigError(f'two effects are named {twice}: give the second a name, as in name = "{twice}2"')
        own = [replace(param, name=f"{name}.{param.name}") for name, one in self.effects for param in one.params]
        self.params = (*instrument.params, *own)

    def prepare(self, events: Sequence[Event], sample_rate: int) -> None:
        self.instrument.prepare([event for event in events if "." not in event.param], sample_rate)

    def init_state(self, sample_rate: int, *, seed: int = 0) -> ChainState:
        return ChainState(
            self.instrument.init_state(sample_rate, seed=seed), [one.init_state(sample_rate) for _, one in self.effects]
        )

    def process(self, state: ChainState, events: Sequence[Event], n: int) -> tuple[NDArray[np.float32], ChainState]:
        turned: dict[str, list[Event]] = {name: [] for name, _ in self.effects}
        played = []
        for event in events:
            if event.kind == "set":
                checked_one(self, event.param, event.value)  # refused with all names in view
            name, _, knob = event.param.partition(".")
            if knob and name in turned:
                turned[name].append(replace(event, param=knob))
            else:
                played.append(event)
        block, state.instrument = self.instrument.process(state.instrument, played, n)
        out = np.empty((2, n), np.float32)
        out[:] = block
        for i, (name, one) in enumerate(self.effects):
            state.effects[i] = one.treat(state.effects[i], turned[name], out)
        return out, state
