"""Every instrument keeps the contract of `AbstractInstrument`, and every effect that of `AbstractEffect`."""

import pytest
from contract import EffectContract, InstrumentContract
from fake_models import FakeModel, FakeStream

from soundloom.instruments.chain import Chain
from soundloom.instruments.engines import EFFECTS, ENGINES, effect, engine
from soundloom.instruments.melody import Melody
from soundloom.instruments.neural import OneShot
from soundloom.instruments.pluck import Pluck
from soundloom.instruments.texture import Texture


def chained(settings, voices):
    """A string through a delay and a still room that ring for half a second."""
    made = {"delay": {"time_s": 0.05, "feedback": 0.2}, "reverb": {"decay_s": 0.2, "modulation": 0.0}}
    own: dict[str, float] = {}
    for key, value in (settings or {}).items():
        name, _, knob = key.partition(".")
        (made[name] if knob else own)[knob or key] = value
    return Chain(Pluck(own, voices=voices), [(name, effect(name)(knobs)) for name, knobs in made.items()])


# Every engine passes the contract by its name in ENGINES; besides, what has no name there, or more to it.
INSTRUMENTS = {
    **{name: lambda settings=None, voices=4, name=name: engine(name)(settings, voices=voices) for name in ENGINES},
    "chain": lambda settings=None, voices=4: chained(settings, voices),
    "one-shot": lambda settings=None, voices=4: OneShot(FakeModel(), settings, voices=voices),
    "texture": lambda settings=None, voices=1: Texture(FakeStream(), settings),
    "melody": lambda settings=None, voices=1: Melody(FakeStream(melodic=True), settings),
}  # fmt: skip


class TestContract(InstrumentContract):
    @pytest.fixture(params=INSTRUMENTS)
    def name(self, request):
        return request.param

    @pytest.fixture
    def make(self, name):
        return INSTRUMENTS[name]


class TestEffects(EffectContract):
    @pytest.fixture(params=EFFECTS)
    def name(self, request):
        return request.param

    @pytest.fixture
    def make(self, name):
        return lambda settings=None: effect(name)(settings)
