"""What instruments that play on and on have in common: keys, of which the last one sounds, and pieces of sound.

Rendered, a piece of sound is made when its first sample is due. Live, a process of its own (`workshop`) makes pieces
ahead of the player; one that is not there in time is silence, and counted.
"""

import math
from abc import abstractmethod
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from soundloom.errors import ModelError
from soundloom.instruments import playhead
from soundloom.instruments.base import AbstractInstrument, Event
from soundloom.instruments.endless import Sound, Source, source_of
from soundloom.instruments.workshop import Bench, Workshop
from soundloom.models.base import AbstractModel
from soundloom.models.courses import SILENCE_DB
from soundloom.run import Run

STOP_S = 0.003  # by 60 dB: silent within 5 ms


@dataclass(frozen=True)
class Key:
    note: int
    pitch: float
    velocity: float
    down: bool = True  # until its "off"; the pedal may hold it longer


@dataclass
class Streaming:
    """The state of a stream, a value: passed in, written in place, returned.

    `row` [1] reads `sound`, what was made and is not yet over, with silence before it; `making` is the source's state,
    None before the first piece; `skip` samples of what comes next are left out; `behind` pieces are still to be waited
    for; `keys` are held, the last one sounds. `pitch`, `level_db`, `sunk_db` and `seconds` are where a melody is.
    """

    sample_rate: int
    seed: int
    values: dict[str, float]
    derived: NDArray[Any]
    level: NDArray[np.float64]
    row: NDArray[Any] = field(default_factory=lambda: np.zeros(1, playhead.ROW))
    sound: Sound = field(default_factory=lambda: np.zeros(playhead.HALF, np.float32))
    making: Any = None
    steer: Mapping[str, Any] = field(default_factory=dict)
    skip: int = 0
    behind: int = 0
    starts: int = 0
    bend: float = 0.0
    pedal: bool = False
    stopping: bool = False
    keys: list[Key] = field(default_factory=list)
    quiet: int = 0
    pitch: float = 60.0
    level_db: float = SILENCE_DB
    sunk_db: float = 0.0
    seconds: float = 0.0


