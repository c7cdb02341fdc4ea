"""What there is to hear and to play with: sound devices and MIDI ports, and the libraries that know them."""

import ctypes
import importlib
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from soundloom.config import did_you_mean
from soundloom.errors import DeviceError

EXTRA = "pip install 'soundloom[live]'"
SYSTEM = "apt install libportaudio2, or what your system calls PortAudio"  # wheels bring it on macOS and Windows
WAITING = 16_384  # MIDI messages that a port keeps until they are looked at
ELSEWHERE = "`soundloom render` plays into a file and needs neither"
LIBRARIES = {  # by module: what pip installs, and what of the system it needs
    "sounddevice": SYSTEM,
    "rtmidi": "apt install libasound2, or what your system calls it",
    "jack": "apt install libjack-jackd2-0, or what your system calls JACK's library",
}


Thing = TypeVar("Thing", "Soundcard", "MidiPort")


@dataclass(frozen=True)
class Soundcard:
    """A sound device as PortAudio shows it. `inputs` and `outputs` count channels; `default` says "input", "output",
    "both" or nothing."""

    number: int
    name: str
    driver: str
    inputs: int
    outputs: int
    sample_rate: int
    input_latency_ms: float
    output_latency_ms: float
    default: str = ""


@dataclass(frozen=True)
class MidiPort:
    """A port that MIDI comes from; `driver` is the system's interface that shows it."""

    number: int
    name: str
    driver: str


def library(name: str) -> Any:
    """A library that talks to devices; `DeviceError` says what to install where it is missing."""
    try:
        with hushed():
            return importlib.import_module(name)
    except ModuleNotFoundError:
        raise DeviceError(f"playing live needs an extra: {EXTRA}; {ELSEWHERE}") from None
    except (ImportError, OSError) as error:  # it is there, what it talks to is not
        raise DeviceError(f"{error}: {LIBRARIES[name]}; {ELSEWHERE}") from None


def soundcards() -> list[Soundcard]:
    """All sound devices, in PortAudio's order."""
    portaudio = library("sounddevice")
    drivers = portaudio.query_hostapis()
    with hushed():
        default_input, default_output = portaudio.default.device
    usual = {(True, True): "both", (True, False): "input", (False, True): "output"}
    return [
        Soundcard(
            number=number,
            name=one["name"],
            driver=drivers[one["hostapi"]]["name"],
            inputs=one["max_input_channels"],
            outputs=one["max_output_channels"],
            sample_rate=round(one["default_samplerate"]),
            input_latency_ms=round(1000 * one["default_low_input_latency"], 2),
            output_latency_ms=round(1000 * one["default_low_output_latency"], 2),
            default=usual.get((number == default_input, number == default_output), ""),
        )
        for number, one in enumerate(portaudio.query_devices())
    ]


def midi_ports() -> list[MidiPort]:
    """All ports that MIDI comes from, of every interface that this system has."""
    ports: list[MidiPort] = []
    for driver in midi_drivers():
        inlet = midi_inlet(driver)
        if inlet is not None:
            ports += [MidiPort(len(ports) + i, port, driver) for i, port in enumerate(inlet.get_ports())]
            inlet.delete()
    return ports


def midi_drivers() -> dict[str, int]:
    """The MIDI interfaces of this system by name, and the numbers that RtMidi has for them."""
    rtmidi = library("rtmidi")
    return {rtmidi.get_api_display_name(number): number for number in rtmidi.get_compiled_api()}


def midi_inlet(driver: str) -> Any:
    """An open end for MIDI, not connected yet; None where the interface does not work here."""
    rtmidi = library("rtmidi")
    try:
        with hushed():
            inlet = rtmidi.MidiIn(midi_drivers()[driver], name="soundloom", queue_size_limit=WAITING)
    except rtmidi.RtMidiError:
        return None
    hush_jack()
    return inlet


def soundcard(wanted: str | None, *, output: bool = True) -> Soundcard:
    """The device of that number, or whose name has `wanted` in it; None: the system's default.

    Raises:
        DeviceError: there is none, or several fit.
    """
    what = "output" if output else "input"
    able = [card for card in soundcards() if (card.outputs if output else card.inputs)]
    if not able:
        raise DeviceError(f"there is no sound device with an {what}: connect one; {ELSEWHERE}")
    if wanted is None:
        return next((card for card in able if card.default in (what, "both")), able[0])
    return one_of(able, wanted, f"sound device with an {what}")


def one_of(things: Sequence[Thing], wanted: str, what: str) -> Thing:
    """The one of that number, or with that name, or else the only one whose name has `wanted` in it."""
    for thing in things:
        if wanted in (str(thing.number), thing.name):
            return thing
    fitting = [thing for thing in things if wanted.lower() in thing.name.lower()]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        names = ", ".join(f"{thing.number} {thing.name}" for thing in fitting)
        raise DeviceError(f"'{wanted}' fits several ({names}): give the number")
    known = did_you_mean(wanted, [thing.name for thing in things])
    raise DeviceError(f"there is no {what} '{wanted}': {known}; `soundloom devices` shows all")


def hush_jack() -> None:
    """Keeps JACK's library, every copy of it that is loaded (RtMidi brings its own), from printing to standard error,
    from threads of its own, for as long as the process lives. On Linux; elsewhere it is left as it is.

    What it has to say goes to `strlen`, which takes a text and needs no interpreter to do so: a function of ours could
    make a thread that JACK's server waits for wait for the interpreter.
    """
    maps = Path("/proc/self/maps")
    lines = maps.read_text().splitlines() if maps.exists() else []
    deaf = ctypes.cast(ctypes.CDLL(None).strlen, ctypes.c_void_p) if lines else None
    for name in {line.split(maxsplit=5)[5] for line in lines if "/libjack" in line}:
        copy = ctypes.CDLL(name)
        for speaks in (copy.jack_set_error_function, copy.jack_set_info_function):
            speaks.argtypes, speaks.restype = [ctypes.c_void_p], None
            speaks(deaf)


@contextmanager
def hushed() -> Iterator[None]:
    """Without what the system's libraries print to standard error when they look for devices that are not there."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    kept = os.dup(2)
    nothing = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nothing)
