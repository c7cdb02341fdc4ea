"""Several instruments as one: each with its level, its place and its sends, a room and a chorus for all."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from soundloom.instruments.base import AbstractInstrument, Event, Param
from soundloom.instruments.controls import Playable
from soundloom.instruments.engines import effect

ARRIVED = 1e-9  # gains closer than this to where they glide to are there
GLIDE_S = 0.01  # time constant of levels that move
USUAL_VOLUME = 100 / 127  # where General MIDI's volume stands until it is moved: here it means 0 dB
SENDS = ("reverb", "chorus")  # in this order, or the first alone, or none
WET = {"reverb": {"mix": 1.0, "decay_s": 1.8}, "chorus": {"mix": 1.0}}

STRIP = (
    Param("volume", "", 0, 1, USUAL_VOLUME, help="the level: 0 dB where General MIDI has it, by its square"),
    Param("expression", "", 0, 1, 1, help="the level within a phrase, by its square"),
    Param("pan", "", -1, 1, 0, help="-1 left, 1 right; of a stereo sound the balance"),
    Param("reverb", "", 0, 1, 0.2, help="how much goes into the room"),
    Param("chorus", "", 0, 1, 0, help="how much goes into the chorus"),
)


@dataclass(frozen=True)
class Part:
    """An instrument in the mixer. `strip` are values of `STRIP`'s parameters."""

    instrument: AbstractInstrument
    name: str = ""
    gain_db: float = 0.0
    strip: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, player: Playable, name: str = "") -> "Part":
        return cls(player.instrument, name or player.name, player.gain_db, {"reverb": player.room})


@dataclass
class MixerState:
    """`parts` are the instruments' states, None before the first event of each; `gains` [P, 4] where left, right and
    the sends stand, `aims` [P, 4] where they glide to; `effects` the states of room and chorus."""

    sample_rate: int
    seed: int
    parts: list[Any]
    strips: list[dict[str, float]]
    gains: NDArray[np.float64]
    aims: NDArray[np.float64]
    effects: list[Any]


