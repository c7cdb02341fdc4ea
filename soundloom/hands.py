"""What hands do on keys and controllers, as events for the mixer: which note is meant, which knob is turned."""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from soundloom.config import did_you_mean
from soundloom.errors import ConfigError
from soundloom.instruments.base import Event
from soundloom.instruments.controls import NOTES_OFF, PEDAL, SOUND_OFF, Playable, Route, between, events
from soundloom.midi import BendRange
from soundloom.midiin import Message
from soundloom.score import Control

CHANNELS = range(16)
OFF, ON, KEY_PRESSURE, CONTROLLER, PRESSURE, BEND = 0x80, 0x90, 0xA0, 0xB0, 0xD0, 0xE0
GRID = 128  # samples: what knobs and the bend do is put on it, earlier by less, so that they do not cut up a block
# No knob is learnt by these: banks, the pedal, what sets registered parameters, and the modes of a channel.
NOT_LEARNT = frozenset({0, 32, 64, 6, 38, *range(96, 102), *range(120, 128)})


@dataclass(frozen=True)
class Knob:
    """A knob of a part, which the next controller that moves is to turn, or the one of that `number`."""

    part: int
    route: Route
    number: int | None = None


class Hands:
    """Everything that is down and where every controller leads, on sixteen channels.

    `places` says which parts a channel plays. A key that is struck again without having been let go ends the note
    before. Of several positions of one controller within a block only the last counts: knobs glide anyway, and a hand
    on a fader must not cost more than a chord. Knobs that wait to be learnt take the next controller that moves;
    `learnt` is what happened so, in words.
    """

    def __init__(self, players: Sequence[Playable], places: Mapping[int, Sequence[int]]) -> None:
        self.places = {channel: tuple(places.get(channel, ())) for channel in CHANNELS}
        self.routes = [dict(player.routes) for player in players]
        self.learning: deque[Knob] = deque()
        self.learnt: deque[str] = deque()
        self._learnt_by: set[int] = set()  # controllers
        self._range = BendRange()
        self._down: dict[tuple[int, int], int] = {}  # (channel, key) → the number of its note
        self._notes = 0

    def learn(self, knobs: Iterable[Knob]) -> None:
        """Knobs that have their controller get it now, the others one after the other as controllers move."""
        for knob in knobs:
            if knob.number is None:
                self.learning.append(knob)
            else:
                self.routes[knob.part][knob.number] = knob.route
                self._learnt_by.add(knob.number)

    def events(self, messages: Iterable[Message]) -> list[Event]:
        """MIDI messages, sorted by frame, as events sorted by frame. What means nothing here is passed over."""
        made: list[Event] = []
        for frame, message in messages:
            if len(message) >= 2:
                self._hear(frame, message, made)
        made.sort(key=lambda event: event.frame)
        return made if len(made) < 2 else _last_positions(made)

    def _hear(self, frame: int, message: bytes, made: list[Event]) -> None:
        kind, channel = message[0] & 0xF0, message[0] & 0x0F
        key, value = message[1], message[2] if len(message) > 2 else 0
        if kind == ON and value:
            self._let_go(frame, channel, key, made)
            self._notes += 1
            self._down[channel, key] = self._notes
            self._all(made, channel, Event(frame, "on", self._notes, float(key), value / 127))
        elif kind in (ON, OFF):
            self._let_go(frame, channel, key, made)
        elif kind == CONTROLLER:
            if self._range.hears(channel, key, value):
                return
            if key == SOUND_OFF or key >= NOTES_OFF:
                self._down = {held: note for held, note in self._down.items() if held[0] != channel}
            if self.learning and key not in NOT_LEARNT | self._learnt_by:  # a knob that moves sends many positions
                self._assign(key)
            self._control(frame, "cc", value / 127, channel, made, key)
        elif kind == BEND:
            position = (value << 7 | key) - 8192
            self._control(frame, "bend", position / 8192 * self._range.semitones(channel), channel, made)
        elif kind in (PRESSURE, KEY_PRESSURE):
            self._control(frame, "pressure", (key if kind == PRESSURE else value) / 127, channel, made)

    def _let_go(self, frame: int, channel: int, key: int, made: list[Event]) -> None:
        note = self._down.pop((channel, key), None)
        if note is not None:
            self._all(made, channel, Event(frame, "off", note))

    def _all(self, made: list[Event], channel: int, event: Event) -> None:
        for part in self.places[channel]:
            made.append(event if part == 0 else _for_part(event, part))

    def _control(
        self, frame: int, kind: Literal["bend", "pressure", "cc"], value: float, channel: int, made: list[Event],
        number: int = 0,
    ) -> None:  # fmt: skip
        control = Control(0.0, kind, value, number, channel)
        if number not in (PEDAL, SOUND_OFF) and number < NOTES_OFF:
            frame -= frame % GRID
        for part in self.places[channel]:
            made += events(control, self.routes[part], frame=frame, part=part)

    def _assign(self, number: int) -> None:
        knob = self.learning.popleft()
        self._learnt_by.add(number)
        self.routes[knob.part][number] = knob.route
        name = knob.route.param.name
        self.learnt.append(f"controller {number} turns {name} (next time: --learn {name}={number})")


def knobs(texts: Iterable[str], players: Sequence[Playable]) -> list[Knob]:
    """`cutoff_hz` or `cutoff_hz=21` → the knob of the first player that has it, over all of its range."""
    found: list[Knob] = []
    for text in texts:
        name, equals, number = (part.strip() for part in text.partition("="))
        if equals and not (number.isdecimal() and int(number[:4]) < 120):
            raise ConfigError(f"'{text}' gives no controller: write the knob and a number from 0 to 119, as {name}=21")
        params = [{param.name: param for param in player.instrument.params} for player in players]
        part = next((part for part, known in enumerate(params) if name in known), None)
        if part is None:
            known = did_you_mean(name, {name for every in params for name in every})
            raise ConfigError(f"nothing that is played has a knob '{name}': {known}")
        param = params[part][name]
        found.append(Knob(part, between(param, param.low, param.high), int(number) if equals else None))
    return found


def _for_part(event: Event, part: int) -> Event:
    return Event(event.frame, event.kind, event.note, event.pitch, event.velocity, part=part)


def _last_positions(made: list[Event]) -> list[Event]:
    """Without those positions of a knob or of the bend that another one follows."""
    kept: list[Event] = []
    seen: set[tuple[int, str, str]] = set()
    for event in reversed(made):
        if event.kind in ("set", "bend"):
            place = (event.part, event.kind, event.param)
            if place in seen:
                continue
            seen.add(place)
        kept.append(event)
    kept.reverse()
    return kept
