"""Everything that plays, as one function of an audio callback: MIDI in, sound out, and what share of time it takes."""

import gc
import itertools
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np

from soundloom.backends import Sound
from soundloom.guard import Guard
from soundloom.hands import Hands
from soundloom.instruments.base import AbstractInstrument, Event, Param
from soundloom.instruments.controls import Playable
from soundloom.instruments.mixer import STRIP, Mixer, Part
from soundloom.midiin import Message
from soundloom.tape import Tape

SWITCH_S = 1e-4  # how long another thread may hold the interpreter while the callback waits for it; 5 ms otherwise
STEPS, FULL = 4000, 2.0  # the load is counted in steps of 0.05 % of a block, up to two blocks
# Of the rehearsal: the keys of a piano, some of them, and how many are struck in a block.
KEYS, FEW, TOGETHER = range(21, 109), (36, 48, 60, 72), 8


class Load:
    """How much of its time each callback took, in CPU time: 1 is all that there is."""

    def __init__(self) -> None:
        self._counts = np.zeros(STEPS + 1, np.int64)
        self.now = 0.0  # of late

    def add(self, part: float) -> None:
        self._counts[min(int(part * (STEPS / FULL)), STEPS)] += 1
        self.now += 0.01 * (part - self.now)

    @property
    def blocks(self) -> int:
        return int(self._counts.sum())

    def percentile(self, percent: float) -> float:
        """The load that so many per cent of all blocks stayed below, rounded up to a step; 0 before the first."""
        counts = np.cumsum(self._counts)
        rank = max(int(np.ceil(counts[-1] * percent / 100)), 1)
        return float((np.searchsorted(counts, rank) + 1) * FULL / STEPS) if counts[-1] else 0.0


class Player:
    """Instruments, their mixer and the hands on them. `render` is for an audio callback: it takes no lock, waits for
    nothing, and lets no error out; the first one is kept in `error`, and silence goes out from then on.

    `broken` counts blocks in which an instrument made no sound but NaN or worse: they are silent, and all starts anew.
    """

    def __init__(
        self,
        players: Sequence[Playable],
        places: Mapping[int, Sequence[int]],
        *,
        sample_rate: int,
        block: int,
        seed: int = 0,
        tape: Tape | None = None,
    ) -> None:
        self.players, self.tape = tuple(players), tape
        self.sample_rate, self.block, self.seed = sample_rate, block, seed
        self.mixer = Mixer([Part.of(one) for one in players])
        self.hands = Hands(players, places)
        self.load = Load()
        self.frames = self.broken = self._told = 0
        self._known: set[str] = set()  # troubles that were told
        self._late = 0  # pieces that came too late, as they were told
        self.error: Exception | None = None
        self._guard = Guard(sample_rate)
        self._state = self._fresh()

    def render(self, heard: Sound | None, out: Sound, messages: Sequence[Message]) -> None:
        """The next samples into `out` [2, n]; `heard` means nothing here."""
        start = time.thread_time()
        n = out.shape[1]
        out[:] = 0.0
        if self.error is None:
            try:
                made, self._state = self.mixer.process(self._state, self.hands.events(messages), n)
                if self._guard.pass_through(made):  # not of `out`: kernels are compiled for arrays in one piece
                    self.broken += 1
                    self._state = self._fresh()
                out[:] = made
            except Exception as error:  # whoever plays hears silence; the main thread says why
                self.error = error
                out[:] = 0.0
        if self.tape is not None:
            self.tape.hear(out)
        self.frames += n
        self.load.add((time.thread_time() - start) * self.sample_rate / n)

    def warm_up(self) -> None:
        """Plays every kind of event on every part, unheard, so that all there is to compile and to load is there
        before the first note. What an instrument has in a process of its own starts here."""
        for instrument in self._everyone():
            start = getattr(instrument, "start", None)
            if start is not None:
                start()
        state = self._fresh()
        parts = [_rehearsal(number, one.instrument) for number, one in enumerate(self.players)]
        for scene in itertools.zip_longest(*parts, fillvalue=()):
            for due in (sorted(itertools.chain(*scene), key=lambda event: event.frame), [], []):
                made, state = self.mixer.process(state, due, self.block)
                self._guard.pass_through(made)
        self._guard = Guard(self.sample_rate)
        self._state = self._fresh()

    def finish(self) -> None:
        """The next block falls to silence."""
        self._guard.ending = True

    def close(self) -> None:
        """Ends what instruments have in processes of their own."""
        for instrument in self._everyone():
            close = getattr(instrument, "close", None)
            if close is not None:
                close()

    def news(self) -> list[str]:
        """What has happened since it was asked last: knobs that were learnt, instruments in trouble, models that were
        too slow."""
        found = [self.hands.learnt.popleft() for _ in range(len(self.hands.learnt))]
        if self.broken > self._told:
            found.append(f"note: {self.broken} blocks were no sound, and were left out: an instrument ran away")
            self._told = self.broken
        for instrument in self._everyone():
            trouble = getattr(instrument, "trouble", "")
            if trouble and trouble not in self._known:
                self._known.add(trouble)
                found.append(f"note: {trouble}")
        late = sum(getattr(instrument, "underruns", 0) for instrument in self._everyone())
        if late > self._late:
            found.append(f"note: {late} pieces came too late and were silent: the model does not keep up")
        self._late = late
        return found

    def _fresh(self) -> Any:
        return self.mixer.begun(self.mixer.init_state(self.sample_rate, seed=self.seed))

    def _everyone(self) -> Iterator[AbstractInstrument]:
        """All instruments, also those inside of others."""
        waiting: list[AbstractInstrument] = [player.instrument for player in self.players]
        while waiting:
            one = waiting.pop()
            yield one
            inner = getattr(one, "instrument", None)
            if isinstance(inner, AbstractInstrument):
                waiting.append(inner)


