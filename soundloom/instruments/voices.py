"""What polyphonic engines share: which note sounds on which voice, to the sample, and stealing without a click."""

import functools
import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from soundloom.instruments.base import AbstractInstrument, Event, checked_one

FADE_S = 0.005  # a stolen voice is faded out over this long
SILENT = 1e-5  # -100 dB: a voice below this is over

# What every engine knows of a voice; an engine appends its own fields and its kernel reads the whole as a record.
FIELDS: list[tuple[str, str]] = [
    ("active", "i8"),  # 1 while it sounds
    ("held", "i8"),  # 1 until its "off", or until the pedal comes up after it
    ("down", "i8"),  # 1 until its "off"
    ("group", "i8"),  # voices of one group, where it is not 0, silence each other: an open hat and a closed one
    ("note", "i8"),  # the number that pairs "on" and "off"
    ("serial", "i8"),  # how many notes were started before this one
    ("age", "i8"),  # samples since it started: the grid of its control rate
    ("key", "i8"),  # its noise is a function of (key, age)
]
ACTIVE, HELD, DOWN, _, NOTE, SERIAL, _, KEY = range(8)  # their columns in `Voices.table`


def record(numbers: Mapping[str, float], arrays: Mapping[str, NDArray[Any]] | None = None) -> NDArray[Any]:
    """Numbers, and after them arrays, as a record [1] for a kernel.

    Records of the same fields share one type object (`record_type`): a kernel knows that at once, an equal type only
    field by field.
    """
    arrays = arrays or {}
    shapes = tuple((name, array.dtype.str, array.shape) for name, array in arrays.items())
    made = np.empty(1, record_type(tuple(numbers), shapes))
    made.view(np.uint8)[: 8 * len(numbers)].view(np.float64)[:] = list(numbers.values())
    for name, array in arrays.items():
        made[name] = array
    return made


@functools.lru_cache(maxsize=256)
def record_type(numbers: tuple[str, ...], arrays: tuple[tuple[str, str, tuple[int, ...]], ...]) -> np.dtype[Any]:
    """A record of numbers, and arrays after them (name, type, shape): of the same fields always the same object."""
    fields: list[Any] = [*((name, "f8") for name in numbers), *arrays]
    return np.dtype(fields)


@dataclass
class Voices:
    """The state of a polyphonic instrument, a value: passed in, written in place, returned.

    `rows` [K] is a record a voice, and `table` [K, W] the same memory as integers, which begin with `FIELDS`: of one
    type for every engine, for kernels that are compiled once. `memory` [K, L] is the delay line of a voice, for engines
    that have one; `values` and `derived` [1] are the knobs and what follows from them; `after` is what the treatment of
    the sum remembers, or room to work in; `tail` [C, F] is the faded rest of stolen voices, still to be heard. `bend`
    is in semitones; `last_pitch` is that of the note started last, NaN before the first.
    """

    sample_rate: int
    seed: int
    table: NDArray[np.int64]
    rows: NDArray[Any]
    memory: NDArray[np.float64]
    values: dict[str, float]
    derived: NDArray[Any]
    after: Any
    tail: NDArray[np.float64]
    tail_left: int = 0
    serial: int = 0
    bend: float = 0.0
    pedal: bool = False
    last_pitch: float = math.nan