class Mixer(AbstractInstrument):
    """Instruments played together: events go to the part that they name; "set" of "strip.volume" and the like moves
    its strip. An instrument that nobody has played yet costs nothing."""

    params = ()
    channels = 2

    def __init__(self, parts: Sequence[Part], *, sends: Sequence[str] = SENDS) -> None:
        self.parts = tuple(parts)
        self.effects = [effect(name)(WET[name]) for name in sends]
        self.strips = [_strip(part.strip) for part in self.parts]

    def prepare(self, events: Sequence[Event], sample_rate: int) -> None:
        for number, part in enumerate(self.parts):
            mine = [event for event in events if event.part == number and not event.param.startswith("strip.")]
            part.instrument.prepare(mine, sample_rate)

    def init_state(self, sample_rate: int, *, seed: int = 0) -> MixerState:
        aims = np.array([self._aim(number, strip) for number, strip in enumerate(self.strips)]).reshape(-1, 4)
        return MixerState(
            sample_rate=sample_rate,
            seed=seed,
            parts=[None] * len(self.parts),
            strips=[dict(strip) for strip in self.strips],
            gains=aims.copy(),
            aims=aims,
            effects=[one.init_state(sample_rate) for one in self.effects],
        )

    def begun(self, state: MixerState) -> MixerState:
        """All parts started now rather than with their first event: who plays live must not wait for their memory."""
        for number in range(len(self.parts)):
            if state.parts[number] is None:
                state.parts[number] = self._begin(state, number)
        return state

    def process(self, state: MixerState, events: Sequence[Event], n: int) -> tuple[NDArray[np.float32], MixerState]:
        mix = np.zeros((2, n), np.float32)
        return self._mixed(state, events, [mix] * (len(self.parts) + 1)), state

    def stems(self, state: MixerState, events: Sequence[Event], n: int) -> tuple[NDArray[np.float32], MixerState]:
        """What each part adds, and last what the room and the chorus add: [P + 1, 2, n]. Their sum is the mix."""
        stems = np.zeros((len(self.parts) + 1, 2, n), np.float32)
        self._mixed(state, events, list(stems))
        return stems, state

    def _mixed(
        self, state: MixerState, events: Sequence[Event], into: Sequence[NDArray[np.float32]]
    ) -> NDArray[np.float32]:
        """Adds the next block of each part, and of the effects, to arrays [2, n]; returns the last of them."""
        out = into[-1]
        sends = np.zeros((2, *out.shape), np.float32)
        by_part: dict[int, list[Event]] = {}
        for event in events:
            by_part.setdefault(event.part, []).append(event)
        for number in range(len(self.parts)):
            self._part(state, number, by_part.get(number, []), into[number], sends)
        for index, one in enumerate(self.effects):
            state.effects[index] = one.treat(state.effects[index], [], sends[index])
            out += sends[index]
        return out

    def _part(
        self, state: MixerState, number: int, events: list[Event], out: NDArray[np.float32], sends: NDArray[np.float32]
    ) -> None:
        """A part's next block into `out` [2, n], and what it sends into `sends` [2, 2, n]."""
        n = out.shape[1]
        own, moves = events, list[Event]()
        if events:
            own = [event for event in events if not event.param.startswith("strip.")]
            moves = [event for event in events if event.param.startswith("strip.")]
        if state.parts[number] is None and not own:
            sound: NDArray[np.float32] = np.zeros((1, n), np.float32)
        else:
            first = 0
            if state.parts[number] is None:  # it begins with its first event, wherever blocks are cut
                first = own[0].frame
                state.parts[number] = self._begin(state, number)
                own = [replace(event, frame=event.frame - first) for event in own]
            made, state.parts[number] = self.parts[number].instrument.process(state.parts[number], own, n - first)
            sound = made if first == 0 else np.pad(made, ((0, 0), (first, 0)))
        smoothing = 1 - math.exp(-1 / (GLIDE_S * state.sample_rate))
        at = 0
        for move in [*moves, None]:
            end = n if move is None else move.frame
            _place(sound, at, end, number, state.gains, state.aims, smoothing, out, sends)
            at = end
            if move is not None:
                name = move.param.removeprefix("strip.")
                state.strips[number] = _strip({**state.strips[number], name: move.value})
                state.aims[number] = self._aim(number, state.strips[number])

    def _begin(self, state: MixerState, number: int) -> Any:
        return self.parts[number].instrument.init_state(state.sample_rate, seed=state.seed + number)

    def _aim(self, number: int, strip: Mapping[str, float]) -> NDArray[np.float64]:
        """Left, right, room, chorus of a part, as gains: in the middle both sides are 1, at an end √2."""
        level = 10 ** (self.parts[number].gain_db / 20)
        level *= (strip["volume"] / USUAL_VOLUME) ** 2 * strip["expression"] ** 2
        angle = (strip["pan"] + 1) * np.pi / 4
        sides = level * np.sqrt(2) * np.array([np.cos(angle), np.sin(angle)])
        return np.concatenate([sides, [strip[name] for name in SENDS]])


def _strip(values: Mapping[str, float]) -> dict[str, float]:
    known = {param.name: param for param in STRIP}
    return {name: param.checked(values.get(name, param.default)) for name, param in known.items()}


@njit(cache=True, error_model="numpy", fastmath={"contract"})
def _place(sound, start, end, part, all_gains, all_aims, smoothing, out, sends):  # type: ignore[no-untyped-def]
    """Samples start .. end of a part's block [C, n] at its gains into `out` [2, n] and `sends` [2, 2, n]; the gains
    glide."""
    right, gains, aims = len(sound) - 1, all_gains[part], all_aims[part]
    if np.abs(aims - gains).max() < ARRIVED:
        a, b, c, d = aims[0], aims[1], aims[2], aims[3]
        for j in range(start, end):
            x, y = a * sound[0, j], b * sound[right, j]
            out[0, j] += x
            out[1, j] += y
            sends[0, 0, j] += c * x
            sends[0, 1, j] += c * y
        if d > 0:
            for j in range(start, end):
                sends[1, 0, j] += d * a * sound[0, j]
                sends[1, 1, j] += d * b * sound[right, j]
        return
    a, b, c, d = gains[0], gains[1], gains[2], gains[3]
    for j in range(start, end):
        a += (aims[0] - a) * smoothing
        b += (aims[1] - b) * smoothing
        c += (aims[2] - c) * smoothing
        d += (aims[3] - d) * smoothing
        x, y = a * sound[0, j], b * sound[right, j]
        out[0, j] += x
        out[1, j] += y
        sends[0, 0, j] += c * x
        sends[0, 1, j] += c * y
        sends[1, 0, j] += d * x
        sends[1, 1, j] += d * y
    gains[0], gains[1], gains[2], gains[3] = a, b, c, d
