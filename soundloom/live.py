"""Playing live: devices are opened, everything is warmed up, and until Ctrl-C a callback plays while this watches."""

import contextlib
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from soundloom.backends import AbstractBackend, Jack, PortAudio, Sound
from soundloom.devices import ELSEWHERE, midi_ports, one_of, soundcard
from soundloom.errors import ConfigError, DeviceError
from soundloom.hands import CHANNELS, knobs
from soundloom.instruments.controls import Playable
from soundloom.keyboard import HELP, Keys, play_keys, struck_keys
from soundloom.midiin import Message, MidiIn
from soundloom.player import Load, Player, undisturbed
from soundloom.tape import Tape
from soundloom.terminal import Terminal

LOOK_S = 0.1  # between two looks at what the callback does
FADE_S = 0.5  # for the last block to be asked for
LEAST_BLOCK, MOST_BLOCK = 16, 8192
PERCENTILES = (50.0, 99.0, 99.99)


@dataclass(frozen=True)
class Way:
    """How sound gets out, and in: see `soundloom play --help`. What is None is as the system has it."""

    driver: Literal["portaudio", "jack"] = "portaudio"
    output: str | None = None
    source: str | None = None
    block: int = 256
    sample_rate: int | None = None
    listens: bool = False

    def opened(self) -> AbstractBackend:
        """The device, open and silent. `DeviceError` where there is none, or it cannot what is asked."""
        if not LEAST_BLOCK <= self.block <= MOST_BLOCK:
            raise ConfigError(f"a block has {self.block} samples: take {LEAST_BLOCK} to {MOST_BLOCK}, 256 is usual")
        if self.driver == "jack":
            return Jack(self.output, self.source, listens=self.listens, sample_rate=self.sample_rate)
        source = soundcard(self.source, output=False) if self.listens else None
        return PortAudio(soundcard(self.output), source, block=self.block, sample_rate=self.sample_rate)


@dataclass(frozen=True)
class Touch:
    """What the player's hands are on: see `soundloom play --help`."""

    midi: str | None = None
    channel: int | None = None
    keyboard: bool = False
    learn: tuple[str, ...] = ()


class Plays(Protocol):
    """What a callback plays: a `Player`, or a `Transformer`."""

    frames: int
    load: Load
    error: Exception | None

    def render(self, heard: Sound | None, out: Sound, messages: Sequence[Message]) -> None: ...

    def news(self) -> list[str]:
        """What has happened since it was asked last, in words."""

    def finish(self) -> None:
        """The next block falls to silence."""


def play(
    players: Mapping[int | None, Playable],
    way: Way,
    touch: Touch,
    *,
    seed: int = 0,
    record: Path | None = None,
    seconds: float | None = None,
    terminal: Terminal,
) -> dict[str, Any]:
    """Plays until Ctrl-C or for some seconds, and says how it went. `players` by channel; None: on all others.

    Raises:
        DeviceError: there is no device or no port to play with, or the device went away.
    """
    playing = list(dict.fromkeys(players))
    everyone = [players[key] for key in playing]
    places = _places(playing, touch.channel)
    wanted = knobs(touch.learn, everyone)
    with contextlib.ExitStack() as stack:
        stack.enter_context(interrupted_once())
        backend = way.opened()
        stack.callback(backend.stop)
        heard = _listening(backend, touch, stack)
        tape = stack.enter_context(Tape(record, backend.sample_rate)) if record else None
        player = Player(everyone, places, sample_rate=backend.sample_rate, block=backend.block, seed=seed, tape=tape)
        player.hands.learn(wanted)
        stack.callback(player.close)
        player.warm_up()
        keys = Keys(backend.inbox, channel=min(places)) if touch.keyboard else None
        terminal.say(f"playing {', '.join(one.name for one in everyone)} on {described(backend)}")
        terminal.say(f"listening to {', '.join(heard)}" if heard else "no MIDI port is connected")
        if keys is not None:
            terminal.say(HELP)
        attend(backend, player, terminal=terminal, seconds=seconds, keys=keys)
    return summary(backend, player, tape) | {"midi": heard, "players": [one.name for one in everyone]}


