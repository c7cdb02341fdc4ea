"""MIDI as it comes in: messages with the time at which they happened, put onto the samples of the block to come."""

import math
import threading
import time
from collections import deque

from soundloom.devices import MidiPort, midi_inlet
from soundloom.errors import DeviceError
from soundloom.timing import StampClock

POLL_S = 0.001  # between two looks at a port

Message = tuple[int, bytes]  # the frame of a block, and what a MIDI cable carries


class Inbox:
    """Where ports and keys leave their messages, and where an audio callback takes them from: a deque, of which both
    ends are safe to use at once, so that nobody waits."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[float, bytes]] = deque()

    def put(self, at_s: float, message: bytes) -> None:
        """A message that happened at a time of `time.perf_counter`."""
        self._waiting.append((at_s, message))

    def take(self, start_s: float, n: int, sample_rate: int) -> list[Message]:
        """What happened in the n samples before `start_s`, on the n samples after it: all is late by one block, and
        nothing by more or less. What comes later than that is put on the first sample."""
        taken: list[Message] = []
        while self._waiting and self._waiting[0][0] < start_s:
            at_s, message = self._waiting.popleft()
            frame = n + math.floor((at_s - start_s) * sample_rate)
            taken.append((max(frame, 0), message))
        taken.sort(key=lambda one: one[0])  # two ports may have left theirs out of order
        return taken


class MidiIn:
    """A port that is listened to, until `close`.

    It is looked at by a thread of ours: RtMidi's own would call into the interpreter while RtMidi ends that thread with
    the interpreter in hand, and each would wait for the other.
    """

    def __init__(self, port: MidiPort, inbox: Inbox) -> None:
        self.port, self._inbox, self._clock = port, inbox, StampClock()
        self._inlet = midi_inlet(port.driver)
        names = self._inlet.get_ports() if self._inlet is not None else []
        if port.name not in names:
            raise DeviceError(f"the MIDI port {port.name} is not there any more: `soundloom devices` shows what is")
        self._inlet.open_port(names.index(port.name), name="in")
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="midi", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._over.set()
        self._thread.join()
        self._inlet.close_port()
        self._inlet.delete()

    def _listen(self) -> None:
        while not self._over.wait(POLL_S):
            while (event := self._inlet.get_message()) is not None:
                message, delta = event
                self._inbox.put(self._clock.time(delta, time.perf_counter()), bytes(message))