class AbstractStream(AbstractInstrument):
    """A stream of pieces, made here or in a workshop, that keys let sound; what keys mean is the instrument's.

    Live (`start`), it is one player's: there is one stream. `underruns` counts the pieces that came too late.
    """

    ahead_s: float  # of sound that is ordered ahead of a live player

    def __init__(self, source: Source, folder: Path | None, settings: Mapping[str, float] | None, *, seed: int) -> None:
        self.source, self.folder, self.seed = source, folder, seed
        self.settings = self.values(dict(settings or {}))
        self.live, self.underruns = False, 0
        self._pump: Pump | None = None

    @abstractmethod
    def _begin(self, state: Streaming, key: Key) -> None:
        """A note out of silence."""

    @abstractmethod
    def _turn(self, state: Streaming, key: Key) -> None:
        """Another note sounds from now on, or one sounds again, while the stream still does."""

    @abstractmethod
    def _release(self, state: Streaming) -> None:
        """No key is held any longer."""

    @abstractmethod
    def _usual(self) -> Mapping[str, Any]:
        """What any piece may be asked to be."""

    @abstractmethod
    def _steer(self, state: Streaming) -> Mapping[str, Any]:
        """What the next piece is asked to be."""

    def _bent(self, state: Streaming) -> float:
        """By how many semitones the stream is read faster."""
        return 0.0

    @property
    def _envelope(self) -> tuple[str, str] | None:
        """The knobs of the envelope with which the stream is read, if there is one."""
        return None

    def _made(self, state: Streaming, piece: Sound) -> None:
        """A piece is about to be heard."""

    # --- live -----------------------------------------------------------------------------------------------------

    @property
    def _ahead(self) -> int:
        """Pieces on their way from the workshop, besides those that are skipped."""
        return max(1, math.ceil(self.ahead_s * self.source.sample_rate / self.source.piece))

    def start(self) -> None:
        """Opens the workshop, in which the pieces are made from now on; it is ready in seconds.

        Raises:
            ModelError: a bare model, which has no folder that another process could open.
        """
        if self.folder is None:
            raise ModelError("a model is played live from the folder of its run: give the run, not the model alone")
        self.close()
        usual = dict(self._usual())
        workshop = Workshop(
            f"{__name__}:serve", {"folder": str(self.folder), "usual": usual}, niceness=0
        )  # a player waits for it
        workshop.start()
        self._pump, self.live, self.underruns = Pump(workshop), True, 0

    def close(self) -> None:
        """Ends the workshop; pieces are made here again."""
        self.live = False
        if self._pump is not None:
            self._pump.workshop.close()
        self._pump = None

    @property
    def trouble(self) -> str:
        """Why the workshop is no longer there, in a sentence; empty where all is well."""
        return self._pump.workshop.trouble if self._pump is not None else ""

    @property
    def ready(self) -> bool:
        """Whether the workshop is at work: until then there is silence."""
        return self._pump is not None and self._pump.workshop.ready is not None

    @property
    def process_id(self) -> int | None:
        """The workshop's."""
        return self._pump.workshop.process_id if self._pump is not None else None

    # --- played ---------------------------------------------------------------------------------------------------

    def init_state(self, sample_rate: int, *, seed: int = 0) -> Streaming:
        derived = self._derive(self.settings, sample_rate)
        state = Streaming(
            sample_rate=sample_rate,
            seed=(1_000_003 * seed + self.seed) & 0x7FFFFFFF,
            values=dict(self.settings),
            derived=derived,
            level=np.array([derived[0]["gain"]]),
        )
        self._read(state, np.zeros(0))  # kernels are loaded before the first note
        playhead.turn(np.zeros(1), state.level.copy(), derived)
        return state

    def _derive(self, values: Mapping[str, float], sample_rate: int) -> NDArray[Any]:
        attack, release = self._envelope or ("", "")
        return playhead.knobs(
            sample_rate,
            attack_s=values.get(attack, 1e-6),
            release_s=values.get(release, STOP_S),
            gain_db=values["gain_db"],
            ratio=self.source.sample_rate / sample_rate,
        )

    def process(self, state: Streaming, events: Sequence[Event], n: int) -> tuple[NDArray[np.float32], Streaming]:
        block = np.zeros(n)
        at = 0
        for event in events:
            self._advance(state, block[at : event.frame])
            at = event.frame
            self._hear(state, event)
        self._advance(state, block[at:])
        return block.astype(np.float32)[None], state

    def _hear(self, state: Streaming, event: Event) -> None:
        row = state.row[0]
        if event.kind == "on" and event.velocity > 0:
            key = Key(event.note, event.pitch, event.velocity)
            state.keys.append(key)
            if state.stopping or not row["active"]:
                position = float(row["position"])
                state.row[:] = np.zeros(1, playhead.ROW)
                row["active"], row["held"], row["position"] = 1, 1, position
                row["rise"], row["fade"] = 0.0, 1.0
                state.stopping = False
                self._begin(state, key)
                state.starts += 1
            else:
                self._turn(state, key)
        elif event.kind == "off":
            state.keys = [replace(key, down=key.down and key.note != event.note) for key in state.keys]
            self._let_go(state)
        elif event.kind == "set":
            state.values[event.param] = self.values({event.param: event.value})[event.param]
            state.derived = self._derive(state.values, state.sample_rate)
        elif event.kind == "bend":
            state.bend = event.value
        elif event.kind == "pedal":
            state.pedal = event.value >= 0.5
            self._let_go(state)
        elif event.kind == "release":
            state.keys = [replace(key, down=False) for key in state.keys]
            self._let_go(state)
        elif event.kind == "stop":
            state.keys, state.stopping = [], True
            row["held"] = 0

    def _let_go(self, state: Streaming) -> None:
        """Keys that neither a finger nor the pedal holds are gone; the last of the others sounds."""
        before = state.keys
        state.keys = [key for key in before if key.down or state.pedal]
        if before and not state.keys:
            self._release(state)
        elif before and state.keys[-1].note != before[-1].note:
            self._turn(state, state.keys[-1])

    def _advance(self, state: Streaming, out: NDArray[np.float64]) -> None:
        at = self._waited(state, len(out))
        while at < len(out) and state.row[0]["active"]:
            at += self._read(state, out[at:])
            if at < len(out) and state.row[0]["active"]:
                self._supply(state)
        playhead.turn(out, state.level, state.derived)

    def _waited(self, state: Streaming, n: int) -> int:
        """How many of the next n samples pass before the stream can begin."""
        return 0

    def _read(self, state: Streaming, out: NDArray[np.float64]) -> int:
        derived = state.derived
        if state.stopping:
            derived = derived.copy()
            derived["release_factor"] = 0.001 ** (1 / (STOP_S * state.sample_rate))
        row, sound = state.row, state.sound
        return int(playhead.read(row, sound, len(sound), False, derived, self._bent(state), playhead.sincs(), out))

    def _supply(self, state: Streaming) -> None:
        """The next samples of the stream behind those that are there; what has been read goes."""
        waits = state.behind > 0
        piece = self._piece(state)
        self._made(state, piece)
        skipped = 0 if waits else min(state.skip, len(piece))
        state.skip -= skipped
        row = state.row[0]
        over = min(int(row["position"]), len(state.sound))
        row["position"] -= over
        state.sound = np.concatenate([state.sound[over:], piece[skipped:]])

    def _piece(self, state: Streaming) -> Sound:
        steer = self._steer(state)
        if self._pump is None:
            piece, state.making = self.source.next(steer, state.making)
            return piece
        self._pump.order(steer)
        if state.behind:
            state.behind -= 1
            return np.zeros(self.source.piece, np.float32)
        ready = self._pump.take()
        if ready is None:
            self.underruns += 1
            return np.zeros(self.source.piece, np.float32)
        return ready

    def _fresh(self, state: Streaming, seed: int) -> None:
        """A stream of its own begins, its first samples skipped that come before what it is steered by."""
        row = state.row[0]
        row["position"] = 0.0
        state.sound = np.zeros(playhead.HALF, np.float32)
        state.skip, state.behind = self.source.latency, 0
        if self._pump is None:
            state.making = self.source.begin(seed)
        else:
            self._pump.begin(seed)