class AbstractPolyphonic(AbstractInstrument):
    """An engine of K equal voices. It says how a voice starts and how voices sound; this class says which and when.

    The pedal, groups that silence each other, and stealing are dealt with here; the bend (`state.bend`, semitones)
    is the engine's to follow, in a way that no split into blocks changes.

    Note-ons take the first free voice; when none is free, the oldest released one is stolen, else the oldest. The
    stolen voice's next 5 ms are rendered at once, faded out, and added to what follows: no click, however many notes
    are stolen, and no voice spent on dying ones. Every engine's voices advance sample by sample, so any split into
    blocks gives the same audio.
    """

    row: np.dtype[Any]  # FIELDS and the engine's own

    def __init__(self, settings: Mapping[str, float] | None = None, *, voices: int = 16) -> None:
        self.voices = voices
        self.settings = self.values(dict(settings or {}))

    @abstractmethod
    def _derive(self, values: Mapping[str, float], sample_rate: int) -> NDArray[Any]:
        """What the kernel needs of the knobs, [1] record: worked out when a knob moves, not per sample."""

    @abstractmethod
    def _start(self, state: Voices, slot: int, event: Event) -> None:
        """Fill the engine's fields of a voice; all are zero, those of `FIELDS` are set, and the velocity is above 0."""

    @abstractmethod
    def _render(self, state: Voices, rows: NDArray[Any], memory: NDArray[np.float64], out: NDArray[np.float64]) -> None:
        """Add the next n samples of the active voices to `out` [C, n], and advance them."""

    def _memory_samples(self, sample_rate: int) -> int:
        """How long a voice's delay line is."""
        return 0

    def _init_after(self, derived: NDArray[Any]) -> Any:
        """The memory of `_finish`, or room for `_render` to work in."""
        return np.zeros(0)

    def _finish(self, state: Voices, block: NDArray[np.float64]) -> None:
        """What happens to the sum of the voices [C, n], in place."""

    def init_state(self, sample_rate: int, *, seed: int = 0) -> Voices:
        derived = self._derive(self.settings, sample_rate)
        table = np.zeros((self.voices, self.row.itemsize // 8), np.int64)
        return Voices(
            sample_rate=sample_rate,
            seed=seed,
            table=table,
            rows=table.view(self.row)[:, 0],
            memory=np.zeros((self.voices, self._memory_samples(sample_rate))),
            values=dict(self.settings),
            derived=derived,
            after=self._init_after(derived),
            tail=np.zeros((self.channels, round(FADE_S * sample_rate))),
        )

    def process(self, state: Voices, events: Sequence[Event], n: int) -> tuple[NDArray[np.float32], Voices]:
        block = np.zeros((self.channels, n))
        at = 0
        turned = False  # what follows from knobs is worked out once for all that are turned at one frame
        for event in events:
            if turned and (event.kind != "set" or event.frame > at):
                state.derived, turned = self._derive(state.values, state.sample_rate), False
            self._advance(state, block[:, at : event.frame])
            at = event.frame
            if event.kind == "on":
                self._on(state, event)
            elif event.kind == "off":
                _let_go(state.table, event.note, state.pedal)
            elif event.kind == "set":
                state.values[event.param] = checked_one(self, event.param, event.value)
                turned = True
            elif event.kind == "bend":
                state.bend = float(event.value)
            elif event.kind == "pedal":
                state.pedal = event.value >= 0.5
                if not state.pedal:
                    state.rows["held"] = state.rows["down"]
            elif event.kind == "release":
                state.rows["down"] = 0
                if not state.pedal:
                    state.rows["held"] = 0
            else:
                self._silence(state, state.rows["active"] == 1)
        if turned:
            state.derived = self._derive(state.values, state.sample_rate)
        self._advance(state, block[:, at:])
        return block.astype(np.float32), state

    def _advance(self, state: Voices, block: NDArray[np.float64]) -> None:
        n = block.shape[1]
        if not n:
            return
        if _sounds(state.table):
            self._render(state, state.rows, state.memory, block)
        if state.tail_left:
            fade = state.tail.shape[1]
            m = min(n, fade)
            block[:, :m] += state.tail[:, :m]
            state.tail[:, : fade - m] = state.tail[:, m:].copy()
            state.tail[:, fade - m :] = 0.0
            state.tail_left = max(state.tail_left - m, 0)
        self._finish(state, block)

    def _on(self, state: Voices, event: Event) -> None:
        if event.velocity <= 0:
            return
        slot = _slot(state.table)
        row = state.rows[slot]
        if row["active"]:
            self._steal(state, slot)
        _begin(state.table[slot], event.note, state.serial, _key(state.seed, state.serial))
        state.memory[slot] = 0.0
        state.serial += 1
        self._start(state, slot, event)
        state.last_pitch = event.pitch
        if row["group"]:
            rows = state.rows
            self._silence(
                state, (rows["group"] == row["group"]) & (rows["serial"] != row["serial"]) & (rows["active"] == 1)
            )

    def _silence(self, state: Voices, which: NDArray[np.bool_]) -> None:
        """Voices end now: their next 5 ms go on, fading."""
        for slot in np.flatnonzero(which):
            self._steal(state, int(slot))
            state.rows["active"][slot] = 0

    def _steal(self, state: Voices, slot: int) -> None:
        fade = state.tail.shape[1]
        rest = np.zeros_like(state.tail)
        self._render(state, state.rows[slot : slot + 1], state.memory[slot : slot + 1], rest)
        state.tail += rest * _fade(fade)
        state.tail_left = fade


@functools.cache
def _fade(n: int) -> NDArray[np.float64]:
    """A level's way down in n samples, without an edge."""
    faded: NDArray[np.float64] = 0.5 + 0.5 * np.cos(np.pi * np.arange(n) / n)
    return faded


@njit(cache=True)
def _sounds(table):  # type: ignore[no-untyped-def]
    """Whether any voice is active."""
    sounding = 0
    for i in range(len(table)):
        sounding |= table[i, ACTIVE]
    return sounding == 1


@njit(cache=True)
def _slot(table):  # type: ignore[no-untyped-def]
    """Where a note goes: to the first free voice, or else to the oldest of those that are released, or of all."""
    best = 0
    for i in range(len(table)):
        if table[i, ACTIVE] == 0:
            return i
        if (table[i, HELD], table[i, SERIAL]) < (table[best, HELD], table[best, SERIAL]):
            best = i
    return best


@njit(cache=True)
def _begin(row, note, serial, key):  # type: ignore[no-untyped-def]
    """A voice as it is when a note begins, all else 0."""
    row[:] = 0
    row[ACTIVE] = row[HELD] = row[DOWN] = 1
    row[NOTE], row[SERIAL], row[KEY] = note, serial, key


@njit(cache=True)
def _let_go(table, note, pedal):  # type: ignore[no-untyped-def]
    """The key of a note comes up."""
    for i in range(len(table)):
        if table[i, NOTE] == note and table[i, ACTIVE] == 1:
            table[i, DOWN] = 0
            if not pedal:
                table[i, HELD] = 0


def _key(seed: int, serial: int) -> int:
    return (seed * 1_000_003 + serial * 7_919 + 12_345) & 0x7FFFFFFFFFFF


@njit(cache=True)
def white(key, n):  # type: ignore[no-untyped-def]
    """Noise in [-1, 1) as a function of (key, n): splitmix64 (Steele, Lea and Flood, 2014)."""
    z = np.uint64(key) * np.uint64(0xD1342543DE82EF95) + np.uint64(n) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return float(np.int64(z ^ (z >> np.uint64(31)))) * 2.0**-63
