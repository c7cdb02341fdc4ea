"""The computer's own keys as a piano: two rows of them, in a terminal that gives every key as it is struck."""

import importlib
import os
import select
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from soundloom.errors import DeviceError
from soundloom.hands import OFF, ON
from soundloom.midiin import Inbox

#   w e   t y u   o p
#  a s d f g h j k l ; '
ROWS = "awsedftgyhujkolp;'"
LOWEST, HIGHEST = 0, 108  # where the leftmost key may stand
NOTE_S = 0.4  # terminals do not say when a key is let go
REPEAT_S = 0.08  # a key that comes again so soon is not struck anew but held
VELOCITIES = (20, 40, 64, 90, 110, 127)
HELP = "keys a to ' play, z and x change the octave, c and v the strength, space holds notes, Ctrl-C ends"


class Keys:
    """What the keys mean: a note for `NOTE_S` and as long as the key repeats; while `holding`, until it is struck
    again. `at` says when, in seconds of any clock."""

    def __init__(self, inbox: Inbox, *, channel: int = 0) -> None:
        self.inbox, self.channel = inbox, channel
        self.base, self.strength, self.holding = 60, 3, False
        self._ends: dict[int, float] = {}  # pitch → when it ends; infinity while held
        self._struck: dict[int, float] = {}  # pitch → when its key came last

    def struck(self, key: str, at: float) -> str:
        """A key came; says in a few words what has changed, where it was no note."""
        if key in ROWS:
            pitch = self.base + ROWS.index(key)
            self._note(pitch, at)
            return ""
        if key in "zx":
            self.base = min(max(self.base + (12 if key == "x" else -12), LOWEST), HIGHEST)
            return f"octave {self.base // 12 - 1}"
        if key in "cv":
            self.strength = min(max(self.strength + (1 if key == "v" else -1), 0), len(VELOCITIES) - 1)
            return f"velocity {VELOCITIES[self.strength]}"
        if key == " ":
            self.holding = not self.holding
            if not self.holding:
                self.passed(float("inf"), at)
            return "notes are held" if self.holding else "notes are let go"
        return ""

    def passed(self, until: float, at: float) -> None:
        """Ends the notes whose time was up at `until`."""
        for pitch, end in list(self._ends.items()):
            if end <= until:
                del self._ends[pitch]
                self._put(at, OFF, pitch, 0)

    def _note(self, pitch: int, at: float) -> None:
        repeated = at - self._struck.get(pitch, -1.0) < REPEAT_S
        self._struck[pitch] = at
        if self.holding:
            if not repeated:
                if self._ends.pop(pitch, None) is not None:
                    self._put(at, OFF, pitch, 0)
                else:
                    self._ends[pitch] = float("inf")
                    self._put(at, ON, pitch, VELOCITIES[self.strength])
            return
        if not (repeated and pitch in self._ends):
            self._put(at, ON, pitch, VELOCITIES[self.strength])
        self._ends[pitch] = at + NOTE_S

    def _put(self, at: float, kind: int, pitch: int, velocity: int) -> None:
        if 0 <= pitch <= 127:
            self.inbox.put(at, bytes([kind | self.channel, pitch, velocity]))


class Terminal:
    """Standard input, one key at a time. `read` waits for at most so many seconds."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def read(self, seconds: float) -> str:
        ready, _, _ = select.select([self._descriptor], [], [], seconds)
        if not ready:
            return ""
        came = os.read(self._descriptor, 64)
        if not came:
            raise DeviceError("the terminal whose keys were played is gone")
        return (
            "" if came.startswith(b"\x1b") else came.decode(errors="ignore").lower()
        )  # arrows and the like mean nothing


@contextmanager
def struck_keys() -> Iterator[Terminal]:
    """The terminal with its keys given at once and not shown; put back whatever happens.

    Raises:
        DeviceError: standard input is no terminal, or this system has none of this kind.
    """
    try:
        termios: Any = importlib.import_module("termios")
    except ImportError:
        raise DeviceError("--keyboard needs a terminal as Linux and macOS have them: connect a MIDI keyboard") from None
    if not sys.stdin.isatty():
        raise DeviceError("--keyboard plays on the keys of a terminal, and standard input is none")
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    raw = termios.tcgetattr(descriptor)
    raw[3] &= ~(termios.ICANON | termios.ECHO)  # Ctrl-C goes on to interrupt
    try:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, raw)
        yield Terminal(descriptor)
    finally:
        with suppress(termios.error):  # it is gone
            termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def play_keys(terminal: Terminal, keys: Keys, seconds: float) -> str:
    """Passes on what is struck within some seconds, and ends notes whose time is up; says what has changed."""
    words = ""
    until = time.perf_counter() + seconds
    while (now := time.perf_counter()) < until:
        came = terminal.read(min(until - now, 0.02))
        at = time.perf_counter()
        for key in came:
            words = keys.struck(key, at) or words
        keys.passed(at, at)
    return words
