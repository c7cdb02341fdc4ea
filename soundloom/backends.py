"""Who asks for sound, block by block: PortAudio on any system, or JACK with MIDI that is right to the sample."""

import atexit
import contextlib
import os
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from soundloom.devices import ELSEWHERE, Soundcard, hush_jack, hushed, library
from soundloom.errors import DeviceError
from soundloom.midiin import POLL_S, Inbox, Message
from soundloom.timing import BlockClock

Sound = NDArray[np.float32]
Render = Callable[[Sound | None, Sound, Sequence[Message]], None]
"""What is called for each block: the sound that comes in [2, n] (None where nothing is listened to), room for the sound
that goes out [2, n], and the MIDI that falls into it. It is called by a thread that must not wait."""
LONGEST = 8192  # samples: no JACK server has longer blocks
CLOSING_S = 1.0  # for a device to close
STUCK: list[Any] = []  # JACK clients that cannot be closed: nothing must try to again
ENDING_S = 0.05  # for JACK's thread to end, and for its server to know
NICENESS = -11  # what sound servers give themselves
STILL_S = 2.0  # without a callback: the device is gone


class AbstractBackend(ABC):
    """A way to a sound device. `xruns` counts the blocks that came too late; `latency_s` is the way out of the
    computer, as the driver tells it."""

    name: str
    sample_rate: int
    block: int
    latency_s: float
    midi_latency_s: float  # by which a key is heard later than it could be

    def __init__(self) -> None:
        self.inbox = Inbox()
        self.xruns = 0
        self._called = time.monotonic()
        self._served = False

    @abstractmethod
    def start(self, render: Render) -> None: ...

    @abstractmethod
    def stop(self) -> None:
        """Silence, and nothing is called any more. May be called twice."""

    def alive(self) -> bool:
        """Whether blocks are still asked for."""
        return time.monotonic() - self._called < STILL_S

    def _came(self) -> None:
        """A callback came. In the first one its thread, which may be an ordinary one, asks to be served first."""
        self._called = time.monotonic()
        if not self._served:
            self._served = True
            if hasattr(os, "setpriority"):
                with contextlib.suppress(OSError):  # the system may not let us
                    os.setpriority(os.PRIO_PROCESS, 0, NICENESS)


class PortAudio(AbstractBackend):
    """Any sound device; MIDI comes through the ports that are opened beside it, a block later, without jitter."""

    def __init__(
        self, output: Soundcard, source: Soundcard | None = None, *, block: int = 256, sample_rate: int | None = None
    ) -> None:
        super().__init__()
        self.block = block
        self.sample_rate = sample_rate or output.sample_rate
        portaudio = library("sounddevice")
        if "JACK" in output.driver:
            hush_jack()
        common = {
            "samplerate": self.sample_rate, "blocksize": block, "dtype": "float32", "latency": "low",
            "callback": self._duplex if source else self._single,
        }  # fmt: skip
        try:
            with hushed():
                if source is None:
                    self._outs = min(output.outputs, 2)
                    self._stream = portaudio.OutputStream(device=output.number, channels=self._outs, **common)
                else:
                    self._outs, ins = min(output.outputs, 2), min(source.inputs, 2)
                    devices = (source.number, output.number)
                    self._stream = portaudio.Stream(device=devices, channels=(ins, self._outs), **common)
        except portaudio.PortAudioError as error:
            names = output.name if source is None else f"{source.name} and {output.name}"
            raise DeviceError(
                f"cannot open {names} at {self.sample_rate} Hz in blocks of {block}: {_reason(error)}; "
                "`soundloom devices` shows what is there"
            ) from None
        latency = self._stream.latency
        self.name = f"{output.name} ({output.driver})"
        self.latency_s = float(latency if source is None else latency[1])
        self.midi_latency_s = block / self.sample_rate + POLL_S
        self._clock = BlockClock(self.sample_rate, block)
        self._closed = False

    def start(self, render: Render) -> None:
        self._render = render
        self._out = np.zeros((2, self.block), np.float32)
        self._in = np.zeros((2, self.block), np.float32)
        self._called = time.monotonic()
        try:
            self._stream.start()
        except library("sounddevice").PortAudioError as error:
            raise DeviceError(f"{self.name} does not start: {_reason(error)}") from None

    def stop(self) -> None:
        if self._closed:
            return
        self._closed, gone = True, not self.alive()
        closing = threading.Thread(target=self._close, daemon=True)
        with hushed():
            closing.start()
            closing.join(CLOSING_S)
        if gone or closing.is_alive():
            # PortAudio waits for ever for a device that is gone, or aborts the process at its end: it is left alone.
            atexit.unregister(library("sounddevice")._exit_handler)

    def alive(self) -> bool:
        return super().alive() and bool(self._stream.active)

    def _close(self) -> None:
        with contextlib.suppress(library("sounddevice").PortAudioError):  # the device is gone
            self._stream.stop()  # the last block is let through: to close at once may cancel its thread midway
        self._stream.close()

    def _single(self, out: Any, n: int, _: Any, status: Any) -> None:
        self._block(None, out, n, bool(status.output_underflow))

    def _duplex(self, heard: Any, out: Any, n: int, _: Any, status: Any) -> None:
        self._in[:, :n] = heard.T  # one channel goes to both sides
        self._block(self._in[:, :n], out, n, bool(status.output_underflow or status.input_overflow))

    def _block(self, heard: Sound | None, out: Any, n: int, late: bool) -> None:
        now = time.perf_counter()
        self._came()
        self.xruns += late
        if late:
            self._clock.lost()
        messages = self.inbox.take(self._clock.start(now, n) - POLL_S, n, self.sample_rate)
        block = self._out[:, :n]
        self._render(heard, block, messages)
        if self._outs == 1:
            np.add(block[0], block[1], out=out[:, 0])
            out *= 0.5
        else:
            out[:] = block.T


