"""What a player's hands and feet mean: MIDI controllers, bend and pressure → events for an instrument."""

from collections.abc import Mapping
from dataclasses import dataclass

from soundloom.instruments.base import AbstractInstrument, Event, Param
from soundloom.score import Control

MODULATION, VOLUME, PAN, EXPRESSION, PEDAL = 1, 7, 10, 11, 64
REVERB, CHORUS = 91, 93
SOUND_OFF, RESET, NOTES_OFF = 120, 121, 123
STRIP = {VOLUME: "volume", PAN: "pan", EXPRESSION: "expression", REVERB: "reverb", CHORUS: "chorus"}
# The sound controllers of General MIDI 2, and the knobs they turn where an engine has them.
SOUND = {71: "resonance", 72: "release_s", 73: "attack_s", 74: "cutoff_hz", 75: "decay_s"}
PRESSURE = -1  # the number under which the pressure of the keys is routed
VIBRATO_CENTS = 40.0  # of the wheel all the way up


@dataclass(frozen=True)
class Route:
    """Which knob a controller turns: to `low` at 0, to `middle` in the middle, to `high` at its end; as the knob's
    curve has it between."""

    param: Param
    low: float
    middle: float
    high: float

    def at(self, value: float) -> float:
        """The knob's value where the controller is at 0 to 1."""
        if value < 0.5:
            start, end, part = self.low, self.middle, 2 * value
        else:
            start, end, part = self.middle, self.high, 2 * value - 1
        position = self.param.position
        return self.param.at(position(start) + (position(end) - position(start)) * part)


@dataclass(frozen=True)
class Playable:
    """An instrument ready to be played, and what controllers turn on it."""

    name: str
    instrument: AbstractInstrument
    routes: Mapping[int, Route]
    gain_db: float = 0.0
    room: float = 0.15


def between(param: Param, low: float, high: float) -> Route:
    """From one value to another, by the knob's curve."""
    return Route(param, low, param.at((param.position(low) + param.position(high)) / 2), high)


def usual_routes(instrument: AbstractInstrument, own: Mapping[str, float]) -> dict[int, Route]:
    """What General MIDI's controllers turn on an instrument whose knobs stand at `own`.

    The wheel and the pressure of the keys bring vibrato; the sound controllers go from a knob's low end through where
    it stands to its high end. Knobs that the instrument does not have are not turned.
    """
    params = {param.name: param for param in instrument.params}
    routes: dict[int, Route] = {}
    if vibrato := params.get("vibrato_cents"):
        most = min(own["vibrato_cents"] + VIBRATO_CENTS, vibrato.high)
        routes[MODULATION] = routes[PRESSURE] = between(vibrato, own["vibrato_cents"], most)
    for number, name in SOUND.items():
        if param := params.get(name):
            routes[number] = Route(param, param.low, own[name], param.high)
    return routes


def events(control: Control, routes: Mapping[int, Route], *, frame: int = 0, part: int = 0) -> list[Event]:
    """A control as events for the instrument of a part, and for its strip in the mixer ("strip.volume" and so on)."""
    if control.kind == "bend":
        return [Event(frame, "bend", value=control.value, part=part)]
    number = control.number if control.kind == "cc" else PRESSURE
    if number == PEDAL:
        return [Event(frame, "pedal", value=control.value, part=part)]
    if number == SOUND_OFF:
        return [Event(frame, "stop", part=part)]
    if number >= NOTES_OFF:  # the modes of a channel, 124 to 127, let go of its notes too
        return [Event(frame, "release", part=part)]
    if number == RESET:
        back = [Event(frame, "bend", part=part), Event(frame, "pedal", part=part)]
        back.append(Event(frame, "set", param="strip.expression", value=1.0, part=part))
        return back + [
            Event(frame, "set", param=route.param.name, value=route.low, part=part)
            for key, route in routes.items()
            if key in (MODULATION, PRESSURE)
        ]
    if number in STRIP:
        value = 2 * control.value - 1 if number == PAN else control.value
        return [Event(frame, "set", param=f"strip.{STRIP[number]}", value=value, part=part)]
    if route := routes.get(number):
        return [Event(frame, "set", param=route.param.name, value=route.at(control.value), part=part)]
    return []
