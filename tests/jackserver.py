"""A JACK server without a sound card, and clients that strike keys at known frames and hear what comes of it."""

import contextlib
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from soundloom import cli
from soundloom.backends import JackCallback


@contextmanager
def server(*, sample_rate: int = 48000, period: int = 256) -> Iterator[subprocess.Popen]:
    """A server of its own with the dummy driver, as this process' default; without jackd the test is skipped."""
    if shutil.which("jackd") is None:
        pytest.skip("needs a JACK server: apt install jackd2")
    jack = library()
    name = f"soundloom-test-{os.getpid()}-{time.monotonic_ns() % 1_000_000}"
    command = ["jackd", "-n", name, "-r", "-d", "dummy", "-r", str(sample_rate), "-p", str(period)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    before = os.environ.get("JACK_DEFAULT_SERVER")
    os.environ["JACK_DEFAULT_SERVER"] = name
    try:
        for _ in range(100):
            try:
                jack.Client("probe", no_start_server=True, servername=name).close()
                break
            except jack.JackOpenError:
                time.sleep(0.05)
        else:
            pytest.skip("needs a JACK server, and jackd does not start here")
        yield process
    finally:
        if before is None:
            del os.environ["JACK_DEFAULT_SERVER"]
        else:
            os.environ["JACK_DEFAULT_SERVER"] = before
        ended(process)
        for left in Path("/dev/shm").glob(f"jack_sem.*_{name}_*"):  # by clients that outlived their server
            left.unlink(missing_ok=True)


def ended(process: subprocess.Popen) -> None:
    """Ends a process politely: one that is killed may hold the lock that all JACK servers of a machine share."""
    process.terminate()
    try:
        process.communicate(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()


def library():
    try:
        import jack
    except (ImportError, OSError) as error:
        pytest.skip(f"needs JACK-Client and libjack: {error}")
    jack.set_error_function(lambda words: None)
    jack.set_info_function(lambda words: None)
    return jack


class Fingers:
    """A client that sends MIDI messages at frames of the server's clock."""

    def __init__(self) -> None:
        self.client = library().Client("fingers", no_start_server=True)
        self.port = self.client.midi_outports.register("keys")
        self.waiting: list[tuple[int, bytes]] = []
        self.zero: int | None = None  # of the server's clock
        self.callback = JackCallback(self.client, self._block)
        self.client.activate()

    def play(self, messages: Sequence[tuple[int, bytes]], *, within: float = 30.0) -> int:
        """Sends messages at frames from a moment on that is returned, once the last one is sent."""
        self.zero = None
        self.waiting = list(messages)
        assert until(lambda: not self.waiting, within)
        return self.zero

    def close(self) -> None:
        self.callback.end()
        self.client.close()

    def _block(self, n: int) -> None:
        self.port.clear_buffer()
        if not self.waiting:
            return
        start = self.client.last_frame_time
        if self.zero is None:
            self.zero = start
        while self.waiting and self.zero + self.waiting[0][0] < start + n:
            frame, message = self.waiting[0]
            self.port.write_midi_event(max(self.zero + frame - start, 0), message)
            self.waiting.pop(0)


class Ear:
    """A client that keeps what it hears [2, n], with the frame of the server's clock at which each block began."""

    def __init__(self) -> None:
        self.client = library().Client("ear", no_start_server=True)
        self.ports = [self.client.inports.register(f"in_{side}") for side in ("left", "right")]
        self.blocks: list[tuple[int, np.ndarray]] = []
        self.xruns = 0
        self.callback = JackCallback(self.client, self._block)
        self.client.set_xrun_callback(self._late)
        self.client.activate()

    def connect(self, client: str, *, ports: Sequence[str] = ("out_left", "out_right")) -> None:
        for theirs, mine in zip(ports, self.ports, strict=True):
            self.client.connect(f"{client}:{theirs}", mine)

    def heard(self, start: int, n: int) -> np.ndarray:
        """Frames start .. start + n of the server's clock, [2, n]; blocks that were missed are silent."""
        out = np.zeros((2, n), np.float32)
        for at, block in list(self.blocks):
            first, last = max(at - start, 0), min(at - start + block.shape[1], n)
            if first < last:
                out[:, first:last] = block[:, first - (at - start) : last - (at - start)]
        return out

    def close(self) -> None:
        self.callback.end()
        self.client.close()

    def _block(self, n: int) -> None:
        self.blocks.append((self.client.last_frame_time, np.stack([port.get_array() for port in self.ports])))

    def _late(self, microseconds: float) -> None:
        self.xruns += 1


def until(true, seconds: float = 20.0) -> bool:
    """Waits for something to become true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if true():
            return True
        time.sleep(0.02)
    return False


@contextmanager
def ends(*clients):
    """Clients, closed in the end."""
    try:
        yield clients
    finally:
        for client in clients:
            client.close()


def run_beside(arguments, drive):
    """Runs a command here, and `drive` in a thread, with a client, as soon as the command sounds; then Ctrl-C. Returns
    the exit code and what `drive` returned."""
    outcome = {}

    def beside():
        try:
            client = library().Client("watcher", no_start_server=True)
            assert until(lambda: client.get_all_connections("system:playback_1"), 60)
            outcome["drive"] = drive(client)
            client.close()
        except BaseException as error:
            outcome["error"] = error
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=beside)
    thread.start()
    try:
        code = cli.run(arguments)
    finally:
        with contextlib.suppress(KeyboardInterrupt):
            thread.join()
    if "error" in outcome:
        raise outcome["error"]
    return code, outcome["drive"]