class JackCallback:
    """What a JACK client does for each block, so that it can be ended: JACK cancels its own thread wherever that is,
    and if that is in the interpreter, its lock is held for ever. This one ends itself, between two blocks."""

    def __init__(self, client: Any, block: Callable[[int], None]) -> None:
        self._client, self._block = client, block
        self._ending, self._ended = False, threading.Event()
        self._exit = library("jack").CallbackExit
        client.set_process_callback(self)

    def __call__(self, n: int) -> None:
        if self._ending:
            self._ended.set()
            raise self._exit
        self._block(n)

    def end(self) -> None:
        """No block comes after this. A server that asks for none any more is not waited for."""
        self._ending = True
        if self._ended.wait(CLOSING_S):
            time.sleep(ENDING_S)
        self._client.deactivate()


class Jack(AbstractBackend):
    """A client of a JACK server, which sets the rate and the block. MIDI comes to the sample, in the block in which it
    happens: the keys are no later than the sound device is."""

    def __init__(
        self,
        output: str | None = None,
        source: str | None = None,
        *,
        listens: bool = False,
        sample_rate: int | None = None,
    ) -> None:
        super().__init__()
        self._jack = library("jack")
        hush_jack()
        try:
            with hushed():
                self._client = self._jack.Client("soundloom", no_start_server=True)
        except self._jack.JackOpenError:
            raise DeviceError(
                f"no JACK server is running: start one, or leave out --driver jack; {ELSEWHERE}"
            ) from None
        self.sample_rate, self.block = int(self._client.samplerate), int(self._client.blocksize)
        if sample_rate not in (None, self.sample_rate):
            self._client.close()
            raise DeviceError(f"the JACK server runs at {self.sample_rate} Hz: leave out --sample-rate {sample_rate}")
        self._outs = [self._client.outports.register(f"out_{side}") for side in ("left", "right")]
        self._ins = [self._client.inports.register(f"in_{side}") for side in ("left", "right")] if listens else []
        self._midi = self._client.midi_inports.register("midi_in")
        self._output, self._source = output, source
        self.name = "JACK"
        self.latency_s, self.midi_latency_s = self.block / self.sample_rate, 0.0
        self._clock = BlockClock(self.sample_rate, self.block)
        self._gone = self._closed = False
        self._render: Render | None = None
        self._heard = np.zeros((2, LONGEST), np.float32)
        self._sound = np.zeros((2, LONGEST), np.float32)
        self._callback = JackCallback(self._client, self._block)
        self._client.set_xrun_callback(self._late)
        self._client.set_shutdown_callback(self._left)
        self._heard_from: list[Any] = []

    def start(self, render: Render) -> None:
        self._called = time.monotonic()
        self._render = render
        self._client.activate()  # not before: while kernels are compiled its blocks would be late, and all others' too
        for port in self._heard_from:
            self._midi.connect(port)
        self._connect(self._outs, self._output, what="output")
        if self._ins:
            self._connect(self._ins, self._source, what="input")

    def choose_midi(self, wanted: str | None) -> list[str]:
        """The MIDI ports whose names have `wanted` in them, or all hardware, are listened to; says which these are."""
        pattern = {} if wanted else {"is_physical": True}
        ports = self._client.get_ports(is_midi=True, is_output=True, **pattern)
        self._heard_from = [port for port in ports if not wanted or wanted.lower() in port.name.lower()]
        return [port.name for port in self._heard_from]

    def stop(self) -> None:
        if self._closed:
            return
        self._closed = True
        closing = threading.Thread(target=self._close, daemon=True)
        with hushed():
            closing.start()
            closing.join(2 * CLOSING_S)
        if closing.is_alive():  # the server stands still
            STUCK.append(self._client)

    def alive(self) -> bool:
        return super().alive() and not self._gone

    def _close(self) -> None:
        if self._render is not None:  # it was started
            self._callback.end()
        self._client.close()

    def _connect(self, own: Sequence[Any], wanted: str | None, *, what: Literal["output", "input"]) -> None:
        pattern: dict[str, Any] = {} if wanted else {"is_physical": True}
        pattern["is_input" if what == "output" else "is_output"] = True  # what plays takes sound in, seen from JACK
        ports = self._client.get_ports(is_audio=True, **pattern)
        ports = [port for port in ports if not wanted or wanted.lower() in port.name.lower()]
        if not ports and wanted:
            raise DeviceError(f"no JACK port for {what} has '{wanted}' in its name")
        for mine, theirs in zip(own, ports, strict=False):
            mine.connect(theirs)

    def _block(self, n: int) -> None:
        now = time.perf_counter()
        self._came()
        messages: list[Message] = self.inbox.take(self._clock.start(now, n), n, self.sample_rate)
        messages += [(offset, bytes(data)) for offset, data in self._midi.incoming_midi_events()]
        if len(messages) > 1:
            messages.sort(key=lambda one: one[0])
        for side, port in enumerate(self._ins):
            self._heard[side, :n] = port.get_array()
        sound = self._sound[:, :n]
        if self._render is not None:
            self._render(self._heard[:, :n] if self._ins else None, sound, messages)
        for side, port in enumerate(self._outs):
            port.get_array()[:] = sound[side]

    def _late(self, _: float) -> None:
        self.xruns += 1

    def _left(self, *_: Any) -> None:
        self._gone = True


def _reason(error: Exception) -> str:
    return str(error.args[0]) if error.args else str(error)