def attend(
    backend: AbstractBackend, plays: Plays, *, terminal: Terminal, seconds: float | None, keys: Keys | None = None
) -> None:
    """Lets it play until Ctrl-C, a polite kill, or so many seconds of sound; shows the load; ends all cleanly.

    Raises:
        DeviceError: the device went away.
        ConfigError: no time to play is left.
    """
    if seconds is not None and seconds <= 0:
        raise ConfigError(f"{seconds:g} seconds were asked for: it takes more than 0")
    with contextlib.ExitStack() as stack:
        struck = stack.enter_context(struck_keys()) if keys is not None else None
        stack.enter_context(undisturbed())
        stack.callback(terminal.status, "")
        stack.callback(backend.stop)
        stack.callback(_fade, backend, plays)
        try:
            with _terminated_as_interrupted():
                backend.start(plays.render)
                while seconds is None or plays.frames < seconds * backend.sample_rate:
                    if struck is not None and keys is not None:
                        said = play_keys(struck, keys, LOOK_S)
                    else:
                        time.sleep(LOOK_S)
                        said = ""
                    for words in plays.news():
                        terminal.status("")
                        terminal.say(words)
                    if plays.error is not None:
                        raise plays.error
                    if _gone(backend):
                        played = plays.frames / backend.sample_rate
                        raise DeviceError(f"the sound device went away after {played:.1f} s; what was recorded is kept")
                    terminal.status("  ".join(filter(None, [_state(backend, plays.load), said])))
        except KeyboardInterrupt:  # how playing ends
            signal.signal(signal.SIGINT, signal.SIG_IGN)


def summary(backend: AbstractBackend, plays: Plays, tape: Tape | None) -> dict[str, Any]:
    """How it went, for `--json`."""
    return {
        "seconds": plays.frames / backend.sample_rate,
        "sample_rate": backend.sample_rate,
        "block": backend.block,
        "latency_ms": 1000 * (backend.latency_s + backend.midi_latency_s),
        "load": {f"{percent:g}": plays.load.percentile(percent) for percent in PERCENTILES},
        "blocks": plays.load.blocks,
        "xruns": backend.xruns,
        "recorded": None if tape is None else {"file": tape.path, "seconds": tape.frames / tape.sample_rate,
                                               "lost_frames": tape.lost},
    }  # fmt: skip


def words_of(document: Mapping[str, Any]) -> str:
    """The same in a line."""
    load = ", ".join(f"{percent} of 100 blocks up to {100 * part:.1f} %" for percent, part in document["load"].items())
    return f"played {document['seconds']:.1f} s, {document['xruns']} xruns, load: {load}"


def described(backend: AbstractBackend) -> str:
    """A device in a few words."""
    late = 1000 * (backend.latency_s + backend.midi_latency_s)
    return f"{backend.name}: {backend.sample_rate} Hz, blocks of {backend.block}, {late:.1f} ms to the loudspeakers"


def _fade(backend: AbstractBackend, plays: Plays) -> None:
    """Lets what sounds end without a click; a device that asks for no more blocks is not waited for."""
    plays.finish()
    last, end = plays.frames + 2 * backend.block, time.monotonic() + FADE_S
    while plays.frames < last and time.monotonic() < end:
        time.sleep(backend.block / backend.sample_rate)


def _gone(backend: AbstractBackend) -> bool:
    """Whether no more blocks are asked for. Asked twice: this whole process may have stood still."""
    if backend.alive():
        return False
    time.sleep(LOOK_S)
    return not backend.alive()


def _state(backend: AbstractBackend, load: Load) -> str:
    tail = "/".join(f"{100 * load.percentile(percent):.0f}" for percent in PERCENTILES)
    return f"load {100 * load.now:.0f} % (50/99/99.99 of 100: {tail})  xruns {backend.xruns}"


def _places(playing: Sequence[int | None], only: int | None) -> dict[int, list[int]]:
    """Which parts each channel plays: those named for it, or else the one for all others."""
    if only is not None and only not in CHANNELS:
        raise ConfigError(f"there is no channel {only}: channels go from 0 to 15, drums are 9")
    rest = [playing.index(None)] if None in playing else []
    places = {channel: [playing.index(channel)] if channel in playing else rest for channel in CHANNELS}
    heard = {channel: parts for channel, parts in places.items() if parts and only in (None, channel)}
    if not heard:
        raise ConfigError(f"nothing plays on channel {only}: give it a player with --map {only}=...")
    return heard


def _listening(backend: AbstractBackend, touch: Touch, stack: contextlib.ExitStack) -> list[str]:
    """Opens the MIDI ports; says which."""
    if isinstance(backend, Jack):
        chosen = backend.choose_midi(touch.midi)
        if touch.midi is not None and not chosen:
            raise DeviceError(f"no JACK port that gives MIDI has '{touch.midi}' in its name: `jack_lsp` shows all")
        return chosen
    ports = midi_ports()
    if touch.midi is not None:
        ports = [one_of(ports, touch.midi, "MIDI port")]
    elif not ports and not touch.keyboard:
        raise DeviceError(f"there is no MIDI port: connect a keyboard, or play this one with --keyboard; {ELSEWHERE}")
    for port in ports:
        stack.callback(MidiIn(port, backend.inbox).close)
    return [port.name for port in ports]


@contextlib.contextmanager
def interrupted_once() -> Iterator[None]:
    """What ends by Ctrl-C ends in order, however often it is struck."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """A polite kill ends what plays as Ctrl-C does."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