def _rehearsal(part: int, instrument: AbstractInstrument) -> list[list[Event]]:
    """Scenes: every key, so that voices are stolen on the way; what moves while they sound; every knob to its ends and
    back, as at an end there may be work that is never done in the middle, also for a note that begins; their ends.

    Where sounds are made elsewhere only a few keys are struck: what takes seconds to make is not asked for in vain.
    """

    def turned(params: Iterable[Param], to: Literal["low", "default", "high"]) -> list[Event]:
        return [Event(5, "set", param=param.name, value=getattr(param, to), part=part) for param in params]

    few = any(hasattr(one, "start") for one in (instrument, getattr(instrument, "instrument", None)))
    keys = [float(FEW[key % len(FEW)] if few else key) for key in KEYS]
    struck = [
        Event(number % TOGETHER, "on", number, key, 0.2 + 0.15 * (number % 5), part=part)
        for number, key in enumerate(keys)
    ]
    moves = [Event(0, "bend", value=0.3, part=part), Event(3, "pedal", value=1.0, part=part)]
    own = [param for param in instrument.params if not few or "." in param.name]
    ends: tuple[Literal["low", "high"], ...] = ("high", "low")
    alone = [
        turned(own[k : k + 1], end) + turned(own[max(k - 1, 0) : k], "default")
        for end in ends
        for k in range(len(own) + 1)
    ]
    one = [Event(6, "on", len(keys), keys[-1], part=part)] if own and not few else []  # it may begin otherwise there
    knobs = [*alone, turned(own, "high") + one, turned(own, "low") + one, turned(own, "default")]
    faded = [Event(7, "set", param=f"strip.{strip.name}", value=strip.default, part=part) for strip in STRIP]
    let_go = [Event(9, "off", number, part=part) for number in range(len(keys) + 1)]
    last = [Event(0, "pedal", value=0.0, part=part), Event(9, "stop", part=part)]
    return [*(struck[k : k + TOGETHER] for k in range(0, len(keys), TOGETHER)), moves, *knobs, faded, let_go, last]


@contextmanager
def undisturbed() -> Iterator[None]:
    """While a callback plays: no garbage is collected, and no other thread keeps the interpreter for long."""
    interval = sys.getswitchinterval()
    gc.collect()
    gc.freeze()
    gc.disable()
    sys.setswitchinterval(SWITCH_S)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)
        gc.enable()
        gc.unfreeze()