def opened(played: Run | Source | AbstractModel) -> tuple[Source, Path | None]:
    """The pieces of a run, of a bare model, or as they are, and the folder another process can open them from."""
    if isinstance(played, Run):
        return source_of(played.model), played.folder
    return (played if isinstance(played, Source) else source_of(played)), None


class Pump:
    """Pieces that are ordered from a workshop, and come in that order. One that was waited for in vain is dropped when
    it comes."""

    def __init__(self, workshop: Workshop) -> None:
        self.workshop = workshop
        self.under_way = 0
        self._stream = self._lost = 0
        self._ready: deque[Sound] = deque()

    def begin(self, seed: int) -> None:
        """Another stream; what is under way of the last one is dropped."""
        self._stream += 1
        self.under_way = self._lost = 0
        self._ready.clear()
        self.workshop.tell({"begin": seed})

    def order(self, steer: Mapping[str, Any]) -> None:
        self.under_way += 1
        self.workshop.tell({"steer": dict(steer), "stream": self._stream})

    def ready(self) -> int:
        """How many pieces are there."""
        for message, sound in self.workshop.arrived():
            if message["stream"] != self._stream:
                continue
            if self._lost:
                self._lost -= 1
            else:
                self._ready.append(sound)
        return len(self._ready)

    def take(self) -> Sound | None:
        self.under_way -= 1
        if self.ready():
            return self._ready.popleft()
        self._lost += 1
        return None


def serve(settings: Mapping[str, Any], bench: Bench) -> None:
    """The workshop's work: piece after piece, as they are ordered."""
    torch.set_num_threads(1)
    source = source_of(Run.load(settings["folder"], device="cpu").model)
    source.next(settings["usual"], source.begin(0))  # what is slow the first time is slow now
    state = source.begin(0)
    bench.ready("")
    due: deque[dict[str, Any]] = deque()
    while True:
        while (message := bench.next(wait=not due)) is not None:
            if "begin" in message:  # nobody waits for what was ordered of the stream before
                due.clear()
            due.append(message)
        message = due.popleft()
        if "begin" in message:
            state = source.begin(message["begin"])
        else:
            piece, state = source.next(message["steer"], state)
            bench.send({"stream": message["stream"]}, piece)
